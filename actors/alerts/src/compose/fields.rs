//! KubeArmor's fields of a line.

use std::{borrow::Cow, collections::BTreeMap};

use palisade_domain::{
    AlertRule, DeviceClass, ExecEvent, KubeArmorFields, KubeArmorOperation, KubeArmorProcess, LineType, Operation,
    Tier, UnixNanos, UsbDevice, Verdict, Workload, WorkloadKind,
};
use palisade_kernel_abi::record::{Body, Header, Record};

use super::Act;
use crate::{names, processes::Identity};

/// The name of alerts that no rule but a posture made.
pub const DEFAULT_POSTURE: &str = "DefaultPosture";

/// The name of alerts about acts against Palisade itself, which no policy decides.
pub const SELF_PROTECTION: &str = "PalisadeSelfProtection";

/// Errors by which the tiers deny.
const EPERM: i64 = 1;
const EACCES: i64 = 13;
/// [`EACCES`], in KubeArmor's words of a device that is not authorized.
const PERMISSION_DENIED: i32 = 13;
/// As KubeArmor calls who authorizes devices.
const USB_ENFORCER: &str = "USBDeviceHandler";

/// The node as KubeArmor's lines name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeNames {
    /// The cluster.
    pub cluster: String,
    /// The host.
    pub node: String,
    /// Which machine.
    pub node_id: String,
}

/// What the fields are made of.
#[derive(Debug)]
pub struct Fields<'a> {
    /// The node.
    pub node: &'a NodeNames,
    /// When.
    pub time: UnixNanos,
    /// Who; `None` where the slot has no name.
    pub workload: Option<&'a Workload>,
    /// Its labels as KubeArmor writes them.
    pub labels: &'a str,
    /// Whether it is the host, which has slot 0 whatever it is called.
    pub host: bool,
}

impl Fields<'_> {
    /// Those that say where and when.
    fn place(&self, line_type: LineType, operation: KubeArmorOperation) -> KubeArmorFields {
        let container = self.workload.filter(|workload| workload.kind == WorkloadKind::Container);
        let of = |text: fn(&Workload) -> &str| container.map(|workload| text(workload).to_owned()).unwrap_or_default();
        KubeArmorFields {
            timestamp: self.time.0 / 1_000_000_000,
            updated_time: self.time.rfc3339(),
            cluster_name: self.node.cluster.clone(),
            host_name: self.node.node.clone(),
            node_id: self.node.node_id.clone(),
            namespace_name: of(|workload| &workload.namespace),
            owner: None,
            pod_name: of(|workload| &workload.name),
            labels: self.labels.to_owned(),
            container_id: of(|workload| workload.container_id.as_ref().map_or("", |id| &id.0)),
            container_name: of(|workload| &workload.container),
            container_image: of(|workload| &workload.image),
            process: None,
            enforcer: String::new(),
            policy_name: String::new(),
            severity: String::new(),
            tags: String::new(),
            atags: Vec::new(),
            message: String::new(),
            line_type,
            source: String::new(),
            operation,
            resource: String::new(),
            data: String::new(),
            event_data: BTreeMap::new(),
            result: String::new(),
        }
    }

    /// Those of an alert: the act is the rule's and the verdict's, so `resource` is without arguments, as KubeArmor's enforcer has it.
    #[must_use]
    pub fn alert(&self, record: &Record<'_>, act: &Act, actor: Actor, decided: &Decided<'_>) -> KubeArmorFields {
        let Decided { verdict, tier, rule, by_posture } = *decided;
        let line_type = if self.host { LineType::MatchedHostPolicy } else { LineType::MatchedPolicy };
        let mut fields = self.place(line_type, decided_operation(record, act));
        enforcer(tier).clone_into(&mut fields.enforcer);
        name_rule(&mut fields, rule, by_posture);
        fields.result = match verdict {
            Verdict::Killed => "Killed".to_owned(),
            Verdict::Denied => names::error(denied_by(record, act, tier)),
            Verdict::Observed | Verdict::Unenforceable => result(act),
        };
        let exec = act.subject.operation == Operation::Exec;
        fields.resource = if exec { act.subject.resource.clone() } else { act.resource.clone() };
        let hook = hook(tier, act.subject.operation, maps_code(record));
        let details = act.details.iter().map(|(key, value)| match (*key, &hook) {
            // An LSM hook or a permission event is no system call: it says what it was.
            ("syscall", Some((key, hook))) => (*key, Cow::Borrowed(*hook)),
            (key, _) => (key, Cow::Borrowed(value.as_str())),
        });
        (fields.data, fields.event_data) = data(details);
        actor.put(&record.header, act, &mut fields);
        fields
    }

    /// Those of an alert about a device of the host.
    #[must_use]
    pub fn device(&self, act: &DeviceAct<'_>, rule: Option<&AlertRule>) -> KubeArmorFields {
        let DeviceAct { device, class, verdict, by_posture } = *act;
        let mut fields = self.place(LineType::MatchedHostPolicy, KubeArmorOperation::Device);
        USB_ENFORCER.clone_into(&mut fields.enforcer);
        name_rule(&mut fields, rule, by_posture);
        fields.result = if verdict == Verdict::Denied { names::error(PERMISSION_DENIED) } else { "Passed".to_owned() };
        fields.resource = class.to_string();
        let number = |number: u8| Cow::Owned(number.to_string());
        let details = [
            ("Class", number(class.class)),
            ("SubClass", number(class.sub_class)),
            ("Protocol", number(class.protocol)),
            ("Level", Cow::Owned(device.level().to_string())),
            ("SysPath", Cow::Owned(format!("/sys/bus/usb/devices/{}", device.name))),
        ];
        (fields.data, fields.event_data) = data(details.into_iter());
        fields
    }

    /// Those of a log.
    #[must_use]
    pub fn log(&self, record: &Record<'_>, act: &Act, actor: Actor) -> KubeArmorFields {
        let line_type = if self.host { LineType::HostLog } else { LineType::ContainerLog };
        let mut fields = self.place(line_type, act.operation);
        fields.result = result(act);
        fields.resource.clone_from(&act.resource);
        let details = act.details.iter().map(|(key, value)| (*key, Cow::Borrowed(value.as_str())));
        (fields.data, fields.event_data) = data(details);
        actor.put(&record.header, act, &mut fields);
        fields
    }

    /// Those of a line about alerts that are held back.
    #[must_use]
    pub fn threshold(&self, message: String) -> KubeArmorFields {
        let mut fields = self.place(LineType::SystemEvent, KubeArmorOperation::AlertThreshold);
        fields.message = message;
        fields
    }

    /// Those of a line about a part of a policy that is not held.
    #[must_use]
    pub fn not_held(&self, policy_name: String, message: String) -> KubeArmorFields {
        let mut fields = self.place(LineType::SystemEvent, KubeArmorOperation::PolicyNotHeld);
        (fields.policy_name, fields.message) = (policy_name, message);
        fields
    }
}

fn name_rule(fields: &mut KubeArmorFields, rule: Option<&AlertRule>, by_posture: bool) {
    match rule {
        Some(rule) => {
            rule.policy_name.clone_into(&mut fields.policy_name);
            fields.severity = rule.severity.map(|severity| severity.to_string()).unwrap_or_default();
            fields.tags = rule.tags.join(",");
            rule.tags.clone_into(&mut fields.atags);
            fields.message = rule.message.clone().unwrap_or_default();
        }
        None if by_posture => DEFAULT_POSTURE.clone_into(&mut fields.policy_name),
        None => {}
    }
}

/// What became of a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceAct<'a> {
    /// Which.
    pub device: &'a UsbDevice,
    /// For which of the things that it is it was decided.
    pub class: DeviceClass,
    /// What became of it.
    pub verdict: Verdict,
    /// By no rule but the posture.
    pub by_posture: bool,
}

/// What was decided about an act.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    /// What became of it.
    pub verdict: Verdict,
    /// By what means.
    pub tier: Tier,
    /// By which rule, where that is known.
    pub rule: Option<&'a AlertRule>,
    /// By no rule but the posture.
    pub by_posture: bool,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor {
    /// What is known of it.
    pub identity: Identity,
    /// The acting command line; for an exec the one that asked for it.
    pub source: String,
    /// Its executable; empty where not known.
    pub executable: String,
    /// The parent's executable.
    pub parent_executable: String,
    /// The user's name, where known.
    pub username: String,
}

impl Actor {
    fn put(self, header: &Header, act: &Act, fields: &mut KubeArmorFields) {
        fields.source = self.source;
        if header.tgid == 0 {
            // Nobody knows which process it was of.
            return;
        }
        let exec = act.subject.operation == Operation::Exec;
        let (process_name, parent_process_name) = if exec {
            (act.subject.resource.clone(), self.executable)
        } else {
            (self.executable, self.parent_executable)
        };
        let session = self.identity.session;
        fields.process = Some(KubeArmorProcess {
            host_ppid: header.parent_tgid,
            host_pid: header.tgid,
            ppid: self.identity.own_parent_pid,
            pid: self.identity.own_pid,
            uid: header.uid,
            username: self.username,
            parent_process_name,
            process_name,
            cwd: self.identity.cwd,
            tty: names::terminal(self.identity.tty),
            exec_event: session.map(|(exec_id, executable_name)| ExecEvent { exec_id, executable_name }),
        });
    }
}

fn enforcer(tier: Tier) -> &'static str {
    match tier {
        Tier::BpfLsm => "BPFLSM",
        Tier::FmodRet => "FmodRet",
        Tier::AppArmor => "AppArmor",
        Tier::SeLinux => "SELinux",
        Tier::CgroupBpf => "CgroupBPF",
        Tier::Fanotify => "Fanotify",
        Tier::UsbAuthorization => USB_ENFORCER,
        Tier::Kill => "Kill",
        Tier::Audit => "eBPF Monitor",
    }
}

/// What file rules decide is a file's matter, whatever the call: a mount hides one.
fn decided_operation(record: &Record<'_>, act: &Act) -> KubeArmorOperation {
    let by_file_rules =
        record.decision.is_some_and(|decision| decision.family == palisade_kernel_abi::record::Family::File);
    if by_file_rules { KubeArmorOperation::File } else { act.operation }
}

/// Code was mapped from the file, which nobody executed by its name.
fn maps_code(record: &Record<'_>) -> bool {
    matches!(record.body, Body::Exec(_)) && record.header.call.is_some()
}

/// What decided, where it was no system call's tracepoint; KubeArmor's names where it has them.
fn hook(tier: Tier, operation: Operation, maps_code: bool) -> Option<(&'static str, &'static str)> {
    let lsm = match operation {
        Operation::Exec if maps_code => "MMAP_FILE",
        Operation::Exec => "SECURITY_BPRM_CHECK",
        Operation::Open => "FILE_OPEN",
        Operation::Create => "PATH_MKNOD",
        Operation::Unlink => "PATH_UNLINK",
        Operation::Rmdir => "PATH_RMDIR",
        Operation::Rename => "PATH_RENAME",
        Operation::Link => "PATH_LINK",
        Operation::Symlink => "PATH_SYMLINK",
        Operation::Mkdir => "PATH_MKDIR",
        Operation::Mknod => "PATH_MKNOD",
        Operation::Chmod => "PATH_CHMOD",
        Operation::Chown => "PATH_CHOWN",
        Operation::Truncate => "PATH_TRUNCATE",
        Operation::SetXattr => "INODE_SETXATTR",
        Operation::RemoveXattr => "INODE_REMOVEXATTR",
        Operation::Write => "FILE_PERMISSION",
        Operation::MapWrite => "MMAP_FILE",
        Operation::Mount => "SB_MOUNT",
        Operation::Umount => "SB_UMOUNT",
        Operation::PivotRoot => "SB_PIVOTROOT",
        Operation::MoveMount => "MOVE_MOUNT",
        Operation::Socket => "SOCKET_CREATE",
        Operation::Connect => "SOCKET_CONNECT",
        Operation::Bind => "SOCKET_BIND",
        Operation::Listen => "SOCKET_LISTEN",
        Operation::Accept => "SOCKET_ACCEPT",
        Operation::Send => "SOCKET_SENDMSG",
        Operation::Ptrace => "PTRACE_ACCESS_CHECK",
        Operation::Capable => "CAPABLE",
        Operation::Kill => "TASK_KILL",
        Operation::Bpf => "BPF",
        _ => return None,
    };
    match (tier, operation) {
        (Tier::BpfLsm | Tier::FmodRet, _) => Some(("lsm", lsm)),
        (Tier::CgroupBpf, Operation::Socket) => Some(("cgroup", "SOCK_CREATE")),
        (Tier::CgroupBpf, Operation::Connect) => Some(("cgroup", "CONNECT")),
        (Tier::CgroupBpf, Operation::Send) => Some(("cgroup", "SENDMSG")),
        (Tier::Fanotify, Operation::Exec) => Some(("fanotify", "OPEN_EXEC_PERM")),
        (Tier::Fanotify, Operation::Open) => Some(("fanotify", "OPEN_PERM")),
        _ => None,
    }
}

/// The error that the caller got: what the record says, or else what the tier's programs return.
fn denied_by(record: &Record<'_>, act: &Act, tier: Tier) -> i32 {
    let told = act.result.filter(|result| (-4095..0).contains(result)).map(|result| -result);
    let returned = match (tier, &record.body) {
        (Tier::BpfLsm | Tier::FmodRet, Body::Exec(_) | Body::Open(_) | Body::Socket(_)) => EACCES,
        // Whatever it denies; who asks for a capability gives the error of its own, and the record has it.
        (Tier::SeLinux, _) => EACCES,
        _ => EPERM,
    };
    i32::try_from(told.unwrap_or(returned)).unwrap_or_default()
}

fn result(act: &Act) -> String {
    match act.result {
        Some(result @ -4095..0) => names::error(i32::try_from(-result).unwrap_or_default()),
        _ => "Passed".to_owned(),
    }
}

/// `key=value` by spaces, and the same as a map whose keys begin with an upper-case letter.
fn data<'a>(details: impl Iterator<Item = (&'static str, Cow<'a, str>)>) -> (String, BTreeMap<String, String>) {
    let (mut text, mut map) = (String::new(), BTreeMap::new());
    for (key, value) in details {
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(key);
        text.push('=');
        push_word(&value, &mut text);
        let mut letters = key.chars();
        let key = letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str());
        map.insert(key.unwrap_or_default(), value.into_owned());
    }
    (text, map)
}

/// A value that no splitting by spaces takes apart: whitespace, controls and backslashes are written by the bytes of their UTF-8.
fn push_word(value: &str, text: &mut String) {
    use std::fmt::Write as _;
    for c in value.chars() {
        if c.is_whitespace() || c.is_control() || c == '\\' {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        } else {
            text.push(c);
        }
    }
}
