//! `nodeSelector`: which hosts a host policy is for.
//!
//! `kubearmor.io/hostname` and `kubernetes.io/hostname` take one name, a comma list, or `*`; the `hostnamereg` keys take
//! names with `*` for any characters. Decision: a pattern is held against the whole name, and regular expressions beyond
//! `*` are refused; KubeArmor hands the rest to an unanchored regular expression, so that its `node-1` also hits `node-10`.
//! A host's name is its hostname label, or the workload's name where it has none. All keys must hold.

use std::collections::BTreeMap;

use palisade_domain::Workload;

use crate::{
    diagnostic::{Problems, quoted},
    fields::{Fields, text_map},
    selector::has_all,
    yaml::Key,
};

const NAME_KEYS: [&str; 2] = ["kubearmor.io/hostname", "kubernetes.io/hostname"];
const PATTERN_KEYS: [&str; 2] = ["kubearmor.io/hostnamereg", "kubernetes.io/hostnamereg"];

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeSelector {
    /// All of them must be on the host.
    pub labels: BTreeMap<String, String>,
    /// For each key that speaks of the host's name, the names and patterns of which one must match; `*` is any characters.
    pub names: Vec<Vec<String>>,
}

impl NodeSelector {
    /// Whether it selects the host.
    #[must_use]
    pub fn selects(&self, host: &Workload) -> bool {
        let name = NAME_KEYS.iter().find_map(|key| host.labels.get(*key)).unwrap_or(&host.name);
        has_all(host, &self.labels)
            && self.names.iter().all(|alternatives| alternatives.iter().any(|pattern| wildcard(pattern, name)))
    }
}

/// Whether the whole name matches, `*` standing for any characters. Linear but for the last `*`: greedy parts never need to go back further.
fn wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    true
}

/// Reads `spec.nodeSelector`.
pub(crate) fn read(spec: &mut Fields<'_>, problems: &mut Problems) -> NodeSelector {
    let mut selector = NodeSelector::default();
    if spec.has("selector") && !spec.has("nodeSelector") {
        // Reported as out of place, which is fault enough.
        return selector;
    }
    let instead = "write `nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}`, or the host's name for `*`";
    let Some(node) = spec.require("nodeSelector", instead, problems) else { return selector };
    let Some(mut fields) = Fields::of(node, spec.place_of("nodeSelector"), problems) else { return selector };
    if let Some(node) = fields.require("matchLabels", instead, problems) {
        let entries = text_map(node, &fields.place_of("matchLabels"), problems);
        if entries.is_empty() && matches!(&node.value, crate::yaml::Value::Mapping(entries) if entries.is_empty()) {
            let what = "`spec.nodeSelector.matchLabels` is empty";
            problems.error(
                node.at,
                what,
                "a host policy names its hosts",
                "write `kubernetes.io/hostname: \"*\"` for all",
            );
        }
        for (key, value) in entries {
            label(&key, value, &mut selector, problems);
        }
    }
    fields.close(problems);
    selector
}

fn label(key: &Key, value: String, selector: &mut NodeSelector, problems: &mut Problems) {
    let is_name = NAME_KEYS.contains(&key.text.as_str());
    if !is_name && !PATTERN_KEYS.contains(&key.text.as_str()) {
        selector.labels.insert(key.text.clone(), value);
        return;
    }
    let alternatives: Vec<String> =
        value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let what = format!("{} is {}", quoted(&key.text), quoted(&value));
    if alternatives.is_empty() {
        problems.error(key.at, what, "it names no host", "write a host's name, several with commas, or `\"*\"`");
    } else if is_name && alternatives.iter().any(|name| name != "*" && name.contains('*')) {
        let instead = format!("write the key {}", quoted(&format!("{}reg", key.text)));
        problems.error(key.at, what, "host names are compared exactly here, only `*` alone is all hosts", instead);
    } else if value.contains(|c: char| !(c.is_alphanumeric() || matches!(c, '*' | ',' | '-' | '.' | '_' | ' '))) {
        let why = "host names have letters, digits, `-`, `.` and `_`, and patterns `*` besides";
        problems.error(key.at, what, why, "write `*` for any characters, and a comma between alternatives");
    } else {
        selector.names.push(alternatives);
    }
}
