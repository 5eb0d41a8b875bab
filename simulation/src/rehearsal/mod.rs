//! What policies would deny of what traces hold.
//!
//! Invariant: an act is decided by the blob that a node would hold and by the walk that its kernel does ([`act`]); where a record lacks
//! what the decision hangs on, the act is undecidable and counted with what is missing, never guessed. An act counts once: as the
//! record of what was done, or as the decision about what was then denied.
//!
//! What is rehearsed is a world that has already happened: what a workload would have done after a denial, nobody knows.
//!
//! Limits: acts that the trace does not hold (what visibility did not ask for, what is counted as lost) are not rehearsed, and the report has the
//! losses. Not rehearsed are presets and rules on system calls, whose rules audit; what the container runtime itself did is left out.

pub mod act;
mod report;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{Slot, Workload};
use palisade_kernel_abi::{
    blob::Effect,
    record::{Body, Header as RecordHeader, Kind, Outcome, Phase, Record, RecordReader},
};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::state::{Bounds, State as Compiler};
use palisade_protocol::{CompilePolicy, CompiledPolicy};
use palisade_wire::trace::{Chosen, Fact, Header, Loss, Part, Picture, What};
use palisade_world::{BootNanos, visibility::class_of_kind};

pub use act::{Judged, Missing};
pub use report::{Denied, Example, Report, Undecided};

/// Acts that folded records are still matched with; what is older is matched no more, and its repeats are counted as undecidable.
const MAX_FOLDED: usize = 65_536;

/// Decides traces by one policy set, one trace after the other.
#[derive(Debug)]
pub struct Rehearsal {
    set: PolicySet,
    postures: Postures,
    chosen: Vec<String>,
    compiler: Compiler,
    report: Report,
}

/// One trace of a rehearsal.
#[derive(Debug)]
pub struct OfTrace<'r> {
    rehearsal: &'r mut Rehearsal,
    picture: Picture,
    chosen: Chosen,
    policies: BTreeMap<Slot, Option<Arc<CompiledPolicy>>>,
    workloads: BTreeMap<Slot, Arc<Workload>>,
    visible: BTreeMap<Slot, palisade_domain::Visibility>,
    visibility: palisade_domain::Visibility,
    unix_minus_boot_ns: u64,
    loss: Loss,
    /// Acts that a folded record may repeat: process, time and kind.
    sent: BTreeMap<(u64, u32, Kind), Verdict>,
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It stands for nothing that was done.
    NoAct,
    Permitted,
    Audited,
    /// Which row of the report.
    Denied(usize),
    Undecided(usize),
}

impl Rehearsal {
    /// Of this set, for workloads of these names or for all.
    #[must_use]
    pub fn new(set: PolicySet, postures: Postures, workloads: Vec<String>) -> Self {
        let (compiler, report) = (Compiler::new(Bounds::default()), Report::default());
        Self { set, postures, chosen: workloads, compiler, report }
    }

    /// Begins a trace.
    pub fn trace(&mut self, header: &Header) -> OfTrace<'_> {
        self.report.traces += 1;
        OfTrace {
            picture: Picture::default(),
            chosen: Chosen::new(self.chosen.clone()),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
            visible: BTreeMap::new(),
            visibility: header.visibility,
            unix_minus_boot_ns: header.unix_ns.saturating_sub(header.boot_ns),
            loss: Loss::default(),
            sent: BTreeMap::new(),
            rehearsal: self,
        }
    }

    /// All of it, the most denied first.
    #[must_use]
    pub fn report(mut self) -> Report {
        self.report.sort();
        self.report
    }

    /// The policy of a workload; none where none selects it.
    fn policy(&mut self, workload: &Workload) -> Option<Arc<CompiledPolicy>> {
        let rules = self.set.rules_for(workload, &BTreeMap::new(), self.postures);
        if rules.rules.is_empty() {
            return None;
        }
        let compiled = self.compiler.step(BootNanos(0), &CompilePolicy { rules }, &mut || false);
        match compiled {
            Ok(compiled) => Some(compiled),
            Err(refused) => {
                self.report.refused(&format!("{}/{}", workload.namespace, workload.name), &refused.reason);
                None
            }
        }
    }
}

impl OfTrace<'_> {
    /// One more part.
    pub fn part(&mut self, part: &Part) {
        match part {
            Part::Facts(facts) => facts.iter().for_each(|fact| self.fact(fact)),
            Part::Records(batches) => self.block(batches.bytes()),
            // All of it was read.
            Part::Checkpoint(_) => {}
        }
    }

    /// The trace is over.
    pub fn end(self) {
        self.rehearsal.report.missing_records += self.loss.missing + self.loss.shed + self.loss.malformed;
    }

    fn fact(&mut self, fact: &Fact) {
        self.chosen.fact(fact);
        self.picture.fact(fact);
        match &fact.what {
            What::WorkloadNamed(slot, workload) => {
                let policy = if self.chosen.has(*slot) { self.rehearsal.policy(workload) } else { None };
                if policy.is_some() {
                    self.rehearsal.report.selected(workload);
                }
                self.policies.insert(*slot, policy);
                self.workloads.insert(*slot, Arc::clone(workload));
            }
            What::Visible(slot, visibility) => drop(self.visible.insert(*slot, *visibility)),
            What::Settings { visibility, .. } => self.visibility = *visibility,
            What::Clock(offset) => self.unix_minus_boot_ns = *offset,
            What::Loss(loss) => self.loss = loss.clone(),
            _ => {}
        }
    }

    /// In the order of their times: the rings of several CPUs, and what a responder tells, stand one after the other, and a process must be
    /// known before its acts. A node has only its batches to put in order; a block is up to a second of them.
    fn block(&mut self, bytes: &[u8]) {
        let mut records: Vec<Record<'_>> = RecordReader::new(bytes).flatten().collect();
        records.sort_by_key(|record| record.header.boot_ns);
        for record in &records {
            self.rehearsal.report.records += 1;
            self.record(record);
            self.picture.record(record);
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        let header = &record.header;
        let Some(policy) = self.policies.get(&Slot(header.slot)).cloned().flatten() else { return };
        if header.phase == Phase::Runtime {
            return;
        }
        if let Body::Folded(folded) = &record.body {
            self.folded(header, folded.of_kind, folded.of_boot_ns, u64::from(folded.repeats));
            return;
        }
        let verdict = if self.counts(record) { self.judged(record, &policy) } else { Verdict::NoAct };
        if self.sent.len() >= MAX_FOLDED {
            self.sent.pop_first();
        }
        self.sent.insert((header.boot_ns, header.tgid, record.kind()), verdict);
    }

    fn judged(&mut self, record: &Record<'_>, policy: &CompiledPolicy) -> Verdict {
        let acting = self.picture.acting(&record.header);
        let Some(judged) = act::judge(&policy.blob, record, acting) else { return Verdict::NoAct };
        let acting = acting.map_or("", |(executable, _)| executable).to_owned();
        self.take(record, policy, &judged, acting)
    }

    /// Whether the record stands for an act, and no other record does so better.
    fn counts(&self, record: &Record<'_>) -> bool {
        let Some(taken) = record.decision else { return act::happened(&record.body) };
        match taken.outcome {
            // It did not happen, so that nothing else tells of it.
            Outcome::Denied | Outcome::Killed => true,
            // It happened: where acts of its class are seen (or any exec), there is a record of that.
            Outcome::Observed | Outcome::Unenforceable => {
                let seen = self.visible.get(&Slot(record.header.slot)).copied().unwrap_or(self.visibility);
                let is_seen = class_of_kind(record.kind()).is_some_and(|class| seen.has(class));
                !is_seen && record.kind() != Kind::Exec
            }
        }
    }

    fn take(&mut self, record: &Record<'_>, policy: &CompiledPolicy, judged: &Judged, acting: String) -> Verdict {
        let report = &mut self.rehearsal.report;
        report.acts += 1;
        let decision = match judged {
            Judged::Decided(decision) => decision,
            Judged::Undecidable(missing) => return Verdict::Undecided(report.undecided(*missing, 1)),
        };
        match decision.effect {
            Effect::Permit => {
                report.permitted += 1;
                return Verdict::Permitted;
            }
            Effect::Audit => {
                report.audited += 1;
                return Verdict::Audited;
            }
            Effect::Block => {}
        }
        let rule = decision.rule.and_then(|index| policy.rules.get(usize::try_from(index).ok()?));
        let workload = self.workloads.get(&Slot(record.header.slot)).map(|workload| report::name(workload));
        let denied = Denied {
            policy: rule.map_or_else(|| "DefaultPosture".into(), |rule| rule.policy.to_string()),
            place: rule.map(|rule| rule.place.clone()).unwrap_or_default(),
            workload: workload.unwrap_or_default(),
            process: acting,
            count: 0,
            examples: Vec::new(),
        };
        Verdict::Denied(report.denied(denied, || report::example(record, self.unix_minus_boot_ns)))
    }

    /// So many acts more that equal one that was sent.
    fn folded(&mut self, header: &RecordHeader, kind: Kind, boot_ns: u64, repeats: u64) {
        let report = &mut self.rehearsal.report;
        let verdict = self.sent.get(&(boot_ns, header.tgid, kind));
        report.acts += if verdict == Some(&Verdict::NoAct) { 0 } else { repeats };
        match verdict {
            Some(Verdict::NoAct) => {}
            Some(Verdict::Permitted) => report.permitted += repeats,
            Some(Verdict::Audited) => report.audited += repeats,
            Some(Verdict::Denied(row)) => report.more(*row, repeats),
            Some(Verdict::Undecided(row)) => report.more_undecided(*row, repeats),
            None => {
                report.undecided(Missing::Original, repeats);
            }
        }
    }
}
