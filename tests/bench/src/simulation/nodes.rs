//! What runs on a node in both simulators: links, or datagrams alone.

use std::{collections::BTreeMap, future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_link::{
    CredentialSource, Credentials, CredentialsError, LinkConfig, Links, Ports, Reading, Socket,
    authority::{self, Issued},
    crypto,
};
use palisade_simulation::{
    random::Random,
    world::{
        clock::{SimClock, unix_at},
        links::SeededRng,
    },
};
use palisade_supervision::Here;
use palisade_world::{Datagrams, Link as _, LinkEvent, Rng};
use tokio::time::Instant;

use crate::link::MESSAGE;

/// From when clocks count.
pub fn epoch() -> UnixNanos {
    unix_at(Duration::ZERO, 0)
}

/// What a node met.
pub struct Met {
    /// Messages that it heard.
    pub heard: u64,
    /// Nodes to which it was linked at the end.
    pub linked: u64,
}

/// A node's certificates, as text.
#[derive(Clone)]
struct Papers(Issued, String);

impl Papers {
    fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let Issued { certificate, key } = &self.0;
        Credentials::of_pem(certificate, key, &self.1, "")
            .map_err(|error| CredentialsError::Content { path: "papers".into(), why: error.to_string() })
    }
}

impl CredentialSource for Papers {
    fn read(&self) -> Reading {
        let nothing = |error| Reading { own: Err(error), authorities: Ok(Vec::new()), revocations: Ok(Vec::new()) };
        self.credentials().map_or_else(nothing, Into::into)
    }
}

/// The nodes of a cluster in which all know all.
#[derive(Clone)]
pub struct Cluster {
    papers: Vec<Papers>,
    seed: u64,
    /// Between two messages of a node to each other one.
    every: Duration,
}

/// Their names, in both simulators.
pub fn name(node: usize) -> String {
    format!("node-{node}")
}

impl Cluster {
    /// # Errors
    /// Certificates cannot be made.
    pub fn new(seed: u64, nodes: usize, every: Duration) -> Result<Self, String> {
        let rng = SeededRng::new(Random::stream(seed, "certificates"));
        let (own, _) = authority::authority("bench", 1, epoch(), &rng).map_err(|error| error.to_string())?;
        let papers = |node| {
            let name: NodeName = name(node).parse().map_err(|error| format!("{error}"))?;
            let issued = authority::issue(&own, &name, 1, epoch(), &rng).map_err(|error| error.to_string())?;
            Ok(Papers(issued, own.certificate.clone()))
        };
        Ok(Self { papers: (0..nodes).map(papers).collect::<Result<_, String>>()?, seed, every })
    }

    /// How many nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.papers.len()
    }

    /// Of one node.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn credentials(&self, node: usize) -> Result<Credentials, CredentialsError> {
        self.papers[node].credentials()
    }

    /// One node: it dials those after it, sends to all, and hears them until `length` is over.
    ///
    /// # Errors
    /// It has no links.
    pub async fn link(
        self,
        node: usize,
        socket: Arc<dyn Datagrams>,
        others: Vec<SocketAddr>,
        length: Duration,
    ) -> Result<Met, String> {
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::new(Random::stream(self.seed, &name(node))));
        let named = |(at, address): (usize, SocketAddr)| Some((name(at).parse::<NodeName>().ok()?, address));
        let peers: BTreeMap<NodeName, SocketAddr> =
            others.into_iter().enumerate().filter(|(at, _)| *at > node).filter_map(named).collect();
        let most_peers = self.papers.len();
        let config = LinkConfig { most_peers, ..LinkConfig::of_node(peers, true) };
        let ports = Ports {
            place: Here::place(),
            clock: Arc::new(SimClock::new(Instant::now(), 0)),
            provider: crypto::seeded(Arc::clone(&rng)),
            rng,
            credentials: Arc::new(self.papers[node].clone()),
        };
        let links = Links::start(config, ports, Socket::Port(socket)).map_err(|error| error.to_string())?;
        let message = Bytes::from(vec![7; MESSAGE]);
        let (until, mut heard) = (Instant::now() + length, 0);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => {
                    let linked = links.peers().iter().filter(|peer| peer.state.is_linked()).count() as u64;
                    return Ok(Met { heard, linked });
                }
                () = tokio::time::sleep_until(next) => {
                    next += self.every;
                    for peer in links.peers().iter().filter(|peer| peer.state.is_linked()) {
                        links.try_send(&peer.name, message.clone()).map_err(|error| error.to_string())?;
                    }
                }
                event = links.next() => {
                    if let Some(LinkEvent::Received { messages, .. }) = event {
                        heard += messages.len() as u64;
                    }
                }
            }
        }
    }
}

/// One node without links: a datagram to each other one as often. How many it heard.
///
/// # Errors
/// The socket is no more.
pub async fn datagrams(
    node: usize,
    socket: Arc<dyn Datagrams>,
    others: Vec<SocketAddr>,
    length: Duration,
) -> Result<u64, String> {
    let message = [7; MESSAGE];
    let (until, mut next, mut heard) = (Instant::now() + length, Instant::now(), 0);
    loop {
        let mut buffer = [0; 2 * MESSAGE];
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => return Ok(heard),
            () = tokio::time::sleep_until(next) => {
                next += EVERY_DATAGRAM;
                for (_, other) in others.iter().enumerate().filter(|(at, _)| *at != node) {
                    socket.send(*other, &message).map_err(|error| error.to_string())?;
                }
            }
            came = poll_fn(|cx| socket.poll_receive(cx, &mut buffer)) => {
                came.map_err(|error| error.to_string())?;
                heard += 1;
            }
        }
    }
}

/// Whether all heard what they should have: four of five messages, for links come up at the start, a large cluster only after seconds.
///
/// # Errors
/// How much it was.
pub fn judge(heard: u64, nodes: usize, length: Duration, every: Duration) -> Result<(), String> {
    let sent = (nodes * (nodes - 1)) as f64 * (length.as_secs_f64() / every.as_secs_f64());
    if (heard as f64) < 0.8 * sent { Err(format!("{heard} messages came, of {sent}")) } else { Ok(()) }
}

/// Between two datagrams of a node to each other one.
pub const EVERY_DATAGRAM: Duration = Duration::from_millis(10);
