//! What KubeArmor's lines say, by the names that its files give them, so that what reads its lines reads ours.
//!
//! These stand in the same JSON object beside our own fields (`Log` in KubeArmor's `types/types.go` has the names). A field is absent
//! where its value is not known; it is never guessed. What differs, and why:
//!
//! - `uid`, `pid` and their like are unsigned, where KubeArmor wraps past 2³¹.
//! - `action` is [`AlertAction`](crate::AlertAction): `Audit (Block)` where a rule that blocks could only observe.
//! - `result` is `Passed`, the C library's text for the error, or `Killed` (its text for SIGKILL), which KubeArmor never says.
//! - `enforcer` is KubeArmor's `BPFLSM` and `eBPF Monitor` where that is what it was, else our own: `FmodRet`, `CgroupBPF`, `Fanotify`, `Kill`. USB devices are `USBDeviceHandler`, as KubeArmor has it.
//! - `cwd` and `tty` are those of the process at its last exec; absent for one that ran before the node.
//! - `ppid` is 0, as getppid(2) says it, where the parent is not in the PID namespace of the process.
//! - `data` is split by spaces: a space, a control character or a backslash inside a value is written `\xNN`. `eventData` has the values whole.
//! - `processHash`, `parentHash`, `resourceHash` and `hashAlgo` stay absent: a hash that nothing in the kernel measured before the
//!   act (IMA, fs-verity) would be one of another file by the time that anybody reads it, and no record carries a measurement yet.
//! - `kubeArmorVersion` is absent: this is not KubeArmor. `oid` has no counterpart here.
//! - `labels`: a comma or a backslash inside a label, and an equals sign inside its key, is written `\xNN`; Kubernetes allows none of them.
//! - `owner` is absent where nothing tells the pod's owner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// See the module. Text fields that KubeArmor omits when empty are omitted, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeArmorFields {
    /// When, seconds since 1970-01-01 UTC.
    pub timestamp: u64,
    /// The same in RFC 3339 with microseconds.
    pub updated_time: String,
    /// The cluster as the node was told.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub cluster_name: String,
    /// The node.
    pub host_name: String,
    /// Says which machine, also after it was renamed.
    #[serde(rename = "nodeID", skip_serializing_if = "String::is_empty", default)]
    pub node_id: String,
    /// The pod's namespace.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub namespace_name: String,
    /// Who owns the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<PodOwner>,
    /// The pod.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub pod_name: String,
    /// `key=value` of each label, by commas.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub labels: String,
    /// The runtime's id.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty", default)]
    pub container_id: String,
    /// Its name in the pod.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub container_name: String,
    /// Its image.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub container_image: String,
    /// Whose process.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub process: Option<KubeArmorProcess>,
    /// By what means; only of alerts.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub enforcer: String,
    /// The policy, or `DefaultPosture`; only of alerts.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub policy_name: String,
    /// 1 to 10, in digits.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub severity: String,
    /// By commas.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub tags: String,
    /// One by one.
    #[serde(default)]
    pub atags: Vec<String>,
    /// The rule's text.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub message: String,
    /// What kind of line this is.
    #[serde(rename = "type")]
    pub line_type: LineType,
    /// The acting command line; for an exec the one that asked for it.
    #[serde(default)]
    pub source: String,
    /// The family of the act in KubeArmor's words.
    pub operation: KubeArmorOperation,
    /// What was acted on.
    #[serde(default)]
    pub resource: String,
    /// `key=value` by spaces: the system call or hook, and its arguments.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub data: String,
    /// The same, whole; keys begin with an upper-case letter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub event_data: BTreeMap<String, String>,
    /// What came of it.
    #[serde(default)]
    pub result: String,
}

/// The acting process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeArmorProcess {
    /// Of the parent, in the host's PID namespace.
    #[serde(rename = "hostPPid")]
    pub host_ppid: u32,
    /// In the host's PID namespace.
    #[serde(rename = "hostPid")]
    pub host_pid: u32,
    /// Of the parent, in the process' own PID namespace; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ppid: Option<u32>,
    /// In its own PID namespace; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Real user, in the initial user namespace.
    pub uid: u32,
    /// The user's name in the container's `/etc/passwd`, or in the host's.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub username: String,
    /// The parent's executable; of an exec the executable that called it.
    pub parent_process_name: String,
    /// The executable; of an exec the file that is executed.
    pub process_name: String,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub cwd: String,
    /// Controlling terminal, such as `pts0`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub tty: String,
    /// The session that entered the container, if the act is of one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exec_event: Option<ExecEvent>,
}

/// A session that entered a container that ran already (`kubectl exec`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecEvent {
    /// Names the session on its node for ever: host process id and start of its first process.
    #[serde(rename = "ExecID")]
    pub exec_id: String,
    /// What its first process executes.
    pub executable_name: String,
}

/// Who owns a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOwner {
    /// Its kind.
    #[serde(rename = "ref")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// The kinds of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LineType {
    /// A container did what a rule or posture forbids or audits.
    MatchedPolicy,
    /// The host did.
    MatchedHostPolicy,
    /// A container did what visibility asked for.
    ContainerLog,
    /// The host did.
    HostLog,
    /// About the alerts themselves.
    SystemEvent,
}

/// KubeArmor's families of acts. Ours that it has no word for are `Syscall`: a system call that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KubeArmorOperation {
    /// Execution.
    Process,
    /// Files.
    File,
    /// Sockets, destinations, DNS.
    Network,
    /// Capabilities.
    Capabilities,
    /// All other system calls.
    Syscall,
    /// USB devices.
    Device,
    /// Alerts of a workload are held back.
    AlertThreshold,
    /// A part of a policy is not held.
    PolicyNotHeld,
}
