//! Which rule a decision names: the compiled policies of the last generations, by slot.
//!
//! Invariant: a record names its generation, and its rule is looked up in that generation only; one that is no longer kept gives an alert
//! without rule, counted as unattributed, never one with a rule of another generation. A policy is known here before it is in force
//! ([`PolicyAnnounced`]), and the one in force is never what is given up for others.
//!
//! Decision: what a slot's former workload had stays until newer generations displace it, since its last records may come late. It is
//! never mistaken for the next workload's: generations only grow, and a policy of the same generation takes its place.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use palisade_domain::{AlertRule, Generation, Slot};
use palisade_policy::ir::Rule;
use palisade_protocol::{CompiledPolicy, PolicyAnnounced, PolicyInstalled};

/// Generations kept for each slot: records are read within milliseconds, sets change in seconds.
pub const GENERATIONS: usize = 4;

/// A set's rules for one slot, without the blob that they compiled to: none where no policy selected the workload.
type Kept = (Generation, Vec<Arc<Rule>>);

#[derive(Debug, Default)]
struct OfSlot {
    in_force: Option<Generation>,
    kept: VecDeque<Kept>,
}

/// The rules that decisions of the last generations name; as many slots as the kernel has.
#[derive(Debug, Default)]
pub struct Rules {
    slots: BTreeMap<Slot, OfSlot>,
}

impl Rules {
    /// A policy may decide for a slot from now on.
    pub fn announced(&mut self, fact: &PolicyAnnounced) {
        self.keep(fact.slot, fact.generation, fact.policy.as_deref());
    }

    /// A policy is in force for a slot.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        self.slots.entry(fact.slot).or_default().in_force = Some(fact.generation);
        self.keep(fact.slot, fact.generation, fact.policy.as_deref());
    }

    fn keep(&mut self, slot: Slot, generation: Generation, policy: Option<&CompiledPolicy>) {
        let of = self.slots.entry(slot).or_default();
        of.kept.retain(|(kept, _)| *kept != generation);
        of.kept.push_back((generation, policy.map(|policy| policy.rules.clone()).unwrap_or_default()));
        while of.kept.len() > GENERATIONS {
            let oldest = of.kept.iter().position(|(kept, _)| Some(*kept) != of.in_force).unwrap_or_default();
            of.kept.remove(oldest);
        }
    }

    /// The rule at an index of the policy that `slot` had in `generation`.
    #[must_use]
    pub fn rule(&self, slot: Slot, generation: Generation, index: u32) -> Option<AlertRule> {
        let (_, rules) = self.slots.get(&slot)?.kept.iter().find(|(kept, _)| *kept == generation)?;
        let rule = rules.get(usize::try_from(index).ok()?)?;
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
