//! What holds for the observation of every workload: the rate, the folding, and what anybody wants to see (`bpf/include/limit.h`,
//! `fold.h`).
//!
//! Invariant: programs read these words while they are written, each by one store, and any mixture of old and new ones is a setting
//! that somebody could have asked for. Decisions are neither limited nor folded.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    layout,
    sys::{MapFd, Mapping},
};

/// Bounds of what is sent about one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records a second of one workload in the long run; 0: as many as there are. Exec, fork and exit have as many again.
    pub records_per_second: u32,
    /// Records that may come at once.
    pub burst: u32,
    /// Equal observations of a process within it are sent once, with a count later; zero: each is sent.
    pub fold_window: Duration,
}

impl Limits {
    /// Each observation is sent.
    pub const NONE: Self = Self { records_per_second: 0, burst: 0, fold_window: Duration::ZERO };

    /// Nanoseconds between two records, and how far ahead of now a bucket may be.
    fn bucket(self) -> (u64, u64) {
        let interval = 1_000_000_000_u64.checked_div(u64::from(self.records_per_second)).unwrap_or(0);
        // A bucket that is not ahead of now has one token, so that a burst of n is n - 1 intervals ahead.
        (interval, interval * u64::from(self.burst.saturating_sub(1)))
    }

    fn fold_window_ns(self) -> u64 {
        u64::try_from(self.fold_window.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// 5,000 records a second, ten times that at once, equal ones folded over a second: at 200 bytes a record a workload takes 1 MB a second
/// of its CPUs' rings, and the ring of 4 MiB holds a third of its burst.
impl Default for Limits {
    fn default() -> Self {
        Self { records_per_second: 5_000, burst: 50_000, fold_window: Duration::from_secs(1) }
    }
}

/// The map `observation`.
#[derive(Debug)]
pub(crate) struct ObservationMap {
    mapping: Mapping,
}

impl ObservationMap {
    pub fn open(pin: &Path) -> io::Result<Self> {
        let map = MapFd::open(pin)?;
        Ok(Self { mapping: Mapping::new(&map, size_of::<layout::Observation>().next_multiple_of(4096))? })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the callers' offsets are of u64 fields of `Observation`, aligned to 8 in a mapping that begins at a page and has room
        // for it; it lives as long as the borrow of `self`. This process accesses it through atomics alone; programs only read.
        unsafe { AtomicU64::from_ptr(self.mapping.as_ptr().add(offset).cast()) }
    }

    /// Kinds that some slot wants.
    pub fn wanted_anywhere(&self) -> u64 {
        self.word(std::mem::offset_of!(layout::Observation, anywhere)).load(Ordering::Acquire)
    }

    pub fn want_anywhere(&self, kinds: u64) {
        self.word(std::mem::offset_of!(layout::Observation, anywhere)).store(kinds, Ordering::Release);
    }

    /// Puts limits in force, with a new key for the digests.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        let (interval, tolerance) = limits.bucket();
        let key = random_key()?;
        let set = |offset, value| self.word(offset).store(value, Ordering::Release);
        // Folding rests while the key changes: halves of two keys would only fold less, but need not.
        set(std::mem::offset_of!(layout::Observation, fold_window_ns), 0);
        set(std::mem::offset_of!(layout::Observation, fold_key), key[0]);
        set(std::mem::offset_of!(layout::Observation, fold_key) + 8, key[1]);
        set(std::mem::offset_of!(layout::Observation, fold_window_ns), limits.fold_window_ns());
        set(std::mem::offset_of!(layout::Observation, tolerance_ns), tolerance);
        set(std::mem::offset_of!(layout::Observation, interval_ns), interval);
        Ok(())
    }
}

fn random_key() -> io::Result<[u64; 2]> {
    let mut bytes = [[0; 8]; 2];
    let mut random = File::open("/dev/urandom")?;
    for half in &mut bytes {
        random.read_exact(half)?;
    }
    Ok(bytes.map(u64::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_limits_become_the_intervals_that_programs_count_by() {
        let limits = |records_per_second, burst| Limits { records_per_second, burst, ..Limits::NONE }.bucket();
        assert_eq!(limits(0, 7), (0, 0));
        assert_eq!(limits(1000, 1), (1_000_000, 0));
        assert_eq!(limits(1000, 500), (1_000_000, 499_000_000));
        assert_eq!(limits(u32::MAX, u32::MAX), (0, 0), "a rate past one a nanosecond is none");
    }
}
