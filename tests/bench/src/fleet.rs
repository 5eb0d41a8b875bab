//! A thousand policies and the workloads that they select, in the shapes that nodes have.
//!
//! *Spread*: each policy selects one of 110 kinds of workload and has five rules, so that a workload has 45. *Hard*: every policy
//! selects every workload and has one rule, so that each has 1,000. A policy is a file of its own, or all are one file.

use std::collections::BTreeMap;

use palisade_domain::{Workload, WorkloadKind};

use crate::rules::{Random, glob, path_matches};

/// Policies of each shape.
pub const POLICIES: usize = 1000;
/// Workloads, and kinds of workload in the spread shape.
pub const WORKLOADS: usize = 110;

const SEED: u64 = 0x5eed_0002;
const NAMESPACE: &str = "bench";

/// Which policies select which workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each policy one kind.
    Spread,
    /// Every policy every workload, which are of the first kind.
    Hard,
}

/// The policies' texts, of which the first is as it stands after `changes` changes.
pub struct Documents {
    shape: Shape,
    patterns: Vec<Vec<String>>,
}

impl Documents {
    /// Of a shape.
    #[must_use]
    pub fn of(shape: Shape) -> Self {
        let rules = if shape == Shape::Spread { 5 } else { 1 };
        let matches: Vec<String> =
            path_matches(POLICIES * rules, &mut Random::from_seed(SEED)).iter().map(glob).collect();
        // By strides: matches come sorted by sort, and each policy has some of each.
        let of_policy = |number: usize| (0..rules).map(|rule| matches[rule * POLICIES + number].clone()).collect();
        Self { shape, patterns: (0..POLICIES).map(of_policy).collect() }
    }

    /// Name and content of each file. Each change gives the first policy another last rule.
    #[must_use]
    pub fn files(&self, changes: usize) -> Vec<(String, String)> {
        let file = |(number, patterns): (usize, &Vec<String>)| {
            let kind = if self.shape == Shape::Spread { number % WORKLOADS } else { 0 };
            let extra = (number == 0).then(|| format!("/etc/extra-{changes}"));
            let patterns: Vec<&str> = patterns.iter().chain(&extra).map(String::as_str).collect();
            (format!("policy-{number}.yaml"), document(&format!("policy-{number}"), kind, &patterns))
        };
        self.patterns.iter().enumerate().map(file).collect()
    }

    /// All of it as one file.
    #[must_use]
    pub fn one_file(&self, changes: usize) -> Vec<(String, String)> {
        vec![("all.yaml".to_owned(), self.files(changes).into_iter().map(|(_, text)| text).collect())]
    }
}

fn document(name: &str, kind: usize, patterns: &[&str]) -> String {
    let rules: String = patterns.iter().map(|pattern| format!("    - pattern: \"{pattern}\"\n")).collect();
    format!(
        "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: {name}, namespace: {NAMESPACE} }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: kind-{kind} }} }}\n  file:\n    matchPatterns:\n{rules}  action: Block\n"
    )
}

/// As many workloads, of as many kinds by turns. Each has a label of its own, as pods have.
#[must_use]
pub fn workloads(count: usize, kinds: usize) -> Vec<Workload> {
    let workload = |number: usize| {
        let labels = [("app", format!("kind-{}", number % kinds)), ("pod", format!("pod-{number}"))];
        Workload {
            kind: WorkloadKind::Container,
            name: format!("pod-{number}"),
            namespace: NAMESPACE.to_owned(),
            container: "main".to_owned(),
            container_id: None,
            image: String::new(),
            labels: BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value))),
        }
    };
    (0..count).map(workload).collect()
}
