//! Which rule decides, and how: the verdict order over rules that already matched by path, endpoint, name or number.

use std::{cmp::Reverse, collections::BTreeSet};

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Decision, Effect, Modifiers, Rank};
use palisade_policy::ir::{Matcher, Rule, Specificity};

use crate::arguments::{ArgumentSets, Conflict};

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
    without_tty: bool,
    arguments: BTreeSet<String>,
}

impl Standing {
    /// Of a rule whose sources are the classes `sources`.
    #[must_use]
    pub fn of(rule: &Rule, sources: Vec<u32>) -> Self {
        let (owner_only, read_only, arguments) = match &rule.matcher {
            Matcher::Process(path) | Matcher::File(path) => {
                (path.owner_only, path.read_only, path.allowed_arguments.clone())
            }
            _ => (false, false, BTreeSet::new()),
        };
        Self {
            specificity: rule.specificity(),
            sources,
            action: action_of(rule),
            owner_only,
            read_only,
            without_tty: pts_of(&rule.matcher) == Some(false),
            arguments,
        }
    }

    /// Does it hold for an executable of this class? 0 is none that any rule names.
    #[must_use]
    pub fn holds_for(&self, source: u32) -> bool {
        !self.specificity.has_source || self.sources.binary_search(&source).is_ok()
    }

    /// The circumstances that change what it says, its arguments apart.
    #[must_use]
    pub fn modifiers(&self) -> Modifiers {
        let bit = |is: bool, modifier: Modifiers| if is { modifier.0 } else { 0 };
        Modifiers(
            bit(self.owner_only, Modifiers::OWNER)
                | bit(self.read_only, Modifiers::WRITE)
                | bit(self.without_tty, Modifiers::TTY),
        )
    }

    /// Does anything change what it says?
    #[must_use]
    pub fn has_modifier(&self) -> bool {
        self.modifiers() != Modifiers::NONE || !self.arguments.is_empty()
    }

    /// What it says where it decides: where the arguments, if it asks for any, are not among its own, and where they are.
    #[must_use]
    pub fn outcomes(&self, modifiers: Modifiers) -> (Outcome, Outcome) {
        let is = |modifier: Modifiers| modifiers.0 & modifier.0 != 0;
        let met = (!self.owner_only || is(Modifiers::OWNER))
            && (!self.read_only || !is(Modifiers::WRITE))
            && (!self.without_tty || !is(Modifiers::TTY));
        let says = |met: bool| match self.action {
            Action::Allow if met => Outcome::Permit,
            Action::Allow => Outcome::Posture,
            Action::Audit | Action::Block if self.has_modifier() && met => Outcome::Permit,
            Action::Audit => Outcome::Audit,
            Action::Block => Outcome::Block,
        };
        (says(met && self.arguments.is_empty()), says(met))
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

/// System calls are audited, whatever the rule asks for.
fn action_of(rule: &Rule) -> Action {
    match (&rule.matcher, rule.action) {
        (Matcher::Syscall(_), Action::Block) => Action::Audit,
        (_, action) => action,
    }
}

/// The rule's word on terminals.
#[must_use]
pub fn pts_of(matcher: &Matcher) -> Option<bool> {
    match matcher {
        Matcher::Process(path) | Matcher::File(path) => path.pts,
        Matcher::Socket(socket) => socket.pts,
        _ => None,
    }
}

/// Rank, then outcome, then the lower rule index: of all rules that match, the greatest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standpoint {
    specificity: Specificity,
    outcome: Outcome,
    index: Reverse<u32>,
}

/// Whose verdicts are asked for: one source class under one set of circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Of the acting executable.
    pub source: u32,
    /// What is so.
    pub modifiers: Modifiers,
}

/// What happens where `candidates` (rule indices into `standings`) match, and of what rank that is.
///
/// # Errors
/// Where rules of one rank ask for different arguments in a way that one decision cannot hold.
pub fn decision(
    standings: &[Standing],
    candidates: &[u32],
    at: Circumstances,
    posture: Option<Posture>,
    sets: &mut ArgumentSets,
) -> Result<(Decision, Rank), Conflict> {
    let holds = |index: &&u32| standings[**index as usize].holds_for(at.source);
    let rank_of = |index: &u32| standings[*index as usize].specificity;
    let Some(best) = candidates.iter().filter(holds).map(rank_of).max() else {
        return Ok((by_posture(posture), Rank::NONE));
    };
    let rank = Rank::new(best.has_source, best.kind);
    let deciding = candidates.iter().filter(holds).filter(|index| rank_of(index) == best);
    let mut fixed: Option<(Outcome, Reverse<u32>)> = None;
    let mut dependent: Vec<(Outcome, u32)> = Vec::new();
    for index in deciding {
        match standings[*index as usize].outcomes(at.modifiers) {
            (unmet, met) if unmet == met => fixed = fixed.max(Some((unmet, Reverse(*index)))),
            (unmet, _) => dependent.push((unmet, *index)),
        }
    }
    if dependent.is_empty() {
        let Some((outcome, Reverse(rule))) = fixed else { return Ok((by_posture(posture), rank)) };
        return Ok((of_outcome(outcome, rule, posture), rank));
    }
    Ok((by_arguments(standings, fixed, &dependent, posture, sets)?, rank))
}

fn of_outcome(outcome: Outcome, rule: u32, posture: Option<Posture>) -> Decision {
    let by_rule = |effect| Decision { effect, rule: Some(rule), ..Decision::PERMIT };
    match outcome {
        Outcome::Posture => by_posture(posture),
        Outcome::Permit => by_rule(Effect::Permit),
        Outcome::Audit => by_rule(Effect::Audit),
        Outcome::Block => by_rule(Effect::Block),
    }
}

/// What rules of one rank say together, of which `dependent` ones permit if the arguments are among theirs.
fn by_arguments(
    standings: &[Standing],
    fixed: Option<(Outcome, Reverse<u32>)>,
    dependent: &[(Outcome, u32)],
    posture: Option<Posture>,
    sets: &mut ArgumentSets,
) -> Result<Decision, Conflict> {
    let arguments = |rule: u32| &standings[rule as usize].arguments;
    let (harshest, first) = dependent
        .iter()
        .copied()
        .max_by_key(|(outcome, rule)| (*outcome, Reverse(*rule)))
        .expect("the caller has some");
    if let Some((outcome, Reverse(rule))) = fixed
        && (outcome >= harshest && (outcome > Outcome::Posture))
    {
        return Ok(of_outcome(outcome, rule, posture));
    }
    let conflict = |other: u32| Conflict::Actions { one: first, other };
    // An Allow's alternatives: any of the rules may permit.
    if harshest == Outcome::Posture {
        let alternatives = dependent.iter().map(|(_, rule)| arguments(*rule).clone()).collect();
        let arguments = sets.intern(alternatives, first)?;
        return Ok(Decision { rule: Some(first), arguments, ..by_posture(posture) });
    }
    if let Some((Outcome::Audit, Reverse(other))) = fixed {
        return Err(conflict(other));
    }
    let all = |wanted: Outcome| {
        let rules = dependent.iter().filter(move |(outcome, _)| *outcome == wanted);
        rules.map(|(_, rule)| arguments(*rule).clone()).reduce(|one, other| &one & &other)
    };
    let held = all(harshest).unwrap_or_default();
    if harshest == Outcome::Block
        && let Some(audited) = all(Outcome::Audit)
        && !held.is_subset(&audited)
    {
        let other = dependent.iter().find(|(outcome, _)| *outcome == Outcome::Audit).map_or(first, |(_, rule)| *rule);
        return Err(conflict(other));
    }
    // The rule that asks for just these arguments, if one does: it is the one that they fail.
    let mut asking = dependent.iter().filter(|(outcome, rule)| *outcome == harshest && *arguments(*rule) == held);
    let named = asking.next().map_or(first, |(_, rule)| *rule);
    let arguments = sets.intern(BTreeSet::from([held]), named)?;
    Ok(Decision { arguments, ..of_outcome(harshest, named, posture) })
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
