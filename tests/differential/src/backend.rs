//! Who decides acts.

use std::sync::Arc;

use palisade_kernel_abi::blob::{Decision, Effect, Family};
use palisade_policy::ir::Rule;
use palisade_protocol::CompiledPolicy;

use crate::{Act, Case, Part};

/// A means of enforcement, or several that hold a family each. A new one implements this, is run by a test of its ring, and has its name in
/// [`crate::BACKENDS`]; nothing else knows it.
pub trait Backend {
    /// The name under which differences of a family are declared; `None`: it holds nothing of the family, and is asked about none of it.
    fn name(&self, family: Family) -> Option<&'static str>;

    /// Makes the ground of a case: its files. Before [`install`](Self::install), which a walker needs alone.
    ///
    /// # Errors
    /// Where it cannot be made.
    fn prepare(&mut self, case: &Case) -> Result<(), BackendError> {
        let _ = case;
        Ok(())
    }

    /// Puts the policy in force, in place of the one before.
    ///
    /// # Errors
    /// Where it is not in force now.
    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError>;

    /// Does the act.
    ///
    /// # Errors
    /// Where neither a denial nor a success came of it.
    fn act(&mut self, act: &Act) -> Result<Said, BackendError>;
}

/// The backend failed, and decided nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

impl From<std::io::Error> for BackendError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What became of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// It did not happen, or who did it was killed.
    pub denied: bool,
    /// The decisions that were told of it; `None`: this backend tells none, or not in a way that can be read here.
    pub told: Option<Vec<Told>>,
}

/// One decision, as an alert would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which table.
    pub family: Family,
    /// What it says.
    pub effect: Effect,
    /// By the default posture.
    pub by_posture: bool,
    /// The rule that is named.
    pub rule: Option<Arc<Rule>>,
    /// By what means and why, for people; nothing is compared by it.
    pub how: String,
}

impl Told {
    /// Of a decision under the policy.
    #[must_use]
    pub fn of(family: Family, decision: Decision, policy: &CompiledPolicy) -> Self {
        let rule = decision.rule.and_then(|index| policy.rule(index)).cloned();
        Self { family, effect: decision.effect, by_posture: decision.by_posture, rule, how: String::new() }
    }
}

/// What a walker says of an act: that of its parts in their order, up to the first that is blocked.
pub fn walked(act: &Act, policy: &CompiledPolicy, mut decide: impl FnMut(&Part) -> Decision) -> Said {
    let mut told = Vec::new();
    for part in act.parts() {
        let decision = decide(&part);
        // Permits by a rule are no alert.
        if decision.effect != Effect::Permit {
            told.push(Told::of(part.family, decision, policy));
        }
        if decision.effect == Effect::Block {
            return Said { denied: true, told: Some(told) };
        }
    }
    Said { denied: false, told: Some(told) }
}
