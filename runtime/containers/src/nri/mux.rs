//! Frames of NRI's multiplexer: two connections of ttrpc over one socket. Pure.
//!
//! A frame is the connection's number and the length of what follows, four bytes each, big-endian; frames say nothing of the messages in
//! them, which may begin and end anywhere. Number 0 is reserved; others than the two are skipped, as the runtime skips them.
//!
//! Invariant: no byte is kept here but those of a header that is not whole.

use super::ttrpc;

/// The connection on which the runtime calls its plugin.
pub(super) const PLUGIN: u32 = 1;
/// The connection on which the plugin calls the runtime.
pub(super) const RUNTIME: u32 = 2;

const HEADER_BYTES: usize = 8;

/// Most bytes of a frame that is read: a message goes into one, or several.
const MAX_READ_BYTES: usize = ttrpc::HEADER_BYTES + ttrpc::MAX_MESSAGE_BYTES;

/// Bytes of a frame that is written: the runtime refuses one that is larger than the buffer it reads into, which is this at least.
const WRITTEN_BYTES: usize = 4096;

/// A frame that no runtime writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, more than {MAX_READ_BYTES}")]
pub(super) struct FrameTooLong(usize);

/// Takes a stream of bytes apart.
#[derive(Debug, Default)]
pub(super) struct Demux {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that are there.
    filled: usize,
    connection: u32,
    /// Bytes of the frame that are still to come.
    left: usize,
}

impl Demux {
    /// Takes the next piece from the front of `bytes`, with the number of its connection; `None` when there is none left.
    pub(super) fn piece<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<(u32, &'a [u8])>, FrameTooLong> {
        loop {
            if self.left > 0 {
                let piece = take(bytes, self.left);
                self.left -= piece.len();
                return Ok((!piece.is_empty()).then_some((self.connection, piece)));
            }
            let part = take(bytes, HEADER_BYTES - self.filled);
            self.header[self.filled..][..part.len()].copy_from_slice(part);
            self.filled += part.len();
            if self.filled < HEADER_BYTES {
                return Ok(None);
            }
            let [a, b, c, d, e, f, g, h] = self.header;
            let left = u32::from_be_bytes([e, f, g, h]) as usize;
            if left > MAX_READ_BYTES {
                return Err(FrameTooLong(left));
            }
            (self.filled, self.connection, self.left) = (0, u32::from_be_bytes([a, b, c, d]), left);
        }
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        self.filled > 0 || self.left > 0
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// The frames of a message on a connection.
pub(super) fn frames(connection: u32, message: &[u8]) -> Vec<u8> {
    let mut frames = Vec::with_capacity(message.len() + (message.len() / WRITTEN_BYTES + 1) * HEADER_BYTES);
    for piece in message.chunks(WRITTEN_BYTES) {
        frames.extend(connection.to_be_bytes());
        frames.extend(u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
        frames.extend(piece);
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of a stream that is read in pieces of these lengths, by connection.
    fn read(stream: &[u8], lengths: &[usize]) -> Result<[Vec<u8>; 3], FrameTooLong> {
        let (mut demux, mut all, mut left) = (Demux::default(), [Vec::new(), Vec::new(), Vec::new()], stream);
        let mut lengths = lengths.iter().copied().cycle();
        while !left.is_empty() {
            let mut bytes = take(&mut left, lengths.next().unwrap_or(usize::MAX).max(1));
            while let Some((connection, piece)) = demux.piece(&mut bytes)? {
                all[(connection as usize).min(2)].extend(piece);
            }
            assert!(bytes.is_empty(), "a byte was left");
        }
        assert!(!demux.is_within());
        Ok(all)
    }

    proptest! {
        #[test]
        fn unit_nri_frames_are_taken_apart_wherever_they_are_cut(
            messages in proptest::collection::vec((1..3_u32, proptest::collection::vec(any::<u8>(), 0..9000)), 0..6),
            lengths in proptest::collection::vec(1..5000_usize, 1..5),
        ) {
            let (mut stream, mut expected) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
            for (connection, message) in &messages {
                stream.extend(frames(*connection, message));
                expected[*connection as usize].extend(message);
            }
            prop_assert_eq!(read(&stream, &lengths), Ok(expected));
        }
    }

    #[test]
    fn unit_nri_frames_that_no_runtime_writes_are_refused_by_their_header_alone() {
        let header = |length: u32| [PLUGIN.to_be_bytes(), length.to_be_bytes()].concat();
        let most = u32::try_from(MAX_READ_BYTES).unwrap();
        let mut demux = Demux::default();
        assert_eq!(demux.piece(&mut header(most).as_slice()), Ok(None));
        assert!(demux.is_within());
        assert_eq!(Demux::default().piece(&mut header(most + 1).as_slice()), Err(FrameTooLong(MAX_READ_BYTES + 1)));
        assert_eq!(Demux::default().piece(&mut [0xff; 16].as_slice()), Err(FrameTooLong(u32::MAX as usize)));
    }

    #[test]
    fn unit_nri_frames_are_no_longer_than_the_runtimes_buffer() {
        let frames = frames(RUNTIME, &[7; 10_000]);
        assert_eq!(frames.len(), 10_000 + 3 * HEADER_BYTES);
        assert_eq!(frames[..8], [0, 0, 0, 2, 0, 0, 0x10, 0]);
    }
}
