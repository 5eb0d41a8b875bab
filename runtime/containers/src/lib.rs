//! Container runtimes behind the Containers port, and the OCI hook.
//!
//! Three sources and the hook end in one stream of changes, [`NodeContainers`]; by NRI ([`nri`]) the runtime is told to call the hook:
//!
//! ```text
//! containerd ── events, lists ──▶ api ─┐
//! CRI-O … ──── lists, events ──▶ cri ──┼─▶ follow, roster ─┐
//! runc ── createRuntime hook ──▶ hook::run ── socket ──────┘├──▶ shares ──▶ ContainerChange
//!   ▲ adds the hook, names pods: nri                        │
//! cgroup tree, bundles, /proc ──▶ names, tree ──────────────┘
//! ```
//!
//! The hook is what makes enforcement sound: runc waits in it while the container's cgroup is final and nothing of the container
//! runs; it goes on when the node has answered that the policy is in force. Containers that start without the hook are told as `Started`,
//! after the fact: within milliseconds by containerd's events, half a second by the CRI, a second by their cgroups beside an API.
//!
//! *Owns*: what was told of which container ([`roster`], [`shares`]), the hook's socket, the connection by NRI, a thread that watches the cgroup tree.
//! *Hears*: a runtime's lists and events, hooks, inotify on the cgroup tree.
//! *Says*: [`palisade_world::ContainerChange`].
//! *Bounds*: containers told ([`MAX_CONTAINERS`]), hooks at a time ([`hook::MAX_CONCURRENT`]), directories of a walk, bytes of every message
//! and file, seconds of every call.
//! *On restart*: the socket is bound anew, everything that runs is told anew.
//! *On overload*: hooks wait in the socket's backlog, and give their containers up when their patience ends; events wait in the runtime.
//!
//! Invariant: nothing here decides what a container may do, and this crate knows no kernel interface but `/proc` and the cgroup tree.
#![forbid(unsafe_code)]

mod api;
mod bundle;
mod cgroup;
mod cri;
pub mod decode;
mod endpoint;
mod follow;
pub mod hook;
mod identity;
mod mounts;
mod names;
mod no_api;
mod node;
pub mod nri;
mod oci;
mod roster;
mod runtime;
mod shares;
mod tree;

use async_trait::async_trait;
pub use endpoint::Endpoint;
pub use follow::RuntimeConfig;
pub use node::{NodeConfig, NodeContainers};
use palisade_world::{ContainerChange, Containers, ContainersError};
pub use roster::MAX_CONTAINERS;
pub use tree::PlaceListener;

/// containerd, followed by its own API.
#[derive(Debug)]
pub struct Containerd(follow::Followed<api::ContainerdRuntime>);

/// A runtime that is followed by the CRI: CRI-O, or containerd.
#[derive(Debug)]
pub struct Cri(follow::Followed<cri::Cri>);

impl Containerd {
    /// Not connected, and not serving hooks, until the first [`Containers::next`].
    #[must_use]
    pub fn new(config: RuntimeConfig) -> Self {
        Self(follow::Followed::new(config))
    }
}

impl Cri {
    /// Not connected, and not serving hooks, until the first [`Containers::next`].
    #[must_use]
    pub fn new(config: RuntimeConfig) -> Self {
        Self(follow::Followed::new(config))
    }
}

#[async_trait(?Send)]
impl Containers for Containerd {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        self.0.next().await
    }
}

#[async_trait(?Send)]
impl Containers for Cri {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        self.0.next().await
    }
}
