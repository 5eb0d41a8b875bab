//! A simulated network with simulated nodes: one paused runtime, a seed for all randomness.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use palisade_domain::{NodeName, UnixNanos};
use palisade_supervision::Here;
use palisade_wire::frame::Digest;
use palisade_world::{BootNanos, Clock, Datagrams, Link as _, LinkEvent, LinkState, Peer, Rng};

use crate::{
    CredentialSource, LinkConfig, Links, Part, Ports, Reading, Separate, Socket, Text,
    authority::{self, Issued},
    crypto,
};

/// 2026-01-01, from which the simulated clock counts.
pub(crate) const EPOCH: UnixNanos = UnixNanos(1_767_225_600_000_000_000);

/// Splitmix64 behind the port.
pub(crate) struct SeededRng(Mutex<u64>);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().expect("whole");
        for part in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..part.len()]);
        }
    }
}

/// Goes with the paused runtime.
pub(crate) struct SimulatedClock(pub(crate) tokio::time::Instant);

impl Clock for SimulatedClock {
    fn boot(&self) -> BootNanos {
        BootNanos(u64::try_from(self.0.elapsed().as_nanos()).expect("short"))
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(EPOCH.0 + self.boot().0)
    }
}

#[derive(Default)]
struct Mailbox {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

#[derive(Default)]
pub(crate) struct Weather {
    /// Of a thousand datagrams.
    pub(crate) lost: u64,
    /// Pairs of addresses between which nothing goes, in this direction.
    pub(crate) cut: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// All sockets, and a digest of each datagram ever sent.
pub(crate) struct Network {
    boxes: Mutex<BTreeMap<SocketAddr, Mailbox>>,
    pub(crate) weather: Mutex<Weather>,
    rng: Arc<SeededRng>,
    pub(crate) seen: Mutex<(u64, Digest)>,
}

struct SimulatedSocket {
    local: SocketAddr,
    network: Arc<Network>,
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        self.network.boxes.lock().expect("whole").remove(&self.local);
    }
}

impl Network {
    pub(crate) fn bind(self: &Arc<Self>, local: SocketAddr) -> Arc<dyn Datagrams> {
        self.boxes.lock().expect("whole").insert(local, Mailbox::default());
        Arc::new(SimulatedSocket { local, network: Arc::clone(self) })
    }

    fn arrive(&self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        if let Some(mailbox) = self.boxes.lock().expect("whole").get_mut(&to) {
            mailbox.waiting.push_back((from, datagram));
            if let Some(reader) = mailbox.reader.take() {
                reader.wake();
            }
        }
    }
}

impl Datagrams for SimulatedSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        {
            let mut seen = self.network.seen.lock().expect("whole");
            *seen = (seen.0 + 1, seen.1.after(datagram));
        }
        let weather = self.network.weather.lock().expect("whole");
        let lost = self.network.rng.below(1000) < weather.lost || weather.cut.contains(&(self.local, to));
        let delay = Duration::from_millis(1 + self.network.rng.below(5));
        if !lost {
            let (network, from, datagram) = (Arc::clone(&self.network), self.local, datagram.to_vec());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(delay).await;
                network.arrive(from, to, datagram);
            });
        }
        Ok(())
    }

    fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut boxes = self.network.boxes.lock().expect("whole");
        let mailbox = boxes.get_mut(&self.local).expect("bound");
        match mailbox.waiting.pop_front() {
            Some((from, datagram)) => {
                buffer[..datagram.len()].copy_from_slice(&datagram);
                Poll::Ready(Ok((datagram.len(), from)))
            }
            None => {
                mailbox.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// PEM of a node that can be changed under it.
pub(crate) struct Papers(pub(crate) Mutex<[String; 4]>);

impl Separate for Papers {
    fn text(&self, part: Part) -> Text {
        let text = self.0.lock().expect("whole")[part as usize].clone();
        // Where there is no list, none is wanted.
        Ok((part != Part::Revocations || !text.is_empty()).then(|| text.into_bytes()))
    }
    fn path(&self, part: Part) -> PathBuf {
        format!("{part:?}").into()
    }
}

impl CredentialSource for Papers {
    fn read(&self) -> Reading {
        Reading::of_texts(self, Part::ALL.map(|part| self.text(part)))
    }
}

/// An authority with its list.
pub(crate) struct Office {
    pub(crate) own: Issued,
    pub(crate) list: String,
    rng: Arc<SeededRng>,
}

impl Office {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SeededRng::new(seed);
        let (own, list) = authority::authority("links of the test", 365, EPOCH, &*rng).expect("made");
        Self { own, list, rng }
    }

    /// The authority with another key under its name.
    pub(crate) fn made_anew(&self) -> Self {
        let rng = SeededRng::new(9);
        let (own, list) = authority::rekeyed(&self.own, EPOCH, &*rng);
        Self { own, list, rng }
    }

    pub(crate) fn issue(&self, name: &str, days: u32) -> Issued {
        authority::issue(&self.own, &node(name), days, EPOCH, &*self.rng).expect("issued")
    }

    /// One that ends so long after the world begins, within a day.
    pub(crate) fn issue_for(&self, name: &str, seconds: u64) -> Issued {
        let made = UnixNanos(EPOCH.0 - (24 * 3600 - seconds) * 1_000_000_000);
        authority::issue(&self.own, &node(name), 1, made, &*self.rng).expect("issued")
    }

    pub(crate) fn papers(&self, name: &str) -> Arc<Papers> {
        self.papers_of(&self.issue(name, 90))
    }

    pub(crate) fn papers_of(&self, issued: &Issued) -> Arc<Papers> {
        let Issued { certificate, key } = issued.clone();
        Arc::new(Papers(Mutex::new([certificate, key, self.own.certificate.clone(), self.list.clone()])))
    }
}

pub(crate) fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

pub(crate) fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7000))
}

/// A network in which nodes begin.
pub(crate) struct Bed {
    pub(crate) network: Arc<Network>,
    pub(crate) rng: Arc<SeededRng>,
    pub(crate) clock: Arc<SimulatedClock>,
}

impl Bed {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SeededRng::new(seed);
        let network = Network {
            boxes: Mutex::default(),
            weather: Mutex::default(),
            rng: SeededRng::new(seed ^ 0xabcd),
            seen: Mutex::default(),
        };
        Self { network: Arc::new(network), rng, clock: Arc::new(SimulatedClock(tokio::time::Instant::now())) }
    }

    /// A node at an address, which dials these.
    pub(crate) fn start(&self, at: u8, papers: &Arc<Papers>, dials: &[(&str, u8)]) -> Arc<Links> {
        self.start_with(at, papers, dials, |_| {})
    }

    pub(crate) fn start_with(
        &self,
        at: u8,
        papers: &Arc<Papers>,
        dials: &[(&str, u8)],
        set: impl FnOnce(&mut LinkConfig),
    ) -> Arc<Links> {
        let peers = dials.iter().map(|(name, last)| (node(name), address(*last))).collect();
        let mut config = LinkConfig { peers, ..LinkConfig::default() };
        set(&mut config);
        let rng: Arc<dyn Rng> = Arc::<SeededRng>::clone(&self.rng);
        let ports = Ports {
            place: Here::place(),
            clock: Arc::<SimulatedClock>::clone(&self.clock),
            provider: crypto::seeded(Arc::clone(&rng)),
            rng,
            credentials: Arc::<Papers>::clone(papers),
        };
        Links::start(config, ports, Socket::Port(self.network.bind(address(at)))).expect("starts")
    }
}

/// Runs a simulated world.
pub(crate) fn simulated<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, body)
}

pub(crate) async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

pub(crate) fn peer(links: &Links, name: &str) -> Peer {
    links.peers().into_iter().find(|peer| peer.name == node(name)).expect("a peer")
}

/// Waits, at most a minute of simulated time, until a link is so.
pub(crate) async fn until(links: &Links, name: &str, wanted: impl Fn(&LinkState) -> bool) -> LinkState {
    for _ in 0..6000 {
        if let Some(peer) = links.peers().into_iter().find(|peer| peer.name == node(name))
            && wanted(&peer.state)
        {
            return peer.state;
        }
        pause(0.01).await;
    }
    panic!("it does not come to that: {:?}", links.peers());
}

pub(crate) async fn until_linked(links: &Links, name: &str) {
    until(links, name, LinkState::is_linked).await;
}

/// The next messages, as numbers, past all changes.
pub(crate) async fn numbers(links: &Links, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(120), links.next()).await;
        match next.unwrap_or_else(|_| panic!("{} of {count} came: {:?}", all.len(), links.peers())) {
            Some(LinkEvent::Received { messages, .. }) => {
                all.extend(
                    messages.iter().map(|message| u64::from_be_bytes(message[..8].try_into().expect("a number"))),
                );
            }
            Some(LinkEvent::Changed { .. }) => {}
            None => panic!("closed"),
        }
    }
    all
}

/// Sends so many numbered messages, each so many seconds after the one before.
pub(crate) fn send_slowly(
    from: &Arc<Links>,
    to: &'static str,
    count: u64,
    pause_s: f64,
) -> tokio::task::JoinHandle<()> {
    let from = Arc::clone(from);
    tokio::task::spawn_local(async move {
        for number in 0..count {
            send(&from, to, number..number + 1, 100).await;
            pause(pause_s).await;
        }
    })
}

/// Sends numbers, each in so many bytes, as fast as there is room.
pub(crate) async fn send(links: &Links, name: &str, numbers: std::ops::Range<u64>, bytes: usize) {
    for number in numbers {
        let mut message = number.to_be_bytes().to_vec();
        message.resize(bytes.max(8), 0);
        links.send(&node(name), message.into()).await.expect("taken");
    }
}
