//! What waits for a peer: messages that it did not say to have, in order, each with its number and digest. The pure part of sending.
//!
//! Invariant: `bytes` never exceeds its bound, whoever asks (but for one message that is larger than all of it and goes alone); a message
//! is forgotten when the peer has said to have it, and not before. So a connection that breaks loses nothing, and the next goes on where
//! the peer says it is.

use std::collections::VecDeque;

use bytes::Bytes;
use palisade_wire::frame::{Digest, Place, Run, batched_bytes};

/// Bytes that a message costs beside its own: its entry here.
const ENTRY_BYTES: usize = 64;

/// How a peer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// From the message after the last that it has.
    Where(Place),
    /// It means something else by our numbers: they begin anew, with what waits.
    Anew(Place),
}

impl Resumed {
    pub(crate) const fn begin(self) -> Place {
        match self {
            Self::Where(place) | Self::Anew(place) => place,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Before the first that waits.
    base: Place,
    /// After `base`, each with the digest up to it.
    waiting: VecDeque<(Bytes, Digest)>,
    /// How many of them are written on the connection there is.
    written: usize,
    bytes: usize,
    bound: usize,
    most_bytes: usize,
}

impl Queue {
    pub(crate) fn new(run: Run, bound: usize) -> Self {
        let base = Place { run, sequence: 0, digest: Digest::default() };
        Self { base, waiting: VecDeque::new(), written: 0, bytes: 0, bound, most_bytes: 0 }
    }

    /// Takes a message, or hands it back for want of room.
    pub(crate) fn push(&mut self, message: Bytes) -> Result<(), Bytes> {
        let cost = cost(&message);
        if self.bytes + cost > self.bound && !self.waiting.is_empty() {
            return Err(message);
        }
        let digest = self.last().digest.after(&message);
        self.bytes += cost;
        self.most_bytes = self.most_bytes.max(self.bytes);
        self.waiting.push_back((message, digest));
        Ok(())
    }

    /// The next to write, at least one and as many as fit into `target` bytes of a frame: the number of the first, and the digest after the
    /// last. `None` when all is written.
    pub(crate) fn next(&mut self, target: usize, into: &mut Vec<Bytes>) -> Option<(u64, Digest)> {
        let first = self.base.sequence + self.written as u64 + 1;
        let (mut bytes, mut digest) = (0, None);
        into.clear();
        for (message, after) in self.waiting.range(self.written..) {
            bytes += batched_bytes(message.len());
            if bytes > target && !into.is_empty() {
                break;
            }
            into.push(message.clone());
            digest = Some(*after);
        }
        self.written += into.len();
        digest.map(|digest| (first, digest))
    }

    /// The peer has all up to here. Whether that made room.
    pub(crate) fn taken(&mut self, run: Run, sequence: u64) -> bool {
        let newer = sequence.saturating_sub(self.base.sequence);
        let count = usize::try_from(newer).unwrap_or(usize::MAX).min(self.written);
        if run != self.base.run || count == 0 {
            return false;
        }
        self.forget(count);
        self.written -= count;
        true
    }

    fn forget(&mut self, count: usize) {
        for (message, digest) in self.waiting.drain(..count) {
            self.bytes -= cost(&message);
            self.base.sequence += 1;
            self.base.digest = digest;
        }
    }

    /// A new connection, over which the peer said what it has.
    pub(crate) fn resume(&mut self, has: Option<Place>, fresh: Run) -> Resumed {
        self.written = 0;
        let Some(has) = has.filter(|has| has.run == self.base.run) else {
            // It begins, or knows an earlier life of ours.
            return Resumed::Where(self.base);
        };
        let count = has.sequence.checked_sub(self.base.sequence).and_then(|count| usize::try_from(count).ok());
        let ours = match count {
            Some(0) => Some(self.base.digest),
            Some(count) => self.waiting.get(count - 1).map(|(_, digest)| *digest),
            None => None,
        };
        match (count, ours) {
            (Some(count), Some(digest)) if digest == has.digest => {
                self.forget(count);
                Resumed::Where(self.base)
            }
            _ => {
                self.renumber(fresh);
                Resumed::Anew(self.base)
            }
        }
    }

    fn renumber(&mut self, run: Run) {
        self.base = Place { run, sequence: 0, digest: Digest::default() };
        let mut digest = self.base.digest;
        for (message, after) in &mut self.waiting {
            digest = digest.after(message);
            *after = digest;
        }
    }

    /// The last that was taken to be sent.
    pub(crate) fn last(&self) -> Place {
        let sequence = self.base.sequence + self.waiting.len() as u64;
        let digest = self.waiting.back().map_or(self.base.digest, |(_, digest)| *digest);
        Place { sequence, digest, ..self.base }
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.written < self.waiting.len()
    }

    /// Now, and at most ever.
    pub(crate) const fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.most_bytes)
    }
}

fn cost(message: &Bytes) -> usize {
    message.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u32) -> Bytes {
        Bytes::copy_from_slice(&n.to_be_bytes())
    }

    fn queue(messages: u32) -> Queue {
        let mut queue = Queue::new(Run(1), 1 << 20);
        (1..=messages).for_each(|n| queue.push(message(n)).expect("room"));
        queue
    }

    fn written(queue: &mut Queue, target: usize) -> Vec<(u64, Vec<Bytes>)> {
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        while let Some((first, _)) = queue.next(target, &mut batch) {
            all.push((first, batch.clone()));
        }
        all
    }

    #[test]
    fn unit_link_queue_batches_by_size_and_keeps_what_the_peer_does_not_have() {
        let mut queue = queue(5);
        let batches = written(&mut queue, 2 * batched_bytes(4));
        let firsts: Vec<(u64, usize)> = batches.iter().map(|(first, batch)| (*first, batch.len())).collect();
        assert_eq!(firsts, [(1, 2), (3, 2), (5, 1)]);
        let full = queue.bytes().0;
        assert!(!queue.taken(Run(2), 5), "another life's");
        assert!(queue.taken(Run(1), 2) && !queue.taken(Run(1), 2) && !queue.taken(Run(1), 1));
        assert_eq!(queue.bytes(), (full / 5 * 3, full));
        // A connection breaks: what was written and not taken is written again, with the same numbers.
        assert!(matches!(queue.resume(None, Run(9)), Resumed::Where(Place { sequence: 2, .. })));
        assert_eq!(written(&mut queue, 1 << 16), [(3, vec![message(3), message(4), message(5)])]);
    }

    #[test]
    fn unit_link_queue_goes_on_where_the_peer_says_it_is_if_both_mean_the_same() {
        let mut queue = queue(5);
        let digest = (1..=3).fold(Digest::default(), |digest, n| digest.after(&message(n)));
        let has = Place { run: Run(1), sequence: 3, digest };
        assert_eq!(queue.resume(Some(has), Run(9)), Resumed::Where(has));
        assert_eq!(written(&mut queue, 1 << 16), [(4, vec![message(4), message(5)])]);
    }

    #[test]
    fn unit_link_queue_begins_anew_where_the_peer_means_something_else_by_its_numbers() {
        for has in [
            Place { run: Run(1), sequence: 3, digest: Digest(7) },
            Place { run: Run(1), sequence: 6, digest: Digest(7) },
        ] {
            let mut queue = queue(5);
            queue.resume(None, Run(9));
            let resumed = queue.resume(Some(has), Run(9));
            assert_eq!(resumed, Resumed::Anew(Place { run: Run(9), sequence: 0, digest: Digest::default() }));
            let batches = written(&mut queue, 1 << 16);
            assert_eq!((batches[0].0, batches[0].1.len()), (1, 5), "nothing is lost");
            let digest = (1..=5).fold(Digest::default(), |digest, n| digest.after(&message(n)));
            assert_eq!(queue.last(), Place { run: Run(9), sequence: 5, digest });
        }
        // Of an earlier life: no word of ours.
        let mut queue = queue(5);
        let other = Place { run: Run(4), sequence: 3, digest: Digest(7) };
        assert!(matches!(queue.resume(Some(other), Run(9)), Resumed::Where(Place { run: Run(1), sequence: 0, .. })));
    }

    #[test]
    fn unit_link_queue_is_bounded_in_bytes_and_lets_one_large_message_through_alone() {
        let mut queue = Queue::new(Run(1), 1000);
        let large = Bytes::from(vec![0; 5000]);
        queue.push(large.clone()).expect("alone");
        assert_eq!(queue.push(message(1)), Err(message(1)));
        let mut batch = Vec::new();
        queue.next(1, &mut batch).expect("at least one");
        assert!(queue.taken(Run(1), 1));
        let taken = (0u32..).take_while(|n| queue.push(message(*n)).is_ok()).count();
        assert_eq!(taken, 1000 / cost(&message(0)));
        assert!(queue.push(large).is_err());
        assert!(queue.bytes().0 <= 1000);
    }

    #[test]
    fn unit_link_queue_does_not_believe_a_peer_that_has_more_than_was_written() {
        let mut queue = queue(5);
        let mut batch = Vec::new();
        queue.next(batched_bytes(4), &mut batch).expect("one");
        assert!(queue.taken(Run(1), 5));
        assert_eq!(written(&mut queue, 1 << 16), [(2, (2..=5).map(message).collect())]);
    }
}
