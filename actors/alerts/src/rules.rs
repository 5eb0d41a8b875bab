//! What a rule is called in lines; which one a decision names, [`Attribution`](palisade_protocol::attribution::Attribution) keeps.

use palisade_domain::AlertRule;
use palisade_policy::ir::Rule;
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

/// What a line says of a rule.
pub(crate) fn told(rule: &Rule) -> AlertRule {
    AlertRule {
        policy: rule.policy.to_string(),
        policy_name: rule.policy.name.clone(),
        place: rule.place.clone(),
        severity: rule.severity,
        tags: rule.tags.clone(),
        message: rule.message.clone(),
    }
}
