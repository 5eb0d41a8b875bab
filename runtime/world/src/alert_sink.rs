//! Where alerts go.

use std::time::Duration;

/// What a sink wrote to a file is on the disk at most so long after, and as long as its disk then takes to sync: so much may be missing
/// after the power went, and nothing after a crash of the process. Pipes, terminals and what others keep have no such promise.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why a sink did not take lines.
#[derive(Debug, thiserror::Error)]
#[error("{sink}: {source}")]
pub struct AlertSinkError {
    /// The sink as the configuration names it.
    pub sink: String,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

/// Takes whole JSON lines.
pub trait AlertSink: Send {
    /// The sink as the configuration names it.
    fn name(&self) -> &str;
    /// Appends `lines` (one or more whole lines, each ending in `\n`) or nothing of them.
    ///
    /// # Errors
    /// What the operating system said; the caller counts the lines as lost for this sink.
    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError>;
    /// What became of lines that were taken and are written later; a sink that writes at once has nothing to say.
    fn health(&mut self) -> SinkHealth {
        SinkHealth::default()
    }
    /// It takes no more lines, and is asked until this is 0: how many that it took are still to be written. Returns at once.
    fn end(&mut self) -> u64 {
        0
    }
}

/// What became of lines after [`AlertSink::append`] took them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkHealth {
    /// Lines that were not written, since the last question.
    pub lost: u64,
    /// Why the last write failed, if it did.
    pub failing: Option<String>,
    /// Whether it would take lines now; `None` where only an attempt can tell.
    pub takes_lines: Option<bool>,
}
