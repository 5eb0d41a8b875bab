//! Reads the kernel's records, accounts for each loss, and hands them on in batches.
//!
//! - *Owns*: the record source; the account of every sequence number.
//! - *Hears*: its own timer; [`RecordAccountOf`](palisade_protocol::RecordAccountOf).
//! - *Says*: [`RecordsRead`](palisade_protocol::RecordsRead), [`ConditionReported`](palisade_protocol::ConditionReported) when records are lost.
//! - *Bounds*: one batch of at most 512 records in hand; a turn reads at most [`actor::BATCHES_A_TURN`] batches before others run.
//! - *On restart*: opens the source anew; the account starts again from the numbers that it then sees, what was in hand is counted by the shell.
//! - *On overload*: the reader's mailbox sheds (counted as `refused`); the rings fill next, and the kernel counts what it cannot write.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::{Probe, Wiring};

#[cfg(test)]
mod tests;
