//! Lines: an alert (one act, the rule that decided it, and what became of it), a log (one act that visibility asked for), the account of
//! alerts that were held back, and a part of a policy that is not held.
//!
//! The JSON form is one object a line; field names are lower camel case. Beside our own fields stand those of KubeArmor
//! ([`KubeArmorFields`]). `generation` and `tier` say which policy set and which means decided, so that an alert can be held
//! against the policy's history.

use serde::{Deserialize, Serialize};

use crate::{Action, Family, Generation, KubeArmorFields, Operation, Tier, UnixNanos, Verdict};

/// Any line, told apart by what only its kind has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// It has a verdict.
    Alert(Box<Alert>),
    /// It has counts of what was held back.
    Throttling(Box<Throttling>),
    /// It has a verdict, and no act.
    NotHeld(Box<NotHeldPart>),
    /// It has none of these.
    Log(Box<Log>),
}

impl Line {
    /// The fields that all lines have.
    #[must_use]
    pub fn kubearmor(&self) -> &KubeArmorFields {
        match self {
            Self::Alert(alert) => &alert.kubearmor,
            Self::Throttling(throttling) => &throttling.kubearmor,
            Self::NotHeld(part) => &part.kubearmor,
            Self::Log(log) => &log.kubearmor,
        }
    }
}

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
    /// What the rule or posture asks for, and whether that could be had.
    pub action: AlertAction,
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
    /// The same in KubeArmor's words.
    #[serde(flatten)]
    pub kubearmor: KubeArmorFields,
}

/// An act that visibility asked for and of which nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// When the kernel saw the act.
    pub time: UnixNanos,
    /// The node's name.
    pub node: String,
    /// Who acted.
    pub workload: AlertWorkload,
    /// The acting process first, then its ancestors as far as known, whose arguments are left to the logs of their own execs.
    pub process_chain: Vec<AlertProcess>,
    /// What it did, and to what.
    pub subject: Subject,
    /// The same in KubeArmor's words.
    #[serde(flatten)]
    pub kubearmor: KubeArmorFields,
}

/// Alerts of a workload are held back from now on, or were until now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// When it began, or ended.
    pub time: UnixNanos,
    /// The node's name.
    pub node: String,
    /// Whose alerts.
    pub workload: AlertWorkload,
    /// Alerts a second past which they are held back.
    #[serde(rename = "MaxAlertsPerSec")]
    pub max_alerts_per_second: u32,
    /// For how many seconds.
    #[serde(rename = "DroppingAlertsInterval")]
    pub silence_seconds: u32,
    /// How many were held back; 0 where it begins.
    pub held_back_total: u64,
    /// By rule and verdict, as many of them as are told apart; `heldBackTotal` has all.
    pub held_back: Vec<HeldBack>,
    /// The same in KubeArmor's words.
    #[serde(flatten)]
    pub kubearmor: KubeArmorFields,
}

/// Alerts of one rule and verdict that were held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldBack {
    /// `metadata.name` of the policy, `DefaultPosture`, or empty where the rule is not known.
    pub policy_name: String,
    /// Which rule in it; empty for a posture.
    pub place: String,
    /// The family whose table decided; absent of parts of policies that are not held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub family: Option<Family>,
    /// What became of the acts, which were decided like any other.
    pub verdict: Verdict,
    /// How many alerts.
    pub count: u64,
}

/// A part of a workload's policy is not held: nothing of this kernel, or of any, does what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotHeldPart {
    /// When it was said.
    pub time: UnixNanos,
    /// The node's name.
    pub node: String,
    /// Whose policy.
    pub workload: AlertWorkload,
    /// The policy; `place` names the first few of its rules and fields that ask for it. Absent where the line counts further parts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<AlertRule>,
    /// What of the policy language: `readOnly`, `apparmor`.
    pub what: String,
    /// Why it is not held.
    pub reason: String,
    /// How many rules or fields ask for it; where no rule is named: how many further parts are not held.
    pub count: u64,
    /// The policy set that is in force.
    pub generation: Generation,
    /// Always `unenforceable`.
    pub verdict: Verdict,
    /// The same in KubeArmor's words.
    #[serde(flatten)]
    pub kubearmor: KubeArmorFields,
}

/// What a rule or posture asks for, and whether that could be had; KubeArmor's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlertAction {
    /// Permit, with an alert.
    Audit,
    /// Deny, with an alert; it was denied, or the process was killed for it.
    Block,
    /// Deny, which no means at hand could: it happened.
    #[serde(rename = "Audit (Block)")]
    AuditBlock,
}

impl AlertAction {
    /// What `asked` came to.
    #[must_use]
    pub const fn of(asked: Action, verdict: Verdict) -> Self {
        match (asked, verdict) {
            (Action::Block, Verdict::Denied | Verdict::Killed) => Self::Block,
            (Action::Block, Verdict::Observed | Verdict::Unenforceable) => Self::AuditBlock,
            (Action::Allow | Action::Audit, _) => Self::Audit,
        }
    }
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
    /// Executable path as the workload saw it; empty where it is not known. Of a script its interpreter.
    pub executable: String,
    /// The script that it interprets, where it was executed by that; absent where there is none, and of processes from before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<String>,
    /// `script` is what the caller called it, which may be relative or a link, and not the file's own path.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub script_from_caller: bool,
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
