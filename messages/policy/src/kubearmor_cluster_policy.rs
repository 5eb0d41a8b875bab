//! `KubeArmorClusterPolicy` (`security.kubearmor.com/v1`): the families of a KubeArmorPolicy for workloads of many namespaces.
//!
//! It differs in its selector, which has expressions over namespaces and labels and nothing else ([`crate::selector`]), and in that a
//! name in DNS is expanded by the search lists of the namespaces that it names.

use crate::{
    common::{Common, Level},
    draft::Draft,
    fields::Fields,
    kubearmor_policy,
    policy::PolicySelector,
    selector,
};

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `selector:`, or `kind: KubeArmorHostPolicy`";
    spec.refuse_misplaced("nodeSelector", "hosts are selected by a KubeArmorHostPolicy", instead, draft.problems);
    let selector = selector::read_of_cluster(spec, draft.problems);
    draft.select_namespaces(selector.named_namespaces());
    kubearmor_policy::read_families(spec, &common, draft);
    PolicySelector::Cluster(selector)
}
