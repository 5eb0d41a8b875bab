//! One alert from one record.

use std::net::IpAddr;

use palisade_domain::{Action, Alert, Family, Operation, Subject, Tier, Verdict};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{self, Body, DecisionTaken, FailReason, Outcome, Record, Text},
};

use crate::processes::text;

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
    }
}

/// What was done, and to what; `None` for records of which no alert is made.
#[must_use]
pub fn subject(body: &Body<'_>) -> Option<Subject> {
    let path = |operation, path: &Text<'_>| Subject { operation, resource: text(path.bytes), resource_cut: path.cut };
    let plain = |operation, resource| Subject { operation, resource, resource_cut: false };
    Some(match body {
        Body::Exec(exec) => path(Operation::Exec, &exec.path),
        Body::Open(open) => path(Operation::Open, &open.path),
        Body::Socket(network) => plain(Operation::Socket, socket(network)),
        Body::Connect(network) => plain(Operation::Connect, endpoint(network)),
        Body::Ptrace(ptrace) => Subject {
            operation: Operation::Ptrace,
            resource: format!("pid {} ({})", ptrace.target_tgid, text(ptrace.target_exe.bytes)),
            resource_cut: ptrace.target_exe.cut,
        },
        // No rule decides about the others yet.
        _ => return None,
    })
}

fn socket(network: &record::Network) -> String {
    format!("domain {} type {} protocol {}", network.domain, network.socket_type, network.protocol)
}

fn endpoint(network: &record::Network) -> String {
    let transport = match network.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        0 if network.socket_type == 1 => "tcp".to_owned(),
        0 if network.socket_type == 2 => "udp".to_owned(),
        other => format!("protocol {other}"),
    };
    match network.destination {
        Some((IpAddr::V4(address), port)) => format!("{transport} {address}:{port}"),
        Some((IpAddr::V6(address), port)) => format!("{transport} [{address}]:{port}"),
        None => socket(network),
    }
}

/// Why not more, or what had already happened; absent where the verdict says all.
#[must_use]
pub fn reason(record: &Record<'_>, decision: &DecisionTaken) -> Option<String> {
    let unnamed = match decision.fail_reason {
        FailReason::None => None,
        FailReason::UnknownMount => Some("the path crosses a mount that the workload did not have at its start"),
        FailReason::PathTooLong => Some("the path is longer than 4,096 bytes"),
        FailReason::TooDeep => Some("the path has more components than are climbed"),
        FailReason::NoScratch => Some("no scratch memory was free in the kernel"),
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
        (Outcome::Unenforceable, Body::Open(_)) => {
            Some("this kernel's means sees no open mode before the act: a rule by readOnly is only observed")
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

/// Serialises an alert as one JSON line into `lines`.
pub fn line(alert: &Alert) -> String {
    let mut line = serde_json::to_string(alert).expect("an alert has only strings, numbers and lists");
    line.push('\n');
    line
}
