//! Which rule decides, and how: the verdict order over rules that already matched by path or endpoint.

use std::cmp::Reverse;

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Decision, Effect, Modifiers};
use palisade_policy::ir::{Matcher, PathRule, Rule, Specificity};

/// What a deciding rule says under given circumstances. The order decides ties between rules of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An Allow whose modifier is not met: the family's posture.
    Posture,
    /// An Allow, or what a Block or Audit with a modifier leaves out.
    Permit,
    /// An Audit.
    Audit,
    /// A Block.
    Block,
}

/// A rule as far as it takes part in verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its rank.
    pub specificity: Specificity,
    /// Source classes that it names, sorted; empty where it holds for any executable.
    pub sources: Vec<u32>,
    action: Action,
    owner_only: bool,
    read_only: bool,
}

impl Standing {
    /// Of a rule whose sources are the classes `sources`.
    #[must_use]
    pub fn of(rule: &Rule, sources: Vec<u32>) -> Self {
        let (owner_only, read_only) = match &rule.matcher {
            Matcher::Process(PathRule { owner_only, read_only, .. })
            | Matcher::File(PathRule { owner_only, read_only, .. }) => (*owner_only, *read_only),
            _ => (false, false),
        };
        Self { specificity: rule.specificity(), sources, action: rule.action, owner_only, read_only }
    }

    /// Does it hold for an executable of this class? 0 is none that any rule names.
    #[must_use]
    pub fn holds_for(&self, source: u32) -> bool {
        !self.specificity.has_source || self.sources.binary_search(&source).is_ok()
    }

    /// Do circumstances change what it says?
    #[must_use]
    pub fn has_modifier(&self) -> bool {
        self.owner_only || self.read_only
    }

    /// What it says where it decides.
    #[must_use]
    pub fn outcome(&self, modifiers: Modifiers) -> Outcome {
        let is = |modifier: Modifiers| modifiers.0 & modifier.0 != 0;
        let met = (!self.owner_only || is(Modifiers::OWNER)) && (!self.read_only || !is(Modifiers::WRITE));
        match self.action {
            Action::Allow if met => Outcome::Permit,
            Action::Allow => Outcome::Posture,
            Action::Audit | Action::Block if self.has_modifier() && met => Outcome::Permit,
            Action::Audit => Outcome::Audit,
            Action::Block => Outcome::Block,
        }
    }

    /// The best and the worst that it could be in any circumstances, for rule number `index`; greater decides over smaller.
    #[must_use]
    pub fn span(&self, index: u32) -> (Standpoint, Standpoint) {
        let (best, worst) = match self.action {
            Action::Allow => (Outcome::Permit, if self.has_modifier() { Outcome::Posture } else { Outcome::Permit }),
            Action::Audit => (Outcome::Audit, if self.has_modifier() { Outcome::Permit } else { Outcome::Audit }),
            Action::Block => (Outcome::Block, if self.has_modifier() { Outcome::Permit } else { Outcome::Block }),
        };
        let at = |outcome| Standpoint { specificity: self.specificity, outcome, index: Reverse(index) };
        (at(best), at(worst))
    }
}

/// Rank, then outcome, then the lower rule index: of all rules that match, the greatest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standpoint {
    specificity: Specificity,
    outcome: Outcome,
    index: Reverse<u32>,
}

/// What happens where `candidates` (rule indices into `standings`) match, for one source class and one set of circumstances.
#[must_use]
pub fn decision(
    standings: &[Standing],
    candidates: &[u32],
    source: u32,
    modifiers: Modifiers,
    posture: Option<Posture>,
) -> Decision {
    let standpoint = |index: &u32| {
        let standing = &standings[*index as usize];
        standing.holds_for(source).then(|| Standpoint {
            specificity: standing.specificity,
            outcome: standing.outcome(modifiers),
            index: Reverse(*index),
        })
    };
    let Some(Standpoint { outcome, index: Reverse(rule), .. }) = candidates.iter().filter_map(standpoint).max() else {
        return by_posture(posture);
    };
    let by_rule = |effect| Decision { effect, rule: Some(rule), ..Decision::PERMIT };
    match outcome {
        Outcome::Posture => by_posture(posture),
        Outcome::Permit => by_rule(Effect::Permit),
        Outcome::Audit => by_rule(Effect::Audit),
        Outcome::Block => by_rule(Effect::Block),
    }
}

/// What happens where no rule decides; `None` where the family is no allow-list.
#[must_use]
pub fn by_posture(posture: Option<Posture>) -> Decision {
    let effect = match posture {
        None => return Decision::PERMIT,
        Some(Posture::Audit) => Effect::Audit,
        Some(Posture::Block) => Effect::Block,
    };
    Decision { effect, by_posture: true, ..Decision::PERMIT }
}
