//! The policies of a trace, compiled from its documents as the node compiled them.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{Generation, Slot, Workload};
use palisade_enforcer::unheld::not_held;
use palisade_kernel_abi::record::Record;
use palisade_policy::{
    PolicySet,
    ir::{Postures, Rule, WorkloadRules},
};
use palisade_policy_compiler::state::{Bounds, State as Compiler};
use palisade_protocol::{CompilePolicy, CompiledPolicy, PolicyAnnounced, PolicyInstalled};
use palisade_wire::trace::{Held, PolicyDocuments, PolicyOfSlot};
use palisade_world::{BootNanos, Gap, HeldFamily, Installed};

/// Policies of a slot that are told apart by number: as many as alerts keep.
const KEPT: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Policies {
    compiler: Compiler,
    sets: BTreeMap<Generation, (PolicySet, Postures)>,
    workloads: BTreeMap<Slot, Arc<Workload>>,
    /// By slot, the newest last: generation, number, policy.
    in_force: BTreeMap<Slot, Vec<(Generation, u32, Arc<CompiledPolicy>)>>,
}

impl Default for Policies {
    fn default() -> Self {
        let (sets, workloads, in_force) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { compiler: Compiler::new(Bounds::default()), sets, workloads, in_force }
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
        // A few sets are in use at a time: as many as slots lag behind.
        while self.sets.len() > 64 {
            self.sets.pop_first();
        }
        self.sets.insert(documents.generation, (set, documents.postures));
        refused.map(|refused| {
            format!("generation {}: a document that the node held is refused here: {refused}", documents.generation)
        })
    }

    fn rules(&self, policy: PolicyOfSlot) -> Option<Arc<WorkloadRules>> {
        let (set, postures) = self.sets.get(&policy.generation)?;
        Some(set.rules_for(self.workloads.get(&policy.slot)?, &BTreeMap::new(), *postures))
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
        (PolicyAnnounced { slot: policy.slot, generation: policy.generation, policy: compiled }, note)
    }

    pub(super) fn installed(&mut self, policy: PolicyOfSlot, held: &Held) -> (PolicyInstalled, Option<String>) {
        let (compiled, note) = self.compiled(policy);
        if let Some(compiled) = &compiled {
            let of_slot = self.in_force.entry(policy.slot).or_default();
            of_slot.push((policy.generation, held.number, Arc::clone(compiled)));
            if of_slot.len() > KEPT {
                of_slot.remove(0);
            }
        }
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
        (PolicyInstalled { slot, generation, policy: compiled, installed, not_held }, note)
    }

    /// The rule that a decision names.
    pub(super) fn rule(&self, slot: Slot, record: &Record<'_>, index: u32) -> Option<Arc<Rule>> {
        let taken = record.decision?;
        let of_slot = self.in_force.get(&slot)?;
        let is_it = |(generation, number, _): &&(Generation, u32, Arc<CompiledPolicy>)| {
            generation.0 == taken.generation && *number == taken.policy
        };
        let (_, _, policy) = of_slot.iter().rev().find(is_it)?;
        policy.rule(index).cloned()
    }
}
