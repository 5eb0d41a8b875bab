//! Traces: what a record costs to be replayed and to be recorded, and how large it is on a disk.
//!
//! The records are those of a real web server under load (tests/fixtures/traces). Replaying is all of it: checksum, zstd, columns,
//! decoding, the process table, decisions and lines of alerts; the baseline reads the same trace and no more. Recording is what a
//! node's recorder does for each record while nobody records, and while somebody does. Sizes stand beside zstd of the kernel's own bytes and of
//! the lines that a node would make of all records.

use std::{fs, hint::black_box, path::Path};

use palisade_protocol::RecordTrace;
use palisade_recorder::{recording::Next, state::Settings, state::State};
use palisade_simulation::replay::{Options, Output, Replay};
use palisade_supervision::Kept;
use palisade_wire::trace::{Batches, Fact, Header, Part, Picture, TraceReader, TraceWriter};

use crate::{
    Measured,
    stopwatch::nanoseconds_each,
    table::{Row, Table, Unit},
};

/// One million records a second.
const REPLAY_BUDGET_NS: f64 = 1000.0;
/// Three in a hundred of a core at 10,000 records a second.
const RECORD_BUDGET_NS: f64 = 3000.0;
const SIZE_BUDGET_BYTES: f64 = 25.0;
/// How often the recorded records are repeated: some hundred thousand, so that a round is far longer than the clock's grain.
const REPEATS: usize = 64;
const LEVEL: i32 = 3;

/// What a trace holds.
struct Whole {
    header: Header,
    facts: Vec<Fact>,
    batches: Vec<Vec<u8>>,
    records: usize,
}

/// Nanoseconds and bytes a record.
///
/// # Errors
/// Where the trace cannot be read.
pub fn measure(table: &mut Table) -> Measured {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/traces/web.paltrace");
    let whole = read(&fs::read(path)?)?;
    replaying(&whole, table)?;
    recording(&whole, table)?;
    sizes(&whole, table)
}

fn read(bytes: &[u8]) -> Result<Whole, Box<dyn std::error::Error>> {
    let mut reader = TraceReader::open(bytes)?;
    let header = reader.header().clone();
    let mut whole = Whole { header, facts: Vec::new(), batches: Vec::new(), records: 0 };
    while let Some(part) = reader.next_part()? {
        match part {
            Part::Facts(facts) => whole.facts.extend(facts),
            Part::Checkpoint(_) => {}
            Part::Records(batches) => {
                whole.records += batches.records();
                whole.batches.extend(batches.iter().map(|(_, bytes)| bytes.to_vec()));
            }
        }
    }
    Ok(whole)
}

/// The records again and again, in full blocks.
fn long(whole: &Whole) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut writer = TraceWriter::begin(Vec::new(), &whole.header)?;
    writer.facts(&whole.facts)?;
    let mut block = Batches::new();
    for bytes in (0..REPEATS).flat_map(|_| &whole.batches) {
        if !block.has_room() {
            writer.records(&block)?;
            block.clear();
        }
        block.push(bytes, |_| true);
    }
    writer.records(&block)?;
    Ok(writer.finish()?)
}

fn replaying(whole: &Whole, table: &mut Table) -> Measured {
    let trace = long(whole)?;
    let records = REPEATS * whole.records;
    let reading = nanoseconds_each(records, || {
        if let Ok(mut reader) = TraceReader::open(&trace[..]) {
            while let Ok(Some(part)) = reader.next_part() {
                black_box(&part);
            }
        }
    });
    let mut lines = 0;
    let replaying = nanoseconds_each(records, || {
        let Ok(mut reader) = TraceReader::open(&trace[..]) else { return };
        let mut replay = Replay::new(reader.header(), Options { output: Output::Alerts, ..Options::default() });
        let mut out = Vec::new();
        while let Ok(Some(part)) = reader.next_part() {
            replay.part(&part, &mut out);
            out.clear();
        }
        replay.end(&mut out);
        lines = replay.counts().lines;
    });
    if lines == 0 {
        return Err("the trace replays to no alert: what is measured is not a replay".into());
    }
    table.add(Row {
        what: "replaying a recorded record, file to alerts".into(),
        value: replaying,
        unit: Unit::Nanoseconds,
        baseline: Some(("reading the trace alone".into(), reading)),
        budget: Some(REPLAY_BUDGET_NS),
    });
    Ok(())
}

fn recording(whole: &Whole, table: &mut Table) -> Measured {
    let settings =
        Settings { header: whole.header.clone(), ring_bytes: 8 << 20, ring_ns: u64::MAX, ..Settings::default() };
    let records = REPEATS * whole.records;
    let run = |recorded: bool| {
        let mut state = State::knowing(settings.clone(), Kept::new(Picture::default()));
        let asked = RecordTrace { workloads: vec!["traces/web".into()], ..RecordTrace::default() };
        let id = recorded.then(|| state.begin(0, 0, &asked)).and_then(Result::ok);
        for fact in &whole.facts {
            state.fact(fact.boot_ns, fact.what.clone());
        }
        let mut bytes = 0;
        for (number, batch) in (0..REPEATS).flat_map(|_| &whole.batches).enumerate() {
            state.batch(number as u64, batch);
            while let Some(Next::Bytes(more)) = id.map(|id| state.next(id, number as u64)) {
                bytes += more.len();
            }
        }
        state.seal();
        (state.ring_bytes(), bytes)
    };
    if run(false).0 == 0 || run(true).1 == 0 {
        return Err("nothing was recorded".into());
    }
    let kept = nanoseconds_each(records, || {
        black_box(run(false));
    });
    let recorded = nanoseconds_each(records, || {
        black_box(run(true));
    });
    let mut copies = Vec::new();
    let copying = nanoseconds_each(records, || {
        for batch in (0..REPEATS).flat_map(|_| &whole.batches) {
            copies.clear();
            copies.extend_from_slice(black_box(batch));
        }
    });
    for (what, value) in [("keeping a record in memory", kept), ("the same while a workload is recorded", recorded)] {
        table.add(Row {
            what: what.into(),
            value,
            unit: Unit::Nanoseconds,
            baseline: Some(("copying its bytes".into(), copying)),
            budget: Some(RECORD_BUDGET_NS),
        });
    }
    Ok(())
}

fn sizes(whole: &Whole, table: &mut Table) -> Measured {
    let mut block = Batches::new();
    for bytes in &whole.batches {
        block.push(bytes, |_| true);
    }
    let of = |bytes: usize| bytes as f64 / whole.records as f64;
    let own = of(usize::try_from(block.block()?.len())?);
    let plain = of(zstd::bulk::compress(block.bytes(), LEVEL)?.len());
    let mut replay = Replay::new(&whole.header, Options { output: Output::Events, ..Options::default() });
    let mut lines = Vec::new();
    replay.part(&Part::Facts(whole.facts.clone()), &mut lines);
    lines.clear();
    replay.part(&Part::Records(block), &mut lines);
    let json = of(zstd::bulk::compress(&lines, LEVEL)?.len());
    for (baseline, bytes) in [("zstd of the kernel's bytes", plain), ("zstd of the JSON lines of all acts", json)] {
        table.add(Row {
            what: "a recorded record on a disk".into(),
            value: own,
            unit: Unit::Bytes,
            baseline: Some((baseline.into(), bytes)),
            budget: Some(SIZE_BUDGET_BYTES),
        });
    }
    Ok(())
}
