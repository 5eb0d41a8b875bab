//! Captures that are cut, damaged and hostile. What a good one gives is held to another reader of the format in
//! [`super::held_to_sysdig`], and what a replay says of it to a golden file (tests/tests/captures.rs).

use std::io::{Cursor, Read as _};

use flate2::read::GzDecoder;
use palisade_wire::trace::{Ending, Part, TraceReader, What, frame::BlockKind};
use proptest::prelude::*;

use super::{event::kind, *};

const COMPRESSED: &[u8] = include_bytes!("../../../../tests/fixtures/captures/container.scap");

fn plain() -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(COMPRESSED).read_to_end(&mut bytes).expect("a gzip file");
    bytes
}

fn imported(bytes: &[u8]) -> Result<(Vec<u8>, Imported), ImportError> {
    import(Cursor::new(bytes), Vec::new())
}

/// It has as many records as it says, to its end.
fn check(trace: &[u8], records: u64) {
    let mut reader = TraceReader::open(trace).expect("a trace");
    while reader.next_part().expect("bytes").is_some() {}
    assert_eq!(reader.report().ending, Ending::Whole);
    assert_eq!(reader.report().records, records);
}

fn block(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(4), 0);
    let length = u32::try_from(content.len() + 12).expect("a short block").to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &content, &length].concat()
}

/// The block of an event.
fn event(unix_ns: u64, tid: u64, kind: u16, parameters: &[Vec<u8>]) -> Vec<u8> {
    let lengths = parameters.iter().flat_map(|bytes| u16::try_from(bytes.len()).expect("a short one").to_le_bytes());
    let body = [lengths.collect(), parameters.concat()].concat();
    let length = u32::try_from(26 + body.len()).expect("a short event").to_le_bytes();
    let count = u32::try_from(parameters.len()).expect("a few").to_le_bytes();
    let head = [&[0; 2][..], &unix_ns.to_le_bytes(), &tid.to_le_bytes(), &length, &kind.to_le_bytes(), &count].concat();
    block(0x216, &[head, body].concat())
}

/// The first block, which every capture begins with.
fn section() -> Vec<u8> {
    plain()[..28].to_vec()
}

#[test]
fn unit_capture_is_the_same_compressed_and_plain() {
    let (trace, done) = imported(COMPRESSED).expect("imported");
    assert_eq!((trace.clone(), done.clone()), imported(&plain()).expect("imported"));
    check(&trace, done.records);
    assert!(done.named.is_empty(), "{:?}", done.named);
}

#[test]
fn unit_capture_that_is_cut_is_read_to_its_last_whole_block_and_says_where_that_is() {
    let bytes = plain();
    let (_, whole) = imported(&bytes).expect("imported");
    let cut = bytes.len() - 30_002;
    let (trace, done) = imported(&bytes[..cut]).expect("imported");
    check(&trace, done.records);
    assert!((1..whole.records).contains(&done.records));
    let at: usize = done
        .lacks
        .iter()
        .find_map(|lack| lack.strip_prefix("what is behind byte ")?.split(':').next()?.parse().ok())
        .expect("said");
    assert!((cut - 2_000..=cut).contains(&at), "{at} of {cut}");
    assert_eq!(imported(&bytes[..at]).expect("imported").1.records, done.records);
    let (_, of_gzip) = imported(&COMPRESSED[..COMPRESSED.len() - 5_000]).expect("imported");
    assert!(of_gzip.records < whole.records);
    assert!(of_gzip.lacks.iter().any(|lack| lack.starts_with("what is behind byte ")), "{:?}", of_gzip.lacks);
    assert!(!whole.is_cut && done.is_cut && of_gzip.is_cut);
}

/// What the trace says at last that it has not: missing, and damaged.
fn lost(trace: &[u8]) -> Option<(u64, u64)> {
    let mut reader = TraceReader::open(trace).expect("a trace");
    let mut last = None;
    while let Some(part) = reader.next_part().expect("bytes") {
        let Part::Facts(facts) = part else { continue };
        last = facts
            .into_iter()
            .filter_map(|fact| match fact.what {
                What::Loss(loss) => Some((loss.missing, loss.malformed)),
                _ => None,
            })
            .last()
            .or(last);
    }
    last
}

#[test]
fn unit_capture_that_tells_of_dropped_events_or_is_damaged_makes_a_trace_that_says_what_it_lost() {
    let bytes = plain();
    assert_eq!(lost(&imported(&bytes).expect("imported").0), None);
    let cut = imported(&bytes[..bytes.len() - 30_002]).expect("imported").0;
    assert_eq!(lost(&cut), Some((0, 1)));
    let last = 1_900_000_000_000_000_000;
    let dropped = |at: u64, kind| event(last + at * 1_000_000_000, u64::MAX, kind, &[vec![0; 4]]);
    let dropping: Vec<u8> =
        (0..50).flat_map(|at| [dropped(at, kind::DROP_BEGIN), dropped(at, kind::DROP_END)].concat()).collect();
    let (trace, done) = imported(&[&bytes[..], &dropping].concat()).expect("imported");
    assert_eq!(lost(&trace), Some((50, 0)), "{:?}", done.lacks);
    let blocks_of_facts = |trace: &[u8]| {
        let mut reader = TraceReader::open(trace).expect("a trace");
        while reader.next_part().expect("bytes").is_some() {}
        reader.index().expect("whole").iter().filter(|entry| entry.kind == BlockKind::Facts).count()
    };
    let without = imported(&bytes).expect("imported").0;
    assert!(blocks_of_facts(&trace) - blocks_of_facts(&without) <= 7, "not with each");
    let began_before = imported(&[&bytes[..], &dropped(1, kind::DROP_END)].concat()).expect("imported").0;
    assert_eq!(lost(&began_before), Some((1, 0)));
}

#[test]
fn unit_capture_with_events_that_lack_parameters_says_where_and_makes_a_trace_that_says_it_lost_them() {
    let none = [kind::OPENAT, kind::EXECVE, kind::CLONE, kind::PROCESS_EXIT];
    let short: Vec<u8> = none.into_iter().zip(5..).flat_map(|(kind, time)| event(time, 7, kind, &[])).collect();
    let (trace, done) = imported(&[section(), short].concat()).expect("imported");
    assert_eq!((lost(&trace), done.named.len()), (Some((0, 4)), 4));
    assert_eq!(done.named[0], format!("byte 28: {DAMAGED}"));
}

#[test]
fn unit_capture_with_blocks_of_unknown_and_older_types_counts_them() {
    let mut bytes = plain();
    bytes.extend(block(0x0bad_cafe, b"four"));
    bytes.extend(block(0x204, &[0; 40]));
    bytes.extend(block(0x214, &[0; 40]));
    let (trace, done) = imported(&bytes).expect("imported");
    check(&trace, done.records);
    let lacks = done.lacks.join("\n");
    for said in ["1 blocks of the type 0xbadcafe", "1 events of an older form", "1 lists of processes of an older form"]
    {
        assert!(lacks.contains(said), "{lacks}");
    }
}

#[test]
fn unit_capture_that_is_none_is_refused_with_the_reason() {
    let big_endian = {
        let mut bytes = section();
        bytes[8..12].reverse();
        bytes
    };
    let other_version = {
        let mut bytes = section();
        bytes[12] = 2;
        bytes
    };
    let older = [section(), block(0x204, &[0; 40])].concat();
    for (bytes, why) in [
        (&b""[..], "does not begin with a section header"),
        (b"{\"Timestamp\":1}\n", "does not begin with a section header"),
        (&big_endian, "big-endian"),
        (&other_version, "its version is 2"),
        (&section(), "there is no event in it"),
        (&older, "an older form"),
    ] {
        let error = imported(bytes).expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn unit_capture_with_a_length_that_is_not_there_takes_no_memory_for_it() {
    let head = [&0x216_u32.to_le_bytes()[..], &blocks::MAX_BLOCK.to_le_bytes(), &[0; 100]].concat();
    let bytes = [section(), head].concat();
    let mut read = Blocks::open(&bytes[..]).expect("a section");
    assert!(read.next_block().expect("bytes").is_none());
    assert_eq!(read.ending(), blocks::Ending::Cut(28));
    let longer = [&0x216_u32.to_le_bytes()[..], &(blocks::MAX_BLOCK + 4).to_le_bytes(), &[0; 100]].concat();
    let bytes = [section(), longer].concat();
    let mut read = Blocks::open(&bytes[..]).expect("a section");
    assert!(read.next_block().expect("bytes").is_none());
    assert_eq!(read.ending(), blocks::Ending::Damaged(28));
}

#[test]
fn unit_capture_cannot_make_a_name_grow_past_what_a_path_can_have() {
    let passed = 0_i64.to_le_bytes().to_vec();
    let change = |time: u64, name: &[u8]| event(time, 7, kind::CHDIR, &[passed.clone(), [name, b"\0"].concat()]);
    let open = |time: u64| {
        let at = (-100_i64).to_le_bytes().to_vec();
        event(time, 7, kind::OPENAT, &[passed.clone(), at, b"x\0".to_vec(), vec![1, 0, 0, 0], vec![0; 4]])
    };
    let mut bytes = [section(), change(1, b"/"), open(2)].concat();
    for time in 3..30 {
        bytes.extend(change(time, &[b'd'; 250]));
    }
    bytes.extend(open(30));
    let (trace, done) = imported(&bytes).expect("imported");
    check(&trace, done.records);
    assert_eq!(done.records, 2);
    assert!(done.lacks.iter().any(|lack| lack.contains("directories of relative names")), "{:?}", done.lacks);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn unit_capture_that_is_damaged_anywhere_gives_a_whole_trace_or_is_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let mut bytes = plain();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((trace, done)) = imported(&bytes) {
            check(&trace, done.records);
        }
    }

    #[test]
    fn unit_capture_of_any_events_gives_a_whole_trace_or_is_refused(
        events in prop::collection::vec((0_u16..340, 0_u64..6, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..24)), 1..60),
    ) {
        let mut bytes = section();
        for (number, (kind, tid, parameters)) in events.into_iter().enumerate() {
            bytes.extend(event(number as u64, tid, kind, &parameters));
        }
        if let Ok((trace, done)) = imported(&bytes) {
            check(&trace, done.records);
        }
    }
}
