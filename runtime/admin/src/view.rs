//! What the endpoint shows, as a port of its own.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    Metric,
    nodes::{AllAlerts, AllLines},
};

/// The documents of `/v1` and `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// The supervision tree.
    Tree,
    /// Those of all linked nodes.
    TreeOfAll,
    /// The nodes that are linked, or should be.
    Nodes,
    /// Workloads by slot, with the policy that each is held to.
    Workloads,
    /// The policy set in force and what is wrong with the directory.
    Policies,
    /// What the kernel can do, and which tier is used.
    Kernel,
    /// Cumulative counts of records and alerts, in all and by workload.
    Activity,
}

/// Which lines of `/v1/alerts`; KubeArmor's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineFilter {
    /// Alerts, and what was held back of them.
    #[default]
    Policy,
    /// Logs: what visibility asks for, from now on.
    System,
    /// Both.
    All,
}

/// Nobody answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{actor} did not answer: {reason}")]
pub struct ViewError {
    /// Who was asked.
    pub actor: &'static str,
    /// What was said instead.
    pub reason: String,
}

/// Alerts as JSON lines, past ones first.
pub type AlertLines = mpsc::Receiver<Arc<str>>;

/// What is asked of `/v1/record`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordingRequest {
    /// Names of workloads; empty: all.
    pub workloads: Vec<String>,
    /// Seconds of the past that come first.
    pub last_seconds: u64,
    /// Seconds from now on; none: until the client goes away.
    pub duration_seconds: Option<u64>,
    /// Bytes at which it ends; 0: no bound.
    pub limit_bytes: u64,
    /// Keep arguments.
    pub arguments: bool,
}

/// A trace as it is made.
pub type TraceBytes = mpsc::Receiver<Arc<[u8]>>;

/// A recording that was begun.
#[derive(Debug)]
pub struct RecordingBegun {
    /// What ends it.
    pub id: u64,
    /// Its bytes.
    pub trace: TraceBytes,
}

/// What the endpoint asks.
#[async_trait]
pub trait AdminView: Send + Sync + 'static {
    /// A document as JSON.
    async fn document(&self, which: Document) -> Result<serde_json::Value, ViewError>;
    /// Whether the node is ready, and its conditions as JSON.
    async fn readiness(&self) -> Result<(bool, serde_json::Value), ViewError>;
    /// All metrics that can be had now; who does not answer is missing, and one of the metrics says so.
    async fn metrics(&self) -> Vec<Metric>;
    /// The last `recent` alerts and, if `follow`, all lines of `filter` from now on; else the stream ends.
    async fn alerts(&self, filter: LineFilter, recent: usize, follow: bool) -> Result<AlertLines, ViewError>;
    /// The last alerts of all linked nodes, at most `recent` of each.
    async fn alerts_of_all(&self, recent: usize) -> Result<AllAlerts, ViewError>;
    /// The alerts of all nodes as they come, at most `recent` past ones of each first.
    async fn follow_all(&self, recent: usize) -> Result<AllLines, ViewError>;
    /// The living processes of the workloads that `workload` names: `NAME`, `NAMESPACE/NAME` or `NAMESPACE/NAME/CONTAINER`, or `host`.
    async fn processes(&self, workload: &str) -> Result<serde_json::Value, ViewError>;
    /// Begins a trace. Who has no recorder says so.
    async fn record(&self, request: RecordingRequest) -> Result<RecordingBegun, ViewError>;
    /// Ends a recording whole; whether there was one.
    async fn end_recording(&self, id: u64) -> Result<bool, ViewError>;
}
