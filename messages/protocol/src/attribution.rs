//! Which rule a decision names: the compiled policies of the last generations, by slot. Whoever reads decisions (alerts, a recorder, a replay)
//! keeps one.
//!
//! Invariant: a record names its generation and its policy's number, and its rule is looked up in that policy only; one that is no longer
//! kept gives none, never a rule of another generation. A policy is known here before it is in force ([`PolicyAnnounced`]), and the one in
//! force is never what is given up for others.
//!
//! Bounds: [`GENERATIONS`] policies of each of as many slots as are told of. The list of a policy's rules is shared by all slots with it.
//!
//! Decision: by the number as well as by the generation, because another policy may come to a slot within one generation (a relabelled
//! container, the slot's next workload) while records of the former are on their way. The number is known once the policy is in force;
//! a record with a number that nobody is known to have is of the policy that was announced last.
//!
//! Limit: of two policies of one generation and slot with the same number the later one names the rules. That are two that decide
//! alike (they share a blob), and all of them where nothing numbers policies (the kernel takes no BPF at all). What a slot's former
//! workload had stays until newer policies displace it, since its last records may come late.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    sync::Arc,
};

use crate::{CompiledPolicy, PolicyAnnounced, PolicyInstalled};
use palisade_domain::{Generation, Slot};
use palisade_policy::ir::Rule;

/// Policies kept for each slot: records are read within milliseconds, sets change in seconds.
pub const GENERATIONS: usize = 4;

/// Which rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecidingRule {
    /// Of [`CompiledPolicy::rules`], as decision words have it.
    Compiled(u32),
    /// Of [`CompiledPolicy::observed`].
    Observed(u32),
}

/// One policy of one slot, without the blob that it compiled to: no rules where no policy selected the workload.
#[derive(Debug)]
struct Policy {
    generation: Generation,
    /// None before it is in force, or where records tell none.
    number: Option<NonZeroU32>,
    rules: Arc<[Arc<Rule>]>,
    /// Those that are decided by records.
    observed: Arc<[Arc<Rule>]>,
}

impl Policy {
    fn is(&self, generation: Generation, number: Option<NonZeroU32>) -> bool {
        self.generation == generation && self.number == number
    }
}

#[derive(Debug, Default)]
struct OfSlot {
    in_force: Option<(Generation, Option<NonZeroU32>)>,
    kept: VecDeque<Policy>,
}

/// The rules that decisions of the last generations name; as many slots as the kernel has.
#[derive(Debug, Default)]
pub struct Attribution {
    slots: BTreeMap<Slot, OfSlot>,
    /// Slots with rules in force that are decided by records.
    observing: BTreeSet<Slot>,
}

/// Rules of the policy in force that are decided by records.
#[derive(Debug, Clone, Copy)]
pub struct Observing<'a> {
    /// Of which set.
    pub generation: Generation,
    /// The policy's number; 0: none.
    pub policy: u32,
    /// As [`CompiledPolicy::observed`] has them.
    pub rules: &'a [Arc<Rule>],
}

impl Attribution {
    /// A policy may decide for a slot from now on.
    pub fn announced(&mut self, fact: &PolicyAnnounced) {
        self.keep(fact.slot, fact.generation, None, fact.policy.as_deref());
    }

    /// A policy is in force for a slot.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        let number = NonZeroU32::new(fact.installed.number);
        self.slots.entry(fact.slot).or_default().in_force = Some((fact.generation, number));
        self.keep(fact.slot, fact.generation, number, fact.policy.as_deref());
        if fact.policy.as_ref().is_some_and(|policy| !policy.observed.is_empty()) {
            self.observing.insert(fact.slot);
        } else {
            self.observing.remove(&fact.slot);
        }
    }

    /// The slot is another workload's from now on, which has no policy yet; records of the last one still find its rules.
    pub fn vacated(&mut self, slot: Slot) {
        self.observing.remove(&slot);
    }

    /// Whether any workload has rules that are decided by records.
    #[must_use]
    pub fn any_observing(&self) -> bool {
        !self.observing.is_empty()
    }

    /// The rules by which the slot's records are decided.
    #[must_use]
    pub fn observing(&self, slot: Slot) -> Option<Observing<'_>> {
        let of = self.slots.get(&slot).filter(|_| self.observing.contains(&slot))?;
        let (generation, number) = of.in_force?;
        let policy = of.kept.iter().find(|kept| kept.is(generation, number))?;
        Some(Observing { generation, policy: number.map_or(0, NonZeroU32::get), rules: &policy.observed })
    }

    fn keep(
        &mut self,
        slot: Slot,
        generation: Generation,
        number: Option<NonZeroU32>,
        policy: Option<&CompiledPolicy>,
    ) {
        let of = self.slots.entry(slot).or_default();
        // What was announced last is this one, or never came into force.
        of.kept.retain(|kept| !kept.is(generation, None) && !kept.is(generation, number));
        let rules = policy.map(|policy| Arc::clone(&policy.rules)).unwrap_or_default();
        let observed = policy.map(|policy| Arc::clone(&policy.observed)).unwrap_or_default();
        of.kept.push_back(Policy { generation, number, rules, observed });
        while of.kept.len() > GENERATIONS {
            let in_force = |kept: &Policy| of.in_force.is_some_and(|(of, number)| kept.is(of, number));
            let oldest = of.kept.iter().position(|kept| !in_force(kept)).unwrap_or_default();
            of.kept.remove(oldest);
        }
    }

    /// The rule at an index of the policy that `slot` had in `generation` by the number of `policy`.
    #[must_use]
    pub fn rule(&self, slot: Slot, generation: Generation, policy: u32, rule: DecidingRule) -> Option<&Arc<Rule>> {
        let of = self.slots.get(&slot)?;
        let by = |number| of.kept.iter().find(|kept| kept.is(generation, number));
        let found = NonZeroU32::new(policy).and_then(|number| by(Some(number))).or_else(|| by(None))?;
        match rule {
            DecidingRule::Compiled(index) => found.rules.get(usize::try_from(index).ok()?),
            DecidingRule::Observed(index) => found.observed.get(usize::try_from(index).ok()?),
        }
    }
}
