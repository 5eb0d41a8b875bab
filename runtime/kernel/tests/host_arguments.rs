//! Host ring: who is given arguments that no rule allows dies before its first instruction. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use palisade_domain::{Action, Posture};
use palisade_kernel::{
    objects::{self, Constant, LoadedObject, PinRoot},
    records::DEFAULT_RING_BYTES,
};
use palisade_kernel_abi::record::{Body, FailReason, Family, Outcome, Record, Tier};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule};
use probe_bed::{Bed, Directory, Records, blob_with, c, calls, namespace, rule, start};

struct Held {
    bed: Bed,
    records: Records,
    _object: LoadedObject,
}

/// Without an LSM, as on this machine: the object itself asks while the old image lives.
fn held(name: &str, rules: Vec<Rule>, posture: Posture) -> Held {
    let mut bed = Bed::new(name);
    let btf = palisade_kernel::KernelTypes::shared().expect("BTF");
    let pins = PinRoot::create(&bed.pins).unwrap();
    let constants = [Constant::Word("pal_decides_late", 0), Constant::Word("pal_host_mnt_ns", namespace("mnt"))];
    let specs = objects::ARGUMENTS_ALONE;
    let object =
        objects::load_and_attach("arguments", palisade_bpf::ARGUMENTS, specs, &btf, &pins, &constants).unwrap();
    assert!(object.refused.is_empty(), "{:?}", object.refused);
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(4, &blob_with(rules, posture));
    Held { bed, records, _object: object }
}

fn only_with(action: Action, path: &Path, arguments: &[&str]) -> Rule {
    let path = PathMatch::Exact(path.to_str().unwrap().to_owned());
    let allowed_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    rule(action, Matcher::Process(PathRule { allowed_arguments, ..PathRule::of(path) }))
}

/// A program of the test's own that makes each file that it is told to, first thing: `touch`.
fn program(directory: &Directory) -> PathBuf {
    let program = directory.0.join("touch");
    fs::copy("/usr/bin/touch", &program).unwrap();
    program
}

fn killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// Executes the program inside, with these arguments after an argv[0] that says something else; wait's status.
fn execute(bed: &Bed, program: &Path, arguments: &[&str]) -> i32 {
    let path = c(program);
    let words: Vec<CString> =
        std::iter::once("whatever").chain(arguments.iter().copied()).map(|word| c(Path::new(word))).collect();
    bed.start(|| calls::exec(&path, &words)).wait()
}

fn arguments_of(record: &Record<'_>) -> Vec<String> {
    let Body::Exec(exec) = record.body else { panic!("{record:?}") };
    exec.arguments().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

#[test]
fn host_arguments_that_no_rule_allows_are_killed_for_before_the_first_instruction() {
    let directory = Directory::new("arguments");
    let program = program(&directory);
    let marker = directory.0.join("marker");
    let marker_text = marker.to_str().unwrap();
    let mut held = held("arguments", vec![only_with(Action::Block, &program, &["-c", "-m", "--"])], Posture::Audit);
    assert!(killed(execute(&held.bed, &program, &["-c", marker_text])));
    assert!(!marker.exists(), "it ran no instruction of its own");
    {
        let all = held.records.all();
        let [record] = all.as_slice() else { panic!("{all:?}") };
        let decision = record.decision.unwrap();
        assert_eq!(
            (decision.tier, decision.outcome, decision.family, decision.fail_reason),
            (Tier::Kill, Outcome::Killed, Family::Process, FailReason::None)
        );
        assert_eq!(probe_bed::path_of(record), program.to_str().unwrap());
        assert_eq!(arguments_of(record), ["whatever", "-c", marker_text]);
    }
    let words = [c(&program), c(Path::new("-m")), c(&marker)];
    assert_eq!(start(|| calls::exec(&words[0], &words)).code(), 0, "no other cgroup is held");
    assert!(marker.exists());
    held.records.verify();
}

#[test]
fn host_arguments_of_the_set_are_permitted_in_any_order_and_number_but_not_none_at_all() {
    let directory = Directory::new("permitted");
    let program = program(&directory);
    let markers = ["a", "b"].map(|name| directory.0.join(name).to_str().unwrap().to_owned());
    let [a, b] = &markers;
    let allowed = ["-c", a.as_str(), b.as_str(), ""];
    let mut held = held("permitted", vec![only_with(Action::Block, &program, &allowed)], Posture::Audit);
    for arguments in [vec![a.as_str()], vec![b, a, "-c"], vec![a, a, b, b], vec!["-c", b]] {
        for marker in &markers {
            fs::write(marker, "").unwrap();
        }
        let status = execute(&held.bed, &program, &arguments);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{arguments:?}: {status:#x}");
    }
    // touch itself has something to say of this, but it runs.
    assert!(libc::WIFEXITED(execute(&held.bed, &program, &[""])));
    for arguments in
        [vec![], vec!["-C"], vec!["-c "], vec!["-"], vec![a, "x"], vec!["x", a], vec!["-c", "-c", "-c", "-d"]]
    {
        assert!(killed(execute(&held.bed, &program, &arguments)), "{arguments:?}");
    }
    assert!(held.records.all().iter().all(|r| r.decision.is_some_and(|d| d.outcome == Outcome::Killed)));
}

#[test]
fn host_arguments_that_are_longer_or_more_than_are_read_take_the_fail_mode() {
    let directory = Directory::new("long");
    let program = program(&directory);
    let marker = directory.0.join("marker");
    let marker_text = marker.to_str().unwrap();
    let long = format!("--date={}", "x".repeat(504));
    assert_eq!(long.len(), 511);
    let many: Vec<&str> = std::iter::repeat_n("-c", 64).chain([marker_text]).collect();
    for refuses in [false, true] {
        let mut held = held("long", vec![only_with(Action::Block, &program, &["-c", marker_text])], Posture::Audit);
        if refuses {
            held.bed.refuse_on_failure();
        }
        for arguments in [vec![marker_text, long.as_str()], many.clone()] {
            let status = execute(&held.bed, &program, &arguments);
            assert_eq!(killed(status), refuses, "{} arguments", arguments.len());
            let all = held.records.all();
            let decision = all.last().unwrap().decision.unwrap();
            let outcome = if refuses { Outcome::Killed } else { Outcome::Observed };
            assert_eq!((decision.fail_reason, decision.outcome), (FailReason::Unreadable, outcome));
        }
        assert!(killed(execute(&held.bed, &program, &[marker_text, &long[..510]])), "one byte less is read");
        // Where one is not of the set, the unread ones do not matter.
        assert!(killed(execute(&held.bed, &program, &["other", long.as_str()])));
    }
}

#[test]
fn host_arguments_of_a_long_argv_0_are_found_behind_it() {
    let directory = Directory::new("zero");
    let program = program(&directory);
    let marker = directory.0.join("marker");
    let held = held("zero", vec![only_with(Action::Block, &program, &["-c"])], Posture::Audit);
    let path = c(&program);
    for length in [0, 1, 510, 511, 512, 1021, 1022, 1023, 5000] {
        let zero = CString::new("z".repeat(length)).unwrap();
        let allowed = [zero.clone(), c(Path::new("-c"))];
        let status = held.bed.start(|| calls::exec(&path, &allowed)).wait();
        assert!(libc::WIFEXITED(status), "argv[0] of {length} bytes");
        let other = [zero, c(&marker)];
        assert!(killed(held.bed.start(|| calls::exec(&path, &other)).wait()), "argv[0] of {length} bytes");
        assert!(!marker.exists());
    }
}

#[test]
fn host_arguments_of_an_allow_rule_permit_and_others_get_the_posture() {
    let directory = Directory::new("allow");
    let program = program(&directory);
    let own = fs::canonicalize("/proc/self/exe").unwrap();
    for (posture, dies) in [(Posture::Block, true), (Posture::Audit, false)] {
        let rules = vec![only_with(Action::Allow, &program, &["--version"]), only_with(Action::Allow, &own, &[])];
        let mut held = held("allow", rules, posture);
        assert!(!killed(execute(&held.bed, &program, &["--version"])));
        assert!(held.records.all().is_empty());
        assert_eq!(killed(execute(&held.bed, &program, &["--help"])), dies);
        let all = held.records.all();
        let [record] = all.as_slice() else { panic!("{all:?}") };
        let outcome = if dies { Outcome::Killed } else { Outcome::Observed };
        assert_eq!(record.decision.unwrap().outcome, outcome);
    }
}

#[test]
fn host_arguments_are_judged_by_who_executes_not_by_what_is_executed() {
    let directory = Directory::new("source");
    let program = program(&directory);
    let own = fs::canonicalize("/proc/self/exe").unwrap().to_str().unwrap().to_owned();
    for (source, dies) in [(own, true), (program.to_str().unwrap().to_owned(), false), ("/usr/bin/other".into(), false)]
    {
        let block = Rule { sources: BTreeSet::from([source.clone()]), ..only_with(Action::Block, &program, &["-c"]) };
        let held = held("source", vec![block], Posture::Audit);
        assert_eq!(killed(execute(&held.bed, &program, &["--help"])), dies, "from {source}");
        assert!(!killed(execute(&held.bed, &program, &["-c"])), "from {source}");
    }
}

#[test]
fn host_arguments_an_execution_that_failed_leaves_nothing_for_the_next() {
    let directory = Directory::new("failed");
    let program = program(&directory);
    let broken = directory.file("broken", "#!/no/such/interpreter\n");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let rules = vec![only_with(Action::Block, &program, &["-c"])];
    let held = held("failed", rules, Posture::Audit);
    let (path, other) = (c(&broken), c(Path::new("/usr/bin/true")));
    let words = [c(Path::new("x")), c(Path::new("y"))];
    let child = held.bed.start(|| {
        calls::exec(&path, &words);
        calls::exec(&other, &words)
    });
    assert_eq!(child.code(), 0);
}
