//! Joins cgroups, containers and labels to workloads, and gives each its slot.
//!
//! - *Owns*: which container has which slot; admissions until they are handed on.
//! - *Hears*: the container runtime through [`Containers`](palisade_world::Containers); [`WorkloadsOf`](palisade_protocol::WorkloadsOf).
//! - *Says*: [`WorkloadPlaced`](palisade_protocol::WorkloadPlaced), [`WorkloadAppeared`](palisade_protocol::WorkloadAppeared), [`WorkloadStarted`](palisade_protocol::WorkloadStarted),
//!   [`WorkloadGone`](palisade_protocol::WorkloadGone) to the roster, [`WorkloadNamed`](palisade_protocol::WorkloadNamed) to who names
//!   workloads in alerts, [`ConditionReported`](palisade_protocol::ConditionReported) at each change and every few seconds.
//! - *Bounds*: one change of the runtime at a time; as many workloads as there are slots. The next is refused with the number; one that
//!   runs already runs without policy until a slot is free, and the condition says how many do.
//! - *On restart*: connects anew and hears all that runs anew; each container keeps its slot (the factory keeps them) and is said again.
//!   Hooks that waited are refused.
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
