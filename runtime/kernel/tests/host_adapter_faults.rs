//! The adapter where something fails: admissions, programs that are refused, a kernel without membarrier(2), workloads that moved.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;
mod probe_bed;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
};

use kernel_bed::{
    Checks, Random, adapter,
    cgroups::{Cgroup, alone, blob, own_slot},
    pin_root, random_blob, without_networks,
};
use palisade_domain::{Action, Family, Generation, Slot, Tier};
use palisade_kernel::{fanotify::FailMode, layout};
use palisade_kernel_abi::blob::SizeClass;
use palisade_policy::ir::{DestinationMatch, Matcher, PathMatch, PathRule};
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
    let pathless = Membership { cgroup_path: None, ..membership };
    adapter.admit(&pathless).unwrap_err();
    assert_eq!(adapter.in_force(Slot(8)), before);
    workload.enter();
    assert_eq!(own_slot(&checks), 8, "it is still the workload's");
    adapter.release(Slot(8)).unwrap();
    assert!(
        matches!(adapter.admit(&pathless), Err(EnforcementError::Refused { .. })),
        "what is below it could not be told"
    );
}

/// The slot is another's next: what was registered of the one that failed would be judged by that one's policy.
#[test]
fn host_adapter_admission_that_fails_at_its_cgroups_leaves_none_of_them_to_the_slot() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let (workload, checks) = (Cgroup::new("crowded"), Checks::load(&pins.0));
    let below: Vec<_> = (0..layout::CGROUPS).map(|number| workload.0.join(number.to_string())).collect();
    below.iter().for_each(|directory| fs::create_dir(directory).unwrap());
    let refused = adapter.admit(&workload.membership(9)).unwrap_err();
    assert!(matches!(refused, EnforcementError::Full { slot: Slot(9), what: "cgroups", .. }), "{refused}");
    below.iter().for_each(|directory| fs::remove_dir(directory).unwrap());
    let other = Cgroup::new("next");
    adapter.admit(&other.membership(9)).unwrap();
    adapter.install(Slot(9), Generation(1), Some(&blob(&mut Random::seeded()))).unwrap();
    workload.enter();
    assert_eq!(own_slot(&checks), -libc::EINVAL, "it is nobody's, and nothing is decided for it");
    other.enter();
    assert_eq!(own_slot(&checks), 9);
}

/// Of one policy in a full table, as fast as they can be made.
const CHANGES: u32 = 100;

/// As many slots as there can be, each with a policy that no other has, fill the kernel's table of blobs, in which a slot's next policy has to
/// have a place before its last one is given up.
#[test]
fn host_adapter_full_table_of_blobs_refuses_the_next_one_and_leaves_what_is_in_force() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    let (adapter, cgroup) = (adapter(&pins.0, FailMode::Refuse), Cgroup::new("full"));
    let own = |number: u32| {
        let path = PathRule::of(PathMatch::Exact(format!("/palisade-full-{number}")));
        probe_bed::blob(vec![probe_bed::rule(Action::Block, Matcher::File(path))])
    };
    for slot in 0..layout::POLICIES {
        let nowhere = [Slot::HOST, Slot::UNKNOWN].contains(&Slot(slot));
        let membership = cgroup.membership(slot);
        // The cgroup is the last one's: nobody runs in it.
        let of = if nowhere { Membership { cgroup: None, cgroup_path: None, ..membership } } else { membership };
        adapter.admit(&of).unwrap();
        adapter.install(Slot(slot), Generation(1), Some(&own(slot))).unwrap();
    }
    let before = adapter.in_force(Slot(7));
    let next = own(layout::POLICIES);
    let refused = adapter.install(Slot(7), Generation(2), Some(&next)).unwrap_err();
    assert!(matches!(refused, EnforcementError::Full { slot: Slot(7), what: "policies", bound: 4096 }), "{refused}");
    assert_eq!(adapter.in_force(Slot(7)), before, "what was in force is");
    assert_eq!(adapter.memory().blob_count, u64::from(layout::POLICIES));
    // One that another has takes no place, and gives one up.
    adapter.install(Slot(8), Generation(2), Some(&own(9))).unwrap();
    adapter.install(Slot(7), Generation(3), Some(&next)).unwrap();
    assert_ne!(adapter.in_force(Slot(7)), before);
    // Then one place is enough for any number of changes, however soon each one needs what the last one has given up.
    for change in 1..=CHANGES {
        let generation = Generation(3 + change);
        adapter.install(Slot(7), generation, Some(&own(layout::POLICIES + change))).unwrap();
    }
    (0..layout::POLICIES).for_each(|slot| adapter.release(Slot(slot)).unwrap());
    assert_eq!(adapter.memory().blob_count, 0);
}

/// Programs that are pinned on the cgroups' root.
fn linked(pins: &Path) -> usize {
    fs::read_dir(pins.join("cgroup")).map_or(0, Iterator::count)
}

#[test]
fn host_adapter_programs_on_cgroups_are_attached_while_somebody_has_rules_for_them() {
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
    }
    first.install(Slot(1), Generation(1), None).unwrap();
    assert_eq!(linked(&pins.0), 0, "nobody decides anything");
    let (policy, other) = (blob(&mut random), blob(&mut random));
    first.install(Slot(1), Generation(2), Some(&policy)).unwrap();
    let attached = linked(&pins.0);
    assert!(attached >= 5, "of connections and sockets, if not of questions: {attached}");
    first.install(Slot(3), Generation(2), Some(&policy)).unwrap();
    assert_eq!(linked(&pins.0), attached, "a link each, however many workloads");
    drop((first, gone));
    let second = adapter(&pins.0, FailMode::Refuse);
    assert_eq!(linked(&pins.0), attached, "they stand while no node runs, and with the next");
    second.admit(&kept.membership(1)).unwrap();
    second.install(Slot(1), Generation(3), Some(&other)).unwrap();
    assert!(linked(&pins.0) >= 5);
    second.admit(&late.membership(2)).unwrap();
    second.release(Slot(1)).unwrap();
    assert_eq!(linked(&pins.0), 0, "nobody has rules any more");
    second.release(Slot(2)).unwrap();
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
    for (name, old) in [("kill/kill_tracer", "kill/older"), ("cgroup/judge_connect4", "cgroup/older")] {
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
    assert_eq!(linked(&pins.0), 0);
}

#[test]
fn host_adapter_claims_no_network_where_the_cgroup_programs_are_refused() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    without_networks(&pins.0);
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let network = &adapter.matrix().families[&Family::Network];
    assert_ne!(network.tier, Tier::CgroupBpf, "{network:?}");
    assert!(!network.gaps.is_empty());
    assert!(
        matches!(&adapter.matrix().capabilities[&Capability::CgroupConnect], CapabilityState::Missing(reason) if reason.contains("cgroup"))
    );
}

#[test]
fn host_adapter_holds_the_hosts_network_by_cgroup_programs_too() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    if adapter.matrix().families[&Family::Network].tier == Tier::Audit {
        println!("skipped: no cgroup programs here");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let workload = Cgroup::new("beside");
    adapter.admit(&workload.membership(3)).unwrap();
    let host = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };
    adapter.admit(&host).unwrap();
    let to = DestinationMatch { cidr: None, ports: Some((address.port(), address.port())), protocol: None };
    let blocked = probe_bed::blob(vec![probe_bed::rule(Action::Block, Matcher::Destination(to))]);
    let installed = adapter.install(Slot::HOST, Generation(1), Some(&blocked)).unwrap();
    let network = &installed.families[&Family::Network];
    assert!(matches!(network.tier, Tier::BpfLsm | Tier::FmodRet | Tier::CgroupBpf), "{network:?}");
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");
    workload.enter();
    TcpStream::connect(address).expect("the workload has no rules");
    adapter.release(Slot(3)).unwrap();
    drop(workload);
    adapter.release(Slot::HOST).unwrap();
    TcpStream::connect(address).expect("nor has the host any more");
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
