//! The network between simulated nodes: a heap of datagrams on their way.
//!
//! Invariant: a datagram arrives whole, at its address, none, one or two times, each a while after it was sent; what is sent over a cut
//! is lost, in the direction that is cut only. An inbox is bounded, as a socket's buffer is: what does not fit is lost and counted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{event::lock, random::Random};

/// Datagrams that an inbox holds: a socket buffer of 512 KiB, full of packets of 1,200 bytes.
const INBOX: usize = 436;

/// What the network does to datagrams, as it is at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Lost, of ten thousand.
    pub lost_permyriad: u64,
    /// Delivered twice, of ten thousand.
    pub doubled_permyriad: u64,
    /// How long one takes at least.
    pub least: Duration,
    /// And at most; the later one sent may arrive first.
    pub most: Duration,
}

impl Default for Weather {
    fn default() -> Self {
        let (least, most) = (Duration::from_micros(200), Duration::from_micros(800));
        Self { lost_permyriad: 0, doubled_permyriad: 0, least, most }
    }
}

/// What became of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Handed to the network.
    pub sent: u64,
    /// Put into an inbox.
    pub delivered: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Lost at a cut.
    pub cut: u64,
    /// Nobody was at the address, or its inbox was full.
    pub refused: u64,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

/// By arrival, then in the order of sending.
type OnItsWay = Reverse<(Instant, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct State {
    inboxes: BTreeMap<SocketAddr, Inbox>,
    on_their_way: BinaryHeap<OnItsWay>,
    sent: u64,
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    weather: Weather,
    traffic: Traffic,
    random: Random,
}

/// See the module.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl Network {
    /// Nobody is on it.
    #[must_use]
    pub fn new(random: Random) -> Self {
        let state = State {
            inboxes: BTreeMap::new(),
            on_their_way: BinaryHeap::new(),
            sent: 0,
            cuts: BTreeSet::new(),
            weather: Weather::default(),
            traffic: Traffic::default(),
            random,
        };
        Self { state: Arc::new(Mutex::new(state)), news: Arc::default() }
    }

    /// Changes the weather.
    pub fn disturb(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut lock(&self.state).weather);
    }

    /// Cuts one direction; both are two cuts.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        lock(&self.state).cuts.insert((from, to));
    }

    /// Mends every cut.
    pub fn heal(&self) {
        lock(&self.state).cuts.clear();
    }

    /// What became of datagrams so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        lock(&self.state).traffic
    }

    /// A socket at this address; one that was there is gone.
    #[must_use]
    pub fn bind(&self, address: SocketAddr) -> SimSocket {
        lock(&self.state).inboxes.insert(address, Inbox::default());
        SimSocket { network: self.clone(), address }
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let State { cuts, weather, traffic, random, on_their_way, sent, .. } = &mut *state;
        traffic.sent += 1;
        if cuts.contains(&(from, to)) {
            traffic.cut += 1;
            return;
        }
        if random.permyriad(weather.lost_permyriad) {
            traffic.lost += 1;
            return;
        }
        let copies = 1 + u64::from(random.permyriad(weather.doubled_permyriad));
        traffic.doubled += copies - 1;
        for _ in 0..copies {
            let micros = |wait: Duration| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            let wait = Duration::from_micros(random.between(micros(weather.least), micros(weather.most)));
            *sent += 1;
            on_their_way.push(Reverse((Instant::now() + wait, *sent, from, to, bytes.to_vec())));
        }
        drop(state);
        self.news.notify_one();
    }

    /// Delivers what is due, for ever: a task of the world.
    pub async fn carry(self) {
        loop {
            let next = self.deliver();
            tokio::select! {
                biased;
                () = self.news.notified() => {}
                () = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// When the next is due.
    fn deliver(&self) -> Option<Instant> {
        loop {
            let reader = {
                let mut state = lock(&self.state);
                let State { inboxes, on_their_way, traffic, .. } = &mut *state;
                match on_their_way.peek() {
                    None => return None,
                    Some(Reverse((at, ..))) if *at > Instant::now() => return Some(*at),
                    Some(_) => {}
                }
                let Reverse((_, _, from, to, bytes)) = on_their_way.pop()?;
                match inboxes.get_mut(&to).filter(|inbox| inbox.datagrams.len() < INBOX) {
                    Some(inbox) => {
                        traffic.delivered += 1;
                        inbox.datagrams.push_back((from, bytes));
                        inbox.reader.take()
                    }
                    None => {
                        traffic.refused += 1;
                        None
                    }
                }
            };
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }
}

/// A datagram socket of a simulated node.
pub struct SimSocket {
    network: Network,
    address: SocketAddr,
}

impl SimSocket {
    /// Sends a datagram; it never waits.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        self.network.send(self.address, to, bytes);
    }

    /// The next datagram that has arrived. One reader waits at a time.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Vec<u8>)> {
        let mut state = lock(&self.network.state);
        let Some(inbox) = state.inboxes.get_mut(&self.address) else { return Poll::Pending };
        match inbox.datagrams.pop_front() {
            Some(datagram) => Poll::Ready(datagram),
            None => {
                inbox.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        lock(&self.network.state).inboxes.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::SocketAddr, time::Duration};

    use tokio::time::timeout;

    use super::{Network, SimSocket, Traffic};
    use crate::{random::Random, world::scheduler::run};

    fn address(node: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, node], 9000))
    }

    async fn receive(socket: &SimSocket) -> Option<Vec<u8>> {
        let next = poll_fn(|cx| socket.poll_receive(cx));
        timeout(Duration::from_secs(1), next).await.ok().map(|(_, bytes)| bytes)
    }

    /// Sends 200 numbered datagrams from one node to another; what arrives, in order, and the network's account.
    fn sent(seed: u64, prepare: impl Fn(&Network)) -> (Vec<u8>, Traffic) {
        run(seed, async |_| {
            let network = Network::new(Random::stream(seed, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let (a, b) = (network.bind(address(1)), network.bind(address(2)));
            prepare(&network);
            for number in 0..200 {
                a.send(b.address(), &[number]);
            }
            let mut arrived = Vec::new();
            while let Some(bytes) = receive(&b).await {
                arrived.extend(bytes);
            }
            (arrived, network.traffic())
        })
    }

    #[test]
    fn unit_network_in_good_weather_delivers_each_datagram_once() {
        let (mut arrived, traffic) = sent(1, |_| {});
        assert_ne!(arrived, (0..200).collect::<Vec<u8>>(), "what is sent later may arrive first");
        arrived.sort_unstable();
        assert_eq!(arrived, (0..200).collect::<Vec<u8>>());
        assert_eq!(traffic, Traffic { sent: 200, delivered: 200, ..Traffic::default() });
    }

    #[test]
    fn unit_network_loses_and_doubles_by_the_seed_and_accounts_for_it() {
        let storm = |network: &Network| {
            network.disturb(|weather| (weather.lost_permyriad, weather.doubled_permyriad) = (3000, 2000));
        };
        let (arrived, traffic) = sent(2, storm);
        assert_eq!(sent(2, storm), (arrived.clone(), traffic));
        assert_ne!(sent(3, storm).0, arrived);
        assert!(traffic.lost > 20 && traffic.doubled > 10, "{traffic:?}");
        assert_eq!(traffic.delivered, traffic.sent - traffic.lost + traffic.doubled);
        assert_eq!(traffic.delivered, arrived.len() as u64);
    }

    #[test]
    fn unit_network_cut_in_one_direction_carries_the_other() {
        let cut_forth = |network: &Network| network.cut(address(1), address(2));
        let cut_back = |network: &Network| network.cut(address(2), address(1));
        assert_eq!(sent(4, cut_forth).1, Traffic { sent: 200, cut: 200, ..Traffic::default() });
        assert_eq!(sent(4, cut_back).1.delivered, 200);
        let healed = |network: &Network| {
            network.cut(address(1), address(2));
            network.heal();
        };
        assert_eq!(sent(4, healed).1.delivered, 200);
    }

    #[test]
    fn unit_network_refuses_what_no_inbox_holds() {
        run(5, async |_| {
            let network = Network::new(Random::stream(5, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let (a, b) = (network.bind(address(1)), network.bind(address(2)));
            (0..500).for_each(|_| a.send(b.address(), b"x"));
            a.send(address(3), b"nobody");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(network.traffic().delivered, super::INBOX as u64);
            assert_eq!(network.traffic().refused, 501 - super::INBOX as u64);
        });
    }
}
