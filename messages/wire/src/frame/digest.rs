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
    /// With one more message.
    #[must_use]
    #[inline]
    pub fn after(self, message: &[u8]) -> Self {
        let mut hash = fold(self.0 ^ FACTOR, message.len() as u64 ^ SECOND);
        let mut words = message.chunks_exact(16);
        for pair in &mut words {
            let (low, high) = pair.split_at(8);
            hash = fold(word(low) ^ hash ^ FACTOR, word(high) ^ SECOND.rotate_left(23)) ^ hash.rotate_left(29);
        }
        let rest = words.remainder();
        let (low, high) = rest.split_at(rest.len().min(8));
        Self(fold(word(low) ^ hash ^ SECOND, word(high) ^ FACTOR) ^ hash.rotate_left(29))
    }
}

/// Up to eight bytes as a number.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}
