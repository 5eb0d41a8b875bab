//! `KubeArmorHostPolicy` (`security.kubearmor.com/v1`): process, file and network for hosts outside containers.
//!
//! It differs from a KubeArmorPolicy in its selector, and in that `matchProtocols` items must say their source.

use crate::{
    common::{Common, Level},
    draft::Draft,
    fields::Fields,
    file,
    kubearmor_policy::{LATER, LATER_INSTEAD},
    network, node_selector,
    policy::PolicySelector,
    process,
};

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `nodeSelector:`, or `kind: KubeArmorPolicy`";
    spec.refuse_misplaced("selector", "a host policy selects nodes", instead, draft.problems);
    let selector = node_selector::read(spec, draft.problems);
    draft.refuse_ancestors(spec);
    spec.refuse_unsupported(&LATER, LATER_INSTEAD, draft.problems);
    let instead = "remove it; this version holds process, file and network for hosts";
    spec.refuse_misplaced("ptrace", "only a PalisadePolicy has this family", instead, draft.problems);
    process::read(spec, &common, draft);
    file::read(spec, &common, draft);
    network::read(spec, &common, draft);
    PolicySelector::Hosts(selector)
}
