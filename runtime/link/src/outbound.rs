//! What waits for a peer: messages that it did not say to have, in order, with their numbers and digests. The pure part of sending.
//!
//! A message is encoded as it comes, behind those that wait; what is written of them is one piece, a batch, and stays one until the peer has
//! it. So a message is copied once on its way to QUIC, and costs no entry of its own.
//!
//! Invariant: `bytes` never exceeds its bound, whoever asks (but for one message that is larger than all of it and goes alone); a message
//! is forgotten when the peer has said to have it, and not before. So a connection that breaks loses nothing, and the next goes on where
//! the peer says it is.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use palisade_wire::frame::{self, Digest, Place, Run, batched_bytes};

/// Bytes that a piece costs beside those of its messages: its entry here and what QUIC notes of it. What buffers have free is no more than a
/// third of what is in them, and one buffer of a piece.
const PIECE_BYTES: usize = 128;

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

/// A batch as it goes into its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The number of its first message.
    pub(crate) first: u64,
    pub(crate) count: usize,
    /// Its messages, encoded.
    pub(crate) messages: Bytes,
    /// Up to the last of them.
    pub(crate) digest: Digest,
}

impl Piece {
    const fn last(&self) -> u64 {
        self.first + self.count as u64 - 1
    }

    fn cost(&self) -> usize {
        self.messages.len() + PIECE_BYTES
    }

    /// Takes its first messages off, up to the number `sequence`, which is one of its own but not the last.
    fn cut(&mut self, sequence: u64, digest: Digest) -> Digest {
        let count = usize::try_from(sequence + 1 - self.first).unwrap_or(usize::MAX).min(self.count);
        let (mut after, mut end) = (digest, 0);
        for (message, ends) in frame::encoded_messages(&self.messages).take(count) {
            (after, end) = (after.after(message), ends);
        }
        self.messages.advance(end);
        (self.first, self.count) = (self.first + count as u64, self.count - count);
        after
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Before the first that waits.
    base: Place,
    /// After `base`.
    pieces: VecDeque<Piece>,
    /// How many of them are written on the connection there is.
    written: usize,
    /// After the pieces: messages that can still be joined by others.
    open: BytesMut,
    open_count: usize,
    /// The last that was taken to be sent.
    last: Place,
    /// Of all that waits.
    bytes: usize,
    bound: usize,
    most_bytes: usize,
    /// Of the messages of a piece.
    piece_bytes: usize,
}

impl Queue {
    /// Pieces have as many messages as fit into `piece_bytes`, and at least one.
    pub(crate) fn new(run: Run, bound: usize, piece_bytes: usize) -> Self {
        let base = Place { run, sequence: 0, digest: Digest::default() };
        let (pieces, open) = (VecDeque::new(), BytesMut::new());
        Self { base, pieces, written: 0, open, open_count: 0, last: base, bytes: 0, bound, most_bytes: 0, piece_bytes }
    }

    /// Takes a message, or hands it back for want of room.
    pub(crate) fn push(&mut self, message: Bytes) -> Result<(), Bytes> {
        let size = batched_bytes(message.len());
        let large = size > self.piece_bytes / 4;
        let joined = self.open.len() + size;
        let joins = !large && self.open_count > 0 && joined <= self.piece_bytes.min(self.open.capacity());
        let cost = if joins { size } else { size + PIECE_BYTES };
        if self.bytes + cost > self.bound && self.last.sequence > self.base.sequence {
            return Err(message);
        }
        if !joins {
            self.close_piece();
            self.bytes += PIECE_BYTES;
        }
        self.last.sequence += 1;
        self.last.digest = self.last.digest.after(&message);
        if large {
            // In a buffer of its own: so the others have at most a quarter free at their end.
            let rest = std::mem::replace(&mut self.open, BytesMut::with_capacity(size));
            self.append(&message);
            self.close_piece();
            self.open = rest;
        } else {
            if self.open.capacity() - self.open.len() < size {
                // Where others wait more will come; one alone takes no more than it needs.
                self.open.reserve(if self.pieces.is_empty() { size } else { self.piece_bytes });
            }
            self.append(&message);
        }
        self.most_bytes = self.most_bytes.max(self.bytes);
        Ok(())
    }

    fn append(&mut self, message: &[u8]) {
        let before = self.open.len();
        frame::append_message(message, &mut self.open);
        self.bytes += self.open.len() - before;
        self.open_count += 1;
    }

    /// From now on no message joins those that wait.
    fn close_piece(&mut self) {
        if self.open_count > 0 {
            let count = std::mem::take(&mut self.open_count);
            let first = self.closed() + 1;
            let messages = self.open.split().freeze();
            self.pieces.push_back(Piece { first, count, messages, digest: self.last.digest });
        }
    }

    /// The last message of the last piece.
    fn closed(&self) -> u64 {
        self.pieces.back().map_or(self.base.sequence, Piece::last)
    }

    /// The next to write; `None` when all is written.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        if self.written == self.pieces.len() {
            self.close_piece();
        }
        let piece = self.pieces.get(self.written)?.clone();
        self.written += 1;
        Some(piece)
    }

    /// The peer has all up to here, of what is written. Up to where it has it now, where that made room.
    pub(crate) fn taken(&mut self, run: Run, sequence: u64) -> Option<u64> {
        let last_written = self.written.checked_sub(1).and_then(|last| self.pieces.get(last))?.last();
        let sequence = sequence.min(last_written);
        if run != self.base.run || sequence <= self.base.sequence {
            return None;
        }
        self.forget(sequence);
        Some(sequence)
    }

    /// Forgets all up to a number that waits.
    fn forget(&mut self, sequence: u64) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.last() <= sequence) {
            self.bytes -= piece.cost();
            self.written = self.written.saturating_sub(1);
            self.base.digest = piece.digest;
        }
        // Ours take whole pieces; of another's word, the piece that is left is what follows it.
        if let Some(piece) = self.pieces.front_mut().filter(|piece| piece.first <= sequence) {
            let before = piece.messages.len();
            self.base.digest = piece.cut(sequence, self.base.digest);
            self.bytes -= before - piece.messages.len();
        }
        self.base.sequence = sequence;
    }

    /// A new connection, over which the peer said what it has.
    pub(crate) fn resume(&mut self, has: Option<Place>, fresh: Run) -> Resumed {
        self.written = 0;
        let Some(has) = has.filter(|has| has.run == self.base.run) else {
            // It begins, or knows an earlier life of ours.
            return Resumed::Where(self.base);
        };
        self.close_piece();
        if self.digest_at(has.sequence) != Some(has.digest) {
            self.renumber(fresh);
            return Resumed::Anew(self.base);
        }
        self.forget(has.sequence);
        Resumed::Where(self.base)
    }

    /// Up to a message that waits, or to the last before those.
    fn digest_at(&self, sequence: u64) -> Option<Digest> {
        if sequence == self.base.sequence {
            return Some(self.base.digest);
        }
        let at = self.pieces.partition_point(|piece| piece.last() < sequence);
        let piece = self.pieces.get(at).filter(|piece| piece.first <= sequence)?;
        if piece.last() == sequence {
            return Some(piece.digest);
        }
        let before = at.checked_sub(1).and_then(|before| self.pieces.get(before));
        Some(piece.clone().cut(sequence, before.map_or(self.base.digest, |before| before.digest)))
    }

    fn renumber(&mut self, run: Run) {
        self.base = Place { run, sequence: 0, digest: Digest::default() };
        self.last = self.base;
        for piece in &mut self.pieces {
            piece.first = self.last.sequence + 1;
            for (message, _) in frame::encoded_messages(&piece.messages) {
                self.last.digest = self.last.digest.after(message);
            }
            piece.digest = self.last.digest;
            self.last.sequence = piece.last();
        }
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.written < self.pieces.len() || self.open_count > 0
    }

    /// Now, and at most ever.
    pub(crate) const fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.most_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of four bytes take five, and are less than a quarter.
    const PIECE: usize = 40;

    fn message(n: u32) -> Bytes {
        Bytes::copy_from_slice(&n.to_be_bytes())
    }

    fn queue(messages: u32) -> Queue {
        let mut queue = Queue::new(Run(1), 1 << 20, PIECE);
        (1..=messages).for_each(|n| queue.push(message(n)).expect("room"));
        queue
    }

    /// Numbers of the first message of each piece that is still to be written, with its messages.
    fn written(queue: &mut Queue) -> Vec<(u64, Vec<Bytes>)> {
        let all = std::iter::from_fn(|| queue.next());
        let messages =
            |piece: &Piece| frame::encoded_messages(&piece.messages).map(|(one, _)| one.to_vec().into()).collect();
        all.map(|piece| (piece.first, messages(&piece))).collect()
    }

    fn digest(up_to: u32) -> Digest {
        (1..=up_to).fold(Digest::default(), |digest, n| digest.after(&message(n)))
    }

    fn place(run: u64, sequence: u64, digest: Digest) -> Place {
        Place { run: Run(run), sequence, digest }
    }

    #[test]
    fn unit_link_queue_batches_by_size_and_keeps_what_the_peer_does_not_have() {
        let mut queue = queue(10);
        // The first finds nobody that waits, and takes a buffer of its own size.
        let all = [(1, vec![1]), (2, (2..=8).collect()), (9, vec![9, 10])];
        let all =
            all.map(|(first, numbers): (u64, Vec<u32>)| (first, numbers.into_iter().map(message).collect::<Vec<_>>()));
        assert_eq!(written(&mut queue), all);
        let full = queue.bytes().0;
        assert_eq!(queue.taken(Run(2), 5), None, "another life's");
        assert_eq!([8, 8, 1].map(|sequence| queue.taken(Run(1), sequence)), [Some(8), None, None]);
        assert_eq!(queue.bytes(), (full - 8 * 5 - 2 * PIECE_BYTES, full));
        // A connection breaks: what was written and not taken is written again, with the same numbers.
        assert_eq!(queue.resume(None, Run(9)), Resumed::Where(place(1, 8, digest(8))));
        assert_eq!(written(&mut queue), all[2..]);
        assert_eq!(queue.taken(Run(1), 10), Some(10));
        assert_eq!(queue.bytes().0, 0);
    }

    #[test]
    fn unit_link_queue_goes_on_where_the_peer_says_it_is_if_both_mean_the_same() {
        // Between two batches, within one, and with messages that no batch has yet.
        for has in 0..=5 {
            let mut queue = queue(5);
            let has = place(1, u64::from(has), digest(has));
            assert_eq!(queue.resume(Some(has), Run(9)), Resumed::Where(has));
            let rest: Vec<Bytes> = written(&mut queue).into_iter().flat_map(|(_, messages)| messages).collect();
            assert_eq!(rest, (has.sequence as u32 + 1..=5).map(message).collect::<Vec<_>>());
            queue.push(message(6)).expect("room");
            let next = queue.next().expect("the sixth");
            assert_eq!((next.first, next.digest), (6, digest(6)));
            assert_eq!(queue.taken(Run(1), 6), Some(6));
            assert_eq!(queue.bytes().0, 0, "all that waited is accounted for");
        }
    }

    #[test]
    fn unit_link_queue_begins_anew_where_the_peer_means_something_else_by_its_numbers() {
        for sequence in [0, 2, 3, 6] {
            let mut queue = queue(5);
            queue.resume(None, Run(9));
            let resumed = queue.resume(Some(place(1, sequence, Digest(7))), Run(9));
            assert_eq!(resumed, Resumed::Anew(place(9, 0, Digest::default())));
            let batches: Vec<Piece> = std::iter::from_fn(|| queue.next()).collect();
            assert_eq!((batches[0].first, batches.iter().map(|batch| batch.count).sum::<usize>()), (1, 5));
            assert_eq!(batches.last().expect("some").digest, digest(5));
            assert_eq!(queue.last, place(9, 5, digest(5)));
        }
        // Of an earlier life: no word of ours.
        let mut queue = queue(5);
        let resumed = queue.resume(Some(place(4, 3, Digest(7))), Run(9));
        assert_eq!(resumed, Resumed::Where(place(1, 0, Digest::default())));
    }

    #[test]
    fn unit_link_queue_is_bounded_in_bytes_and_lets_one_large_message_through_alone() {
        let mut queue = Queue::new(Run(1), 1000, 500);
        let large = Bytes::from(vec![0; 5000]);
        queue.push(large.clone()).expect("alone");
        assert_eq!(queue.push(message(1)), Err(message(1)));
        queue.next().expect("at least one");
        assert_eq!(queue.taken(Run(1), 1), Some(1));
        let taken = (0u32..).take_while(|n| queue.push(message(*n)).is_ok()).count();
        assert!((100..200).contains(&taken), "{taken} messages of five bytes");
        assert!(queue.push(large).is_err());
        assert!((900..=1000).contains(&queue.bytes().0), "{:?}", queue.bytes());
    }

    #[test]
    fn unit_link_queue_does_not_believe_a_peer_that_has_more_than_was_written() {
        let mut queue = queue(5);
        queue.next().expect("a batch");
        assert_eq!(queue.taken(Run(1), 5), Some(1));
        assert_eq!(written(&mut queue), [(2, (2..=5).map(message).collect())]);
    }
}
