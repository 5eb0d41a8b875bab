//! Recording traces of a running node.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::Message;
use palisade_domain::{Generation, Slot, Visibility};
use palisade_policy::ir::Postures;
use palisade_world::PasswdAnswer;
use tokio::sync::mpsc;

/// The policy set in force as the files that it is made of, for who keeps it as text.
#[derive(Debug, Clone, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct PolicyDocumentsChanged {
    /// The set's number.
    pub generation: Generation,
    /// The global postures.
    pub postures: Postures,
    /// Name and content of each sound file, by name.
    pub documents: Arc<[(String, Arc<[u8]>)]>,
}

/// Record from now on, and the last minutes before if asked.
#[derive(Debug, Clone, Message, PartialEq, Eq, Default)]
#[rtype(result = "Result<RecordingStream, RecordingRefused>")]
pub struct RecordTrace {
    /// Only workloads of these names; empty: all.
    pub workloads: Vec<String>,
    /// How much of what is kept in memory comes first.
    pub last: Duration,
    /// How long from now on; `None`: until nobody reads any more.
    pub duration: Option<Duration>,
    /// Bytes at which it ends; 0: no bound.
    pub limit_bytes: u64,
    /// At that many bytes the trace ends and the next one begins, in the same stream and with the next record: a rotation, without a gap
    /// or a repetition.
    pub in_parts: bool,
    /// Keep the arguments of processes, from now on.
    pub arguments: bool,
}

/// A trace as it is made: whoever reads it slowly loses records, which the trace counts, and holds back nobody.
#[derive(Debug)]
pub struct RecordingStream {
    /// By which [`EndRecording`] names it.
    pub id: u64,
    /// Its bytes.
    pub bytes: mpsc::Receiver<Arc<[u8]>>,
}

/// End a recording whole: what is there until now, then its index.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "RecordingEnd")]
pub struct EndRecording {
    /// Which; `None`: all of them, since the node stops.
    pub id: Option<u64>,
}

/// What [`EndRecording`] finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordingEnd {
    /// Whether one was being made.
    pub ended: bool,
    /// Why it had ended before, where neither its time, its size nor anybody who asked for it was the reason.
    pub why: Option<RecordingOver>,
}

/// How many recordings run, and what became of the others?
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "RecordingCounts")]
pub struct RecordingCountsOf;

/// Answer to [`RecordingCountsOf`], since the recorder's actor started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordingCounts {
    /// Recordings that are being made.
    pub running: u64,
    /// Those that are over, by how they ended.
    pub ended: BTreeMap<RecordingOutcome, u64>,
}

/// How a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordingOutcome {
    /// By its time, its size or who asked for it, whole.
    Whole,
    /// The next part would have held nothing new.
    TooSmall,
    /// Its reader took nothing of what was there for it, and was given up.
    Unread,
    /// Its reader went away, as who ends `palisade record` by force does.
    ReaderGone,
    /// The store of traces did not keep it.
    NotStored,
}

impl RecordingOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Whole, Self::TooSmall, Self::Unread, Self::ReaderGone, Self::NotStored];

    /// In one word, as metrics have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::TooSmall => "too_small",
            Self::Unread => "unread",
            Self::ReaderGone => "reader_gone",
            Self::NotStored => "not_stored",
        }
    }
}

/// Why a recording ended that should have gone on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingOver {
    /// The next part would hold nothing new.
    #[error("{0}")]
    TooSmall(TooSmall),
    /// What was there for its reader was not taken.
    #[error("its reader took nothing for {} s", .0.as_secs())]
    Unread(Duration),
}

/// What was so at the beginning, and a record after it, is more than a trace may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace of {limit_bytes} bytes has no room: what is so at its beginning, and a record, take {needs_bytes}")]
pub struct TooSmall {
    /// What it takes, at least.
    pub needs_bytes: u64,
    /// What it may have.
    pub limit_bytes: u64,
}

/// Settings that decide which lines a node makes of records: they changed while it runs.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct AlertSettingsChanged {
    /// What is seen of a workload of which nobody says it.
    pub visibility: Visibility,
    /// Alerts of a workload in a second past which they are held back, and for how many seconds; `None`: never.
    pub throttle: Option<(u32, u32)>,
}

/// The names of users that lines are made with from now on.
#[derive(Debug, Clone, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct UserNamesRead {
    /// Whose.
    pub slot: Slot,
    /// As it was read.
    pub answer: PasswdAnswer,
}

/// Why nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingRefused {
    /// As many as there may be.
    #[error("{0} recordings run already, at most")]
    TooMany(usize),
    /// The header cannot be written.
    #[error("a trace cannot be begun: {0}")]
    NotBegun(String),
    /// It would hold nothing.
    #[error("{0}")]
    TooSmall(#[from] TooSmall),
}
