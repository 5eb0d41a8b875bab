//! A small trace through the pipeline; the recorded ones are in tests/fixtures/traces.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{
    ContainerId, Family as RuleFamily, Generation, Slot, Tier as HeldTier, Visibility, Workload, WorkloadKind,
};
use palisade_kernel_abi::{
    blob::{Family as BlobFamily, Modifiers, SourceId},
    record::{
        Body, DecisionTaken, Exec, FailReason, Family, Fork, Header as RecordHeader, Open, Outcome, Phase, Record,
        RecordWriter, Text, Tier, slices,
    },
};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_wire::trace::{
    Batches, Fact, Header, Held, PolicyDocuments, PolicyOfSlot, Process, TraceReader, TraceWriter, What,
};

use super::*;

pub(crate) const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: no-shadow, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  severity: 7\n  file: {matchPaths: [{path: /etc/shadow}]}\n  action: Block\n";
const SECOND: u64 = 1_000_000_000;

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

pub(crate) fn workload() -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Container,
        name: "web-1".into(),
        namespace: "shop".into(),
        container: "web".into(),
        container_id: Some(ContainerId("c0ffee".into())),
        image: "web:1".into(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
    })
}

fn header_of(tgid: u32, boot_ns: u64, sequence: u64) -> RecordHeader {
    let (mnt_ns, phase) = (9, Phase::Workload);
    let (parent_tgid, parent_start_ns) = if tgid == 50 { (1, 0) } else { (50, SECOND) };
    let task_start_ns = if tgid == 50 { SECOND } else { 2 * SECOND };
    RecordHeader {
        tgid,
        tid: tgid,
        boot_ns,
        sequence,
        slot: 4,
        phase,
        mnt_ns,
        task_start_ns,
        parent_tgid,
        parent_start_ns,
        ..RecordHeader::default()
    }
}

/// A web server runs a shell, which is denied a file, twice.
fn records(word: u32) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    let mut write = |header, body, decision| {
        writer.write(&Record { header, body, decision }).expect("fits");
    };
    let fork = Fork { child_tgid: 60, child_tid: 60, child_start_ns: 2 * SECOND, child_own_tgid: 2, child_pid_ns: 8 };
    write(header_of(50, 20 * SECOND, 0), Body::Fork(fork), None);
    let exec = Exec { path: text(b"/bin/sh"), argument_bytes: text(b"sh\0-c\0"), argument_count: 2, ..Exec::default() };
    write(header_of(60, 21 * SECOND, 1), Body::Exec(exec), None);
    let decision = DecisionTaken {
        policy: 3,
        generation: 2,
        word,
        tier: Tier::BpfLsm,
        outcome: Outcome::Denied,
        fail_reason: FailReason::None,
        family: Family::File,
    };
    for (sequence, at) in [(2, 22), (3, 40)] {
        let open = Open { path: text(b"/etc/shadow"), flags: 0, result: 0 };
        write(header_of(60, at * SECOND, sequence), Body::Open(open), Some(decision));
        let open = Open { path: text(b"/etc/hosts"), flags: 0, result: 3 };
        write(header_of(60, at * SECOND + 1, sequence + 10), Body::Open(open), None);
    }
    writer.into_bytes()
}

pub(crate) fn trace(documents: &str) -> Vec<u8> {
    let set = PolicySet::parse([("a.yaml", POLICY.as_bytes())]).expect("sound");
    let rules = set.rules_for(&workload(), &BTreeMap::new(), Postures::default());
    let compiled = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("small");
    let blob = &compiled.blob;
    let decision = blob.decide(BlobFamily::File, blob.path_accept(b"/etc/shadow"), SourceId::NONE, Modifiers::NONE);
    let header = Header {
        node: "n1".into(),
        boot_ns: 10 * SECOND,
        unix_ns: 1_795_642_661 * SECOND,
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        visibility: "file".parse().expect("a class"),
        ..Header::default()
    };
    let mut writer = TraceWriter::begin(Vec::new(), &header).expect("written");
    let policy = PolicyOfSlot { slot: Slot(4), generation: Generation(2), blob: Some(compiled.id.0) };
    let documents: Arc<[(String, Arc<[u8]>)]> = Arc::from([("a.yaml".to_owned(), Arc::from(documents.as_bytes()))]);
    let held = Held { number: 3, families: BTreeMap::from([(RuleFamily::File, (HeldTier::BpfLsm, Vec::new()))]) };
    let web = Process { pid: 50, start_ticks: 100, executable: "/usr/sbin/nginx".into(), ..Process::default() };
    let set = PolicyDocuments { generation: Generation(2), postures: Postures::default(), documents };
    let facts = [
        What::WorkloadNamed(Slot(4), workload()),
        What::PolicySet(set),
        What::PolicyAnnounced(policy),
        What::PolicyInstalled(policy, held),
        What::Process(web),
        What::SnapshotEnd,
    ];
    let facts: Vec<Fact> = facts.into_iter().map(|what| Fact { boot_ns: 10 * SECOND, what }).collect();
    writer.facts(&facts).expect("written");
    let all = records(decision.to_word().expect("small"));
    // Batches of two records.
    let mut block = Batches::new();
    for two in slices(&all).collect::<Vec<_>>().chunks(2) {
        block.push(&two.concat(), |_| true);
    }
    writer.records(&block).expect("written");
    writer.finish().expect("written")
}

fn replayed(bytes: &[u8], options: Options) -> (String, Counts, Vec<String>) {
    let mut reader = TraceReader::open(bytes).expect("a trace");
    let mut replay = Replay::new(reader.header(), options);
    let mut out = Vec::new();
    while let Some(part) = reader.next_part().expect("bytes") {
        replay.part(&part, &mut out);
    }
    replay.end(&mut out);
    (String::from_utf8(out).expect("text"), replay.counts(), replay.notes())
}

fn values(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn unit_replay_says_alerts_with_rule_chain_and_time_of_the_trace() {
    let (text, counts, notes) = replayed(&trace(POLICY), Options::default());
    assert_eq!(notes, [""; 0]);
    assert_eq!((counts.records, counts.lines, counts.unattributed), (6, 2, 0));
    let first = &values(&text)[0];
    assert_eq!(first["verdict"], "denied");
    assert_eq!(first["rule"]["policyName"], "no-shadow");
    assert_eq!(first["rule"]["severity"], 7);
    assert_eq!(first["time"], 1_795_642_661_u64 * SECOND + 12 * SECOND);
    let chain: Vec<_> =
        first["processChain"].as_array().expect("a chain").iter().map(|p| p["executable"].clone()).collect();
    assert_eq!(chain, ["/bin/sh", "/usr/sbin/nginx"]);
}

#[test]
fn unit_replay_is_the_same_each_time_and_holds_to_what_is_asked() {
    let bytes = trace(POLICY);
    for output in [Output::Alerts, Output::Events, Output::Decisions] {
        let options = Options { output, ..Options::default() };
        assert_eq!(replayed(&bytes, options.clone()).0, replayed(&bytes, options).0);
    }
    let until = Options { until_ns: Some(30 * SECOND), ..Options::default() };
    assert_eq!(values(&replayed(&bytes, until).0).len(), 1);
    let other = Options { workloads: vec!["shop/db".into()], ..Options::default() };
    assert_eq!(replayed(&bytes, other).0, "");
    let own = Options { workloads: vec!["shop/web-1".into()], output: Output::Events, ..Options::default() };
    // Two alerts, and logs of what was done: fork, exec, two opens.
    let lines = values(&replayed(&bytes, own).0);
    assert_eq!(lines.iter().filter(|line| line.get("verdict").is_some()).count(), 2);
    assert!(lines.iter().filter(|line| line["subject"]["operation"] == "open").count() == 4, "{lines:?}");
}

#[test]
fn unit_replay_of_decisions_tells_each_as_the_kernel_took_it() {
    let options = Options { output: Output::Decisions, ..Options::default() };
    let lines = values(&replayed(&trace(POLICY), options).0);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["policy"], "KubeArmorPolicy/shop/no-shadow");
    assert_eq!(
        (&lines[0]["effect"], &lines[0]["outcome"], &lines[0]["resource"]),
        (&"block".into(), &"denied".into(), &"/etc/shadow".into())
    );
}

#[test]
fn unit_replay_names_no_rule_where_the_documents_compile_to_another_blob() {
    let (text, counts, notes) = replayed(&trace(&POLICY.replace("/etc/shadow", "/etc/gshadow")), Options::default());
    assert_eq!((counts.lines, counts.unattributed), (2, 2));
    assert!(values(&text)[0]["rule"].is_null());
    assert!(notes[0].contains("compiles to another blob"), "{notes:?}");
}

/// The parts of the trace, with these facts between the snapshot and the records.
fn replayed_with(told: Vec<What>, options: Options) -> Vec<serde_json::Value> {
    let bytes = trace(POLICY);
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    let mut replay = Replay::new(reader.header(), options);
    let mut told = Some(told.into_iter().map(|what| Fact { boot_ns: 15 * SECOND, what }).collect::<Vec<_>>());
    let mut out = Vec::new();
    while let Some(part) = reader.next_part().expect("bytes") {
        if let (Part::Records(batches), Some(facts)) = (&part, told.take_if(|_| matches!(part, Part::Records(_)))) {
            replay.part(&Part::Facts(facts), &mut out);
            // Ten times the same: more than one in a second.
            (0..10).for_each(|_| replay.part(&Part::Records(batches.clone()), &mut out));
        } else {
            replay.part(&part, &mut out);
        }
    }
    replay.end(&mut out);
    values(std::str::from_utf8(&out).expect("text"))
}

#[test]
fn unit_replay_holds_back_and_sees_by_the_settings_that_held_then() {
    let alerts =
        |told| replayed_with(told, Options::default()).iter().filter(|line| !line["verdict"].is_null()).count();
    assert_eq!(alerts(Vec::new()), 20);
    let held_back = What::Settings { visibility: Visibility::NONE, throttle: Some((1, 1000)) };
    let said = alerts(vec![held_back.clone()]);
    assert!((1..20).contains(&said), "{said} of 20");
    let released = What::Settings { visibility: Visibility::NONE, throttle: None };
    assert_eq!(alerts(vec![held_back, released]), 20, "the last one holds");
}

#[test]
fn unit_replay_names_users_as_the_node_had_read_them() {
    let users = |mount_namespace, name: &str| {
        let names = Some(vec![(0, name.to_owned())]);
        What::Users(palisade_wire::trace::Users { slot: Slot(4), mount_namespace, names })
    };
    let names = |told| -> Vec<serde_json::Value> {
        replayed_with(told, Options::default()).iter().map(|line| line["username"].clone()).collect()
    };
    assert!(names(Vec::new()).iter().all(|name| name.is_null() || name == ""));
    assert!(names(vec![users(Some(9), "toor")]).iter().all(|name| name == "toor"));
    let of_another = names(vec![users(Some(8), "toor"), users(None, "root")]);
    assert!(of_another.iter().all(|name| name.is_null() || name == ""), "of another mount namespace, and of the host");
}

#[test]
fn unit_replay_from_a_time_follows_what_is_before_it_and_says_nothing_of_it() {
    let bytes = trace(POLICY);
    for output in [Output::Alerts, Output::Events, Output::Decisions] {
        let whole = replayed(&bytes, Options { output, ..Options::default() }).0;
        let later = replayed(&bytes, Options { output, from_ns: 30 * SECOND, ..Options::default() }).0;
        assert!(whole.ends_with(&later) && !later.is_empty() && later.len() < whole.len(), "{output:?}");
        if output == Output::Alerts {
            assert_eq!(values(&later)[0]["processChain"][0]["executable"], "/bin/sh", "executed before");
        }
    }
}
