//! Parts of a trace, and traces of parts.

use std::io::Cursor;

use palisade_kernel_abi::record::{Body, Exit, Header as RecordHeader, Record, RecordWriter};
use palisade_wire::trace::Ending;

use super::*;
use crate::replay::tests as traces;

const SECOND: u64 = 1_000_000_000;

struct Told {
    facts: Vec<Fact>,
    /// Time of each.
    times: Vec<u64>,
    arguments: usize,
    ending: Ending,
}

fn read(bytes: &[u8]) -> Told {
    let mut reader = TraceReader::open(bytes).expect("a trace");
    let mut told = Told { facts: Vec::new(), times: Vec::new(), arguments: 0, ending: Ending::NotReached };
    while let Some(part) = reader.next_part().expect("bytes") {
        match part {
            Part::Facts(more) => told.facts.extend(more),
            Part::Checkpoint(_) => {}
            Part::Records(batches) => {
                for record in RecordReader::new(batches.bytes()).flatten() {
                    told.times.push(record.header.boot_ns);
                    if let Body::Exec(exec) = record.body {
                        told.arguments += exec.arguments().count();
                    }
                }
            }
        }
    }
    told.ending = reader.report().ending;
    told
}

fn cut_out(bytes: &[u8], span: &Span) -> Vec<u8> {
    let mut reader = TraceReader::open(bytes).expect("a trace");
    let (part, left_out) = cut(&mut reader, span, Vec::new()).expect("cut");
    assert_eq!((reader.report().damaged, left_out), (0, 0));
    part
}

fn span(from: u64, until: u64) -> Span {
    Span { from_ns: from * SECOND, until_ns: until * SECOND, workloads: Vec::new() }
}

#[test]
fn unit_cutting_keeps_the_span_and_begins_with_what_was_so_then() {
    let whole = traces::trace(traces::POLICY);
    let part = cut_out(&whole, &span(21, 30));
    let told = read(&part);
    assert_eq!(told.times, [21 * SECOND, 22 * SECOND, 22 * SECOND + 1]);
    assert_eq!(told.ending, Ending::Whole);
    // The fork before the span is in the snapshot: the shell's process comes from the server's.
    let child = told.facts.iter().find_map(|fact| match &fact.what {
        What::Process(process) if process.pid == 60 => Some(process.clone()),
        _ => None,
    });
    assert_eq!(child.expect("told").executable, "/usr/sbin/nginx");
    assert_eq!(told.facts.iter().filter(|fact| fact.what == What::SnapshotEnd).count(), 1);
    assert!(told.facts.iter().any(|fact| matches!(fact.what, What::PolicyInstalled(..))));
    let none = Span { workloads: vec!["db".into()], ..span(0, 100) };
    let told = read(&cut_out(&whole, &none));
    assert!(told.times.is_empty() && told.ending == Ending::Whole);
}

#[test]
fn unit_merging_parts_tells_each_act_once() {
    let whole = traces::trace(traces::POLICY);
    let first = cut_out(&whole, &span(0, 22));
    let second = cut_out(&whole, &span(21, 100));
    let (merged, reports) = merge(vec![Cursor::new(&second), Cursor::new(&first)], Vec::new()).expect("merged");
    assert_eq!(reports.len(), 2);
    let mut times = read(&merged).times;
    times.sort_unstable();
    assert_eq!(times, read(&whole).times);
}

#[test]
fn unit_merging_refuses_traces_of_two_nodes() {
    let whole = traces::trace(traces::POLICY);
    let mut reader = TraceReader::open(&whole[..]).expect("a trace");
    let header = Header { node: "n2".into(), ..reader.header().clone() };
    assert!(reader.next_part().expect("bytes").is_some());
    let other = TraceWriter::begin(Vec::new(), &header).and_then(TraceWriter::finish).expect("written");
    let error = merge(vec![Cursor::new(&whole), Cursor::new(&other)], Vec::new()).expect_err("two nodes");
    assert!(error.to_string().contains("node n1") && error.to_string().contains("node n2"), "{error}");
    assert!(matches!(error, EditError::Input { which: 1, .. }), "{error:?}");
    let error = merge(vec![Cursor::new(&whole[..]), Cursor::new(b"none")], Vec::new()).expect_err("no trace");
    assert!(matches!(error, EditError::Input { which: 1, .. }), "{error:?}");
}

#[test]
fn unit_redaction_leaves_no_arguments_and_says_so_in_the_header() {
    let whole = traces::trace(traces::POLICY);
    assert_eq!(read(&whole).arguments, 2);
    let (redacted, _, count) = redact(&whole[..], Vec::new()).expect("redacted");
    let told = read(&redacted);
    assert_eq!((told.arguments, count), (0, 1));
    assert_eq!(told.times, read(&whole).times);
    assert_eq!(TraceReader::open(&redacted[..]).expect("a trace").header().redacted, ["arguments"]);
}

fn losses(facts: &[Fact]) -> Vec<(u64, Loss)> {
    let of = |fact: &Fact| match &fact.what {
        What::Loss(loss) => Some((fact.boot_ns, loss.clone())),
        _ => None,
    };
    facts.iter().filter_map(of).collect()
}

#[test]
fn unit_redaction_and_merging_carry_what_is_missing_into_what_they_make() {
    let whole = traces::trace(traces::POLICY);
    let cut_off = &whole[..whole.len() - 40];
    let (redacted, report, _) = redact(cut_off, Vec::new()).expect("redacted");
    assert_ne!(report.ending, Ending::Whole);
    let told = read(&redacted);
    assert_eq!(told.ending, Ending::Whole);
    assert!(losses(&told.facts).iter().any(|(_, loss)| loss.malformed > 0), "{:?}", told.facts);
    let (merged, _) = merge(vec![Cursor::new(cut_off)], Vec::new()).expect("merged");
    assert!(losses(&read(&merged).facts).iter().any(|(_, loss)| loss.malformed > 0));
    let (redacted, ..) = redact(&[&whole[..], b"more"].concat()[..], Vec::new()).expect("redacted");
    assert!(losses(&read(&redacted).facts).iter().any(|(_, loss)| loss.malformed > 0));
    let (sound, ..) = redact(&whole[..], Vec::new()).expect("redacted");
    assert_eq!(losses(&read(&sound).facts), []);
}

fn of_parts(parts: &[Part]) -> Vec<u8> {
    let whole = traces::trace(traces::POLICY);
    let header = TraceReader::open(&whole[..]).expect("a trace").header().clone();
    let mut writer = TraceWriter::begin(Vec::new(), &header).expect("written");
    for part in parts {
        match part {
            Part::Facts(facts) => writer.facts(facts).expect("written"),
            Part::Records(batches) => writer.records(batches).expect("written"),
            Part::Checkpoint(facts) => writer.checkpoint(facts).expect("written"),
        }
    }
    writer.finish().expect("written")
}

fn parts(bytes: &[u8]) -> Vec<Part> {
    let mut reader = TraceReader::open(bytes).expect("a trace");
    std::iter::from_fn(|| reader.next_part().expect("bytes")).collect()
}

#[test]
fn unit_cutting_keeps_what_was_said_to_be_lost_next_after_the_span() {
    let mut all = parts(&traces::trace(traces::POLICY));
    let lost = |at, missing| Fact { boot_ns: at * SECOND, what: What::Loss(Loss { missing, ..Loss::default() }) };
    all.push(Part::Facts(vec![lost(35, 5000), lost(45, 9000)]));
    let told = read(&cut_out(&of_parts(&all), &span(21, 30)));
    assert_eq!(losses(&told.facts), [(30 * SECOND, Loss { missing: 5000, ..Loss::default() })]);
}

#[test]
fn unit_merging_keeps_what_a_process_executes_against_an_older_snapshot_of_it() {
    let whole = traces::trace(traces::POLICY);
    let first = cut_out(&whole, &span(0, 30));
    // From before the exec at 21 s: its snapshot has the shell's process as the server's.
    let second = cut_out(&whole, &span(21, 100));
    let (merged, _) = merge(vec![Cursor::new(&first), Cursor::new(&second)], Vec::new()).expect("merged");
    let mut picture = Picture::default();
    for part in parts(&merged) {
        match part {
            Part::Facts(facts) => facts.iter().for_each(|fact| picture.fact(fact)),
            Part::Records(batches) => {
                RecordReader::new(batches.bytes()).flatten().for_each(|record| picture.record(&record));
            }
            Part::Checkpoint(_) => {}
        }
    }
    let shell = RecordHeader { tgid: 60, task_start_ns: 2 * SECOND, ..RecordHeader::default() };
    assert_eq!(picture.acting(&shell).map(|acting| acting.executable), Some("/bin/sh"));
}

#[test]
fn unit_trace_behind_another_is_complained_of() {
    let whole = traces::trace(traces::POLICY);
    let complaints = |bytes: &[u8]| {
        let mut reader = TraceReader::open(bytes).expect("a trace");
        while reader.next_part().expect("bytes").is_some() {}
        reader.report().complaints()
    };
    assert_eq!(complaints(&whole), [""; 0]);
    let both = complaints(&[&whole[..], &whole[..]].concat());
    assert!(both.len() == 1 && both[0].contains("trace merge"), "{both:?}");
}

/// A file of a rotation: a record each tenth of a second of these seconds.
fn of_seconds(part: u32, from: u64, until: u64) -> Vec<u8> {
    let whole = traces::trace(traces::POLICY);
    let header = TraceReader::open(&whole[..]).expect("a trace").header().clone();
    let header = Header { part, boot_ns: from * SECOND, unix_ns: header.unix_ns + from * SECOND, ..header };
    let mut writer = TraceWriter::begin(Vec::new(), &header).expect("written");
    for second in from..until {
        let mut records = RecordWriter::default();
        for tenth in 0..10 {
            let boot_ns = second * SECOND + tenth * SECOND / 10;
            let header = RecordHeader { sequence: second * 10 + tenth, boot_ns, slot: 4, ..RecordHeader::default() };
            let body = Body::Exit(Exit { status: 0 });
            records.write(&Record { header, body, decision: None }).expect("fits");
        }
        let mut block = Batches::new();
        block.push(records.bytes(), |_| true);
        writer.records(&block).expect("written");
    }
    writer.finish().expect("written")
}

#[test]
fn unit_merging_the_files_of_a_long_rotation_remembers_only_what_the_next_one_may_have() {
    let files: Vec<Vec<u8>> =
        (0..40_u32).map(|part| of_seconds(part, 100 + u64::from(part) * 20, 125 + u64::from(part) * 20)).collect();
    let mut seen = Seen::default();
    let (merged, _) = merge_by(files.iter().map(Cursor::new).collect(), Vec::new(), &mut seen).expect("merged");
    let times = read(&merged).times;
    assert_eq!(times, (1000..1000 + 40 * 200 + 50).map(|tenth| tenth * SECOND / 10).collect::<Vec<_>>());
    // Five seconds that the last one had, and the five of the next.
    assert!(seen.most <= 100, "{} remembered of {}", seen.most, times.len());
    // One file without its index is known by its heads all the same as far as they go: nothing of the others may be forgotten.
    let mut cut_off = files.clone();
    let last = cut_off.len() - 1;
    let length = cut_off[last].len() - 100;
    cut_off[last].truncate(length);
    let mut seen = Seen::default();
    let (merged, reports) = merge_by(cut_off.iter().map(Cursor::new).collect(), Vec::new(), &mut seen).expect("merged");
    assert_eq!(read(&merged).times, times);
    assert!(seen.most <= 100, "{} remembered of {}", seen.most, times.len());
    assert!(reports[last].ending != Ending::Whole && reports[0].ending == Ending::Whole);
}

/// A file that is counted while it is open.
struct Open<'t> {
    file: Cursor<&'t [u8]>,
    open: &'t std::cell::Cell<usize>,
    /// How many were when any was read, at the least.
    least: &'t std::cell::Cell<usize>,
}

impl Read for Open<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.least.set(self.least.get().min(self.open.get()));
        self.file.read(out)
    }
}

impl Seek for Open<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

#[test]
fn unit_merging_closes_each_file_when_it_was_read() {
    let files: Vec<Vec<u8>> =
        (0..4_u32).map(|part| of_seconds(part, 100 + u64::from(part) * 20, 125 + u64::from(part) * 20)).collect();
    let (open, least) = (std::cell::Cell::new(files.len()), std::cell::Cell::new(files.len()));
    let from = files.iter().map(|file| Open { file: Cursor::new(&file[..]), open: &open, least: &least }).collect();
    merge(from, Vec::new()).expect("merged");
    assert_eq!((open.get(), least.get()), (0, 1));
}

#[test]
fn unit_cutting_a_damaged_trace_says_how_much_is_missing_of_the_span() {
    let whole = of_seconds(0, 100, 120);
    let head = |second: usize| {
        let places = whole.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"PBLK").map(|(at, _)| at);
        places.skip(1).nth(second - 100).expect("a block")
    };
    let lost = |bytes: &[u8], from, until| {
        let mut reader = TraceReader::open(bytes).expect("a trace");
        let (part, _) = cut(&mut reader, &span(from, until), Vec::new()).expect("cut");
        let told = read(&part);
        assert_eq!(told.ending, Ending::Whole);
        losses(&told.facts)
    };
    assert_eq!(lost(&whole, 104, 110), []);
    let mut damaged = whole.clone();
    damaged[head(107) + 60] ^= 1;
    let of = |at: u64, malformed| [(at, Loss { malformed, ..Loss::default() })];
    assert_eq!(lost(&damaged, 104, 110), of(110 * SECOND, 10));
    assert_eq!(lost(&damaged, 104, 105), [], "what is damaged behind the span is none of it");
    // Its head says what is missing, and the file ends there.
    let cut_off = &whole[..head(113) + 60];
    assert_eq!(lost(cut_off, 104, 118), of(112 * SECOND + 9 * SECOND / 10, 10));
    assert_eq!(lost(cut_off, 104, 110), []);
}
