//! Where a node keeps traces by itself.

/// Why a trace is not kept.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct TraceStoreError {
    /// Which file, and what was done with it.
    pub what: String,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

/// Keeps traces within its own bounds: what is too much goes, the oldest first. One trace is written at a time. Whoever calls it waits
/// for a disk, so that it is its own thread's.
pub trait TraceStore: Send {
    /// Begins a trace of this name, without a path; one that was begun before and not ended stays as far as it got.
    ///
    /// # Errors
    /// What the operating system said; nothing is begun.
    fn begin(&mut self, name: &str) -> Result<(), TraceStoreError>;
    /// More bytes of the trace that was begun.
    ///
    /// # Errors
    /// What the operating system said; the trace ends there.
    fn append(&mut self, bytes: &[u8]) -> Result<(), TraceStoreError>;
    /// The trace that was begun is whole.
    ///
    /// # Errors
    /// What the operating system said.
    fn end(&mut self) -> Result<(), TraceStoreError>;
}
