//! `selector`: which workloads of a namespace a policy is for.
//!
//! Invariant: everything that a selector says must hold (AND): each label, each expression, the container list. KubeArmor
//! unions its `In` expressions and lets the order of `In` and `NotIn` change the meaning, against its own documentation;
//! here the order is of no account. An empty selector is for the whole namespace, as in KubeArmor.

use std::collections::{BTreeMap, BTreeSet};

use palisade_domain::Workload;

use crate::{
    diagnostic::{Problems, quoted},
    fields::{self, Fields, text_map},
    suggest,
    yaml::Node,
};

/// The label key that names containers instead of a label.
const CONTAINER_KEY: &str = "kubearmor.io/container.name";

/// Which workloads of the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// All of them must be on the workload.
    pub labels: BTreeMap<String, String>,
    /// Names of containers. Empty: all.
    pub containers: BTreeSet<String>,
    /// All of them must hold.
    pub expressions: Vec<LabelExpression>,
}

/// One expression over labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelExpression {
    /// How the workload's labels relate to `labels`.
    pub operator: LabelOperator,
    /// Keys and values.
    pub labels: Vec<(String, String)>,
}

/// How an expression relates to a workload's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelOperator {
    /// The workload has at least one of them.
    In,
    /// The workload has none of them.
    NotIn,
}

impl Selector {
    /// Whether it selects the workload, whose namespace has been compared already.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        (self.containers.is_empty() || self.containers.contains(&workload.container))
            && has_all(workload, &self.labels)
            && self.expressions.iter().all(|expression| expression.holds(workload))
    }
}

impl LabelExpression {
    fn holds(&self, workload: &Workload) -> bool {
        let has_one = self.labels.iter().any(|(key, value)| workload.labels.get(key) == Some(value));
        has_one == (self.operator == LabelOperator::In)
    }
}

/// Whether the workload has all the labels.
pub(crate) fn has_all(workload: &Workload, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
}

/// Reads `spec.selector`.
pub(crate) fn read(spec: &mut Fields<'_>, problems: &mut Problems) -> Selector {
    let mut selector = Selector::default();
    let Some(node) = spec.get("selector") else {
        if spec.has("nodeSelector") {
            // Reported as out of place, which is fault enough.
            return selector;
        }
        let instead = "write `selector: {matchLabels: {}}` if that is meant";
        problems.warning(
            spec.at,
            "`selector` is missing",
            "the policy is for every workload of its namespace",
            instead,
        );
        return selector;
    };
    let Some(mut fields) = Fields::of(node, spec.place_of("selector"), problems) else { return selector };
    if let Some(node) = fields.get("matchLabels") {
        match_labels(node, &fields.place_of("matchLabels"), &mut selector, problems);
    }
    if let Some(node) = fields.get("matchExpressions") {
        let place = fields.place_of("matchExpressions");
        for (index, node) in fields::list(node, &place, problems).iter().enumerate() {
            selector.expressions.extend(expression(node, format!("{place}[{index}]"), problems));
        }
    }
    fields.close(problems);
    selector
}

fn match_labels(node: &Node, place: &str, selector: &mut Selector, problems: &mut Problems) {
    for (key, value) in text_map(node, place, problems) {
        if key.text != CONTAINER_KEY {
            selector.labels.insert(key.text, value);
        } else if let Some(names) = container_names(&value) {
            selector.containers = names;
        } else {
            let what = format!("`{CONTAINER_KEY}` is {}", quoted(&value));
            let why = "containers are listed in brackets, inside quotes";
            let bracketed = format!("\"[{}]\"", value.trim_matches(['[', ']', ' ']));
            problems.error(key.at, what, why, format!("write {}", quoted(&bracketed)));
        }
    }
}

/// `[c1, c2]`; empty text and empty brackets are all containers.
fn container_names(value: &str) -> Option<BTreeSet<String>> {
    let value = value.trim();
    if value.is_empty() {
        return Some(BTreeSet::new());
    }
    let inner = value.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.contains(['[', ']']))
        .then(|| inner.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn expression(node: &Node, place: String, problems: &mut Problems) -> Option<LabelExpression> {
    let mut fields = Fields::of(node, place, problems)?;
    let key = fields.require("key", "write `key: label`", problems);
    let key_is_label = key.is_some_and(|node| check_key(node, &fields.place_of("key"), problems));
    let operator = fields
        .require("operator", "write `operator: In` or `operator: NotIn`", problems)
        .and_then(|node| operator(node, &fields.place_of("operator"), problems));
    let values = fields.require("values", "write `values: [\"app=web\"]`", problems);
    let labels = match values {
        Some(node) if key_is_label => label_values(node, &fields.place_of("values"), problems),
        _ => Vec::new(),
    };
    fields.close(problems);
    (key_is_label && !labels.is_empty()).then_some(())?;
    Some(LabelExpression { operator: operator?, labels })
}

fn check_key(node: &Node, place: &str, problems: &mut Problems) -> bool {
    let Some(key) = fields::text(node, place, problems) else { return false };
    let instead = match key {
        "label" => return true,
        "namespace" => "set `metadata.namespace`; only a KubeArmorClusterPolicy selects namespaces".to_owned(),
        _ => format!("write `key: label` and `values: [{}]`", quoted(&format!("{key}=...")).replace('`', "\"")),
    };
    let why = "in this kind the key is always `label`, and each value is `name=value`";
    problems.error(node.at, format!("{} is {}", quoted(place), quoted(key)), why, instead);
    false
}

fn operator(node: &Node, place: &str, problems: &mut Problems) -> Option<LabelOperator> {
    let written = fields::text(node, place, problems)?;
    match written {
        "In" => return Some(LabelOperator::In),
        "NotIn" => return Some(LabelOperator::NotIn),
        _ => {}
    }
    let instead = match suggest::nearest(written, ["In", "NotIn"]) {
        Some(near) => format!("write `{near}`"),
        None => "write `In` or `NotIn`".to_owned(),
    };
    let what = format!("{} is {}", quoted(place), quoted(written));
    problems.error(node.at, what, "an operator is `In` or `NotIn`", instead);
    None
}

fn label_values(node: &Node, place: &str, problems: &mut Problems) -> Vec<(String, String)> {
    let items = fields::list(node, place, problems);
    if items.is_empty() {
        problems.error(
            node.at,
            format!("{} has no items", quoted(place)),
            "an expression needs at least one",
            "add `- app=web`",
        );
    }
    let mut labels = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("{place}[{index}]");
        let Some(text) = fields::text(item, &place, problems) else { continue };
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                labels.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => {
                let what = format!("{} is {}", quoted(&place), quoted(text));
                problems.error(item.at, what, "a label is written `name=value`", "write both, with `=` between them");
            }
        }
    }
    labels
}
