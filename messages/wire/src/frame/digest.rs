//! The digest of all messages of a stream up to one of them.
//!
//! Two ends that name the same message by number must mean the same message by content: one whose counter or memory went back (a restored
//! virtual machine, a bug) would else go on from a place that never was.
//! Decision: a fast hash without a key, not a cryptographic one, because TLS keeps others out, and this stands in the path of each message.

/// See the module. Of equal messages in equal order it is equal, on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u64);

/// Odd, without a pattern: the digits of the golden ratio and of the square root of 3.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xbb67_ae85_84ca_a73b;

/// The high and low half of a product, folded: each bit of both sides counts.
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

impl Digest {
    /// With one more message. What is long is the hash of the message, which waits for no digest before it.
    #[must_use]
    #[inline]
    pub fn after(self, message: &[u8]) -> Self {
        Self(fold(self.0 ^ FACTOR, hash(message) ^ SECOND) ^ self.0.rotate_left(29))
    }
}

/// Four lanes at a time: a multiplication takes some cycles, and one may begin in each.
#[inline]
fn hash(message: &[u8]) -> u64 {
    let mut hash = fold(FACTOR, message.len() as u64 ^ SECOND);
    let mut blocks = message.chunks_exact(64);
    if message.len() >= 64 {
        let mut lanes = [hash, hash.rotate_left(16), hash.rotate_left(32), hash.rotate_left(48)];
        for block in &mut blocks {
            for (lane, pair) in lanes.iter_mut().zip(block.chunks_exact(16)) {
                *lane = with_pair(*lane, pair);
            }
        }
        let [a, b, c, d] = lanes;
        hash = fold(a ^ b.rotate_left(23) ^ FACTOR, c ^ d.rotate_left(23) ^ SECOND) ^ (a ^ c).rotate_left(29);
    }
    let mut pairs = blocks.remainder().chunks_exact(16);
    for pair in &mut pairs {
        hash = with_pair(hash, pair);
    }
    with_pair(hash ^ SECOND, pairs.remainder())
}

/// With up to 16 bytes more.
#[inline]
fn with_pair(hash: u64, pair: &[u8]) -> u64 {
    let (low, high) = pair.split_at(pair.len().min(8));
    fold(word(low) ^ hash ^ FACTOR, word(high) ^ SECOND.rotate_left(23)) ^ hash.rotate_left(29)
}

/// Up to eight bytes as a number.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}
