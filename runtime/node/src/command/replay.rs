//! `palisade replay`: the lines that a node makes of a trace.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use palisade_simulation::{
    editing::Parts as _,
    replay::{Options, Output, Replay},
};
use palisade_wire::trace::{Batches, Part};
use palisade_world::Clock as _;

use super::{
    Outcome,
    trace_input::{self, Asked, TraceInput},
};
use crate::{
    arguments::{ReplayArguments, ReplayOutput},
    clock::MachineClock,
};

/// Bytes of lines that are printed at once.
const PRINTED: usize = 64 << 10;

/// Replays; what the trace lacks goes to standard error, with exit status 1: what was printed is what its whole blocks tell.
///
/// # Errors
/// The trace cannot be read, or standard output not be written.
pub fn run(arguments: &ReplayArguments) -> Outcome {
    let asked = Asked { from: arguments.from, until: arguments.until, workloads: &arguments.workloads };
    let mut input = TraceInput::open(&arguments.trace, asked)?;
    let options = Options {
        output: match arguments.output {
            ReplayOutput::Alerts => Output::Alerts,
            ReplayOutput::Events => Output::Events,
            ReplayOutput::Decisions => Output::Decisions,
        },
        workloads: arguments.workloads.clone(),
        from_ns: input.from_ns,
        until_ns: arguments.until.map(|_| input.until_ns),
    };
    let mut replay = Replay::new(input.header(), options);
    let mut pace = arguments.timed.then_some(Pace { from_ns: input.from_ns, began: None });
    let mut out = Vec::new();
    while let Some(part) = input.next_part().with_context(|| arguments.trace.display().to_string())? {
        if let (Some(pace), Part::Records(batches)) = (&mut pace, &part) {
            // Batch by batch, as they came.
            for (_, bytes) in batches.iter() {
                let mut one = Batches::new();
                one.push(bytes, |_| true);
                pace.wait(trace_input::first_ns(&one));
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
    replay.end(&mut out);
    flush(&mut out)?;
    let mut complaints = input.complaints();
    complaints.extend(replay.notes());
    if replay.counts().unattributed > 0 {
        complaints.push(format!("{} decisions go without the name of their rule", replay.counts().unattributed));
    }
    Ok(super::trace::said(&arguments.trace, &complaints))
}

fn flush(out: &mut Vec<u8>) -> anyhow::Result<bool> {
    let read = super::print(&String::from_utf8_lossy(out))?;
    out.clear();
    Ok(read)
}

/// Goes as fast as it went.
struct Pace {
    /// What is earlier is only followed.
    from_ns: u64,
    /// The trace's time and this machine's, when it began.
    began: Option<(u64, u64)>,
}

impl Pace {
    fn wait(&mut self, first_ns: Option<u64>) {
        let Some(then) = first_ns.filter(|then| *then >= self.from_ns) else { return };
        let now = MachineClock.boot().0;
        let (trace_ns, own_ns) = *self.began.get_or_insert((then, now));
        let due = own_ns.saturating_add(then.saturating_sub(trace_ns));
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now)));
    }
}
