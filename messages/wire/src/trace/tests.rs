//! The format as a whole: what comes back, and what of broken files.

use std::{collections::BTreeMap, io::Cursor, sync::Arc};

use palisade_domain::{ContainerId, Family, Generation, Slot, Tier, Visibility, Workload, WorkloadKind};
use palisade_kernel_abi::record::{
    Body, DecisionTaken, Exec, Exit, FailReason, Fork, Header as RecordHeader, Network, NetworkOperation, Open,
    Outcome, Record, RecordWriter, Text,
};
use palisade_policy::ir::Postures;
use proptest::prelude::*;

use super::*;

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

/// A batch of one producer as a busy workload makes them: `n` says which.
fn batch(n: u64, count: u64) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    for at in 0..count {
        let number = n * 1000 + at;
        let header = RecordHeader {
            sequence: number,
            producer: (n % 3) as u32,
            slot: (n % 5) as u32,
            boot_ns: 5_000_000_000 + number * 7919,
            cgroup_id: 77 + n % 5,
            task_start_ns: 1_000_000 * (at % 4),
            tgid: 100 + (at % 4) as u32,
            tid: 100 + (at % 4) as u32,
            comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
            ..RecordHeader::default()
        };
        let path = format!("/srv/www/{}.html", number % 9);
        let arguments = format!("sh\0-c\0secret{number}\0");
        let network = Network {
            operation: NetworkOperation::Connect,
            domain: 2,
            socket_type: 1,
            protocol: 6,
            destination: Some(([10, 0, 0, 1].into(), 443)),
            user: false,
            result: 0,
        };
        let body = match at % 5 {
            0 => Body::Exec(Exec {
                path: text(b"/bin/sh"),
                argument_bytes: text(arguments.as_bytes()),
                argument_count: 3,
                ..Exec::default()
            }),
            1 => Body::Fork(Fork { child_tgid: at as u32, ..Fork::default() }),
            2 => Body::Connect(network),
            3 => Body::Exit(Exit { status: -1 }),
            _ => Body::Open(Open { path: text(path.as_bytes()), flags: 0o100, result: 3 }),
        };
        let decision = (at % 5 == 4).then_some(DecisionTaken {
            policy: 3,
            generation: 2,
            word: 0x0102_0304,
            tier: palisade_kernel_abi::record::Tier::BpfLsm,
            outcome: Outcome::Denied,
            fail_reason: FailReason::None,
            family: palisade_kernel_abi::record::Family::File,
        });
        writer.write(&Record { header, body, decision }).expect("fits");
    }
    writer.into_bytes()
}

pub(super) fn every_fact() -> Vec<Fact> {
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: "web".into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: Some(ContainerId("c0ffee".into())),
        image: "nginx:1".into(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
    };
    let host = Workload { kind: WorkloadKind::Host, container_id: None, ..workload.clone() };
    let policy = PolicyOfSlot { slot: Slot(4), generation: Generation(2), blob: Some([7; 32]) };
    let gaps = vec![("readOnly".to_owned(), "fanotify tells no mode".to_owned())];
    let none = Vec::new;
    let families = BTreeMap::from([
        (Family::File, (Tier::Fanotify, gaps)),
        (Family::Device, (Tier::Audit, none())),
        (Family::Process, (Tier::BpfLsm, none())),
        (Family::Presets, (Tier::FmodRet, none())),
        (Family::Capabilities, (Tier::AppArmor, none())),
        (Family::Network, (Tier::CgroupBpf, none())),
        (Family::Ptrace, (Tier::Kill, none())),
        (Family::Dns, (Tier::SeLinux, none())),
    ]);
    let documents: Arc<[(String, Arc<[u8]>)]> = Arc::from([("a.yaml".to_owned(), Arc::from(&b"kind: x"[..]))]);
    let process = Process {
        pid: 9,
        start_ticks: 55,
        parent: Some((1, 1)),
        executable: "/sbin/init".into(),
        arguments: vec!["init".into()],
        ..Process::default()
    };
    let loss = Loss { missing: 1, shed: 2, malformed: 3, kernel: vec![(4, "RingFull".into(), 9)] };
    let what = [
        What::WorkloadNamed(Slot(0), Arc::new(host)),
        What::WorkloadNamed(Slot(4), Arc::new(workload)),
        What::Visible(Slot(4), Visibility::ALL),
        What::PolicySet(PolicyDocuments { generation: Generation(2), postures: Postures::default(), documents }),
        What::PolicyAnnounced(PolicyOfSlot { blob: None, ..policy }),
        What::PolicyInstalled(policy, Held { number: 3, families }),
        What::Process(process),
        What::Place(Place { slot: Slot(4), pid: 9, cgroup: 77, cgroup_path: "/a".into(), root: "/r".into() }),
        What::Clock(1 << 60),
        What::Loss(loss),
        What::KubernetesObject(vec![1, 2, 3]),
        What::WorkloadGone(Slot(4)),
        What::Settings { visibility: Visibility::ALL, throttle: None },
        What::Settings { visibility: Visibility::default(), throttle: Some((10, 30)) },
        What::Users(Users { slot: Slot(0), mount_namespace: None, names: None }),
        What::Users(Users { slot: Slot(4), mount_namespace: Some(9), names: Some(vec![(33, "www-data".into())]) }),
        What::SnapshotEnd,
    ];
    (1..).zip(what).map(|(boot_ns, what)| Fact { boot_ns, what }).collect()
}

pub(super) fn header() -> Header {
    Header {
        node: "n1".into(),
        cluster: "c".into(),
        boot_ns: 5,
        unix_ns: 1_795_642_661_000_000_000,
        kernel: "6.1".into(),
        architecture: "x86_64".into(),
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        redacted: vec!["arguments".into()],
        workloads: vec!["web".into()],
        visibility: "process,file".parse().expect("classes"),
        throttle: Some((10, 30)),
        program: "0.1.0".into(),
        ..Header::default()
    }
}

/// Facts, then blocks of one batch each.
fn trace(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = TraceWriter::begin(Vec::new(), &header()).expect("written");
    writer.facts(&every_fact()).expect("written");
    for bytes in batches {
        let mut block = Batches::new();
        assert_eq!(block.push(bytes, |_| true), 0);
        writer.records(&block).expect("written");
    }
    writer.finish().expect("written")
}

/// All records and facts, in order, and the report.
type All = (Vec<Fact>, Vec<Vec<u8>>, Report);

fn read(bytes: &[u8]) -> Result<All, OpenError> {
    let mut reader = TraceReader::open(bytes)?;
    let (mut facts, mut batches) = (Vec::new(), Vec::new());
    while let Some(part) = reader.next_part()? {
        match part {
            Part::Facts(more) => facts.extend(more),
            Part::Records(more) => batches.extend(more.iter().map(|(_, bytes)| bytes.to_vec())),
            Part::Checkpoint(_) => {}
        }
    }
    Ok((facts, batches, reader.report().clone()))
}

#[test]
fn unit_trace_gives_back_every_fact_and_every_byte_of_every_batch() {
    let batches: Vec<Vec<u8>> = (0..7).map(|n| batch(n, 40 + n)).collect();
    let bytes = trace(&batches);
    let (facts, read, report) = read(&bytes).expect("a trace");
    assert_eq!(facts, every_fact());
    assert_eq!(read, batches);
    assert_eq!((report.ending, report.damaged, report.blocks), (Ending::Whole, 0, 10));
    assert_eq!((report.records, report.bytes), ((40..47).sum::<u64>(), bytes.len() as u64));
    assert!(report.complaints().is_empty());
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    assert_eq!(reader.header(), &header());
    while reader.next_part().expect("bytes").is_some() {}
    assert_eq!(reader.index().map(<[_]>::len), Some(9));
}

#[test]
fn unit_trace_keeps_several_batches_of_a_block_apart() {
    let mut block = Batches::new();
    block.push(&batch(1, 10), |_| true);
    block.push(&batch(2, 5), |_| false);
    block.push(&batch(3, 7), |record| record.len() > 160);
    let stored = block.block().expect("fits");
    assert_eq!(stored.records().expect("whole"), block);
    assert_eq!(block.iter().map(|(count, _)| count).collect::<Vec<_>>()[0], 10);
    assert_eq!(block.iter().count(), 2, "a batch of which nothing is kept leaves nothing");
    assert_eq!(stored.slots, Some([Slot(1), Slot(3)].into()));
}

#[test]
fn unit_trace_of_records_of_an_older_layout_is_read_and_of_one_to_come_is_refused() {
    use palisade_kernel_abi::record::{OLDEST_VERSION, VERSION};
    let of = |record_version| {
        let header = Header { record_version, ..header() };
        let bytes = TraceWriter::begin(Vec::new(), &header).and_then(TraceWriter::finish).expect("memory takes it");
        read(&bytes).map(|_| ())
    };
    for version in OLDEST_VERSION..=VERSION {
        of(version).unwrap_or_else(|error| panic!("{version}: {error}"));
    }
    for version in [OLDEST_VERSION - 1, VERSION + 1] {
        assert!(matches!(of(version), Err(OpenError::Records(_))), "{version}");
    }
}

#[test]
fn unit_trace_of_a_newer_version_is_refused_by_its_number() {
    let mut bytes = trace(&[]);
    bytes[8] = 2;
    let error = read(&bytes).expect_err("newer");
    assert!(matches!(error, OpenError::Newer { found: 2 }), "{error}");
    assert!(error.to_string().contains("version 2"));
    assert!(matches!(read(b"GIF89a"), Err(OpenError::NoTrace)));
    assert!(matches!(read(&bytes[..10]), Err(OpenError::NoTrace)));
}

#[test]
fn unit_trace_with_a_damaged_block_is_read_around_it_and_says_which() {
    let batches: Vec<Vec<u8>> = (0..5).map(|n| batch(n, 50)).collect();
    let mut bytes = trace(&batches);
    let index = seek::index_of(&mut Cursor::new(&bytes)).expect("bytes").expect("an index");
    // Content of the third block of records, then the head of the fourth.
    let (third, fourth) = (index[4].at as usize, index[5].at as usize);
    bytes[third + frame::BLOCK_HEAD + 20] ^= 1;
    bytes[fourth + 9] ^= 0x40;
    let (_, read, report) = read(&bytes).expect("a trace");
    let left: Vec<_> = [0, 1, 4].map(|n| batches[n].clone()).into();
    assert_eq!(read, left);
    assert_eq!((report.damaged, report.damaged_records, report.missing_blocks), (2, 50, 1));
    let said = report.complaints().join("\n");
    assert!(
        said.contains(&format!("block 4 at byte {third} (50 records) is left out: its bytes are not those")),
        "{said}"
    );
    assert!(said.contains(&format!("what begins at byte {fourth} is left out: no block begins here")), "{said}");
    assert_eq!(report.ending, Ending::Whole);
}

#[test]
fn unit_trace_that_is_cut_says_how_much_is_missing() {
    let batches: Vec<Vec<u8>> = (0..3).map(|n| batch(n, 50)).collect();
    let bytes = trace(&batches);
    let index = seek::index_of(&mut Cursor::new(&bytes)).expect("bytes").expect("an index");
    let last = index[4].at as usize;
    let (_, all, report) = read(&bytes[..last]).expect("a trace");
    assert_eq!((all.len(), report.ending), (2, Ending::NoTrailer));
    assert!(report.complaints()[0].contains("4 blocks and 100 records are whole"), "{:?}", report.complaints());
    let (_, all, report) = read(&bytes[..last + frame::BLOCK_HEAD + 3]).expect("a trace");
    assert_eq!(all.len(), 2);
    let Ending::Cut { have, need, records } = report.ending else { panic!("{:?}", report.ending) };
    assert_eq!((have, records), (frame::BLOCK_HEAD as u64 + 3, Some(50)));
    let said = report.complaints().join("\n");
    assert!(
        said.contains(&format!("{} of {need} bytes are missing", need - have)) && said.contains("of 50 records"),
        "{said}"
    );
    // The heads that are there tell when its records begin all the same.
    let first_ns = |bytes: &[u8]| seek::first_ns(&mut Cursor::new(bytes)).expect("bytes");
    for ends in [bytes.len(), last, last + 9, last + frame::BLOCK_HEAD, last + frame::BLOCK_HEAD + 3] {
        assert_eq!(first_ns(&bytes[..ends]), Some(index[2].first_ns), "{ends} of {}", bytes.len());
    }
    let mut damaged = bytes.clone();
    damaged[last] ^= 1;
    assert_eq!(first_ns(&damaged), None);
}

#[test]
fn unit_trace_is_sought_by_time_and_workload_without_reading_the_rest() {
    let batches: Vec<Vec<u8>> = (0..10).map(|n| batch(n, 50)).collect();
    let bytes = trace(&batches);
    let mut file = Cursor::new(&bytes);
    let index = seek::index_of(&mut file).expect("bytes").expect("an index");
    let sought = |from_ns, until_ns, slot: Option<Slot>| {
        let wanted = seek::Wanted { from_ns, until_ns, slots: slot.map(|slot| [slot].into()) };
        let source = seek::Sought::new(Cursor::new(&bytes), &index, &wanted).expect("bytes");
        let mut reader = TraceReader::open(source).expect("a trace").sought();
        let (mut facts, mut found) = (0, Vec::new());
        while let Some(part) = reader.next_part().expect("bytes") {
            match part {
                Part::Facts(more) => facts += more.len(),
                Part::Records(more) => found.extend(more.iter().map(|(_, bytes)| bytes.to_vec())),
                Part::Checkpoint(_) => panic!("there is none"),
            }
        }
        assert_eq!((reader.report().ending, reader.report().missing_blocks), (Ending::Whole, 0));
        assert_eq!(facts, every_fact().len());
        (found, reader.report().bytes)
    };
    let (all, _) = sought(0, u64::MAX, None);
    assert_eq!(all, batches);
    // Without a checkpoint, what is before the first wanted block says who its processes are.
    let (of_two, read) = sought(0, u64::MAX, Some(Slot(2)));
    assert_eq!(of_two, [&batches[..3], &batches[7..8]].concat());
    assert!(read < bytes.len() as u64 * 2 / 3, "{read} of {}", bytes.len());
    let times = |n: usize| (index[2 + n].first_ns, index[2 + n].last_ns);
    let (of_time, _) = sought(times(3).0, times(4).1, None);
    assert_eq!(of_time, batches[..5]);
}

#[test]
fn unit_trace_is_sought_from_the_last_checkpoint_on_and_no_block_more_is_read() {
    let process = |pid| Fact { boot_ns: 1, what: What::Process(Process { pid, ..Process::default() }) };
    let mut writer = TraceWriter::begin(Vec::new(), &header()).expect("written");
    writer.facts(&every_fact()).expect("written");
    for n in 0..100 {
        if n % 10 == 9 {
            writer.block(&Block::checkpoint(&[process(n)]).expect("small")).expect("written");
        }
        let mut one = Batches::new();
        one.push(&batch(u64::from(n), 20), |_| true);
        writer.records(&one).expect("written");
    }
    let bytes = writer.finish().expect("written");
    let index = seek::index_of(&mut Cursor::new(&bytes)).expect("bytes").expect("an index");
    let records: Vec<&index::Entry> = index.iter().filter(|entry| entry.kind == frame::BlockKind::Records).collect();
    let read = |wanted: &seek::Wanted| {
        let source = seek::Sought::new(Cursor::new(&bytes), &index, wanted).expect("bytes");
        let mut reader = TraceReader::open(source).expect("a trace").sought();
        let (mut parts, mut checkpoints) = (0, Vec::new());
        while let Some(part) = reader.next_part().expect("bytes") {
            parts += u64::from(matches!(part, Part::Records(_)));
            if let Part::Checkpoint(facts) = part {
                checkpoints.extend(facts);
            }
        }
        // Header, facts and index beside the records and the checkpoint: nothing else was looked at.
        assert_eq!(reader.report().blocks, 3 + parts + checkpoints.len() as u64);
        (parts, checkpoints)
    };
    let (from_ns, until_ns) = (records[54].first_ns, records[55].last_ns);
    let wanted = seek::Wanted { from_ns, until_ns, slots: None };
    assert_eq!(read(&wanted), (7, vec![process(49)]), "of 100 blocks: 49 to 55");
    let of_one = seek::Wanted { from_ns, until_ns: u64::MAX, slots: Some([Slot(4)].into()) };
    let holders = records[54..].iter().filter(|entry| entry.slots.as_ref().is_some_and(|own| own.contains(&Slot(4))));
    assert_eq!(holders.clone().count(), 10, "each fifth block");
    assert_eq!(read(&of_one), (10 + 5, vec![process(49)]));
    let nothing = seek::Wanted { from_ns: u64::MAX, until_ns: u64::MAX, slots: None };
    assert_eq!(read(&nothing), (0, Vec::new()));
}

#[test]
fn unit_trace_that_passes_by_in_pieces_tells_what_its_heads_say() {
    let bytes = trace(&(0..5).map(|n| batch(n, 50)).collect::<Vec<_>>());
    for piece in [1, 3, 57, 1000, bytes.len()] {
        let mut passing = Passing::default();
        bytes.chunks(piece).for_each(|part| passing.pass(part));
        assert_eq!((passing.records, passing.bytes, passing.is_whole), (250, bytes.len() as u64, true), "{piece}");
        let index = seek::index_of(&mut Cursor::new(&bytes)).expect("bytes").expect("an index");
        let of = |entry: &index::Entry| (entry.kind == frame::BlockKind::Records).then_some(entry.first_ns);
        assert_eq!(passing.times.map(|(first, _)| first), index.iter().filter_map(of).min());
    }
    let mut cut = Passing::default();
    cut.pass(&bytes[..bytes.len() - 1]);
    assert!(!cut.is_whole && !cut.is_lost);
    let mut other = Passing::default();
    other.pass(b"HTTP/1.1 200 OK and what follows it");
    assert!(other.is_lost && !other.is_whole);
    // Several behind each other are parted where one ends.
    let several = [&bytes[..], &bytes, &bytes].concat();
    for piece in [1, 57, 1000, several.len()] {
        let (mut passing, mut ends, mut at) = (Passing::default(), Vec::new(), 0);
        for mut part in several.chunks(piece) {
            while !part.is_empty() {
                if passing.is_whole {
                    passing = Passing::default();
                }
                let passed = passing.pass_trace(part);
                at += passed;
                part = &part[passed..];
                if passing.is_whole {
                    ends.push(at);
                }
            }
        }
        assert_eq!(ends, [bytes.len(), 2 * bytes.len(), 3 * bytes.len()], "{piece}");
    }
}

#[test]
fn unit_trace_takes_less_than_twenty_bytes_a_record_of_a_busy_workload() {
    let mut block = Batches::new();
    for n in 0..16 {
        block.push(&batch(n, 512), |record| palisade_kernel_abi::record::redact_arguments(record).is_ok());
    }
    let stored = block.block().expect("fits");
    let each = stored.len() / u64::from(stored.head.records);
    assert!(each < 20, "{each} bytes a record");
}

#[test]
fn unit_trace_keeps_records_of_kinds_that_it_does_not_know_byte_for_byte() {
    let mut bytes = batch(1, 20);
    let len = u32::from_ne_bytes(bytes[4..8].try_into().expect("four")) as usize;
    bytes[..2].copy_from_slice(&999_u16.to_ne_bytes());
    bytes[len..len + 2].copy_from_slice(&0xffff_u16.to_ne_bytes());
    let mut block = Batches::new();
    block.push(&bytes, |_| true);
    assert_eq!(block.block().expect("fits").records().expect("whole").bytes(), bytes);
}

/// Records of any bytes behind a believable length.
fn any_records() -> impl Strategy<Value = Vec<u8>> {
    let record = (0_usize..30, any::<u16>(), any::<u64>(), prop::collection::vec(any::<u8>(), 8..40));
    prop::collection::vec(record, 0..60).prop_map(|records| {
        let mut bytes = Vec::new();
        for (words, kind, number, fill) in records {
            let len = palisade_kernel_abi::record::HEAD_SIZE + 8 * words;
            let at = bytes.len();
            bytes.extend(fill.iter().copied().cycle().take(len));
            bytes[at..at + 2].copy_from_slice(&(kind % 40).to_ne_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&(len as u32).to_ne_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn unit_trace_round_trips_any_bytes_that_are_records_by_their_lengths(batches in prop::collection::vec(any_records(), 1..4)) {
        let bytes = trace(&batches);
        let (_, read, report) = read(&bytes).expect("a trace");
        let written: Vec<Vec<u8>> = batches.into_iter().filter(|batch| !batch.is_empty()).collect();
        prop_assert_eq!(read, written);
        prop_assert_eq!(report.ending, Ending::Whole);
    }

    #[test]
    fn unit_trace_cut_anywhere_gives_whole_blocks_of_what_was_written_and_no_other_record(cut in 0_usize..100_000) {
        let batches: Vec<Vec<u8>> = (0..4).map(|n| batch(n, 30)).collect();
        let bytes = trace(&batches);
        let cut = cut % bytes.len();
        match read(&bytes[..cut]) {
            Ok((facts, read, report)) => {
                prop_assert!(facts.is_empty() || facts == every_fact());
                prop_assert_eq!(&read[..], &batches[..read.len()]);
                prop_assert!(report.ending != Ending::Whole && !report.complaints().is_empty());
            }
            Err(error) => prop_assert!(matches!(error, OpenError::NoTrace | OpenError::Header(_)), "{}", error),
        }
    }

    #[test]
    fn unit_trace_with_any_byte_changed_gives_no_wrong_record(at in 0_usize..100_000, flip in 1_u8..=255) {
        let batches: Vec<Vec<u8>> = (0..4).map(|n| batch(n, 30)).collect();
        let mut bytes = trace(&batches);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        match read(&bytes) {
            Ok((facts, read, report)) => {
                prop_assert!(facts.is_empty() || facts == every_fact());
                let mut written = batches.iter();
                prop_assert!(read.iter().all(|batch| written.any(|other| other == batch)), "a batch that was not written, or not in this order");
                let all_there = facts == every_fact() && read == batches;
                prop_assert!(all_there || !report.complaints().is_empty(), "something is missing, and nothing is said");
            }
            Err(error) => prop_assert!(at < 16 + 600, "byte {} of the head or header: {}", at, error),
        }
    }

    #[test]
    fn unit_trace_of_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let mut all = if head { trace(&[])[..400].to_vec() } else { Vec::new() };
        all.extend(bytes);
        let _ = read(&all);
        let _ = seek::index_of(&mut Cursor::new(&all));
    }
}
