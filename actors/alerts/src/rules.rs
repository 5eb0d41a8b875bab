//! What a rule is called in lines; which one a decision names, [`Attribution`](palisade_protocol::attribution::Attribution) keeps.

use palisade_protocol::attribution::DecidingRule;
pub use palisade_protocol::attribution::GENERATIONS;

/// Which rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleIndex {
    /// One that decides.
    Deciding(DecidingRule),
    /// None of its rules, but a part that is not held, of [`crate::unheld`].
    NotHeld(usize),
    /// Of the rules about devices.
    Device(usize),
    /// None of a policy: the act was against Palisade itself.
    SelfProtection,
}

impl RuleIndex {
    /// As decision words have it.
    #[must_use]
    pub const fn compiled(index: u32) -> Self {
        Self::Deciding(DecidingRule::Compiled(index))
    }

    /// Of those that records decide.
    #[must_use]
    pub const fn observed(index: u32) -> Self {
        Self::Deciding(DecidingRule::Observed(index))
    }
}
