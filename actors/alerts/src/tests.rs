//! Batches in, alerts out: no kernel, no sinks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use palisade_domain::{
    Action, Alert, Family, Generation, Line, Operation, PolicyKind, PolicyRef, Slot, Tier, UnixNanos, Verdict,
    Visibility, VisibilityClass, Workload, WorkloadKind,
};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{
        Body, DecisionTaken, Exec, Exit, FailReason, Family as RecordFamily, FileChange, FileOperation, Fork, Header,
        Open, Outcome, Phase, Record, RecordWriter, Signal, Text, Tier as RecordTier,
    },
};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};
use palisade_policy_compiler::compile;
use palisade_protocol::{
    CompiledPolicy, Condition, ConditionReported, LineClass, NotHeld, PolicyAnnounced, PolicyInstalled, ProcessListed,
    SubscribeAlerts, VisibilityChanged, WorkloadNamed,
};
use palisade_supervision::{ChildSpec, Context, Kept, Overflow, Supervisor};
use palisade_world::{
    AlertSink, AlertSinkError, BootNanos, Clock, Installed, PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader,
    RecordBatch,
};

use crate::{
    Alerts, Wiring,
    actor::LISTENERS,
    processes::{LINGER_NS, MAX_ARGUMENT_BYTES, MAX_CHAIN, MAX_IMAGE_BYTES, MAX_PROCESSES, Processes},
    sinks::Sinks,
    state::{Names, Settings, State},
};

pub(crate) fn header(tgid: u32, start: u64) -> Header {
    Header { tgid, task_start_ns: start, slot: 1, boot_ns: 5_000_000_000, uid: 33, ..Header::default() }
}

pub(crate) fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

pub(crate) fn batch(records: &[Record<'_>]) -> RecordBatch {
    let mut writer = RecordWriter::default();
    for record in records {
        writer.write(record).expect("it fits");
    }
    RecordBatch { bytes: writer.into_bytes(), records: u32::try_from(records.len()).expect("few") }
}

pub(crate) fn taken(outcome: Outcome, rule: Option<u32>, generation: u32) -> DecisionTaken {
    let word = Decision { effect: Effect::Block, by_posture: rule.is_none(), rule, ..Decision::PERMIT }
        .to_word()
        .expect("a small index");
    let (tier, fail_reason, family) = (RecordTier::Fanotify, FailReason::None, RecordFamily::File);
    DecisionTaken { policy: 9, generation, word, tier, outcome, fail_reason, family }
}

pub(crate) fn open<'a>(head: Header, path: &'a [u8], decision: Option<DecisionTaken>) -> Record<'a> {
    Record { header: head, body: Body::Open(Open { path: text(path), flags: 0, result: -1 }), decision }
}

pub(crate) fn state_workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Container,
        name: name.into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::new(),
    })
}

/// A policy of this name with one rule.
pub(crate) fn policy(name: &str) -> Arc<CompiledPolicy> {
    let rule = Rule {
        policy: Arc::new(PolicyRef { kind: PolicyKind::KubeArmorPolicy, namespace: "shop".into(), name: name.into() }),
        place: "file.matchDirectories[0]".into(),
        matcher: Matcher::File(PathRule::of(PathMatch::Directory { directory: "/etc/bin/".into(), recursive: true })),
        sources: BTreeSet::new(),
        source_directories: BTreeSet::new(),
        action: Action::Block,
        severity: Some(7),
        tags: vec!["MITRE".into()],
        message: Some("hands off".into()),
    };
    let rules = WorkloadRules { rules: vec![Arc::new(rule)], ..WorkloadRules::default() };
    let limits = palisade_policy_compiler::automaton::AutomatonLimits::default();
    Arc::new(compile(&rules, &limits, &mut || false).expect("it compiles"))
}

/// A state that knows slot 1 as pod `web`, with one rule in generation 3.
pub(crate) fn state() -> State {
    let mut state = State::new("n1".into());
    state.named(WorkloadNamed { slot: Slot(1), workload: state_workload("web") });
    let installed = Installed::default();
    state.installed(&PolicyInstalled {
        slot: Slot(1),
        generation: Generation(3),
        policy: Some(policy("no-etc-bin")),
        installed,
        not_held: Arc::default(),
    });
    state
}

fn read(state: &mut State, records: &[Record<'_>]) -> Vec<Alert> {
    lines(state, records)
        .into_iter()
        .map(|line| if let Line::Alert(alert) = line { *alert } else { panic!("{line:?}") })
        .collect()
}

pub(crate) fn lines(state: &mut State, records: &[Record<'_>]) -> Vec<Line> {
    let mut out = Vec::new();
    state.read(&batch(records), 1_000_000_000, &mut out);
    out
}

#[test]
fn unit_alerts_name_workload_rule_generation_tier_and_verdict() {
    let mut state = state();
    let alerts = read(&mut state, &[open(header(10, 70), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((alert.workload.name.as_str(), alert.workload.namespace.as_str()), ("web", "shop"));
    let rule = alert.rule.as_ref().expect("it is attributed");
    assert_eq!(
        (rule.policy_name.as_str(), rule.place.as_str(), rule.severity),
        ("no-etc-bin", "file.matchDirectories[0]", Some(7))
    );
    assert_eq!((alert.generation, alert.tier, alert.verdict), (Generation(3), Tier::Fanotify, Verdict::Denied));
    assert_eq!((alert.subject.operation, alert.subject.resource.as_str()), (Operation::Open, "/etc/bin/x"));
    assert_eq!(alert.time.0, 6_000_000_000);
    assert_eq!(state.counts().raised[&Verdict::Denied], 1);
}

#[test]
fn unit_alerts_take_no_rule_from_another_generation() {
    let mut state = state();
    let alerts = read(&mut state, &[open(header(10, 70), b"/x", Some(taken(Outcome::Denied, Some(0), 2)))]);
    assert_eq!(alerts[0].rule, None);
    assert_eq!(state.counts().unattributed, 1);
}

#[test]
fn unit_alerts_are_not_raised_for_what_is_permitted_or_only_seen() {
    let mut state = state();
    let mut permitted = taken(Outcome::Observed, Some(0), 3);
    permitted.word = Decision { rule: Some(0), ..Decision::PERMIT }.to_word().expect("small");
    assert!(
        read(&mut state, &[open(header(1, 1), b"/x", None), open(header(1, 1), b"/x", Some(permitted))]).is_empty()
    );
}

#[test]
fn unit_alerts_killed_says_what_had_already_happened() {
    let mut state = state();
    let mut record = open(header(1, 1), b"/x", Some(taken(Outcome::Killed, Some(0), 3)));
    if let Body::Open(open) = &mut record.body {
        open.result = 3;
    }
    let alerts = read(&mut state, &[record]);
    assert!(alerts[0].reason.as_ref().expect("given").contains("was opened"), "{:?}", alerts[0].reason);
}

#[test]
fn unit_alerts_carry_the_chain_of_forks_and_execs() {
    let mut state = state();
    let second = 1_000_000_000;
    let exec =
        Exec { path: text(b"/bin/sh"), argument_bytes: text(b"sh\0-c\0evil\0"), argument_count: 3, ..Exec::default() };
    let records = [
        Record {
            header: header(10, second),
            body: Body::Fork(Fork { child_tgid: 11, child_tid: 11, child_start_ns: 2 * second, ..Fork::default() }),
            decision: None,
        },
        Record { header: header(11, 2 * second), body: Body::Exec(exec), decision: None },
        Record {
            header: header(11, 2 * second),
            body: Body::Fork(Fork { child_tgid: 12, child_tid: 12, child_start_ns: 3 * second, ..Fork::default() }),
            decision: None,
        },
        open(header(12, 3 * second), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3))),
    ];
    let alerts = read(&mut state, &records);
    let chain: Vec<(u32, &str)> = alerts[0].process_chain.iter().map(|p| (p.pid, p.executable.as_str())).collect();
    assert_eq!(
        chain,
        [(12, "/bin/sh"), (11, "/bin/sh"), (10, "")],
        "a fork executes what its parent does until it execs"
    );
    assert_eq!(alerts[0].process_chain[1].arguments, ["sh", "-c", "evil"]);
}

#[test]
fn unit_alerts_exec_that_was_refused_changes_no_process() {
    let mut state = state();
    let exec = Exec { path: text(b"/bin/forbidden"), ..Exec::default() };
    let refused =
        Record { header: header(10, 70), body: Body::Exec(exec), decision: Some(taken(Outcome::Denied, Some(0), 3)) };
    read(&mut state, &[refused]);
    let alerts = read(&mut state, &[open(header(10, 70), b"/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    assert_ne!(alerts[0].process_chain[0].executable, "/bin/forbidden");
}

#[test]
fn unit_alerts_act_against_palisade_is_told_under_its_own_name_whatever_policy_the_workload_has() {
    let mut state = state();
    let word = Decision { effect: Effect::Block, ..Decision::PERMIT }.to_word().expect("no index");
    let own = DecisionTaken { word, fail_reason: FailReason::SelfProtection, ..taken(Outcome::Denied, None, 3) };
    let signal = Signal { signal: 9, result: -1, target_tgid: 70, ..Signal::default() };
    let alerts =
        read(&mut state, &[Record { header: header(10, 70), body: Body::Signal(signal), decision: Some(own) }]);
    let rule = alerts[0].rule.as_ref().expect("a name");
    assert_eq!((rule.policy_name.as_str(), alerts[0].verdict), ("PalisadeSelfProtection", Verdict::Denied));
    assert_eq!(alerts[0].kubearmor.policy_name, "PalisadeSelfProtection");
    assert_eq!((alerts[0].subject.resource.as_str(), &alerts[0].reason), ("SIGKILL to pid 70", &None));
}

#[test]
fn unit_alerts_reused_process_id_inherits_no_chain() {
    let mut state = state();
    state.listed(ProcessListed {
        pid: 10,
        start_ticks: 7,
        parent: None,
        uid: 0,
        executable: "/sbin/init".into(),
        arguments: Vec::new(),
        own_pid: 0,
        pid_namespace: 0,
    });
    let old = read(&mut state, &[open(header(10, 70_000_000), b"/x", Some(taken(Outcome::Denied, None, 3)))]);
    assert_eq!(old[0].process_chain[0].executable, "/sbin/init");
    let new = read(&mut state, &[open(header(10, 90_000_000), b"/x", Some(taken(Outcome::Denied, None, 3)))]);
    assert_eq!(new[0].process_chain[0].executable, "");
}

#[test]
fn unit_alerts_hostile_bytes_stay_inside_their_json_line() {
    let mut state = state();
    let hostile = b"/x\n{\"verdict\":\"observed\"}\x1b[2J\xff\"";
    let alerts = read(&mut state, &[open(header(1, 1), hostile, Some(taken(Outcome::Denied, Some(0), 3)))]);
    let line = crate::compose::line(&Line::Alert(Box::new(alerts[0].clone())));
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(!line.contains('\u{1b}'));
    let back: palisade_domain::Alert = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(back, alerts[0]);
}

#[test]
fn unit_alerts_process_table_is_bounded_and_counts_what_it_forgets() {
    let mut processes = Processes::default();
    let count = u32::try_from(MAX_PROCESSES).expect("small");
    for pid in 0..count + 5 {
        processes
            .forked(&header(1, 1), Fork { child_tgid: pid + 2, child_tid: 0, child_start_ns: 1, ..Fork::default() });
    }
    assert_eq!(processes.len(), MAX_PROCESSES);
    assert_eq!(processes.forgotten(), 7, "the forking process came first, was forgotten, and was made known again");
}

#[test]
fn unit_alerts_process_table_forgets_what_ended_before_what_lives() {
    let mut processes = Processes::default();
    let count = u32::try_from(MAX_PROCESSES).expect("small");
    for pid in 0..count - 1 {
        processes
            .forked(&header(1, 1), Fork { child_tgid: pid + 2, child_tid: 0, child_start_ns: 1, ..Fork::default() });
    }
    processes.exited(&header(500, 1));
    processes.forked(&header(1, 1), Fork { child_tgid: count + 9, child_tid: 0, child_start_ns: 1, ..Fork::default() });
    assert_eq!(processes.chain(&header(2, 1)).len(), 2, "the oldest lives, and is still known");
    assert_eq!(processes.chain(&header(500, 1))[0].arguments, [""], "the ended one is not");
}

#[test]
fn unit_alerts_ended_process_is_remembered_for_a_while_only() {
    let mut processes = Processes::default();
    processes.forked(&header(1, 1), Fork { child_tgid: 2, child_tid: 2, child_start_ns: 1, ..Fork::default() });
    let mut end = header(2, 1);
    processes.exited(&end);
    assert_eq!(processes.chain(&header(2, 1)).len(), 2);
    end = header(3, 1);
    end.boot_ns += LINGER_NS + 1;
    processes.exited(&end);
    assert_eq!(processes.len(), 1, "only the forking one is left");
}

#[test]
fn unit_alerts_chain_is_cut_at_its_bound_even_in_a_circle() {
    let mut processes = Processes::default();
    for (pid, parent) in [(1, 2), (2, 1)] {
        let parent = Some((parent, 0));
        processes.listed(ProcessListed {
            pid,
            start_ticks: 0,
            parent,
            uid: 0,
            executable: String::new(),
            arguments: Vec::new(),
            own_pid: 0,
            pid_namespace: 0,
        });
    }
    assert_eq!(processes.chain(&header(1, 1)).len(), MAX_CHAIN);
}

#[test]
fn unit_alerts_malformed_records_are_counted_and_the_rest_is_read() {
    let mut state = state();
    let good = open(header(1, 1), b"/x", Some(taken(Outcome::Denied, Some(0), 3)));
    let mut broken =
        batch(&[good, Record { header: header(1, 1), body: Body::Exit(Exit { status: 0 }), decision: None }, good]);
    let first = palisade_kernel_abi::record::RecordReader::peek_len(&broken.bytes).expect("whole");
    broken.bytes[first] = 0xff;
    let mut out = Vec::new();
    state.read(&broken, 0, &mut out);
    assert_eq!((out.len(), state.counts().malformed), (2, 1));
}

fn announced(generation: u32) -> PolicyAnnounced {
    PolicyAnnounced { slot: Slot(1), generation: Generation(generation), policy: None }
}

#[test]
fn unit_alerts_name_the_rule_in_force_whatever_number_of_sets_failed_since() {
    let mut state = state();
    (4..20).for_each(|generation| state.announced(&announced(generation)));
    let alerts = read(&mut state, &[open(header(10, 70), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    assert!(alerts[0].rule.is_some(), "generation 3 is what stands in the kernel");
    state.installed(&PolicyInstalled {
        slot: Slot(1),
        generation: Generation(20),
        policy: None,
        installed: Installed::default(),
        not_held: Arc::default(),
    });
    (21..24).for_each(|generation| state.announced(&announced(generation)));
    let alerts = read(&mut state, &[open(header(10, 70), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    assert!(alerts[0].rule.is_none(), "it was displaced: what is kept is bounded");
}

#[test]
fn unit_alerts_name_the_rule_of_the_policy_that_decided_while_another_of_its_generation_comes() {
    let mut state = State::new("n1".into());
    let (slot, generation) = (Slot(1), Generation(3));
    let announce = |state: &mut State, name| {
        state.announced(&PolicyAnnounced { slot, generation, policy: Some(policy(name)) });
    };
    let install = |state: &mut State, name, number| {
        let installed = Installed { number, ..Installed::default() };
        state.installed(&PolicyInstalled {
            slot,
            generation,
            policy: Some(policy(name)),
            installed,
            not_held: Arc::default(),
        });
    };
    let named = |state: &mut State, policy| {
        let decided = DecisionTaken { policy, ..taken(Outcome::Denied, Some(0), 3) };
        let alerts = read(state, &[open(header(10, 70), b"/etc/bin/x", Some(decided))]);
        alerts[0].rule.as_ref().map(|rule| rule.policy_name.clone())
    };
    announce(&mut state, "web");
    assert_eq!(named(&mut state, 9).as_deref(), Some("web"), "decided before its installation is told");
    install(&mut state, "web", 9);
    announce(&mut state, "api");
    assert_eq!(named(&mut state, 9).as_deref(), Some("web"), "relabelled, and decided before");
    assert_eq!(named(&mut state, 17).as_deref(), Some("api"));
    install(&mut state, "api", 17);
    assert_eq!(named(&mut state, 9).as_deref(), Some("web"), "read late");
    assert_eq!(named(&mut state, 17).as_deref(), Some("api"));
    assert_eq!(named(&mut state, 25), None, "nobody's: no wrong name");
    for number in 30..50 {
        announce(&mut state, "next");
        install(&mut state, "next", number);
    }
    assert_eq!(named(&mut state, 9), None, "what is kept is bounded");
    assert_eq!(named(&mut state, 49).as_deref(), Some("next"));
}

#[test]
fn unit_alerts_name_rule_and_workload_although_the_name_comes_late_or_twice() {
    let mut state = state();
    let workload = state_workload("web-2");
    state.named(WorkloadNamed { slot: Slot(1), workload });
    let alerts = read(&mut state, &[open(header(10, 70), b"/etc/bin/x", Some(taken(Outcome::Denied, Some(0), 3)))]);
    assert_eq!(alerts[0].workload.name, "web-2");
    assert!(alerts[0].rule.is_some());
}

#[test]
fn unit_alerts_names_outlive_their_state() {
    let names = Kept::<Names>::default();
    let mut before = State::knowing(Settings::default(), names.clone());
    before.named(WorkloadNamed { slot: Slot(1), workload: state_workload("web") });
    before.announced(&announced(3));
    drop(before);
    let mut after = State::knowing(Settings::default(), names);
    let alerts = read(&mut after, &[open(header(10, 70), b"/x", Some(taken(Outcome::Denied, None, 3)))]);
    assert_eq!(alerts[0].workload.name, "web");
}

#[test]
fn unit_alerts_process_table_is_bounded_although_ends_come_from_the_future() {
    let mut processes = Processes::default();
    let mut end = header(1, 1);
    end.boot_ns = u64::MAX;
    processes.exited(&end);
    for pid in 0..u32::try_from(3 * MAX_PROCESSES).expect("small") {
        processes.exited(&header(pid, 1));
    }
    assert!(processes.remembered_ends() <= 2 * MAX_PROCESSES + 1);
}

#[test]
fn unit_alerts_process_table_is_bounded_in_bytes_whatever_is_executed() {
    let mut processes = Processes::default();
    let arguments = [b'x'; 12_000];
    let exec = Exec { path: text(b"/bin/x"), argument_bytes: text(&arguments), argument_count: 1, ..Exec::default() };
    // As many arguments as it has bytes: each is a string of its own.
    let empty = Exec { argument_bytes: text(&[0; 12_000]), argument_count: 12_000, ..exec };
    for pid in 1..200 {
        processes.executed(&header(pid, 1), &empty);
    }
    assert!(processes.image_bytes() <= MAX_IMAGE_BYTES && processes.len() < 150, "{} are left", processes.len());
    for pid in 1..8000 {
        processes.executed(&header(pid, 1), &exec);
    }
    assert!(processes.image_bytes() <= MAX_IMAGE_BYTES, "{} bytes", processes.image_bytes());
    assert!(processes.forgotten() > 0 && processes.len() > 5000, "{} are left", processes.len());
    for pid in 1..8000 {
        processes.executed(&header(pid, 1), &Exec { path: text(b"/bin/x"), ..Exec::default() });
    }
    assert!(processes.image_bytes() < 8000 * 100, "what is replaced is given back: {} bytes", processes.image_bytes());
}

#[test]
fn unit_alerts_listed_process_with_endless_arguments_is_cut_and_says_so() {
    let mut processes = Processes::default();
    let arguments = vec!["x".repeat(100), "é".repeat(MAX_ARGUMENT_BYTES), "last".into()];
    processes.listed(ProcessListed {
        pid: 10,
        start_ticks: 7,
        parent: None,
        uid: 0,
        executable: "/bin/x".into(),
        arguments,
        own_pid: 0,
        pid_namespace: 0,
    });
    let chain = processes.chain(&header(10, 70_000_000));
    assert!(chain[0].arguments_cut && chain[0].arguments.len() == 2);
    assert!(chain[0].arguments.iter().map(String::len).sum::<usize>() <= MAX_ARGUMENT_BYTES);
}

/// Fails while told to.
struct Moody(Arc<AtomicBool>);

impl AlertSink for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }
    fn append(&mut self, _: &[u8]) -> Result<(), AlertSinkError> {
        let full = std::io::ErrorKind::StorageFull;
        if self.0.load(Ordering::Relaxed) {
            Err(AlertSinkError { sink: "moody".into(), source: full.into() })
        } else {
            Ok(())
        }
    }
}

#[test]
fn unit_alerts_sink_that_fails_is_counted_and_in_the_condition_until_it_writes_again() {
    let full = Arc::new(AtomicBool::new(false));
    let mut sinks = Sinks::new("alerts", vec![Box::new(Moody(Arc::clone(&full)))]);
    sinks.write(b"1\n", 1);
    assert_eq!((sinks.condition(), sinks.unwritten()), (Condition::Good, BTreeMap::new()));
    full.store(true, Ordering::Relaxed);
    sinks.write(b"2\n3\n", 2);
    sinks.look();
    assert!(
        matches!(sinks.condition(), Condition::Degraded(reason) if reason.contains("moody") && reason.contains("2 alerts"))
    );
    full.store(false, Ordering::Relaxed);
    sinks.write(b"4\n", 1);
    assert_eq!(sinks.condition(), Condition::Good);
    assert_eq!(sinks.unwritten(), BTreeMap::from([("moody".into(), 2)]), "what is lost stays counted");
}

struct NoUsers;

impl PasswdReader for NoUsers {
    fn ask(&mut self, _: PasswdOf, _: &[PasswdCandidate]) -> bool {
        false
    }
    fn answer(&mut self) -> Option<PasswdAnswer> {
        None
    }
}

struct Still;

impl Clock for Still {
    fn boot(&self) -> BootNanos {
        BootNanos(0)
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(0)
    }
}

struct Health;

impl actix::Actor for Health {
    type Context = Context<Self>;
}

impl actix::Handler<ConditionReported> for Health {
    type Result = ();
    fn handle(&mut self, _: ConditionReported, _: &mut Self::Context) {}
}

#[test]
fn unit_alerts_tell_a_listener_too_many_that_nothing_follows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut node = Supervisor::new("node");
        let health = node.add(ChildSpec::new("health", |_| Health));
        let alerts = node.add(ChildSpec::new("alerts", move |_| {
            let conditions = health.outbox(Overflow::Refuse);
            let wiring = Wiring {
                sinks: Vec::new(),
                log_sinks: Vec::new(),
                passwd: Box::new(NoUsers),
                users: None,
                conditions,
                clock: Arc::new(Still),
            };
            Alerts::new(Settings::default(), wiring, Kept::default(), Vec::new())
        }));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
        let ask = || {
            alerts.ask(SubscribeAlerts { class: LineClass::Policy, recent: 0, follow: true }, Duration::from_secs(1))
        };
        let mut streams = Vec::new();
        for _ in 0..LISTENERS {
            streams.push(ask().await.expect("answered"));
        }
        assert!(streams.iter().all(|stream| stream.follows));
        assert!(!ask().await.expect("answered").follows);
        streams.pop();
        assert!(ask().await.expect("answered").follows, "one has gone");
        tree.stop().await;
    });
}

#[test]
fn unit_alerts_chain_is_right_although_the_fork_is_read_after_what_the_child_did() {
    let second = 1_000_000_000;
    let exec = |path| Exec { path: text(path), ..Exec::default() };
    let at = |header: Header, boot_ns| Header { boot_ns, ..header };
    let fork = Fork { child_tgid: 11, child_tid: 11, child_start_ns: 2 * second, ..Fork::default() };
    let forked = Record { header: at(header(10, second), 5), body: Body::Fork(fork), decision: None };
    let executed = Record { header: at(header(11, 2 * second), 6), body: Body::Exec(exec(b"/bin/x")), decision: None };
    let denied = open(at(header(11, 2 * second), 7), b"/y", Some(taken(Outcome::Denied, None, 3)));
    let chain = |alert: &Alert| {
        alert.process_chain.iter().map(|process| (process.pid, process.executable.clone())).collect::<Vec<_>>()
    };
    let expected = [(11, "/bin/x".to_owned()), (10, String::new())];
    let alerts = read(&mut state(), &[executed, denied, forked]);
    assert_eq!(chain(&alerts[0]), expected, "in one batch: by time");
    let mut state = state();
    assert!(read(&mut state, &[executed]).is_empty() && read(&mut state, &[forked]).is_empty());
    assert_eq!(chain(&read(&mut state, &[denied])[0]), expected, "in another batch: the exec is not undone");
}

/// Takes lines or does not, and says so.
struct Busy(Arc<AtomicBool>);

impl AlertSink for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }
    fn append(&mut self, _: &[u8]) -> Result<(), AlertSinkError> {
        let full = std::io::ErrorKind::WouldBlock;
        if self.0.load(Ordering::Relaxed) {
            Err(AlertSinkError { sink: "busy".into(), source: full.into() })
        } else {
            Ok(())
        }
    }
    fn health(&mut self) -> palisade_world::SinkHealth {
        let takes_lines = Some(!self.0.load(Ordering::Relaxed));
        palisade_world::SinkHealth { takes_lines, ..Default::default() }
    }
}

#[test]
fn unit_alerts_sink_that_refused_leaves_the_condition_without_another_alert_but_not_unseen() {
    let busy = Arc::new(AtomicBool::new(true));
    let mut sinks = Sinks::new("alerts", vec![Box::new(Busy(Arc::clone(&busy)))]);
    sinks.write(b"1\n", 1);
    busy.store(false, Ordering::Relaxed);
    sinks.look();
    assert!(matches!(sinks.condition(), Condition::Degraded(_)), "it was, within this second");
    sinks.look();
    assert_eq!(sinks.condition(), Condition::Good);
    assert_eq!(sinks.unwritten()["busy"], 1);
}

/// A process of the workload itself.
fn within(tgid: u32) -> Header {
    Header { phase: Phase::Workload, ..header(tgid, 70) }
}

/// What slot 1 has in generation 4: the files of /etc by rename and mount, by /bin/mv; and those that are executed from /opt.
fn watching() -> PolicyInstalled {
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: watch, namespace: shop}\nspec:\n  \
                selector: {}\n  syscalls: {matchPaths: [{path: /etc/, recursive: true, syscall: [rename, mount], fromSource: [{path: \
                /bin/mv}]}, {path: /opt/, syscall: [execve], fromSource: [{path: /bin/sh}]}]}\n";
    let set = palisade_policy::PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound");
    let rules = set.rules_for(&state_workload("web"), &BTreeMap::new(), palisade_policy::ir::Postures::default());
    let limits = palisade_policy_compiler::automaton::AutomatonLimits::default();
    let compiled = Arc::new(compile(&rules, &limits, &mut || false).expect("it compiles"));
    PolicyInstalled {
        slot: Slot(1),
        generation: Generation(4),
        policy: Some(compiled),
        installed: Installed::default(),
        not_held: Arc::default(),
    }
}

fn executed(head: Header, path: &[u8]) -> Record<'_> {
    Record { header: head, body: Body::Exec(Exec { path: text(path), ..Exec::default() }), decision: None }
}

fn renamed<'a>(head: Header, path: &'a [u8], new_path: &'a [u8]) -> Record<'a> {
    let change = FileChange {
        operation: FileOperation::Rename,
        path: text(path),
        new_path: text(new_path),
        base: text(b"/etc"),
        new_base: text(b"/tmp"),
        ..FileChange::default()
    };
    Record { header: head, body: Body::FileChange(change), decision: None }
}

#[test]
fn unit_alerts_rules_on_calls_on_a_path_are_held_against_records_by_path_and_executable() {
    let mut state = state();
    let (mv, other) = (within(10), within(11));
    let moves = [
        executed(mv, b"/bin/mv"),
        executed(other, b"/bin/busybox"),
        renamed(mv, b"shadow", b"x"),
        renamed(mv, b"../tmp/y", b"../etc/passwd"),
        renamed(mv, b"../tmp/y", b"z"),
        renamed(other, b"shadow", b"x"),
    ];
    assert!(read(&mut state, &moves).is_empty(), "no policy in force watches");
    state.installed(&watching());
    let alerts = read(&mut state, &moves);
    let of = |alert: &Alert| (alert.family, alert.verdict, alert.tier, alert.action, alert.generation);
    let expected =
        (Family::Syscalls, Verdict::Observed, Tier::Audit, palisade_domain::AlertAction::Audit, Generation(4));
    assert_eq!(alerts.iter().map(of).collect::<Vec<_>>(), [expected; 2], "by either name, and by no other executable");
    let rule = alerts[0].rule.as_ref().expect("it is attributed");
    assert_eq!((rule.policy_name.as_str(), rule.place.as_str()), ("watch", "syscalls.matchPaths[0]"));
    assert_eq!(alerts[0].kubearmor.process.as_ref().map(|process| process.process_name.as_str()), Some("/bin/mv"));
    assert_eq!(state.counts().raised, BTreeMap::from([(Verdict::Observed, 2)]));

    state.installed(&PolicyInstalled { policy: None, generation: Generation(5), ..watching() });
    assert!(read(&mut state, &moves).is_empty(), "the policy is gone");
}

#[test]
fn unit_alerts_rules_on_execs_take_the_executable_that_asked_for_it_as_their_source() {
    let mut state = state();
    state.installed(&watching());
    let (sh, other) = (within(10), within(11));
    let execs =
        [executed(sh, b"/bin/sh"), executed(other, b"/bin/env"), executed(sh, b"/opt/x"), executed(other, b"/opt/x")];
    let alerts = read(&mut state, &execs);
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((alert.subject.resource.as_str(), alert.family), ("/opt/x", Family::Syscalls));
    assert_eq!(alert.kubearmor.source, "/bin/sh");
}

#[test]
fn unit_alerts_records_that_only_rules_need_are_no_logs() {
    let mut state = state();
    state.want_logs(true);
    state.installed(&watching());
    let slot = Slot(1);
    state.visible(&VisibilityChanged { slot, visibility: Visibility::NONE.with(VisibilityClass::Network) });
    let moved = [executed(within(10), b"/bin/mv"), renamed(within(10), b"shadow", b"x")];
    assert!(matches!(lines(&mut state, &moved)[..], [Line::Alert(_)]), "an alert, and no log");
    state.visible(&VisibilityChanged { slot, visibility: Visibility::NONE.with(VisibilityClass::File) });
    assert!(matches!(lines(&mut state, &moved)[..], [Line::Alert(_), Line::Log(_)]), "who asks for the class has both");
}

fn unheld(generation: u32, parts: &[(&str, usize)]) -> PolicyInstalled {
    let policy =
        Arc::new(PolicyRef { kind: PolicyKind::KubeArmorPolicy, namespace: "shop".into(), name: "asks-much".into() });
    let part = |(what, count): &(&str, usize)| NotHeld {
        policy: Arc::clone(&policy),
        what: (*what).into(),
        reason: format!("{what} is not seen"),
        places: vec!["file.matchPaths[0]".into()],
        count: *count,
    };
    let generation = Generation(generation);
    PolicyInstalled { generation, not_held: parts.iter().map(part).collect(), ..watching() }
}

/// What the next look says of parts that are not held: word (or how many more), generation.
fn said_unheld(state: &mut State) -> Vec<(String, u64, u32)> {
    let mut out = Vec::new();
    state.tick(9_000_000_000, 1_000_000_000, &mut out);
    let of = |line: &Line| match line {
        Line::NotHeld(part) => Some((part.what.clone(), part.count, part.generation.0)),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

#[test]
fn unit_alerts_say_once_what_of_a_policy_is_not_held_and_again_what_a_set_changes() {
    let mut state = state();
    assert!(said_unheld(&mut state).is_empty());
    state.installed(&unheld(4, &[("readOnly", 1), ("apparmor", 1)]));
    let both = [("readOnly".to_owned(), 1, 4), ("apparmor".to_owned(), 1, 4)];
    assert_eq!(said_unheld(&mut state), both);
    state.installed(&unheld(5, &[("readOnly", 1), ("apparmor", 1)]));
    assert!(said_unheld(&mut state).is_empty(), "another set with the same parts");
    state.installed(&unheld(6, &[("readOnly", 2), ("apparmor", 1)]));
    assert_eq!(said_unheld(&mut state), [("readOnly".to_owned(), 2, 6)]);
    assert_eq!(state.counts().raised, BTreeMap::from([(Verdict::Unenforceable, 3)]));
    state.installed(&unheld(7, &[]));
    state.installed(&unheld(8, &[("apparmor", 1)]));
    assert_eq!(said_unheld(&mut state).len(), 1, "it was held between");
}

#[test]
fn unit_alerts_line_of_a_part_that_is_not_held_is_a_system_event_that_names_policy_place_and_reason() {
    let mut state = state();
    state.installed(&unheld(4, &[("readOnly", 3)]));
    let mut out = Vec::new();
    state.tick(9_000_000_000, 1_000_000_000, &mut out);
    let text = crate::compose::line(&out[0]);
    let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((of("type"), of("operation")), ("SystemEvent".into(), "PolicyNotHeld".into()));
    assert_eq!((of("verdict"), of("reason")), ("unenforceable".into(), "readOnly is not seen".into()));
    assert_eq!((of("policyName"), of("podName")), ("asks-much".into(), "web".into()));
    assert_eq!(line["rule"]["place"], "file.matchPaths[0] and 2 more");
    assert_eq!(serde_json::from_str::<Line>(&text).expect("it is read back"), out[0]);
}

#[test]
fn unit_alerts_of_parts_that_are_not_held_are_bounded_and_held_back_like_all_alerts() {
    let many: Vec<String> = (0..100).map(|number| format!("w{number}")).collect();
    let parts: Vec<(&str, usize)> = many.iter().map(|what| (what.as_str(), 1)).collect();
    let mut state = state();
    state.installed(&unheld(4, &parts));
    let said = said_unheld(&mut state);
    assert_eq!(said.len(), crate::unheld::MAX_LINES + 1);
    assert_eq!(said.last(), Some(&(String::new(), 100 - crate::unheld::MAX_LINES as u64, 4)));
    let limit = crate::throttle::Limit { per_second: 3, silence_seconds: 9 };
    let settings = Settings { throttle: Some(limit), ..Settings::default() };
    let mut state = State::knowing(settings, Kept::default());
    state.installed(&unheld(4, &parts));
    said_unheld(&mut state);
    let counts = state.counts();
    let all = crate::unheld::MAX_LINES as u64 + 1;
    assert_eq!(counts.raised, BTreeMap::from([(Verdict::Unenforceable, all)]));
    assert!(counts.held_back[&Verdict::Unenforceable] >= 1, "{counts:?}");
}
