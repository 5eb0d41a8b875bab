//! What is declared of a tier is a gap of it, by which status and validation tell a user which of a policy's words are not held.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use palisade_acts::held_as;
use palisade_differential::Differences;
use palisade_kernel::matrix;
use palisade_world::{Capability, CapabilityState};

/// Everything, with BPF LSM or without.
fn capabilities(lsm: bool) -> BTreeMap<Capability, CapabilityState> {
    let all = [
        Capability::BtfTracepoints,
        Capability::RawTracepoints,
        Capability::CgroupConnect,
        Capability::CgroupSocket,
        Capability::CgroupPacket,
        Capability::PrepareExec,
        Capability::CapabilityUse,
        Capability::FanotifyPermission,
        Capability::SendSignal,
        Capability::TaskStorage,
        Capability::KernelBtf,
        Capability::UnifiedCgroups,
        Capability::KernelSymbols,
    ];
    let with = lsm.then_some(Capability::BpfLsm);
    all.into_iter().chain(with).map(|capability| (capability, CapabilityState::Available)).collect()
}

#[test]
fn unit_declared_differences_of_tiers_are_gaps_that_a_user_is_told() {
    let kernels = [false, true].map(|lsm| matrix::families(&capabilities(lsm)));
    for entry in Differences::declared().unwrap().met {
        let Some(told) = &entry.told else { continue };
        for family in &entry.families {
            let held = kernels.iter().map(|families| &families[&held_as(*family)]);
            let is_told = held.flat_map(|held| &held.gaps).any(|gap| gap.what == *told);
            assert!(is_told, "{} {family:?}: no tier has a gap `{told}`", entry.backend);
        }
    }
}
