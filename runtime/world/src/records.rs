//! The stream of kernel records.

use std::collections::BTreeMap;

/// Raw records as the kernel wrote them (`bpf/include/record.h`), back to back, each 8-byte aligned within `bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordBatch {
    /// The records' bytes.
    pub bytes: Vec<u8>,
    /// How many records `bytes` holds; counted by the source before it hands the batch over, so that a crash knows what it lost.
    pub records: u32,
}

impl RecordBatch {
    /// A batch holds at most this many records, so that one message stays well under a millisecond of work.
    pub const MAX_RECORDS: u32 = 512;
    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }
}

/// Why records did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// The ring was full.
    RingFull,
    /// No scratch slot was free in the kernel.
    NoScratch,
    /// The responder's socket was full.
    SocketFull,
    /// What arrived was not one record.
    Malformed,
    /// The workload's token bucket was empty: observations beyond the rate that the node was given.
    Suppressed,
    /// An equal observation was sent within the window; a later record says how many were not.
    Folded,
}

impl LossReason {
    /// Whether records are kept back by intent: they are counted, and nothing is wrong.
    #[must_use]
    pub const fn is_intended(self) -> bool {
        matches!(self, Self::Suppressed | Self::Folded)
    }
}

/// Records that did not arrive (lost, suppressed or folded), cumulative since the probes were loaded: by record kind (`bpf/include/record.h`) and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// (kind, reason) to count.
    pub counts: BTreeMap<(u16, LossReason), u64>,
    /// Records that the kernel numbered, by CPU: `produced = delivered + lost + suppressed + folded` is checked against it.
    pub produced: BTreeMap<u32, u64>,
}

/// Why the source cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("kernel records: {what}: {source}")]
pub struct RecordSourceError {
    /// Which operation.
    pub what: &'static str,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

/// Where kernel records come from: rings in production, a trace or a model in simulation.
pub trait RecordSource: Send {
    /// Moves up to [`RecordBatch::MAX_RECORDS`] records into `batch` (which it first clears) without blocking; returns whether more is waiting.
    ///
    /// # Errors
    /// A source that fails is broken for good: the caller's supervisor rebuilds it.
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError>;
    /// Cumulative losses as the kernel counted them.
    ///
    /// # Errors
    /// As for [`RecordSource::read`].
    fn loss(&mut self) -> Result<Loss, RecordSourceError>;
}
