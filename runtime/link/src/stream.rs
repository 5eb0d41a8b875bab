//! Frames on QUIC streams.

use bytes::{Bytes, BytesMut};
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
///
/// Decision: a frame is copied out of what came into a buffer of just its size, because messages are parts of it and may be kept: parts of
/// what came would keep whole datagrams alive with them, beyond each bound.
pub(crate) struct FrameReader {
    stream: RecvStream,
    /// What came and is in no frame yet.
    chunk: Bytes,
    prefix: [u8; LENGTH_BYTES],
    /// Of the prefix.
    begun: usize,
    /// How long it says that the body is, once it is whole.
    length: usize,
    body: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, chunk: Bytes::new(), prefix: [0; LENGTH_BYTES], begun: 0, length: 0, body: BytesMut::new() }
    }

    /// The next frame; `None` at the end of the stream. Loses nothing when it is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(CHUNK_BYTES, true).await? {
                Some(chunk) => self.chunk = chunk.bytes,
                None if self.begun == 0 => return Ok(None),
                None => return Err(StreamError::Cut),
            }
        }
    }

    /// Goes through the chunk to the end of a frame, or of the chunk.
    fn whole(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.begun < LENGTH_BYTES {
            let part = self.chunk.split_to(self.chunk.len().min(LENGTH_BYTES - self.begun));
            self.prefix[self.begun..self.begun + part.len()].copy_from_slice(&part);
            self.begun += part.len();
            if self.begun < LENGTH_BYTES {
                return Ok(None);
            }
            self.length = frame::length(self.prefix)?;
            self.body = BytesMut::with_capacity(self.length);
        }
        let part = self.chunk.split_to(self.chunk.len().min(self.length - self.body.len()));
        self.body.extend_from_slice(&part);
        if self.body.len() < self.length {
            return Ok(None);
        }
        self.begun = 0;
        Ok(Some(Frame::read(&std::mem::take(&mut self.body).freeze())?))
    }
}

/// Writes one frame.
pub(crate) async fn write(stream: &mut SendStream, frame: &Frame) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    stream.write_chunk(bytes.into()).await
}
