//! Keeps the policy set in force and its generation.
//!
//! - *Owns*: the last reading of the policy directory, the last sound version of each file, also where it outlives the process, the
//!   generation.
//! - *Hears*: its own timer; [`PolicySetStatusOf`](palisade_protocol::PolicySetStatusOf), [`SetPostures`](palisade_protocol::SetPostures),
//!   [`SetPolicyInterval`](palisade_protocol::SetPolicyInterval).
//! - *Says*: [`PolicySetChanged`](palisade_protocol::PolicySetChanged), and before it
//!   [`PolicyDocumentsChanged`](palisade_protocol::PolicyDocumentsChanged) to who records; [`ConditionReported`](palisade_protocol::ConditionReported) at each look.
//! - *Bounds*: the directory's own (number and size of files); one set in memory besides the one being made. A change is read once the
//!   directory has been as it is for [`actor::SETTLE`].
//! - *On restart*: the state outlives it (the factory keeps it): it says the set in force again, by the same generation, and reads anew. After a
//!   restart of the *process* a file that is broken is held to the last sound version that was kept ([`actor::PolicyKeeper::remembering`]); of
//!   one that was never sound no version is in force, and the condition says so.
//! - *On overload*: nothing queues: a change that comes while a set is made is seen by the next look.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::{PolicyKeeper, Wiring};

#[cfg(test)]
mod tests;
