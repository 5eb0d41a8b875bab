//! Lines as their readers get them: KubeArmor's fields, logs, what is held back, hostile names.

use std::sync::Arc;

use palisade_domain::{
    Action, AlertAction, ContainerId, KubeArmorOperation, Line, LineType, Operation, Slot, Verdict, Visibility,
    Workload, WorkloadKind, text as domain_text,
};
use palisade_kernel_abi::record::{
    Body, CallNumber, DecisionTaken, Dns, Exec, Exit, Family, FileChange, FileOperation, Fork, Header, Mount,
    MountOperation, Network, NetworkOperation, Open, Outcome, Phase, Ptrace, Record, Script, Text, Tier,
};
use palisade_protocol::{VisibilityChanged, WorkloadNamed};
use palisade_supervision::Kept;
use palisade_world::{PasswdAnswer, PasswdOf};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    compose::{self, NodeNames},
    state::{Settings, State},
    tests::{header, lines, open, state, taken, text},
    throttle::Limit,
};

const SECOND: u64 = 1_000_000_000;

/// Slot 1 is container `main` of pod `web`.
fn workload(labels: &[(&str, &str)]) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Container,
        name: "web".into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: Some(ContainerId("c0ffee".into())),
        image: "registry/web:1".into(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    })
}

fn settings(throttle: Option<Limit>) -> Settings {
    let names = NodeNames { cluster: "prod".into(), node: "n1".into(), node_id: "abcd".into() };
    Settings { names, throttle, visibility: Visibility::ALL }
}

/// A state that knows slot 1, and a shell of it with its number, user and parent.
fn container(throttle: Option<Limit>) -> (State, Header) {
    let mut state = State::knowing(settings(throttle), Kept::default());
    state.named(WorkloadNamed { slot: Slot(1), workload: workload(&[("app", "web"), ("tier", "front")]) });
    let runtime = Header { tgid: 9, task_start_ns: SECOND, slot: 0, ..header(9, SECOND) };
    let init = Header {
        parent_tgid: 9,
        parent_start_ns: SECOND,
        phase: Phase::Workload,
        mnt_ns: 77,
        ..header(10, 2 * SECOND)
    };
    let shell = Header {
        parent_tgid: 10,
        parent_start_ns: 2 * SECOND,
        ..Header { tgid: 11, task_start_ns: 3 * SECOND, ..init }
    };
    let mut told = Vec::new();
    told.extend(lines(
        &mut state,
        &[
            fork(runtime, &init, 1),
            exec(init, b"/sbin/init", b"init\0", b"/"),
            fork(init, &shell, 7),
            exec(shell, b"/bin/sh", b"sh\0-c\0evil it\0", b"/tmp"),
        ],
    ));
    assert!(told.is_empty(), "nobody wants logs: {told:?}");
    let asked = state.asks();
    assert_eq!(asked, [(PasswdOf::MountNamespace(77), vec![(10, 200), (9, 100)])], "before any alert, once");
    state.answered(PasswdAnswer { of: PasswdOf::MountNamespace(77), names: Some(vec![(33, "www-data".into())]) });
    (state, shell)
}

fn fork(parent: Header, child: &Header, own_pid: u32) -> Record<'static> {
    let fork = Fork {
        child_tgid: child.tgid,
        child_tid: child.tgid,
        child_start_ns: child.task_start_ns,
        child_own_tgid: own_pid,
        child_pid_ns: 4026,
    };
    Record { header: parent, body: Body::Fork(fork), decision: None }
}

fn exec<'a>(header: Header, path: &'a [u8], arguments: &'a [u8], cwd: &'a [u8]) -> Record<'a> {
    let argument_count = u32::try_from(arguments.iter().filter(|byte| **byte == 0).count()).expect("few");
    let argument_bytes = text(arguments);
    let exec = Exec {
        path: text(path),
        cwd: text(cwd),
        argument_bytes,
        argument_count,
        tty: 136 << 8 | 3,
        script: Script::None,
    };
    Record { header, body: Body::Exec(exec), decision: None }
}

fn json(line: &Line) -> Value {
    let text = compose::line(line);
    assert_eq!(text.matches('\n').count(), 1);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn unit_lines_of_an_alert_have_every_field_of_kubearmors_by_its_name() {
    let (mut state, shell) = container(None);
    let mut denied = open(shell, b"/etc/shadow", Some(taken(Outcome::Denied, None, 3)));
    if let Body::Open(open) = &mut denied.body {
        (open.flags, open.result) = (0o2_000_000, -13);
    }
    let told = lines(&mut state, &[denied]);
    let line = json(&told[0]);
    let expected = [
        ("timestamp", "6"),
        ("updatedTime", "\"1970-01-01T00:00:06.000000Z\""),
        ("clusterName", "\"prod\""),
        ("hostName", "\"n1\""),
        ("nodeID", "\"abcd\""),
        ("namespaceName", "\"shop\""),
        ("podName", "\"web\""),
        ("labels", "\"app=web,tier=front\""),
        ("containerID", "\"c0ffee\""),
        ("containerName", "\"main\""),
        ("containerImage", "\"registry/web:1\""),
        ("hostPPid", "10"),
        ("hostPid", "11"),
        ("ppid", "1"),
        ("pid", "7"),
        ("uid", "33"),
        ("username", "\"www-data\""),
        ("parentProcessName", "\"/sbin/init\""),
        ("processName", "\"/bin/sh\""),
        ("cwd", "\"/tmp\""),
        ("tty", "\"pts3\""),
        ("enforcer", "\"Fanotify\""),
        ("policyName", "\"DefaultPosture\""),
        ("atags", "[]"),
        ("type", "\"MatchedPolicy\""),
        ("source", "\"/bin/sh -c evil it\""),
        ("operation", "\"File\""),
        ("resource", "\"/etc/shadow\""),
        ("data", "\"fanotify=OPEN_PERM flags=O_RDONLY|O_CLOEXEC\""),
        ("eventData", r#"{"Fanotify":"OPEN_PERM","Flags":"O_RDONLY|O_CLOEXEC"}"#),
        ("action", "\"Block\""),
        ("result", "\"Permission denied\""),
    ];
    for (field, value) in expected {
        assert_eq!(line[field].to_string(), value, "{field}");
    }
    for absent in ["processHash", "hashAlgo", "severity", "message", "owner", "execEvent", "kubeArmorVersion"] {
        assert!(line.get(absent).is_none(), "{absent} is not known, and not guessed");
    }
    // Ours beside them.
    assert_eq!((line["verdict"].as_str(), line["workload"]["name"].as_str()), (Some("denied"), Some("web")));
    assert_eq!(line["processChain"].as_array().map(Vec::len), Some(3));
    let back: Line = serde_json::from_value(line).expect("what is written is read");
    assert_eq!(back, told[0]);
}

#[test]
fn unit_lines_let_no_label_pass_for_two() {
    let mut state = State::knowing(settings(None), Kept::default());
    let labels = workload(&[("app", "db,app=web"), ("a=b", "c\\d"), ("ok", "x=y")]);
    state.named(WorkloadNamed { slot: Slot(1), workload: labels });
    let told = lines(&mut state, &[open(header(10, SECOND), b"/x", Some(taken(Outcome::Denied, None, 3)))]);
    assert_eq!(json(&told[0])["labels"], "a\\x3db=c\\x5cd,app=db\\x2capp=web,ok=x=y");
}

#[test]
fn unit_lines_of_a_rule_carry_severity_tags_and_message_and_those_of_the_host_say_so() {
    let mut state = state();
    let told = lines(&mut state, &[open(header(10, 70), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    let line = json(&told[0]);
    let of = |field: &str| line[field].as_str().map(str::to_owned);
    assert_eq!(
        (of("policyName"), of("severity"), of("tags")),
        (Some("no-etc-bin".into()), Some("7".into()), Some("MITRE".into()))
    );
    assert_eq!((of("message"), line["atags"][0].as_str()), (Some("hands off".into()), Some("MITRE")));
    let on_host = open(Header { slot: 0, ..header(10, 70) }, b"/x", Some(taken(Outcome::Denied, None, 3)));
    let line = json(&lines(&mut state, &[on_host])[0]);
    assert_eq!(line["type"], "MatchedHostPolicy");
    assert!(line.get("podName").is_none() && line.get("containerID").is_none());
}

#[test]
fn unit_lines_never_say_block_of_what_happened() {
    for (outcome, action, result) in [
        (Outcome::Denied, "Block", "Operation not permitted"),
        (Outcome::Killed, "Block", "Killed"),
        (Outcome::Observed, "Audit (Block)", "Passed"),
        (Outcome::Unenforceable, "Audit (Block)", "Passed"),
    ] {
        let mut state = state();
        let record = Record {
            header: header(10, 70),
            body: Body::Exec(Exec { path: text(b"/bin/x"), ..Exec::default() }),
            decision: Some(taken(outcome, Some(0), 3)),
        };
        let line = json(&lines(&mut state, &[record])[0]);
        assert_eq!((line["action"].as_str(), line["result"].as_str()), (Some(action), Some(result)), "{outcome:?}");
    }
    assert_eq!(AlertAction::of(Action::Audit, Verdict::Observed), AlertAction::Audit);
}

#[test]
fn unit_lines_of_selinux_have_its_error_and_say_when_it_is_permissive() {
    for (outcome, result, reason) in [
        (Outcome::Denied, "Permission denied", None),
        (
            Outcome::Unenforceable,
            "Passed",
            Some("SELinux, or the task's domain, is permissive: it tells of what it would deny"),
        ),
    ] {
        let decided = DecisionTaken { family: Family::Ptrace, tier: Tier::SeLinux, ..taken(outcome, Some(0), 3) };
        let record = Record { header: header(10, 70), body: Body::Ptrace(Ptrace::default()), decision: Some(decided) };
        let line = json(&lines(&mut state(), &[record])[0]);
        let said = (line["tier"].as_str(), line["result"].as_str(), line["reason"].as_str());
        assert_eq!(said, (Some("selinux"), Some(result), reason), "{line}");
    }
}

#[test]
fn unit_lines_of_an_exec_name_who_called_it_as_source() {
    let (mut state, shell) = container(None);
    let decided = DecisionTaken { family: Family::Process, tier: Tier::BpfLsm, ..taken(Outcome::Denied, None, 3) };
    let denied = Record { decision: Some(decided), ..exec(shell, b"/usr/bin/nc", b"nc\0-l\0", b"/") };
    let line = json(&lines(&mut state, &[denied])[0]);
    let of = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    assert_eq!((of("source"), of("parentProcessName")), ("/bin/sh -c evil it".into(), "/bin/sh".into()));
    assert_eq!(
        (of("processName"), of("resource"), of("operation")),
        ("/usr/bin/nc".into(), "/usr/bin/nc".into(), "Process".into())
    );
    assert_eq!((of("data"), of("result")), ("lsm=SECURITY_BPRM_CHECK".into(), "Permission denied".into()));
    state.want_logs(true);
    let line = json(&lines(&mut state, &[exec(shell, b"/usr/bin/nc", b"nc\0-l\0a b\0", b"/")])[0]);
    let of = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (of("type"), of("source"), of("resource")),
        ("ContainerLog".into(), "/bin/sh -c evil it".into(), "/usr/bin/nc -l a b".into())
    );
    assert_eq!(
        (of("processName"), of("data"), of("cwd")),
        ("/usr/bin/nc".into(), "syscall=SYS_EXECVE".into(), "/".into())
    );
}

#[test]
fn unit_logs_are_made_only_while_somebody_wants_them_and_of_execs_only_where_processes_are_visible() {
    let (mut state, shell) = container(None);
    let acts = [open(shell, b"/x", None), exec(shell, b"/bin/true", b"true\0", b"/")];
    assert_eq!(lines(&mut state, &acts).len(), 0);
    state.want_logs(true);
    let told = lines(&mut state, &acts);
    assert!(
        told.iter().all(|line| line.kubearmor().line_type == LineType::ContainerLog) && told.len() == 2,
        "{told:?}"
    );
    assert_eq!(state.counts().logs, 2);
    let Line::Log(log) = &told[0] else { panic!("{told:?}") };
    let arguments: Vec<_> =
        log.process_chain.iter().map(|process| (process.arguments.len(), process.arguments_cut)).collect();
    assert_eq!(arguments, [(1, false), (0, true), (0, false)], "of the acting process only, and said so");
    state.visible(&VisibilityChanged { slot: Slot(1), visibility: Visibility::NONE });
    assert_eq!(lines(&mut state, &acts).len(), 0, "the kernel sends the exec all the same, for the chains");
    let forks = [
        fork(shell, &header(99, 9 * SECOND), 9),
        Record { header: shell, body: Body::Exit(Exit { status: 0 }), decision: None },
    ];
    assert_eq!(lines(&mut state, &forks).len(), 0, "about processes, not acts");
}

#[test]
fn unit_logs_keep_values_with_spaces_whole_and_their_data_splits_by_spaces() {
    let (mut state, shell) = container(None);
    state.want_logs(true);
    let change = FileChange {
        operation: FileOperation::Rename,
        path: text(b"a b=c"),
        base: text(b"/tmp"),
        new_path: text(b"/new name\\\xff"),
        ..FileChange::default()
    };
    let record = Record { header: shell, body: Body::FileChange(change), decision: None };
    let told = lines(&mut state, &[record]);
    let fields = told[0].kubearmor();
    assert_eq!(fields.data, "syscall=SYS_RENAMEAT2 newPath=/new\\x20name\\x5c\\x5cxff flags=0");
    assert_eq!(fields.event_data["NewPath"], "/new name\\\\xff");
    assert_eq!((fields.resource.as_str(), fields.operation), ("/tmp/a b=c", KubeArmorOperation::File));
    assert!(fields.data.split(' ').all(|word| word.contains('=')));
}

#[test]
fn unit_logs_name_the_very_call_where_the_record_tells_it_and_one_of_its_kind_where_not() {
    let (mut state, shell) = container(None);
    state.want_logs(true);
    // unlink(2) of x86-64; unlink(2) and open(2) of i386's table, which is the same on every machine that has one.
    let by = |number, is_compat| Some(CallNumber { number, is_compat });
    let mut data = |call, body| {
        let record = Record { header: Header { call, ..shell }, body, decision: None };
        lines(&mut state, &[record])[0].kubearmor().data.clone()
    };
    let change = |operation| Body::FileChange(FileChange { operation, path: text(b"/x"), ..FileChange::default() });
    assert_eq!(data(None, change(FileOperation::Unlink)), "syscall=SYS_UNLINKAT flags=0");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(data(by(87, false), change(FileOperation::Unlink)), "syscall=SYS_UNLINK flags=0");
    }
    assert_eq!(data(by(10, true), change(FileOperation::Unlink)), "syscall=SYS_UNLINK flags=0");
    let opened = Open { path: text(b"/x"), ..Open::default() };
    assert_eq!(data(by(5, true), Body::Open(opened)), "syscall=SYS_OPEN flags=O_RDONLY");
}

#[test]
fn unit_logs_of_a_packet_without_a_task_name_no_process() {
    let mut state = state();
    state.want_logs(true);
    let dns = Dns { name: text(b"example.com"), no_task: true, ..Dns::default() };
    let nobody = Header { tgid: 0, task_start_ns: 0, ..header(0, 0) };
    let told = lines(&mut state, &[Record { header: nobody, body: Body::Dns(dns), decision: None }]);
    let Line::Log(log) = &told[0] else { panic!("{told:?}") };
    assert!(log.process_chain.is_empty() && log.kubearmor.process.is_none());
    assert_eq!((log.subject.operation, log.workload.name.as_str()), (Operation::DnsQuestion, "web"));
}

#[test]
fn unit_lines_say_that_alerts_are_held_back_and_then_how_many() {
    let limit = Limit { per_second: 2, silence_seconds: 30 };
    let (mut state, shell) = container(Some(limit));
    let flood: Vec<_> = (0..9).map(|_| open(shell, b"/x", Some(taken(Outcome::Denied, None, 3)))).collect();
    let told = lines(&mut state, &flood);
    assert_eq!(told.len(), 3, "two, and the line that says that no more follow");
    let line = json(&told[2]);
    assert_eq!((line["type"].as_str(), line["operation"].as_str()), (Some("SystemEvent"), Some("AlertThreshold")));
    assert_eq!((&line["MaxAlertsPerSec"], &line["DroppingAlertsInterval"]), (&2.into(), &30.into()));
    assert_eq!((line["podName"].as_str(), line["heldBackTotal"].as_u64()), (Some("web"), Some(0)));
    let counts = state.counts();
    assert_eq!(
        (counts.raised[&Verdict::Denied], counts.held_back[&Verdict::Denied]),
        (9, 7),
        "decided and counted all the same"
    );
    let mut told = Vec::new();
    state.tick(shell.boot_ns + 30 * SECOND, SECOND, &mut told);
    let line = json(&told[0]);
    assert_eq!(line["heldBackTotal"], 7);
    assert_eq!(
        line["heldBack"].to_string(),
        r#"[{"count":7,"family":"file","place":"","policyName":"DefaultPosture","verdict":"denied"}]"#
    );
    let back: Line = serde_json::from_value(line).expect("what is written is read");
    assert_eq!(back, told[0]);
}

#[test]
fn unit_lines_of_what_was_held_back_of_a_container_that_is_gone_name_that_container() {
    let (mut state, shell) = container(Some(Limit { per_second: 1, silence_seconds: 30 }));
    let flood: Vec<_> = (0..5).map(|_| open(shell, b"/x", Some(taken(Outcome::Denied, None, 3)))).collect();
    lines(&mut state, &flood);
    let next =
        Workload { name: "next".into(), container_id: Some(ContainerId("other".into())), ..(*workload(&[])).clone() };
    state.named(WorkloadNamed { slot: Slot(1), workload: Arc::new(next) });
    let mut told = Vec::new();
    state.tick(0, SECOND, &mut told);
    let Line::Throttling(ended) = &told[0] else { panic!("{told:?}") };
    assert_eq!((ended.workload.name.as_str(), ended.held_back_total), ("web", 4));
}

#[test]
fn unit_lines_of_a_session_that_entered_a_container_name_it_and_its_children() {
    let (mut state, shell) = container(None);
    let runtime = Header { slot: 0, ..header(500, 40 * SECOND) };
    let entered =
        Header { parent_tgid: 500, parent_start_ns: 40 * SECOND, tgid: 501, task_start_ns: 41 * SECOND, ..shell };
    let child =
        Header { parent_tgid: 501, parent_start_ns: 41 * SECOND, tgid: 502, task_start_ns: 42 * SECOND, ..shell };
    lines(
        &mut state,
        &[fork(runtime, &entered, 20), exec(entered, b"/bin/bash", b"bash\0", b"/"), fork(entered, &child, 21)],
    );
    let denied = |header| open(header, b"/x", Some(taken(Outcome::Denied, None, 3)));
    let told = lines(&mut state, &[denied(child), denied(shell)]);
    let session = json(&told[0])["execEvent"].clone();
    assert_eq!((session["ExecID"].as_str(), session["ExecutableName"].as_str()), (Some("501-4100"), Some("/bin/bash")));
    assert!(json(&told[1]).get("execEvent").is_none(), "the container's own");
}

#[test]
fn unit_processes_of_a_workload_are_those_that_live_with_their_users() {
    let (mut state, shell) = container(None);
    let of = |state: &State| {
        let told = state.processes_of(Slot(1));
        told.processes
            .into_iter()
            .map(|process| (process.pid, process.parent_pid, process.executable, process.username))
            .collect::<Vec<_>>()
    };
    let user = Some("www-data".to_owned());
    let init = (10, Some(9), "/sbin/init".to_owned(), user.clone());
    assert_eq!(of(&state), [init.clone(), (11, Some(10), "/bin/sh".to_owned(), user)]);
    lines(&mut state, &[Record { header: shell, body: Body::Exit(Exit { status: 0 }), decision: None }]);
    assert_eq!(of(&state), [init]);
    assert_eq!(state.processes_of(Slot(2)).processes, []);
}

/// A record of each kind that has names in it, with these bytes for all of them.
fn records(name: &[u8], header: Header, kind: usize) -> Record<'_> {
    let network = Network {
        operation: NetworkOperation::Connect,
        domain: 1,
        socket_type: 200,
        protocol: 255,
        destination: None,
        user: true,
        result: -1,
    };
    let body = match kind {
        0 => Body::Exec(Exec {
            path: text(name),
            cwd: text(name),
            argument_bytes: text(name),
            argument_count: 9,
            tty: 1,
            script: Script::Interpreted { path: Text { user: true, ..text(name) }, count: 2 },
        }),
        1 => Body::Open(Open { path: text(name), flags: 0xffff_ffff, result: -4000 }),
        2 => Body::FileChange(FileChange {
            path: text(name),
            base: text(name),
            new_path: text(name),
            ..FileChange::default()
        }),
        3 => Body::Dns(Dns { name: text(name), ..Dns::default() }),
        _ => Body::Connect(network),
    };
    Record { header, body, decision: None }
}

fn hostile_name() -> impl Strategy<Value = Vec<u8>> {
    let nasty: [&[u8]; 9] = [
        b"\x1b[2J\x1b]0;owned\x07",
        b"\n{\"verdict\":\"observed\"}\n",
        b"\xff\xfe",
        "\u{202e}gpj.exe".as_bytes(),
        "\u{9b}31m\u{85}\u{2028}".as_bytes(),
        b"\",\"x\":\"",
        b"\\x1b\\u001b\\",
        b"\r\x08\x7f\0",
        "\u{e0041}\u{200b}".as_bytes(),
    ];
    let part = prop_oneof![
        proptest::sample::select(nasty.to_vec()).prop_map(<[u8]>::to_vec),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn unit_lines_hold_nothing_that_a_terminal_or_a_reader_of_lines_takes_for_more_than_a_name(
        name in hostile_name(), comm in any::<[u8; 16]>(), kind in 0..5_usize, decided in any::<bool>(),
    ) {
        let mut state = State::new("n1".into());
        state.want_logs(true);
        let labels = [(&*domain_text::lossless(&name), "v\n\u{202e}")];
        let mut hostile = (*workload(&labels)).clone();
        (hostile.name, hostile.container, hostile.image) = (labels[0].0.into(), labels[0].0.into(), labels[0].0.into());
        state.named(WorkloadNamed { slot: Slot(1), workload: Arc::new(hostile) });
        let header = Header { comm, ..header(10, 70) };
        let decision = decided.then(|| taken(Outcome::Denied, None, 3));
        let told = lines(&mut state, &[Record { decision, ..records(&name, header, kind) }]);
        prop_assert_eq!(told.len(), 1);
        let text = compose::line(&told[0]);
        prop_assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
        prop_assert!(!text.trim_end_matches('\n').chars().any(domain_text::hostile), "{}", text);
        let back: Line = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(&back, &told[0], "nothing is lost");
        if kind == 1 {
            let Value::String(resource) = &json(&told[0])["subject"]["resource"] else { panic!("text") };
            prop_assert_eq!(domain_text::bytes(resource), name, "the file can be found again");
        }
    }
}

#[test]
fn unit_lines_name_the_script_of_an_interpreter_and_say_whose_word_it_is() {
    let (mut state, shell) = container(None);
    state.want_logs(true);
    let by = |path, user, count| {
        let script = Script::Interpreted { path: Text { user, ..text(path) }, count };
        let mut record = exec(shell, b"/usr/bin/dash", b"/bin/sh\0/srv/run.sh\0", b"/srv");
        if let Body::Exec(exec) = &mut record.body {
            exec.script = script;
        }
        record
    };
    let told = lines(&mut state, &[by(b"/srv/run.sh", false, 2)]);
    let line = json(&told[0]);
    assert_eq!(line["subject"]["resource"], "/usr/bin/dash");
    assert_eq!(line["data"], "syscall=SYS_EXECVE script=/srv/run.sh scripts=2");
    assert_eq!(line["processChain"][0]["script"], "/srv/run.sh");
    assert_eq!(line["processChain"][0].get("scriptFromCaller"), None);
    // What the process does from now on is the script's doing.
    let denied = lines(&mut state, &[open(shell, b"/etc/shadow", Some(taken(Outcome::Denied, None, 3)))]);
    assert_eq!(json(&denied[0])["processChain"][0]["script"], "/srv/run.sh");
    let asked = lines(&mut state, &[by(b"./run.sh", true, 0)]);
    let line = json(&asked[0]);
    assert_eq!(line["data"], "syscall=SYS_EXECVE script=./run.sh scriptFrom=caller");
    assert_eq!(line["processChain"][0]["scriptFromCaller"], true);
    let itself = lines(&mut state, &[exec(shell, b"/bin/ls", b"ls\0", b"/srv")]);
    assert_eq!(json(&itself[0])["processChain"][0].get("script"), None);
}

#[test]
fn unit_lines_of_what_file_rules_decide_are_file_operations_by_the_hook_that_decided() {
    let (mut state, shell) = container(None);
    let change = |operation| {
        Body::FileChange(FileChange {
            operation,
            path: text(b"/etc/shadow"),
            new_path: text(b"/tmp/x"),
            result: -13,
            ..FileChange::default()
        })
    };
    let mount = |operation| {
        Body::Mount(Mount { operation, target: text(b"/etc"), source: text(b"tmpfs"), result: -13, ..Mount::default() })
    };
    let mapped = Exec {
        path: text(b"/bin/nc"),
        argument_bytes: Text { unreadable: true, ..Text::default() },
        ..Exec::default()
    };
    let map = Header { call: Some(CallNumber { number: 9, is_compat: false }), ..shell };
    for (header, body, family, operation, resource, lsm) in [
        (shell, change(FileOperation::Rename), Family::File, "File", "/etc/shadow", "PATH_RENAME"),
        (shell, change(FileOperation::SetXattr), Family::File, "File", "/etc/shadow", "INODE_SETXATTR"),
        (shell, change(FileOperation::Write), Family::File, "File", "/etc/shadow", "FILE_PERMISSION"),
        (shell, mount(MountOperation::Mount), Family::File, "File", "/etc", "SB_MOUNT"),
        (map, Body::Exec(mapped), Family::Process, "Process", "/bin/nc", "MMAP_FILE"),
    ] {
        let decision = DecisionTaken { family, tier: Tier::BpfLsm, ..taken(Outcome::Denied, None, 3) };
        let told = lines(&mut state, &[Record { header, body, decision: Some(decision) }]);
        let line = json(&told[0]);
        let said = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        assert_eq!((said("operation").as_str(), said("resource").as_str()), (operation, resource), "{line:#}");
        assert_eq!((line["eventData"]["Lsm"].as_str(), said("result").as_str()), (Some(lsm), "Permission denied"));
    }
}
