//! The ground that the other tests stand on: a kernel where programs on LSM hooks really run, and the file systems that containers need.
//! Without these a later failure would be read as one of Palisade's.

use std::{fs, process::Command};

use libtest_mimic::{Failed, Trial};
use palisade_domain::Tier;
use palisade_world::{Capability, CapabilityState, Enforcement as _};
use serde_json::Value;

use super::{
    Checked, ensure,
    fixture::{hooks, kernel},
};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_kernel_runs_programs_on_hooks_by_the_means_of_this_boot", hooks_are_judged),
        Trial::test("vm_fmod_ret_is_a_means_only_where_the_kernel_does_not_preempt_its_own_code", preemption_is_tried),
        Trial::test("vm_kernel_describes_its_own_types", types_are_described),
        Trial::test("vm_guest_mounts_the_unified_hierarchy_alone", one_hierarchy),
        Trial::test("vm_guest_knows_overlayfs", overlayfs_is_known),
        tiers(),
    ]
}

fn hooks_are_judged() -> Checked {
    let means = match hooks()? {
        Tier::BpfLsm => Capability::BpfLsm,
        _ => Capability::ModifyReturn,
    };
    let capabilities = &kernel()?.matrix().capabilities;
    ensure(capabilities.get(&means) == Some(&CapabilityState::Available), || format!("{means:?}: {capabilities:?}"))
}

/// The boot says the mode; the node finds it out.
fn preemption_is_tried() -> Checked {
    let preempts = fs::read_to_string("/proc/cmdline")?.contains("preempt=full");
    let state = kernel()?.matrix().capabilities.get(&Capability::ModifyReturn);
    println!("fmod_ret: {state:?}");
    match state {
        Some(CapabilityState::Available) if !preempts => Ok(()),
        Some(CapabilityState::Missing(reason)) if preempts && reason.contains("preempts its own code") => Ok(()),
        other => Err(format!("preempt=full: {preempts}, and {other:?}").into()),
    }
}

fn types_are_described() -> Checked {
    let magic = fs::read("/sys/kernel/btf/vmlinux")?;
    ensure(magic.starts_with(&0xeb9f_u16.to_le_bytes()), || format!("it starts {:?}", &magic[..magic.len().min(4)]))
}

fn one_hierarchy() -> Checked {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let hierarchies: Vec<&str> = mounts.lines().filter(|line| line.contains(" cgroup")).collect();
    ensure(matches!(hierarchies[..], [only] if only.contains("/sys/fs/cgroup cgroup2 ")), || format!("{hierarchies:?}"))
}

fn overlayfs_is_known() -> Checked {
    let known = fs::read_to_string("/proc/filesystems")?;
    ensure(known.lines().any(|line| line.ends_with("\toverlay")), || known)
}

/// Of every boot: what a user reads of this kernel, for the ring's table of tiers.
pub fn tiers() -> Trial {
    Trial::test("vm_probe_tells_a_tier_for_every_family", || {
        let output = Command::new("/bin/palisade").args(["probe", "--output", "json"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.success(), || format!("{}: {said}", output.status))?;
        let probed: Value = serde_json::from_slice(&output.stdout)?;
        let families = probed["families"].as_array().ok_or("no families")?;
        let column = |key: &str| -> Result<Vec<&str>, Failed> {
            families.iter().map(|row| row[key].as_str().ok_or_else(|| format!("no {key}: {row}").into())).collect()
        };
        let (names, tiers) = (column("family")?, column("tier")?);
        ensure(!names.is_empty(), || probed.to_string())?;
        println!("families active LSMs | {}", names.join(" | "));
        println!("tier {} | {}", fs::read_to_string("/sys/kernel/security/lsm")?.trim(), tiers.join(" | "));
        Ok(())
    })
}
