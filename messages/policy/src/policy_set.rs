//! All policies in force, and what they say for one workload.
//!
//! Invariant: a set depends on the files' names and contents, not on the order in which they are given: policies are kept
//! in the order of kind, namespace and name, and of a policy (or a namespace) that is defined twice the one of the first file by name stays.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use palisade_domain::{PolicyKind, PolicyRef, Visibility, Workload, WorkloadKind, text::printable};

use crate::{
    diagnostic::{Diagnostic, Position, Severity, quoted},
    given_out::GivenOut,
    ir::{Postures, WorkloadRules},
    namespace::Namespace,
    policy::{Policy, PolicySelector},
    policy_file::PolicyFile,
    postures,
};

/// Policies that hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySet {
    policies: BTreeMap<Arc<PolicyRef>, Arc<Policy>>,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    /// Policies for workloads, by namespace, each list in the order of `policies`.
    by_namespace: BTreeMap<String, Vec<Arc<Policy>>>,
    /// Policies for workloads of many namespaces, in the order of `policies`.
    for_cluster: Vec<Arc<Policy>>,
    /// Policies for hosts, in the order of `policies`.
    for_hosts: Vec<Arc<Policy>>,
    given_out: GivenOut,
}

impl PolicySet {
    /// All or nothing: the set of all documents in the files (name, bytes).
    ///
    /// # Errors
    /// Every diagnostic of every file, warnings included, if any document is refused.
    pub fn parse<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Result<Self, Vec<Diagnostic>> {
        let (set, diagnostics) = Self::parse_good(files);
        if diagnostics.iter().any(|diagnostic| diagnostic.severity.refuses()) { Err(diagnostics) } else { Ok(set) }
    }

    /// What is good: the set of all documents that are not refused, and every diagnostic of every file.
    pub fn parse_good<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> (Self, Vec<Diagnostic>) {
        let files: Vec<PolicyFile> = files.into_iter().map(|(name, bytes)| PolicyFile::parse(name, bytes)).collect();
        let (set, duplicates) = Self::assemble(&files);
        let mut files: Vec<PolicyFile> = files;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut diagnostics: Vec<Diagnostic> = files.into_iter().flat_map(|file| file.diagnostics).collect();
        diagnostics.extend(duplicates);
        (set, diagnostics)
    }

    /// The set of the files' good documents; a diagnostic for each that another one of the same kind, namespace and name precedes.
    pub fn assemble<'f>(files: impl IntoIterator<Item = &'f PolicyFile>) -> (Self, Vec<Diagnostic>) {
        let mut files: Vec<&PolicyFile> = files.into_iter().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut policies: BTreeMap<Arc<PolicyRef>, Arc<Policy>> = BTreeMap::new();
        let mut namespaces: BTreeMap<String, Arc<Namespace>> = BTreeMap::new();
        let mut duplicates = Vec::new();
        for policy in files.iter().flat_map(|file| &file.policies) {
            match policies.entry(Arc::clone(&policy.reference)) {
                Entry::Vacant(free) => drop(free.insert(Arc::clone(policy))),
                Entry::Occupied(taken) => {
                    let first = (&taken.get().file, taken.get().at);
                    duplicates.push(duplicate(&policy.reference.to_string(), (&policy.file, policy.at), first));
                }
            }
        }
        for namespace in files.iter().flat_map(|file| &file.namespaces) {
            match namespaces.entry(namespace.name.clone()) {
                Entry::Vacant(free) => drop(free.insert(Arc::clone(namespace))),
                Entry::Occupied(taken) => {
                    let Namespace { name, file_name, at, .. } = &**namespace;
                    let first = (&taken.get().file_name, taken.get().at);
                    duplicates.push(duplicate(&format!("Namespace/{name}"), (file_name, *at), first));
                }
            }
        }
        (Self { namespaces, ..Self::index(policies) }, duplicates)
    }

    fn index(policies: BTreeMap<Arc<PolicyRef>, Arc<Policy>>) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<Arc<Policy>>> = BTreeMap::new();
        let (mut for_hosts, mut for_cluster) = (Vec::new(), Vec::new());
        for policy in policies.values() {
            match &policy.selector {
                PolicySelector::Hosts(_) => for_hosts.push(Arc::clone(policy)),
                PolicySelector::Cluster(_) => for_cluster.push(Arc::clone(policy)),
                PolicySelector::Workloads(_) => {
                    by_namespace.entry(policy.reference.namespace.clone()).or_default().push(Arc::clone(policy));
                }
            }
        }
        let (namespaces, given_out) = (BTreeMap::new(), GivenOut::default());
        Self { policies, namespaces, by_namespace, for_cluster, for_hosts, given_out }
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// All policies, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// One policy.
    #[must_use]
    pub fn get(&self, reference: &PolicyRef) -> Option<&Arc<Policy>> {
        self.policies.get(reference)
    }

    /// The policies for one workload, by kind, namespace and name.
    pub fn policies_for<'s>(&'s self, workload: &'s Workload) -> impl Iterator<Item = &'s Arc<Policy>> {
        let (own, cluster): (&[Arc<Policy>], &[Arc<Policy>]) = match workload.kind {
            WorkloadKind::Host => (&self.for_hosts, &[]),
            WorkloadKind::Container => {
                (self.by_namespace.get(&workload.namespace).map_or(&[], Vec::as_slice), &self.for_cluster)
            }
        };
        let before_cluster = |policy: &Arc<Policy>| policy.reference.kind < PolicyKind::KubeArmorClusterPolicy;
        let (first, last) = own.split_at(own.partition_point(before_cluster));
        first.iter().chain(cluster).chain(last).filter(|policy| policy.selects(workload))
    }

    /// What the set says of a namespace, if it has a document of it.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    /// All namespaces of which the set has a document, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// The postures of a namespace: those of its document over the global ones.
    #[must_use]
    pub fn postures_of(&self, namespace: &str, global: Postures) -> Postures {
        self.namespaces.get(namespace).map_or(global, |namespace| namespace.postures(global))
    }

    /// What of the workload's doings is to be seen, if its namespace says so; a host is in no namespace.
    #[must_use]
    pub fn visibility_of(&self, workload: &Workload) -> Option<Visibility> {
        let is_container = workload.kind == WorkloadKind::Container;
        self.namespaces.get(&workload.namespace).filter(|_| is_container).and_then(|namespace| namespace.visibility)
    }

    /// What holds for one workload: the rules of its policies, and its postures from `namespace_annotations` (which who gives them has
    /// checked by [`postures::resolve`]) over those of its namespace's document over the global ones; a host has the global ones. Equal sets and workloads give equal rules in equal order, and workloads with the same policies
    /// and postures the very same list, as long as one of them holds it.
    #[must_use]
    pub fn rules_for(
        &self,
        workload: &Workload,
        namespace_annotations: &BTreeMap<String, String>,
        global: Postures,
    ) -> Arc<WorkloadRules> {
        let of_namespace = match workload.kind {
            WorkloadKind::Container => self.postures_of(&workload.namespace, global),
            WorkloadKind::Host => global,
        };
        let postures = postures::resolve(namespace_annotations, of_namespace).0;
        self.given_out.rules_of(self.policies_for(workload), postures)
    }
}

fn duplicate(what: &str, second: (&Arc<str>, Position), first: (&Arc<str>, Position)) -> Diagnostic {
    Diagnostic {
        file: second.0.to_string(),
        line: second.1.line,
        column: second.1.column,
        severity: Severity::Error,
        what: format!("{} for the second time", quoted(what)),
        why: format!("{}:{} has defined it, and that one stays", printable(first.0), first.1.line),
        instead: "rename or remove one of the two".to_owned(),
    }
}
