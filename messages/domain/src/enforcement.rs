//! What a policy asks for, by what means it is held, and what became of an act.

use serde::{Deserialize, Serialize};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Permit, and make the family an allow-list.
    Allow,
    /// Permit, with an alert.
    Audit,
    /// Deny, with an alert.
    Block,
}

/// What happens to what no rule of an allow-listed family names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Posture {
    /// Permit, with an alert.
    #[default]
    Audit,
    /// Deny, with an alert.
    Block,
}

/// What happens to the acts of a container that nobody has admitted, as long as nobody has: it was made while no node ran, or is one that no
/// runtime tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknownWorkload {
    /// Permit, and say nothing.
    Allow,
    /// Permit, with an alert.
    #[default]
    Audit,
    /// Deny, with an alert.
    Block,
}

/// Allow-lists and postures are by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Execution of files.
    Process,
    /// Opening of files.
    File,
    /// Sockets and destinations.
    Network,
    /// Tracing of processes.
    Ptrace,
    /// Use of Linux capabilities.
    Capabilities,
    /// System calls: audited only.
    Syscalls,
    /// Names that are asked for of a DNS server.
    Dns,
    /// Protections by name: [`crate::PolicyKind::KubeArmorPolicy`]'s `presets`.
    Presets,
    /// USB devices of a host.
    Device,
}

/// A means of enforcement, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// A BPF program on an LSM hook denies in the kernel.
    BpfLsm,
    /// The same program denies before the kernel's security function runs (`fmod_ret`), where `bpf` is not an active LSM.
    FmodRet,
    /// The container's AppArmor profile denies in the kernel.
    #[serde(rename = "apparmor")]
    AppArmor,
    /// A constraint on the SELinux user of the container denies in the kernel.
    #[serde(rename = "selinux")]
    SeLinux,
    /// A BPF program on the workload's cgroup denies network acts.
    CgroupBpf,
    /// A responder process denies opens and execs by permission events.
    Fanotify,
    /// The kernel authorizes a USB device before it is used, or does not.
    UsbAuthorization,
    /// The acting process is killed; the act may have begun.
    Kill,
    /// The act is seen, not prevented.
    Audit,
}

impl Tier {
    /// Whether BPF programs judge where the kernel's LSM hooks are: each act once, by its own arguments, before it happens.
    #[must_use]
    pub fn is_by_hooks(self) -> bool {
        matches!(self, Self::BpfLsm | Self::FmodRet)
    }
}

/// What became of an act that a rule forbids or audits: never a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Refused before it took effect.
    Denied,
    /// The process was killed after the act had begun.
    Killed,
    /// It happened, and was seen.
    Observed,
    /// A rule asked for more than this kernel can hold; it happened, and the reason is given.
    Unenforceable,
}
