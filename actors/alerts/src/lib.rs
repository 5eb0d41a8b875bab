//! Turns records of the kernel into lines that tell the truth: alerts about what was decided, logs of what visibility asks for.
//!
//! - *Owns*: the process table, the names of workloads, users and the rules of the last generations by slot, who is silent, the last
//!   alerts, the sinks.
//! - *Hears*: [`RecordsRead`](palisade_protocol::RecordsRead), [`DevicesJudged`](palisade_protocol::DevicesJudged), [`PolicyAnnounced`](palisade_protocol::PolicyAnnounced),
//!   [`PolicyInstalled`](palisade_protocol::PolicyInstalled), [`WorkloadNamed`](palisade_protocol::WorkloadNamed),
//!   [`VisibilityChanged`](palisade_protocol::VisibilityChanged), [`SetVisibility`](palisade_protocol::SetVisibility),
//!   [`actor::SetSinks`], [`actor::SetThrottle`], [`SubscribeAlerts`](palisade_protocol::SubscribeAlerts),
//!   [`AlertCountsOf`](palisade_protocol::AlertCountsOf), [`ProcessesOf`](palisade_protocol::ProcessesOf).
//! - *Says*: lines to sinks and listeners; [`ConditionReported`](palisade_protocol::ConditionReported): whether the sinks write; questions
//!   for user names to the port.
//! - *Bounds*: [`processes::MAX_PROCESSES`] processes, [`rules::GENERATIONS`] generations a slot, [`users::MAX_NAMES`] names of users,
//!   [`throttle::MAX_RULES`] rules of a silence, [`unheld::MAX_LINES`] parts of one policy that are said not to be held, [`actor::RECENT`] past alerts of [`actor::RECENT_BYTES`] in all,
//!   [`actor::LISTENERS`] listeners of [`actor::LISTENER_LINES`] lines each and [`actor::LISTENER_BYTES`] in all. Past logs are not kept.
//! - *On restart*: names and rules outlive it (the factory keeps them, since they are said once); processes are listed anew, and chains
//!   reach back as far as that list. Past alerts, listeners, silences and counts are gone, the batch in hand is counted as lost.
//! - *On overload*: the probe hands on no batch while too many wait here; a workload's flood of alerts is held back and accounted for
//!   ([`throttle`]); a sink that fails or does not keep up loses lines, counted by sink and said in the condition; a slow listener loses
//!   lines, counted.
//!
//! A line has our own fields and, beside them, KubeArmor's by its names: [`palisade_domain::KubeArmorFields`] says what differs. Names are
//! lossless and printable in every form of a line ([`palisade_domain::text`]).
//!
//! Limit: of two policies of one slot and generation that decide alike the later one names the rules ([`rules`]). A process whose first
//! acts come in an earlier batch than its fork (another CPU's ring, within a millisecond) is named by what the record itself says.
//!
//! Invariant: an alert's verdict is what the enforcing program or responder wrote into the record, never inferred from a result here.
#![forbid(unsafe_code)]

pub mod actor;
pub mod by_slot;
pub mod compose;
pub mod names;
pub mod processes;
pub mod rules;
pub mod silence;
pub mod sinks;
mod slot_names;
pub mod state;
pub mod throttle;
pub mod unheld;
pub mod users;

pub use actor::{Alerts, Wiring};

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod tests;
