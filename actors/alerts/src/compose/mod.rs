//! One line from one record: the record's words in the domain's, and in KubeArmor's.

mod act;
mod fields;
mod files;
mod json;
mod kernel;
mod network;

use palisade_domain::{Action, Family, Tier, Verdict};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{self, Body, DecisionTaken, FailReason, Outcome, Record},
};

pub use act::{Act, act};
pub use fields::{Actor, DEFAULT_POSTURE, Decided, DeviceAct, Fields, NodeNames, SELF_PROTECTION};
pub use json::line;

/// What the rule or posture asks for; `None` where it permits, which is no alert.
#[must_use]
pub fn action(decision: Decision) -> Option<Action> {
    match decision.effect {
        Effect::Permit => None,
        Effect::Audit => Some(Action::Audit),
        Effect::Block => Some(Action::Block),
    }
}

/// The record's words in the domain's.
#[must_use]
pub fn tier(tier: record::Tier) -> Tier {
    match tier {
        record::Tier::BpfLsm => Tier::BpfLsm,
        record::Tier::FmodRet => Tier::FmodRet,
        record::Tier::AppArmor => Tier::AppArmor,
        record::Tier::SeLinux => Tier::SeLinux,
        record::Tier::CgroupBpf => Tier::CgroupBpf,
        record::Tier::Fanotify => Tier::Fanotify,
        record::Tier::Kill => Tier::Kill,
        record::Tier::Audit => Tier::Audit,
    }
}

/// The record's words in the domain's.
#[must_use]
pub fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Denied => Verdict::Denied,
        Outcome::Killed => Verdict::Killed,
        Outcome::Observed => Verdict::Observed,
        Outcome::Unenforceable => Verdict::Unenforceable,
    }
}

/// The record's words in the domain's.
#[must_use]
pub fn family(family: record::Family) -> Family {
    match family {
        record::Family::Process => Family::Process,
        record::Family::File => Family::File,
        record::Family::Socket | record::Family::Connect => Family::Network,
        record::Family::Ptrace => Family::Ptrace,
        record::Family::Capability => Family::Capabilities,
        record::Family::Syscall => Family::Syscalls,
        record::Family::Dns => Family::Dns,
        record::Family::Preset => Family::Presets,
    }
}

/// Why not more, or what had already happened; absent where the verdict says all.
#[must_use]
pub fn reason(record: &Record<'_>, decision: &DecisionTaken) -> Option<String> {
    let unnamed = match decision.fail_reason {
        FailReason::None | FailReason::SelfProtection => None,
        FailReason::UnknownMount => Some("the path crosses a mount that the workload did not have at its start"),
        FailReason::PathTooLong => Some("the path is longer than 4,096 bytes"),
        FailReason::TooDeep => Some("the path has more components than are climbed"),
        FailReason::NoScratch => Some("no scratch memory was free in the kernel"),
        FailReason::Unreadable => Some("the question or the arguments are longer than is read, or cannot be"),
    };
    let unnamed = unnamed.map(|what| format!("{what}: the fail mode decided"));
    let happened = match (decision.outcome, &record.body) {
        (Outcome::Killed, Body::Ptrace(_)) => {
            Some("killed at the entry of ptrace(2): a tracer that dies attaches to nothing; no LSM denies it here")
        }
        (Outcome::Killed, Body::Open(open)) if open.result >= 0 => {
            Some("the file was opened (and created, if asked for) before the kill")
        }
        (Outcome::Killed, Body::Connect(_)) => Some("the connection may have been asked for before the kill"),
        (Outcome::Killed, Body::Exec(_)) => Some("the file was executed before the kill"),
        (Outcome::Killed, _) => Some("the act had begun before the kill"),
        (Outcome::Unenforceable, Body::Open(_) | Body::Exec(_)) if record.header.slot == 0 => {
            Some("without a BPF LSM this kernel's means see what the host does, and deny none of it")
        }
        (Outcome::Unenforceable, Body::Open(_)) => {
            Some("this kernel's means sees no open mode before the act: a rule by readOnly is only observed")
        }
        (Outcome::Unenforceable, _) if decision.tier == record::Tier::SeLinux => {
            Some("SELinux, or the task's domain, is permissive: it tells of what it would deny")
        }
        (Outcome::Unenforceable, _) => Some("no means of this kernel holds this rule"),
        _ => None,
    };
    match (unnamed, happened) {
        (None, None) => None,
        (Some(only), None) => Some(only),
        (None, Some(only)) => Some(only.to_owned()),
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
    }
}
