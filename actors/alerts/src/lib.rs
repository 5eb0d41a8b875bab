//! Turns decisions of the kernel into alerts that tell the truth.
//!
//! - *Owns*: the process table, the names of workloads and the rules of the last generations by slot, the last alerts, the sinks.
//! - *Hears*: [`RecordsRead`](palisade_protocol::RecordsRead), [`PolicyAnnounced`](palisade_protocol::PolicyAnnounced),
//!   [`PolicyInstalled`](palisade_protocol::PolicyInstalled), [`WorkloadNamed`](palisade_protocol::WorkloadNamed),
//!   [`SubscribeAlerts`](palisade_protocol::SubscribeAlerts), [`AlertCountsOf`](palisade_protocol::AlertCountsOf).
//! - *Says*: lines to sinks and listeners; [`ConditionReported`](palisade_protocol::ConditionReported): whether the sinks write.
//! - *Bounds*: [`processes::MAX_PROCESSES`] processes, [`rules::GENERATIONS`] generations a slot, [`actor::RECENT`] past alerts of
//!   [`actor::RECENT_BYTES`] in all, [`actor::LISTENERS`] listeners of [`actor::LISTENER_LINES`] lines each.
//! - *On restart*: names and rules outlive it (the factory keeps them, since they are said once); processes are listed anew, and chains
//!   reach back as far as that list. Past alerts, listeners and counts are gone, the batch in hand is counted as lost.
//! - *On overload*: the probe hands on no batch while too many wait here; a sink that fails or does not keep up loses lines, counted by
//!   sink and said in the condition; a slow listener loses lines, counted.
//!
//! Limit: of two policies of one slot and generation that decide alike the later one names the rules ([`rules`]).
//!
//! Invariant: an alert's verdict is what the enforcing program or responder wrote into the record, never inferred from a result here.
#![forbid(unsafe_code)]

pub mod actor;
pub mod compose;
pub mod names;
pub mod processes;
pub mod rules;
pub mod silence;
pub mod sinks;
pub mod state;
pub mod throttle;
pub mod users;

pub use actor::{Alerts, Wiring};

#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod tests;
