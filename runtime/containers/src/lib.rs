//! containerd behind the Containers port, and the OCI hook.
//!
//! Two ways lead here, and both end in [`Containerd`]'s one stream of changes:
//!
//! ```text
//! containerd ── events, lists ──▶ api ──▶ roster ──▶ ContainerChange::{Started, Stopped, Synchronized}
//! runc ── createRuntime hook ──▶ hook::run ── Unix socket ──▶ hook server ──▶ ContainerChange::Starting(container, admission)
//! ```
//!
//! The hook is what makes enforcement sound: runc waits in it while the container's cgroup is final and nothing of the container
//! runs; it goes on when the node has answered that the policy is in force. Containers that containerd starts without the hook are
//! told as `Started`, after the fact.
//!
//! *Owns*: what was told of which container ([`roster`]), the hook's socket.
//! *Hears*: containerd's lists and events of all its namespaces, hooks.
//! *Says*: [`palisade_world::ContainerChange`].
//! *Bounds*: containers told ([`MAX_CONTAINERS`]), hooks at a time ([`hook::MAX_CONCURRENT`]), bytes of every message, seconds of
//! every call.
//! *On restart*: the socket is bound anew, everything that runs is told anew.
//! *On overload*: hooks wait in the socket's backlog, and give their containers up when their patience ends; events wait in containerd.
//!
//! Invariant: nothing here decides what a container may do, and this crate knows no kernel interface but `/proc` and the cgroup tree.
#![forbid(unsafe_code)]

mod api;
mod cgroup;
mod containerd;
pub mod hook;
mod identity;
mod mounts;
mod oci;
mod roster;

pub use containerd::{Containerd, ContainerdConfig};
pub use roster::MAX_CONTAINERS;
