//! Keeps the policy set in force and its generation.
//!
//! - *Owns*: the last reading of the policy directory, the last sound version of each file, the generation.
//! - *Hears*: its own timer; [`PolicySetStatusOf`](palisade_protocol::PolicySetStatusOf).
//! - *Says*: [`PolicySetChanged`](palisade_protocol::PolicySetChanged), [`ConditionReported`](palisade_protocol::ConditionReported).
//! - *Bounds*: the directory's own (number and size of files); one set in memory besides the one being made.
//! - *On restart*: reads anew and gives out generations from above the highest that it gave before (the factory keeps the counter); last
//!   sound versions of files that are broken *now* are lost, and said to be.
//! - *On overload*: nothing queues: a change that comes while a set is made is seen by the next look.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::{PolicyKeeper, Wiring};

#[cfg(test)]
mod tests;
