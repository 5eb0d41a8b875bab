//! A whole trace, rehearsed.

use palisade_policy::{PolicySet, ir::Postures};
use palisade_simulation::rehearsal::{Rehearsal, Report};
use palisade_wire::trace::TraceReader;

/// What these policies make of it, by KubeArmor's default postures.
pub fn rehearsed(set: PolicySet, trace: &[u8]) -> Report {
    let mut rehearsal = Rehearsal::new(set, Postures::default(), Vec::new());
    let mut reader = TraceReader::open(trace).unwrap();
    let header = reader.header().clone();
    let mut of_trace = rehearsal.trace(&header);
    while let Some(part) = reader.next_part().unwrap() {
        of_trace.part(&part);
    }
    of_trace.end();
    rehearsal.report()
}
