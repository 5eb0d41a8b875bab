//! Recording traces of a running node.

use std::{sync::Arc, time::Duration};

use actix::Message;
use palisade_domain::Generation;
use palisade_policy::ir::Postures;
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
    /// Its bytes.
    pub bytes: mpsc::Receiver<Arc<[u8]>>,
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
