//! All links of a node: the endpoint, who knocks at it, the table of peers, and the port that actors see.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_supervision::Place;
use palisade_wire::frame::{LONGEST_MESSAGE, Run, SPOKEN, Versions};
use palisade_world::{Clock, Link, LinkEvent, LinkState, Peer, Rng, SendError, TurnedAway};
use quinn::{AsyncUdpSocket, Endpoint, Runtime as _};
use rustls::crypto::CryptoProvider;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    arriving,
    backoff::Backoff,
    credentials::{CredentialSource, CredentialsError},
    doorway::Doorway,
    entry::Entry,
    handshake::Arrival,
    peer,
    quic::{EndpointKeys, Making, PortRuntime, PortSocket, Socket, Tls, Transport, WallClock},
    reader::Reader,
    renewal::Renewal,
    strangers::{Cause, Strangers},
    watched::Watched,
};

/// Events that wait for a reader, beside the bound in bytes of each peer.
const EVENTS: usize = 1024;
/// Connections of one peer that wait to be taken up.
const ARRIVALS: usize = 4;

/// How links behave.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Who is dialled, and where.
    pub peers: BTreeMap<NodeName, SocketAddr>,
    /// Whether others may dial this node.
    pub listens: bool,
    /// Peers at most, those that dial included.
    pub most_peers: usize,
    /// Bytes that wait for one peer, at most.
    pub queue_bytes: usize,
    /// Bytes that came from one peer and wait for a reader, at most.
    pub inbox_bytes: usize,
    /// How QUIC is set up.
    pub transport: Transport,
    /// Delays before a peer is dialled again.
    pub backoff: Backoff,
    /// Between two looks at the credentials.
    pub read_every: Duration,
    /// Between two looks at the time of a peer's certificate.
    pub look_every: Duration,
    /// What this node says to speak.
    pub spoken: Versions,
}

impl Default for LinkConfig {
    /// A peer takes at most 4 MiB waiting here, 1 MiB waiting for a reader and 1 MiB in QUIC's window: with 64 peers 384 MiB, if all of
    /// them stopped taking and never stopped sending.
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            listens: true,
            most_peers: 64,
            queue_bytes: 4 << 20,
            inbox_bytes: 1 << 20,
            transport: Transport { idle: Duration::from_secs(6), window_bytes: 1 << 20 },
            backoff: Backoff { first: Duration::from_millis(250), most: Duration::from_secs(15) },
            read_every: Duration::from_secs(1),
            look_every: Duration::from_secs(30),
            spoken: SPOKEN,
        }
    }
}

/// Bytes that wait for one peer of a node, that came from it, and that are in QUIC's window: answers are some hundred KiB at most.
pub const NODE_BYTES: usize = 512 << 10;

impl LinkConfig {
    /// As `palisade node` has it, and so each simulated node.
    #[must_use]
    pub fn of_node(peers: BTreeMap<NodeName, SocketAddr>, listens: bool) -> Self {
        let usual = Self::default();
        let window_bytes = u32::try_from(NODE_BYTES).unwrap_or(u32::MAX);
        Self {
            peers,
            listens,
            queue_bytes: NODE_BYTES,
            inbox_bytes: NODE_BYTES,
            transport: Transport { window_bytes, ..usual.transport },
            ..usual
        }
    }
}

/// What links stand on.
#[derive(Clone)]
pub struct Ports {
    /// Where their tasks run.
    pub place: Arc<dyn Place>,
    /// Wall clock, for certificates. Timers are tokio's.
    pub clock: Arc<dyn Clock>,
    /// Jitter, runs, connection ids, keys of the endpoint.
    pub rng: Arc<dyn Rng>,
    /// For TLS: [`crate::crypto::machine`], or a seeded one.
    pub provider: Arc<CryptoProvider>,
    /// Certificates, again and again.
    pub credentials: Arc<dyn CredentialSource>,
}

/// Why there are no links.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Without certificates nobody is believed.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A peer that cannot be.
    #[error("{0} is this node's own name: it does not link to itself")]
    Itself(NodeName),
    /// More are named than there is room for.
    #[error("{0} peers, of at most {1}")]
    TooMany(usize, usize),
}

/// An event and the room that it takes.
pub(crate) struct Delivered {
    pub(crate) event: LinkEvent,
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Each peer, and where its arrivals go.
type Table = BTreeMap<NodeName, (Arc<Entry>, mpsc::Sender<Arrival>)>;

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) name: NodeName,
    pub(crate) config: LinkConfig,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tls: Watched<Arc<Tls>>,
    pub(crate) closing: Watched<bool>,
    pub(crate) events: mpsc::Sender<Delivered>,
    pub(crate) making: Making,
    ports: Ports,
    endpoint: Mutex<Option<Endpoint>>,
    table: Mutex<Table>,
    pub(crate) doorway: Mutex<Doorway>,
    pub(crate) strangers: Mutex<Strangers>,
    /// All that is wrong with the node's own credentials, in words, as of the last look; empty where nothing is.
    pub(crate) troubles: Mutex<Vec<String>>,
}

/// A lock that nobody holds over an await, and within which nothing panics.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn now(&self) -> UnixNanos {
        self.ports.clock.unix()
    }

    pub(crate) fn wall_clock(&self) -> WallClock {
        WallClock(Arc::clone(&self.ports.clock))
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        held(&self.endpoint).clone()
    }

    pub(crate) fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        self.rng.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Says how a link is now. Where nobody asks for events, none waits for ever: how links are is also in [`Link::peers`].
    pub(crate) fn changed(&self, peer: &NodeName, state: LinkState) {
        let event = LinkEvent::Changed { peer: peer.clone(), state };
        if self.events.try_send(Delivered { event, _room: None }).is_err() {
            tracing::debug!(%peer, "nobody hears how the link is");
        }
    }

    /// All peers, by name.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        held(&self.table).values().map(|(entry, _)| Arc::clone(entry)).collect()
    }

    fn entry(&self, name: &NodeName) -> Option<Arc<Entry>> {
        held(&self.table).get(name).map(|(entry, _)| Arc::clone(entry))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Err(gone) = self.ports.place.run(Box::new(move || Box::pin(task))) {
            tracing::debug!(%gone, "a task of a link comes too late");
        }
    }

    /// Where arrivals of this peer go: that of its task, which is begun where there is none. `None` where there is no room.
    pub(crate) fn door(self: &Arc<Self>, name: &NodeName, dial: Option<SocketAddr>) -> Option<mpsc::Sender<Arrival>> {
        let mut table = held(&self.table);
        if let Some((_, door)) = table.get(name) {
            return Some(door.clone());
        }
        if table.len() >= self.config.most_peers {
            // Room is made by who only ever dialled and has been out the longest.
            let gone = table.iter().filter(|(_, (entry, _))| entry.dial().is_none());
            let gone = gone.filter_map(|(name, (entry, _))| entry.out_since().map(|since| (since, name.clone())));
            let (_, gone) = gone.min()?;
            table.remove(&gone);
        }
        let (door, arrivals) = mpsc::channel(ARRIVALS);
        let config = &self.config;
        let entry = Entry::new(name.clone(), dial, Run(self.draw()), config.queue_bytes, config.inbox_bytes);
        let entry = Arc::new(entry);
        table.insert(name.clone(), (Arc::clone(&entry), door.clone()));
        drop(table);
        self.spawn(peer::run(Arc::clone(self), entry, arrivals));
        Some(door)
    }
}

/// Links of a node. They end with [`Links::close`], or with what they stand on.
pub struct Links {
    pub(crate) shared: Arc<Shared>,
    reader: tokio::sync::Mutex<mpsc::Receiver<Delivered>>,
}

/// Whether a node of this name can dial these.
fn are_possible(peers: &BTreeMap<NodeName, SocketAddr>, own: &NodeName, most: usize) -> Result<(), LinkError> {
    if peers.contains_key(own) {
        return Err(LinkError::Itself(own.clone()));
    }
    if peers.len() > most {
        return Err(LinkError::TooMany(peers.len(), most));
    }
    Ok(())
}

impl Links {
    /// Reads the credentials and begins: tasks run at the place from now on.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn start(config: LinkConfig, ports: Ports, socket: Socket) -> Result<Arc<Self>, LinkError> {
        let files = Reader::new(Arc::clone(&ports.credentials));
        let credentials = files.first(ports.clock.unix()).whole()?;
        let name = credentials.name().ok_or(CredentialsError::Nameless)?;
        are_possible(&config.peers, &name, config.most_peers)?;
        let making = Making {
            provider: Arc::clone(&ports.provider),
            clock: Arc::clone(&ports.clock),
            rng: Arc::clone(&ports.rng),
            keys: EndpointKeys::draw(&*ports.rng),
            transport: config.transport,
        };
        let tls = Arc::new(making.tls(credentials)?);
        let (events, reader) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared {
            name,
            config,
            rng: Arc::clone(&ports.rng),
            tls: Watched::new(tls),
            closing: Watched::new(false),
            events,
            making,
            ports,
            endpoint: Mutex::default(),
            table: Mutex::default(),
            doorway: Mutex::default(),
            strangers: Mutex::default(),
            troubles: Mutex::default(),
        });
        let mut renewal = Renewal::new(&shared, files);
        renewal.look(&shared);
        // First of all tasks at its place: the others find the socket.
        shared.spawn(run(Arc::clone(&shared), socket, renewal));
        for (name, address) in shared.config.peers.clone() {
            let _ = shared.door(&name, Some(address));
        }
        Ok(Arc::new(Self { shared, reader: tokio::sync::Mutex::new(reader) }))
    }

    /// From now on these are dialled, and no others. Who is no longer among them is let go with what waits for it, and may still dial this
    /// node; who is dialled elsewhere moves to a new connection, and loses nothing.
    ///
    /// # Errors
    /// See [`LinkError`]; where there is no room for all, those before in order of their names are dialled.
    pub fn set_peers(&self, peers: &BTreeMap<NodeName, SocketAddr>) -> Result<(), LinkError> {
        let (shared, most) = (&self.shared, self.shared.config.most_peers);
        are_possible(peers, &shared.name, most)?;
        held(&shared.table).retain(|name, (entry, _)| {
            let stays = entry.dial().is_none() || peers.contains_key(name);
            if !stays {
                let waiting_bytes = entry.peer(shared.now()).counts.waiting_bytes;
                tracing::info!(peer = %name, waiting_bytes, "no longer a peer: what waits for it is given up");
            }
            stays
        });
        for (name, address) in peers {
            match shared.entry(name) {
                Some(entry) => entry.dial_at(*address),
                None if shared.door(name, Some(*address)).is_none() => return Err(LinkError::TooMany(most + 1, most)),
                None => {}
            }
        }
        Ok(())
    }

    /// How many were turned away, by cause, since the links began.
    #[must_use]
    pub fn turned_away_counts(&self) -> Vec<(Cause, u64)> {
        held(&self.shared.strangers).counts()
    }

    /// Says goodbye to all peers and lets go of the socket; what the peers did not take is lost.
    pub async fn close(&self) {
        self.shared.closing.set(true);
        let endpoint = held(&self.shared.endpoint).take();
        if let Some(endpoint) = endpoint {
            endpoint.close(quinn::VarInt::from_u32(palisade_wire::frame::GOODBYE), b"the node stopped");
            // The goodbyes are on their way; a peer that does not hear them sees silence.
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
    }
}

async fn run(shared: Arc<Shared>, socket: Socket, renewal: Renewal) {
    match endpoint(&shared, socket) {
        Ok(endpoint) => *held(&shared.endpoint) = Some(endpoint.clone()),
        Err(error) => {
            tracing::error!(%error, "no links: the socket cannot be used");
            held(&shared.troubles).push(format!("the socket cannot be used: {error}"));
            return;
        }
    }
    tokio::select! {
        biased;
        () = peer::closed(&shared) => {}
        () = arriving::accept(&shared) => {}
        () = renewal.run(&shared) => {}
    }
}

fn endpoint(shared: &Shared, socket: Socket) -> io::Result<Endpoint> {
    let runtime = Arc::new(PortRuntime(Arc::clone(&shared.ports.place)));
    let socket: Arc<dyn AsyncUdpSocket> = match socket {
        Socket::Machine(socket) => runtime.wrap_udp_socket(socket)?,
        Socket::Port(port) => Arc::new(PortSocket(port)),
    };
    let server = shared.config.listens.then(|| shared.tls.get().server.clone());
    let config = shared.making.keys.endpoint(&shared.rng);
    Endpoint::new_with_abstract_socket(config, server, socket, runtime)
}

#[async_trait]
impl Link for Links {
    fn own_name(&self) -> &NodeName {
        &self.shared.name
    }

    fn peers(&self) -> Vec<Peer> {
        let now = self.shared.now();
        held(&self.shared.table).values().map(|(entry, _)| entry.peer(now)).collect()
    }

    fn turned_away(&self) -> Vec<TurnedAway> {
        held(&self.shared.strangers).last()
    }

    fn troubles(&self) -> Vec<String> {
        held(&self.shared.troubles).clone()
    }

    fn try_send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError> {
        let entry = self.shared.entry(peer).ok_or(SendError::UnknownPeer)?;
        if message.len() > LONGEST_MESSAGE {
            return Err(SendError::TooLong);
        }
        if self.shared.closing.get() {
            return Err(SendError::Closed);
        }
        entry.push(message).map_err(|_| {
            entry.count_refused();
            SendError::Full
        })
    }

    async fn send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError> {
        let entry = self.shared.entry(peer).ok_or(SendError::UnknownPeer)?;
        if message.len() > LONGEST_MESSAGE {
            return Err(SendError::TooLong);
        }
        // The usual case waits for nothing, and sets nothing up to wait by.
        let mut message = match self.shared.closing.get() {
            true => return Err(SendError::Closed),
            false => match entry.push(message) {
                Ok(()) => return Ok(()),
                Err(back) => back,
            },
        };
        loop {
            if self.shared.closing.get() {
                return Err(SendError::Closed);
            }
            // Listen first, then look: a notice reaches a future from the moment it is made.
            let room = entry.room.notified();
            match entry.push(message) {
                Ok(()) => return Ok(()),
                Err(back) => message = back,
            }
            tokio::select! {
                biased;
                () = room => {}
                () = peer::closed(&self.shared) => {}
            }
        }
    }

    async fn next(&self) -> Option<LinkEvent> {
        let mut reader = self.reader.lock().await;
        tokio::select! {
            biased;
            delivered = reader.recv() => delivered.map(|delivered| delivered.event),
            () = peer::closed(&self.shared) => None,
        }
    }
}
