//! `KubeArmorPolicy` (`security.kubearmor.com/v1`): all of KubeArmor's families for workloads of a namespace.

use crate::{
    capability,
    common::{Common, Level},
    draft::Draft,
    fields::Fields,
    file, network,
    policy::PolicySelector,
    preset, process, selector, syscall,
};

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let instead = "write `selector:`, or `kind: KubeArmorHostPolicy`";
    spec.refuse_misplaced("nodeSelector", "hosts are selected by a KubeArmorHostPolicy", instead, draft.problems);
    let selector = selector::read(spec, draft.problems);
    read_families(spec, &common, draft);
    PolicySelector::Workloads(selector)
}

/// The families of a policy for workloads.
pub(crate) fn read_families(spec: &mut Fields<'_>, common: &Common, draft: &mut Draft<'_>) {
    let instead = "write `kind: PalisadePolicy` with `apiVersion: palisade.dev/v1alpha1`";
    spec.refuse_misplaced("ptrace", "only a PalisadePolicy has this family", instead, draft.problems);
    read_shared_families(spec, common, draft);
    refuse_device(spec, draft);
    preset::read(spec, common, draft);
}

/// What every kind but KubeArmorNetworkPolicy has.
pub(crate) fn read_shared_families(spec: &mut Fields<'_>, common: &Common, draft: &mut Draft<'_>) {
    draft.refuse_ancestors(spec);
    process::read(spec, common, draft);
    file::read(spec, common, draft);
    network::read(spec, common, draft);
    capability::read(spec, common, draft);
    syscall::read(spec, common, draft);
    preset::read_apparmor(spec, draft);
}

pub(crate) fn refuse_device(spec: &mut Fields<'_>, draft: &mut Draft<'_>) {
    let instead = "write `kind: KubeArmorHostPolicy`";
    spec.refuse_misplaced("device", "devices are a host's", instead, draft.problems);
}
