//! A whole trace, rehearsed.

use palisade_policy::PolicySet;
use palisade_simulation::rehearsal::{Given, Rehearsal, Report};
use palisade_wire::trace::TraceReader;

/// What these policies make of it, by the default postures that it was recorded under.
pub fn rehearsed(set: PolicySet, trace: &[u8]) -> Report {
    let mut rehearsal = Rehearsal::new(set, Given::default(), Vec::new());
    rehearsal.whole(&mut TraceReader::open(trace).unwrap()).unwrap();
    rehearsal.report()
}
