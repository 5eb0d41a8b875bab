//! The network between simulated nodes: a heap of datagrams on their way.
//!
//! Invariant: a datagram arrives whole, at its address, none, one or two times, each a while after it was sent; what is sent over a cut
//! is lost, in the direction that is cut only. An inbox is bounded, as a socket's buffer is: what does not fit is lost and counted.
//! Each datagram is hashed as it is sent, with when, whence, whither and what became of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque, btree_map::Entry},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use palisade_world::Datagrams;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{event::lock, random::Random};

/// Datagrams that an inbox holds: a socket buffer of 512 KiB, full of packets of 1,200 bytes.
const INBOX: usize = 436;
/// How long a datagram takes in good weather.
const LEAST: Duration = Duration::from_micros(200);
const MOST: Duration = Duration::from_micros(800);
/// Bytes of the longest datagram that networks carry: IPv6's least, Ethernet's, one inside of a data centre.
const LONGEST: [usize; 3] = [1232, 1472, 8972];

/// What befalls datagrams from and to one host, beside what befalls all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Storm {
    /// Lost, of ten thousand.
    pub lost_permyriad: u64,
    /// Delivered twice, of ten thousand.
    pub doubled_permyriad: u64,
    /// Longer on their way by up to this: the later one sent may arrive first.
    pub late: Duration,
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
    /// Longer than the network carries.
    pub too_long: u64,
    /// Nobody was at the address, or its inbox was full.
    pub refused: u64,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<usize>,
    reader: Option<Waker>,
}

/// By arrival, then in the order of sending: where the datagram is.
type OnItsWay = Reverse<(Instant, u64, usize)>;

#[derive(Debug)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Datagrams on their way and in inboxes. Places are used again with their buffers: in a large cluster a million of them come and go.
#[derive(Debug, Default)]
struct Held {
    places: Vec<Datagram>,
    free: Vec<usize>,
}

struct State {
    begun: Instant,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    on_their_way: BinaryHeap<OnItsWay>,
    datagrams: Held,
    sent: u64,
    /// How often each direction is cut: two faults may cut one.
    cuts: BTreeMap<(IpAddr, IpAddr), u32>,
    storms: BTreeMap<IpAddr, Storm>,
    longest: usize,
    traffic: Traffic,
    hash: blake3::Hasher,
    random: Random,
}

/// See the module.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl Held {
    fn put(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Datagram { from, to, bytes: Vec::with_capacity(bytes.len()) });
            self.places.len() - 1
        });
        let held = &mut self.places[place];
        (held.from, held.to) = (from, to);
        held.bytes.clear();
        held.bytes.extend_from_slice(bytes);
        place
    }
}

impl State {
    /// How many copies go on their way, and how late they may be.
    fn fate(&mut self, from: IpAddr, to: IpAddr, bytes: usize) -> (u64, Duration) {
        let Self { cuts, storms, traffic, random, longest, .. } = self;
        let none = Storm::default();
        let of = |host| storms.get(host).unwrap_or(&none);
        let (here, there) = (of(&from), of(&to));
        traffic.sent += 1;
        if cuts.contains_key(&(from, to)) {
            traffic.cut += 1;
            return (0, Duration::ZERO);
        }
        if bytes > *longest {
            traffic.too_long += 1;
            return (0, Duration::ZERO);
        }
        if random.permyriad(here.lost_permyriad + there.lost_permyriad) {
            traffic.lost += 1;
            return (0, Duration::ZERO);
        }
        let doubled = u64::from(random.permyriad(here.doubled_permyriad + there.doubled_permyriad));
        traffic.doubled += doubled;
        (1 + doubled, here.late + there.late)
    }
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
}

impl Network {
    /// Nobody is on it. Must be called in virtual time.
    #[must_use]
    pub fn new(mut random: Random) -> Self {
        let state = State {
            begun: Instant::now(),
            inboxes: BTreeMap::new(),
            on_their_way: BinaryHeap::new(),
            datagrams: Held::default(),
            sent: 0,
            cuts: BTreeMap::new(),
            storms: BTreeMap::new(),
            longest: *random.pick(&LONGEST),
            traffic: Traffic::default(),
            hash: blake3::Hasher::new(),
            random,
        };
        Self { state: Arc::new(Mutex::new(state)), news: Arc::default() }
    }

    /// The weather of a host from now on.
    pub fn storm(&self, host: IpAddr, storm: Storm) {
        let storms = &mut lock(&self.state).storms;
        if storm == Storm::default() {
            storms.remove(&host);
        } else {
            storms.insert(host, storm);
        }
    }

    /// Cuts one direction; both are two cuts.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        *lock(&self.state).cuts.entry((from, to)).or_default() += 1;
    }

    /// Mends one cut of a direction. Whether that was the last of it.
    pub fn mend(&self, from: IpAddr, to: IpAddr) -> bool {
        let cuts = &mut lock(&self.state).cuts;
        let Some(times) = cuts.get_mut(&(from, to)) else { return true };
        *times -= 1;
        let mended = *times == 0;
        if mended {
            cuts.remove(&(from, to));
        }
        mended
    }

    /// What became of datagrams so far, and the hash of them all.
    #[must_use]
    pub fn traffic(&self) -> (Traffic, String) {
        let state = lock(&self.state);
        (state.traffic, state.hash.finalize().to_hex()[..16].to_owned())
    }

    /// A socket at this address.
    ///
    /// # Errors
    /// There is one already.
    pub fn try_bind(&self, address: SocketAddr) -> io::Result<SimSocket> {
        match lock(&self.state).inboxes.entry(address) {
            Entry::Occupied(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(free) => {
                free.insert(Inbox::default());
            }
        }
        Ok(SimSocket { network: self.clone(), address })
    }

    /// The same, where nobody is.
    ///
    /// # Panics
    /// Somebody is: the world gave one address twice, or what ended has not let go.
    #[must_use]
    pub fn bind(&self, address: SocketAddr) -> SimSocket {
        self.try_bind(address).expect("nobody is bound there")
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let (copies, late) = state.fate(from.ip(), to.ip(), bytes.len());
        let State { begun, hash, random, on_their_way, datagrams, sent, .. } = &mut *state;
        hash.update(&now.duration_since(*begun).as_nanos().to_le_bytes());
        for address in [from, to] {
            if let IpAddr::V4(host) = address.ip() {
                hash.update(&host.octets());
            }
            hash.update(&address.port().to_le_bytes());
        }
        hash.update(&copies.to_le_bytes()).update(bytes);
        for _ in 0..copies {
            let wait = Duration::from_micros(random.between(micros(LEAST), micros(MOST + late)));
            *sent += 1;
            on_their_way.push(Reverse((now + wait, *sent, datagrams.put(from, to, bytes))));
        }
        drop(state);
        if copies > 0 {
            self.news.notify_one();
        }
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
                let State { inboxes, on_their_way, datagrams, traffic, .. } = &mut *state;
                match on_their_way.peek() {
                    None => return None,
                    Some(Reverse((at, ..))) if *at > Instant::now() => return Some(*at),
                    Some(_) => {}
                }
                let Reverse((_, _, place)) = on_their_way.pop()?;
                match inboxes.get_mut(&datagrams.places[place].to).filter(|inbox| inbox.datagrams.len() < INBOX) {
                    Some(inbox) => {
                        traffic.delivered += 1;
                        inbox.datagrams.push_back(place);
                        inbox.reader.take()
                    }
                    None => {
                        traffic.refused += 1;
                        datagrams.free.push(place);
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

/// A datagram socket of a simulated node: as long as it is there, so is its inbox, and nobody else is at its address.
pub struct SimSocket {
    network: Network,
    address: SocketAddr,
}

impl Datagrams for SimSocket {
    fn local(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.network.send(self.address, to, datagram);
        Ok(())
    }

    fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut state = lock(&self.network.state);
        let State { inboxes, datagrams, .. } = &mut *state;
        let inbox = inboxes.get_mut(&self.address).expect("a socket has its inbox");
        while let Some(place) = inbox.datagrams.pop_front() {
            datagrams.free.push(place);
            let Datagram { from, bytes, .. } = &datagrams.places[place];
            // One that is longer than the buffer is lost.
            if let Some(into) = buffer.get_mut(..bytes.len()) {
                into.copy_from_slice(bytes);
                return Poll::Ready(Ok((bytes.len(), *from)));
            }
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let State { inboxes, datagrams, .. } = &mut *lock(&self.network.state);
        let gone = inboxes.remove(&self.address);
        gone.into_iter().for_each(|inbox| datagrams.free.extend(inbox.datagrams));
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::SocketAddr, time::Duration};

    use palisade_world::Datagrams as _;
    use tokio::time::timeout;

    use super::{Network, SimSocket, Storm, Traffic};
    use crate::{random::Random, world::scheduler::run};

    fn address(node: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, node], 9000))
    }

    async fn receive(socket: &SimSocket) -> Option<Vec<u8>> {
        let mut buffer = [0; 64];
        let next = poll_fn(|cx| socket.poll_receive(cx, &mut buffer));
        let (length, _) = timeout(Duration::from_secs(1), next).await.ok()?.expect("bound");
        Some(buffer[..length].to_vec())
    }

    /// Sends 200 numbered datagrams from one node to another; what arrives, in order, and the network's account.
    fn sent(seed: u64, prepare: impl Fn(&Network)) -> (Vec<u8>, Traffic) {
        run(seed, async |_| {
            let network = Network::new(Random::stream(seed, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let (a, b) = (network.bind(address(1)), network.bind(address(2)));
            prepare(&network);
            for number in 0..200 {
                a.send(b.local(), &[number]).expect("bound");
            }
            let mut arrived = Vec::new();
            while let Some(bytes) = receive(&b).await {
                arrived.extend(bytes);
            }
            (arrived, network.traffic().0)
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
            let storm = Storm { lost_permyriad: 3000, doubled_permyriad: 2000, late: Duration::from_millis(20) };
            network.storm(address(2).ip(), storm);
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
        let cut_forth = |network: &Network| network.cut(address(1).ip(), address(2).ip());
        let cut_back = |network: &Network| network.cut(address(2).ip(), address(1).ip());
        assert_eq!(sent(4, cut_forth).1, Traffic { sent: 200, cut: 200, ..Traffic::default() });
        assert_eq!(sent(4, cut_back).1.delivered, 200);
        let healed = |network: &Network| {
            network.cut(address(1).ip(), address(2).ip());
            network.cut(address(1).ip(), address(2).ip());
            assert!(!network.mend(address(1).ip(), address(2).ip()), "it is cut twice");
            assert!(network.mend(address(1).ip(), address(2).ip()));
        };
        assert_eq!(sent(4, healed).1.delivered, 200);
    }

    #[test]
    fn unit_network_holds_no_datagram_longer_than_somebody_may_take_it() {
        run(7, async |_| {
            let network = Network::new(Random::stream(7, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let a = network.bind(address(1));
            for turn in 0..20u8 {
                let b = network.bind(address(2));
                (0..30).for_each(|number| a.send(b.local(), &[turn, number]).expect("bound"));
                a.send(address(3), b"nobody").expect("bound");
                let first = receive(&b).await.expect("it comes");
                assert_eq!((first.len(), first[0]), (2, turn), "not what was in its place before");
                drop(b);
            }
            let state = super::lock(&network.state);
            let waiting = state.inboxes.values().map(|inbox| inbox.datagrams.len()).sum::<usize>();
            let held = &state.datagrams;
            assert_eq!(held.free.len() + waiting + state.on_their_way.len(), held.places.len());
            assert!(held.places.len() < 100, "{} places for 31 at a time", held.places.len());
        });
    }

    #[test]
    fn unit_network_refuses_what_no_inbox_holds() {
        run(5, async |_| {
            let network = Network::new(Random::stream(5, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let (a, b) = (network.bind(address(1)), network.bind(address(2)));
            (0..500).for_each(|_| a.send(b.local(), b"x").expect("bound"));
            a.send(address(3), b"nobody").expect("bound");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(network.traffic().0.delivered, super::INBOX as u64);
            assert_eq!(network.traffic().0.refused, 501 - super::INBOX as u64);
        });
    }

    #[test]
    fn unit_network_gives_an_address_to_one_at_a_time_and_loses_what_is_too_long() {
        run(6, async |_| {
            let network = Network::new(Random::stream(6, "network"));
            tokio::task::spawn_local(network.clone().carry());
            let (a, before) = (network.bind(address(1)), network.bind(address(2)));
            let refused = network.try_bind(address(2)).err().map(|error| error.kind());
            assert_eq!(refused, Some(std::io::ErrorKind::AddrInUse));
            drop(before);
            let after = network.bind(address(2));
            a.send(after.local(), b"x").expect("bound");
            a.send(after.local(), &[0; 9000]).expect("bound");
            assert_eq!(receive(&after).await.as_deref(), Some(&b"x"[..]));
            assert_eq!(network.traffic().0, Traffic { sent: 2, delivered: 1, too_long: 1, ..Traffic::default() });
        });
    }

    #[test]
    fn unit_network_hashes_what_is_sent_and_what_becomes_of_it() {
        let hash = |seed: u64, cut: bool, byte: u8| {
            run(seed, async |_| {
                let network = Network::new(Random::stream(seed, "network"));
                let (a, b) = (network.bind(address(1)), network.bind(address(2)));
                if cut {
                    network.cut(address(1).ip(), address(2).ip());
                }
                a.send(b.local(), &[byte]).expect("bound");
                network.traffic().1
            })
        };
        assert_eq!(hash(1, false, 1), hash(1, false, 1));
        assert_ne!(hash(1, false, 1), hash(1, false, 2));
        assert_ne!(hash(1, false, 1), hash(1, true, 1));
    }
}
