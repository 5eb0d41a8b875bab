//! Traces made of what other tools wrote.
//!
//! Invariant: nothing is made up: what a source does not tell is left empty in the records, what becomes no record is counted with its reason, and
//! what all of it lacks beside a recording of our own is said ([`Imported::lacks`]).
//!
//! Read are KubeArmor's logs, one JSON object a line ([`kubearmor`]), and captures of sysdig and Falco ([`scap`]). Both stream: memory is
//! bounded by what is alive in them, not by their length.

pub mod kubearmor;
pub mod scap;
mod writing;

use std::{collections::BTreeMap, io};

use palisade_wire::trace::WriteError;

/// What the program of a trace is called that was made of another tool's.
pub const IMPORTED: &str = "imported from ";

/// Producer of the records of acts that are told because a policy of the other tool was about them: that they are told does not show that
/// others of their kind would be.
pub const OF_POLICIES: u32 = 1;

/// Reasons that are told apart.
const MAX_REASONS: usize = 512;
/// Single lines of which it is said what is wrong with them.
const NAMED: usize = 8;

/// Why no trace is made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The trace cannot be written.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// There is no log in it.
    #[error("there is no log of KubeArmor in it: {0}")]
    NoLog(String),
    /// It is no capture, or one that is not read.
    #[error("no capture of sysdig or Falco that can be read: {0}")]
    NoCapture(String),
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines or events that became records.
    pub records: u64,
    /// Those that did not, whatever the reason.
    pub skipped: u64,
    /// Of those, how many cannot be read and may have told of an act: the trace says that it lacks them.
    pub unread: u64,
    /// Of the skipped, how many for which reason.
    pub reasons: BTreeMap<String, u64>,
    /// The first few that are damaged, each with its place.
    pub named: Vec<String>,
    /// Workloads.
    pub workloads: u64,
    /// What such a trace has not, in words.
    pub lacks: Vec<String>,
    /// The source ends, or is damaged, before its end; where, `lacks` says.
    pub is_cut: bool,
}

impl Imported {
    /// One of them becomes no record.
    fn skip(&mut self, reason: &str) {
        self.skipped += 1;
        if let Some(count) = self.reasons.get_mut(reason) {
            *count += 1;
        } else {
            let is_full = self.reasons.len() >= MAX_REASONS;
            *self.reasons.entry(if is_full { "other" } else { reason }.to_owned()).or_default() += 1;
        }
    }

    /// The same, and where it is.
    fn skip_at(&mut self, place: &str, reason: &str) {
        self.skip(reason);
        if self.named.len() < NAMED {
            self.named.push(format!("{place}: {reason}"));
        }
    }
}
