//! Links to other nodes, where they are asked for: bound before the kernel is touched, begun before the tree, closed after it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use palisade_assembly::Linked;
use palisade_link::{CredentialFiles, LinkConfig, Links, MachineRng, NODE_BYTES, Ports, Socket};
use palisade_supervision::{ArbiterThread, Place, Tree};
use palisade_wire::frame::{LONGEST_ANSWER, LONGEST_FRAME, MOST_MESSAGES};
use palisade_world::{Clock as _, Link};

use super::bound::Row;
use crate::{arguments::LinkArguments, clock::MachineClock};

/// A socket that is bound, and what the links will be.
pub struct BoundLinks {
    config: LinkConfig,
    socket: UdpSocket,
    files: CredentialFiles,
}

/// Links that run.
pub struct RunningLinks {
    links: Arc<Links>,
    place: Arc<ArbiterThread>,
    /// The tree, once it stands: peers ask for it.
    tree: Arc<OnceLock<Arc<Tree>>>,
}

/// Takes the address and reads the certificates; `None` where no links are asked for.
///
/// # Errors
/// A certificate or key cannot be used, or the address cannot be had.
pub fn bind(arguments: &LinkArguments) -> anyhow::Result<Option<BoundLinks>> {
    let peers = arguments.peers()?;
    let listens = arguments.link_listen.is_some();
    if !listens && peers.is_empty() {
        return Ok(None);
    }
    let files = arguments.files();
    files
        .read_in_time(MachineClock.unix())
        .context("links: make certificates by `palisade certificate`, or name yours with --link-certificate")?;
    let anywhere = || match peers.first() {
        Some((_, address)) if address.is_ipv6() => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    let address = arguments.link_listen.unwrap_or_else(anywhere);
    let socket = UdpSocket::bind(address).with_context(|| format!("--link-listen {address}"))?;
    let config = LinkConfig::of_node(peers.into_iter().collect(), listens);
    Ok(Some(BoundLinks { config, socket, files }))
}

impl BoundLinks {
    /// Begins, on a thread of its own: what other nodes send delays nothing here. `named` is what alerts call this node.
    ///
    /// # Errors
    /// The thread cannot be made, or the certificates changed since they were read.
    pub fn start(self, named: &str) -> anyhow::Result<RunningLinks> {
        let place = ArbiterThread::start("links").context("cannot start threads")?;
        let ports = Ports {
            place: Arc::<ArbiterThread>::clone(&place),
            clock: Arc::new(MachineClock),
            rng: Arc::new(MachineRng),
            provider: palisade_link::crypto::machine(),
            credentials: Arc::new(self.files),
        };
        let links = Links::start(self.config, ports, Socket::Machine(self.socket)).context("links")?;
        if links.own_name().as_str() != named {
            tracing::warn!(certificate = %links.own_name(), alerts = named, "this node goes by two names: set --node-name");
        }
        Ok(RunningLinks { links, place, tree: Arc::default() })
    }
}

impl RunningLinks {
    /// Where they run, for the watchdog.
    pub fn place(&self) -> Arc<dyn Place> {
        Arc::<ArbiterThread>::clone(&self.place)
    }

    /// For the actor of peers.
    pub fn port(&self) -> Linked {
        let tree = Arc::clone(&self.tree);
        Linked {
            link: Arc::<Links>::clone(&self.links),
            tree: Arc::new(move || tree.get().map(|tree| tree.read())),
            place: self.place(),
            rng: Arc::new(MachineRng),
        }
    }

    /// Whom they dial can be changed while they run.
    pub fn links(&self) -> Arc<Links> {
        Arc::clone(&self.links)
    }

    /// The tree stands.
    pub fn show(&self, tree: &Arc<Tree>) {
        // Once a node.
        let _ = self.tree.set(Arc::clone(tree));
    }

    /// What they take at most.
    pub fn row(&self) -> Row {
        // Queue, inbox and window, with a window each of a connection in the making and of one that was replaced. A message may be as long
        // as a frame, and goes alone then, while the next frame is read; that may be of as many messages as there can be, each
        // an entry of four words.
        let of_one = 5 * NODE_BYTES + 2 * LONGEST_ANSWER + 2 * LONGEST_FRAME + MOST_MESSAGES * 4 * size_of::<usize>();
        let bytes = of_one * LinkConfig::default().most_peers;
        Row { table: "links", bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
    }

    /// Says goodbye to the peers.
    pub async fn close(&self) {
        self.links.close().await;
    }
}
