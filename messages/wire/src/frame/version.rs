//! Versions of the links' protocol, and which of them two nodes speak.
//!
//! Decision: a range and not one number, because the nodes of a cluster are upgraded one after the other, and those of two versions must
//! link meanwhile.

use std::fmt;

/// The oldest and the newest version that somebody speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// What this build speaks: 2 has questions for alerts that name what is known ([`super::KNOWN_ALERTS`]).
pub const SPOKEN: Versions = Versions { oldest: 1, newest: 2 };

impl Versions {
    /// The newest that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest && newest >= other.oldest).then_some(newest)
    }

    /// Whether `version` is among them.
    #[must_use]
    pub const fn contain(self, version: u32) -> bool {
        self.oldest <= version && version <= self.newest
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.oldest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}
