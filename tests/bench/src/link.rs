//! Messages of 200 bytes between two processes over loopback: through links, against quinn alone.
//!
//! Both sides write batches of 64 KiB on one stream with the same ciphers, windows and socket buffers, in turns. What links add is what they
//! are for: a frame around each batch, a number and a digest for each message, acknowledgements, an inbox. A round ends when the receiver
//! has said that it has all. One thread in each process; the other processes are `link_peer`.
//!
//! quinn alone tries datagrams of up to [`RAW_DATAGRAM`] and not as long as those of links: ten of longer ones are more than a call of the
//! socket carries, and it would lose them and fall back to 1,200 bytes, at which it takes more than twice the time.
//!
//! On a machine that does other things as well, the time of the processor says more than that of the clock.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use palisade_domain::{NodeName, UnixNanos};
use palisade_link::{
    CredentialFiles, CredentialSource as _, LinkConfig, Links, MachineRng, Ports, Socket,
    authority::{self, Issued},
    crypto,
};
use palisade_supervision::Here;
use palisade_world::{BootNanos, Clock, Link, LinkEvent, SendError};
use quinn::{Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, SendStream, TransportConfig, VarInt};
use rustix::net::sockopt;
use tokio::task::LocalSet;

use crate::{
    Measured,
    stopwatch::now,
    table::{Row, Table, Unit},
};

/// Bytes of a message.
pub const MESSAGE: usize = 200;
/// Messages of a round.
pub const MESSAGES: u64 = 1_000_000;
const ROUNDS: usize = 5;
const BATCH: usize = 64 << 10;
/// Ten of them fit into one call.
const RAW_DATAGRAM: u16 = 6550;
/// As links ask for.
const SOCKET_BYTES: usize = 2 << 20;
/// 1.5 million messages a second.
const BUDGET_NS: f64 = 667.0;

type Failure = Box<dyn std::error::Error>;

/// A day in 2026, for certificates that live as long as the run.
struct Fixed;

impl Clock for Fixed {
    fn boot(&self) -> BootNanos {
        BootNanos(0)
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(1_767_225_600_000_000_000)
    }
}

/// Nanoseconds for each message: of the clock, and of the processor for whichever process needs more of it.
///
/// # Errors
/// Another process, a socket or a certificate cannot be had.
pub fn measure(table: &mut Table) -> Measured {
    let directory = tempfile::tempdir()?;
    certificates(directory.path())?;
    let (raw_peer, raw_address) = Receiver::start("raw", directory.path())?;
    let (link_peer, link_address) = Receiver::start("link", directory.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [raw, links] = LocalSet::new().block_on(&runtime, async {
        let mut raw_sender = RawSender::connect(directory.path(), raw_address).await?;
        let link_sender = LinkSender::start(directory.path(), link_address)?;
        let (mut raw, mut links) = (Fastest::default(), Fastest::default());
        for _ in 0..ROUNDS {
            raw.round(&raw_peer, raw_sender.round()).await?;
            links.round(&link_peer, link_sender.round()).await?;
        }
        Ok::<_, Failure>([raw, links])
    })?;
    let row = |what: &str, value, baseline| Row {
        what: format!("a message of 200 B over a link, two processes{what}"),
        value,
        unit: Unit::Nanoseconds,
        baseline: Some(("quinn alone".to_owned(), baseline)),
        budget: Some(BUDGET_NS),
    };
    table.add(row("", links.clock, raw.clock));
    table.add(row(": processor time of the busier one", links.processor, raw.processor));
    Ok(())
}

/// The least of all rounds, in nanoseconds a message.
struct Fastest {
    clock: f64,
    processor: f64,
}

impl Default for Fastest {
    fn default() -> Self {
        Self { clock: f64::INFINITY, processor: f64::INFINITY }
    }
}

impl Fastest {
    async fn round(&mut self, peer: &Receiver, round: impl Future<Output = Measured>) -> Measured {
        let before = [on_processor("self")?, on_processor(&peer.0.id().to_string())?];
        let started = now();
        round.await?;
        let clock = started.elapsed().as_nanos() as f64;
        let after = [on_processor("self")?, on_processor(&peer.0.id().to_string())?];
        let busier = (after[0] - before[0]).max(after[1] - before[1]) as f64;
        self.clock = self.clock.min(clock / MESSAGES as f64);
        self.processor = self.processor.min(busier / MESSAGES as f64);
        Ok(())
    }
}

/// Nanoseconds that the one thread of a process ran.
fn on_processor(process: &str) -> Result<u64, Failure> {
    let times = std::fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    Ok(times.split_whitespace().next().ok_or("no times of the scheduler")?.parse()?)
}

fn certificates(directory: &Path) -> Result<(), Failure> {
    let (own, list) = authority::authority("bench", 1, Fixed.unix(), &MachineRng)?;
    std::fs::write(directory.join("ca.pem"), &own.certificate)?;
    std::fs::write(directory.join("revoked.pem"), list)?;
    for name in ["sender", "receiver"] {
        let Issued { certificate, key } = authority::issue(&own, &name.parse()?, 1, Fixed.unix(), &MachineRng)?;
        std::fs::write(directory.join(format!("{name}.pem")), certificate)?;
        std::fs::write(directory.join(format!("{name}.key")), key)?;
    }
    Ok(())
}

fn files(directory: &Path, name: &str) -> CredentialFiles {
    CredentialFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        authorities: directory.join("ca.pem"),
        revoked: Some(directory.join("revoked.pem")),
    }
}

/// Another process, for as long as this lives.
struct Receiver(Child);

impl Receiver {
    fn start(mode: &str, directory: &Path) -> Result<(Self, SocketAddr), Failure> {
        let program: PathBuf = std::env::current_exe()?.with_file_name("link_peer");
        let mut child = Command::new(program).arg(mode).arg(directory).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let receiver = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok((receiver, line.trim().parse()?))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It holds nothing that a kill could hurt.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct LinkSender {
    links: Arc<Links>,
    peer: NodeName,
}

impl LinkSender {
    fn start(directory: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let peer: NodeName = "receiver".parse()?;
        let links = links(directory, "sender", &[(peer.clone(), address)])?.0;
        Ok(Self { links, peer })
    }

    async fn round(&self) -> Measured {
        let message = Bytes::from(vec![7; MESSAGE]);
        for _ in 0..MESSAGES {
            // As who sends much does: it waits only where it must.
            if self.links.try_send(&self.peer, message.clone()) == Err(SendError::Full) {
                self.links.send(&self.peer, message.clone()).await?;
            }
        }
        // The receiver answers a round with a message.
        loop {
            match self.links.next().await.ok_or("closed")? {
                LinkEvent::Received { .. } => return Ok(()),
                LinkEvent::Changed { .. } => {}
            }
        }
    }
}

/// Links as a node has them, but for queues that hold what is on its way at this speed.
fn links(directory: &Path, name: &str, peers: &[(NodeName, SocketAddr)]) -> Result<(Arc<Links>, SocketAddr), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    let ports = Ports {
        place: Here::place(),
        clock: Arc::new(Fixed),
        rng: Arc::new(MachineRng),
        provider: crypto::machine(),
        credentials: Arc::new(files(directory, name)),
    };
    let config = LinkConfig { peers: peers.iter().cloned().collect(), ..LinkConfig::default() };
    Ok((Links::start(config, ports, Socket::Machine(socket))?, address))
}

fn transport() -> Arc<TransportConfig> {
    let window = LinkConfig::default().transport.window_bytes;
    let mut config = TransportConfig::default();
    config.stream_receive_window(VarInt::from_u32(window)).receive_window(VarInt::from_u32(window));
    config.send_window(window.into());
    let mut datagrams = MtuDiscoveryConfig::default();
    datagrams.upper_bound(RAW_DATAGRAM);
    config.mtu_discovery_config(Some(datagrams));
    Arc::new(config)
}

fn endpoint(server: Option<quinn::ServerConfig>) -> Result<(Endpoint, SocketAddr), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)?;
    sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES)?;
    let address = socket.local_addr()?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(RAW_DATAGRAM)?;
    Ok((Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))?, address))
}

struct RawSender {
    connection: Connection,
    stream: SendStream,
    batch: Vec<u8>,
}

impl RawSender {
    async fn connect(directory: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let credentials = files(directory, "sender").read().whole()?;
        let mut roots = rustls::RootCertStore::empty();
        for authority in credentials.authorities {
            roots.add(authority)?;
        }
        let config = rustls::ClientConfig::builder_with_details(crypto::machine(), Arc::new(Then))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(config)?));
        client.transport_config(transport());
        let (endpoint, _) = endpoint(None)?;
        let connection = endpoint.connect_with(client, address, "receiver")?.await?;
        let stream = connection.open_uni().await?;
        Ok(Self { connection, stream, batch: vec![7; BATCH / MESSAGE * MESSAGE] })
    }

    async fn round(&mut self) -> Measured {
        let mut left = usize::try_from(MESSAGES)? * MESSAGE;
        while left > 0 {
            let part = left.min(self.batch.len());
            self.stream.write_all(&self.batch[..part]).await?;
            left -= part;
        }
        // The receiver answers a round with a stream.
        self.connection.accept_uni().await?.read_to_end(1).await?;
        Ok(())
    }
}

#[derive(Debug)]
struct Then;

impl rustls::time_provider::TimeProvider for Then {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_nanos(Fixed.unix().0)))
    }
}

/// The other process: says where it is, and answers each round, until it is killed.
///
/// # Errors
/// What it needs cannot be had, or the sender went.
pub fn receive(mode: &str, directory: &Path) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match mode {
            "link" => receive_linked(directory).await,
            "raw" => receive_raw(directory).await,
            other => Err(format!("no mode {other:?}").into()),
        }
    })
}

async fn receive_linked(directory: &Path) -> Measured {
    let (links, address) = links(directory, "receiver", &[])?;
    println!("{address}");
    let mut came = 0;
    while let Some(event) = links.next().await {
        let LinkEvent::Received { peer, messages } = event else { continue };
        came += messages.len() as u64;
        if came == MESSAGES {
            came = 0;
            links.send(&peer, Bytes::from_static(b"all")).await?;
        }
    }
    Ok(())
}

async fn receive_raw(directory: &Path) -> Measured {
    let credentials = files(directory, "receiver").read().whole()?;
    let config = rustls::ServerConfig::builder_with_details(crypto::machine(), Arc::new(Then))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(credentials.chain, credentials.key)?;
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(transport());
    let (endpoint, address) = endpoint(Some(server))?;
    println!("{address}");
    let connection = endpoint.accept().await.ok_or("closed")?.await?;
    let mut stream = connection.accept_uni().await?;
    let mut left = usize::try_from(MESSAGES)? * MESSAGE;
    while let Some(chunk) = stream.read_chunk(2 * BATCH, true).await? {
        left -= chunk.bytes.len();
        if left == 0 {
            left = usize::try_from(MESSAGES)? * MESSAGE;
            connection.open_uni().await?.finish()?;
        }
    }
    Ok(())
}
