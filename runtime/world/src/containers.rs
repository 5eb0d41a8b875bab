//! Containers of the node's runtime.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use palisade_domain::{CgroupId, ContainerId};
use tokio::sync::oneshot;

/// What the container runtime says of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// The runtime's own namespace (`k8s.io`, `default`), not Kubernetes'.
    pub runtime_namespace: String,
    /// The init process in the host's PID namespace; 0 while there is none.
    pub pid: u32,
    /// The unified cgroup.
    pub cgroup: CgroupId,
    /// Its directory below the mount of the unified hierarchy, starting with `/`.
    pub cgroup_path: PathBuf,
    /// The root file system's mountpoint on the host, where the runtime tells it; what fanotify marks before the container runs.
    pub root: Option<PathBuf>,
    /// Pod name (`io.kubernetes.pod.name`), or the container's id outside Kubernetes.
    pub pod: String,
    /// Pod namespace (`io.kubernetes.pod.namespace`), or `default`.
    pub namespace: String,
    /// Container name (`io.kubernetes.container.name`), or the container's id.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Labels: the pod's where known, else the container's own.
    pub labels: BTreeMap<String, String>,
}

/// The runtime waits for this answer before the container's first instruction (OCI createRuntime hook).
///
/// Dropping it unanswered is a refusal: the hook fails closed.
#[derive(Debug)]
pub struct Admission(pub oneshot::Sender<Result<(), String>>);

/// One change.
#[derive(Debug)]
pub enum ContainerChange {
    /// The container exists, its cgroup is final, nothing of it runs yet; it starts when the admission is answered.
    Starting(Container, Admission),
    /// The container runs (also told for those that ran before).
    Started(Container),
    /// The container's init process ended, or the container was removed.
    Stopped(ContainerId),
    /// All containers that ran at the time of the connection have been told.
    Synchronized,
    /// The runtime is followed with less than was asked for, and why; `None`: no longer. What the last one said holds over errors.
    Limited(Option<String>),
}

/// Why the runtime cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    /// There is no runtime at the address, or it went away.
    #[error("container runtime at {address}: {reason}")]
    Unreachable {
        /// Its socket.
        address: String,
        /// What was said.
        reason: String,
    },
    /// The hook's socket cannot be served.
    #[error("hook socket {path}: {source}")]
    HookSocket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A container runtime that is followed. `?Send`: it lives on its actor's thread.
#[async_trait(?Send)]
pub trait Containers {
    /// The next change; after an error the caller backs off and calls again, and everything that runs is told anew, ending in `Synchronized`.
    ///
    /// # Errors
    /// See [`ContainersError`].
    async fn next(&mut self) -> Result<ContainerChange, ContainersError>;
}
