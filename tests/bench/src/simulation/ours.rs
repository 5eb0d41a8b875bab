//! Nodes in our own simulation's scheduler and network.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use palisade_simulation::{
    random::Random,
    world::{network::Network, scheduler},
};
use palisade_world::Datagrams;

use super::nodes::{self, Cluster, EVERY_DATAGRAM, judge};

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node + 1).unwrap_or(u8::MAX)], 9000))
}

fn simulate<F: Future<Output = Result<u64, String>> + 'static>(
    seed: u64,
    count: usize,
    length: Duration,
    node: impl Fn(usize, Arc<dyn Datagrams>, Vec<SocketAddr>) -> F,
) -> Result<u64, String> {
    let all: Vec<SocketAddr> = (0..count).map(address).collect();
    scheduler::run(seed, async |processes| {
        let network = Network::new(Random::stream(seed, "network"));
        tokio::task::spawn_local(network.clone().carry());
        let heard = Rc::new(Cell::new(Ok(0)));
        for (number, own) in all.iter().enumerate() {
            let running = node(number, Arc::new(network.bind(*own)), all.clone());
            let heard = Rc::clone(&heard);
            processes.start(number, async move {
                let came = running.await;
                let before = heard.replace(Ok(0));
                heard.set(before.and_then(|before: u64| came.map(|came| before + came)));
            });
        }
        tokio::time::sleep(length + Duration::from_secs(1)).await;
        heard.replace(Ok(0))
    })
}

/// Of datagrams alone.
///
/// # Errors
/// Not enough came.
pub fn datagrams(seed: u64, count: usize, length: Duration) -> Result<(), String> {
    let heard =
        simulate(seed, count, length, move |node, socket, others| nodes::datagrams(node, socket, others, length))?;
    judge(heard, count, length, EVERY_DATAGRAM)
}

/// Linked, and silent but for what keeps links alive: nobody sends a message.
///
/// # Errors
/// Not all are linked at the end.
pub fn silent_links(seed: u64, count: usize, length: Duration) -> Result<(), String> {
    let cluster = Cluster::new(seed, count, length * 2)?;
    let linked = simulate(seed, count, length, |node, socket, others| {
        let linking = cluster.clone().link(node, socket, others, length);
        async move { Ok(linking.await?.linked) }
    })?;
    let all = (count * (count - 1)) as u64;
    if linked == all { Ok(()) } else { Err(format!("{linked} ends of links stand, of {all}")) }
}

/// Linked.
///
/// # Errors
/// Not enough came.
pub fn links(seed: u64, count: usize, length: Duration, every: Duration) -> Result<(), String> {
    let cluster = Cluster::new(seed, count, every)?;
    let heard = simulate(seed, count, length, |node, socket, others| {
        let linking = cluster.clone().link(node, socket, others, length);
        async move { Ok(linking.await?.heard) }
    })?;
    judge(heard, count, length, every)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::silent_links;

    #[test]
    fn unit_bench_silent_links_count_only_where_all_nodes_are_linked() {
        assert_eq!(silent_links(1, 4, Duration::from_secs(10)), Ok(()));
        let refused = silent_links(1, 4, Duration::from_micros(100)).expect_err("no datagram comes within that");
        assert_eq!(refused, "0 ends of links stand, of 12");
    }
}
