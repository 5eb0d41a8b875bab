//! The adapter against this kernel: what is in force for whom, what a restart keeps, what unloading leaves.
//!
//! One test that moves this process between cgroups: the others would move along, so they run one after the other.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{fs, sync::Arc, time::Duration};

use kernel_bed::{
    Checks, Random, adapter,
    cgroups::{Cgroup, alone, blob, own_slot, unified},
    pin_root,
};
use palisade_domain::{Family, Generation, Slot, Tier};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::FailMode,
    layout::{Counter, PolicyNumber},
    unload,
};
use palisade_kernel_abi::blob::Blob;
use palisade_world::{Capability, CapabilityState, Enforcement as _, EnforcementError, LeftBehind, Membership};

const NOBODY: i32 = -22;

/// The slot that the kernel finds for a process that enters the cgroup: one that keeps nothing yet, for what this process has
/// once been under a policy it stays.
fn slot_of_newcomer(cgroup: &Cgroup, checks: &Checks) -> i32 {
    // SAFETY: the child only writes a file, runs a program by a system call, and ends.
    match unsafe { libc::fork() } {
        0 => {
            let entered = fs::write(cgroup.0.join("cgroup.procs"), "0").is_ok();
            let slot = if entered { own_slot(checks) } else { 255 };
            // SAFETY: ends the child.
            unsafe { libc::_exit(slot) }
        }
        child => {
            let mut status = 0;
            // SAFETY: our own child, and a status that lives.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WEXITSTATUS(status)
        }
    }
}

#[test]
fn host_adapter_identity_is_inherited_by_child_cgroups_and_kept_by_leavers() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let checks = Checks::load(&pins.0);
    let workload = Cgroup::new("workload");
    let before = workload.child("before");
    adapter.admit(&workload.membership(7)).unwrap();
    adapter.install(Slot(7), Generation(1), Some(&blob(&mut random))).unwrap();
    assert_eq!(own_slot(&checks), NOBODY, "outside");
    let after = workload.child("after");
    let grandchild = after.child("grandchild");
    for cgroup in [&workload, &before, &after, &grandchild] {
        fs::write(unified().join("cgroup.procs"), "0").unwrap();
        cgroup.enter();
        assert_eq!(own_slot(&checks), 7, "{}", cgroup.0.display());
    }
    fs::write(unified().join("cgroup.procs"), "0").unwrap();
    assert_eq!(own_slot(&checks), 7, "a task that left");
    let inherited = std::thread::spawn({
        let run = own_slot(&checks);
        move || run
    });
    assert_eq!(inherited.join().unwrap(), 7);
    assert!(adapter.counters()[&Counter::Leavers] > 0);
    adapter.release(Slot(7)).unwrap();
    assert_eq!(own_slot(&checks), NOBODY, "the workload is gone, and with it what tasks kept");
    adapter.release(Slot(7)).unwrap();
}

#[test]
fn host_adapter_judges_by_source_and_fail_mode_like_the_rust_walker() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let checks = Checks::load(&pins.0);
    let workload = Cgroup::new("judged");
    adapter.admit(&workload.membership(9)).unwrap();
    workload.enter();
    let executable = fs::canonicalize("/proc/self/exe").unwrap();
    let path = executable.as_os_str().as_encoded_bytes();
    let (mut by_source, mut matched) = (0, 0);
    for round in 1..=40 {
        let blob = blob(&mut random);
        adapter.install(Slot(9), Generation(round), Some(&blob)).unwrap();
        // Twice: the second time the source comes from what the task kept.
        for _ in 0..2 {
            assert_eq!(own_slot(&checks), 9);
            let check = checks.get();
            assert_eq!(check.path(), path);
            let (accept, source) = (blob.path_accept(path), blob.source_id(path));
            let family = palisade_kernel_abi::blob::Family::Process;
            let decision = blob.decide(family, accept, source, palisade_kernel_abi::blob::Modifiers::NONE);
            let said = palisade_kernel_abi::blob::Decision::from_word(check.word);
            assert_eq!(said, decision, "round {round}");
            by_source += u32::from(source.0 != 0 && blob.head().family[0].sources > 1);
            matched += u32::from(accept.whole.0 != 0);
        }
    }
    println!("80 decisions equal, {by_source} by source, {matched} matched");
    assert!(by_source > 0 && matched > 0);
    adapter.release(Slot(9)).unwrap();
}

#[test]
fn host_adapter_shares_equal_blobs_and_takes_back_what_nobody_names() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let shared = blob(&mut random);
    let cgroups: Vec<Cgroup> = (0..110).map(|number| Cgroup::new(&format!("many-{number}"))).collect();
    let slots = || (1..).zip(&cgroups);
    for (slot, cgroup) in slots() {
        adapter.admit(&cgroup.membership(slot)).unwrap();
    }
    let timed = |what: &str, install: &mut dyn FnMut()| {
        let took = time(install);
        println!("{what} on 110 workloads: {:.1} ms, {:?}", took.as_secs_f64() * 1e3, adapter.memory());
    };
    timed("one blob", &mut || {
        for (slot, _) in slots() {
            adapter.install(Slot(slot), Generation(1), Some(&shared)).unwrap();
        }
    });
    assert_eq!(adapter.memory().blob_count, 1);
    for generation in 2..5 {
        let different: Vec<Arc<Blob>> = cgroups.iter().map(|_| blob(&mut random)).collect();
        timed("110 different blobs", &mut || {
            for ((slot, _), blob) in slots().zip(&different) {
                adapter.install(Slot(slot), Generation(generation), Some(blob)).unwrap();
            }
        });
        assert_eq!(adapter.memory().blob_count, 110);
    }
    let held = adapter.memory().blobs;
    timed("no policy", &mut || {
        for (slot, _) in slots() {
            adapter.install(Slot(slot), Generation(9), None).unwrap();
        }
    });
    assert_eq!(adapter.memory().blob_count, 0);
    assert!(adapter.memory().blobs <= held, "arrays are used again, not made anew");
    for (slot, _) in slots() {
        adapter.release(Slot(slot)).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test prints how long something took")]
fn time(act: &mut dyn FnMut()) -> Duration {
    let start = std::time::Instant::now();
    act();
    start.elapsed()
}

#[test]
fn host_adapter_policy_stands_through_a_restart_that_numbers_slots_differently() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let (blobs, cgroups): (Vec<_>, Vec<_>) =
        (0..3).map(|number| (blob(&mut random), Cgroup::new(&format!("restart-{number}")))).unzip();
    let gone = Cgroup::new("gone");
    let open = || adapter(&pins.0, FailMode::Refuse);
    let first = open();
    for ((slot, cgroup), blob) in (1..).zip(&cgroups).zip(&blobs) {
        first.admit(&cgroup.membership(slot)).unwrap();
        first.install(Slot(slot), Generation(5), Some(blob)).unwrap();
    }
    first.admit(&gone.membership(4)).unwrap();
    first.install(Slot(4), Generation(5), Some(&blobs[0])).unwrap();
    let in_force = |adapter: &KernelAdapter, slot| adapter.in_force(Slot(slot)).unwrap().1;
    let numbers: Vec<_> = (1..=3).map(|slot| in_force(&first, slot)).collect();
    drop((first, gone));

    let second = open();
    assert_eq!(second.strangers(), [Slot(1), Slot(2), Slot(3)], "the fourth's cgroup is gone");
    assert_eq!(second.memory().blob_count, 3);
    let mut left = second.left_behind();
    left.sort_by_key(|left| left.slot);
    let lives = |slot: u32| cgroups[slot as usize - 1].membership(slot).cgroup;
    let expected = [1, 2, 3].map(|slot| LeftBehind { slot: Slot(slot), cgroup: lives(slot), released: None });
    assert_eq!(left[..3], expected, "whose they are");
    assert_eq!(
        left[3..],
        [LeftBehind { slot: Slot(4), cgroup: None, released: None }],
        "records of it may still be on their way"
    );
    assert_eq!(second.last_generation(), Generation(5));
    // The same workloads under other numbers: each slot of the old run is wanted by another workload of the new one.
    for (slot, number) in [(2_u32, 0_usize), (3, 1), (1, 2)] {
        second.admit(&cgroups[number].membership(slot)).unwrap();
        assert_eq!(in_force(&second, slot), numbers[number], "what was in force for it is in force before any install");
    }
    assert_eq!(second.strangers(), []);
    let checks = Checks::load(&pins.0);
    for (slot, number) in [(2_u32, 0_usize), (3, 1), (1, 2)] {
        assert_eq!(slot_of_newcomer(&cgroups[number], &checks), slot.cast_signed());
        second.install(Slot(slot), Generation(6), Some(&blobs[number])).unwrap();
        assert_eq!(in_force(&second, slot), numbers[number], "an equal blob is not written again");
    }
    assert_eq!(second.memory().blob_count, 3);
    for slot in 1..=3 {
        second.release(Slot(slot)).unwrap();
    }
    assert_eq!(second.memory().blob_count, 0);
    drop(second);
    unload(&pins.0).unwrap();
    assert!(!pins.0.exists());
}

#[test]
fn host_adapter_policy_of_the_host_stands_through_a_restart_that_goes_on_holding_it() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let host = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };
    kernel_bed::without_networks(&pins.0);
    let open = |holds_host| {
        let config = KernelConfig { pin_root: pins.0.clone(), responder: None, holds_host, ..KernelConfig::default() };
        KernelAdapter::open(config).unwrap()
    };
    let policy = blob(&mut random);
    let first = open(true);
    first.admit(&host).unwrap();
    first.install(Slot::HOST, Generation(5), Some(&policy)).unwrap();
    let before = first.in_force(Slot::HOST).unwrap();
    assert_ne!(before.1, PolicyNumber::NONE);
    drop(first);
    let second = open(true);
    assert_eq!(second.in_force(Slot::HOST), Some(before), "before anybody has asked for the host");
    assert_eq!(second.strangers(), []);
    second.admit(&host).unwrap();
    assert_eq!(second.in_force(Slot::HOST), Some(before), "and after");
    second.install(Slot::HOST, Generation(6), Some(&policy)).unwrap();
    assert_eq!(second.memory().blob_count, 1);
    drop(second);
    let third = open(false);
    assert_eq!(third.in_force(Slot::HOST).unwrap().1, PolicyNumber::NONE, "nobody would ever take it away");
    assert_eq!(third.memory().blob_count, 0);
}

#[test]
fn host_adapter_refuses_unknown_slots_and_numbers_out_of_range() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let install = adapter.install(Slot(5), Generation(1), Some(&blob(&mut random)));
    assert!(matches!(install, Err(EnforcementError::UnknownSlot(Slot(5)))));
    assert!(matches!(adapter.learn_mounts(Slot(5), 1), Err(EnforcementError::UnknownSlot(Slot(5)))));
    let cgroup = Cgroup::new("range");
    for slot in [4096, u32::MAX] {
        let admitted = adapter.admit(&cgroup.membership(slot));
        assert!(matches!(admitted, Err(EnforcementError::Full { what: "slots", bound: 4096, .. })), "{admitted:?}");
    }
    let nowhere = Membership { cgroup: None, cgroup_path: None, ..cgroup.membership(6) };
    assert!(matches!(adapter.admit(&nowhere), Err(EnforcementError::Refused { .. })));
    adapter.admit(&cgroup.membership(6)).unwrap();
    assert!(adapter.learn_mounts(Slot(6), u32::MAX / 2).is_err(), "no such process");
    adapter.install(Slot(6), Generation(1), Some(&blob(&mut random))).unwrap();
    adapter.release(Slot(6)).unwrap();
}

#[test]
fn host_adapter_says_what_this_kernel_can_do() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let matrix = adapter.matrix();
    for (capability, state) in &matrix.capabilities {
        println!("{capability:?}: {state:?}");
    }
    for (family, held) in &matrix.families {
        println!("{family:?}: {:?}, {} gaps", held.tier, held.gaps.len());
    }
    assert_eq!(matrix.capabilities.len(), 18, "each was tried");
    let hooks = matrix.judges_on_hooks();
    let file = &matrix.families[&Family::File];
    assert_eq!(file.tier.is_by_hooks(), hooks);
    if let CapabilityState::Missing(reason) = &matrix.capabilities[&Capability::ModifyReturn] {
        assert!(!reason.is_empty(), "it is said why");
    }
    // Without a responder nothing may claim that fanotify holds anything.
    assert!(hooks || file.tier == Tier::Audit && !file.gaps.is_empty());
    assert!(adapter.refused().iter().all(|refusal| !refusal.reason.is_empty() && !refusal.without.is_empty()));
}

#[test]
fn host_adapter_refuses_pins_of_another_layout() {
    let Some(pins) = pin_root() else { return };
    let _alone = alone();
    fs::create_dir_all(&pins.0).unwrap();
    let status = std::process::Command::new("bpftool")
        .args(["map", "create", &format!("{}/slots", pins.0.display())])
        .args(["type", "array", "key", "4", "value", "8", "entries", "1", "name", "slots"])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: bpftool cannot make a map here");
        return;
    }
    let config = KernelConfig { pin_root: pins.0.clone(), responder: None, ..Default::default() };
    let error = KernelAdapter::open(config).unwrap_err().to_string();
    assert!(error.contains("palisade unload"), "{error}");
}
