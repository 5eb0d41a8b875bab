//! The answers of the endpoint as types: what `/v1/openapi.json` states, and what `palisade top` reads.
//!
//! Invariant: a test holds each answer of a running node to these, with no field that is not stated. A client tolerates more fields than it
//! knows, so that one of another version still reads what it can.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The process turns its loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Always true.
    pub alive: bool,
}

/// A recording was to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordingEnded {
    /// Whether there was one.
    pub ended: bool,
    /// Why it was over before, where neither its time nor its size nor anybody who asked for it was the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A request that was not served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Why.
    pub error: String,
    /// What to ask instead.
    #[serde(default, rename = "try", skip_serializing_if = "Option::is_none")]
    pub try_instead: Option<String>,
    /// All that can be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
}

/// Whether the node is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Nothing is pending or failed.
    pub ready: bool,
    /// By name: `policies`, `containers`, `configuration`, `slot 4` ...
    pub conditions: BTreeMap<String, ConditionAnswer>,
}

/// A node that is not ready, or of which nobody could say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NotReady {
    /// Not ready, and why.
    Conditions(Readiness),
    /// Nobody could say.
    Nobody(Refusal),
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConditionAnswer {
    /// `good`, `pending`, `degraded` (works with less) or `failed`.
    pub state: String,
    /// Why it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One supervisor or actor with everything below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TreeNodeAnswer {
    /// Unique among its siblings.
    pub name: String,
    /// Supervisor or actor.
    pub kind: KindAnswer,
    /// `declared`, `starting`, `running`, `backing-off`, `stopping`, `stopped`, `finished`, `abandoned`, `gave-up`.
    pub state: String,
    /// Its restart policy; none for the root.
    pub restart: Option<String>,
    /// Where it runs.
    pub place: String,
    /// Its incarnation; 0 before the first.
    pub generation: u64,
    /// Milliseconds since its start was acknowledged, while it runs.
    pub uptime_ms: Option<u64>,
    /// Times it was started again.
    pub restarts: u64,
    /// How its last failure came about.
    pub last_error: Option<String>,
    /// Its mailbox; none for supervisors.
    pub mail: Option<MailAnswer>,
    /// Children in order of declaration.
    #[schema(no_recursion)]
    pub children: Vec<TreeNodeAnswer>,
}

/// Supervisor (with its strategy) or actor (with its type).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KindAnswer {
    /// With the strategy by which its children share their fate.
    Supervisor(String),
    /// With the name of its type.
    Actor(String),
}

/// The mail of one actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MailAnswer {
    /// Most messages that may wait.
    pub capacity: u64,
    /// Messages waiting.
    pub depth: u64,
    /// The largest depth ever.
    pub high_water: u64,
    /// Messages handled since the beginning.
    pub handled: u64,
    /// Messages handled a second, of late.
    pub handled_per_second: f64,
    /// Messages refused or displaced for want of room.
    pub shed: u64,
    /// Messages replaced by a newer one of the same key.
    pub coalesced: u64,
    /// Questions skipped because their asker had gone.
    pub expired: u64,
    /// Messages lost in panics.
    pub lost_panic: u64,
    /// Records in those messages.
    pub lost_panic_records: u64,
    /// Messages that were queued when the mailbox closed.
    pub lost_closed: u64,
}

/// What changed in the tree since the event before: the data of `changes` events of `/v1/tree/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TreeChanges {
    /// New nodes, and nodes of which something else changed than time and rate.
    pub changed: Vec<TreeChange>,
    /// Paths of nodes that are no more.
    pub gone: Vec<Vec<String>>,
}

/// One node of the tree that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TreeChange {
    /// Names from the root down.
    pub path: Vec<String>,
    /// As in `/v1/tree`, with no children.
    #[schema(value_type = TreeNodeAnswer)]
    pub node: serde_json::Value,
}

/// Workloads by slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workloads {
    /// The container runtime has told all that ran.
    pub synchronized: bool,
    /// By slot; the host, where it is held, first.
    pub workloads: Vec<WorkloadRow>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadRow {
    /// Its place in the kernel.
    pub slot: u32,
    /// Who.
    pub workload: WorkloadAnswer,
    /// The policy in force for it; none before the first.
    pub policy: Option<PolicyAnswer>,
}

/// Who a workload is; of the host only its kind is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadAnswer {
    /// `container` or `host`.
    pub kind: String,
    /// Pod, or container outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Pod namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Container in its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The runtime's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// As the runtime names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The policy of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAnswer {
    /// Of which set.
    pub generation: u32,
    /// Its compiled form, by content; none where no policy selects the workload.
    pub blob: Option<String>,
    /// The size of that.
    pub blob_bytes: Option<u64>,
    /// Rules in it.
    pub rules: u64,
    /// By what each family is held.
    pub families: Vec<FamilyAnswer>,
    /// Parts of its policies that are not held.
    #[serde(default)]
    pub not_held: Vec<NotHeldAnswer>,
}

/// A part of a policy that is not held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotHeldAnswer {
    /// `kind/namespace/name`.
    pub policy: String,
    /// Which part, in the policy language's words.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Where it stands; a few of them.
    pub places: Vec<String>,
    /// How many there are.
    pub count: u64,
}

/// One family and its tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FamilyAnswer {
    /// `process`, `file`, `network`, `ptrace` ...
    pub family: String,
    /// `bpf-lsm`, `fmod-ret`, `apparmor`, `selinux`, `cgroup-bpf`, `fanotify`, `kill`, `audit` ...
    pub tier: String,
    /// What it cannot hold.
    pub gaps: Vec<GapAnswer>,
}

/// What is not held, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GapAnswer {
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// The policy set in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policies {
    /// Its number.
    pub generation: u32,
    /// `kind/namespace/name`, sorted.
    pub policies: Vec<String>,
    /// What the last reading found wrong.
    pub diagnostics: Vec<DiagnosticAnswer>,
    /// Files whose last good version is in force instead of what they hold now.
    pub held_back: Vec<String>,
    /// Why the directory could not be read, if it could not.
    pub unreadable: Option<String>,
}

/// One thing that is wrong in one place of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosticAnswer {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// `warning`, `unsupported` or `error`.
    pub severity: String,
    /// What is wrong.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to write instead.
    pub instead: String,
}

/// What the kernel can do, and which tier holds which family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// As `uname -r`.
    pub release: String,
    /// Active ones.
    pub lsms: Vec<String>,
    /// Each really tried.
    pub capabilities: Vec<CapabilityAnswer>,
    /// Which tier holds which.
    pub families: Vec<FamilyAnswer>,
    /// Programs that the kernel did not take: what is not held or not seen for it.
    #[serde(default)]
    pub refused: Vec<RefusedAnswer>,
    /// Of our maps.
    pub memory_bytes: MemoryAnswer,
    /// The time before this node, in which none ran; absent where none had been there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<UnattendedAnswer>,
}

/// What happened while no node ran. Counts are from the last sign of life of the node before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnattendedAnswer {
    /// The last sign of life of the node before.
    pub since: String,
    /// This node's start.
    pub until: String,
    /// Since then policy had lapsed; null: it stood.
    pub lapsed_since: Option<String>,
    /// Acts that were judged.
    pub judged: u64,
    /// Of them, those that were denied.
    pub denied: u64,
    /// Acts that were permitted because policy had lapsed.
    pub passed: u64,
}

/// One capability of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityAnswer {
    /// Its name.
    pub capability: String,
    /// Whether the kernel has it.
    pub available: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A program that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedAnswer {
    /// Its name.
    pub program: String,
    /// What it needs.
    pub needs: String,
    /// What is lost without it.
    pub without: String,
    /// What the kernel said.
    pub reason: String,
}

/// Kernel memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryAnswer {
    /// Bytes of compiled policies.
    pub blobs: u64,
    /// How many there are.
    pub blob_count: u64,
    /// Bytes of all other maps.
    pub maps: u64,
}

/// What happened so far: cumulative counts, so that two readings give rates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Milliseconds of a clock that only goes forward, at the reading.
    pub at_ms: u64,
    /// Kernel records.
    pub records: RecordCounts,
    /// Alerts by verdict.
    pub alerts: BTreeMap<String, u64>,
    /// Alerts that were not said, since their workload raised too many, by verdict; they are among the alerts.
    pub held_back: BTreeMap<String, u64>,
    /// Alerts that a sink did not take, by sink.
    pub unwritten: BTreeMap<String, u64>,
    /// Alerts that slow followers missed.
    pub missed_by_listeners: u64,
    /// Recordings of traces.
    #[serde(default)]
    pub recordings: RecordingActivity,
    /// By slot: each that ever had an event since the alerts actor started.
    pub workloads: Vec<WorkloadActivity>,
    /// Actors that did not answer; what they count is 0 here.
    pub unanswered: Vec<String>,
}

/// What became of kernel records.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct RecordCounts {
    /// Read and handed on.
    pub delivered: u64,
    /// Not understood.
    pub malformed: u64,
    /// Handed on in vain, since a reader's queue was full.
    pub refused: u64,
    /// Numbers that did not arrive.
    pub missing: u64,
    /// Of those, what the kernel counted, by reason: what was lost, and what was suppressed or folded by intent.
    pub lost: BTreeMap<String, u64>,
}

/// What became of recordings since the recorder's actor started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct RecordingActivity {
    /// Those that are being made.
    pub running: u64,
    /// Those that are over: `whole`, `too_small` (a part had no room for anything), `unread` (their reader took nothing and was given
    /// up), `reader_gone`, `not_stored` (a trace around an alert that its disk did not take).
    pub ended: BTreeMap<String, u64>,
}

/// What one workload did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct WorkloadActivity {
    /// Its place in the kernel.
    pub slot: u32,
    /// Kernel records of it.
    pub events: u64,
    /// Alerts by verdict.
    pub alerts: BTreeMap<String, u64>,
}

/// One line of `/v1/alerts`; more fields, KubeArmor's among them, may stand beside these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertAnswer {
    /// Nanoseconds since 1970, when the kernel saw the act.
    pub time: u64,
    /// The node's name.
    pub node: String,
    /// Who acted: `name`, `namespace`, `container`, `containerId` ...
    #[schema(value_type = Object)]
    pub workload: serde_json::Value,
    /// The acting process first, then its ancestors.
    #[schema(value_type = Vec<Object>)]
    pub process_chain: Vec<serde_json::Value>,
    /// `operation` and `resource`.
    #[schema(value_type = Object)]
    pub subject: serde_json::Value,
    /// The rule that decided; none where the default posture did.
    #[schema(value_type = Option<Object>)]
    pub rule: Option<serde_json::Value>,
    /// What was asked for.
    pub action: String,
    /// Whose table decided.
    pub family: String,
    /// The policy set in force.
    pub generation: u32,
    /// By what means.
    pub tier: String,
    /// `denied`, `killed`, `observed` or `unenforceable`.
    pub verdict: String,
    /// Why not more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Living processes by workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Processes {
    /// Each workload of the name.
    pub workloads: Vec<ProcessesOfWorkload>,
    /// There are more workloads of the name.
    pub more: bool,
}

/// The living processes of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessesOfWorkload {
    /// Its place in the kernel.
    pub slot: u32,
    /// Who.
    pub workload: WorkloadAnswer,
    /// Its processes.
    pub processes: Vec<ProcessAnswer>,
    /// There are more.
    pub more: bool,
}

/// One living process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessAnswer {
    /// In the host's PID namespace.
    pub pid: u32,
    /// Its parent's.
    pub parent_pid: Option<u32>,
    /// In its own PID namespace, where that is known.
    pub own_pid: Option<u32>,
    /// Hundredths of a second from boot to its start.
    pub start_ticks: u64,
    /// Real uid.
    pub uid: u32,
    /// The uid's name, where it is known.
    pub username: Option<String>,
    /// As the workload sees it; empty where it is not known.
    pub executable: String,
    /// As captured.
    pub arguments: Vec<String>,
    /// They are not all.
    pub arguments_cut: bool,
}
