//! How much memory traces of a few kilobytes take that were made to take much, by whatever reads them: each in a process of its own, by the most
//! that it ever held.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, io::Cursor, path::Path, process::Command, sync::Arc};

use palisade_domain::{ContainerId, Generation, Slot, Workload, WorkloadKind};
use palisade_kernel_abi::record::{
    Body, Exec, Exit, Header as RecordHeader, Phase, Record, RecordWriter, STRING_MAX, Text,
};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_simulation::{
    editing::{self, Span},
    rehearsal::{Given, Rehearsal},
    replay::{MAX_SLOTS, Options, Output, Replay},
};
use palisade_wire::trace::{
    Batches, Block, Fact, Header, PolicyDocuments, PolicyOfSlot, Process, TraceReader, TraceWriter, Users, What,
    cbor::Items,
    frame::{BlockKind, MAX_CONTENT},
};

/// A block's content, what is made of it, what is held of a trace, and as much again while it is told: see `palisade_wire::trace`.
const MOST: u64 = 192 << 20;
const BLOCKS: u32 = 6;
/// As many of records as name more slots than can be held one by one.
const FAR_BLOCKS: u32 = 60;
const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  file: {matchPaths: [{path: /a}]}\n  action: Block\n";

fn header() -> Header {
    Header {
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        boot_ns: 1,
        unix_ns: 1 << 60,
        visibility: "file".parse().expect("a class"),
        ..Header::default()
    }
}

fn begun() -> TraceWriter<Vec<u8>> {
    TraceWriter::begin(Vec::new(), &header()).expect("begun")
}

/// One block of facts of this content for each of [`BLOCKS`].
fn of_items(content: impl Fn(u32) -> Items) -> Vec<u8> {
    let mut writer = begun();
    for number in 0..BLOCKS {
        writer.block(&Block::plain(BlockKind::Facts, content(number)).expect("it fits")).expect("written");
    }
    writer.finish().expect("written")
}

/// The fact's first fields, and as many empty texts as a block has room for.
fn empty_texts(kind: u64, fields: usize, begin: impl Fn(&mut Items)) -> Items {
    let mut items = Items::default();
    items.array(1);
    items.array(2 + fields);
    items.number(kind);
    items.number(1_u64);
    begin(&mut items);
    let count = (MAX_CONTENT - 128) / 6 * 6;
    items.array(count);
    items.append(&vec![0x60; count]);
    items
}

fn of_facts(facts: impl Fn(u32) -> Vec<What>) -> Vec<u8> {
    let mut writer = begun();
    for number in 0..BLOCKS {
        let facts: Vec<Fact> = facts(number).into_iter().map(|what| Fact { boot_ns: 1, what }).collect();
        writer.facts(&facts).expect("written");
    }
    writer.finish().expect("written")
}

fn workload(name: String) -> Arc<Workload> {
    Arc::new(Workload {
        kind: WorkloadKind::Container,
        container_id: Some(ContainerId("c".into())),
        name,
        namespace: "shop".into(),
        container: "web".into(),
        image: String::new(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
    })
}

fn policy_set(number: u32, documents: Vec<Vec<u8>>) -> Vec<What> {
    let generation = Generation(number + 1);
    let documents = documents.into_iter().enumerate().map(|(at, text)| (format!("{at}.yaml"), Arc::from(text)));
    let documents: Arc<[_]> = documents.collect();
    let policy = PolicyOfSlot { slot: Slot(number + 1), generation, blob: Some([7; 32]) };
    let named = What::WorkloadNamed(policy.slot, workload("w".into()));
    let set = PolicyDocuments { generation, postures: Postures::default(), documents };
    vec![named, What::PolicySet(set), What::PolicyAnnounced(policy)]
}

/// Blocks of records: a batch of as many as are asked for by `each`.
fn of_records(count: u32, each: impl Fn(u32, &mut RecordWriter)) -> Vec<u8> {
    of_record_blocks(BLOCKS, count, each)
}

fn of_record_blocks(blocks: u32, count: u32, each: impl Fn(u32, &mut RecordWriter)) -> Vec<u8> {
    let mut writer = begun();
    writer.facts(&[Fact { boot_ns: 1, what: What::WorkloadNamed(Slot(1), workload("w".into())) }]).expect("written");
    for number in 0..blocks {
        let mut block = Batches::new();
        let mut records = RecordWriter::default();
        for at in 0..count {
            each(number * count + at, &mut records);
            if at % 500 == 499 || at + 1 == count {
                block.push(records.bytes(), |_| true);
                records.clear();
            }
        }
        writer.records(&block).expect("written");
    }
    writer.finish().expect("written")
}

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

fn record(number: u32, slot: u32, body: Body<'_>, to: &mut RecordWriter) {
    let header = RecordHeader {
        slot,
        tgid: number + 2,
        tid: number + 2,
        sequence: number.into(),
        boot_ns: u64::from(number) + 5,
        phase: Phase::Workload,
        ..RecordHeader::default()
    };
    to.write(&Record { header, body, decision: None }).expect("fits");
}

/// By name, with those who read them: of what no reader gives out one is enough.
fn bombs() -> Vec<(&'static str, &'static [&'static str], Vec<u8>)> {
    let numbers = |numbers: &'static [u64]| move |items: &mut Items| numbers.iter().for_each(|n| items.number(*n));
    let process = |items: &mut Items| {
        items.number(1_u64);
        items.number(1_u64);
        items.null();
        items.number(0_u64);
        items.text("/x");
    };
    let exec = |number, to: &mut RecordWriter| {
        let arguments = [0; STRING_MAX];
        let exec = Exec { path: text(b"/x"), argument_bytes: text(&arguments), argument_count: 1, ..Exec::default() };
        record(number, 1, Body::Exec(exec), to);
    };
    let small = |number: u32, letter: &str| letter.repeat(1 << 20) + &number.to_string();
    let many = |number: u32| (0..30).map(move |at| (number * 30 + at, small(at, "x")));
    vec![
        (
            "documents",
            &["read"],
            of_items(|number| {
                empty_texts(4, 5, |items| [u64::from(number), 0, 0, 0].into_iter().for_each(|n| items.number(n)))
            }),
        ),
        ("losses", &["read"], of_items(|_| empty_texts(10, 4, numbers(&[0, 0, 0])))),
        ("arguments", &["read"], of_items(|_| empty_texts(7, 10, process))),
        (
            "sets of one large document",
            &["alerts", "cut", "merge"],
            of_facts(|number| policy_set(number, vec![vec![b'#'; 4 << 20]; 3])),
        ),
        (
            "sets of nothing but values",
            &["alerts"],
            of_facts(|number| policy_set(number, vec!["- a\n".repeat(1 << 15).into_bytes(); 2])),
        ),
        (
            "workloads",
            &["alerts", "rehearse", "cut"],
            of_facts(|number| {
                many(number).map(|(slot, name)| What::WorkloadNamed(Slot(slot), workload(name))).collect()
            }),
        ),
        (
            "names of one workload",
            &["alerts", "rehearse"],
            of_facts(|number| {
                many(number)
                    .map(|(_, name)| What::WorkloadNamed(Slot(1), workload(name + &number.to_string())))
                    .collect()
            }),
        ),
        (
            "users",
            &["alerts", "cut"],
            of_facts(|number| {
                many(number)
                    .map(|(namespace, name)| {
                        What::Users(Users {
                            slot: Slot(1),
                            mount_namespace: Some(namespace),
                            names: Some(vec![(0, name)]),
                        })
                    })
                    .collect()
            }),
        ),
        (
            "processes",
            &["alerts", "rehearse", "cut", "merge", "redact"],
            of_facts(|number| {
                (0..40)
                    .map(|pid| {
                        What::Process(Process {
                            pid: number * 40 + pid,
                            executable: "/x".into(),
                            arguments: vec![String::new(); 10_000],
                            ..Process::default()
                        })
                    })
                    .collect()
            }),
        ),
        ("executions", &["events", "rehearse", "cut", "merge"], of_records(2000, exec)),
        (
            "slots",
            &["alerts", "rehearse", "merge"],
            of_records(8000, |number, to| record(number, number, Body::Exit(Exit { status: 0 }), to)),
        ),
        (
            "slots that no node has",
            &["alerts", "rehearse"],
            of_record_blocks(FAR_BLOCKS, 8000, |number, to| {
                record(number, number, Body::Exit(Exit { status: 0 }), to);
            }),
        ),
    ]
}

#[test]
fn unit_replay_of_slots_that_no_node_has_leaves_their_records_out_and_says_how_many() {
    let slots = [1, 2, MAX_SLOTS - 1, MAX_SLOTS, MAX_SLOTS + 7, u32::MAX];
    let bytes = of_record_blocks(1, 6, |number, to| {
        record(number, slots[number as usize], Body::Exit(Exit { status: 0 }), to);
    });
    let lines = |until_ns| {
        let mut trace = TraceReader::open(&bytes[..]).expect("a trace");
        let options = Options { output: Output::Decisions, until_ns, ..Options::default() };
        let mut replay = Replay::new(&trace.header().clone(), options);
        let mut out = Vec::new();
        while let Some(part) = trace.next_part().expect("bytes") {
            replay.part(&part, &mut out);
        }
        replay.end(&mut out);
        (replay.counts().records, replay.counts().left_out, replay.notes())
    };
    let note = |count: u64| format!("{count} records are of slots from 65536 on, which no node has: they are left out");
    assert_eq!(lines(None), (3, 3, vec![note(3)]));
    // Record n is of the time n + 5.
    assert_eq!(lines(Some(8)), (3, 1, vec![note(1)]));
    assert_eq!(lines(Some(6)), (2, 0, Vec::new()));
}

/// What a command does with a trace.
fn consume(reader: &str, bytes: &[u8]) {
    let mut trace = TraceReader::open(bytes).expect("a trace");
    let header = trace.header().clone();
    match reader {
        "read" => while trace.next_part().expect("bytes").is_some() {},
        "alerts" | "events" => {
            let output = if reader == "alerts" { Output::Alerts } else { Output::Events };
            let mut replay = Replay::new(&header, Options { output, ..Options::default() });
            let mut out = Vec::new();
            while let Some(part) = trace.next_part().expect("bytes") {
                replay.part(&part, &mut out);
                out.clear();
            }
            replay.end(&mut out);
        }
        "rehearse" => {
            let set = PolicySet::parse([("p.yaml", POLICY.as_bytes())]).expect("sound");
            let mut rehearsal = Rehearsal::new(set, Given::default(), Vec::new());
            rehearsal.whole(&mut trace).expect("bytes");
            assert_eq!(rehearsal.report().denials(), 0);
        }
        "cut" => {
            let span = Span { from_ns: 3, until_ns: u64::MAX, workloads: Vec::new() };
            let made = editing::cut(&mut trace, &span, std::io::sink());
            assert!(made.is_ok());
        }
        "merge" => assert!(editing::merge(vec![Cursor::new(bytes), Cursor::new(bytes)], std::io::sink()).is_ok()),
        "redact" => assert!(editing::redact(bytes, std::io::sink()).is_ok()),
        other => panic!("{other}"),
    }
}

/// Kilobytes that this process held at most.
fn most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse().ok()).expect("a number")
}

const ASKED: &str = "PALISADE_TEST_CONSUMES";

#[test]
fn unit_trace_made_to_take_memory_takes_a_bounded_amount_of_whatever_reads_it() {
    if let Ok(asked) = std::env::var(ASKED) {
        let (reader, path) = asked.split_once('=').expect("a reader and a file");
        consume(reader, &std::fs::read(path).expect("a file"));
        println!("\nheld {} KiB", most_kib());
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for (name, readers, bytes) in bombs() {
        assert!(bytes.len() < 3 << 20, "{name}: {} bytes", bytes.len());
        let path = directory.path().join("trace");
        std::fs::write(&path, &bytes).expect("written");
        for reader in readers {
            let held = held(reader, &path);
            eprintln!("{name}, {} bytes, {reader}: {} MiB", bytes.len(), held >> 10);
            assert!(held << 10 <= MOST, "{name}, {} bytes, {reader}: {} MiB", bytes.len(), held >> 10);
        }
    }
}

fn held(reader: &str, path: &Path) -> u64 {
    let this = std::env::current_exe().expect("this program");
    let asked = format!("{reader}={}", path.display());
    let test = "unit_trace_made_to_take_memory_takes_a_bounded_amount_of_whatever_reads_it";
    let output = Command::new(this).args([test, "--exact", "--nocapture"]).env(ASKED, asked).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let held = text.lines().find_map(|line| line.strip_prefix("held ")?.strip_suffix(" KiB")?.parse().ok());
    held.unwrap_or_else(|| panic!("{reader}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
