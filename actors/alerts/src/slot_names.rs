//! Who has which slot, and what its rules are called.
//!
//! Invariant: what one workload of a slot was told by is gone with it: its rules, what is seen of it, and what of its policies is not held.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{AlertRule, AlertWorkload, DeviceRules, Slot, UnixNanos, Visibility, Workload};
use palisade_kernel_abi::record::Header;
use palisade_protocol::{VisibilityChanged, WorkloadNamed, attribution::Attribution};

use crate::{
    compose::{Fields, NodeNames, SELF_PROTECTION},
    rules::RuleIndex,
    silence::RuleKey,
    unheld::{self, Unheld},
};

/// Who has a slot.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) workload: Arc<Workload>,
    /// `key=value` by commas, as each of its lines has them.
    pub(crate) labels: String,
}

/// Who has which slot, and what its rules are called. Said once, so it outlives the actor.
#[derive(Debug, Default)]
pub struct Names {
    /// As many as the kernel has slots.
    workloads: BTreeMap<Slot, Named>,
    /// Where it is not the default.
    pub(crate) visibility: BTreeMap<Slot, Visibility>,
    pub(crate) rules: Attribution,
    pub(crate) unheld: Unheld,
    /// The rules by which devices of the host were judged last.
    pub(crate) devices: Arc<DeviceRules>,
}

impl Names {
    /// A slot is this workload's from now on.
    pub fn named(&mut self, fact: WorkloadNamed) {
        let labels: Vec<String> = fact.workload.labels.iter().map(|(key, value)| label(key, value)).collect();
        self.workloads.insert(fact.slot, Named { workload: fact.workload, labels: labels.join(",") });
    }

    /// What is seen of a slot from now on.
    pub fn visible(&mut self, fact: &VisibilityChanged) {
        self.visibility.insert(fact.slot, fact.visibility);
    }

    pub(crate) fn workload(&self, slot: Slot) -> Option<&Named> {
        self.workloads.get(&slot)
    }

    pub(crate) fn rule(&self, slot: Slot, key: &RuleKey) -> Option<AlertRule> {
        match key.rule? {
            RuleIndex::NotHeld(at) => self.unheld.part(slot, key.generation, at).map(unheld::rule_of),
            RuleIndex::Device(at) if self.devices.generation == key.generation => {
                self.devices.rules.get(at).map(|rule| rule.rule.clone())
            }
            RuleIndex::Device(_) => None,
            RuleIndex::SelfProtection => Some(own_protection()),
            RuleIndex::Deciding(rule) => {
                self.rules.rule(slot, key.generation, key.policy, rule).map(|rule| rule.told())
            }
        }
    }
}

/// What stands in a policy's place where none decides.
fn own_protection() -> AlertRule {
    AlertRule {
        policy: SELF_PROTECTION.to_owned(),
        policy_name: SELF_PROTECTION.to_owned(),
        place: String::new(),
        severity: None,
        tags: Vec::new(),
        message: Some("an act of a workload against Palisade itself; no policy permits it".to_owned()),
    }
}

/// `key=value` in which no comma passes for the next label, nor an equals sign in the key for its end: labels of Docker may hold anything,
/// those of Kubernetes none of these.
fn label(key: &str, value: &str) -> String {
    let escaped = |text: &str| text.replace('\\', "\\x5c").replace(',', "\\x2c");
    format!("{}={}", escaped(key).replace('=', "\\x3d"), escaped(value))
}

/// What the fields of a slot's line are made of.
pub(crate) fn fields<'a>(node: &'a NodeNames, names: &'a Names, slot: Slot, time: UnixNanos) -> Fields<'a> {
    let named = names.workload(slot);
    Fields {
        node,
        time,
        workload: named.map(|named| &*named.workload),
        labels: named.map_or("", |named| &named.labels),
        host: slot == Slot::HOST,
    }
}

/// The workload as a record's line names it: one that nobody has admitted is told by its cgroup.
pub(crate) fn workload_of(names: &Names, header: &Header) -> AlertWorkload {
    let slot = Slot(header.slot);
    let mut named = workload(names, slot);
    if slot == Slot::UNKNOWN {
        named.container = format!("cgroup {}", header.cgroup_id);
    }
    named
}

/// The workload as lines name it.
pub(crate) fn workload(names: &Names, slot: Slot) -> AlertWorkload {
    let named = names.workload(slot).map(|named| &named.workload);
    let text = |of: fn(&Workload) -> &str| named.map(|workload| of(workload).to_owned()).unwrap_or_default();
    AlertWorkload {
        name: named.map_or_else(|| format!("slot {slot}"), |workload| workload.name.clone()),
        namespace: text(|workload| &workload.namespace),
        container: text(|workload| &workload.container),
        container_id: text(|workload| workload.container_id.as_ref().map_or("", |id| &id.0)),
    }
}
