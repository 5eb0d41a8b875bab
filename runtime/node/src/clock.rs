//! The machine's clocks behind the port.

use palisade_domain::UnixNanos;
use palisade_world::{BootNanos, Clock};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` and `CLOCK_REALTIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClock;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Both clocks are after their epoch; a machine set to before 1970 reads as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

impl Clock for MachineClock {
    fn boot(&self) -> BootNanos {
        BootNanos(nanoseconds(ClockId::Boottime))
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(nanoseconds(ClockId::Realtime))
    }
}
