//! Who takes the chunks of a recording.
//!
//! Invariant: nobody holds one of the few places for recordings without reading: a reader for whom something is there, and who takes none of it for
//! [`READ_WITHIN`], is given up.
//! Decision: time is what passed between looks, and not by the clock since boot, because that goes on while a machine sleeps: its readers
//! would wake up as ones that had not read.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

/// How long what is there for a reader may lie: a disk that is slow, or a terminal that is stopped for a moment, takes less.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Reader {
    chunks: mpsc::Sender<Arc<[u8]>>,
    given: u64,
    taken: u64,
    /// Since the last look at which it had taken something, or nothing was there.
    idle: Duration,
}

impl Reader {
    pub(crate) const fn new(chunks: mpsc::Sender<Arc<[u8]>>) -> Self {
        Self { chunks, given: 0, taken: 0, idle: Duration::ZERO }
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

    /// Whether it does not read, looked at now and this long before.
    pub(crate) fn is_stuck(&mut self, since_last_look: Duration) -> bool {
        let waiting = (self.chunks.max_capacity() - self.chunks.capacity()) as u64;
        let taken = self.given.saturating_sub(waiting);
        let has_read = waiting == 0 || taken != self.taken;
        self.taken = taken;
        self.idle = if has_read { Duration::ZERO } else { self.idle.saturating_add(since_last_look) };
        self.idle >= READ_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_recorder_gives_up_a_reader_that_takes_nothing_and_none_that_is_slow_or_has_nothing_to_take() {
        let (chunks, mut reads) = mpsc::channel(2);
        let mut reader = Reader::new(chunks);
        let after = |reader: &mut Reader, seconds| reader.is_stuck(Duration::from_secs(seconds));
        assert!(!after(&mut reader, 1000), "nothing was there");
        reader.give(vec![1]);
        assert!(!after(&mut reader, 10) && !after(&mut reader, 49));
        reads.try_recv().expect("there");
        reader.give(vec![2]);
        assert!(!after(&mut reader, 1), "it took one");
        reader.give(vec![3]);
        assert!(!reader.has_room());
        assert!(!after(&mut reader, 59) && after(&mut reader, 1));
        drop(reads);
        assert!(reader.is_gone());
    }
}
