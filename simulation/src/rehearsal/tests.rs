//! Acts held against policies.

use palisade_domain::Posture;
use palisade_kernel_abi::record::{
    Capability, Exec, FileChange, FileOperation, Folded, Header as RecordHeader, Mount, MountOperation, Network,
    NetworkOperation, Open, Script, Text,
};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_wire::trace::{Acting, TraceReader};

use super::*;
use crate::replay::tests as traces;

fn rehearse(bytes: &[u8], policy: &str, workloads: Vec<String>) -> Report {
    whole(of(policy, Given::default(), workloads), bytes)
}

fn whole(mut rehearsal: Rehearsal, bytes: &[u8]) -> Report {
    rehearsal.whole(&mut TraceReader::open(bytes).expect("a trace")).expect("bytes");
    rehearsal.report()
}

fn of(policy: &str, given: Given, workloads: Vec<String>) -> Rehearsal {
    let set = PolicySet::parse([("p.yaml", policy.as_bytes())]).expect("sound");
    Rehearsal::new(set, given, workloads)
}

/// Of a trace of these facts and of what a process of a slot did after them.
fn of_act(mut rehearsal: Rehearsal, header: &Header, facts: Vec<What>, act: Option<(u32, Body<'_>)>) -> Report {
    let mut of_trace = rehearsal.trace(header);
    of_trace.part(&Part::Facts(facts.into_iter().map(|what| Fact { boot_ns: 1, what }).collect()));
    if let Some((slot, body)) = act {
        let mut writer = palisade_kernel_abi::record::RecordWriter::default();
        let header = RecordHeader { slot, tgid: 60, boot_ns: 9, phase: Phase::Workload, ..RecordHeader::default() };
        writer.write(&Record { header, body, decision: None }).expect("fits");
        let mut block = palisade_wire::trace::Batches::new();
        block.push(writer.bytes(), |_| true);
        of_trace.part(&Part::Records(block));
    }
    of_trace.end();
    rehearsal.report()
}

fn policy(body: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n{body}  action: Block\n"
    )
}

#[test]
fn unit_rehearsal_says_what_would_have_been_denied_by_rule_workload_and_process() {
    let bytes = traces::trace(traces::POLICY);
    let report = rehearse(&bytes, &policy("  file: {matchPaths: [{path: /etc/hosts}]}\n"), Vec::new());
    assert_eq!((report.denials(), report.denied.len()), (2, 1));
    let row = &report.denied[0];
    assert_eq!((row.policy.as_str(), row.process.as_str()), ("KubeArmorPolicy/shop/p", "/bin/sh"));
    assert_eq!((row.workload.as_str(), row.place.as_str()), ("shop/web-1/web", "file.matchPaths[0]"));
    assert_eq!((row.examples.len(), row.examples[0].resource.as_str()), (2, "/etc/hosts"));
    assert_eq!(row.examples[0].time, "2026-11-25T21:37:53.000000Z");
    assert!(report.undecidable.is_empty());
    // What was denied then is an act as well, and would be permitted now.
    assert_eq!(report.acts, report.permitted + 2);
    assert_eq!(rehearse(&bytes, traces::POLICY, Vec::new()).denials(), 2);
    assert_eq!(rehearse(&bytes, traces::POLICY, vec!["shop/db".into()]).denials(), 0);
    assert_eq!(rehearse(&bytes, &policy("  process: {matchPaths: [{path: /bin/sh}]}\n"), Vec::new()).denials(), 1);
    let of_nginx = policy("  process: {matchPaths: [{path: /bin/sh, fromSource: [{path: /usr/sbin/nginx}]}]}\n");
    assert_eq!(rehearse(&bytes, &of_nginx, Vec::new()).denials(), 1, "the shell's caller is what it was forked from");
    let of_other = policy("  process: {matchPaths: [{path: /bin/sh, fromSource: [{path: /usr/sbin/apache2}]}]}\n");
    assert_eq!(rehearse(&bytes, &of_other, Vec::new()).denials(), 0);
}

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

fn judged(rules: &str, body: Body<'_>, acting: Option<Acting<'_>>) -> Option<Judged> {
    let set = PolicySet::parse([("p.yaml", policy(rules).as_bytes())]).expect("sound");
    let rules = set.rules_for(&traces::workload(), &BTreeMap::new(), Postures::default());
    let compiled = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("small");
    act::judge(&compiled.blob, &Record { header: RecordHeader::default(), body, decision: None }, acting)
}

fn effect(judged: Option<Judged>) -> Result<Effect, Missing> {
    match judged.expect("an act") {
        Judged::Decided(decision) => Ok(decision.effect),
        Judged::Undecidable(missing, _) => Err(missing),
    }
}

const SHELL: Option<Acting<'_>> = Some(Acting { executable: "/bin/sh", tty: Some(0), own_pid: 7 });

#[test]
fn unit_rehearsal_of_a_rule_that_hangs_on_what_no_record_tells_is_undecidable() {
    let open = |path| Body::Open(Open { path, flags: 0, result: 3 });
    let owner = "  file: {matchPaths: [{path: /a, ownerOnly: true}]}\n";
    assert_eq!(effect(judged(owner, open(text(b"/a")), SHELL)), Err(Missing::Owner));
    assert_eq!(effect(judged(owner, open(text(b"/b")), SHELL)), Ok(Effect::Permit));
    let plain = "  file: {matchPaths: [{path: /a}]}\n";
    let cut = Text { bytes: b"/a", cut: true, ..Text::default() };
    assert_eq!(effect(judged(plain, open(cut), SHELL)), Err(Missing::Path));
    assert_eq!(effect(judged("  process: {matchPaths: [{path: /a}]}\n", open(cut), SHELL)), Ok(Effect::Permit));
    let sourced = "  file: {matchPaths: [{path: /a, fromSource: [{path: /bin/sh}]}]}\n";
    assert_eq!(effect(judged(sourced, open(text(b"/a")), None)), Err(Missing::Source));
    assert_eq!(effect(judged(sourced, open(text(b"/b")), None)), Ok(Effect::Permit));
    assert_eq!(effect(judged(sourced, open(text(b"/a")), SHELL)), Ok(Effect::Block));
}

#[test]
fn unit_rehearsal_tells_reading_from_writing() {
    let open = |flags| Body::Open(Open { path: text(b"/a"), flags, result: 3 });
    let read_only = "  file: {matchPaths: [{path: /a, readOnly: true}]}\n";
    assert_eq!(effect(judged(read_only, open(0), SHELL)), Ok(Effect::Permit));
    for flags in [1, 2, 0o100, 0o1000] {
        assert_eq!(effect(judged(read_only, open(flags), SHELL)), Ok(Effect::Block), "{flags:o}");
    }
}

/// As the kernel does it: of two names the stricter decides.
#[test]
fn unit_rehearsal_judges_changes_and_mounts_as_writes_of_every_name_that_they_have() {
    let read_only = "  file: {matchPaths: [{path: /a, readOnly: true}]}\n";
    let change = |operation, path, new_path| {
        Body::FileChange(FileChange { operation, path: text(path), new_path: text(new_path), ..FileChange::default() })
    };
    for (operation, path, new_path, expected) in [
        (FileOperation::Unlink, b"/a".as_slice(), b"".as_slice(), Effect::Block),
        (FileOperation::Unlink, b"/b", b"", Effect::Permit),
        (FileOperation::Rename, b"/b", b"/a", Effect::Block),
        (FileOperation::Link, b"/a", b"/b", Effect::Block),
        (FileOperation::Rename, b"/b", b"/c", Effect::Permit),
        (FileOperation::Symlink, b"/a", b"/b", Effect::Permit),
        (FileOperation::Symlink, b"/b", b"/a", Effect::Block),
    ] {
        assert_eq!(effect(judged(read_only, change(operation, path, new_path), SHELL)), Ok(expected), "{operation:?}");
    }
    assert!(judged(read_only, change(FileOperation::Create, b"/a", b""), SHELL).is_none(), "its open is the act");
    let mount = |operation, target, source| {
        Body::Mount(Mount { operation, target: text(target), source: text(source), ..Mount::default() })
    };
    let over = mount(MountOperation::Mount, b"/a", b"tmpfs");
    assert_eq!(effect(judged(read_only, over, SHELL)), Ok(Effect::Block));
    assert_eq!(effect(judged(read_only, mount(MountOperation::MoveMount, b"/b", b"/a"), SHELL)), Ok(Effect::Block));
    assert!(judged(read_only, mount(MountOperation::Fsopen, b"", b""), SHELL).is_none());
    let caller = Text { bytes: b"/a", user: true, ..Text::default() };
    let unlink =
        Body::FileChange(FileChange { operation: FileOperation::Unlink, path: caller, ..FileChange::default() });
    assert_eq!(effect(judged(read_only, unlink, SHELL)), Err(Missing::Resolved));
}

/// What is denied below it goes with a directory, and with nothing else: where the record does not tell which it was, nobody knows.
#[test]
fn unit_rehearsal_judges_the_rename_of_a_directory_by_what_is_denied_below_it() {
    let rules = "  file: {matchPaths: [{path: /etc/ssh/key}]}\n";
    let renamed = |path, new_path, mode, flags| {
        let operation = FileOperation::Rename;
        let (path, new_path) = (text(path), text(new_path));
        Body::FileChange(FileChange { operation, path, new_path, mode, flags, ..FileChange::default() })
    };
    let (directory, file, exchange) = (0o040_755, 0o100_644, 2);
    for (path, new_path, mode, flags, expected) in [
        (b"/etc".as_slice(), b"/e".as_slice(), directory, 0, Ok(Effect::Block)),
        (b"/etc/ssh", b"/e", directory, 0, Ok(Effect::Block)),
        (b"/etc/ssh", b"/e", file, 0, Ok(Effect::Permit)),
        (b"/etc/ssh", b"/e", 0, 0, Err(Missing::Directory)),
        (b"/e", b"/etc/ssh", directory, 0, Ok(Effect::Permit)),
        (b"/e", b"/etc/ssh", file, exchange, Err(Missing::Directory)),
        (b"/srv", b"/e", 0, exchange, Ok(Effect::Permit)),
    ] {
        let judged = judged(rules, renamed(path, new_path, mode, flags), SHELL);
        assert_eq!(effect(judged), expected, "{mode:o} {flags}");
    }
}

#[test]
fn unit_rehearsal_of_allowed_arguments_needs_the_arguments() {
    let rules = "  process: {matchPaths: [{path: /bin/ls, allowedArgs: [-l]}]}\n";
    let exec = |argument_bytes| {
        Body::Exec(Exec { path: text(b"/bin/ls"), argument_bytes, argument_count: 2, ..Exec::default() })
    };
    let redacted = Text { cut: true, ..Text::default() };
    assert_eq!(effect(judged(rules, exec(redacted), SHELL)), Err(Missing::Arguments));
    assert_eq!(effect(judged(rules, exec(text(b"ls\0-l\0")), SHELL)), Ok(Effect::Permit));
    assert_eq!(effect(judged(rules, exec(text(b"ls\0-a\0")), SHELL)), Ok(Effect::Block));
}

#[test]
fn unit_rehearsal_decides_sockets_destinations_and_capabilities_as_the_kernel_does() {
    let network = Network {
        operation: NetworkOperation::Connect,
        domain: 2,
        socket_type: 2,
        protocol: 17,
        destination: Some(("10.0.0.1".parse().expect("an address"), 53)),
        user: false,
        result: 0,
    };
    let rules = "  network: {matchProtocols: [{protocol: udp}]}\n";
    let socket = Network { operation: NetworkOperation::Socket, destination: None, ..network };
    assert_eq!(effect(judged(rules, Body::Socket(socket), SHELL)), Ok(Effect::Block));
    let tcp = Network { socket_type: 1, protocol: 6, ..socket };
    assert_eq!(effect(judged(rules, Body::Socket(tcp), SHELL)), Ok(Effect::Permit));
    let listening = Network { operation: NetworkOperation::Listen, ..network };
    assert_eq!(judged(rules, Body::Bind(listening), SHELL), None);
    let raw = "  capabilities: {matchCapabilities: [{capability: net_raw}]}\n";
    let used = |capability| Body::Capability(Capability { capability, result: 0 });
    assert_eq!(effect(judged(raw, used(13), SHELL)), Ok(Effect::Block));
    assert_eq!(effect(judged(raw, used(12), SHELL)), Ok(Effect::Permit));
}

#[test]
fn unit_rehearsal_counts_what_was_folded_as_often_as_it_was_done() {
    let mut writer = palisade_kernel_abi::record::RecordWriter::default();
    let header =
        |boot_ns| RecordHeader { slot: 4, tgid: 60, boot_ns, phase: Phase::Workload, ..RecordHeader::default() };
    let mut write = |boot_ns, body| {
        writer.write(&Record { header: header(boot_ns), body, decision: None }).expect("fits");
    };
    for (at, path, result) in [(10, b"/etc/hosts", 3), (20, b"/etc/nosuc", -2)] {
        write(at, Body::Open(Open { path: text(path), flags: 0, result }));
        let folded = Folded { of_kind: Kind::Open, of_boot_ns: at, last_ns: at + 5, repeats: 7 };
        write(at + 5, Body::Folded(folded));
    }
    for of_boot_ns in [12, 1] {
        let unknown = Folded { of_kind: Kind::Open, of_boot_ns, last_ns: 39, repeats: 2 };
        write(40, Body::Folded(unknown));
    }
    let set = PolicySet::parse([("p.yaml", policy("  file: {matchPaths: [{path: /etc/hosts}]}\n").as_bytes())]);
    let mut rehearsal = Rehearsal::new(set.expect("sound"), Given::default(), Vec::new());
    let mut of_trace = rehearsal.trace(&Header::default());
    let named = Fact { boot_ns: 0, what: What::WorkloadNamed(Slot(4), traces::workload()) };
    of_trace.part(&Part::Facts(vec![named]));
    let mut block = palisade_wire::trace::Batches::new();
    block.push(writer.bytes(), |_| true);
    of_trace.part(&Part::Records(block));
    of_trace.end();
    let report = rehearsal.report();
    assert_eq!((report.acts, report.denials()), (8 + 2, 8), "{report:?}");
    assert_eq!(report.undecidable.iter().map(|row| row.count).sum::<u64>(), 2);
    assert_eq!(report.of_before, 2, "what no record of this trace could tell");
}

#[test]
fn unit_rehearsal_counts_only_what_was_done_or_denied() {
    let open = |result| Body::Open(Open { path: text(b"/a"), flags: 0, result });
    assert!(act::happened(&open(3)) && !act::happened(&open(-2)));
    assert!(!act::happened(&Body::Folded(Folded { of_kind: Kind::Open, of_boot_ns: 0, last_ns: 0, repeats: 3 })));
}

fn preset(name: &str, body: Body<'_>, acting: Option<Acting<'_>>) -> Option<Judged> {
    let rules = format!("  presets: [{{name: {name}}}]\n");
    let set = PolicySet::parse([("p.yaml", policy(&rules).as_bytes())]).expect("sound");
    let rules = set.rules_for(&traces::workload(), &BTreeMap::new(), Postures::default());
    let compiled = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("small");
    let header = RecordHeader { slot: 4, ..RecordHeader::default() };
    act::judge_presets(&compiled.blob, &Record { header, body, decision: None }, acting)
}

#[test]
fn unit_rehearsal_decides_presets_by_what_records_tell_and_says_what_they_do_not() {
    let open = |path: &'static str| Body::Open(Open { path: text(path.as_bytes()), flags: 0, result: 3 });
    let exec = |path: &'static str, tty| Body::Exec(Exec { path: text(path.as_bytes()), tty, ..Exec::default() });
    for (name, path, expected) in [
        ("protectEnv", "/proc/1/environ", Some(Effect::Block)),
        ("protectEnv", "/proc/1/task/1/environ", Some(Effect::Block)),
        ("protectEnv", "/proc/7/environ", None),
        ("protectEnv", "/proc/1/maps", Some(Effect::Permit)),
        ("protectProc", "/proc/1/maps", Some(Effect::Block)),
        ("protectProc", "/proc/7/maps", None),
        ("protectProc", "/proc/meminfo", None),
        ("protectProc", "/srv/proc/1", None),
    ] {
        let judged = preset(name, open(path), SHELL);
        assert_eq!(judged.map(|judged| effect(Some(judged))), expected.map(Ok), "{name} {path}");
    }
    let unknown = Some(Acting { own_pid: 0, ..SHELL.expect("a shell") });
    assert_eq!(effect(preset("protectProc", open("/proc/1/maps"), unknown)), Err(Missing::OwnNumber));
    for path in ["/memfd:x", "/dev/shm/x", "/run/shm/x"] {
        assert_eq!(effect(preset("filelessExec", exec(path, 0), SHELL)), Ok(Effect::Block), "{path}");
    }
    assert_eq!(effect(preset("filelessExec", exec("/bin/ls", 5), SHELL)), Ok(Effect::Permit));
    assert_eq!(effect(preset("exec", exec("/bin/ls", 0), SHELL)), Ok(Effect::Permit), "no terminal");
    assert_eq!(effect(preset("exec", exec("/bin/ls", 5), SHELL)), Err(Missing::Session));
    assert_eq!(preset("exec", open("/bin/ls"), SHELL), None);
}

#[test]
fn unit_rehearsal_names_each_rule_that_the_trace_cannot_judge_and_why() {
    let bytes = traces::trace(traces::POLICY);
    let judged = rehearse(&bytes, &policy("  file: {matchPaths: [{path: /etc/nothing}]}\n"), Vec::new());
    assert!(judged.is_complete() && judged.denials() == 0, "{:?}", judged.unjudged);
    for (rules, place, why) in [
        ("  network: {matchProtocols: [{protocol: udp}]}\n", "network.matchProtocols[0]", "visibility network"),
        (
            "  capabilities: {matchCapabilities: [{capability: net_raw}]}\n",
            "capabilities.matchCapabilities[0]",
            "visibility capabilities",
        ),
        ("  presets: [{name: anonMapExec}]\n", "presets[0]", "no record tells of memory"),
        ("  syscalls: {matchSyscalls: [{syscall: [ptrace]}]}\n", "syscalls.matchSyscalls[0]", "visibility syscalls"),
        ("  syscalls: {matchPaths: [{path: /a, syscall: [mount]}]}\n", "syscalls.matchPaths[0]", "visibility kernel"),
    ] {
        let report = rehearse(&bytes, &policy(rules), Vec::new());
        let found = report.unjudged.iter().find(|row| row.place == place);
        let row = found.unwrap_or_else(|| panic!("{place}: {:?}", report.unjudged));
        assert!(row.reason.contains(why) && row.acts == 0 && row.workload == "shop/web-1/web", "{row:?}");
        assert!(!report.is_complete());
    }
    let owner = rehearse(&bytes, &policy("  file: {matchPaths: [{path: /etc/hosts, ownerOnly: true}]}\n"), Vec::new());
    assert_eq!(
        owner.unjudged.iter().map(|row| (row.place.as_str(), row.acts)).collect::<Vec<_>>(),
        [("file.matchPaths[0]", 2)]
    );
    let other = policy("  file: {matchPaths: [{path: /a}]}\n").replace("app: web", "app: other");
    assert_eq!(rehearse(&bytes, &other, Vec::new()).unselected.iter().collect::<Vec<_>>(), ["KubeArmorPolicy/shop/p"]);
}

#[test]
fn unit_rehearsal_audits_system_calls_on_paths_by_what_records_tell_of_them() {
    let bytes = traces::trace(traces::POLICY);
    let rules = "  syscalls: {matchPaths: [{path: /etc/hosts, syscall: [openat, open]}]}\n";
    let report = rehearse(&bytes, &policy(rules).replace("action: Block", "action: Audit"), Vec::new());
    assert_eq!((report.denials(), report.audited), (0, 2), "{report:?}");
}

const HOSTS: &str = "  file: {matchPaths: [{path: /etc/nothing}]}\n";

fn of_facts(facts: Vec<(u64, What)>, workloads: Vec<String>) -> Report {
    let set = PolicySet::parse([("p.yaml", policy(HOSTS).as_bytes())]).expect("sound");
    let mut rehearsal = Rehearsal::new(set, Given::default(), workloads);
    let header = Header { visibility: "file".parse().expect("a class"), ..Header::default() };
    let mut of_trace = rehearsal.trace(&header);
    of_trace.part(&Part::Facts(facts.into_iter().map(|(boot_ns, what)| Fact { boot_ns, what }).collect()));
    of_trace.end();
    rehearsal.report()
}

fn named() -> What {
    What::WorkloadNamed(Slot(4), traces::workload())
}

fn lost(missing: u64, kernel: &[(&str, u64)]) -> What {
    let kernel = kernel.iter().map(|(reason, count)| (4, (*reason).to_owned(), *count)).collect();
    What::Loss(palisade_wire::trace::Loss { missing, kernel, ..Default::default() })
}

#[test]
fn unit_rehearsal_of_a_trace_with_losses_or_damages_is_not_complete() {
    let of = |facts: &[What]| {
        let begin = [(0, named())].into_iter();
        of_facts(begin.chain(facts.iter().cloned().map(|what| (9, what))).collect(), Vec::new())
    };
    assert!(of(&[]).is_complete());
    let before = [lost(7, &[("RingFull", 7)]), What::SnapshotEnd];
    assert!(of(&before).is_complete(), "what was lost before the trace is not of it");
    let more = of(&[&before[..], &[lost(9, &[("RingFull", 9)])]].concat());
    assert_eq!((more.missing_records, more.is_complete()), (2, false));
    let folded = of(&[What::SnapshotEnd, lost(5, &[("Folded", 5)])]);
    assert_eq!((folded.missing_records, folded.is_complete()), (0, true));
    let again = of(&[&before[..], &[lost(2, &[])]].concat());
    assert_eq!(again.missing_records, 2, "counters that began anew");
    let late = of(&[&before[..], &[lost(9, &[]), lost(8, &[])]].concat());
    assert_eq!(late.missing_records, 1, "a number that came late");
    let set = PolicySet::parse([("p.yaml", policy(HOSTS).as_bytes())]).expect("sound");
    let mut rehearsal = Rehearsal::new(set, Given::default(), Vec::new());
    let mut of_trace = rehearsal.trace(&Header { visibility: "file".parse().expect("a class"), ..Header::default() });
    of_trace.part(&Part::Facts(vec![Fact { boot_ns: 0, what: named() }]));
    of_trace.end();
    rehearsal.damaged(1);
    assert!(!rehearsal.report().is_complete());
}

#[test]
fn unit_rehearsal_of_nobody_is_not_complete_and_names_nobody_has_are_told() {
    let nobody = of_facts(Vec::new(), Vec::new());
    assert!(!nobody.is_complete() && nobody.unknown_workloads.is_empty());
    let typo = of_facts(vec![(0, named())], vec!["shop/web-1".into(), "nosuch".into()]);
    assert_eq!(typo.unknown_workloads.iter().collect::<Vec<_>>(), ["nosuch"]);
}

#[test]
fn unit_rehearsal_names_rules_on_a_silent_workload_of_which_nothing_was_seen() {
    const SECOND: u64 = 1_000_000_000;
    let none = || What::Visible(Slot(4), Visibility::NONE);
    let reasons = |facts| of_facts(facts, Vec::new()).unjudged.into_iter().map(|row| row.reason).collect::<Vec<_>>();
    assert_eq!(reasons(vec![(0, named())]), [""; 0]);
    assert!(reasons(vec![(0, named()), (5, none())])[0].contains("were not seen"));
    assert!(reasons(vec![(0, named()), (5 * SECOND, none())])[0].contains("a part of the trace only"));
    let settings = What::Settings { visibility: Visibility::NONE, throttle: None };
    assert!(reasons(vec![(0, named()), (5 * SECOND, settings.clone())])[0].contains("a part of the trace only"));
    let gone = What::WorkloadGone(Slot(4));
    assert_eq!(reasons(vec![(0, named()), (5 * SECOND, gone), (6 * SECOND, settings)]), [""; 0]);
}

#[test]
fn unit_rehearsal_cannot_decide_acts_of_a_slot_that_no_fact_names() {
    let open = Body::Open(Open { path: text(b"/etc/nothing"), flags: 0, result: 3 });
    let rehearsal = of(&policy(HOSTS), Given::default(), Vec::new());
    let report = of_act(rehearsal, &Header::default(), Vec::new(), Some((5, open)));
    assert_eq!(report.undecidable.iter().map(|row| row.missing).collect::<Vec<_>>(), [Missing::Workload.words()]);
}

#[test]
fn unit_rehearsal_does_not_take_a_callers_path_for_a_files() {
    let path = Text { bytes: b"/srv/link", user: true, ..Text::default() };
    let open = Body::Open(Open { path, flags: 0, result: 3 });
    assert_eq!(effect(judged(HOSTS, open, SHELL)), Err(Missing::Resolved));
    assert_eq!(effect(preset("protectProc", open, SHELL)), Err(Missing::Resolved));
    let exec = Body::Exec(Exec { path, ..Exec::default() });
    assert_eq!(effect(judged("  process: {matchPaths: [{path: /a}]}\n", exec, SHELL)), Err(Missing::Resolved));
    assert_eq!(effect(judged("  process: {matchPaths: [{path: /a}]}\n", open, SHELL)), Ok(Effect::Permit));
}

#[test]
fn unit_rehearsal_says_that_postures_differ() {
    let bytes = traces::trace(traces::POLICY);
    let same = rehearse(&bytes, &policy(HOSTS), Vec::new());
    assert!(!same.has_other_postures);
    assert_eq!(same.postures.iter().map(|held| held.file.by).collect::<Vec<_>>(), [Said::Recorded]);
    let given = Given { file: Some(Posture::Block), ..Given::default() };
    let report = whole(of(&policy(HOSTS), given, Vec::new()), &bytes);
    assert!(report.has_other_postures);
    let said: Vec<_> = report.postures.iter().map(|held| (held.file.by, held.network.by)).collect();
    assert_eq!(said, [(Said::Given, Said::Recorded)]);
}

#[test]
fn unit_rehearsal_adopts_the_postures_that_a_trace_was_recorded_under_unless_others_are_given() {
    let body = "  file: {matchPaths: [{path: /etc/allowed}]}\n  action: Allow\n";
    let allowing = policy(body).replace("  action: Allow\n  action: Block\n", "  action: Allow\n");
    let under = |given: Given, recorded: Option<Posture>| {
        let recorded = recorded.map(|file| {
            let postures = Postures { file, ..Postures::default() };
            let (generation, documents) = (palisade_domain::Generation(2), Arc::from([]));
            What::PolicySet(palisade_wire::trace::PolicyDocuments { generation, postures, documents })
        });
        let facts = [Some(named()), recorded].into_iter().flatten().collect();
        let header = Header { visibility: "file".parse().expect("a class"), ..Header::default() };
        let open = Body::Open(Open { path: text(b"/etc/nothing"), flags: 0, result: 3 });
        let report = of_act(of(&allowing, given, Vec::new()), &header, facts, Some((4, open)));
        (report.denials(), report.audited, report.postures[0].file.by)
    };
    let given = |posture| Given { file: Some(posture), ..Given::default() };
    assert_eq!(under(Given::default(), None), (0, 1, Said::Default));
    assert_eq!(under(Given::default(), Some(Posture::Block)), (1, 0, Said::Recorded));
    assert_eq!(under(given(Posture::Audit), Some(Posture::Block)), (0, 1, Said::Given));
    assert_eq!(under(given(Posture::Block), Some(Posture::Audit)), (1, 0, Said::Given));
}

#[test]
fn unit_rehearsal_of_an_import_does_not_judge_processes_of_which_no_execution_is_in_it() {
    let reasons = |program: &str, executes: bool| {
        let rules = policy("  process: {matchPaths: [{path: /bin/no}]}\n");
        let header = Header { program: program.into(), ..Header::default() };
        let exec = Body::Exec(Exec { path: text(b"/bin/sh"), ..Exec::default() });
        let rehearsal = of(&rules, Given::default(), Vec::new());
        let report = of_act(rehearsal, &header, vec![named()], executes.then_some((4, exec)));
        report.unjudged.into_iter().map(|row| row.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons("0.1.0", false), [""; 0], "a node records each");
    let imported = format!("{IMPORTED}logs");
    assert_eq!(reasons(&imported, true), [""; 0]);
    assert!(reasons(&imported, false)[0].starts_with("no execution is in what was imported"));
}

/// A rehearsal of what KubeArmor logged of executions: each with the name of a policy where it is an alert.
fn of_logs(rules: &str, executions: &[(&str, &str)]) -> Report {
    let log = |(resource, policy): &(&str, &str)| {
        format!(
            "{{\"Timestamp\":5,\"HostName\":\"n\",\"NamespaceName\":\"shop\",\"PodName\":\"web-1\",\"Labels\":\"app=web\",\"ContainerID\":\"abc\",\"HostPID\":9,\"Operation\":\"Process\",\"Resource\":\"{resource}\",\"Result\":\"Passed\",\"PolicyName\":\"{policy}\"}}\n"
        )
    };
    let logs: String = executions.iter().map(log).collect();
    let (trace, _) = crate::import::kubearmor::import(logs.as_bytes(), Vec::new()).expect("imported");
    rehearse(&trace, &policy(rules), Vec::new())
}

#[test]
fn unit_rehearsal_does_not_take_an_alert_for_a_proof_that_executions_were_seen() {
    let rules = "  process: {matchPaths: [{path: /usr/bin/curl}]}\n";
    let reasons = |executions: &[(&str, &str)]| {
        of_logs(rules, executions).unjudged.into_iter().map(|row| row.reason).collect::<Vec<_>>()
    };
    let alert = ("/bin/sh -c id", "audits-shells");
    assert!(reasons(&[alert])[0].starts_with("no execution is in what was imported"));
    assert_eq!(reasons(&[alert, ("/bin/ls -l", "")]), [""; 0]);
    let denied = of_logs(rules, &[("/usr/bin/curl x", "audits-curl")]);
    assert_eq!((denied.denials(), denied.unjudged.len()), (1, 1), "what it tells of is an act all the same");
}

#[test]
fn unit_rehearsal_of_logs_does_not_take_one_word_for_an_execution_without_a_script() {
    let rules = "  process: {matchPaths: [{path: /usr/bin/dash}]}\n";
    let report = of_logs(rules, &[("/srv/run.sh", "")]);
    assert_eq!(report.undecidable.iter().map(|row| row.missing).collect::<Vec<_>>(), [Missing::Script.words()]);
    assert!(!report.is_complete());
    assert_eq!(of_logs(rules, &[("/usr/bin/dash", "")]).denials(), 1);
}

fn of_script(path: Text<'static>, count: u32) -> Body<'static> {
    let script = Script::Interpreted { path, count };
    let argument_bytes = text(b"/bin/sh\0/x.sh\0now\0");
    Body::Exec(Exec { path: text(b"/usr/bin/dash"), argument_bytes, argument_count: 3, script, ..Exec::default() })
}

#[test]
fn unit_rehearsal_judges_an_execution_by_the_script_and_by_its_interpreter() {
    let by = |rule: &str| {
        effect(judged(&format!("  process: {{matchPaths: [{rule}]}}\n"), of_script(text(b"/x.sh"), 1), SHELL))
    };
    assert_eq!(by("{path: /x.sh}"), Ok(Effect::Block));
    assert_eq!(by("{path: /usr/bin/dash}"), Ok(Effect::Block));
    assert_eq!(by("{path: /bin/other}"), Ok(Effect::Permit));
    // What the caller gave stands behind the script's name, which an option of the interpreter may stand before.
    assert_eq!(by("{path: /x.sh, allowedArgs: [later]}"), Ok(Effect::Block));
    assert_eq!(by("{path: /x.sh, allowedArgs: [now]}"), Err(Missing::Script));
}

#[test]
fn unit_rehearsal_does_not_decide_a_script_of_which_it_has_the_callers_words_or_nothing() {
    let rule = "  process: {matchPaths: [{path: /x.sh}]}\n";
    let user = Text { user: true, ..text(b"/x.sh") };
    assert_eq!(effect(judged(rule, of_script(user, 0), SHELL)), Err(Missing::ScriptPath));
    assert!(Missing::ScriptPath.advice().contains("6.10"), "what a user can do about the kernel");
    assert_eq!(effect(judged(rule, of_script(text(b"/a.sh"), 2), SHELL)), Err(Missing::Scripts));
    let untold = |argument_count| {
        let exec = Exec { path: text(b"/bin/sh"), script: Script::Untold, argument_count, ..Exec::default() };
        effect(judged(rule, Body::Exec(exec), SHELL))
    };
    assert_eq!(untold(2), Err(Missing::Script));
    assert_eq!(untold(1), Ok(Effect::Permit), "an interpreter is given the script's name");
    // Whatever the script is, the interpreter is denied.
    let dash = "  process: {matchPaths: [{path: /usr/bin/dash}]}\n";
    assert_eq!(effect(judged(dash, of_script(user, 0), SHELL)), Ok(Effect::Block));
    assert_eq!(effect(judged(HOSTS, of_script(user, 0), SHELL)), Ok(Effect::Permit), "there is no rule on processes");
}

#[test]
fn unit_rehearsal_holds_a_script_of_memory_against_fileless_exec() {
    let shared = text(b"/dev/shm/x.sh");
    assert_eq!(effect(preset("filelessExec", of_script(shared, 1), SHELL)), Ok(Effect::Block));
    assert_eq!(effect(preset("filelessExec", of_script(text(b"/x.sh"), 1), SHELL)), Ok(Effect::Permit));
    let user = Text { user: true, ..shared };
    assert_eq!(effect(preset("filelessExec", of_script(user, 1), SHELL)), Err(Missing::ScriptPath));
}
