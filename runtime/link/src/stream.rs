//! Frames on QUIC streams.

use bytes::BytesMut;
use palisade_wire::frame::{self, Frame, FrameError, LENGTH_BYTES};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

/// Bytes that are taken from a stream at a time: a batch and its neighbour.
const CHUNK_BYTES: usize = 128 << 10;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection broke.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
}

/// Reads frames from a stream; memory is that of the longest frame and a chunk.
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end of the stream. Loses nothing when it is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(CHUNK_BYTES, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(StreamError::Cut),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Frame>, StreamError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = frame::length(*prefix)?;
        if self.buffer.len() < LENGTH_BYTES + length {
            // Once for the frame, and not with each packet that brings some of it.
            self.buffer.reserve(LENGTH_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        let whole = self.buffer.split_to(LENGTH_BYTES + length).freeze();
        Ok(Some(Frame::read(&whole.slice(LENGTH_BYTES..))?))
    }
}

/// Writes one frame.
pub(crate) async fn write(stream: &mut SendStream, frame: &Frame) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    stream.write_chunk(bytes.into()).await
}
