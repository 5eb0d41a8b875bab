//! A [`Batch`](super::Batch) as it is written: each message is encoded once, as it comes, and goes into the frame as it stands.
//!
//! Invariant: head, encoded messages and tail one after the other are the frame that [`write_batch`](super::write_batch) makes.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    Digest, LENGTH_BYTES,
    cbor::{Reader, Writer},
    keyed,
};

/// Bytes that a message of so many takes in a batch, at most.
#[must_use]
pub const fn batched_bytes(message: usize) -> usize {
    message + 5
}

/// Encodes a message behind those that are there.
pub fn append_message(message: &[u8], out: &mut BytesMut) {
    out.reserve(batched_bytes(message.len()));
    // RFC 8949, section 3: a byte string with its length in the shortest form.
    match message.len() {
        length @ ..24 => out.put_u8(0x40 | length as u8),
        length @ 24..=0xff => out.put_slice(&[0x58, length as u8]),
        length @ 0x100..=0xffff => {
            out.put_u8(0x59);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(0x5a);
            out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }
    out.put_slice(message);
}

/// What stands before and after so many bytes of encoded messages.
#[must_use]
pub fn around_messages(first: u64, count: usize, bytes: usize, digest: Digest) -> [Bytes; 2] {
    let mut written = vec![0; LENGTH_BYTES];
    let mut out = Writer(&mut written);
    out.map(4);
    keyed(&mut out, &[(0, 5), (1, first)]);
    out.unsigned(2);
    out.array(count);
    let head = out.0.len();
    keyed(&mut out, &[(3, digest.0)]);
    let length = u32::try_from(written.len() - LENGTH_BYTES + bytes).unwrap_or(u32::MAX);
    written[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    let mut head_and_tail = Bytes::from(written);
    let tail = head_and_tail.split_off(head);
    [head_and_tail, tail]
}

/// The messages that were encoded into `bytes`, each with where it ends.
pub fn encoded_messages(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        if reader.at() == bytes.len() {
            return None;
        }
        let message = reader.bytes(bytes.len());
        debug_assert!(message.is_ok(), "what was encoded here: {message:?}");
        message.ok().map(|range| (&bytes[range.clone()], range.end))
    })
}
