//! A node's two clocks, as functions of virtual time.
//!
//! The boot clock counts from the machine's start and never jumps. The wall clock is off by a skew and may jump, by whole seconds
//! in either direction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use palisade_domain::UnixNanos;
use palisade_world::{BootNanos, Clock};
use tokio::time::Instant;

const SECOND_NS: i64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z, seconds.
const EPOCH_SECONDS: i64 = 1_767_225_600;
/// A machine had run for so long when the simulation began, or started again.
const UPTIME_NS: u64 = 100 * 1_000_000_000;

/// What a wall clock that is off by so many seconds shows at this virtual time.
#[must_use]
pub fn unix_at(at: Duration, off_seconds: i64) -> UnixNanos {
    let base = u64::try_from((EPOCH_SECONDS + off_seconds) * SECOND_NS).unwrap_or(0);
    UnixNanos(base + u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
}

/// See the module.
#[derive(Clone)]
pub struct SimClock {
    begun: Instant,
    /// Virtual nanoseconds at which the machine started.
    started_ns: Arc<AtomicU64>,
    off_seconds: Arc<AtomicI64>,
}

impl SimClock {
    /// Clocks that are off by so many seconds.
    #[must_use]
    pub fn new(begun: Instant, skew_seconds: i64) -> Self {
        Self { begun, started_ns: Arc::default(), off_seconds: Arc::new(AtomicI64::new(skew_seconds)) }
    }

    /// Virtual time since the simulation began, nanoseconds.
    #[must_use]
    pub fn virtual_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How far the wall clock is off.
    #[must_use]
    pub fn off_seconds(&self) -> i64 {
        self.off_seconds.load(Ordering::Relaxed)
    }

    /// The wall clock is set.
    pub(super) fn jump(&self, seconds: i64) {
        self.off_seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// The machine starts again.
    pub fn reboot(&self) {
        self.started_ns.store(self.virtual_ns(), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn boot(&self) -> BootNanos {
        BootNanos(self.virtual_ns() - self.started_ns.load(Ordering::Relaxed) + UPTIME_NS)
    }

    fn unix(&self) -> UnixNanos {
        unix_at(self.begun.elapsed(), self.off_seconds())
    }
}
