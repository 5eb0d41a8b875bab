//! Who takes the chunks of a recording.
//!
//! Invariant: nobody holds one of the few places for recordings without reading: a reader for whom something is there, and who takes none of it for
//! [`READ_WITHIN`], is given up.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

/// How long what is there for a reader may lie: a disk that is slow, or a terminal that is stopped for a moment, takes less.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Reader {
    chunks: mpsc::Sender<Arc<[u8]>>,
    given: u64,
    taken: u64,
    /// Boot time of the last look at which it had taken something, or nothing was there.
    since_ns: u64,
}

impl Reader {
    pub(crate) const fn new(chunks: mpsc::Sender<Arc<[u8]>>, now_ns: u64) -> Self {
        Self { chunks, given: 0, taken: 0, since_ns: now_ns }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.chunks.is_closed()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.chunks.capacity() > 0
    }

    /// Who asked for room has it: nobody else gives.
    pub(crate) fn give(&mut self, bytes: Vec<u8>) {
        self.given += u64::from(self.chunks.try_send(Arc::from(bytes)).is_ok());
    }

    /// Whether it does not read, looked at now.
    pub(crate) fn is_stuck(&mut self, now_ns: u64) -> bool {
        let waiting = (self.chunks.max_capacity() - self.chunks.capacity()) as u64;
        let taken = self.given.saturating_sub(waiting);
        if waiting == 0 || taken != self.taken {
            (self.taken, self.since_ns) = (taken, now_ns);
        }
        u128::from(now_ns.saturating_sub(self.since_ns)) >= READ_WITHIN.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn unit_recorder_gives_up_a_reader_that_takes_nothing_and_none_that_is_slow_or_has_nothing_to_take() {
        let (chunks, mut reads) = mpsc::channel(2);
        let mut reader = Reader::new(chunks, 0);
        assert!(!reader.is_stuck(1000 * SECOND), "nothing was there");
        reader.give(vec![1]);
        assert!(!reader.is_stuck(1010 * SECOND) && !reader.is_stuck(1059 * SECOND));
        reads.try_recv().expect("there");
        reader.give(vec![2]);
        assert!(!reader.is_stuck(1060 * SECOND), "it took one");
        reader.give(vec![3]);
        assert!(!reader.has_room());
        assert!(!reader.is_stuck(1119 * SECOND) && reader.is_stuck(1120 * SECOND));
        drop(reads);
        assert!(reader.is_gone());
    }
}
