//! Which parts of policies are not held, and of which that is still to be said.
//!
//! Invariant: of each slot a part (policy, word, reason, places) is said once, and again only when a set changes it; an installation of
//! the same says nothing. What is said is remembered with the names, so that a restart repeats nothing.
//!
//! Bounds: of one installation [`MAX_LINES`] parts are said one by one, and of the rest how many there are; a part of each slot is
//! remembered as it was told, which is one shared list.
//!
//! Decision: a line for each part, and not only a warning in the runtime's own log, because who reads alerts is who believes the policy.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{AlertRule, Generation, Slot};
use palisade_protocol::{NotHeld, PolicyInstalled};

/// Parts that one installation says one by one.
pub const MAX_LINES: usize = 16;

#[derive(Debug)]
struct OfSlot {
    generation: Generation,
    parts: Arc<[NotHeld]>,
    /// Indices of `parts`, in order.
    unsaid: Vec<usize>,
}

/// What is to be said of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaid {
    /// Whose.
    pub slot: Slot,
    /// The set in force.
    pub generation: Generation,
    /// Which parts, as [`Unheld::part`] takes them.
    pub parts: Vec<usize>,
    /// How many besides.
    pub more: usize,
}

/// See the module; as many slots as the kernel has.
#[derive(Debug, Default)]
pub struct Unheld {
    slots: BTreeMap<Slot, OfSlot>,
    is_due: bool,
}

impl Unheld {
    /// A policy is in force.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        let before = self.slots.remove(&fact.slot);
        if fact.not_held.is_empty() {
            return;
        }
        let is_said = |part: &NotHeld| {
            let is_unsaid = |of: &OfSlot, at| of.unsaid.contains(&at);
            let at = |of: &OfSlot| of.parts.iter().position(|known| known == part);
            before.as_ref().is_some_and(|of| at(of).is_some_and(|at| !is_unsaid(of, at)))
        };
        let parts = fact.not_held.iter().enumerate();
        let unsaid: Vec<usize> = parts.filter(|(_, part)| !is_said(part)).map(|(at, _)| at).collect();
        self.is_due |= !unsaid.is_empty();
        let (generation, parts) = (fact.generation, Arc::clone(&fact.not_held));
        self.slots.insert(fact.slot, OfSlot { generation, parts, unsaid });
    }

    /// The slot is another workload's from now on.
    pub fn vacated(&mut self, slot: Slot) {
        self.slots.remove(&slot);
    }

    /// What is to be said, which is taken as said.
    pub fn take(&mut self) -> Vec<Unsaid> {
        if !std::mem::take(&mut self.is_due) {
            return Vec::new();
        }
        let due = self.slots.iter_mut().filter(|(_, of)| !of.unsaid.is_empty());
        due.map(|(slot, of)| {
            let mut parts = std::mem::take(&mut of.unsaid);
            let more = parts.len().saturating_sub(MAX_LINES);
            parts.truncate(MAX_LINES);
            Unsaid { slot: *slot, generation: of.generation, parts, more }
        })
        .collect()
    }

    /// A part of the set that is in force for the slot, as long as it is this generation's.
    #[must_use]
    pub fn part(&self, slot: Slot, generation: Generation, at: usize) -> Option<&NotHeld> {
        self.slots.get(&slot).filter(|of| of.generation == generation)?.parts.get(at)
    }
}

/// The policy of a part, as lines name it.
#[must_use]
pub fn rule_of(part: &NotHeld) -> AlertRule {
    let omitted = part.count.saturating_sub(part.places.len());
    let more = if omitted > 0 { format!(" and {omitted} more") } else { String::new() };
    AlertRule {
        policy: part.policy.to_string(),
        policy_name: part.policy.name.clone(),
        place: part.places.join(", ") + &more,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}
