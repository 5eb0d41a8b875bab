//! Recording traces of a running node.

use std::{sync::Arc, time::Duration};

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

/// End a recording whole: what is there until now, then its index. True where there was one.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "bool")]
pub struct EndRecording {
    /// Which; `None`: all of them, since the node stops.
    pub id: Option<u64>,
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
}
