//! The policies of a trace, compiled from its documents as the node compiled them.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{Generation, Posture, Slot, Workload};
use palisade_enforcer::{unheld::not_held, unknown};
use palisade_kernel_abi::record::Record;
use palisade_policy::{
    PolicySet,
    ir::{Postures, Rule, WorkloadRules},
};
use palisade_policy_compiler::state::{Bounds, State as Compiler};
use palisade_protocol::{
    CompilePolicy, CompiledPolicy, PolicyAnnounced, PolicyInstalled,
    attribution::{Attribution, DecidingRule},
};
use palisade_wire::trace::{Held, PolicyDocuments, PolicyOfSlot};
use palisade_world::{BootNanos, Gap, HeldFamily, Installed};

/// Sets that are kept, and the bytes of their documents; the newest always is.
const MAX_SETS: usize = 64;
const MAX_SET_BYTES: usize = 8 << 20;

#[derive(Debug)]
struct Set {
    policies: PolicySet,
    postures: Postures,
    /// Of its documents.
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Policies {
    compiler: Compiler,
    sets: BTreeMap<Generation, Set>,
    workloads: BTreeMap<Slot, Arc<Workload>>,
    attribution: Attribution,
}

impl Default for Policies {
    fn default() -> Self {
        let (sets, workloads, attribution) = (BTreeMap::new(), BTreeMap::new(), Attribution::default());
        Self { compiler: Compiler::new(Bounds::default()), sets, workloads, attribution }
    }
}

impl Policies {
    pub(super) fn named(&mut self, slot: Slot, workload: &Arc<Workload>) {
        self.workloads.insert(slot, Arc::clone(workload));
    }

    /// A set as the node read it; what of it this version does not understand.
    pub(super) fn set(&mut self, documents: &PolicyDocuments) -> Option<String> {
        let files = documents.documents.iter().map(|(name, content)| (name.as_str(), &content[..]));
        let (set, found) = PolicySet::parse_good(files);
        let refused = found.iter().find(|found| found.severity.refuses()).map(ToString::to_string);
        let (postures, bytes) = (documents.postures, documents.memory());
        self.sets.insert(documents.generation, Set { policies: set, postures, bytes });
        // A few sets are in use at a time: as many as slots lag behind.
        let all = |sets: &BTreeMap<Generation, Set>| sets.values().map(|set| set.bytes).sum::<usize>();
        while self.sets.len() > MAX_SETS || (self.sets.len() > 1 && all(&self.sets) > MAX_SET_BYTES) {
            self.sets.pop_first();
        }
        refused.map(|refused| {
            format!("generation {}: a document that the node held is refused here: {refused}", documents.generation)
        })
    }

    fn rules(&mut self, policy: PolicyOfSlot) -> Option<Arc<WorkloadRules>> {
        if policy.slot == Slot::UNKNOWN {
            return self.rules_of_the_unknown(policy.blob?);
        }
        let Set { policies, postures, .. } = self.sets.get(&policy.generation)?;
        Some(policies.rules_for(self.workloads.get(&policy.slot)?, &BTreeMap::new(), *postures))
    }

    /// No document says what the unknown are held to: it is the node's setting, one of two, and the blob tells which.
    fn rules_of_the_unknown(&mut self, blob: [u8; 32]) -> Option<Arc<WorkloadRules>> {
        let said = [Posture::Audit, Posture::Block].map(unknown::rules);
        let is_it = |rules: &Arc<WorkloadRules>| {
            let command = CompilePolicy { rules: Arc::clone(rules) };
            self.compiler.step(BootNanos(0), &command, &mut || false).is_ok_and(|compiled| compiled.id.0 == blob)
        };
        said.into_iter().find(is_it)
    }

    /// What the node compiled, if it compiles to the same here.
    fn compiled(&mut self, policy: PolicyOfSlot) -> (Option<Arc<CompiledPolicy>>, Option<String>) {
        let Some(blob) = policy.blob else { return (None, None) };
        let of = || format!("the policy of slot {} in generation {}", policy.slot, policy.generation);
        let Some(rules) = self.rules(policy) else {
            return (None, Some(format!("{} has no documents in the trace: its rules go without names", of())));
        };
        match self.compiler.step(BootNanos(0), &CompilePolicy { rules }, &mut || false) {
            Ok(compiled) if compiled.id.0 == blob => (Some(compiled), None),
            Ok(_) => (None, Some(format!("{} compiles to another blob here: its rules go without names", of()))),
            Err(error) => (None, Some(format!("{} does not compile here: {error}", of()))),
        }
    }

    pub(super) fn announced(&mut self, policy: PolicyOfSlot) -> (PolicyAnnounced, Option<String>) {
        let (compiled, note) = self.compiled(policy);
        let fact = PolicyAnnounced { slot: policy.slot, generation: policy.generation, policy: compiled };
        self.attribution.announced(&fact);
        (fact, note)
    }

    pub(super) fn installed(&mut self, policy: PolicyOfSlot, held: &Held) -> (PolicyInstalled, Option<String>) {
        let (compiled, note) = self.compiled(policy);
        let gap = |(what, reason): &(String, String)| Gap { what: what.clone(), reason: reason.clone() };
        let families = held
            .families
            .iter()
            .map(|(family, (tier, gaps))| (*family, HeldFamily { tier: *tier, gaps: gaps.iter().map(gap).collect() }));
        let installed = Installed { number: held.number, families: families.collect() };
        // As the enforcer says it; of a workload without a policy there is nothing to hold.
        let rules = self.rules(policy).filter(|_| policy.blob.is_some());
        let not_held = rules.map(|rules| not_held(&rules, &installed.families)).unwrap_or_default();
        let (slot, generation) = (policy.slot, policy.generation);
        let not_held = Arc::from(not_held);
        let fact = PolicyInstalled { slot, generation, policy: compiled, installed, not_held };
        self.attribution.installed(&fact);
        (fact, note)
    }

    /// The rule that a decision names.
    pub(super) fn rule(&self, slot: Slot, record: &Record<'_>, index: u32) -> Option<Arc<Rule>> {
        let taken = record.decision?;
        let rule = DecidingRule::Compiled(index);
        self.attribution.rule(slot, Generation(taken.generation), taken.policy, rule).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::tests as traces;

    #[test]
    fn unit_replay_knows_what_the_unknown_were_held_to_by_its_blob_alone() {
        let mut policies = Policies::default();
        for posture in [Posture::Audit, Posture::Block] {
            let command = CompilePolicy { rules: unknown::rules(posture) };
            let blob = Some(policies.compiler.step(BootNanos(0), &command, &mut || false).expect("small").id.0);
            let policy = PolicyOfSlot { slot: Slot::UNKNOWN, generation: Generation(1), blob };
            let (fact, note) = policies.announced(policy);
            assert_eq!(note, None);
            assert_eq!(fact.policy.map(|compiled| compiled.id.0), blob);
        }
        let policy = PolicyOfSlot { slot: Slot::UNKNOWN, generation: Generation(1), blob: Some([7; 32]) };
        assert!(policies.announced(policy).1.is_some(), "another version's");
    }

    #[test]
    fn unit_replay_keeps_one_list_of_rules_for_all_slots_of_a_policy() {
        let mut policies = Policies::default();
        let content: Arc<[u8]> = Arc::from(traces::POLICY.as_bytes());
        let documents = Arc::from([("a.yaml".to_owned(), content)]);
        let (generation, postures) = (Generation(1), Postures::default());
        assert_eq!(policies.set(&PolicyDocuments { generation, postures, documents }), None);
        policies.named(Slot(1), &traces::workload());
        let rules = policies.rules(PolicyOfSlot { slot: Slot(1), generation, blob: None }).expect("selected");
        let compile = |policies: &mut Policies| {
            let command = CompilePolicy { rules: Arc::clone(&rules) };
            policies.compiler.step(BootNanos(0), &command, &mut || false).expect("small")
        };
        let blob = Some(compile(&mut policies).id.0);
        for slot in (1..=20).map(Slot) {
            policies.named(slot, &traces::workload());
            let (fact, note) = policies.announced(PolicyOfSlot { slot, generation, blob });
            assert_eq!((fact.policy.is_some(), note), (true, None));
        }
        // The compiler's own, this answer's, and one of each slot.
        assert_eq!(Arc::strong_count(&compile(&mut policies).rules), 22);
    }

    #[test]
    fn unit_replay_keeps_the_newest_policy_sets_of_a_trace_within_their_bytes() {
        let mut policies = Policies::default();
        let content: Arc<[u8]> = vec![b'#'; 3 << 20].into();
        for generation in 1..10 {
            let documents = Arc::from([("a.yaml".to_owned(), Arc::clone(&content))]);
            let (generation, postures) = (Generation(generation), Postures::default());
            // Refused or not, as large as they are: a set of it holds no more than its documents.
            let _ = policies.set(&PolicyDocuments { generation, postures, documents });
        }
        assert_eq!(policies.sets.keys().copied().collect::<Vec<_>>(), [Generation(8), Generation(9)]);
    }
}
