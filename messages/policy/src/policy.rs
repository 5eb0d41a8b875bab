//! One accepted policy: its identity, whom it is for, and its rules.

use std::sync::Arc;

use palisade_domain::{PolicyKind, PolicyRef, Workload, WorkloadKind};

use crate::{
    diagnostic::{Position, Problems},
    draft::{Draft, RuleBudget},
    fields::Fields,
    ir::{Rule, Unheld},
    kubearmor_cluster_policy, kubearmor_host_policy, kubearmor_network_policy, kubearmor_policy, metadata,
    node_selector::NodeSelector,
    palisade_policy,
    selector::Selector,
};

/// An accepted policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Kind, namespace and name.
    pub reference: Arc<PolicyRef>,
    /// Whom it is for.
    pub selector: PolicySelector,
    /// What it says, in document order.
    pub rules: Vec<Arc<Rule>>,
    /// What it says that nothing holds, in document order.
    pub unheld: Vec<Arc<Unheld>>,
    /// The file that it was read from.
    pub file: Arc<str>,
    /// Where in the file it starts.
    pub at: Position,
}

/// Whom a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySelector {
    /// Workloads of the policy's namespace.
    Workloads(Selector),
    /// Workloads of the namespaces that the selector selects.
    Cluster(Selector),
    /// Hosts outside containers.
    Hosts(NodeSelector),
}

impl Policy {
    /// Whether the policy is for the workload.
    #[must_use]
    pub fn selects(&self, workload: &Workload) -> bool {
        match (&self.selector, workload.kind) {
            (PolicySelector::Workloads(selector), WorkloadKind::Container) => {
                self.reference.namespace == workload.namespace && selector.selects(workload)
            }
            (PolicySelector::Cluster(selector), WorkloadKind::Container) => {
                selector.selects_namespace(&workload.namespace) && selector.selects(workload)
            }
            (PolicySelector::Hosts(selector), WorkloadKind::Host) => selector.selects(workload),
            _ => false,
        }
    }
}

/// Reads a document of a known kind; nothing if it is refused.
pub(crate) fn read(
    kind: PolicyKind,
    document: &mut Fields<'_>,
    file: &Arc<str>,
    budget: &mut RuleBudget,
    problems: &mut Problems,
) -> Option<Policy> {
    let before = problems.refusals();
    let namespaced = match kind {
        PolicyKind::KubeArmorPolicy | PolicyKind::PalisadePolicy => true,
        PolicyKind::KubeArmorClusterPolicy | PolicyKind::KubeArmorHostPolicy => false,
        PolicyKind::KubeArmorNetworkPolicy => document.has_within("spec", "selector"),
    };
    let metadata = metadata::read(document, namespaced, problems);
    // A policy without a usable name is read all the same, for the rest of its faults.
    let named = metadata.map(|metadata| PolicyRef { kind, namespace: metadata.namespace, name: metadata.name });
    let nameless = || PolicyRef { kind, namespace: String::new(), name: String::new() };
    let reference = Arc::new(named.unwrap_or_else(nameless));
    // Kubernetes' own record of the object.
    document.get("status");
    let node = document.require("spec", "write `spec:` with a selector and rules", problems)?;
    let mut spec = Fields::of(node, "spec", problems)?;
    let mut draft = Draft::new(Arc::clone(&reference), budget, problems);
    let selector = match kind {
        PolicyKind::KubeArmorPolicy => kubearmor_policy::read(&mut spec, &mut draft),
        PolicyKind::KubeArmorClusterPolicy => kubearmor_cluster_policy::read(&mut spec, &mut draft),
        PolicyKind::KubeArmorNetworkPolicy => kubearmor_network_policy::read(&mut spec, &mut draft),
        PolicyKind::KubeArmorHostPolicy => kubearmor_host_policy::read(&mut spec, &mut draft),
        PolicyKind::PalisadePolicy => palisade_policy::read(&mut spec, &mut draft),
    };
    let (rules, unheld) = (draft.rules, draft.unheld);
    let at = spec.at;
    spec.close(problems);
    if problems.refusals() != before {
        return None;
    }
    if rules.is_empty() && unheld.is_empty() {
        problems.warning(at, "the policy has no rules", "it has no effect", "add a family such as `process:`");
    }
    Some(Policy { reference, selector, rules, unheld, file: Arc::clone(file), at: document.at })
}
