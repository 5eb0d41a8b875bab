//! Recordings in parts: whatever their size, whatever comes and however it is read.

use std::time::Duration;

use palisade_kernel_abi::record::{Body, Exec, Header as RecordHeader, Open, Record, RecordWriter, Text};
use palisade_protocol::{RecordTrace, RecordingOver, RecordingRefused};
use palisade_wire::trace::{CHECKPOINT_RECORDS, Ending, Passing, Picture, Process, What};

use crate::{
    recording::Next,
    state::{Settings, State},
    tests::{Read, SECOND, drain, for_seconds, losses, named, read, settings, state},
};

/// A sequence that a seed makes.
struct Numbers(u64);

impl Numbers {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        least + (self.0 >> 33) % (most - least + 1)
    }
}

/// Records of a slot from a sequence number on: an exec, then opens of files whose names take their bytes.
fn batch(slot: u32, from: u64, count: u64, boot_ns: u64) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    for sequence in from..from + count {
        let header = RecordHeader { sequence, slot, boot_ns, tgid: 50 + slot, ..RecordHeader::default() };
        let mut numbers = Numbers(sequence);
        let text = |bytes| Text { bytes, ..Text::default() };
        let path: Vec<u8> = (0..30).map(|_| u8::try_from(numbers.between(33, 126)).expect("small")).collect();
        let body = if sequence == from {
            let argument_bytes = text(b"sh\0hunter2\0");
            Body::Exec(Exec { path: text(b"/bin/sh"), argument_bytes, argument_count: 2, ..Exec::default() })
        } else {
            Body::Open(Open { path: text(&path), ..Open::default() })
        };
        writer.write(&Record { header, body, decision: None }).expect("fits");
    }
    writer.into_bytes()
}

/// The traces of a stream, each read, and its bytes.
fn parts(stream: &[u8]) -> Vec<(usize, Read)> {
    let (mut rest, mut parts) = (stream, Vec::new());
    while !rest.is_empty() {
        let length = Passing::default().pass_trace(rest);
        parts.push((length, read(&rest[..length])));
        rest = &rest[length..];
    }
    parts
}

fn in_parts(limit_bytes: u64) -> RecordTrace {
    RecordTrace { limit_bytes, in_parts: true, ..RecordTrace::default() }
}

/// Some seconds of records and facts at this rate, read at this pace; the stream, and how many records there were.
fn recorded(state: &mut State, id: u64, numbers: &mut Numbers, (rate, every): (u64, u64)) -> (Vec<u8>, u64) {
    let (mut stream, mut sequence, mut ticks) = (Vec::new(), 0, 0);
    let mut boot_ns = 2 * SECOND;
    for _ in 0..16 {
        let of_tick = numbers.between(0, rate);
        let mut left = of_tick;
        while left > 0 {
            let count = left.min(numbers.between(1, 512));
            let slot = u32::try_from(numbers.between(4, 6)).expect("small");
            state.batch(boot_ns, &batch(slot, sequence, count, boot_ns));
            sequence += count;
            left -= count;
        }
        if numbers.between(0, 3) == 0 {
            state.fact(boot_ns, What::Clock(numbers.between(0, u64::MAX / 2)));
        }
        boot_ns += SECOND / 5;
        state.tick(boot_ns, 7);
        ticks += 1;
        if ticks % every == 0 {
            stream.extend(drain(state, id, boot_ns).0);
        }
    }
    assert!(state.end(id, boot_ns).ended);
    let (rest, over) = drain(state, id, boot_ns);
    assert!(over);
    stream.extend(rest);
    (stream, sequence)
}

#[test]
fn unit_recorder_in_parts_tells_each_record_once_and_in_order_whatever_their_size_and_the_rate() {
    let mut most = 0;
    for seed in 0..8 {
        let mut numbers = Numbers(seed);
        let limit = [5_000, 8_000, 16_384, 60_000][usize::try_from(seed % 4).expect("small")];
        let (rate, every) = (numbers.between(1, 900), numbers.between(1, 12));
        let mut state = state(Settings { ring_bytes: 64 << 20, ..settings() });
        state.fact(1, named(4, "web"));
        let id = state.begin(SECOND, 0, &in_parts(limit)).expect("begun");
        let (stream, records) = recorded(&mut state, id, &mut numbers, (rate, every));
        let parts = parts(&stream);
        let told: Vec<u64> = parts.iter().flat_map(|(_, part)| part.records.iter().map(|(_, n)| *n)).collect();
        assert_eq!(told, (0..records).collect::<Vec<_>>(), "seed {seed}, {limit} bytes, {rate} records");
        assert!(parts.iter().map(|(_, part)| part.header.part).eq(0..u32::try_from(parts.len()).expect("few")));
        for (length, part) in &parts {
            assert!(*length as u64 <= limit, "seed {seed}: {length} bytes of {limit}");
            assert_eq!(part.report.ending, Ending::Whole);
            let snapshot = part.facts.iter().position(|fact| fact.what == What::SnapshotEnd).expect("a beginning");
            assert!(part.facts[..snapshot].iter().any(|fact| fact.what == named(4, "web")), "what is so");
            let last = losses(&part.facts).pop().expect("said");
            assert_eq!((last.shed, last.missing), (0, 0));
            let more = part.facts.len() - snapshot - 1 > 1 || !part.records.is_empty();
            assert!(more || parts.len() == 1, "seed {seed}: a part with nothing in it");
        }
        most = most.max(parts.len());
    }
    assert!(most > 20, "{most} parts at most");
}

#[test]
fn unit_recorder_in_parts_that_is_read_too_slowly_counts_in_its_parts_what_it_sheds() {
    let mut shed_of_all = 0;
    for seed in 0..8 {
        let mut numbers = Numbers(seed);
        let settings = Settings { ring_bytes: 0, ring_ns: SECOND, ..settings() };
        let mut state = state(settings);
        let id = state.begin(SECOND, 0, &in_parts(16_384)).expect("begun");
        let (stream, records) = recorded(&mut state, id, &mut numbers, (700, 13));
        let parts = parts(&stream);
        let shed: u64 = parts.iter().map(|(_, part)| losses(&part.facts).pop().expect("said").shed).sum();
        let told: Vec<u64> = parts.iter().flat_map(|(_, part)| part.records.iter().map(|(_, n)| *n)).collect();
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}");
        assert_eq!(told.len() as u64 + shed, records, "seed {seed}: each is there or counted, once");
        shed_of_all += shed;
    }
    assert!(shed_of_all > 0, "nothing was shed");
}

#[test]
fn unit_recorder_in_parts_knows_in_each_part_who_acts_and_what_was_lost_in_it() {
    let mut state = state(settings());
    let id = state.begin(SECOND, 0, &in_parts(6_000)).expect("begun");
    // One exec, then opens alone.
    state.batch(2 * SECOND, &batch(4, 0, 400, 2 * SECOND));
    state.batch(3 * SECOND, &batch(5, 403, 400, 3 * SECOND));
    state.kernel_lost(vec![(4, "RingFull".into(), 3)]);
    state.tick(5 * SECOND, 9 * SECOND);
    assert!(state.end(id, 6 * SECOND).ended);
    let parts = parts(&drain(&mut state, id, 6 * SECOND).0);
    assert!(parts.len() > 3, "{} parts", parts.len());
    let knows = |part: &Read, executable: &str| {
        let is = |process: &Process| process.executable == executable;
        part.facts.iter().any(|fact| matches!(&fact.what, What::Process(process) if is(process)))
    };
    assert!(!knows(&parts[0].1, "/bin/sh"));
    assert!(parts[1..].iter().all(|(_, part)| knows(part, "/bin/sh")), "the exec is of the first part");
    assert!(parts[1..].iter().all(|(_, part)| part.header.unix_ns == part.header.boot_ns + 9 * SECOND));
    let missing: u64 = parts.iter().map(|(_, part)| losses(&part.facts).pop().expect("said").missing).sum();
    assert_eq!(missing, 3, "each number is missing in one part");
}

#[test]
fn unit_recorder_in_parts_repeats_nothing_where_a_workload_is_chosen_and_arguments_are_not() {
    let mut state = state(Settings { arguments: true, ..settings() });
    state.fact(1, named(4, "web"));
    for second in 1..30 {
        let sequence = second * 200;
        state.batch(second * SECOND, &batch(4, sequence, 100, second * SECOND));
        state.batch(second * SECOND, &batch(5, sequence + 100, 100, second * SECOND));
        state.tick(second * SECOND + SECOND / 2, 0);
    }
    let past = RecordTrace {
        last: Duration::from_secs(60),
        workloads: vec!["web".into()],
        ..RecordTrace { in_parts: true, limit_bytes: 8_000, ..for_seconds(0) }
    };
    let id = state.begin(31 * SECOND, 0, &past).expect("begun");
    let (stream, over) = drain(&mut state, id, 31 * SECOND);
    assert!(over);
    let parts = parts(&stream);
    let told: Vec<(u32, u64)> = parts.iter().flat_map(|(_, part)| part.records.clone()).collect();
    let expected = (1..30).flat_map(|second| (0..100).map(move |nth| (4, second * 200 + nth)));
    assert_eq!(told, expected.collect::<Vec<_>>());
    assert!(parts.len() > 3 && parts.iter().all(|(_, part)| part.arguments == 0));
}

#[test]
fn unit_recorder_ring_tells_the_same_of_a_place_from_wherever_it_is_counted() {
    let mut state = state(Settings { ring_bytes: 256 << 20, ..settings() });
    let mut sequence = 0;
    while sequence < CHECKPOINT_RECORDS + 20_000 {
        // Each batch begins with an exec, so that each place is unlike others.
        let slot = u32::try_from(4 + sequence / 512).expect("small");
        state.batch(2 * SECOND, &batch(slot, sequence, 512, 2 * SECOND));
        if sequence % 5_120 == 0 {
            state.fact(2 * SECOND, named(slot, "web"));
        }
        sequence += 512;
    }
    state.seal();
    let ring = state.ring();
    let told = |picture: &Picture| picture.facts(0, None, true);
    let places: Vec<(u64, usize)> = (0..ring.end()).flat_map(|number| [(number, 0), (number, 1_000)]).collect();
    let mut before = None;
    for (nth, at) in places.iter().enumerate().filter(|(nth, _)| nth % 3 == 0) {
        let picture = ring.picture_within(*at, None);
        assert_eq!(told(&ring.picture_within(*at, before)), told(&picture), "{at:?}");
        // The next one is counted from here, or from nowhere near.
        before = Some((picture, if nth % 2 == 0 { *at } else { (ring.end(), 0) }));
    }
    let far = ring.picture_within((0, 0), None);
    let last = (ring.end() - 1, 10);
    assert_eq!(told(&ring.picture_within(last, Some((far, (0, 0))))), told(&ring.picture_within(last, None)));
}

#[test]
fn unit_recorder_refuses_a_trace_without_room_and_ends_one_that_comes_to_have_none_and_says_so() {
    let mut state = state(settings());
    let process = |pid: u32| What::Process(Process { pid, executable: format!("/bin/{pid:x}"), ..Process::default() });
    let Err(RecordingRefused::TooSmall(small)) = state.begin(SECOND, 0, &in_parts(1_000)) else { panic!("small") };
    assert!(small.needs_bytes > 1_000 && small.limit_bytes == 1_000);
    let id = state.begin(SECOND, 0, &in_parts(6_000)).expect("begun");
    // What is so at the beginning of the next part grows past what a part may have.
    for pid in 0..2_000 {
        state.fact(2 * SECOND, process(pid));
    }
    state.batch(3 * SECOND, &batch(4, 0, 100, 3 * SECOND));
    state.tick(4 * SECOND, 0);
    let (stream, over) = drain(&mut state, id, 4 * SECOND);
    assert!(over, "it goes round and round");
    assert!(parts(&stream).iter().all(|(_, part)| part.report.ending == Ending::Whole));
    let end = state.end(id, 5 * SECOND);
    assert!(!end.ended && matches!(end.why, Some(RecordingOver::TooSmall(_))), "{end:?}");
    assert_eq!(state.next(id, 5 * SECOND), Next::Over);
}
