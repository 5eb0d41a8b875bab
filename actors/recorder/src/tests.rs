//! Records and facts in, traces out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use palisade_domain::{Action, ContainerId, Generation, Slot, Visibility, Workload, WorkloadKind};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{
        Body, DecisionTaken, Exec, FailReason, Family, Header as RecordHeader, Open, Outcome, Record, RecordReader,
        RecordWriter, Text, Tier,
    },
};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_protocol::{
    CompiledPolicy, PolicyAnnounced, PolicyInstalled, RecordTrace, RecordingOutcome, RecordingRefused,
};
use palisade_supervision::Kept;
use palisade_wire::trace::{
    CHECKPOINT_RECORDS, Ending, Fact, Header, Loss, Part, Picture, Process, Report, TraceReader, Users, What,
};
use palisade_world::Installed;

use crate::{
    recording::Next,
    state::{AroundAlerts, RECORDINGS, Settings, State},
};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn settings() -> Settings {
    let header = Header {
        node: "n1".into(),
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        ..Header::default()
    };
    Settings { header, ring_bytes: 1 << 20, ring_ns: 600 * SECOND, ..Settings::default() }
}

pub(crate) fn state(settings: Settings) -> State {
    State::knowing(settings, Kept::new(Picture::default()))
}

pub(crate) fn named(slot: u32, name: &str) -> What {
    What::WorkloadNamed(
        Slot(slot),
        Arc::new(Workload {
            kind: WorkloadKind::Container,
            name: name.into(),
            namespace: "default".into(),
            container: name.into(),
            container_id: Some(ContainerId(name.into())),
            image: String::new(),
            labels: BTreeMap::new(),
        }),
    )
}

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

/// Records of a slot from a sequence number on, at this time: an exec, then opens of files that differ much.
pub(crate) fn batch(slot: u32, from: u64, count: u64, boot_ns: u64) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    for sequence in from..from + count {
        let header = RecordHeader { sequence, slot, boot_ns, tgid: 50 + slot, ..RecordHeader::default() };
        let path: String =
            (0..60).map(|n| char::from(b'a' + ((sequence * 31 + n * n * (sequence + 7)) % 26) as u8)).collect();
        let body = if sequence == from {
            let argument_bytes = text(b"sh\0hunter2\0");
            Body::Exec(Exec { path: text(b"/bin/sh"), argument_bytes, argument_count: 2, ..Exec::default() })
        } else {
            Body::Open(Open { path: text(path.as_bytes()), ..Open::default() })
        };
        writer.write(&Record { header, body, decision: None }).expect("fits");
    }
    writer.into_bytes()
}

/// Whatever comes now.
pub(crate) fn drain(state: &mut State, id: u64, now_ns: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match state.next(id, now_ns) {
            Next::Bytes(more) => bytes.extend(more),
            Next::Nothing => return (bytes, false),
            Next::Over => return (bytes, true),
        }
    }
}

pub(crate) struct Read {
    pub(crate) checkpoints: Vec<Vec<Fact>>,
    pub(crate) header: Header,
    pub(crate) facts: Vec<Fact>,
    /// Slot and sequence number of each record.
    pub(crate) records: Vec<(u32, u64)>,
    pub(crate) arguments: usize,
    pub(crate) report: Report,
}

pub(crate) fn read(bytes: &[u8]) -> Read {
    let mut reader = TraceReader::open(bytes).expect("a trace");
    let (mut facts, mut records, mut arguments, mut checkpoints) = (Vec::new(), Vec::new(), 0, Vec::new());
    while let Some(part) = reader.next_part().expect("bytes") {
        match part {
            Part::Facts(more) => facts.extend(more),
            Part::Records(batches) => {
                for record in RecordReader::new(batches.bytes()) {
                    let record = record.expect("a record");
                    records.push((record.header.slot, record.header.sequence));
                    if let Body::Exec(exec) = record.body {
                        arguments += exec.arguments().count();
                    }
                }
            }
            Part::Checkpoint(more) => checkpoints.push(more),
        }
    }
    Read { checkpoints, header: reader.header().clone(), facts, records, arguments, report: reader.report().clone() }
}

pub(crate) fn losses(facts: &[Fact]) -> Vec<Loss> {
    facts.iter().filter_map(|fact| if let What::Loss(loss) = &fact.what { Some(loss.clone()) } else { None }).collect()
}

pub(crate) fn for_seconds(seconds: u64) -> RecordTrace {
    RecordTrace { duration: Some(Duration::from_secs(seconds)), ..RecordTrace::default() }
}

#[test]
fn unit_recorder_records_what_comes_until_its_time_is_up_and_without_arguments() {
    let mut state = state(settings()).listing([Process { pid: 1, executable: "/init".into(), ..Process::default() }]);
    state.fact(1, named(4, "web"));
    state.batch(SECOND, &batch(4, 0, 5, SECOND));
    let id = state.begin(2 * SECOND, 77 * SECOND, &for_seconds(10)).expect("begun");
    state.batch(3 * SECOND, &batch(4, 5, 5, 3 * SECOND));
    state.fact(4 * SECOND, named(5, "db"));
    state.batch(5 * SECOND, &batch(5, 10, 5, 5 * SECOND));
    state.tick(6 * SECOND, 70 * SECOND);
    let (mut bytes, over) = drain(&mut state, id, 6 * SECOND);
    assert!(!over);
    state.batch(13 * SECOND, &batch(5, 15, 5, 13 * SECOND));
    state.tick(14 * SECOND, 70 * SECOND);
    let (more, over) = drain(&mut state, id, 14 * SECOND);
    assert!(over);
    bytes.extend(more);
    let read = read(&bytes);
    assert_eq!(read.report.ending, Ending::Whole);
    assert_eq!((read.header.boot_ns, read.header.unix_ns), (2 * SECOND, 77 * SECOND));
    assert_eq!(read.header.redacted, ["arguments"]);
    assert_eq!(read.records, (5..15).map(|n| (if n < 10 { 4 } else { 5 }, n)).collect::<Vec<_>>());
    assert_eq!(read.arguments, 0);
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    let snapshot = read.facts.iter().position(|fact| fact.what == What::SnapshotEnd).expect("a snapshot");
    assert!(read.facts[..snapshot].iter().any(|fact| fact.what == named(4, "web")), "what was so when it began");
    let is_init = |fact: &Fact| matches!(&fact.what, What::Process(process) if process.executable == "/init");
    assert!(read.facts[..snapshot].iter().any(is_init));
    assert!(read.facts[snapshot..].iter().any(|fact| fact.what == named(5, "db")));
    assert!(read.facts.iter().any(|fact| fact.what == What::Clock(70 * SECOND)));
}

#[test]
fn unit_recorder_begins_with_the_last_minutes_and_what_was_so_then() {
    let mut state = state(settings());
    state.fact(1, named(4, "old"));
    for minute in 1..=9 {
        let at = minute * 60 * SECOND;
        state.batch(at, &batch(4, minute * 10, 10, at));
        state.tick(at + SECOND, 0);
        if minute == 3 {
            state.fact(at + 2 * SECOND, named(4, "new"));
            state.tick(at + 4 * SECOND, 0);
        }
    }
    let now = 10 * 60 * SECOND;
    let asked = RecordTrace { last: Duration::from_secs(305), ..for_seconds(0) };
    let id = state.begin(now, 0, &asked).expect("begun");
    let (bytes, over) = drain(&mut state, id, now);
    assert!(over);
    let read = read(&bytes);
    assert_eq!(read.records.first().map(|(_, sequence)| *sequence), Some(50), "five minutes, whole blocks");
    assert_eq!(read.records.len(), 50);
    let names: Vec<_> = read.facts.iter().filter(|fact| matches!(fact.what, What::WorkloadNamed(..))).collect();
    assert_eq!(names.iter().map(|fact| fact.what.clone()).collect::<Vec<_>>(), [named(4, "new")]);
    // Past the ring's time only the picture is left.
    state.tick(now + 700 * SECOND, 0);
    assert_eq!(state.ring_bytes(), 0);
}

#[test]
fn unit_recorder_records_only_the_workloads_that_are_asked_for() {
    let mut state = state(settings());
    state.fact(1, named(4, "web"));
    state.fact(1, named(5, "db"));
    let asked = RecordTrace { workloads: vec!["default/db".into()], ..for_seconds(5) };
    let id = state.begin(SECOND, 0, &asked).expect("begun");
    state.batch(2 * SECOND, &batch(4, 0, 5, 2 * SECOND));
    state.batch(2 * SECOND, &batch(5, 5, 5, 2 * SECOND));
    state.fact(3 * SECOND, named(6, "db"));
    state.fact(3 * SECOND, named(7, "web"));
    state.batch(4 * SECOND, &batch(6, 10, 2, 4 * SECOND));
    state.tick(6 * SECOND, 0);
    let (bytes, over) = drain(&mut state, id, 6 * SECOND);
    assert!(over);
    let read = read(&bytes);
    assert_eq!(read.records.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [5, 5, 5, 5, 5, 6, 6]);
    assert!(!read.facts.iter().any(|fact| fact.what == named(4, "web") || fact.what == named(7, "web")));
}

#[test]
fn unit_recorder_keeps_arguments_from_when_they_are_asked_for_and_for_nobody_else() {
    let mut state = state(settings());
    state.batch(SECOND, &batch(4, 0, 3, SECOND));
    let last = Duration::from_secs(60);
    let with = RecordTrace { arguments: true, last, ..for_seconds(5) };
    let with = state.begin(2 * SECOND, 0, &with).expect("begun");
    let without = state.begin(2 * SECOND, 0, &RecordTrace { last, ..for_seconds(5) }).expect("begun");
    state.batch(3 * SECOND, &batch(4, 3, 3, 3 * SECOND));
    state.tick(8 * SECOND, 0);
    let with = read(&drain(&mut state, with, 8 * SECOND).0);
    let without = read(&drain(&mut state, without, 8 * SECOND).0);
    assert_eq!((with.records.len(), without.records.len()), (6, 6));
    assert_eq!((with.arguments, without.arguments), (2, 0), "one of the two execs was before");
    assert_eq!(with.header.redacted, ["arguments before the recording was asked for"]);
    state.batch(9 * SECOND, &batch(4, 6, 3, 9 * SECOND));
    state.tick(11 * SECOND, 0);
    let after =
        state.begin(12 * SECOND, 0, &RecordTrace { arguments: true, last: Duration::from_secs(3), ..for_seconds(0) });
    let after = read(&drain(&mut state, after.expect("begun"), 12 * SECOND).0);
    assert_eq!((after.records.len(), after.arguments), (3, 0), "nobody asked when they came");
}

#[test]
fn unit_recorder_that_is_read_too_slowly_sheds_and_says_how_much() {
    let mut state = state(Settings { ring_ns: 60 * SECOND, ..settings() });
    let id = state.begin(SECOND, 0, &for_seconds(1000)).expect("begun");
    let (mut bytes, _) = drain(&mut state, id, SECOND);
    let mut sequence = 0;
    for second in 2..200 {
        state.batch(second * SECOND, &batch(4, sequence, 20, second * SECOND));
        sequence += 20;
        state.tick(second * SECOND + SECOND / 2, 0);
    }
    let (more, over) = drain(&mut state, id, 2000 * SECOND);
    assert!(over);
    bytes.extend(more);
    let read = read(&bytes);
    let shed = losses(&read.facts).iter().map(|loss| loss.shed).max().unwrap_or_default();
    assert!(shed >= 130 * 20, "{shed}");
    assert_eq!(read.records.len() as u64 + shed, sequence, "each record is there or counted");
    assert!(read.records.is_sorted());
}

#[test]
fn unit_recorder_ends_a_trace_whole_within_its_bytes() {
    let mut state = state(settings());
    let id = state.begin(SECOND, 0, &RecordTrace { limit_bytes: 30_000, ..for_seconds(1000) }).expect("begun");
    for second in 2..60 {
        state.batch(second * SECOND, &batch(4, second * 512, 512, second * SECOND));
        state.tick(second * SECOND + SECOND / 2, 0);
    }
    let (bytes, over) = drain(&mut state, id, 61 * SECOND);
    assert!(over && bytes.len() <= 30_000, "{}", bytes.len());
    let read = read(&bytes);
    assert_eq!(read.report.ending, Ending::Whole);
    assert!(!read.records.is_empty() && read.records.len() < 58 * 512);
}

#[test]
fn unit_recorder_counts_numbers_that_never_came_and_records_that_cannot_be_read() {
    let mut state = state(settings());
    let id = state.begin(SECOND, 0, &for_seconds(5)).expect("begun");
    state.batch(2 * SECOND, &batch(4, 0, 3, 2 * SECOND));
    state.batch(2 * SECOND, &batch(4, 8, 3, 2 * SECOND));
    // One that comes late fills its gap.
    state.batch(2 * SECOND, &batch(4, 5, 1, 2 * SECOND));
    let mut broken = batch(4, 11, 2, 2 * SECOND);
    broken[0] = 250;
    state.batch(3 * SECOND, &broken);
    state.kernel_lost(vec![(4, "RingFull".into(), 4)]);
    state.tick(7 * SECOND, 0);
    let (bytes, _) = drain(&mut state, id, 7 * SECOND);
    let read = read(&bytes);
    let loss = losses(&read.facts).pop().expect("said");
    assert_eq!((loss.missing, loss.malformed, loss.kernel), (5, 1, vec![(4, "RingFull".into(), 4)]));
    assert_eq!(read.records.len(), 8);
}

#[test]
fn unit_recorder_without_a_ring_keeps_nothing_but_what_is_so_until_somebody_records() {
    let mut state = state(Settings { ring_bytes: 0, ..settings() });
    state.fact(1, named(4, "web"));
    state.batch(SECOND, &batch(4, 0, 500, SECOND));
    state.tick(3 * SECOND, 0);
    assert_eq!(state.ring_bytes(), 0);
    let ids: Vec<_> = (0..RECORDINGS).map(|_| state.begin(4 * SECOND, 0, &for_seconds(1)).expect("begun")).collect();
    let more = state.begin(4 * SECOND, 0, &for_seconds(1));
    assert_eq!(more, Err(RecordingRefused::TooMany(RECORDINGS)));
    state.batch(4 * SECOND, &batch(4, 500, 5, 4 * SECOND));
    state.tick(6 * SECOND, 0);
    let read = read(&drain(&mut state, ids[0], 6 * SECOND).0);
    assert_eq!(read.records.len(), 5);
    assert!(read.facts.iter().any(|fact| fact.what == named(4, "web")));
    let is_shell = |fact: &Fact| matches!(&fact.what, What::Process(process) if process.executable == "/bin/sh");
    assert!(read.facts.iter().any(is_shell), "what was executed while nothing was kept");
    ids.into_iter().for_each(|id| state.stop(id, RecordingOutcome::ReaderGone));
    state.tick(8 * SECOND, 0);
    assert_eq!(state.ring_bytes(), 0, "nobody records any more");
}

const AROUND: AroundAlerts = AroundAlerts {
    before_ns: 60 * SECOND,
    after_ns: 10 * SECOND,
    pause_ns: 100 * SECOND,
    limit_bytes: 0,
    severity: 0,
    policies: Vec::new(),
};

/// A rule of this policy and severity.
fn policy(name: &str, severity: Option<u8>, action: Action) -> Arc<CompiledPolicy> {
    let matched = "  file: {matchPaths: [{path: /etc/shadow}]}\n";
    let severity = severity.map(|severity| format!("  severity: {severity}\n")).unwrap_or_default();
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{}}\n{severity}{matched}  action: {action:?}\n"
    );
    let set = PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound");
    let What::WorkloadNamed(_, workload) = named(4, "web") else { panic!("named") };
    let rules = set.rules_for(&workload, &BTreeMap::new(), Postures::default());
    let compiled = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("small");
    assert_eq!(compiled.rules.len(), 1);
    Arc::new(compiled)
}

fn decided(effect: Effect, outcome: Outcome, rule: Option<u32>) -> Vec<u8> {
    let word = Decision { effect, rule, by_posture: rule.is_none(), ..Decision::PERMIT }.to_word().expect("fits");
    let (tier, fail_reason, family) = (Tier::BpfLsm, FailReason::None, Family::File);
    let decision = DecisionTaken { policy: 1, generation: 1, word, tier, outcome, fail_reason, family };
    let header = RecordHeader { slot: 4, ..RecordHeader::default() };
    let body = Body::Open(Open { path: text(b"/etc/shadow"), ..Open::default() });
    let mut writer = RecordWriter::default();
    writer.write(&Record { header, body, decision: Some(decision) }).expect("fits");
    writer.into_bytes()
}

pub(crate) fn blocked() -> Vec<u8> {
    decided(Effect::Block, Outcome::Denied, Some(0))
}

fn around(settings_of: AroundAlerts, of: Option<&Arc<CompiledPolicy>>) -> State {
    let mut state = state(Settings { around_alerts: Some(settings_of), ..settings() });
    let installed = Installed { number: 1, ..Installed::default() };
    let (slot, generation, policy) = (Slot(4), Generation(1), of.cloned());
    state.installed(&PolicyInstalled { slot, generation, policy, installed, not_held: Arc::from([]) });
    state
}

#[test]
fn unit_recorder_knows_the_policy_in_force_however_many_were_announced_since() {
    let mut state = around(AROUND, Some(&policy("p", None, Action::Block)));
    for generation in 2..10 {
        state.announced(&PolicyAnnounced { slot: Slot(4), generation: Generation(generation), policy: None });
    }
    state.batch(SECOND, &blocked());
    assert_eq!(state.alerted(SECOND).expect("blocked").policy, "KubeArmorPolicy/default/p");
}

#[test]
fn unit_recorder_begins_a_trace_around_what_is_blocked_and_no_second_one_before_the_pause_is_over() {
    let mut state = around(AROUND, Some(&policy("p", None, Action::Block)));
    state.batch(SECOND, &batch(4, 0, 3, SECOND));
    assert_eq!(state.alerted(SECOND), None);
    for outcome in [Outcome::Denied, Outcome::Killed, Outcome::Unenforceable] {
        let mut state = around(AROUND, Some(&policy("p", None, Action::Block)));
        state.batch(SECOND, &decided(Effect::Block, outcome, Some(0)));
        assert_eq!(state.alerted(SECOND).expect("blocked").policy, "KubeArmorPolicy/default/p", "{outcome:?}");
    }
    state.batch(SECOND, &blocked());
    let first = state.alerted(200 * SECOND).expect("blocked");
    assert_eq!((first.before_ns, first.after_ns, first.passed_over), (60 * SECOND, 10 * SECOND, 0));
    assert_eq!(state.alerted(201 * SECOND), None, "said once");
    for second in [202, 230, 299] {
        state.batch(second, &blocked());
        assert_eq!(state.alerted(second * SECOND), None, "the pause");
    }
    state.batch(300, &blocked());
    let next = state.alerted(300 * SECOND).expect("the pause is over");
    assert_eq!((next.passed_over, next.before_ns), (3, 60 * SECOND));
    state.batch(400, &blocked());
    let of_short_pause = AroundAlerts { pause_ns: 0, ..AROUND };
    let mut state = around(of_short_pause, None);
    state.batch(SECOND, &blocked());
    assert!(state.alerted(200 * SECOND).is_some(), "a rule that nobody knows any more");
    state.batch(SECOND, &blocked());
    assert_eq!(state.alerted(215 * SECOND).expect("begun").before_ns, 5 * SECOND, "where the last one ended");
}

#[test]
fn unit_recorder_begins_a_trace_only_around_alerts_of_the_severity_and_the_policies_that_it_was_told() {
    let alerts = |settings: AroundAlerts, of: Option<u8>, name: &str, effect| {
        let action = if effect == Effect::Block { Action::Block } else { Action::Audit };
        let mut state = around(settings, Some(&policy(name, of, action)));
        let outcome = if effect == Effect::Block { Outcome::Denied } else { Outcome::Observed };
        state.batch(SECOND, &decided(effect, outcome, Some(0)));
        state.alerted(SECOND).is_some()
    };
    let severe = AroundAlerts { severity: 5, ..AROUND };
    assert!(alerts(severe.clone(), Some(5), "p", Effect::Block));
    assert!(!alerts(severe.clone(), Some(4), "p", Effect::Block) && !alerts(severe.clone(), None, "p", Effect::Block));
    assert!(!alerts(AROUND, Some(9), "p", Effect::Audit), "what is only audited, unasked");
    for name in ["p", "default/p", "KubeArmorPolicy/default/p"] {
        let named = AroundAlerts { policies: vec![name.into()], ..AROUND };
        assert!(alerts(named.clone(), None, "p", Effect::Audit), "{name}");
        assert!(!alerts(named, None, "q", Effect::Block), "{name}");
    }
    let by_posture = decided(Effect::Block, Outcome::Denied, None);
    let mut state = around(AroundAlerts { severity: 1, ..AROUND }, None);
    state.batch(SECOND, &by_posture);
    assert_eq!(state.alerted(SECOND).expect("a posture").policy, "DefaultPosture");
    let mut state = around(severe, None);
    state.batch(SECOND, &by_posture);
    assert_eq!(state.alerted(SECOND), None);
}

#[test]
fn unit_recorder_keeps_an_eye_on_alerts_also_where_it_keeps_no_ring() {
    let mut state = state(Settings { around_alerts: Some(AROUND), ring_bytes: 0, ..settings() });
    state.batch(SECOND, &blocked());
    assert!(state.alerted(SECOND).is_some());
}

#[test]
fn unit_recorder_ends_a_recording_whole_when_it_is_told_to() {
    let mut state = state(settings());
    let id = state.begin(SECOND, 0, &RecordTrace::default()).expect("begun");
    state.batch(2 * SECOND, &batch(4, 0, 5, 2 * SECOND));
    assert!(state.end(id, 3 * SECOND).ended && !state.end(id + 1, 3 * SECOND).ended);
    state.batch(4 * SECOND, &batch(4, 5, 5, 4 * SECOND));
    state.tick(5 * SECOND, 0);
    let (bytes, over) = drain(&mut state, id, 5 * SECOND);
    let read = read(&bytes);
    assert!(over && read.report.ending == Ending::Whole);
    assert_eq!(read.records.len(), 5, "what was open is in it, and what came later is not");
    assert_eq!(losses(&read.facts).len(), 1);
}

#[test]
fn unit_recorder_tells_the_living_processes_again_after_many_records_and_of_a_workload_only_its_own() {
    let mut state = state(Settings { ring_bytes: 256 << 20, arguments: true, ..settings() });
    state.fact(1, named(4, "web"));
    state.fact(1, named(5, "db"));
    let everything = RecordTrace { arguments: true, ..for_seconds(1000) };
    let all = state.begin(SECOND, 0, &everything).expect("begun");
    let one = RecordTrace { workloads: vec!["db".into()], ..for_seconds(1000) };
    let one = state.begin(SECOND, 0, &one).expect("begun");
    let mut sequence = 0;
    while sequence <= 2 * CHECKPOINT_RECORDS {
        for slot in [4, 5] {
            // The same few names: what is counted here is not bytes.
            state.batch(2 * SECOND, &batch(slot, sequence, 512, 2 * SECOND));
            sequence += 512;
        }
    }
    let all = drain(&mut state, all, 3 * SECOND).0;
    assert!(state.end(one, 3 * SECOND).ended);
    let [all, one] = [all, drain(&mut state, one, 3 * SECOND).0].map(|bytes| read(&bytes).checkpoints);
    let pids = |facts: &[Fact]| -> Vec<(u32, usize)> {
        let of = |fact: &Fact| match &fact.what {
            What::Process(process) => (process.pid, process.arguments.len()),
            other => panic!("{other:?}"),
        };
        facts.iter().map(of).collect()
    };
    assert_eq!(all.iter().map(|facts| pids(facts)).collect::<Vec<_>>(), vec![[(54, 2), (55, 2)]; all.len()]);
    assert!((1..=4).contains(&all.len()), "one each {CHECKPOINT_RECORDS} records");
    assert_eq!(one.iter().map(|facts| pids(facts)).collect::<Vec<_>>(), vec![[(55, 0)]; all.len()], "and no arguments");
}

#[test]
fn unit_recorder_counts_checkpoints_that_are_more_than_a_block_holds() {
    // Just what is kept of arguments, and the processes beside.
    let process =
        |pid| Process { pid, executable: "/x".into(), arguments: vec![String::new(); 1000], ..Process::default() };
    let mut state =
        state(Settings { ring_bytes: 256 << 20, arguments: true, ..settings() }).listing((1..=466).map(process));
    let mut sequence = 0;
    while sequence <= CHECKPOINT_RECORDS {
        state.batch(2 * SECOND, &batch(4, sequence, 512, 2 * SECOND));
        sequence += 512;
    }
    state.seal();
    assert_eq!(state.checkpoints_left_out, 1);
}

#[test]
fn unit_recorder_says_that_processes_are_left_out() {
    let mut state = state(settings());
    let of = |arguments| What::Process(Process { pid: 7, executable: "/x".into(), arguments, ..Process::default() });
    state.fact(1, of(Vec::new()));
    state.tick(SECOND, 0);
    assert!(!state.says_left_out);
    state.fact(SECOND, of(vec![String::new(); 1 << 20]));
    state.tick(2 * SECOND, 0);
    assert!(state.says_left_out);
}

#[test]
fn unit_recorder_tells_settings_that_changed_and_names_of_users() {
    let mut state = state(settings());
    state.fact(1, named(4, "web"));
    let changed = What::Settings { visibility: Visibility::ALL, throttle: Some((3, 9)) };
    state.fact(SECOND, changed.clone());
    let users = |name: &str| {
        let names = Some(vec![(33, name.to_owned())]);
        What::Users(Users { slot: Slot(4), mount_namespace: Some(7), names })
    };
    state.fact(SECOND, users("www"));
    let id = state.begin(2 * SECOND, 0, &for_seconds(5)).expect("begun");
    state.fact(3 * SECOND, users("web"));
    state.tick(8 * SECOND, 0);
    let read = read(&drain(&mut state, id, 8 * SECOND).0);
    let told: Vec<&What> = read.facts.iter().map(|fact| &fact.what).collect();
    assert!(told.contains(&&changed) && told.contains(&&users("www")) && told.contains(&&users("web")), "{told:?}");
}

#[test]
fn unit_recorder_keeps_no_more_than_its_bytes() {
    let mut state = state(Settings { ring_bytes: 30_000, ..settings() });
    let mut most = 0;
    for second in 2..60 {
        state.batch(second * SECOND, &batch(4, second * 512, 512, second * SECOND));
        state.tick(second * SECOND + SECOND / 2, 0);
        state.tick(second * SECOND + 3 * SECOND / 2, 0);
        most = most.max(state.ring_bytes());
    }
    assert!(most <= 30_000 && most > 15_000, "{most}");
}

#[test]
fn unit_recorder_tells_what_is_lost_since_the_recording_began_and_not_since_the_node_did() {
    for ring_bytes in [0, settings().ring_bytes] {
        let mut state = state(Settings { ring_bytes, ..settings() });
        state.batch(SECOND, &batch(4, 0, 3, SECOND));
        state.batch(SECOND, &batch(4, 100, 3, SECOND));
        state.kernel_lost(vec![(4, "RingFull".into(), 97), (5, "RingFull".into(), 1)]);
        let id = state.begin(2 * SECOND, 0, &for_seconds(5)).expect("begun");
        state.batch(3 * SECOND, &batch(4, 105, 3, 3 * SECOND));
        state.kernel_lost(vec![(4, "RingFull".into(), 99), (5, "RingFull".into(), 1)]);
        state.tick(8 * SECOND, 0);
        let (bytes, _) = drain(&mut state, id, 8 * SECOND);
        for loss in losses(&read(&bytes).facts) {
            assert_eq!((loss.missing, &loss.kernel), (2, &vec![(4, "RingFull".into(), 2)]), "{ring_bytes}");
        }
    }
}

#[test]
fn unit_recorder_ends_no_recording_for_who_asks_after_one_of_a_life_before() {
    let life = |first_id| {
        let mut state = state(Settings { first_id, ..settings() });
        let id = state.begin(SECOND, SECOND, &for_seconds(10)).expect("begun");
        (state, id)
    };
    let ((_, before), (mut now, id)) = (life(u64::MAX), life(1_000));
    assert!(!now.end(before, 2 * SECOND).ended, "it is another's");
    assert!(now.end(id, 2 * SECOND).ended);
    let next = life(u64::MAX).0.begin(SECOND, SECOND, &for_seconds(10));
    assert_eq!(next, Ok(0), "numbers go on past the last one");
}
