//! How long until a peer is dialled again.

use std::time::Duration;

use palisade_world::Rng;

/// Delays double from the first to the last; each is cut by up to half, at random, so that the nodes of a cluster do not all come back to one
/// at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After one failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Backoff {
    /// After so many failures in a row, at least one.
    pub(crate) fn delay(&self, failures: u32, rng: &dyn Rng) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.most);
        let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        whole - Duration::from_millis(rng.below(half.saturating_add(1)).min(half))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Counting(AtomicU64);

    impl Rng for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            let n = self.0.fetch_add(7919, Ordering::Relaxed);
            bytes.iter_mut().zip(n.to_le_bytes().into_iter().cycle()).for_each(|(byte, of)| *byte = of);
        }
    }

    #[test]
    fn unit_link_backoff_doubles_to_its_bound_and_is_jittered_below_it() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(10) };
        let rng = Counting(AtomicU64::new(1));
        for (failures, most) in [(1, 100), (2, 200), (3, 400), (8, 10_000), (64, 10_000), (u32::MAX, 10_000)] {
            let delays: Vec<u128> = (0..50).map(|_| backoff.delay(failures, &rng).as_millis()).collect();
            assert!(delays.iter().all(|delay| (most / 2..=most).contains(delay)), "{failures}: {delays:?}");
            assert!(delays.iter().any(|delay| *delay != delays[0]), "{failures}: no jitter");
        }
    }
}
