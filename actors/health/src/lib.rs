//! Folds what every actor reports into the health of the node.
//!
//! - *Owns*: the last condition by name, the policy in force by slot.
//! - *Hears*: [`ConditionReported`](palisade_protocol::ConditionReported), [`ReadinessOf`](palisade_protocol::ReadinessOf),
//!   [`PolicyInstalled`](palisade_protocol::PolicyInstalled), [`InstalledPoliciesOf`](palisade_protocol::InstalledPoliciesOf),
//!   [`WorkloadGone`](palisade_protocol::WorkloadGone).
//! - *Says*: nothing by itself. - *Bounds*: [`state::MAX_CONDITIONS`] names; what comes after is counted and shown.
//! - *On restart*: waits for all names again; actors report at each change and at their own restart.
//! - *On overload*: reports coalesce by name at the senders; one that is lost is superseded by the next.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::Health;

#[cfg(test)]
mod tests;
