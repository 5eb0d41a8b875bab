//! How nodes find their certificates, simulated and as files: links that watch either take what is new, and keep what they had while what
//! they find does not belong together.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_domain::UnixNanos;
use palisade_link::{
    CredentialFiles, CredentialSource, LinkConfig, Links, Ports, Reading, Socket,
    authority::{self, Issued},
    crypto,
};
use palisade_simulation::{
    event::{Ears, Teller},
    journal::Journal,
    random::Random,
    world::{
        clock::{SimClock, unix_at},
        links::{Cables, SeededRng, Wire, name},
        network::Network,
        place::SimPlace,
        scheduler,
    },
};
use palisade_world::Link;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Two linked nodes, and the first one's certificates.
trait Bed {
    fn start(&self, node: usize) -> Arc<dyn Link>;
    /// Another certificate is there, and its key is not.
    fn begin_renewal(&self);
    fn end_renewal(&self);
}

fn place() -> Arc<SimPlace> {
    Arc::new(SimPlace::new("links", Random::stream(1, "links"), 0))
}

struct Simulated(Vec<Wire>);

impl Simulated {
    fn new() -> Self {
        let ears = Arc::new(Mutex::new(Ears::new(Instant::now(), Journal::new(false), Vec::new())));
        let mut cables = Cables::lay(1, 2, None).expect("two nodes");
        tokio::task::spawn_local(cables.network().clone().carry());
        Self((0..2).map(|node| cables.wire(Teller::new(node, &ears))).collect())
    }
}

impl Bed for Simulated {
    fn start(&self, node: usize) -> Arc<dyn Link> {
        self.0[node].start(&SimClock::new(Instant::now(), 0), place()).expect("sound certificates")
    }
    fn begin_renewal(&self) {
        self.0[0].begin_renewal();
    }
    fn end_renewal(&self) {
        self.0[0].end_renewal();
    }
}

struct Files {
    root: TempDir,
    network: Network,
    authority: Issued,
    renewed: RefCell<Option<Issued>>,
}

fn made() -> UnixNanos {
    unix_at(Duration::ZERO, 0)
}

fn rng(seed: u64) -> Arc<SeededRng> {
    Arc::new(SeededRng::new(Random::stream(seed, "files")))
}

impl Files {
    fn new() -> Self {
        let network = Network::new(Random::stream(1, "network"));
        tokio::task::spawn_local(network.clone().carry());
        let (authority, _) = authority::authority("files", 90, made(), &*rng(1)).expect("made");
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("ca.pem"), &authority.certificate).expect("written");
        let bed = Self { root, network, authority, renewed: RefCell::default() };
        for node in 0..2 {
            let issued = bed.issue(node, 2 + node as u64);
            bed.write(node, "pem", &issued.certificate);
            bed.write(node, "key", &issued.key);
        }
        bed
    }
    fn issue(&self, node: usize, seed: u64) -> Issued {
        authority::issue(&self.authority, &name(node), 30, made(), &*rng(seed)).expect("issued")
    }
    fn path(&self, node: usize, what: &str) -> PathBuf {
        self.root.path().join(format!("{node}.{what}"))
    }
    fn write(&self, node: usize, what: &str, text: &str) {
        fs::write(self.path(node, what), text).expect("written");
    }
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + u8::try_from(node).expect("few")], 7946))
}

/// Read at once: a thread that reads takes real time, of which virtual time knows nothing.
struct AtOnce(CredentialFiles);

impl CredentialSource for AtOnce {
    fn read(&self) -> Reading {
        self.0.read()
    }
}

impl Bed for Files {
    fn start(&self, node: usize) -> Arc<dyn Link> {
        let peers = (node == 0).then(|| (name(1), address(1))).into_iter().collect();
        let credentials = CredentialFiles {
            certificate: self.path(node, "pem"),
            key: self.path(node, "key"),
            authorities: self.root.path().join("ca.pem"),
            revoked: None,
        };
        let ports = Ports {
            place: place(),
            clock: Arc::new(SimClock::new(Instant::now(), 0)),
            rng: rng(10 + node as u64),
            provider: crypto::seeded(rng(20 + node as u64)),
            credentials: Arc::new(AtOnce(credentials)),
        };
        let socket = Socket::Port(Arc::new(self.network.bind(address(node))));
        Links::start(LinkConfig::of_node(peers, node == 1), ports, socket).expect("sound certificates")
    }
    fn begin_renewal(&self) {
        let issued = self.issue(0, 4);
        self.write(0, "pem", &issued.certificate);
        self.renewed.replace(Some(issued));
    }
    fn end_renewal(&self) {
        self.write(0, "key", &self.renewed.take().expect("begun").key);
    }
}

/// Whether the first node is linked, over how many connections it was, and what is wrong with its certificates.
fn seen(link: &Arc<dyn Link>) -> (bool, u64, usize) {
    let peers = link.peers();
    let peer = peers.iter().find(|peer| peer.name == name(1));
    (peer.is_some_and(|peer| peer.state.is_linked()), peer.map_or(0, |peer| peer.counts.linked), link.troubles().len())
}

async fn half_written_certificates_change_nothing(bed: &dyn Bed) {
    let links = [bed.start(1), bed.start(0)];
    sleep(Duration::from_secs(20)).await;
    let (is_linked, before, troubles) = seen(&links[1]);
    assert!(is_linked && troubles == 0, "{:?}", links[1].troubles());
    bed.begin_renewal();
    sleep(Duration::from_secs(5)).await;
    let half = seen(&links[1]);
    assert_eq!(half, (true, before, 1), "the last good ones stay in force, and it is said: {:?}", links[1].troubles());
    bed.end_renewal();
    sleep(Duration::from_secs(5)).await;
    let (is_linked, after, troubles) = seen(&links[1]);
    assert!(is_linked && after > before && troubles == 0, "{after} connections after {before}, {troubles} troubles");
}

#[test]
fn unit_conformance_certificates_that_are_half_written_change_nothing_until_they_are_whole() {
    scheduler::run(1, async |_| half_written_certificates_change_nothing(&Simulated::new()).await);
    scheduler::run(1, async |_| half_written_certificates_change_nothing(&Files::new()).await);
}
