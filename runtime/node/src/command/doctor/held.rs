//! What a node that runs does not hold, as it says itself: programs that the kernel did not take, and parts of policies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Check, Health};

/// Causes and parts that are named, and of each cause programs and what is lost; all are counted.
const NAMED: usize = 5;

/// By the answers of `/v1/kernel` and `/v1/workloads`; one that did not come says nothing.
pub(super) fn checks(kernel: Option<&Value>, workloads: Option<&Value>) -> Vec<Check> {
    kernel.and_then(programs).into_iter().chain(workloads.and_then(parts)).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn programs(kernel: &Value) -> Option<Check> {
    let refused = kernel["refused"].as_array().filter(|refused| !refused.is_empty())?;
    // A kernel without BTF refuses some eighty for one reason.
    let mut by_reason = BTreeMap::<&str, (BTreeSet<String>, BTreeSet<String>)>::new();
    for one in refused {
        let (programs, lost) = by_reason.entry(text(one, "reason")).or_default();
        programs.insert(text(one, "program").to_owned());
        lost.insert(text(one, "without").to_owned());
    }
    let cause = |(reason, (programs, lost)): (&str, (BTreeSet<String>, BTreeSet<String>))| {
        format!("{} ({reason}; without: {})", listed(&programs, ", "), listed(&lost, ", "))
    };
    let causes: BTreeSet<String> = by_reason.into_iter().map(cause).collect();
    let found = format!("the kernel refused {}: {}", counted(refused.len(), "program"), listed(&causes, "; "));
    let advice =
        "`curl --unix-socket SOCKET http://node/v1/kernel` names all of them; `palisade probe` says what holds instead";
    Some(Check::of("programs", Health::Weak, found, advice))
}

fn parts(workloads: &Value) -> Option<Check> {
    let parts: BTreeSet<String> = workloads["workloads"]
        .as_array()?
        .iter()
        .filter_map(|workload| workload["policy"]["notHeld"].as_array())
        .flatten()
        .map(|part| format!("{} of {}: {}", text(part, "what"), text(part, "policy"), text(part, "reason")))
        .collect();
    if parts.is_empty() {
        return Some(Check::good("rules", "all that policies ask for is held"));
    }
    let found = format!("{} not held: {}", counted(parts.len(), "part of policies"), listed(&parts, "; "));
    let advice = "`palisade policy validate` says it of a policy before it is in force, with each place";
    Some(Check::of("rules", Health::Weak, found, advice))
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.split_once(' ')) {
        (1, _) => format!("1 {what}"),
        (_, Some((first, rest))) => format!("{count} {first}s {rest}"),
        (_, None) => format!("{count} {what}s"),
    }
}

fn listed(items: &BTreeSet<String>, between: &str) -> String {
    let more = items.len().saturating_sub(NAMED);
    let named: Vec<&str> = items.iter().take(NAMED).map(String::as_str).collect();
    let rest = if more > 0 { format!("{between}and {more} more") } else { String::new() };
    named.join(between) + &rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unit_doctor_says_which_programs_a_running_node_does_without_and_why() {
        let refused = |number: usize, reason: &str| json!({"program": format!("p{number}"), "needs": "BTF", "reason": reason, "without": format!("x{}", number % 2)});
        let many: Vec<Value> = (0..7).map(|number| refused(number, "no BTF")).chain([refused(9, "old")]).collect();
        let checks = super::checks(Some(&json!({ "refused": many })), None);
        let [check] = &checks[..] else { panic!("{checks:?}") };
        assert_eq!(check.health, Health::Weak);
        let expected = "the kernel refused 8 programs: p0, p1, p2, p3, p4, and 2 more (no BTF; without: x0, x1); p9 (old; without: x1)";
        assert_eq!(check.found, expected, "each cause once");
        assert!(super::checks(Some(&json!({ "refused": [] })), None).is_empty());
        assert!(super::checks(None, None).is_empty(), "nobody answered");
    }

    #[test]
    fn unit_doctor_says_which_parts_of_policies_a_running_node_does_not_hold() {
        let part = json!({"policy": "KubeArmorPolicy/shop/p", "what": "readOnly", "reason": "opens alone are judged"});
        let held = json!({"policy": {"notHeld": []}});
        let twice = json!({"workloads": [{"policy": {"notHeld": [part, part]}}, {"policy": {"notHeld": [part]}}, {"policy": null}]});
        let checks = super::checks(None, Some(&twice));
        assert_eq!(checks[0].health, Health::Weak);
        assert_eq!(
            checks[0].found,
            "1 part of policies not held: readOnly of KubeArmorPolicy/shop/p: opens alone are judged"
        );
        assert_eq!(super::checks(None, Some(&json!({ "workloads": [held] })))[0].health, Health::Good);
    }
}
