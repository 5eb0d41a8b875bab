//! Reads the kernel's records, accounts for each loss, and hands them on in batches.
//!
//! - *Owns*: the record source; the account of every sequence number.
//! - *Hears*: its own timer; [`RecordAccountOf`](palisade_protocol::RecordAccountOf).
//! - *Says*: [`RecordsRead`](palisade_protocol::RecordsRead); [`ConditionReported`](palisade_protocol::ConditionReported) every second:
//!   whether records are lost.
//! - *Bounds*: a turn reads at most [`actor::BATCHES_A_TURN`] batches of at most 512 records before others run; [`actor::IN_FLIGHT`] batches
//!   are with their readers at a time.
//! - *On restart*: opens the source anew; the account starts again from the numbers that it then sees, what was in hand is counted by the shell.
//! - *On overload*: while readers hold too many batches the rings are not read; they fill, and the kernel counts what it cannot write. A
//!   batch that a reader's mailbox has no room for is counted as `refused`.
#![forbid(unsafe_code)]

pub mod actor;
pub mod state;

pub use actor::{Probe, Wiring};

#[cfg(test)]
mod tests;
