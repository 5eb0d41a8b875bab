//! Workloads: containers, and the host outside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// What a policy's selector selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Container or host.
    pub kind: WorkloadKind,
    /// The pod's name, or the container's outside Kubernetes, or the host's.
    pub name: String,
    /// The pod's namespace; `default` outside Kubernetes; empty for the host.
    pub namespace: String,
    /// The container's name inside its pod; empty for the host.
    pub container: String,
    /// The runtime's id of the container; absent for the host.
    pub container_id: Option<ContainerId>,
    /// The image's reference as the runtime gives it; empty for the host.
    pub image: String,
    /// Pod labels (or the container's own outside Kubernetes, or the node's).
    pub labels: BTreeMap<String, String>,
}

/// The two kinds of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// A container.
    Container,
    /// The host outside containers.
    Host,
}
