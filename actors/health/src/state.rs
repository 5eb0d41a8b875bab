//! Conditions by name: the pure part.

use std::collections::BTreeMap;

use palisade_domain::Slot;
use palisade_protocol::{Condition, ConditionReported, PolicyInstalled, Readiness};
use palisade_world::Gap;

/// At most this many names: one for each workload (4,096) and a few dozen of the node's own. What comes after is counted, not kept.
pub const MAX_CONDITIONS: usize = 8_192;

/// The condition of what the kernel's matrix promises.
pub const ENFORCEMENT: &str = "enforcement";

/// All conditions.
#[derive(Debug, Default)]
pub struct State {
    conditions: BTreeMap<String, Condition>,
    unkept: u64,
    /// By slot; as many as there are slots.
    installed: BTreeMap<Slot, PolicyInstalled>,
}

impl State {
    /// Waits for these names before the node counts as ready.
    #[must_use]
    pub fn awaiting<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let pending = |name: &str| (name.to_owned(), Condition::Pending("not reported yet".into()));
        Self { conditions: names.into_iter().map(pending).collect(), ..Self::default() }
    }

    /// One report; the last for a name counts.
    pub fn step(&mut self, report: ConditionReported) {
        match report.condition {
            None => {
                self.conditions.remove(&report.name);
            }
            Some(condition) if self.conditions.len() < MAX_CONDITIONS || self.conditions.contains_key(&report.name) => {
                self.conditions.insert(report.name, condition);
            }
            Some(_) => self.unkept += 1,
        }
    }

    /// What of the matrix is not in force now; whether that is news. Policies that count as in force are not held then: not ready.
    pub fn enforces(&mut self, impairments: &[Gap]) -> bool {
        let said: Vec<String> = impairments.iter().map(|gap| format!("{}: {}", gap.what, gap.reason)).collect();
        let condition = if said.is_empty() { Condition::Good } else { Condition::Failed(said.join("; ")) };
        let before = self.conditions.insert(ENFORCEMENT.into(), condition);
        before.unwrap_or(Condition::Good) != self.conditions[ENFORCEMENT]
    }

    /// A policy is in force.
    pub fn installed(&mut self, fact: PolicyInstalled) {
        self.installed.insert(fact.slot, fact);
    }

    /// A slot has no workload any more.
    pub fn released(&mut self, slot: Slot) {
        self.installed.remove(&slot);
    }

    /// What is in force, by slot.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyInstalled> {
        self.installed.values().cloned().collect()
    }

    /// Ready: nothing is pending or failed. What is degraded works.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut conditions = self.conditions.clone();
        if self.unkept > 0 {
            conditions.insert(
                "conditions".into(),
                Condition::Degraded(format!("{} reports not kept: {MAX_CONDITIONS} at most", self.unkept)),
            );
        }
        let ready = !conditions.values().any(|c| matches!(c, Condition::Pending(_) | Condition::Failed(_)));
        Readiness { ready, conditions }
    }
}
