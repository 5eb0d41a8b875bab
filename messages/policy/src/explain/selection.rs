//! Why a policy is for a workload, or is not.

use palisade_domain::{Workload, WorkloadKind};

use crate::{
    node_selector::NodeSelector,
    policy::{Policy, PolicySelector},
    selector::{LabelOperator, Selector, UNTRACKED_NAMESPACES},
};

/// Whether a policy is for a workload, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// It is: everything that it asks for, and how the workload meets it.
    Selected(Vec<String>),
    /// It is not: the first thing that the workload does not meet.
    NotSelected(String),
}

/// Says why; [`Policy::selects`] is whether, and a property holds the two equal.
#[must_use]
pub fn selection(policy: &Policy, workload: &Workload) -> Selection {
    let result = match (&policy.selector, workload.kind) {
        (PolicySelector::Workloads(selector), WorkloadKind::Container) => {
            in_namespace(&policy.reference.namespace, &workload.namespace).and_then(|first| {
                let mut reasons = vec![first];
                reasons.extend(labels_and_containers(selector, workload)?);
                Ok(reasons)
            })
        }
        (PolicySelector::Cluster(selector), WorkloadKind::Container) => namespaces(selector, &workload.namespace)
            .and_then(|mut reasons| {
                reasons.extend(labels_and_containers(selector, workload)?);
                Ok(reasons)
            }),
        (PolicySelector::Hosts(selector), WorkloadKind::Host) => hosts(selector, workload),
        (PolicySelector::Hosts(_), WorkloadKind::Container) => Err("it is for hosts".into()),
        (_, WorkloadKind::Host) => Err("it is for containers".into()),
    };
    match result {
        Ok(reasons) => Selection::Selected(reasons),
        Err(reason) => Selection::NotSelected(reason),
    }
}

type Reasons = Result<Vec<String>, String>;

fn in_namespace(wanted: &str, found: &str) -> Result<String, String> {
    if wanted == found {
        Ok(format!("it is in the namespace {found}"))
    } else {
        Err(format!("it is for the namespace {wanted}"))
    }
}

fn namespaces(selector: &Selector, namespace: &str) -> Reasons {
    let mut reasons = Vec::new();
    for expression in &selector.namespaces {
        let names = expression.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let reason = match (expression.operator, expression.names.contains(namespace)) {
            (LabelOperator::In, true) => format!("the namespace {namespace} is one of {names}"),
            (LabelOperator::NotIn, false) => format!("the namespace {namespace} is none of {names}"),
            (LabelOperator::In, false) => return Err(format!("the namespace is none of {names}")),
            (LabelOperator::NotIn, true) => return Err(format!("it is for namespaces other than {names}")),
        };
        reasons.push(reason);
    }
    if !selector.selects_namespace(namespace) {
        let untracked = UNTRACKED_NAMESPACES.join(" and ");
        return Err(format!("{untracked} are selected only by a policy that names them"));
    }
    if reasons.is_empty() {
        reasons.push("it is for every namespace".into());
    }
    Ok(reasons)
}

fn labels_and_containers(selector: &Selector, workload: &Workload) -> Reasons {
    let mut reasons = labels(selector.labels.iter(), workload)?;
    if !selector.containers.is_empty() {
        let names = selector.containers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !selector.containers.contains(&workload.container) {
            return Err(format!("the container is none of {names}"));
        }
        reasons.push(format!("the container {} is one of {names}", workload.container));
    }
    for expression in &selector.expressions {
        let written: Vec<String> = expression.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let written = written.join(", ");
        let has = |(key, value): &&(String, String)| workload.labels.get(key) == Some(value);
        let reason = match (expression.operator, expression.labels.iter().find(has)) {
            (LabelOperator::In, Some((key, value))) => format!("the label {key}={value} is one of {written}"),
            (LabelOperator::NotIn, None) => format!("it has none of the labels {written}"),
            (LabelOperator::In, None) => return Err(format!("it has none of the labels {written}")),
            (LabelOperator::NotIn, Some((key, value))) => {
                return Err(format!("it has the label {key}={value}, which the policy leaves out"));
            }
        };
        reasons.push(reason);
    }
    Ok(reasons)
}

fn labels<'l>(wanted: impl Iterator<Item = (&'l String, &'l String)>, workload: &Workload) -> Reasons {
    let label = |(key, value): (&String, &String)| match workload.labels.get(key) {
        Some(found) if found == value => Ok(format!("it has the label {key}={value}")),
        Some(found) => Err(format!("its label {key} is {found}, not {value}")),
        None => Err(format!("it has no label {key}={value}")),
    };
    wanted.map(label).collect()
}

fn hosts(selector: &NodeSelector, host: &Workload) -> Reasons {
    let mut reasons = labels(selector.labels.iter(), host)?;
    for alternatives in &selector.names {
        let one = NodeSelector { names: vec![alternatives.clone()], ..NodeSelector::default() };
        let names = alternatives.join(", ");
        if !one.selects(host) {
            return Err(format!("the host's name is none of {names}"));
        }
        reasons.push(format!("the host's name is one of {names}"));
    }
    Ok(reasons)
}
