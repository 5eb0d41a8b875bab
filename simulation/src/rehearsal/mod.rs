//! What policies would deny of what traces hold.
//!
//! Invariant: an act is decided by the blob that a node would hold and by the walk that its kernel does ([`act`]); where a record lacks
//! what the decision hangs on, the act is undecidable and counted with what is missing, never guessed. An act counts once: as the
//! record of what was done, or as the decision about what was then denied.
//!
//! What is rehearsed is a world that has already happened: what a workload would have done after a denial, nobody knows.
//!
//! Limits: acts that the trace does not hold (what visibility did not ask for, what is counted as lost) are not rehearsed, and the report has the
//! losses; an execution of a script is judged by the script and by its interpreter, as a node does, where the record has the script's own
//! path, and is undecidable where it has only what the caller called it, or where an older trace does not tell of scripts; a rule about
//! acts that nobody asked to see is named as not judged ([`coverage`]). What the container runtime itself did is left out. Rules on system
//! calls audit, here as anywhere. Default postures are those that are given, else the trace's own ([`Held`]).

pub mod act;
mod coverage;
mod lost;
mod postures;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use palisade_domain::{Slot, Visibility, Workload};
use palisade_kernel_abi::{
    blob::Effect,
    record::{Body, Header as RecordHeader, Kind, Outcome, Phase, Record, RecordReader},
};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::state::{Bounds, State as Compiler};
use palisade_protocol::{CompilePolicy, CompiledPolicy, observed_calls::CallOnPath};
use palisade_wire::trace::{Chosen, Fact, Header, Part, Picture, What, is_called};
use palisade_world::{BootNanos, visibility::class_of_kind};

use crate::{
    editing::Parts,
    import::{IMPORTED, OF_POLICIES},
};

pub use act::{Judged, Missing};
use lost::Lost;
pub use postures::{Given, Held, Of, Said};
pub use report::{Denied, Example, Report, Undecided, Unjudged};

/// Acts that folded records are still matched with; what is older is matched no more, and its repeats are counted as undecidable.
const MAX_FOLDED: usize = 65_536;
/// Changes of what is seen of a workload that are told apart: past them, what was seen before decides.
const MAX_SEEN: usize = 64;
/// Between a workload's name and what is seen of it, which the node tells one after the other.
const NAMING_NS: u64 = 1_000_000_000;

/// Decides traces by one policy set, one trace after the other.
#[derive(Debug)]
pub struct Rehearsal {
    set: PolicySet,
    given: Given,
    chosen: Vec<String>,
    /// Names of those that a workload of a trace is called by.
    called: BTreeSet<String>,
    compiler: Compiler,
    report: Report,
    /// Policies that select a workload.
    selecting: BTreeSet<String>,
}

/// One trace of a rehearsal.
#[derive(Debug)]
pub struct OfTrace<'r> {
    rehearsal: &'r mut Rehearsal,
    picture: Picture,
    chosen: Chosen,
    policies: BTreeMap<Slot, Option<Arc<CompiledPolicy>>>,
    /// What was seen of a slot with a policy, in order; the first is what was seen when it was named.
    seen: BTreeMap<Slot, Vec<Visibility>>,
    workloads: BTreeMap<Slot, Arc<Workload>>,
    visible: BTreeMap<Slot, Visibility>,
    visibility: Visibility,
    /// When a slot was named of which no record came since: what is seen of it is told in a fact behind that one.
    named: BTreeMap<Slot, u64>,
    /// The trace was made of what another tool saw: executions are in it if that tool was told to see them.
    is_imported: bool,
    /// Slots of whose workload an execution is in the trace.
    executed: BTreeSet<Slot>,
    /// Slots whose workload is gone: what is seen of nobody is of no account.
    gone: BTreeSet<Slot>,
    unix_minus_boot_ns: u64,
    lost: Lost,
    /// The first record's time.
    first_ns: Option<u64>,
    /// As the newest policy set of the trace has them.
    recorded: Option<Postures>,
    /// Those that policies are of.
    held: Held,
    /// What was judged since they came to hold is in the report.
    is_said: bool,
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
    /// Of this set, for workloads of these names or for all, by the default postures that are given and else those of each trace.
    #[must_use]
    pub fn new(set: PolicySet, given: Given, workloads: Vec<String>) -> Self {
        let (compiler, report) = (Compiler::new(Bounds::default()), Report::default());
        Self { set, given, chosen: workloads, called: BTreeSet::new(), compiler, report, selecting: BTreeSet::new() }
    }

    /// Rehearses a trace from its beginning to its end.
    ///
    /// # Errors
    /// What gives the bytes failed: what came before is judged all the same.
    pub fn whole(&mut self, from: &mut impl Parts) -> io::Result<()> {
        let mut of_trace = self.trace(from.header());
        while let Some(part) = from.next_part()? {
            of_trace.part(&part);
        }
        of_trace.end();
        Ok(())
    }

    /// Begins a trace.
    pub fn trace(&mut self, header: &Header) -> OfTrace<'_> {
        self.report.traces += 1;
        OfTrace {
            picture: Picture::default(),
            chosen: Chosen::new(self.chosen.clone()),
            policies: BTreeMap::new(),
            seen: BTreeMap::new(),
            workloads: BTreeMap::new(),
            visible: BTreeMap::new(),
            visibility: header.visibility,
            unix_minus_boot_ns: header.unix_ns.saturating_sub(header.boot_ns),
            named: BTreeMap::new(),
            is_imported: header.program.starts_with(IMPORTED),
            executed: BTreeSet::new(),
            gone: BTreeSet::new(),
            lost: Lost::default(),
            first_ns: None,
            recorded: None,
            held: Held::new(self.given, None),
            is_said: false,
            sent: BTreeMap::new(),
            rehearsal: self,
        }
    }

    /// So many places of the traces could not be read: what stood there is not judged.
    pub fn damaged(&mut self, places: usize) {
        self.report.damages += places as u64;
    }

    /// All of it, the most denied first.
    #[must_use]
    pub fn report(mut self) -> Report {
        self.report.unknown_workloads =
            self.chosen.iter().filter(|name| !self.called.contains(*name)).cloned().collect();
        self.report.unselected = self.set.iter().map(|policy| policy.reference.to_string()).collect();
        self.report.unselected.retain(|policy| !self.selecting.contains(policy));
        self.report.sort();
        self.report
    }

    /// The policy of a workload; none where none selects it.
    fn policy(&mut self, workload: &Workload, postures: Postures) -> Option<Arc<CompiledPolicy>> {
        self.selecting.extend(self.set.policies_for(workload).map(|policy| policy.reference.to_string()));
        let rules = self.set.rules_for(workload, &BTreeMap::new(), postures);
        for part in &rules.unheld {
            let why = format!("nothing holds it on any kernel: {}", part.reason);
            self.report.unjudged(&part.policy.to_string(), &part.place, workload, &why, 0);
        }
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
    pub fn end(mut self) {
        self.hold_recorded();
        let slots: Vec<Slot> = self.policies.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.cover(slot));
        self.rehearsal.report.missing_records += self.lost.records();
    }

    /// Before anything is judged: a snapshot names workloads before it tells of postures, and these may change while it is recorded.
    fn hold_recorded(&mut self) {
        let held = Held::new(self.rehearsal.given, self.recorded);
        if held.postures() != self.held.postures() {
            for (slot, policy) in &mut self.policies {
                if let (Some(_), Some(workload)) = (&policy, self.workloads.get(slot)) {
                    *policy = self.rehearsal.policy(workload, held.postures());
                }
            }
        }
        self.is_said &= held == self.held;
        self.held = held;
        if !std::mem::replace(&mut self.is_said, true) && !self.rehearsal.report.postures.contains(&held) {
            self.rehearsal.report.postures.push(held);
        }
    }

    /// Names the rules of a slot's workload that its records say nothing about.
    fn cover(&mut self, slot: Slot) {
        let (Some(Some(policy)), Some(workload)) = (self.policies.remove(&slot), self.workloads.get(&slot)) else {
            return;
        };
        let seen = self.seen.remove(&slot).unwrap_or_default();
        let has_executions = self.executed.remove(&slot) || !self.is_imported;
        for rule in policy.rules.iter().chain(policy.observed.iter()) {
            if let Some(why) = coverage::unjudged(rule, &seen, has_executions) {
                self.rehearsal.report.unjudged(&rule.policy.to_string(), &rule.place, workload, &why, 0);
            }
        }
    }

    /// What is seen of a slot now counts for what its records tell.
    fn sees(&mut self, slot: Slot) {
        let now = self.visible.get(&slot).copied().unwrap_or(self.visibility);
        let seen = self.seen.entry(slot).or_default();
        if !seen.contains(&now) && seen.len() < MAX_SEEN {
            seen.push(now);
        }
    }

    /// The same, as a fact of this moment says it: of a workload that makes no record too, since that nothing was to be seen of it is
    /// no reason to call its rules judged.
    fn sees_from(&mut self, slot: Slot, boot_ns: u64) {
        if !matches!(self.policies.get(&slot), Some(Some(_))) || self.gone.contains(&slot) {
            return;
        }
        // What was so before the fact behind its name counts for nothing.
        if self.named.get(&slot).is_some_and(|named| boot_ns <= named.saturating_add(NAMING_NS)) {
            self.seen.remove(&slot);
        }
        self.sees(slot);
    }

    fn fact(&mut self, fact: &Fact) {
        self.chosen.fact(fact);
        self.picture.fact(fact);
        match &fact.what {
            What::WorkloadNamed(slot, workload) => {
                let is_other = |before: &Arc<Workload>| before.container_id != workload.container_id;
                if self.workloads.get(slot).is_some_and(is_other) {
                    self.cover(*slot);
                    self.visible.remove(slot);
                }
                if self.gone.remove(slot) || self.workloads.get(slot).is_none_or(is_other) {
                    self.named.insert(*slot, fact.boot_ns);
                }
                let called = self.rehearsal.chosen.iter().filter(|name| is_called(*slot, workload, name));
                self.rehearsal.called.extend(called.cloned());
                let policy =
                    if self.chosen.has(*slot) { self.rehearsal.policy(workload, self.held.postures()) } else { None };
                if policy.is_some() {
                    self.rehearsal.report.selected(workload);
                }
                self.policies.insert(*slot, policy);
                self.workloads.insert(*slot, Arc::clone(workload));
                self.sees_from(*slot, fact.boot_ns);
            }
            // Of who was named alone: a trace may say of any number that it is gone, and what is held of names is bounded.
            What::WorkloadGone(slot) if self.workloads.contains_key(slot) => drop(self.gone.insert(*slot)),
            What::Visible(slot, visibility) => {
                self.visible.insert(*slot, *visibility);
                self.sees_from(*slot, fact.boot_ns);
            }
            What::Settings { visibility, .. } => {
                self.visibility = *visibility;
                let slots: Vec<Slot> = self.policies.keys().copied().collect();
                slots.into_iter().for_each(|slot| self.sees_from(slot, fact.boot_ns));
            }
            What::PolicySet(set) => {
                self.recorded = Some(set.postures);
                let held = Held::new(self.rehearsal.given, self.recorded).postures();
                self.rehearsal.report.has_other_postures |= held != set.postures;
            }
            What::Clock(offset) => self.unix_minus_boot_ns = *offset,
            What::Loss(loss) => self.lost.said(loss),
            What::SnapshotEnd => self.lost.begin(),
            _ => {}
        }
    }

    /// In the order of their times: the rings of several CPUs, and what a responder tells, stand one after the other, and a process must be
    /// known before its acts. A node has only its batches to put in order; a block is up to a second of them.
    fn block(&mut self, bytes: &[u8]) {
        self.hold_recorded();
        let mut records: Vec<Record<'_>> = RecordReader::new(bytes).flatten().collect();
        records.sort_by_key(|record| record.header.boot_ns);
        for record in &records {
            self.rehearsal.report.records += 1;
            self.first_ns.get_or_insert(record.header.boot_ns);
            self.record(record);
            self.picture.record(record);
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        let header = &record.header;
        let slot = Slot(header.slot);
        let policy = match self.policies.get(&slot) {
            Some(Some(policy)) => Arc::clone(policy),
            Some(None) => return,
            None => {
                if header.phase != Phase::Runtime && act::happened(&record.body) {
                    self.rehearsal.report.acts += 1;
                    self.rehearsal.report.undecided(Missing::Workload, 1);
                }
                return;
            }
        };
        self.sees(slot);
        self.named.remove(&slot);
        // What a policy of another tool was about is told whether executions were to be seen or not.
        let is_of_policy = self.is_imported && header.producer == OF_POLICIES;
        if matches!(record.body, Body::Exec(_)) && record.decision.is_none() && !is_of_policy {
            self.executed.insert(slot);
        }
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
        let own = act::judge(&policy.blob, record, acting);
        let judged = match (own, act::judge_presets(&policy.blob, record, acting)) {
            (Some(own), Some(preset)) => Some(act::stricter(own, preset)),
            (own, preset) => own.or(preset),
        };
        let executable = acting.map_or("", |acting| acting.executable).to_owned();
        let is_permitted = judged.as_ref().is_none_or(Judged::is_permitted);
        if is_permitted && is_observed(record, policy, &executable) {
            self.rehearsal.report.acts += 1;
            self.rehearsal.report.audited += 1;
            return Verdict::Audited;
        }
        let Some(judged) = judged else { return Verdict::NoAct };
        self.take(record, policy, &judged, executable)
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
            Judged::Undecidable(missing, index) => {
                let rule = index.and_then(|index| policy.rule(index));
                let workload = self.workloads.get(&Slot(record.header.slot));
                if let (Some(rule), Some(workload)) = (rule, workload) {
                    report.unjudged(&rule.policy.to_string(), &rule.place, workload, missing.words(), 1);
                }
                return Verdict::Undecided(report.undecided(*missing, 1));
            }
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
        let rule = decision.rule.and_then(|index| policy.rule(index));
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
        if verdict.is_none() && self.first_ns.is_none_or(|first| boot_ns < first) {
            report.of_before += repeats;
            return;
        }
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

/// Whether a rule on system calls audits it that only records decide.
fn is_observed(record: &Record<'_>, policy: &CompiledPolicy, executable: &str) -> bool {
    if policy.observed.is_empty() || record.decision.is_some() {
        return false;
    }
    let Some(call) = CallOnPath::of(&record.body) else { return false };
    policy.observed.iter().any(|rule| call.is_audited_by(rule, record.header.call, executable.as_bytes()))
}
