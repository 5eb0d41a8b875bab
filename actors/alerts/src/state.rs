//! From batches of records to lines: the pure part.

mod devices;
mod lines;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use palisade_domain::{Action, Family, Generation, Line, Slot, Tier, UnixNanos, Verdict, Visibility};
use palisade_kernel_abi::{
    blob::Decision,
    record::{Body, DecisionTaken, FailReason, Header, Phase, Record, RecordReader},
};
use palisade_policy::ir::Rule;
use palisade_protocol::{
    AlertCounts, LiveProcesses, PolicyAnnounced, PolicyInstalled, ProcessListed, VisibilityChanged, WorkloadNamed,
    observed_calls::CallOnPath,
};
use palisade_supervision::Kept;
use palisade_world::{PasswdAnswer, PasswdCandidate, PasswdOf, RecordBatch};

use self::lines::By;
pub use crate::slot_names::Names;
use crate::{
    by_slot::BySlot,
    compose::{self, NodeNames},
    processes::{Image, Processes},
    rules::RuleIndex,
    silence::{RuleKey, Silences},
    throttle::{Limit, Turn},
    unheld::Unsaid,
    users::Users,
};

/// Files of users that one batch asks for at most; who asks for more does so with the next.
const ASKS: usize = 16;
/// Processes by which a container's files are looked for.
const CANDIDATES: usize = 4;
/// Processes that one answer tells of.
pub const MAX_TOLD: usize = 4096;

/// What a state does by configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// What lines call the node.
    pub names: NodeNames,
    /// When alerts of one workload are too many; `None`: never.
    pub throttle: Option<Limit>,
    /// What is seen of a workload of which nobody says it.
    pub visibility: Visibility,
}

/// What lines are made from.
#[derive(Debug)]
pub struct State {
    node: NodeNames,
    names: Kept<Names>,
    processes: Processes,
    users: Users,
    /// Where each slot's users were looked up last.
    passwd: BTreeMap<Slot, PasswdOf>,
    asks: Vec<(PasswdOf, Vec<PasswdCandidate>)>,
    silences: Silences,
    wants_logs: bool,
    /// Whether any workload has rules that are decided by records.
    observing: bool,
    visibility: Visibility,
    unix_minus_boot_ns: u64,
    counts: AlertCounts,
    by_slot: BySlot,
}

impl State {
    /// For the node of this name, where nobody is known yet and nothing is held back.
    #[must_use]
    pub fn new(node: String) -> Self {
        let names = NodeNames { node, ..NodeNames::default() };
        Self::knowing(Settings { names, throttle: None, visibility: Visibility::ALL }, Kept::default())
    }

    /// With the names that a state before this one heard.
    #[must_use]
    pub fn knowing(settings: Settings, names: Kept<Names>) -> Self {
        let observing = names.lock().rules.any_observing();
        Self {
            node: settings.names,
            names,
            processes: Processes::default(),
            users: Users::default(),
            passwd: BTreeMap::new(),
            asks: Vec::new(),
            silences: Silences::new(settings.throttle),
            wants_logs: false,
            observing,
            visibility: settings.visibility,
            unix_minus_boot_ns: 0,
            counts: AlertCounts::default(),
            by_slot: BySlot::default(),
        }
    }

    /// When alerts of one workload are too many from now on. What was held back in silences that this ends is said with the next lines.
    pub fn set_throttle(&mut self, limit: Option<Limit>) {
        self.silences.set_limit(limit, &self.names.lock(), &self.node, self.unix_minus_boot_ns);
    }

    /// What is seen of a workload of which nobody says it, from now on.
    pub fn see_by_default(&mut self, visibility: Visibility) {
        self.visibility = visibility;
    }

    /// Whether anybody wants logs; none are made otherwise.
    pub fn want_logs(&mut self, wanted: bool) {
        self.wants_logs = wanted;
    }

    /// A slot is this workload's from now on. What was held back of the last one's alerts is said with the next lines.
    pub fn named(&mut self, fact: WorkloadNamed) {
        let mut names = self.names.lock();
        let before = names.workload(fact.slot);
        if before.is_some_and(|before| before.workload.container_id != fact.workload.container_id) {
            self.silences.vacated(fact.slot, &names, &self.node, self.unix_minus_boot_ns);
            self.processes.vacated(fact.slot);
            self.passwd.remove(&fact.slot);
            names.visibility.remove(&fact.slot);
            names.rules.vacated(fact.slot);
            names.unheld.vacated(fact.slot);
            self.observing = names.rules.any_observing();
            self.by_slot.begin(fact.slot);
        }
        names.named(fact);
    }

    /// What is seen of a slot from now on.
    pub fn visible(&mut self, fact: &VisibilityChanged) {
        self.names.lock().visible(fact);
    }

    /// A policy may decide from now on.
    pub fn announced(&mut self, fact: &PolicyAnnounced) {
        self.names.lock().rules.announced(fact);
    }

    /// A policy is in force.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        let mut names = self.names.lock();
        names.rules.installed(fact);
        names.unheld.installed(fact);
        self.observing = names.rules.any_observing();
    }

    /// A process that ran before the probes.
    pub fn listed(&mut self, process: ProcessListed) {
        self.processes.listed(process);
    }

    /// Reads a batch and appends its lines to `out`. `unix_minus_boot_ns` turns the records' clock into wall-clock time.
    pub fn read(&mut self, batch: &RecordBatch, unix_minus_boot_ns: u64, out: &mut Vec<Line>) {
        self.unix_minus_boot_ns = unix_minus_boot_ns;
        let mut records = Vec::with_capacity(usize::try_from(batch.records).unwrap_or_default());
        for record in RecordReader::new(&batch.bytes) {
            match record {
                Ok(record) => records.push(record),
                Err(_) => self.counts.malformed += 1,
            }
        }
        if records.is_sorted_by_key(at) {
            records.iter().for_each(|record| self.take(record, out));
            return;
        }
        // The rings of several CPUs, one after the other: a process' first acts may stand before its fork.
        let mut order: Vec<u32> = (0..).take(records.len()).collect();
        order.sort_by_key(|index| at(&records[*index as usize]));
        order.iter().for_each(|index| self.take(&records[*index as usize], out));
    }

    fn take(&mut self, record: &Record<'_>, out: &mut Vec<Line>) {
        self.by_slot.event(Slot(record.header.slot));
        let caller = self.follow(record);
        let decided = record.decision.and_then(|taken| {
            let decision = Decision::from_word(taken.word);
            compose::action(decision).map(|action| (taken, decision, action))
        });
        if let Some((taken, decision, action)) = decided {
            self.decided(record, &taken, decision, action, out);
            return;
        }
        if self.observing && record.decision.is_none() {
            self.observe(record, caller.as_ref(), out);
        }
        if self.wants_logs {
            out.extend(self.log(record, caller.as_ref()));
        }
    }

    /// Time passes without records.
    pub fn tick(&mut self, boot_ns: u64, unix_minus_boot_ns: u64, out: &mut Vec<Line>) {
        self.unix_minus_boot_ns = unix_minus_boot_ns;
        self.silences.ended(boot_ns, &self.names.lock(), &self.node, unix_minus_boot_ns, out);
        self.say_unheld(boot_ns, out);
    }

    /// Says which parts of the policies that came into force are not held.
    fn say_unheld(&mut self, boot_ns: u64, out: &mut Vec<Line>) {
        let names = self.names.clone();
        let mut names = names.lock();
        for Unsaid { slot, generation, parts, more } in names.unheld.take() {
            let one_by_one = parts.into_iter().map(|at| (Some(RuleIndex::NotHeld(at)), 0));
            for (rule, more) in one_by_one.chain((more > 0).then_some((None, more))) {
                let verdict = Verdict::Unenforceable;
                let key = RuleKey { generation, policy: 0, rule, family: None, verdict, by_posture: false };
                if self.is_said(slot, &key, boot_ns, &names, out) {
                    out.push(self.not_held(slot, &key, more, boot_ns, &names));
                }
            }
        }
    }

    /// Keeps the process table; returns what the acting process executed before an exec, if somebody may want it.
    ///
    /// A process that executes something is that thing from now on; an exec that was refused or is only judged is not one.
    fn follow(&mut self, record: &Record<'_>) -> Option<Arc<Image>> {
        let header = &record.header;
        match &record.body {
            Body::Fork(fork) => self.processes.forked(header, *fork),
            Body::Exec(exec) if record.decision.is_none() => {
                let caller = if self.wants_logs || self.observing { self.processes.image(header) } else { None };
                self.processes.executed(header, exec);
                if header.phase == Phase::Workload {
                    self.want_users(header);
                }
                return caller;
            }
            Body::Exit(_) => self.processes.exited(header),
            _ => {}
        }
        None
    }

    fn decided(
        &mut self,
        record: &Record<'_>,
        taken: &DecisionTaken,
        decision: Decision,
        action: Action,
        out: &mut Vec<Line>,
    ) {
        if matches!(record.body, Body::Fork(_) | Body::Exit(_)) {
            return;
        }
        let slot = Slot(record.header.slot);
        let verdict = compose::verdict(taken.outcome);
        let key = RuleKey {
            generation: Generation(taken.generation),
            policy: taken.policy,
            rule: match taken.fail_reason {
                FailReason::SelfProtection => Some(RuleIndex::SelfProtection),
                _ => decision.rule.map(RuleIndex::compiled),
            },
            family: Some(compose::family(taken.family)),
            verdict,
            by_posture: decision.by_posture,
        };
        let names = self.names.clone();
        let names = names.lock();
        if self.is_said(slot, &key, record.header.boot_ns, &names, out) {
            let family = compose::family(taken.family);
            let by = By {
                key: &key,
                family,
                action,
                tier: compose::tier(taken.tier),
                reason: compose::reason(record, taken),
            };
            out.extend(self.alert(record, by, None, &names));
        }
    }

    /// Counts an alert; whether it is to be said, and not held back.
    fn is_said(&mut self, slot: Slot, key: &RuleKey, boot_ns: u64, names: &Names, out: &mut Vec<Line>) -> bool {
        *self.counts.raised.entry(key.verdict).or_default() += 1;
        self.by_slot.alert(slot, key.verdict);
        self.silences.ended(boot_ns, names, &self.node, self.unix_minus_boot_ns, out);
        let turn = self.silences.turn(slot, key, boot_ns);
        if matches!(turn, Turn::Say | Turn::SayOnce) {
            return true;
        }
        *self.counts.held_back.entry(key.verdict).or_default() += 1;
        if turn == Turn::Begin {
            let time = self.time(boot_ns);
            out.extend(self.silences.begun(slot, time, names, &self.node));
        }
        false
    }

    /// Holds a call that a record tells of against the rules that no table of the kernel decides. They audit: the call went on.
    fn observe(&mut self, record: &Record<'_>, caller: Option<&Arc<Image>>, out: &mut Vec<Line>) {
        let slot = Slot(record.header.slot);
        if record.header.phase == Phase::Runtime {
            return;
        }
        let names = self.names.clone();
        let names = names.lock();
        let Some(observing) = names.rules.observing(slot) else { return };
        let Some(call) = CallOnPath::of(&record.body) else { return };
        let own = self.acting(record, caller);
        let executable = own.as_deref().map_or(&b""[..], |own| own.executable().as_bytes());
        let is_met = |rule: &Arc<Rule>| call.is_audited_by(rule, record.header.call, executable);
        let met = observing.rules.iter().enumerate().filter(|(_, rule)| is_met(rule));
        // Of two that are as specific the first, as everywhere.
        let Some((index, _)) = met.min_by_key(|(_, rule)| Reverse(rule.specificity())) else { return };
        let key = RuleKey {
            generation: observing.generation,
            policy: observing.policy,
            rule: u32::try_from(index).ok().map(RuleIndex::observed),
            family: Some(Family::Syscalls),
            verdict: Verdict::Observed,
            by_posture: false,
        };
        if self.is_said(slot, &key, record.header.boot_ns, &names, out) {
            let family = Family::Syscalls;
            let by = By { key: &key, family, action: Action::Audit, tier: Tier::Audit, reason: None };
            out.extend(self.alert(record, by, caller, &names));
        }
    }

    fn visibility_of(&self, slot: Slot) -> Visibility {
        self.names.lock().visibility.get(&slot).copied().unwrap_or(self.visibility)
    }

    fn want_users(&mut self, header: &Header) {
        let Some(of) = passwd_of(header) else { return };
        if self.asks.len() < ASKS && self.users.is_stale(of, header.boot_ns) {
            self.users.asked(of, header.boot_ns);
            self.passwd.insert(Slot(header.slot), of);
            self.asks.push((of, self.processes.lineage(header, CANDIDATES)));
        }
    }

    /// The files of users that are to be read.
    pub fn asks(&mut self) -> Vec<(PasswdOf, Vec<PasswdCandidate>)> {
        std::mem::take(&mut self.asks)
    }

    /// A question of [`Self::asks`] was not taken.
    pub fn refused(&mut self, of: PasswdOf) {
        self.users.refused(of);
    }

    /// A file of users was read.
    pub fn answered(&mut self, answer: PasswdAnswer) {
        self.users.answered(answer.of, answer.names);
    }

    /// A file of users was read at this time by the node whose records these are.
    pub fn told_of_users(&mut self, answer: PasswdAnswer, boot_ns: u64) {
        self.users.told(answer.of, answer.names, boot_ns);
    }

    /// Whose users a file was read for last; as many are asked as the kernel has slots.
    #[must_use]
    pub fn slot_of(&self, of: PasswdOf) -> Option<Slot> {
        self.passwd.iter().find(|(_, asked)| **asked == of).map(|(slot, _)| *slot)
    }

    /// The living processes of a slot, as far as they are known to be its own.
    #[must_use]
    pub fn processes_of(&self, slot: Slot) -> LiveProcesses {
        let (mut processes, more) = self.processes.of_slot(slot, MAX_TOLD);
        if let Some(of) = self.passwd.get(&slot) {
            for process in &mut processes {
                process.username = self.users.name(*of, process.uid).map(str::to_owned);
            }
        }
        LiveProcesses { processes, more }
    }

    fn time(&self, boot_ns: u64) -> UnixNanos {
        UnixNanos(boot_ns.saturating_add(self.unix_minus_boot_ns))
    }

    /// The counts that this state keeps; the shell adds its own.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        AlertCounts {
            processes: self.processes.len() as u64,
            forgotten: self.processes.forgotten(),
            by_slot: self.by_slot.counts(),
            ..self.counts.clone()
        }
    }
}

/// When the kernel saw it.
fn at(record: &Record<'_>) -> u64 {
    record.header.boot_ns
}

/// Whose users a record's ids are; `None` while a task exits.
fn passwd_of(header: &Header) -> Option<PasswdOf> {
    match (header.slot, header.mnt_ns) {
        (0, _) => Some(PasswdOf::Host),
        (_, 0) => None,
        (_, namespace) => Some(PasswdOf::MountNamespace(namespace)),
    }
}
