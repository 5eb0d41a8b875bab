//! Alerts: one act, the rule that decided it, and what became of it.
//!
//! The JSON form is one object a line; field names are lower camel case. `generation` and `tier` say which policy set and
//! which means decided, so that an alert can be held against the policy's history.

use serde::{Deserialize, Serialize};

use crate::{Action, Family, Generation, Tier, UnixNanos, Verdict};

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// When the kernel saw the act.
    pub time: UnixNanos,
    /// The node's name.
    pub node: String,
    /// Who acted.
    pub workload: AlertWorkload,
    /// The acting process first, then its ancestors as far as known.
    pub process_chain: Vec<AlertProcess>,
    /// What it did, and to what.
    pub subject: Subject,
    /// The rule that decided; absent where the default posture did.
    pub rule: Option<AlertRule>,
    /// What the rule or posture asks for.
    pub action: Action,
    /// The family whose table decided.
    pub family: Family,
    /// The policy set in force at the act.
    pub generation: Generation,
    /// By what means.
    pub tier: Tier,
    /// What became of the act.
    pub verdict: Verdict,
    /// Why not more: given for `killed` (what had already happened) and `unenforceable`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The workload as alerts name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertWorkload {
    /// Pod, container or host name.
    pub name: String,
    /// Pod namespace; empty for the host.
    pub namespace: String,
    /// Container name; empty for the host.
    pub container: String,
    /// Container id; empty for the host.
    pub container_id: String,
}

/// One process of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertProcess {
    /// Process id in the host's PID namespace.
    pub pid: u32,
    /// Executable path as the workload saw it; empty where it is not known.
    pub executable: String,
    /// Arguments as captured at exec; may be cut, see `arguments_cut`.
    pub arguments: Vec<String>,
    /// The captured arguments are not all of them.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub arguments_cut: bool,
    /// Real uid.
    pub uid: u32,
}

/// The rule as alerts name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertRule {
    /// `kind/namespace/name` of the policy.
    pub policy: String,
    /// `metadata.name` of the policy.
    pub policy_name: String,
    /// Which rule in it: `process.matchPaths[2]`.
    pub place: String,
    /// 1 to 10.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub severity: Option<u8>,
    /// The rule's tags.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// The rule's text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// What was done, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The kind of act.
    pub operation: Operation,
    /// A path, `tcp 10.0.0.1:5000`, or `pid 12 (/usr/bin/x)`.
    pub resource: String,
    /// The path was longer than what is carried, and is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub resource_cut: bool,
}

/// The kinds of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A file was executed.
    Exec,
    /// A file was opened.
    Open,
    /// A socket was created.
    Socket,
    /// A connection was asked for.
    Connect,
    /// A process was traced.
    Ptrace,
}
