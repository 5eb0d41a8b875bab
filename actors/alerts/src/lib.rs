//! Turns decisions of the kernel into alerts that tell the truth.
//!
//! - *Owns*: the process table, the rules of the last generations by slot, the last alerts, the sinks.
//! - *Hears*: [`RecordsRead`](palisade_protocol::RecordsRead), [`PolicyInstalled`](palisade_protocol::PolicyInstalled),
//!   [`WorkloadNamed`](palisade_protocol::WorkloadNamed), [`SubscribeAlerts`](palisade_protocol::SubscribeAlerts),
//!   [`AlertCountsOf`](palisade_protocol::AlertCountsOf).
//! - *Says*: lines to sinks and listeners.
//! - *Bounds*: [`processes::MAX_PROCESSES`] processes, [`rules::GENERATIONS`] generations a slot, [`actor::RECENT`] past alerts,
//!   [`actor::LISTENERS`] listeners of [`actor::LISTENER_LINES`] lines each.
//! - *On restart*: ancestors of processes that started before are unknown until they exec; rules are told anew with the next set. The batch
//!   in hand is counted as lost.
//! - *On overload*: the probe's batches are refused and counted there; a sink that fails loses lines, counted by sink; a slow listener loses
//!   lines, counted.
//!
//! Invariant: an alert's verdict is what the enforcing program or responder wrote into the record, never inferred from a result here.
#![forbid(unsafe_code)]

pub mod actor;
pub mod compose;
pub mod processes;
pub mod rules;
pub mod state;

pub use actor::{Alerts, Wiring};

#[cfg(test)]
mod tests;
