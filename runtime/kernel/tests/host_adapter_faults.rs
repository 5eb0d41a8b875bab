//! The adapter where something fails: admissions, programs that are refused, a kernel without membarrier(2), workloads that moved.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{fs, path::Path, sync::Arc};

use kernel_bed::{
    Checks, Random, adapter,
    cgroups::{Cgroup, alone, blob, own_slot},
    pin_root, random_blob,
};
use palisade_domain::{Family, Generation, Slot, Tier};
use palisade_kernel::fanotify::FailMode;
use palisade_kernel_abi::blob::SizeClass;
use palisade_world::{Capability, CapabilityState, Enforcement as _, EnforcementError, Membership};

#[test]
fn host_adapter_admission_that_fails_again_leaves_the_policy_in_force() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let (workload, checks) = (Cgroup::new("again"), Checks::load(&pins.0));
    let membership = workload.membership(8);
    adapter.admit(&membership).unwrap();
    adapter.install(Slot(8), Generation(1), Some(&blob(&mut random))).unwrap();
    let before = adapter.in_force(Slot(8));
    let elsewhere = Membership { cgroup_path: Some("/no/such/cgroup".into()), ..membership };
    adapter.admit(&elsewhere).unwrap_err();
    assert_eq!(adapter.in_force(Slot(8)), before);
    workload.enter();
    assert_eq!(own_slot(&checks), 8, "it is still the workload's");
    adapter.release(Slot(8)).unwrap();
    let pathless = Membership { cgroup_path: None, ..workload.membership(8) };
    assert!(matches!(adapter.admit(&pathless), Err(EnforcementError::Refused { .. })), "its network could not be held");
}

/// Slots that cgroup programs are pinned for.
fn linked(pins: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(pins.join("cgroup"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn host_adapter_links_on_cgroups_follow_their_workload_through_a_restart() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let (kept, late, gone) = (Cgroup::new("kept"), Cgroup::new("late"), Cgroup::new("gone"));
    let first = adapter(&pins.0, FailMode::Refuse);
    if first.matrix().families[&Family::Network].tier == Tier::Audit {
        println!("skipped: no cgroup programs here");
        return;
    }
    for (slot, cgroup) in [(1, &kept), (2, &late), (3, &gone)] {
        first.admit(&cgroup.membership(slot)).unwrap();
        first.install(Slot(slot), Generation(1), Some(&blob(&mut random))).unwrap();
    }
    assert_eq!(linked(&pins.0), ["1", "2", "3"]);
    drop((first, gone));
    let second = adapter(&pins.0, FailMode::Refuse);
    assert_eq!(linked(&pins.0), ["1", "2"], "what was on a cgroup that is gone is gone");
    // The number of the workload that nobody has asked for yet is wanted by another.
    second.admit(&kept.membership(2)).unwrap();
    let [stranger] = second.strangers()[..] else { panic!("{:?}", second.strangers()) };
    let mut expected = ["2".to_owned(), stranger.to_string()];
    expected.sort();
    assert_eq!(linked(&pins.0), expected, "its links are not taken for the other's");
    second.admit(&late.membership(1)).unwrap();
    assert_eq!(linked(&pins.0), ["1", "2"]);
    for slot in [1, 2] {
        second.release(Slot(slot)).unwrap();
    }
    assert!(linked(&pins.0).is_empty());
}

#[test]
fn host_adapter_takes_away_programs_of_an_earlier_version_that_this_one_does_not_attach() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let workload = Cgroup::new("upgraded");
    let first = adapter(&pins.0, FailMode::Refuse);
    first.admit(&workload.membership(3)).unwrap();
    first.install(Slot(3), Generation(1), Some(&blob(&mut random))).unwrap();
    let lsm = first.matrix().capabilities[&Capability::BpfLsm] == CapabilityState::Available;
    drop(first);
    // An earlier version had these names; what is refused here had this one too.
    let mut olds = vec![("links/begin_image", "links/older"), ("links/forget_cgroup", "links/begin_image_new")];
    if !lsm {
        olds.push(("links/attach_task", "links/judge_open"));
    }
    for (name, old) in [("kill/kill_tracer", "kill/older"), ("cgroup/3/judge_connect4", "cgroup/3/older")] {
        if pins.0.join(name).exists() {
            olds.push((name, old));
        }
    }
    for (name, old) in &olds {
        fs::rename(pins.0.join(name), pins.0.join(old)).unwrap();
    }
    let second = adapter(&pins.0, FailMode::Refuse);
    second.admit(&workload.membership(3)).unwrap();
    for (name, old) in &olds {
        assert!(!pins.0.join(old).exists(), "{old} is of no program of this version");
        assert!(pins.0.join(name).exists(), "{name} is");
    }
    second.release(Slot(3)).unwrap();
    assert!(linked(&pins.0).is_empty());
}

#[test]
fn host_adapter_claims_no_network_where_the_cgroup_programs_are_refused() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    fs::create_dir_all(&pins.0).unwrap();
    // Something else is where their links would be pinned.
    let parameters = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
    let other = aya::maps::MapData::create(parameters, "other", None).unwrap();
    other.pin(pins.0.join("cgroup")).unwrap();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let network = &adapter.matrix().families[&Family::Network];
    assert_ne!(network.tier, Tier::CgroupBpf, "{network:?}");
    assert!(!network.gaps.is_empty());
    assert!(
        matches!(&adapter.matrix().capabilities[&Capability::CgroupConnect], CapabilityState::Missing(reason) if reason.contains("cgroup"))
    );
}

#[test]
fn host_adapter_holds_no_network_of_the_host_by_cgroup_programs() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let host = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };
    adapter.admit(&host).unwrap();
    let installed = adapter.install(Slot::HOST, Generation(1), Some(&blob(&mut random))).unwrap();
    let network = &installed.families[&Family::Network];
    assert!(matches!(network.tier, Tier::BpfLsm | Tier::Audit), "{network:?}");
    assert!(!network.gaps.is_empty());
    adapter.release(Slot::HOST).unwrap();
}

/// From now on this thread and those that it starts cannot call membarrier(2), as on a kernel with `nohz_full`.
fn refuse_membarrier() {
    let step = |code: u32, jt, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf: 0, k };
    let number = u32::try_from(libc::SYS_membarrier).unwrap();
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        libc::sock_filter { jf: 1, ..step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, number) },
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: `program` names the four instructions of `filter`, and both live until the kernel has copied them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn host_adapter_large_blobs_are_swapped_where_membarrier_is_refused() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let workload = Cgroup::new("large");
    adapter.admit(&workload.membership(3)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refuse_membarrier();
            for generation in 1..=4 {
                let large = loop {
                    let blob = random_blob(&mut random, 3000);
                    if blob.size_class() >= SizeClass::M1 {
                        break Arc::new(blob);
                    }
                };
                adapter.install(Slot(3), Generation(generation), Some(&large)).unwrap();
            }
        });
    });
    assert_eq!(adapter.memory().blob_count, 1);
    adapter.release(Slot(3)).unwrap();
}
