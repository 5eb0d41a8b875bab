//! Host ring: system calls, capabilities and protections by name, as they are held without an LSM. Needs root and Linux 6.14.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    path::Path,
};

use aya::{Ebpf, EbpfLoader, programs::BtfTracePoint};
use palisade_domain::{Action, CgroupId, Generation, Slot};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    kill::{self, KillDuty},
    objects::{self, Constant, PinRoot},
    records::DEFAULT_RING_BYTES,
};
use palisade_kernel_abi::{
    blob,
    record::{Body, DecisionTaken, FailReason, Family, Outcome, Record, Tier},
};
use palisade_policy::ir::{CapabilityMatch, Matcher, Preset, Rule, SyscallMatch};
use palisade_world::{Enforcement as _, Membership};
#[cfg(target_arch = "x86_64")]
use probe_bed::raw;
use probe_bed::{Bed, Child, Directory, Records, blob, c, calls, errno_of, namespace, path_of, rule, start};

fn killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/* ---- system calls ---- */

fn audit_calls(bed: &Bed) -> Ebpf {
    let btf = palisade_kernel::KernelTypes::shared().expect("BTF");
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps().default_map_pin_directory(&bed.pins);
    let mut object = loader.load(palisade_bpf::SYSCALLS).unwrap();
    let program: &mut BtfTracePoint = object.program_mut("audit_call").unwrap().try_into().unwrap();
    program.load("sys_enter", &btf).unwrap();
    program.attach().unwrap();
    object
}

fn syscall(action: Action, numbers: &[u16], numbers32: &[u16]) -> Rule {
    let call = SyscallMatch {
        names: vec!["test".into()],
        numbers: numbers.iter().copied().collect(),
        numbers32: numbers32.iter().copied().collect(),
        path: None,
    };
    rule(action, Matcher::Syscall(call))
}

fn with_calls(name: &str, rules: Vec<Rule>) -> (Bed, Ebpf, Records) {
    let mut bed = Bed::new(name);
    let object = audit_calls(&bed);
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(4, &blob(rules));
    (bed, object, records)
}

/// (number, by the 32-bit entry, decision) of each.
fn calls_of(records: &[Record<'_>]) -> Vec<(u32, bool, DecisionTaken)> {
    let of = |record: &Record<'_>| {
        let Body::Syscall(call) = record.body else { panic!("{record:?}") };
        (call.number, call.compat, record.decision.unwrap())
    };
    records.iter().map(of).collect()
}

#[test]
fn host_syscalls_that_a_rule_names_are_observed_by_both_entries_and_no_others() {
    let directory = Directory::new("calls");
    let file = c(&directory.file("f", "x"));
    // 5 is open by the 32-bit entry, and fstat by the other.
    let (bed, _object, mut records) = with_calls("calls", vec![syscall(Action::Audit, &[161], &[5])]);
    let root = CString::new("/").unwrap();
    let act = || {
        let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `status` takes what the call writes, and lives over it; a path that ends with NUL.
        unsafe {
            libc::syscall(libc::SYS_fstat, 0, status.as_mut_ptr());
            libc::chroot(root.as_ptr());
        }
        calls::open_by_32_bit_entry(&file).min(0).abs()
    };
    assert_eq!(bed.start(act).code(), 0);
    assert_eq!(start(act).code(), 0, "no other cgroup is looked at");
    let all = records.all();
    let seen = calls_of(&all);
    let numbers: BTreeSet<_> = seen.iter().map(|(number, compat, _)| (*number, *compat)).collect();
    assert_eq!(numbers, BTreeSet::from([(161, false), (5, true)]));
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (_, _, decision) in seen {
        assert_eq!(
            (decision.tier, decision.outcome, decision.family, decision.fail_reason),
            (Tier::Audit, Outcome::Observed, Family::Syscall, FailReason::None)
        );
    }
    records.verify();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_syscalls_are_observed_as_x32_and_by_numbers_with_more_than_the_kernel_reads_of_them() {
    const X32: i64 = 0x4000_0000;
    // chroot, rt_sigpending (which x32 has by a number of its own), and i386's 110, which nobody calls here.
    let (bed, _object, mut records) = with_calls("tables", vec![syscall(Action::Audit, &[161, 127], &[110])]);
    let act = || {
        let root = raw::text(c"/");
        let mut pending = [0_u8; 8];
        let into = pending.as_mut_ptr().addr().cast_signed() as i64;
        raw::call(161 | 0x5555 << 32, [root, 0, 0, 0, 0, 0]);
        raw::call(X32 | 161, [root, 0, 0, 0, 0, 0]);
        raw::call(X32 | 522, [into, 8, 0, 0, 0, 0]);
        // Neither is: a number past x32's own, and one that only i386's table has under that name.
        raw::call(X32 | 600, [0; 6]);
        raw::call(110, [0; 6]);
        0
    };
    assert_eq!(bed.start(act).code(), 0);
    let all = records.all();
    let mut seen: Vec<_> = calls_of(&all).iter().map(|(number, compat, _)| (*number, *compat)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(161, false), (161, false), (522, false)]);
    records.verify();
}

#[test]
fn host_syscalls_that_do_not_come_back_are_observed() {
    let (bed, _object, mut records) = with_calls("exit", vec![syscall(Action::Audit, &[59, 231], &[])]);
    let (program, words) = (c(Path::new("/usr/bin/true")), [c(Path::new("true"))]);
    assert_eq!(bed.start(|| calls::exec(&program, &words)).code(), 0);
    let all = records.all();
    let numbers: Vec<u32> = calls_of(&all).iter().map(|(number, ..)| *number).collect();
    assert!(numbers.contains(&59) && numbers.contains(&231), "{numbers:?}");
}

#[test]
fn host_syscalls_of_rules_with_a_source_are_those_of_that_executable() {
    let own = fs::canonicalize("/proc/self/exe").unwrap().to_str().unwrap().to_owned();
    for (source, seen) in [(own, 1), ("/usr/bin/other".to_owned(), 0)] {
        let rule = Rule { sources: BTreeSet::from([source]), ..syscall(Action::Audit, &[161], &[]) };
        let (bed, _object, mut records) = with_calls("callsource", vec![rule]);
        let root = CString::new("/").unwrap();
        // SAFETY: a path that ends with NUL.
        assert_eq!(bed.start(|| errno_of(unsafe { libc::chroot(root.as_ptr()) })).code(), 0);
        assert_eq!(records.all().len(), seen);
    }
}

fn adapter(bed: &Bed) -> KernelAdapter {
    let config = KernelConfig { pin_root: bed.pins.clone(), responder: None, ..KernelConfig::default() };
    KernelAdapter::open(config).unwrap()
}

#[test]
fn host_adapter_looks_at_system_calls_only_while_a_policy_in_force_names_some() {
    let bed = Bed::new("ondemand");
    let pin = bed.pins.join("syscalls/audit_call");
    let slot = Slot(3);
    let membership = Membership {
        slot,
        cgroup: Some(CgroupId(bed.cgroup_id())),
        cgroup_path: Some(Path::new("/").join(bed.cgroup.file_name().unwrap())),
        pid: 0,
        root: None,
    };
    let calls = blob(vec![syscall(Action::Audit, &[161], &[])]);
    let files = blob(vec![capability(Action::Audit, "sys_chroot", 18)]);
    let first = adapter(&bed);
    first.admit(&membership).unwrap();
    for (policy, attached) in [(Some(&files), false), (Some(&calls), true), (None, false), (Some(&calls), true)] {
        first.install(slot, Generation(1), policy).unwrap();
        assert_eq!(pin.exists(), attached);
    }
    drop(first);
    assert!(pin.exists(), "policy stands while the runtime restarts");
    let second = adapter(&bed);
    assert!(pin.exists(), "and after it");
    second.admit(&membership).unwrap();
    second.release(slot).unwrap();
    assert!(!pin.exists());
}

#[test]
fn host_matrix_tells_what_holds_the_new_families_without_an_lsm() {
    let bed = Bed::new("matrix");
    let adapter = adapter(&bed);
    let matrix = adapter.matrix();
    if matrix.has(palisade_world::Capability::BpfLsm) {
        println!("skipped: this kernel has a BPF LSM");
        return;
    }
    use palisade_domain::{Family, Tier};
    for (family, tier, unheld) in [
        (Family::Capabilities, Tier::Audit, vec!["denial"]),
        (Family::Syscalls, Tier::Audit, vec![]),
        (Family::Dns, Tier::CgroupBpf, vec![]),
        (Family::Presets, Tier::Kill, vec!["preset:anonMapExec"]),
        (Family::Device, Tier::Audit, vec!["device"]),
    ] {
        let held = &matrix.families[&family];
        let words: Vec<&str> =
            held.gaps.iter().map(|gap| gap.what.as_str()).filter(|what| !what.contains(' ')).collect();
        assert_eq!((held.tier, words), (tier, unheld), "{family:?}");
    }
    let process = &matrix.families[&Family::Process];
    assert!(process.gaps.iter().all(|gap| gap.what != "allowedArgs"), "{process:?}");
}

/* ---- capabilities and protections, by the tier that kills ---- */

fn held(name: &str, family: blob::Family, rules: Vec<Rule>) -> (Bed, Records) {
    let mut bed = Bed::new(name);
    let duty = KillDuty {
        families: &[family],
        fanotify_judges: true,
        prepare_exec: true,
        audits_host_execs: false,
        host_mnt_ns: namespace("mnt"),
    };
    kill::attach(palisade_bpf::KILL, &bed.pins, duty).expect("the programs load");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(4, &blob(rules));
    (bed, records)
}

fn capability(action: Action, name: &str, number: u8) -> Rule {
    rule(action, Matcher::Capability(CapabilityMatch { name: name.to_owned(), number }))
}

#[test]
fn host_capabilities_without_an_lsm_are_seen_and_a_block_is_said_to_be_unenforceable() {
    let root = CString::new("/").unwrap();
    // SAFETY: a path that ends with NUL.
    let act = || errno_of(unsafe { libc::chroot(root.as_ptr()) });
    for (action, outcome) in [(Action::Audit, Outcome::Observed), (Action::Block, Outcome::Unenforceable)] {
        let (bed, mut records) =
            held("capability", blob::Family::Capability, vec![capability(action, "sys_chroot", 18)]);
        assert_eq!(bed.start(act).code(), 0, "it goes on");
        assert_eq!(start(act).code(), 0);
        let all = records.all();
        let [record] = all.as_slice() else { panic!("{all:?}") };
        let Body::Capability(used) = record.body else { panic!("{record:?}") };
        let decision = record.decision.unwrap();
        assert_eq!((used.capability, decision.tier, decision.outcome), (18, Tier::Audit, outcome));
        assert_eq!((decision.family, decision.fail_reason), (Family::Capability, FailReason::None));
        records.verify();
    }
}

#[test]
fn host_capabilities_whose_use_a_profile_tells_are_not_told_a_second_time() {
    let root = CString::new("/").unwrap();
    // SAFETY: a path that ends with NUL.
    let act = || errno_of(unsafe { libc::chroot(root.as_ptr()) });
    let rules = vec![capability(Action::Audit, "sys_chroot", 18)];
    let (mut bed, mut records) = held("profile", blob::Family::Capability, rules);
    assert_eq!(bed.start(act).code(), 0);
    assert_eq!(records.all().len(), 1, "no profile binds it yet");
    bed.bind_by_profile();
    assert_eq!(bed.start(act).code(), 0);
    assert_eq!(records.all().len(), 1, "that of before");
}

#[test]
fn host_capabilities_memory_that_is_taken_is_no_use_of_sys_admin() {
    let (bed, mut records) =
        held("sysadmin", blob::Family::Capability, vec![capability(Action::Audit, "sys_admin", 21)]);
    let (program, words) = (c(Path::new("/usr/bin/true")), [c(Path::new("true"))]);
    assert_eq!(bed.start(|| calls::exec(&program, &words)).code(), 0);
    assert!(records.all().is_empty(), "{:?}", records.all());
    let name = CString::new("palisade").unwrap();
    let act = || {
        calls::unshare(libc::CLONE_NEWUTS);
        // SAFETY: eight bytes of a name that has as many, in a namespace of the child's own.
        errno_of(unsafe { libc::sethostname(name.as_ptr(), 8) })
    };
    assert_eq!(bed.start(act).code(), 0);
    let all = records.all();
    assert!(!all.is_empty() && all.iter().all(|r| matches!(r.body, Body::Capability(used) if used.capability == 21)));
}

fn preset(action: Action, preset: Preset) -> Vec<Rule> {
    vec![rule(action, Matcher::Preset(preset))]
}

fn only<'a>(records: &[Record<'a>]) -> (Record<'a>, DecisionTaken) {
    let [record] = records else { panic!("{records:?}") };
    (*record, record.decision.expect("it was decided"))
}

#[test]
fn host_presets_a_program_without_a_file_is_killed_before_it_runs() {
    let directory = Directory::new("fileless");
    let marker = directory.0.join("marker");
    let script = format!("#!/bin/sh\n: > {}\n", marker.display());
    let true_program = fs::read("/usr/bin/true").unwrap();
    let name = c(Path::new("evil"));
    let (bed, mut records) = held("fileless", blob::Family::Preset, preset(Action::Block, Preset::FilelessExec));
    assert!(killed(bed.start(|| calls::exec_from_memory(&name, &true_program)).wait()));
    let (program, words) = (c(Path::new("/usr/bin/true")), [c(Path::new("true"))]);
    assert_eq!(bed.start(|| calls::exec(&program, &words)).code(), 0, "a file is a file");
    assert_eq!(start(|| calls::exec_from_memory(&name, &true_program)).code(), 0);
    // A descriptor of a removed file.
    let unlinked = directory.file("unlinked", &script);
    fs::copy("/usr/bin/true", &unlinked).unwrap();
    let unlinked_path = c(&unlinked);
    let child = bed.start(|| {
        let file = calls::open(&unlinked_path, libc::O_RDONLY);
        // SAFETY: paths that end with NUL; null-ended lists.
        unsafe {
            libc::unlink(unlinked_path.as_ptr());
            let (arguments, environment) = ([unlinked_path.as_ptr(), std::ptr::null()], [std::ptr::null()]);
            errno_of(libc::fexecve(file, arguments.as_ptr(), environment.as_ptr()))
        }
    });
    assert!(killed(child.wait()));
    let all = records.all();
    assert_eq!(all.len(), 2, "{all:?}");
    for record in &all {
        let decision = record.decision.unwrap();
        assert_eq!((decision.tier, decision.outcome, decision.family), (Tier::Kill, Outcome::Killed, Family::Preset));
    }
    assert!(path_of(&all[0]).contains("evil") || path_of(&all[1]).contains("evil"), "{all:?}");
    records.verify();
}

#[test]
fn host_presets_a_program_in_shared_memory_is_killed_for_too() {
    let program = Path::new("/dev/shm").join(format!("palisade-test-{}", std::process::id()));
    fs::copy("/usr/bin/true", &program).unwrap();
    let (path, words) = (c(&program), [c(Path::new("true"))]);
    let (bed, mut records) = held("shm", blob::Family::Preset, preset(Action::Block, Preset::FilelessExec));
    let status = bed.start(|| calls::exec(&path, &words)).wait();
    let outside = start(|| calls::exec(&path, &words)).wait();
    fs::remove_file(&program).unwrap();
    assert_eq!(outside, 0, "/dev/shm is mounted so that it executes");
    assert!(killed(status));
    let all = records.all();
    let (record, decision) = only(&all);
    assert_eq!((decision.outcome, path_of(&record).as_str()), (Outcome::Killed, program.to_str().unwrap()));
}

/// A process outside of every bed that waits.
fn victim() -> Child {
    start(calls::pause)
}

/// Opens and reads; only then tells the test by a file: who is killed at the open never does.
fn read_of(path: &CString, marker: &CString) -> i32 {
    let file = calls::open(path, libc::O_RDONLY);
    if file < 0 {
        return errno_of(file);
    }
    let mut byte = [0_u8];
    // SAFETY: one byte that is writable and lives over the call.
    let read = unsafe { libc::read(file, byte.as_mut_ptr().cast(), 1) };
    calls::open(marker, libc::O_CREAT | libc::O_RDWR);
    errno_of(i64::try_from(read).unwrap_or(-1))
}

#[test]
fn host_presets_protect_the_environment_and_the_directories_of_other_processes_and_nothing_else() {
    let directory = Directory::new("proc");
    let marker = directory.0.join("marker");
    let marker_path = c(&marker);
    let victim = victim();
    let other = |name: &str| c(Path::new(&format!("/proc/{}/{name}", victim.pid)));
    let environments = [other("environ"), other(&format!("task/{}/environ", victim.pid))];
    let rest = [other("status"), other("maps"), other("cmdline")];
    let own = [
        "/proc/self/environ",
        "/proc/thread-self/environ",
        "/proc/self/status",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/sys/kernel/osrelease",
        "/proc/self/net/dev",
    ];
    for (preset_of, forbidden, permitted) in [
        (Preset::ProtectEnv, environments.to_vec(), rest.to_vec()),
        (Preset::ProtectProc, [environments.to_vec(), rest.to_vec()].concat(), Vec::new()),
    ] {
        let (bed, mut records) = held("proc", blob::Family::Preset, preset(Action::Block, preset_of));
        for path in &forbidden {
            assert!(killed(bed.start(|| read_of(path, &marker_path)).wait()), "{path:?} by {preset_of:?}");
            assert!(!marker.exists(), "nothing was read");
        }
        let all = records.all();
        assert_eq!(all.len(), forbidden.len());
        for record in &all {
            let decision = record.decision.unwrap();
            assert_eq!(
                (decision.tier, decision.outcome, decision.family),
                (Tier::Kill, Outcome::Killed, Family::Preset)
            );
        }
        for path in own.iter().map(|path| c(Path::new(path))).chain(permitted) {
            assert_eq!(bed.start(|| read_of(&path, &marker_path)).code(), 0, "{path:?} by {preset_of:?}");
        }
        assert_eq!(records.all().len(), forbidden.len(), "what is permitted is not told");
        fs::remove_file(&marker).unwrap();
    }
    calls::kill(victim.pid, libc::SIGKILL);
    victim.wait();
}

/// A child that this process, from outside, puts into the cgroup, as a container's runtime does; then, in mounts of its own, it takes a
/// terminal if it is to have one and executes the script.
fn session(bed: &Bed, terminal: bool, script: &str) -> i32 {
    let (mut moved, mover) = std::io::pipe().unwrap();
    let words = [c"/bin/sh", c"-c"].map(CString::from).into_iter().chain([CString::new(script).unwrap()]);
    let words: Vec<CString> = words.collect();
    let child = start(|| {
        let is_in = moved.read_exact(&mut [0]).is_ok();
        calls::unshare(libc::CLONE_NEWNS);
        let has_terminal = terminal && calls::take_terminal() != 0;
        if is_in && has_terminal == terminal { calls::exec(&words[0], &words) } else { 253 }
    });
    fs::write(bed.cgroup.join("cgroup.procs"), child.pid.to_string()).unwrap();
    { mover }.write_all(b"x").unwrap();
    child.wait()
}

#[test]
fn host_presets_a_session_with_a_terminal_is_judged_at_each_of_its_executions() {
    let said = |action, terminal, script: &str| {
        let (bed, mut records) = held("session", blob::Family::Preset, preset(action, Preset::Exec));
        let (pins, btf) = (PinRoot::create(&bed.pins).unwrap(), palisade_kernel::KernelTypes::shared().unwrap());
        let host = [Constant::Word("pal_host_mnt_ns", namespace("mnt"))];
        let _identity =
            objects::load_and_attach("identity", palisade_bpf::IDENTITY, objects::IDENTITY, &btf, &pins, &host)
                .unwrap();
        let status = session(&bed, terminal, script);
        // The workload's own is no session, whatever it has.
        let own = bed.start(|| {
            calls::take_terminal();
            calls::exec(&c(Path::new("/usr/bin/true")), &[c(Path::new("true"))])
        });
        assert_eq!(own.code(), 0);
        // Each CPU has a ring of its own, so that records are in no order.
        let all = records.all();
        let names = all.iter().map(|record| path_of(record).rsplit('/').next().unwrap().to_owned());
        (status, names.collect::<BTreeSet<String>>())
    };
    let shell = fs::canonicalize("/bin/sh").unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    // What gives the terminal up is of no session any more.
    let script = "/usr/bin/env true; setsid -f -w env false; :";
    let (status, paths) = said(Action::Audit, true, script);
    assert_eq!(status, 0);
    assert_eq!(paths, [shell.as_str(), "env", "true", "setsid"].map(str::to_owned).into());
    assert_eq!(said(Action::Audit, false, script), (0, BTreeSet::new()), "without a terminal");
    let (status, paths) = said(Action::Block, true, script);
    assert!(killed(status));
    assert_eq!(paths, [shell].into(), "it never begins");
}

#[test]
fn host_presets_that_audit_let_the_act_go_on() {
    let directory = Directory::new("audited");
    let marker = c(&directory.0.join("marker"));
    let victim = victim();
    let path = c(Path::new(&format!("/proc/{}/environ", victim.pid)));
    let (bed, mut records) = held("audited", blob::Family::Preset, preset(Action::Audit, Preset::ProtectEnv));
    assert_eq!(bed.start(|| read_of(&path, &marker)).code(), 0);
    calls::kill(victim.pid, libc::SIGKILL);
    victim.wait();
    let all = records.all();
    let (_, decision) = only(&all);
    assert_eq!((decision.tier, decision.outcome), (Tier::Audit, Outcome::Observed));
}
