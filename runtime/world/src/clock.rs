//! Time as a port.

use palisade_domain::UnixNanos;

/// Nanoseconds since boot (`CLOCK_BOOTTIME`): the kernel's own stamp on records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootNanos(pub u64);

/// Both clocks of a node. Simulation hands out skewed and jumping ones.
pub trait Clock: Send + Sync {
    /// Nanoseconds since boot.
    fn boot(&self) -> BootNanos;
    /// Wall-clock time.
    fn unix(&self) -> UnixNanos;
}
