//! Joins cgroups, containers and labels to workloads, and gives each its slot.
//!
//! - *Owns*: which container has which slot; admissions until they are handed on.
//! - *Hears*: the container runtime through [`Containers`](palisade_world::Containers); [`WorkloadsOf`](palisade_protocol::WorkloadsOf).
//! - *Says*: [`WorkloadAppeared`](palisade_protocol::WorkloadAppeared), [`WorkloadStarted`](palisade_protocol::WorkloadStarted),
//!   [`WorkloadGone`](palisade_protocol::WorkloadGone) to the roster, [`ConditionReported`](palisade_protocol::ConditionReported).
//! - *Bounds*: one change of the runtime at a time; as many workloads as there are slots. The next is refused with the number; one that
//!   runs already is counted in the node's condition and gets the first slot that is free.
//! - *On restart*: connects anew and hears all that runs anew; slots are given from the start, so enforcers restart with it (rest-for-one).
//! - *On overload*: the port is not polled while a fact waits for room at the roster: the runtime waits, an admission waits within its deadline.
#![forbid(unsafe_code)]

pub mod actor;
mod error;
pub mod state;

pub use actor::{Wiring, Workloads};
pub use error::SlotsExhausted;

#[cfg(test)]
mod actor_tests;
#[cfg(test)]
mod tests;
