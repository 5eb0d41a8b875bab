//! Folds what every actor reports into the health of the node.
//!
//! - *Owns*: the last condition by name, the policy in force by slot.
//! - *Hears*: [`ConditionReported`](palisade_protocol::ConditionReported), [`ReadinessOf`](palisade_protocol::ReadinessOf),
//!   [`PolicyInstalled`](palisade_protocol::PolicyInstalled), [`InstalledPoliciesOf`](palisade_protocol::InstalledPoliciesOf),
//!   [`WorkloadGone`](palisade_protocol::WorkloadGone); its own timer: each second it asks the enforcement port what is not in force.
//! - *Says*: nothing by itself. - *Bounds*: [`state::MAX_CONDITIONS`] names; what comes after is counted and shown.
//! - *On restart*: what was reported stands (the factory keeps it): who reports a change once is not asked again.
//! - *On overload*: reports wait at their senders, the newest of each name; those of the node's own actors are repeated every few seconds.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::Health;

#[cfg(test)]
mod tests;
