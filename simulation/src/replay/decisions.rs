//! A decision as the kernel took it, as one line.

use std::sync::Arc;

use palisade_alerts::compose;
use palisade_domain::{UnixNanos, text::lossless};
use palisade_kernel_abi::{blob::Decision, record::Record};
use palisade_policy::ir::Rule;
use serde_json::json;

/// The line; none of a record without a decision. Keys come in the order of their names.
pub(super) fn line(
    record: &Record<'_>,
    time: UnixNanos,
    workload: Option<&str>,
    rule: impl Fn(u32) -> Option<Arc<Rule>>,
) -> Option<String> {
    let taken = record.decision?;
    let decision = Decision::from_word(taken.word);
    let rule = decision.rule.and_then(rule);
    let subject = compose::act(record, 0).map(|act| act.subject);
    let line = json!({
        "time": time.rfc3339(),
        "bootNs": record.header.boot_ns,
        "slot": record.header.slot,
        "workload": workload,
        "pid": record.header.tgid,
        "comm": lossless(record.header.comm_bytes()),
        "operation": subject.as_ref().map(|subject| subject.operation),
        "resource": subject.as_ref().map(|subject| subject.resource.as_str()),
        "family": format!("{:?}", taken.family).to_lowercase(),
        "effect": format!("{:?}", decision.effect).to_lowercase(),
        "byPosture": decision.by_posture,
        "policy": rule.as_ref().map(|rule| rule.policy.to_string()),
        "place": rule.as_ref().map(|rule| rule.place.clone()),
        "generation": taken.generation,
        "number": taken.policy,
        "tier": format!("{:?}", taken.tier).to_lowercase(),
        "outcome": format!("{:?}", taken.outcome).to_lowercase(),
        "failReason": format!("{:?}", taken.fail_reason).to_lowercase(),
    });
    Some(line.to_string())
}
