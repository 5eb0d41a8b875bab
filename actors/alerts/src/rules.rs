//! Which rule a decision names: the compiled policies of the last generations, by slot.
//!
//! Invariant: a record names its generation, and its rule is looked up in that generation only; one that is no longer kept gives an alert
//! without rule, counted as unattributed, never one with a rule of another generation.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use palisade_domain::{AlertRule, Generation, Slot};
use palisade_protocol::{CompiledPolicy, PolicyInstalled};

/// Generations kept for each slot: records are read within milliseconds, sets change in seconds.
pub const GENERATIONS: usize = 4;

/// A set's policy for one slot; `None` where no policy selected the workload.
type Kept = (Generation, Option<Arc<CompiledPolicy>>);

/// The rules that decisions of the last generations name.
#[derive(Debug, Default)]
pub struct Rules {
    slots: BTreeMap<Slot, VecDeque<Kept>>,
}

impl Rules {
    /// A policy is in force for a slot.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        let kept = self.slots.entry(fact.slot).or_default();
        kept.retain(|(generation, _)| *generation != fact.generation);
        kept.push_back((fact.generation, fact.policy.clone()));
        while kept.len() > GENERATIONS {
            kept.pop_front();
        }
    }

    /// The slot is another's from now on.
    pub fn forget(&mut self, slot: Slot) {
        self.slots.remove(&slot);
    }

    /// The rule at an index of the policy that `slot` had in `generation`.
    #[must_use]
    pub fn rule(&self, slot: Slot, generation: Generation, index: u32) -> Option<AlertRule> {
        let (_, policy) = self.slots.get(&slot)?.iter().find(|(kept, _)| *kept == generation)?;
        let rule = policy.as_ref()?.rules.get(usize::try_from(index).ok()?)?;
        Some(AlertRule {
            policy: rule.policy.to_string(),
            policy_name: rule.policy.name.clone(),
            place: rule.place.clone(),
            severity: rule.severity,
            tags: rule.tags.clone(),
            message: rule.message.clone(),
        })
    }
}
