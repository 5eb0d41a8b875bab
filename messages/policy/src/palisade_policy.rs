//! `PalisadePolicy` (`palisade.dev/v1alpha1`): the families of a KubeArmorPolicy, network destinations, and ptrace.
//!
//! Decision: it is namespaced and selects workloads of its namespace only. Who may write policies in one namespace must
//! not thereby write policies for nodes; hosts have the cluster-wide KubeArmorHostPolicy.

use crate::{
    common::{Common, Level},
    draft::Draft,
    fields::Fields,
    kubearmor_policy,
    policy::PolicySelector,
    preset, ptrace, selector,
};

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `selector:`, or a KubeArmorHostPolicy for hosts";
    let why = "a namespaced policy selects workloads of its namespace";
    spec.refuse_misplaced("nodeSelector", why, instead, draft.problems);
    let selector = selector::read(spec, draft.problems);
    kubearmor_policy::read_shared_families(spec, &common, draft);
    kubearmor_policy::refuse_device(spec, draft);
    preset::read(spec, &common, draft);
    ptrace::read(spec, &common, draft);
    PolicySelector::Workloads(selector)
}
