//! Kernel records on their way, in batches: one message an event is too dear.

use std::sync::Arc;

use actix::Message;
use palisade_world::{Loss, RecordBatch};

/// A batch was read. Shared, since more than one actor reads it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RecordsRead {
    /// The records.
    pub batch: Arc<RecordBatch>,
}

/// The account of all records.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "RecordAccount")]
pub struct RecordAccountOf;

/// Answer to [`RecordAccountOf`]: `produced = delivered + lost + suppressed + folded`, always (once the rings are drained).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordAccount {
    /// Read and handed on.
    pub delivered: u64,
    /// Read but not understood, with the first reason.
    pub malformed: u64,
    /// Handed on in vain, since a reader's queue was full.
    pub refused: u64,
    /// Sequence numbers that never arrived, as counted here.
    pub missing: u64,
    /// As the kernel counted: what was lost, and what was suppressed or folded by intent.
    pub loss: Loss,
}
