//! A whole trace, rehearsed.

use palisade_policy::PolicySet;
use palisade_simulation::rehearsal::{Given, Rehearsal, Report};
use palisade_wire::trace::TraceReader;

/// What these policies make of it, by the default postures that it was recorded under.
pub fn rehearsed(set: PolicySet, trace: &[u8]) -> Report {
    let mut rehearsal = Rehearsal::new(set, Given::default(), Vec::new());
    let mut reader = TraceReader::open(trace).unwrap();
    let header = reader.header().clone();
    let mut of_trace = rehearsal.trace(&header);
    while let Some(part) = reader.next_part().unwrap() {
        of_trace.part(&part);
    }
    of_trace.end();
    rehearsal.report()
}
