//! `KubeArmorPolicy` (`security.kubearmor.com/v1`): process, file and network for workloads of a namespace.

use crate::{
    common::{Common, Level},
    draft::Draft,
    fields::Fields,
    file, network,
    policy::PolicySelector,
    process, selector,
};

/// Families and fields that KubeArmor's schema knows and this version does not hold.
pub(crate) const LATER: [&str; 5] = ["capabilities", "syscalls", "presets", "apparmor", "device"];
/// What helps until then.
pub(crate) const LATER_INSTEAD: &str = "move it to a policy of its own and leave that out for now";

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `selector:`, or `kind: KubeArmorHostPolicy`";
    spec.refuse_misplaced("nodeSelector", "hosts are selected by a KubeArmorHostPolicy", instead, draft.problems);
    let selector = selector::read(spec, draft.problems);
    draft.refuse_ancestors(spec);
    spec.refuse_unsupported(&LATER, LATER_INSTEAD, draft.problems);
    let instead = "write `kind: PalisadePolicy` with `apiVersion: palisade.dev/v1alpha1`";
    spec.refuse_misplaced("ptrace", "only a PalisadePolicy has this family", instead, draft.problems);
    process::read(spec, &common, draft);
    file::read(spec, &common, draft);
    network::read(spec, &common, draft);
    PolicySelector::Workloads(selector)
}
