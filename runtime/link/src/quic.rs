//! QUIC over the ports: timers of tokio, tasks of a [`Place`], sockets of the machine or of a simulation, connection ids and keys from the
//! randomness port.
//!
//! Decision: quinn's own runtime port, and not its tokio runtime, because that spawns beside the actors and reads the machine's clock: a
//! simulated node's crash would leave its connections alive.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use palisade_domain::UnixNanos;
use palisade_supervision::Place;
use palisade_world::{Clock, Datagrams, Rng};
use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, Runtime, ServerConfig, TimeSource, TransportConfig, UdpPoller, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    udp::{RecvMeta, Transmit},
};
use rustls::{crypto::CryptoProvider, pki_types::UnixTime, time_provider::TimeProvider, version::TLS13};

use crate::{
    credentials::{Credentials, CredentialsError},
    examine::{self, ListDates},
    machine::MachineSocket,
    verify::PeerVerifier,
};

/// Bytes of the longest datagram that is tried: networks inside of data centres often carry 9,000, of which 48 are heads. What a path does
/// not carry is found out by probes (RFC 8899) and costs nothing but them.
pub const LONGEST_DATAGRAM: u16 = 8952;
/// Bytes of our connection ids.
const CID_BYTES: usize = 8;
/// Both sides must mean the same by their streams before either reads one.
const ALPN: &[u8] = b"palisade-link";

/// A socket that is bound.
pub enum Socket {
    /// Of the machine: it sends and receives many datagrams at a time.
    Machine(std::net::UdpSocket),
    /// Of a simulation.
    Port(Arc<dyn Datagrams>),
}

/// How QUIC is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// Silence after which a peer is out.
    pub idle: Duration,
    /// Bytes that a peer may send before they are read here.
    pub window_bytes: u32,
}

/// Tasks, timers and sockets for quinn.
pub(crate) struct PortRuntime(pub(crate) Arc<dyn Place>);

impl fmt::Debug for PortRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRuntime({})", self.0.name())
    }
}

impl Runtime for PortRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if let Err(gone) = self.0.run(Box::new(move || future)) {
            tracing::debug!(%gone, "a task of a link comes too late");
        }
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(MachineSocket::new(socket)?))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[derive(Debug)]
struct Timer(Pin<Box<tokio::time::Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), cx)
    }
}

/// A socket of a simulation as quinn wants it.
pub(crate) struct PortSocket(pub(crate) Arc<dyn Datagrams>);

impl fmt::Debug for PortSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSocket({})", self.0.local())
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for PortSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.send(transmit.destination, transmit.contents)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        self.0.poll_receive(cx, buffer).map_ok(|(len, addr)| {
            *meta = RecvMeta { addr, len, stride: len, ..RecvMeta::default() };
            1
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Connection ids from the randomness port.
struct Cids(Arc<dyn Rng>);

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        cid(&*self.0)
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn cid(rng: &dyn Rng) -> ConnectionId {
    let mut bytes = [0; CID_BYTES];
    rng.fill(&mut bytes);
    ConnectionId::new(&bytes)
}

/// Time for certificates.
pub(crate) struct WallClock(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

impl WallClock {
    pub(crate) fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(since_epoch(self.0.unix()))
    }
}

fn since_epoch(at: UnixNanos) -> Duration {
    Duration::from_nanos(at.0)
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + since_epoch(self.0.unix())
    }
}

/// Keys of an endpoint, which live as long as it does: peers hold tokens made with them.
pub(crate) struct EndpointKeys {
    seed: [u8; 32],
    reset: [u8; 32],
    token: [u8; 32],
}

impl EndpointKeys {
    pub(crate) fn draw(rng: &dyn Rng) -> Self {
        let mut keys = Self { seed: [0; 32], reset: [0; 32], token: [0; 32] };
        [&mut keys.seed, &mut keys.reset, &mut keys.token].into_iter().for_each(|key| rng.fill(key));
        keys
    }

    pub(crate) fn endpoint(&self, rng: &Arc<dyn Rng>) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.reset)));
        let rng = Arc::clone(rng);
        config.rng_seed(Some(self.seed)).cid_generator(move || Box::new(Cids(Arc::clone(&rng))));
        let taken = config.max_udp_payload_size(LONGEST_DATAGRAM);
        debug_assert!(taken.is_ok(), "within what QUIC allows");
        config
    }
}

/// Both sides of TLS and QUIC, of one reading of the credentials.
pub(crate) struct Tls {
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
    pub(crate) verifier: Arc<PeerVerifier>,
    pub(crate) list_dates: ListDates,
    pub(crate) credentials: Credentials,
}

/// What both sides are made with.
pub(crate) struct Making {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) keys: EndpointKeys,
    pub(crate) transport: Transport,
}

impl Making {
    pub(crate) fn tls(&self, credentials: Credentials) -> Result<Tls, CredentialsError> {
        if credentials.name().is_none() {
            return Err(CredentialsError::Nameless);
        }
        let verifier = Arc::new(PeerVerifier::new(&credentials, &self.provider)?);
        let clock = || Arc::new(WallClock(Arc::clone(&self.clock)));
        let (chain, key) = (credentials.chain.clone(), credentials.key.clone_key());
        let mut server = rustls::ServerConfig::builder_with_details(Arc::clone(&self.provider), clock())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // No resumption of TLS: each handshake shows the certificates, so that one that was taken back is seen.
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_details(Arc::clone(&self.provider), clock())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        let general = |error: quinn::crypto::rustls::NoInitialCipherSuite| rustls::Error::General(error.to_string());
        let (server, client) = (
            QuicServerConfig::try_from(server).map_err(general)?,
            QuicClientConfig::try_from(client).map_err(general)?,
        );
        let list_dates = examine::list_dates(&credentials.revocations);
        Ok(Tls { server: self.server(server), client: self.client(client), verifier, list_dates, credentials })
    }

    fn server(&self, crypto: QuicServerConfig) -> ServerConfig {
        let token = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&self.keys.token);
        let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(token));
        let mut tokens = quinn::ValidationTokenConfig::default();
        tokens.sent(0);
        config
            .transport_config(self.transport_config())
            .validation_token_config(tokens)
            .time_source(Arc::new(WallClock(Arc::clone(&self.clock))))
            .max_incoming(MOST_INCOMING);
        config
    }

    fn client(&self, crypto: QuicClientConfig) -> ClientConfig {
        let mut config = ClientConfig::new(Arc::new(crypto));
        let rng = Arc::clone(&self.rng);
        config.transport_config(self.transport_config()).initial_dst_cid_provider(Arc::new(move || cid(&*rng)));
        config
    }

    fn transport_config(&self) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        let mut datagrams = MtuDiscoveryConfig::default();
        datagrams.upper_bound(LONGEST_DATAGRAM);
        config.mtu_discovery_config(Some(datagrams));
        let idle = IdleTimeout::try_from(self.transport.idle).unwrap_or_else(|_| VarInt::from_u32(u32::MAX).into());
        let window = VarInt::from_u32(self.transport.window_bytes);
        config
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.transport.idle / 3))
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(1))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(window)
            // What stands on the stream of acknowledgements has room beside the messages.
            .receive_window(VarInt::from_u32(self.transport.window_bytes.saturating_add(64 << 10)))
            .send_window(self.transport.window_bytes.into());
        Arc::new(config)
    }
}

/// Connections that wait to be taken up; what comes beyond is dropped by quinn.
const MOST_INCOMING: usize = 64;
