//! `selector`: which workloads of a namespace a policy is for.
//!
//! Invariant: everything that a selector says must hold (AND): each label, each expression, the container list. KubeArmor
//! unions its `In` expressions and lets the order of `In` and `NotIn` change the meaning, against its own documentation;
//! here the order is of no account. An empty selector is for the whole namespace, as in KubeArmor; an empty one of a cluster policy for
//! all namespaces but [`UNTRACKED_NAMESPACES`].
//!
//! Containers are listed in brackets (`[web, log]`). Decision: one name without them is taken too, and `.*` for all, because KubeArmor
//! outside Kubernetes has them so; there the name is a regular expression that may hit other containers as well, here it is that one
//! container's, which is warned of. (KubeArmor in Kubernetes cuts the first and the last letter off.) Any other expression is refused.

use std::collections::{BTreeMap, BTreeSet};

use palisade_domain::Workload;

use crate::{
    diagnostic::{Problems, quoted},
    fields::{self, Fields, text_map},
    metadata, suggest,
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
    /// All of them must hold; only a KubeArmorClusterPolicy has any.
    pub namespaces: Vec<NamespaceExpression>,
}

/// One expression over the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceExpression {
    /// How the workload's namespace relates to `names`.
    pub operator: LabelOperator,
    /// Names of namespaces.
    pub names: BTreeSet<String>,
}

/// Namespaces that a cluster policy is for only where it names them: KubeArmor's own default of namespaces that it leaves alone. What
/// Kubernetes itself runs on is not held by "everything".
pub const UNTRACKED_NAMESPACES: [&str; 2] = ["kube-system", "kubearmor"];

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
    /// Whether it selects a namespace: by each of its expressions, and one of [`UNTRACKED_NAMESPACES`] only by its name.
    #[must_use]
    pub fn selects_namespace(&self, namespace: &str) -> bool {
        let holds = |expression: &NamespaceExpression| {
            expression.names.contains(namespace) == (expression.operator == LabelOperator::In)
        };
        let is_named = self.namespaces.iter().any(|expression| expression.operator == LabelOperator::In);
        self.namespaces.iter().all(holds) && (is_named || !UNTRACKED_NAMESPACES.contains(&namespace))
    }

    /// The namespaces that its `In` expressions name, sorted, each once.
    pub(crate) fn named_namespaces(&self) -> Vec<String> {
        let named = self.namespaces.iter().filter(|expression| expression.operator == LabelOperator::In);
        named.flat_map(|expression| &expression.names).cloned().collect::<BTreeSet<String>>().into_iter().collect()
    }

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

/// Reads the `spec.selector` of a cluster policy: expressions only.
pub(crate) fn read_of_cluster(spec: &mut Fields<'_>, problems: &mut Problems) -> Selector {
    let mut selector = Selector::default();
    let Some(node) = spec.get("selector") else {
        if !spec.has("nodeSelector") {
            let why = "the policy is for every workload of every namespace but those that KubeArmor leaves alone";
            let instead = "write `selector: {matchExpressions: []}` if that is meant";
            problems.warning(spec.at, "`selector` is missing", why, instead);
        }
        return selector;
    };
    let Some(mut fields) = Fields::of(node, spec.place_of("selector"), problems) else { return selector };
    let instead = "write `- {key: label, operator: In, values: [app=web]}` below `matchExpressions`";
    fields.refuse_misplaced("matchLabels", "a cluster policy selects by expressions", instead, problems);
    if let Some(node) = fields.get("matchExpressions") {
        let place = fields.place_of("matchExpressions");
        for (index, node) in fields::list(node, &place, problems).iter().enumerate() {
            match expression(node, format!("{place}[{index}]"), true, problems) {
                Some(Expression::Labels(labels)) => selector.expressions.push(labels),
                Some(Expression::Namespaces(namespaces)) => selector.namespaces.push(namespaces),
                None => {}
            }
        }
    }
    fields.close(problems);
    selector
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
            if let Some(Expression::Labels(labels)) = expression(node, format!("{place}[{index}]"), false, problems) {
                selector.expressions.push(labels);
            }
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
        } else if let Some(name) = one_container(&value) {
            let what = format!("`{CONTAINER_KEY}` is {}", quoted(&value));
            let why = "it is the container of exactly this name; KubeArmor takes it for a regular expression, or cuts its ends off";
            let instead = format!("write {}", quoted(&format!("\"[{name}]\"")));
            problems.warning(key.at, what, why, instead);
            selector.containers = BTreeSet::from([name.to_owned()]);
        } else {
            let what = format!("`{CONTAINER_KEY}` is {}", quoted(&value));
            let why = "containers are listed in brackets, inside quotes, and their names compared exactly";
            let bracketed = format!("\"[{}]\"", value.trim_matches(['[', ']', ' ']));
            let is_list = container_names(bracketed.trim_matches('"')).is_some();
            let meant = if is_list { bracketed.as_str() } else { "\"[web, log]\"" };
            problems.error(key.at, what, why, format!("write {}", quoted(meant)));
        }
    }
}

/// A name without brackets, if it can be nothing else.
fn one_container(value: &str) -> Option<&str> {
    // A dot is any sign to KubeArmor.
    Some(value.trim()).filter(|name| is_container_name(name) && !name.contains('.'))
}

/// As Kubernetes and Docker name containers; nothing else is ever compared equal.
fn is_container_name(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(is_sign)
}

/// `[c1, c2]`; empty text, empty brackets, `*` and `.*` are all containers.
fn container_names(value: &str) -> Option<BTreeSet<String>> {
    let value = value.trim();
    if matches!(value, "" | "*" | ".*") {
        return Some(BTreeSet::new());
    }
    let inner = value.strip_prefix('[')?.strip_suffix(']')?;
    let mut names = inner.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.clone().all(is_container_name).then(|| names.by_ref().map(str::to_owned).collect())
}

enum Expression {
    Labels(LabelExpression),
    Namespaces(NamespaceExpression),
}

fn expression(node: &Node, place: String, of_cluster: bool, problems: &mut Problems) -> Option<Expression> {
    let mut fields = Fields::of(node, place, problems)?;
    let key = fields.require("key", "write `key: label`", problems);
    let written = key.and_then(|node| match &node.value {
        crate::yaml::Value::Scalar { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let key_is_namespace = of_cluster && written == Some("namespace");
    let key_is_label =
        !key_is_namespace && key.is_some_and(|node| check_key(node, &fields.place_of("key"), of_cluster, problems));
    let operator = fields
        .require("operator", "write `operator: In` or `operator: NotIn`", problems)
        .and_then(|node| operator(node, &fields.place_of("operator"), problems));
    let values = fields.require("values", "write `values: [\"app=web\"]`", problems);
    let place = fields.place_of("values");
    fields.close(problems);
    if key_is_namespace {
        let names = values.map(|node| namespace_values(node, &place, problems)).unwrap_or_default();
        return (!names.is_empty())
            .then_some(Expression::Namespaces(NamespaceExpression { operator: operator?, names }));
    }
    let labels = values.filter(|_| key_is_label).map(|node| label_values(node, &place, problems)).unwrap_or_default();
    (key_is_label && !labels.is_empty()).then_some(())?;
    Some(Expression::Labels(LabelExpression { operator: operator?, labels }))
}

fn namespace_values(node: &Node, place: &str, problems: &mut Problems) -> BTreeSet<String> {
    let items = fields::list(node, place, problems);
    if items.is_empty() {
        no_items(node, place, "add `- shop`", problems);
    }
    let mut names = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("{place}[{index}]");
        names.extend(metadata::namespace_name(item, &place, problems));
    }
    names
}

fn check_key(node: &Node, place: &str, of_cluster: bool, problems: &mut Problems) -> bool {
    let Some(key) = fields::text(node, place, problems) else { return false };
    if of_cluster && key != "label" {
        let why = "in this kind the key is `namespace` or `label`";
        let instead = match suggest::nearest(key, ["namespace", "label"]) {
            Some(near) => format!("write `{near}`"),
            None => format!("write `key: label` and `values: [{}]`", quoted(&format!("{key}=...")).replace('`', "\"")),
        };
        problems.error(node.at, format!("{} is {}", quoted(place), quoted(key)), why, instead);
        return false;
    }
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

fn no_items(node: &Node, place: &str, instead: &str, problems: &mut Problems) {
    if matches!(node.value, crate::yaml::Value::Sequence(_)) {
        let what = format!("{} has no items", quoted(place));
        problems.error(node.at, what, "an expression needs at least one", instead);
    }
}

fn label_values(node: &Node, place: &str, problems: &mut Problems) -> Vec<(String, String)> {
    let items = fields::list(node, place, problems);
    if items.is_empty() {
        no_items(node, place, "add `- app=web`", problems);
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
