//! How a supervisor reacts: strategy, restart policy, intensity and backoff. Plain values, no clock.
//!
//! Invariant: every delay is a pure function of (backoff, consecutive failures, random state); two supervisors with
//! the same seed and the same history wait exactly as long. Decision: the jitter generator is SplitMix64 inside this
//! crate, not a crate of random numbers, because a replay must not change when a dependency does.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which siblings share the fate of a child that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Only the failed child restarts.
    #[default]
    OneForOne,
    /// The failed child and the children declared after it restart.
    RestForOne,
    /// All children restart.
    OneForAll,
}

/// Which exits of a child lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Every exit that was not asked for.
    #[default]
    Permanent,
    /// Only failures: a normal exit ends the child.
    Transient,
    /// Never.
    Temporary,
}

/// How an actor ended, as far as decisions need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// It stopped by itself (`ctx.stop()`).
    Normal,
    /// It stopped because its supervisor asked.
    Stopped,
    /// It panicked, could not be built, or did not start in time; for a supervisor: it gave up.
    Failed,
}

impl Restart {
    /// Whether a child with this policy comes back after an exit that nobody asked for.
    #[must_use]
    pub fn restarts_after(self, exit: ExitKind) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => exit == ExitKind::Failed,
            Self::Temporary => false,
        }
    }
}

/// At most `restarts` within `window`; one more and the supervisor gives up and escalates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// Restarts that are tolerated within the window.
    pub restarts: u32,
    /// The sliding window.
    pub window: Duration,
}

impl Default for Intensity {
    /// Five in a minute: a crash loop at the default backoff escalates after about ten seconds.
    fn default() -> Self {
        Self { restarts: 5, window: Duration::from_secs(60) }
    }
}

/// Exponential delay before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Delay after the first failure.
    pub base: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// Share of the delay that is random, in per cent of it (0..=100): the delay is drawn from `d - d*j ..= d`.
    pub jitter_percent: u8,
    /// A child that ran this long begins again at `base`.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(30),
            jitter_percent: 20,
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The same delay every time, without jitter: for tests that count virtual time.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        Self { base: delay, max: delay, jitter_percent: 0, reset_after: Duration::from_secs(60) }
    }

    /// The delay after `failures` earlier consecutive failures.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: &mut Jitter) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
        let full = doubled.min(self.max);
        let cut = full.mul_f64(f64::from(self.jitter_percent.min(100)) / 100.0 * jitter.unit());
        full.saturating_sub(cut)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, every seed is good.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator that depends on nothing but `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed for a child supervisor: differs by name, so that siblings do not wait in lockstep.
    #[must_use]
    pub fn seed_for(seed: u64, name: &str) -> u64 {
        name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exactly what an f64 mantissa holds")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
