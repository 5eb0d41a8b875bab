//! Links of simulated nodes: production's, over the simulated network, with certificates of an authority that the seed makes.
//!
//! Invariant: who dials whom, what waits at most and whom a node believes is what `palisade node` can be told; the rest is
//! [`LinkConfig::of_node`], as in production. A process that starts binds its address anew; one that dies says nothing.
//!
//! Units: times are virtual; a node's wall clock, by which certificates are judged, is its machine's.

mod office;
mod tapped;
mod topology;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex},
};

use palisade_domain::NodeName;
use palisade_link::{
    LinkConfig, LinkError, Links, Ports, Socket,
    crypto::{self, CryptoProvider},
};
use palisade_supervision::Place;
use palisade_world::{Clock, Link, LinkEvent, Rng};

pub use self::topology::Topology;
use self::{
    office::{Office, Papers},
    tapped::Tapped,
};
use super::{
    clock::SimClock,
    mutation::Mutation,
    network::{Network, Storm},
    place::SimPlace,
    scheduler::Processes,
};
use crate::{
    event::{Event, Teller, lock},
    random::Random,
};

/// Where a node listens.
const PORT: u16 = 7946;
/// Where the first process of one that only dials has its socket; each one after it has the next.
const PASSING_PORTS: u16 = 40_000;

/// Chance behind the port.
pub struct SeededRng(Mutex<Random>);

impl SeededRng {
    /// All of it is from this stream.
    #[must_use]
    pub fn new(random: Random) -> Self {
        Self(Mutex::new(random))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = lock(&self.0);
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.draw().to_le_bytes()[..part.len()]);
        }
    }
}

thread_local! {
    /// TLS wants its randomness to live for ever, so there is one a thread, and each run begins it anew.
    static TLS: (Arc<SeededRng>, Arc<CryptoProvider>) = {
        let rng = Arc::new(SeededRng::new(Random::stream(0, "tls")));
        (Arc::clone(&rng), crypto::seeded(rng))
    };
}

fn provider(random: Random) -> Arc<CryptoProvider> {
    TLS.with(|(rng, provider)| {
        *lock(&rng.0) = random;
        Arc::clone(provider)
    })
}

/// The name of a simulated node.
#[must_use]
pub fn name(number: usize) -> NodeName {
    // Letters, a hyphen and digits.
    format!("node-{number}").parse().unwrap_or_else(|_| unreachable!("a name of a node"))
}

/// The number of the simulated node of this name.
#[must_use]
pub fn number(name: &NodeName) -> Option<usize> {
    name.as_str().strip_prefix("node-")?.parse().ok()
}

fn host(number: usize) -> IpAddr {
    let [.., high, low] = u32::try_from(number + 1).unwrap_or(u32::MAX).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// All that links of a run stand on.
pub struct Cables {
    network: Network,
    office: Rc<RefCell<Office>>,
    topology: Arc<Topology>,
    provider: Arc<CryptoProvider>,
    queue_bytes: usize,
    mutation: Option<Mutation>,
    random: Random,
}

impl Cables {
    /// Between so many nodes, from the seed. One node alone has no links, as in production.
    #[must_use]
    pub fn lay(seed: u64, nodes: usize, mutation: Option<Mutation>) -> Option<Self> {
        if nodes < 2 {
            return None;
        }
        let mut random = Random::stream(seed, "links");
        Some(Self {
            network: Network::new(random.child("network")),
            office: Rc::new(RefCell::new(Office::new(random.child("office"), nodes, mutation))),
            topology: Arc::new(Topology::any(&mut random.child("topology"), nodes)),
            provider: provider(random.child("tls")),
            // Some have hardly room for one answer.
            queue_bytes: *random.pick(&[palisade_link::NODE_BYTES, palisade_link::NODE_BYTES, 4096]),
            mutation,
            random,
        })
    }

    /// Who dials whom.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    /// Bytes that may wait for a peer.
    #[must_use]
    pub const fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Whether that is what a node has.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.queue_bytes == palisade_link::NODE_BYTES
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// One node's end of it.
    #[must_use]
    pub fn wire(&mut self, teller: Teller) -> Wire {
        let number = teller.node;
        Wire {
            papers: self.office.borrow_mut().papers(&teller),
            rng: Arc::new(SeededRng::new(self.random.child("node"))),
            places: Rc::new(RefCell::new(self.random.child("places"))),
            network: self.network.clone(),
            office: Rc::clone(&self.office),
            topology: Arc::clone(&self.topology),
            provider: Arc::clone(&self.provider),
            queue_bytes: self.queue_bytes,
            mutation: self.mutation,
            host: host(number),
            teller,
            links: Rc::default(),
            starts: Rc::default(),
        }
    }

    /// Some that must not be linked dial a few nodes, for ever: one of another authority, and one whose certificate was taken back.
    pub fn let_strangers_in(&mut self, processes: &Processes, tellers: &[Teller], clock: &SimClock) {
        for (offset, papers) in self.office.borrow_mut().strangers(tellers.len()).into_iter().enumerate() {
            let mut random = self.random.child("stranger");
            let number = tellers.len() + offset;
            let first = usize::try_from(random.below(tellers.len() as u64)).unwrap_or(0);
            let called: Vec<usize> = (first..tellers.len()).take(2).collect();
            // A node that it calls by its own name it would not dial.
            let own = papers.own_name();
            let called: Vec<usize> = called.into_iter().filter(|node| Some(name(*node)) != own).collect();
            let peers = called.iter().map(|node| (name(*node), SocketAddr::from((host(*node), PORT))));
            let config = LinkConfig::of_node(peers.collect(), false);
            let ports = Ports {
                place: Arc::new(SimPlace::new("stranger", random.child("place"), 0)),
                clock: Arc::new(clock.clone()),
                rng: Arc::new(SeededRng::new(random)),
                provider: Arc::clone(&self.provider),
                credentials: papers,
            };
            let socket = self.network.bind(SocketAddr::from((host(number), PASSING_PORTS)));
            let teller = tellers[first].clone();
            processes.start(number, async move {
                let Ok(links) = Links::start(config, ports, Socket::Port(Arc::new(socket))) else { return };
                while let Some(event) = links.next().await {
                    let linked = match event {
                        LinkEvent::Changed { peer, state } => state.is_linked().then_some(peer),
                        LinkEvent::Received { peer, .. } => Some(peer),
                    };
                    if let Some(peer) = linked {
                        teller.tell(&Event::StrangerLinked(peer));
                    }
                }
            });
        }
    }
}

/// One machine's end: its address, its certificates, and the links of the process that runs on it.
#[derive(Clone)]
pub struct Wire {
    papers: Arc<Papers>,
    rng: Arc<SeededRng>,
    places: Rc<RefCell<Random>>,
    network: Network,
    office: Rc<RefCell<Office>>,
    topology: Arc<Topology>,
    provider: Arc<CryptoProvider>,
    queue_bytes: usize,
    mutation: Option<Mutation>,
    host: IpAddr,
    teller: Teller,
    links: Rc<RefCell<Option<Arc<Links>>>>,
    starts: Rc<Cell<u16>>,
}

impl Wire {
    /// Links of a process that starts: it has a socket of its own, and remembers nothing.
    ///
    /// # Errors
    /// Its certificates cannot be used.
    pub fn start(&self, clock: &SimClock, place: Arc<dyn Place>) -> Result<Arc<dyn Link>, LinkError> {
        self.starts.set(self.starts.get() + 1);
        let own = self.teller.node;
        let listens = self.topology.listens(own);
        let port = if listens { PORT } else { PASSING_PORTS + self.starts.get() };
        let config = LinkConfig {
            queue_bytes: match self.mutation {
                Some(Mutation::QueuesWithoutBound) => usize::MAX / 2,
                _ => self.queue_bytes,
            },
            ..LinkConfig::of_node(self.peers(), listens)
        };
        let ports = Ports {
            place,
            clock: Arc::new(clock.clone()) as Arc<dyn Clock>,
            rng: Arc::<SeededRng>::clone(&self.rng),
            provider: Arc::clone(&self.provider),
            credentials: Arc::<Papers>::clone(&self.papers),
        };
        self.teller.tell(&Event::LinksUp);
        let socket = self.network.bind(SocketAddr::from((self.host, port)));
        let links = Links::start(config, ports, Socket::Port(Arc::new(socket)))?;
        *self.links.borrow_mut() = Some(Arc::clone(&links));
        Ok(Arc::new(Tapped::new(links, self.teller.clone(), self.mutation)))
    }

    fn peers(&self) -> BTreeMap<NodeName, SocketAddr> {
        let dialled = self.topology.dials(self.teller.node);
        dialled.map(|peer| (name(peer), SocketAddr::from((host(peer), PORT)))).collect()
    }

    /// Where the links of the next process run.
    #[must_use]
    pub fn place(&self, put_back_percent: u64) -> SimPlace {
        SimPlace::new("links", self.places.borrow_mut().child("links"), put_back_percent)
    }

    /// With whom the node is to be linked.
    #[must_use]
    pub fn peers_wanted(&self) -> Vec<NodeName> {
        self.topology.peers(self.teller.node).map(name).collect()
    }

    /// The process ends in good order.
    pub async fn close(&self) {
        let links = self.links.borrow_mut().take();
        if let Some(links) = links {
            self.teller.tell(&Event::LinksDown);
            links.close().await;
        }
    }

    /// The process is no more.
    pub fn drop_links(&self) {
        let links = self.links.borrow_mut().take();
        if links.is_some() {
            self.teller.tell(&Event::LinksDown);
        }
    }

    /// Says that this happened to this machine's links.
    pub fn say(&self, event: &Event) {
        self.teller.tell(event);
    }

    /// All other nodes.
    #[must_use]
    pub fn others(&self) -> Vec<usize> {
        (0..self.topology.nodes()).filter(|node| *node != self.teller.node).collect()
    }

    /// The weather around this machine.
    pub fn storm(&self, storm: Storm) {
        self.teller.tell(&Event::Storm { calm: storm == Storm::default() });
        self.network.storm(self.host, storm);
    }

    /// Nothing goes to `to` any more.
    pub fn cut_to(&self, to: usize) {
        self.cut(self.teller.node, to);
    }

    /// Nothing comes from `from` any more.
    pub fn cut_from(&self, from: usize) {
        self.cut(from, self.teller.node);
    }

    fn cut(&self, from: usize, to: usize) {
        self.network.cut(host(from), host(to));
        self.teller.tell(&Event::PathCut { from, to });
    }

    /// One cut less.
    pub fn mend_to(&self, to: usize) {
        self.mend(self.teller.node, to);
    }

    /// One cut less.
    pub fn mend_from(&self, from: usize) {
        self.mend(from, self.teller.node);
    }

    fn mend(&self, from: usize, to: usize) {
        let mended = self.mutation == Some(Mutation::NeverMends) || self.network.mend(host(from), host(to));
        if mended {
            self.teller.tell(&Event::PathMended { from, to });
        }
    }

    /// The node gets another certificate, and has both until it read it.
    pub fn renew_certificate(&self) {
        self.office.borrow_mut().renew(self.teller.node);
        self.teller.tell(&Event::CertificateRenewed);
    }

    /// Its certificate goes on the authority's list, which each node gets; it has no other for now.
    pub fn revoke_certificate(&self) {
        self.office.borrow_mut().revoke(self.teller.node);
        self.teller.tell(&Event::CertificateRevoked);
    }
}
