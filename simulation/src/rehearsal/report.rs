//! What a rehearsal found.

use std::collections::{BTreeMap, BTreeSet};

use palisade_alerts::compose;
use palisade_domain::{UnixNanos, Workload};
use palisade_kernel_abi::record::Record;
use serde::Serialize;

use super::act::Missing;

/// Examples of a row.
pub const EXAMPLES: usize = 3;
/// Rows that are told apart; what is beyond is counted in the last, which has no process.
pub const MAX_ROWS: usize = 10_000;

/// Acts of one process of a workload that one rule would deny.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// `kind/namespace/name` of the policy; `DefaultPosture` where no rule does.
    pub policy: String,
    /// Which rule in it.
    pub place: String,
    /// Namespace, pod and container.
    pub workload: String,
    /// What the process executes; empty where not known.
    pub process: String,
    /// How many.
    pub count: u64,
    /// The first few.
    pub examples: Vec<Example>,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// When.
    pub time: String,
    /// Which process.
    pub pid: u32,
    /// Kind of act.
    pub operation: String,
    /// On what.
    pub resource: String,
}

/// Acts that cannot be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// What is missing.
    pub missing: &'static str,
    /// How many.
    pub count: u64,
}

/// A rule that is not judged, or not by all acts that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unjudged {
    /// `kind/namespace/name` of the policy.
    pub policy: String,
    /// Which rule in it.
    pub place: String,
    /// Namespace, pod and container.
    pub workload: String,
    /// Why.
    pub reason: String,
    /// Acts that hang on it; 0: acts of its kind are not in the trace at all.
    pub acts: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Traces.
    pub traces: u64,
    /// Records in them.
    pub records: u64,
    /// Acts of workloads with policies, repeated ones too.
    pub acts: u64,
    /// Permitted in silence.
    pub permitted: u64,
    /// Permitted with an alert.
    pub audited: u64,
    /// Denied, by rule, workload and process.
    pub denied: Vec<Denied>,
    /// Not decidable, by what is missing.
    pub undecidable: Vec<Undecided>,
    /// Rules that cannot be judged from these traces.
    pub unjudged: Vec<Unjudged>,
    /// Rules past [`MAX_ROWS`] that cannot either.
    pub more_unjudged: u64,
    /// Policies that select no workload of the traces.
    pub unselected: BTreeSet<String>,
    /// Repeats, counted in a trace, of acts that are from before it.
    pub of_before: u64,
    /// Places of the traces that could not be read.
    pub damages: u64,
    /// Workloads that were asked for by names that nobody has.
    pub unknown_workloads: BTreeSet<String>,
    /// A trace was recorded under other default postures than those of this rehearsal.
    pub has_other_postures: bool,
    /// Rules on processes were judged: by what was executed in the end, so that of a script the interpreter is.
    pub has_process_rules: bool,
    /// Records that the traces say they have not; what was folded is not among them.
    pub missing_records: u64,
    /// Workloads that the policies select.
    pub workloads: BTreeSet<String>,
    /// Workloads whose policy does not compile, and why.
    pub refused: BTreeMap<String, String>,
    #[serde(skip)]
    rows: BTreeMap<(String, String, String, String), usize>,
    #[serde(skip)]
    unjudged_rows: BTreeMap<(String, String, String, String), usize>,
    #[serde(skip)]
    reasons: BTreeMap<Missing, usize>,
}

impl Report {
    /// How many acts would be denied.
    #[must_use]
    pub fn denials(&self) -> u64 {
        self.denied.iter().map(|row| row.count).sum()
    }

    /// One rule, or acts of it.
    pub(super) fn unjudged(&mut self, policy: &str, place: &str, workload: &Workload, reason: &str, acts: u64) {
        let key = (policy.to_owned(), place.to_owned(), name(workload), reason.to_owned());
        if let Some(row) = self.unjudged_rows.get(&key).and_then(|row| self.unjudged.get_mut(*row)) {
            row.acts += acts;
            return;
        }
        if self.unjudged.len() >= MAX_ROWS {
            self.more_unjudged += 1;
            return;
        }
        self.unjudged_rows.insert(key.clone(), self.unjudged.len());
        let (policy, place, workload, reason) = key;
        self.unjudged.push(Unjudged { policy, place, workload, reason, acts });
    }

    /// Whether everything that was asked for was judged: of what is damaged or lost, and where no policy selects anybody, nothing is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_judged = self.unjudged.is_empty() && self.undecidable.is_empty() && self.more_unjudged == 0;
        let is_there = self.damages == 0 && self.missing_records == 0 && self.of_before == 0;
        is_judged && is_there && !self.workloads.is_empty()
    }

    pub(super) fn selected(&mut self, workload: &Workload) {
        if self.workloads.len() < MAX_ROWS {
            self.workloads.insert(name(workload));
        }
    }

    pub(super) fn refused(&mut self, workload: &str, reason: &str) {
        if self.refused.len() < MAX_ROWS {
            self.refused.insert(workload.to_owned(), reason.to_owned());
        }
    }

    /// One act more of a row; which.
    pub(super) fn denied(&mut self, of: Denied, example: impl FnOnce() -> Example) -> usize {
        let mut of = of;
        let key = |of: &Denied| (of.policy.clone(), of.place.clone(), of.workload.clone(), of.process.clone());
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key(&of)) {
            of = Denied {
                policy: "more".into(),
                place: String::new(),
                workload: String::new(),
                process: String::new(),
                ..of
            };
        }
        let row = *self.rows.entry(key(&of)).or_insert_with(|| {
            self.denied.push(of);
            self.denied.len() - 1
        });
        if let Some(denied) = self.denied.get_mut(row) {
            denied.count += 1;
            if denied.examples.len() < EXAMPLES {
                denied.examples.push(example());
            }
        }
        row
    }

    pub(super) fn more(&mut self, row: usize, count: u64) {
        if let Some(denied) = self.denied.get_mut(row) {
            denied.count += count;
        }
    }

    pub(super) fn undecided(&mut self, missing: Missing, count: u64) -> usize {
        let row = *self.reasons.entry(missing).or_insert_with(|| {
            self.undecidable.push(Undecided { missing: missing.words(), count: 0 });
            self.undecidable.len() - 1
        });
        self.more_undecided(row, count);
        row
    }

    pub(super) fn more_undecided(&mut self, row: usize, count: u64) {
        if let Some(undecided) = self.undecidable.get_mut(row) {
            undecided.count += count;
        }
    }

    /// The most denied first; rows of as many by their names.
    pub(super) fn sort(&mut self) {
        self.denied.sort_by(|a, b| {
            let key = |row: &Denied| (row.policy.clone(), row.place.clone(), row.workload.clone(), row.process.clone());
            b.count.cmp(&a.count).then_with(|| key(a).cmp(&key(b)))
        });
        self.unjudged.sort_by(|a, b| {
            let key =
                |row: &Unjudged| (row.policy.clone(), row.place.clone(), row.workload.clone(), row.reason.clone());
            key(a).cmp(&key(b))
        });
        self.unjudged_rows.clear();
        self.undecidable.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.missing.cmp(b.missing)));
    }
}

/// Namespace, name and container, as far as they differ.
pub(super) fn name(workload: &Workload) -> String {
    let mut name = if workload.namespace.is_empty() {
        workload.name.clone()
    } else {
        format!("{}/{}", workload.namespace, workload.name)
    };
    if !workload.container.is_empty() && workload.container != workload.name {
        name += &format!("/{}", workload.container);
    }
    name
}

/// As alerts say it.
pub(super) fn example(record: &Record<'_>, unix_minus_boot_ns: u64) -> Example {
    let act = compose::act(record, unix_minus_boot_ns);
    let (operation, resource) =
        act.map(|act| (act.subject.operation.name().to_owned(), act.subject.resource)).unwrap_or_default();
    let time = UnixNanos(record.header.boot_ns.saturating_add(unix_minus_boot_ns)).rfc3339();
    Example { time, pid: record.header.tgid, operation, resource }
}
