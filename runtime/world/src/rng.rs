//! Randomness as a port.

/// Random bytes: the machine's in production, a seed's in simulation.
pub trait Rng: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A number below `bound`; 0 where that is 0. Its bias (below one in 2^32 for bounds of minutes in milliseconds) is that of jitter.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}
