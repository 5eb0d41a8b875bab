//! Real time. The one place of the benchmarks that reads a clock.
//!
//! Decision: the least of several rounds, not their mean: on a shared machine everything else only adds.

use std::time::{Duration, Instant};

/// Rounds of which the fastest counts.
const ROUNDS: u32 = 7;

/// A moment to measure from.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time; nothing is decided by it")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// How long one call takes.
pub fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = now();
    let result = work();
    (result, started.elapsed())
}

/// Nanoseconds for each of `count` items that a call works through, in the fastest of some calls.
pub fn nanoseconds_each(count: usize, mut work: impl FnMut()) -> f64 {
    let fastest = (0..ROUNDS).map(|_| time(&mut work).1).min().unwrap_or_default();
    fastest.as_nanos() as f64 / count as f64
}
