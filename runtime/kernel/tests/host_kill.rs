//! Host ring: what cannot be denied here is killed for, and what can be neither is said to be so. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{collections::BTreeSet, ffi::CString, fs, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus};

use palisade_domain::{Action, CgroupId, Generation, Posture, Slot};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    kill::{self, KillDuty},
    records::DEFAULT_RING_BYTES,
};
use palisade_kernel_abi::{
    blob,
    record::{Body, DecisionTaken, FailReason, Family, Kind, Outcome, Record, Tier},
};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, SocketMatch, SocketShape};
use palisade_world::{Enforcement as _, Membership};
#[cfg(target_arch = "x86_64")]
use probe_bed::raw;
use probe_bed::{Bed, Child, Directory, Records, c, calls, errno_of, namespace, path_of, rule, start};

fn held(name: &str, families: &[blob::Family], fanotify_judges: bool, rules: Vec<Rule>) -> (Bed, Records) {
    let mut bed = Bed::new(name);
    let duty = KillDuty {
        families,
        fanotify_judges,
        prepare_exec: true,
        audits_host_execs: false,
        host_mnt_ns: namespace("mnt"),
    };
    kill::attach(palisade_bpf::KILL, &bed.pins, duty).expect("the programs load");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(4, &probe_bed::blob(rules));
    (bed, records)
}

fn killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// A process outside of every bed that waits to be traced; its number says nothing of a cgroup.
fn victim() -> Child {
    start(calls::pause)
}

fn kill_off(child: Child) {
    calls::kill(child.pid, libc::SIGKILL);
    child.wait();
}

/// (state, tracer) as /proc tells, once the process is where signals and its tracer's death put it.
fn tracing_of(pid: i32) -> (String, String) {
    for _ in 0..100 {
        let told = told_of(pid);
        if told.0 != "R (running)" {
            return told;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    told_of(pid)
}

fn told_of(pid: i32) -> (String, String) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the victim lives");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (field("State:"), field("TracerPid:"))
}

fn own_executable() -> String {
    fs::canonicalize("/proc/self/exe").unwrap().to_str().unwrap().to_owned()
}

fn trace(action: Action, path: PathMatch) -> Vec<Rule> {
    vec![rule(action, Matcher::Ptrace(path))]
}

fn only<'a>(records: &[Record<'a>]) -> (Record<'a>, DecisionTaken) {
    let [record] = records else { panic!("{records:?}") };
    (*record, record.decision.expect("it was decided"))
}

const PTRACE: &[blob::Family] = &[blob::Family::Ptrace];

/// Attaches, and only then tells the test by a file: a killed tracer never does.
fn attach(request: u32, target: i32, marker: &CString) -> i32 {
    let result = calls::trace(request, target);
    calls::open(marker, libc::O_CREAT | libc::O_RDWR);
    result
}

#[test]
fn host_kill_a_tracer_dies_before_it_can_use_the_trace() {
    let directory = Directory::new("tracer");
    for request in [libc::PTRACE_ATTACH, libc::PTRACE_SEIZE] {
        let marker = directory.0.join(request.to_string());
        let marker_path = c(&marker);
        let (bed, mut records) = held("tracer", PTRACE, true, trace(Action::Block, PathMatch::Exact(own_executable())));
        let target = victim();
        let target_pid = target.pid;
        let tracer = bed.start(|| attach(request, target_pid, &marker_path));
        let tracer_pid = tracer.pid;
        assert!(killed(tracer.wait()));
        assert!(!marker.exists(), "it never came back from ptrace(2)");
        let (state, by) = tracing_of(target_pid);
        assert_eq!(by, "0", "nobody traces the target any more");
        let left = if request == libc::PTRACE_ATTACH { "T (stopped)" } else { "S (sleeping)" };
        assert_eq!(state, left, "what had happened before the kill, and is documented");
        kill_off(target);
        let all = records.all();
        let (record, decision) = only(&all);
        assert_eq!((decision.tier, decision.outcome, decision.family), (Tier::Kill, Outcome::Killed, Family::Ptrace));
        assert_eq!((decision.generation, decision.fail_reason), (4, FailReason::None));
        let Body::Ptrace(ptrace) = record.body else { panic!("{record:?}") };
        assert_eq!((ptrace.request, i64::from(ptrace.target_tgid)), (request, i64::from(target_pid)));
        assert_eq!((path_of(&record), i64::from(record.header.tgid)), (own_executable(), i64::from(tracer_pid)));
        records.verify();
    }
}

#[test]
fn host_kill_a_tracer_whose_target_was_not_there_at_the_entry_dies_at_the_exit() {
    let directory = Directory::new("late");
    let marker = directory.0.join("marker");
    let marker_path = c(&marker);
    let (bed, mut records) = held("late", PTRACE, true, trace(Action::Block, PathMatch::Exact(own_executable())));
    // What a call sees whose target is born after the check.
    fs::remove_file(bed.pins.join("kill").join("kill_tracer")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let target = victim();
    let target_pid = target.pid;
    assert!(killed(bed.start(|| attach(libc::PTRACE_SEIZE, target_pid, &marker_path)).wait()));
    assert!(!marker.exists(), "it never came back from ptrace(2)");
    assert_eq!(tracing_of(target_pid).1, "0", "nobody traces the target any more");
    kill_off(target);
    let all = records.all();
    let (record, decision) = only(&all);
    let Body::Ptrace(ptrace) = record.body else { panic!("{record:?}") };
    assert_eq!((decision.outcome, i64::from(ptrace.target_tgid)), (Outcome::Killed, i64::from(target_pid)));
    records.verify();
}

#[test]
fn host_kill_spares_tracers_of_other_targets_and_of_other_workloads() {
    let directory = Directory::new("spared");
    let marker = c(&directory.0.join("marker"));
    let (bed, mut records) =
        held("spared", PTRACE, true, trace(Action::Block, PathMatch::Exact("/usr/bin/other".into())));
    let target = victim();
    let target_pid = target.pid;
    assert_eq!(bed.start(|| attach(libc::PTRACE_SEIZE, target_pid, &marker)).code(), 0);
    kill_off(target);
    assert!(records.all().is_empty());
    let (_bed, mut records) = held("spared", PTRACE, true, trace(Action::Block, PathMatch::Any));
    let target = victim();
    let target_pid = target.pid;
    assert_eq!(start(|| attach(libc::PTRACE_SEIZE, target_pid, &marker)).code(), 0);
    kill_off(target);
    assert!(records.all().is_empty());
}

#[test]
fn host_kill_audited_tracing_goes_on_and_is_observed() {
    let directory = Directory::new("audited");
    let marker = c(&directory.0.join("marker"));
    let (bed, mut records) = held("audited", PTRACE, true, trace(Action::Audit, PathMatch::Any));
    let target = victim();
    let target_pid = target.pid;
    assert_eq!(bed.start(|| attach(libc::PTRACE_SEIZE, target_pid, &marker)).code(), 0);
    kill_off(target);
    let all = records.all();
    let (_, decision) = only(&all);
    assert_eq!((decision.tier, decision.outcome), (Tier::Audit, Outcome::Observed));
    records.verify();
}

/// The child of the test below, in another executable than its parent; does nothing when it is run as a test.
#[test]
fn host_kill_traced_child() {
    if std::env::var_os("BED_TRACEME").is_some() {
        let result = calls::trace(libc::PTRACE_TRACEME, 0);
        std::process::exit(result);
    }
}

/// Runs a copy of this test binary inside, as a child that asks to be traced by this process. The thread that asks stays after
/// its end until its tracer reaps it, and with it the process: so whatever ends is waited for.
fn traceme(bed: &Bed, executable: &Path) -> ExitStatus {
    let procs = bed.cgroup.join("cgroup.procs");
    let (program, quiet) = (c(executable), c(Path::new("/dev/null")));
    let words = ["child", "--exact", "host_kill_traced_child", "--test-threads=1"].map(|word| c(Path::new(word)));
    let environment = [c(Path::new("BED_TRACEME=1"))];
    let child = start(|| {
        calls::close(1);
        calls::open(&quiet, libc::O_WRONLY);
        if fs::write(&procs, "0").is_err() {
            return 251;
        }
        calls::exec_with(&program, &words, &environment)
    });
    loop {
        match calls::wait_for_any() {
            (pid, status) if pid == child.pid => return ExitStatus::from_raw(status),
            (pid, _) => assert!(pid > 0, "{}", std::io::Error::last_os_error()),
        }
    }
}

#[test]
fn host_kill_traceme_is_judged_by_the_parent_that_would_trace() {
    let directory = Directory::new("traceme");
    let copy = directory.0.join("child");
    fs::copy("/proc/self/exe", &copy).unwrap();
    let by = |source: String| {
        let sources = BTreeSet::from([source]);
        vec![Rule { sources, ..rule(Action::Block, Matcher::Ptrace(PathMatch::Any)) }]
    };
    let (bed, mut records) = held("traceme", PTRACE, true, by(copy.to_str().unwrap().to_owned()));
    assert_eq!(traceme(&bed, &copy).code(), Some(0), "the child is no tracer");
    assert!(records.all().is_empty());
    let (bed, mut records) = held("traceme", PTRACE, true, by(own_executable()));
    assert_eq!(traceme(&bed, &copy).signal(), Some(libc::SIGKILL));
    let all = records.all();
    let (record, _) = only(&all);
    let Body::Ptrace(ptrace) = record.body else { panic!("{record:?}") };
    assert_eq!((ptrace.request, ptrace.target_tgid), (0, record.header.tgid));
    assert_eq!(path_of(&record), copy.to_str().unwrap());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_kill_the_32_bit_entry_is_no_way_round() {
    let (bed, mut records) = held("compat", PTRACE, true, trace(Action::Block, PathMatch::Any));
    let target = victim();
    let target_pid = target.pid;
    assert_eq!(start(|| -calls::trace_by_32_bit_entry(libc::PTRACE_SEIZE, target_pid)).code(), 0, "it works at all");
    assert!(killed(bed.start(|| calls::trace_by_32_bit_entry(libc::PTRACE_SEIZE, target_pid)).wait()));
    kill_off(target);
    assert_eq!(records.all().len(), 1);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_kill_a_number_with_more_than_the_kernel_reads_of_it_is_no_way_round() {
    let (bed, mut records) = held("disguise", PTRACE, true, trace(Action::Block, PathMatch::Any));
    let target = victim();
    let target_pid = i64::from(target.pid);
    let seize = || {
        let result = raw::call(101 | 0x5555 << 32, [i64::from(libc::PTRACE_SEIZE), target_pid, 0, 0, 0, 0]);
        i32::from(result != 0)
    };
    assert_eq!(start(seize).code(), 0, "it works at all");
    assert!(killed(bed.start(seize).wait()));
    kill_off(target);
    assert_eq!(records.all().len(), 1);
}

fn exec_rule(action: Action, path: &str) -> Rule {
    let path = PathMatch::Exact(path.to_owned());
    rule(action, Matcher::Process(PathRule::of(path)))
}

#[test]
fn host_kill_a_denied_program_runs_no_instruction() {
    let directory = Directory::new("exec");
    let program = directory.0.join("touch");
    fs::copy("/usr/bin/touch", &program).unwrap();
    let marker = directory.0.join("marker");
    let words = [c(&program), c(&marker)];
    let touch = || calls::exec(&words[0], &words);
    let (bed, mut records) =
        held("exec", &[blob::Family::Process], false, vec![exec_rule(Action::Block, program.to_str().unwrap())]);
    assert!(killed(bed.start(touch).wait()));
    assert!(!marker.exists());
    let all = records.all();
    let (record, decision) = only(&all);
    assert_eq!((record.kind(), decision.outcome, decision.tier), (Kind::Exec, Outcome::Killed, Tier::Kill));
    assert_eq!(path_of(&record), program.to_str().unwrap());
    assert_eq!(start(touch).code(), 0);
    assert!(marker.exists());
}

fn read_only(path: &Path, action: Action) -> Rule {
    let path = PathMatch::Exact(path.to_str().unwrap().to_owned());
    rule(action, Matcher::File(PathRule { read_only: true, ..PathRule::of(path) }))
}

fn opens(path: &CString, flags: &[i32]) -> i32 {
    flags.iter().map(|flags| errno_of(calls::open(path, *flags))).sum()
}

#[test]
fn host_kill_a_write_that_fanotify_cannot_judge_is_said_to_be_unenforceable() {
    let directory = Directory::new("write");
    let file = directory.file("file", "content");
    let path = c(&file);
    let all_flags = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDONLY | libc::O_TRUNC, libc::O_RDWR | libc::O_APPEND];
    for (action, outcome) in [(Action::Block, Outcome::Unenforceable), (Action::Audit, Outcome::Observed)] {
        let (bed, mut records) = held("write", &[blob::Family::File], true, vec![read_only(&file, action)]);
        assert_eq!(bed.start(|| opens(&path, &all_flags)).code(), 0);
        let all = records.all();
        let seen: Vec<_> = all
            .iter()
            .map(|record| match (record.body, record.decision) {
                (Body::Open(open), Some(decision)) => (open.flags.cast_signed(), decision.outcome, decision.tier),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, all_flags[1..].iter().map(|flags| (*flags, outcome, Tier::Audit)).collect::<Vec<_>>());
        assert!(all.iter().all(|record| path_of(record) == file.to_str().unwrap()));
        records.verify();
    }
}

#[test]
fn host_kill_opens_are_all_reported_where_nothing_else_judges_them() {
    let directory = Directory::new("alone");
    let file = directory.file("file", "content");
    let path = c(&file);
    let by_path = PathMatch::Exact(file.to_str().unwrap().to_owned());
    let block = rule(Action::Block, Matcher::File(PathRule::of(by_path)));
    let (bed, mut records) = held("alone", &[blob::Family::File], false, vec![block.clone()]);
    assert_eq!(bed.start(|| opens(&path, &[libc::O_RDONLY, libc::O_RDWR])).code(), 0);
    assert_eq!(records.all().len(), 2);
    let (bed, mut records) = held("alone", &[blob::Family::File], true, vec![block]);
    assert_eq!(bed.start(|| opens(&path, &[libc::O_RDONLY, libc::O_RDWR])).code(), 0);
    assert!(records.all().is_empty(), "fanotify judges both alike, and reports them");
}

#[test]
fn host_kill_sockets_that_no_cgroup_program_sees() {
    let shape = SocketShape { domain: None, kind: Some(3), protocol: None };
    let raw = Matcher::Socket(SocketMatch { name: "raw".into(), any_of: vec![shape], pts: None });
    let (bed, mut records) = held("socket", &[blob::Family::Socket], true, vec![rule(Action::Block, raw)]);
    let socket = |domain, kind| errno_of(calls::socket(domain, kind, 0));
    assert!(killed(bed.start(|| socket(libc::AF_PACKET, libc::SOCK_RAW)).wait()));
    assert_eq!(bed.start(|| socket(libc::AF_PACKET, libc::SOCK_DGRAM)).code(), 0);
    assert_eq!(
        bed.start(|| socket(libc::AF_INET, libc::SOCK_RAW)).code(),
        libc::EPROTONOSUPPORT,
        "the cgroup programs' business"
    );
    let all = records.all();
    let (record, decision) = only(&all);
    assert_eq!((record.kind(), decision.outcome, decision.family), (Kind::Socket, Outcome::Killed, Family::Socket));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_kill_a_socket_is_what_it_is_and_not_what_the_callers_memory_says_later() {
    let shape = SocketShape { domain: Some(16), kind: None, protocol: None };
    let netlink = Matcher::Socket(SocketMatch { name: "netlink".into(), any_of: vec![shape], pts: None });
    let (bed, mut records) = held("memory", &[blob::Family::Socket], true, vec![rule(Action::Block, netlink)]);
    let asked = raw::shared_low(&[2, 2, 0]);
    let flips = start(|| {
        loop {
            raw::write_low(asked, 2);
            raw::write_low(asked, 16);
        }
    });
    // socketcall(SYS_SOCKET) until the kernel has read the forbidden domain.
    let make_netlink = || {
        for _ in 0..100_000 {
            let socket = i64::from(raw::call_32(102, [1, asked, 0, 0, 0]));
            let (domain, length) = (0_i32, 4_u32);
            let [into, size] =
                [(&raw const domain).addr(), (&raw const length).addr()].map(|at| at.cast_signed() as i64);
            raw::call(55, [socket, 1, 39, into, size, 0]);
            // The kernel has written it.
            if std::hint::black_box(domain) == libc::AF_NETLINK {
                return 1;
            }
            raw::call(3, [socket, 0, 0, 0, 0, 0]);
        }
        2
    };
    let ends: Vec<i32> = (0..300).map(|_| bed.start(make_netlink).wait()).collect();
    kill_off(flips);
    assert!(ends.iter().all(|status| killed(*status)), "{ends:?}");
    records.drain();
}

/// How a process ends that makes a unix socket where that is decided, and what is said of it.
fn unix_datagram_under(rule: Rule, posture: Posture) -> (i32, Vec<(Outcome, Tier)>) {
    let (mut bed, mut records) = held("posture", &[blob::Family::Socket], true, Vec::new());
    bed.install(5, &probe_bed::blob_with(vec![rule], posture));
    let status = bed.start(|| errno_of(calls::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0))).wait();
    let all = records.all();
    (status, all.iter().filter_map(|record| record.decision).map(|taken| (taken.outcome, taken.tier)).collect())
}

#[test]
fn host_kill_a_socket_is_killed_for_by_rules_and_not_by_the_posture() {
    let named = |action, domain: u8, kind: u8| {
        let shape = SocketShape { domain: Some(domain), kind: Some(kind), protocol: None };
        rule(action, Matcher::Socket(SocketMatch { name: "named".into(), any_of: vec![shape], pts: None }))
    };
    let killed_for = |rule, posture| {
        let (status, reported) = unix_datagram_under(rule, posture);
        (killed(status), status, reported)
    };
    let (was_killed, _, reported) = killed_for(named(Action::Block, 1, 2), Posture::Audit);
    assert!(was_killed);
    assert_eq!(reported, [(Outcome::Killed, Tier::Kill)]);
    // What no rule names goes on.
    let tcp = || named(Action::Allow, 2, 1);
    assert_eq!(killed_for(tcp(), Posture::Block), (false, 0, vec![(Outcome::Unenforceable, Tier::Audit)]));
    assert_eq!(killed_for(tcp(), Posture::Audit), (false, 0, vec![(Outcome::Observed, Tier::Audit)]));
    let audited = named(Action::Audit, 1, 2);
    assert_eq!(killed_for(audited, Posture::Block), (false, 0, vec![(Outcome::Observed, Tier::Audit)]));
}

#[test]
fn host_kill_the_obsolete_way_to_a_packet_socket_is_no_way_round() {
    let shape = SocketShape { domain: Some(17), kind: None, protocol: None };
    let packet = Matcher::Socket(SocketMatch { name: "packet".into(), any_of: vec![shape], pts: None });
    let (bed, mut records) = held("packet", &[blob::Family::Socket], true, vec![rule(Action::Block, packet)]);
    // SOCK_PACKET, which libc calls deprecated.
    let socket = || errno_of(calls::socket(libc::AF_INET, 10, 0));
    assert_eq!(start(socket).code(), 0, "it works at all");
    assert!(killed(bed.start(socket).wait()));
    let all = records.all();
    let Body::Socket(network) = only(&all).0.body else { panic!("{all:?}") };
    assert_eq!((network.domain, network.socket_type), (17, 10));
}

#[test]
fn host_kill_is_the_adapters_means_for_sockets_that_no_cgroup_program_sees() {
    let bed = Bed::new("adapter");
    let config = KernelConfig { pin_root: bed.pins.clone(), responder: None, ..KernelConfig::default() };
    let adapter = KernelAdapter::open(config).expect("the adapter opens");
    if adapter.matrix().families[&palisade_domain::Family::Network].tier != palisade_domain::Tier::CgroupBpf {
        println!("skipped: cgroup programs do not hold networks here");
        return;
    }
    let membership = Membership {
        slot: Slot(probe_bed::SLOT),
        cgroup: Some(CgroupId(bed.cgroup_id())),
        cgroup_path: bed.cgroup.file_name().map(|name| Path::new("/").join(name)),
        pid: 0,
        root: None,
    };
    adapter.admit(&membership).expect("admitted");
    let shape = SocketShape { domain: Some(1), kind: None, protocol: None };
    let unix = Matcher::Socket(SocketMatch { name: "unix".into(), any_of: vec![shape], pts: None });
    let policy = probe_bed::blob(vec![rule(Action::Block, unix)]);
    adapter.install(membership.slot, Generation(1), Some(&policy)).expect("in force");
    let make = |domain| bed.start(|| errno_of(calls::socket(domain, libc::SOCK_DGRAM, 0))).wait();
    assert!(killed(make(libc::AF_UNIX)));
    assert_eq!((make(libc::AF_NETLINK), make(libc::AF_INET)), (0, 0));
    adapter.release(membership.slot).expect("released");
    assert_eq!(make(libc::AF_UNIX), 0);
}

#[test]
fn host_kill_links_hold_without_their_loader_and_go_when_their_duty_goes() {
    let (bed, mut records) = held("pins", PTRACE, true, trace(Action::Block, PathMatch::Any));
    let pin = bed.pins.join("kill").join("kill_tracer");
    assert!(pin.exists());
    let duty = KillDuty {
        families: &[blob::Family::File],
        fanotify_judges: true,
        prepare_exec: false,
        audits_host_execs: false,
        host_mnt_ns: 0,
    };
    kill::attach(palisade_bpf::KILL, &bed.pins, duty).expect("it loads again");
    assert!(!pin.exists() && bed.pins.join("kill").join("kill_after_call").exists());
    let target = victim();
    let target_pid = target.pid;
    let seize = || calls::trace(libc::PTRACE_SEIZE, target_pid);
    // The kernel takes a tracepoint's program away when it comes to it.
    let spared = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        bed.start(seize).wait() == 0
    });
    assert!(spared);
    kill_off(target);
    kill::detach(&bed.pins).expect("it goes");
    kill::detach(&bed.pins).expect("detaching again is harmless");
    records.drain();
}
