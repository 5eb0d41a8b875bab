//! `KubeArmorHostPolicy` (`security.kubearmor.com/v1`): KubeArmor's families for hosts outside containers.
//!
//! It differs from a KubeArmorPolicy in its selector, in that `matchProtocols` items without a source are warned of (KubeArmor's schema
//! refuses them, and its agent takes them where no schema is), and in that it has devices and no presets.

use crate::{
    common::{Common, Level},
    device,
    draft::Draft,
    fields::Fields,
    kubearmor_policy, node_selector,
    policy::PolicySelector,
};

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `nodeSelector:`, or `kind: KubeArmorPolicy`";
    spec.refuse_misplaced("selector", "a host policy selects nodes", instead, draft.problems);
    let selector = node_selector::read(spec, draft.problems);
    let instead = "remove it; no kind holds it for hosts";
    spec.refuse_misplaced("ptrace", "only a PalisadePolicy has this family", instead, draft.problems);
    let instead = "remove them, or write a KubeArmorPolicy for containers";
    spec.refuse_misplaced("presets", "presets are for containers", instead, draft.problems);
    kubearmor_policy::read_shared_families(spec, &common, draft);
    device::read(spec, &common, draft);
    PolicySelector::Hosts(selector)
}
