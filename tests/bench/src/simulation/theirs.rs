//! The same nodes in turmoil, which has a runtime for each host and goes on by ticks of a millisecond.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use palisade_world::Datagrams;
use turmoil::net::UdpSocket;

use super::nodes::{self, Cluster, EVERY_DATAGRAM, judge};

const PORT: u16 = 9000;

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A socket of turmoil behind our port.
struct Theirs {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    readable: Mutex<Option<Readable>>,
}

impl Datagrams for Theirs {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self.socket.try_send_to(datagram, to) {
            // A full queue is loss.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.socket.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                came => return Poll::Ready(came),
            }
            let mut readable = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = readable.get_or_insert_with(|| {
                let socket = Arc::clone(&self.socket);
                Box::pin(async move { socket.readable().await })
            });
            match waiting.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => {
                    *readable = None;
                    ready?;
                }
            }
        }
    }
}

fn simulate<F: Future<Output = Result<u64, String>> + 'static>(
    seed: u64,
    count: usize,
    length: Duration,
    node: impl Fn(usize, Arc<dyn Datagrams>, Vec<SocketAddr>) -> F + Clone + 'static,
) -> Result<u64, String> {
    let mut world = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(length + Duration::from_secs(2))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2))
        .udp_capacity(4096)
        .build();
    let heard = Arc::new(AtomicU64::new(0));
    for number in 0..count {
        let (node, heard) = (node.clone(), Arc::clone(&heard));
        world.client(nodes::name(number), async move {
            let socket = Arc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
            let others: Vec<SocketAddr> =
                (0..count).map(|at| SocketAddr::new(turmoil::lookup(nodes::name(at)), PORT)).collect();
            let socket = Theirs { socket, local: others[number], readable: Mutex::default() };
            heard.fetch_add(node(number, Arc::new(socket), others).await?, Ordering::Relaxed);
            Ok(())
        });
    }
    world.run().map_err(|error| error.to_string())?;
    Ok(heard.load(Ordering::Relaxed))
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

/// Linked.
///
/// # Errors
/// Not enough came.
pub fn links(seed: u64, count: usize, length: Duration, every: Duration) -> Result<(), String> {
    let cluster = Cluster::new(seed, count, every)?;
    let heard = simulate(seed, count, length, move |node, socket, others| {
        let linking = cluster.clone().link(node, socket, others, length);
        async move { Ok(linking.await?.heard) }
    })?;
    judge(heard, count, length, every)
}
