//! `palisade replay`: the lines that a node makes of a trace.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use palisade_simulation::replay::{Options, Output, Replay};
use palisade_wire::trace::{
    Batches, Header, Part, TraceReader,
    frame::BlockKind,
    seek::{self, Sought},
};
use palisade_world::Clock as _;

use super::Outcome;
use crate::{
    arguments::{Moment, ReplayArguments, ReplayOutput},
    clock::MachineClock,
};

/// Bytes of lines that are printed at once.
const PRINTED: usize = 64 << 10;

/// Replays; what the trace lacks goes to standard error, with exit status 1: what was printed is what its whole blocks tell.
///
/// # Errors
/// The trace cannot be read, or standard output not be written.
pub fn run(arguments: &ReplayArguments) -> Outcome {
    let mut reader = open_until(&arguments.trace, arguments.until)?;
    let options = Options {
        output: match arguments.output {
            ReplayOutput::Alerts => Output::Alerts,
            ReplayOutput::Events => Output::Events,
            ReplayOutput::Decisions => Output::Decisions,
        },
        workloads: arguments.workloads.clone(),
        until_ns: None,
    };
    let mut replay: Option<Replay> = None;
    let mut pace = arguments.timed.then(Pace::default);
    let mut out = Vec::new();
    while let Some(part) = reader.next_part()? {
        // The beginning is known with the first record, and facts before it change no line.
        let replay = replay.get_or_insert_with(|| Replay::new(reader.header(), options.clone()));
        if let (Some(until), Part::Records(batches)) = (arguments.until, &part) {
            let header = reader.header();
            replay.until(|| boot_ns(until, header, first_ns(batches).unwrap_or(header.boot_ns)));
        }
        if let (Some(pace), Part::Records(batches)) = (&mut pace, &part) {
            // Batch by batch, as they came.
            for (_, bytes) in batches.iter() {
                let mut one = Batches::new();
                one.push(bytes, |_| true);
                pace.wait(first_ns(&one));
                replay.part(&Part::Records(one), &mut out);
                if !flush(&mut out)? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            continue;
        }
        replay.part(&part, &mut out);
        if out.len() >= PRINTED && !flush(&mut out)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let mut complaints = reader.report().complaints();
    if let Some(mut replay) = replay {
        replay.end(&mut out);
        flush(&mut out)?;
        complaints.extend(replay.notes());
        if replay.counts().unattributed > 0 {
            complaints.push(format!("{} decisions go without the name of their rule", replay.counts().unattributed));
        }
    }
    Ok(super::trace::said(&arguments.trace, &complaints))
}

fn flush(out: &mut Vec<u8>) -> anyhow::Result<bool> {
    let read = super::print(&String::from_utf8_lossy(out))?;
    out.clear();
    Ok(read)
}

/// Opens a trace, or says why not.
///
/// # Errors
/// With the file's name.
pub fn open(path: &Path) -> anyhow::Result<TraceReader<BufReader<File>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    TraceReader::open(BufReader::new(file)).with_context(|| path.display().to_string())
}

/// Opens a trace to be read until a time: where it has its index, the blocks of records behind that time are not read.
///
/// # Errors
/// With the file's name.
pub fn open_until(path: &Path, until: Option<Moment>) -> anyhow::Result<TraceReader<Box<dyn Read>>> {
    let shown = || path.display().to_string();
    let whole = |file| TraceReader::open(Box::new(BufReader::new(file)) as Box<dyn Read>).with_context(shown);
    let mut file = File::open(path).with_context(shown)?;
    let Some(until) = until else { return whole(file) };
    let Some(index) = seek::index_of(&mut file).with_context(shown)? else { return whole(file) };
    let header = open(path)?.header().clone();
    let first =
        index.iter().find(|entry| entry.kind == BlockKind::Records).map_or(header.boot_ns, |entry| entry.first_ns);
    let sought = Sought::new(file, &index, 0, boot_ns(until, &header, first), None).with_context(shown)?;
    let reader = TraceReader::open(Box::new(BufReader::new(sought)) as Box<dyn Read>).with_context(shown)?;
    Ok(reader.sought())
}

/// Earliest time of records.
pub fn first_ns(batches: &Batches) -> Option<u64> {
    palisade_kernel_abi::record::slices(batches.bytes())
        .map(|record| palisade_kernel_abi::record::slot_and_time(record).1)
        .min()
}

/// A time of a trace in the records' clock; `first_ns`: its first record.
pub fn boot_ns(moment: Moment, header: &Header, first_ns: u64) -> u64 {
    match moment {
        Moment::After(after) => first_ns.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
        Moment::At(unix_ns) => unix_ns.saturating_sub(header.unix_ns.saturating_sub(header.boot_ns)),
    }
}

/// Goes as fast as it went.
#[derive(Default)]
struct Pace {
    /// The trace's time and this machine's, when it began.
    began: Option<(u64, u64)>,
}

impl Pace {
    fn wait(&mut self, first_ns: Option<u64>) {
        let Some(then) = first_ns else { return };
        let now = MachineClock.boot().0;
        let (trace_ns, own_ns) = *self.began.get_or_insert((then, now));
        let due = own_ns.saturating_add(then.saturating_sub(trace_ns));
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now)));
    }
}
