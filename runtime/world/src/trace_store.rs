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

/// Keeps traces within its own bounds: what is too much goes, the oldest first. One trace is written at a time.
///
/// Whoever calls it waits for no disk: what is given to it is written in order by a thread of its own, and [`Self::outcome`] tells what came
/// of it. What waits is bounded by [`Self::has_room`].
pub trait TraceStore: Send {
    /// Whether it takes more bytes now; false: its disk has not written what it has.
    fn has_room(&mut self) -> bool;
    /// Begins a trace of this name, without a path; one that was begun before and not ended stays as far as it got.
    fn begin(&mut self, name: &str);
    /// More bytes of the trace that was begun; who gives them where there is no room loses the trace, which its outcome says.
    fn append(&mut self, bytes: Vec<u8>);
    /// The trace that was begun is whole.
    fn end(&mut self);
    /// Once for each trace that was begun: it is on the disk, whole; or what the operating system said, and it is kept as far as it got. None:
    /// not known yet.
    fn outcome(&mut self) -> Option<Result<(), TraceStoreError>>;
}
