//! A trace through the pure states of production's actors: the lines that the node made of it, or would have.
//!
//! Invariant: the output is a function of the trace and what is asked for: the same bytes on every machine. Time is the trace's own (a tick of the
//! alerts' state at each whole second that its records pass), policies are compiled from its own documents, and nothing depends on a
//! locale, a time zone or an order of hashing.
//!
//! A policy counts as it was installed: where its documents compile to another blob than the one that decided (another version of the
//! compiler), its rules go without names, and the notes say so.
//!
//! Slots that no trace of a node has ([`MAX_SLOTS`]) are left out with all that their records tell, counted and noted: what is kept of each
//! slot that records name would else be as much as a hostile trace likes.
//!
//! Limits: names of users are those that the node had read by then, to within a batch: a line that was made while a file was being read may
//! have a name here and none there, or the other way round, and never another name. Logs come with `Events` only.

#[cfg(test)]
mod assembled_tests;
mod decisions;
mod policies;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use palisade_alerts::{
    compose::{self, NodeNames},
    state::{Settings, State},
    throttle::Limit,
};
use palisade_domain::{Line, Slot, UnixNanos, Visibility};
use palisade_kernel_abi::record::{RecordReader, slices, slot_and_time};
use palisade_protocol::{ProcessListed, VisibilityChanged, WorkloadNamed};
use palisade_supervision::Kept;
use palisade_wire::trace::{Batches, Chosen, Fact, Header, Part, Process, What};
use palisade_world::{PasswdAnswer, PasswdOf, RecordBatch};

use self::policies::Policies;

const SECOND_NS: u64 = 1_000_000_000;
/// Slots whose records are replayed are numbered below this: a node has 4,096, and an import numbers containers from 1 on.
pub const MAX_SLOTS: u32 = 65_536;
/// Notes that are kept; past it they are counted.
const MAX_NOTES: usize = 64;

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Alerts, as the node said them.
    #[default]
    Alerts,
    /// Alerts, and a log of every act of the trace.
    Events,
    /// Each decision as the kernel took it, a JSON object each.
    Decisions,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Which lines.
    pub output: Output,
    /// Only of these workloads; empty: all.
    pub workloads: Vec<String>,
    /// Lines of what was earlier are left out, `CLOCK_BOOTTIME` nanoseconds; its records are followed all the same.
    pub from_ns: u64,
    /// Records later than this are left out, `CLOCK_BOOTTIME` nanoseconds.
    pub until_ns: Option<u64>,
}

/// Counts of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records that went through.
    pub records: u64,
    /// Lines of each sort that is asked for.
    pub lines: u64,
    /// Decisions whose rule no document of the trace names.
    pub unattributed: u64,
    /// Records of slots past [`MAX_SLOTS`], which are left out.
    pub left_out: u64,
}

/// See the module.
pub struct Replay {
    options: Options,
    state: State,
    policies: Policies,
    chosen: Chosen,
    names: BTreeMap<Slot, String>,
    unix_minus_boot_ns: u64,
    /// The last whole second that was ticked.
    second: Option<u64>,
    last_ns: u64,
    /// Reused for each batch.
    batch: RecordBatch,
    lines: Vec<Line>,
    counts: Counts,
    notes: Vec<String>,
    more_notes: u64,
}

impl Replay {
    /// Of a trace with this header.
    #[must_use]
    pub fn new(header: &Header, options: Options) -> Self {
        let names =
            NodeNames { cluster: header.cluster.clone(), node: header.node.clone(), node_id: header.node_id.clone() };
        let throttle = header.throttle.map(limit);
        let events = options.output == Output::Events;
        let visibility = if events { all_visible() } else { header.visibility };
        let settings = Settings { names, throttle: throttle.filter(|_| !events), visibility };
        let mut state = State::knowing(settings, Kept::default());
        state.want_logs(events);
        Self {
            chosen: Chosen::new(options.workloads.clone()),
            options,
            state,
            policies: Policies::default(),
            names: BTreeMap::new(),
            unix_minus_boot_ns: header.unix_ns.saturating_sub(header.boot_ns),
            second: None,
            last_ns: 0,
            batch: RecordBatch::default(),
            lines: Vec::new(),
            counts: Counts::default(),
            notes: Vec::new(),
            more_notes: 0,
        }
    }

    /// One more part of the trace; appends lines to `out`.
    pub fn part(&mut self, part: &Part, out: &mut Vec<u8>) {
        match part {
            Part::Facts(facts) => facts.iter().for_each(|fact| self.fact(fact)),
            Part::Records(batches) => self.batches(batches, out),
            // Who has read records knows more.
            Part::Checkpoint(facts) if self.counts.records == 0 => facts.iter().for_each(|fact| self.fact(fact)),
            Part::Checkpoint(_) => {}
        }
    }

    /// The trace is over: what is still to be said of it.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.tick(self.last_ns.saturating_add(SECOND_NS), out);
        self.counts.unattributed = self.state.counts().unattributed;
    }

    /// Counts so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What could not be done as the node did it.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let more = (self.more_notes > 0).then(|| format!("{} more notes", self.more_notes));
        let left_out = self.counts.left_out;
        let of_no_node = (left_out > 0).then(|| {
            format!("{left_out} records are of slots from {MAX_SLOTS} on, which no node has: they are left out")
        });
        self.notes.iter().cloned().chain(more).chain(of_no_node).collect()
    }

    fn note(&mut self, note: Option<String>) {
        let Some(note) = note.filter(|note| !self.notes.contains(note)) else { return };
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    fn fact(&mut self, fact: &Fact) {
        self.chosen.fact(fact);
        match &fact.what {
            What::WorkloadNamed(slot, workload) => {
                self.names.insert(*slot, workload.name.clone());
                self.policies.named(*slot, workload);
                self.state.named(WorkloadNamed { slot: *slot, workload: workload.clone() });
            }
            What::Visible(slot, visibility) if self.options.output != Output::Events => {
                self.state.visible(&VisibilityChanged { slot: *slot, visibility: *visibility });
            }
            What::PolicySet(set) => {
                let note = self.policies.set(set);
                self.note(note);
            }
            What::PolicyAnnounced(policy) => {
                let (fact, note) = self.policies.announced(*policy);
                self.state.announced(&fact);
                self.note(note);
            }
            What::PolicyInstalled(policy, held) => {
                let (fact, note) = self.policies.installed(*policy, held);
                self.state.installed(&fact);
                self.note(note);
            }
            What::Process(process) => self.state.listed(listed(process)),
            What::Clock(offset) => self.unix_minus_boot_ns = *offset,
            What::Settings { visibility, throttle } if self.options.output != Output::Events => {
                self.state.see_by_default(*visibility);
                self.state.set_throttle(throttle.map(limit));
            }
            What::Users(users) => {
                let of = users.mount_namespace.map_or(PasswdOf::Host, PasswdOf::MountNamespace);
                self.state.told_of_users(PasswdAnswer { of, names: users.names.clone() }, fact.boot_ns);
            }
            _ => {}
        }
    }

    fn batches(&mut self, batches: &Batches, out: &mut Vec<u8>) {
        for (records, bytes) in batches.iter() {
            self.batch.clear();
            self.batch.bytes.extend_from_slice(bytes);
            self.batch.records = records;
            let Some(last) = self.cut() else { continue };
            self.tick(last, out);
            self.last_ns = self.last_ns.max(last);
            self.counts.records += u64::from(self.batch.records);
            if self.options.output == Output::Decisions {
                self.decisions(out);
                continue;
            }
            self.state.read(&self.batch, self.unix_minus_boot_ns, &mut self.lines);
            // Nobody reads files of users here.
            drop(self.state.asks());
            self.write(out);
        }
    }

    /// Leaves out what is later than asked for, and what is of no node's slots; the time of the last record that is left.
    fn cut(&mut self) -> Option<u64> {
        let until_ns = self.options.until_ns.unwrap_or(u64::MAX);
        let (mut last, mut is_cut) = (None, false);
        for record in slices(&self.batch.bytes) {
            let (slot, at) = slot_and_time(record);
            let is_wanted = at <= until_ns;
            let is_of_node = slot < MAX_SLOTS;
            self.counts.left_out += u64::from(is_wanted && !is_of_node);
            if is_wanted && is_of_node {
                last = last.max(Some(at));
            } else {
                is_cut = true;
            }
        }
        if is_cut {
            let is_kept = |record: &&[u8]| {
                let (slot, at) = slot_and_time(record);
                at <= until_ns && slot < MAX_SLOTS
            };
            let kept: Vec<&[u8]> = slices(&self.batch.bytes).filter(is_kept).collect();
            self.batch.records = u32::try_from(kept.len()).unwrap_or(u32::MAX);
            self.batch.bytes = kept.concat();
        }
        last
    }

    /// The state's own timer, by the trace's time: once for all seconds that passed without a record.
    fn tick(&mut self, boot_ns: u64, out: &mut Vec<u8>) {
        let second = boot_ns / SECOND_NS;
        if self.second.is_some_and(|last| second <= last) {
            return;
        }
        self.second = Some(second);
        self.state.tick(second * SECOND_NS, self.unix_minus_boot_ns, &mut self.lines);
        self.write(out);
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let mut lines = std::mem::take(&mut self.lines);
        let from = UnixNanos(self.options.from_ns.saturating_add(self.unix_minus_boot_ns));
        for line in lines.drain(..) {
            let is_asked = self.options.from_ns == 0 || line_time(&line) >= from;
            if self.options.output != Output::Decisions && is_asked && self.is_of_chosen(&line) {
                self.counts.lines += 1;
                out.extend_from_slice(compose::line(&line).as_bytes());
            }
        }
        self.lines = lines;
    }

    /// By the name that a line has: it outlives the slot.
    fn is_of_chosen(&self, line: &Line) -> bool {
        if self.options.workloads.is_empty() {
            return true;
        }
        let workload = match line {
            Line::Alert(alert) => &alert.workload,
            Line::Throttling(line) => &line.workload,
            Line::NotHeld(line) => &line.workload,
            Line::Log(log) => &log.workload,
        };
        let pod = format!("{}/{}", workload.namespace, workload.name);
        let names = [workload.name.clone(), format!("{pod}/{}", workload.container), pod];
        let is_host = workload.container_id.is_empty();
        let is_called = |name: &String| names.contains(name) || (is_host && name == "host");
        self.options.workloads.iter().any(is_called)
    }

    fn decisions(&mut self, out: &mut Vec<u8>) {
        for record in RecordReader::new(&self.batch.bytes).flatten() {
            let slot = Slot(record.header.slot);
            if !self.chosen.has(slot) || record.header.boot_ns < self.options.from_ns {
                continue;
            }
            let time = UnixNanos(record.header.boot_ns.saturating_add(self.unix_minus_boot_ns));
            let rule = |index| self.policies.rule(slot, &record, index);
            let workload = self.names.get(&slot).map(String::as_str);
            if let Some(line) = decisions::line(&record, time, workload, rule) {
                self.counts.lines += 1;
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
            }
        }
    }
}

const fn line_time(line: &Line) -> UnixNanos {
    match line {
        Line::Alert(alert) => alert.time,
        Line::Throttling(line) => line.time,
        Line::NotHeld(line) => line.time,
        Line::Log(log) => log.time,
    }
}

fn limit((per_second, silence_seconds): (u32, u32)) -> Limit {
    Limit { per_second, silence_seconds }
}

/// Every class, system calls too.
fn all_visible() -> Visibility {
    palisade_domain::VisibilityClass::ALL.into_iter().collect()
}

fn listed(process: &Process) -> ProcessListed {
    let Process { pid, start_ticks, parent, uid, executable, arguments, own_pid, pid_namespace, .. } = process.clone();
    ProcessListed { pid, start_ticks, parent, uid, executable, arguments, own_pid, pid_namespace }
}
