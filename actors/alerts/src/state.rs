//! From batches of records to alerts: the pure part.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{Alert, AlertWorkload, Generation, Slot, UnixNanos, Verdict, Workload};
use palisade_kernel_abi::{
    blob::Decision,
    record::{Body, DecisionTaken, Record, RecordReader},
};
use palisade_protocol::{AlertCounts, PolicyAnnounced, PolicyInstalled, ProcessListed, WorkloadNamed};
use palisade_supervision::Kept;
use palisade_world::RecordBatch;

use crate::{by_slot::BySlot, compose, processes::Processes, rules::Rules};

/// Who has which slot, and what its rules are called. Said once, so it outlives the actor.
#[derive(Debug, Default)]
pub struct Names {
    /// As many as the kernel has slots.
    workloads: BTreeMap<Slot, Arc<Workload>>,
    rules: Rules,
}

impl Names {
    /// A slot is this workload's from now on; whether that is another than before.
    pub fn named(&mut self, fact: WorkloadNamed) -> bool {
        let container = fact.workload.container_id.clone();
        let before = self.workloads.insert(fact.slot, fact.workload);
        before.is_none_or(|before| before.container_id != container)
    }
}

/// What alerts are made from.
#[derive(Debug)]
pub struct State {
    node: String,
    names: Kept<Names>,
    processes: Processes,
    raised: BTreeMap<Verdict, u64>,
    by_slot: BySlot,
    unattributed: u64,
    malformed: u64,
}

impl State {
    /// For the node of this name, where nobody is known yet.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self::knowing(node, Kept::default())
    }

    /// For the node of this name, with the names that a state before this one heard.
    #[must_use]
    pub fn knowing(node: String, names: Kept<Names>) -> Self {
        Self {
            node,
            names,
            processes: Processes::default(),
            raised: BTreeMap::new(),
            by_slot: BySlot::default(),
            unattributed: 0,
            malformed: 0,
        }
    }

    /// A slot is this workload's from now on.
    pub fn named(&mut self, fact: WorkloadNamed) {
        let slot = fact.slot;
        if self.names.lock().named(fact) {
            self.by_slot.begin(slot);
        }
    }

    /// A policy may decide from now on.
    pub fn announced(&mut self, fact: &PolicyAnnounced) {
        self.names.lock().rules.announced(fact);
    }

    /// A policy is in force.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        self.names.lock().rules.installed(fact);
    }

    /// A process that ran before the probes.
    pub fn listed(&mut self, process: ProcessListed) {
        self.processes.listed(process);
    }

    /// Reads a batch and appends its alerts to `out`. `unix_minus_boot_ns` turns the records' clock into wall-clock time.
    pub fn read(&mut self, batch: &RecordBatch, unix_minus_boot_ns: u64, out: &mut Vec<Alert>) {
        for record in RecordReader::new(&batch.bytes) {
            let Ok(record) = record else {
                self.malformed += 1;
                continue;
            };
            self.by_slot.event(Slot(record.header.slot));
            // A process that executes something is that thing from now on; an exec that was refused or is only judged is not one.
            match &record.body {
                Body::Fork(fork) => self.processes.forked(&record.header, *fork),
                Body::Exec(exec) if record.decision.is_none() => self.processes.executed(&record.header, exec),
                Body::Exit(_) => self.processes.exited(&record.header),
                _ => {}
            }
            if let Some(taken) = record.decision {
                out.extend(self.alert(&record, &taken, unix_minus_boot_ns));
            }
        }
    }

    fn alert(&mut self, record: &Record<'_>, taken: &DecisionTaken, unix_minus_boot_ns: u64) -> Option<Alert> {
        let decision = Decision::from_word(taken.word);
        let action = compose::action(decision)?;
        let subject = compose::subject(&record.body)?;
        let slot = Slot(record.header.slot);
        let generation = Generation(taken.generation);
        let rule = decision.rule.and_then(|index| self.names.lock().rules.rule(slot, generation, taken.policy, index));
        self.unattributed += u64::from(decision.rule.is_some() && rule.is_none());
        let verdict = compose::verdict(taken.outcome);
        *self.raised.entry(verdict).or_default() += 1;
        self.by_slot.alert(slot, verdict);
        Some(Alert {
            time: UnixNanos(record.header.boot_ns.saturating_add(unix_minus_boot_ns)),
            node: self.node.clone(),
            workload: self.workload(slot),
            process_chain: self.processes.chain(&record.header),
            subject,
            rule,
            action,
            family: compose::family(taken.family),
            generation,
            tier: compose::tier(taken.tier),
            verdict,
            reason: compose::reason(record, taken),
        })
    }

    fn workload(&self, slot: Slot) -> AlertWorkload {
        let names = self.names.lock();
        let named = names.workloads.get(&slot);
        let text = |of: fn(&Workload) -> &str| named.map(|workload| of(workload).to_owned()).unwrap_or_default();
        AlertWorkload {
            name: named.map_or_else(|| format!("slot {slot}"), |workload| workload.name.clone()),
            namespace: text(|workload| &workload.namespace),
            container: text(|workload| &workload.container),
            container_id: text(|workload| workload.container_id.as_ref().map_or("", |id| &id.0)),
        }
    }

    /// The counts that this state keeps; the shell adds its own.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        AlertCounts {
            raised: self.raised.clone(),
            unattributed: self.unattributed,
            malformed: self.malformed,
            processes: self.processes.len() as u64,
            forgotten: self.processes.forgotten(),
            by_slot: self.by_slot.counts(),
            ..AlertCounts::default()
        }
    }
}
