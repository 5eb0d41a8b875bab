//! What a rehearsal found.

use std::collections::{BTreeMap, BTreeSet};

use palisade_alerts::compose;
use palisade_domain::{UnixNanos, Workload};
use palisade_kernel_abi::record::Record;
use serde::Serialize;

use super::{act::Missing, postures::Held};

/// Examples of a row.
pub const EXAMPLES: usize = 3;
/// Rows that are told apart; what is beyond is counted in the last, which has no process.
pub const MAX_ROWS: usize = 10_000;
/// Bytes of names and examples in all rows: those of a trace are as long as whoever made it likes.
pub const MAX_BYTES: usize = 32 << 20;

/// Bytes of an example beside its resource.
const EXAMPLE: usize = 128;

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
    /// What may be done about it.
    pub advice: &'static str,
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
    /// Default postures that held, each of some of what was judged.
    pub postures: Vec<Held>,
    /// A trace was recorded under other default postures than those that are given.
    pub has_other_postures: bool,
    /// Records that the traces say they have not; what was folded is not among them.
    pub missing_records: u64,
    /// Workloads that the policies select.
    pub workloads: BTreeSet<String>,
    /// Times that a further one was named, for which there was no room.
    pub more_workloads: u64,
    /// Workloads whose policy does not compile, and why.
    pub refused: BTreeMap<String, String>,
    /// Times that a further one did not, for which there was no room.
    pub more_refused: u64,
    #[serde(skip)]
    bytes: usize,
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

    /// Takes so many bytes, if they are there.
    const fn takes(&mut self, bytes: usize) -> bool {
        let is_room = self.bytes.saturating_add(bytes) <= MAX_BYTES;
        if is_room {
            self.bytes += bytes;
        }
        is_room
    }

    /// One rule, or acts of it.
    pub(super) fn unjudged(&mut self, policy: &str, place: &str, workload: &Workload, reason: &str, acts: u64) {
        let key = (policy.to_owned(), place.to_owned(), name(workload), reason.to_owned());
        if let Some(row) = self.unjudged_rows.get(&key).and_then(|row| self.unjudged.get_mut(*row)) {
            row.acts += acts;
            return;
        }
        let bytes = 2 * (key.0.len() + key.1.len() + key.2.len() + key.3.len());
        if self.unjudged.len() >= MAX_ROWS || !self.takes(bytes) {
            self.more_unjudged += 1;
            return;
        }
        self.unjudged_rows.insert(key.clone(), self.unjudged.len());
        let (policy, place, workload, reason) = key;
        self.unjudged.push(Unjudged { policy, place, workload, reason, acts });
    }

    /// Whether the policy of any workload does not compile.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty() || self.more_refused > 0
    }

    /// Whether everything that was asked for was judged: of what is damaged or lost, and where no policy selects anybody, nothing is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_judged = self.unjudged.is_empty() && self.undecidable.is_empty() && self.more_unjudged == 0;
        let is_there = self.damages == 0 && self.missing_records == 0 && self.of_before == 0;
        is_judged && is_there && (!self.workloads.is_empty() || self.more_workloads > 0)
    }

    pub(super) fn selected(&mut self, workload: &Workload) {
        let name = name(workload);
        if self.workloads.contains(&name) {
            return;
        }
        if self.workloads.len() < MAX_ROWS && self.takes(name.len()) {
            self.workloads.insert(name);
        } else {
            self.more_workloads += 1;
        }
    }

    pub(super) fn refused(&mut self, workload: &str, reason: &str) {
        if self.refused.get(workload).is_some_and(|before| before == reason) {
            return;
        }
        if self.refused.len() < MAX_ROWS && self.takes(workload.len() + reason.len()) {
            self.refused.insert(workload.to_owned(), reason.to_owned());
        } else {
            self.more_refused += 1;
        }
    }

    /// One act more of a row; which.
    pub(super) fn denied(&mut self, of: Denied, example: impl FnOnce() -> Example) -> usize {
        let mut of = of;
        let key = |of: &Denied| (of.policy.clone(), of.place.clone(), of.workload.clone(), of.process.clone());
        let bytes = 2 * (of.policy.len() + of.place.len() + of.workload.len() + of.process.len());
        if !self.rows.contains_key(&key(&of)) && (self.rows.len() >= MAX_ROWS || !self.takes(bytes)) {
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
        let is_wanted = self.denied.get(row).is_some_and(|denied| denied.examples.len() < EXAMPLES);
        let example = is_wanted.then(example).filter(|example| self.takes(example.resource.len() + EXAMPLE));
        if let Some(denied) = self.denied.get_mut(row) {
            denied.count += 1;
            denied.examples.extend(example);
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
            self.undecidable.push(Undecided { missing: missing.words(), advice: missing.advice(), count: 0 });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use palisade_domain::WorkloadKind;

    use super::*;

    fn workload(name: String) -> Workload {
        Workload {
            kind: WorkloadKind::Container,
            name,
            namespace: String::new(),
            container: String::new(),
            container_id: None,
            image: String::new(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn unit_rehearsal_report_is_bounded_in_bytes_and_counts_what_has_no_room() {
        let mut report = Report::default();
        let long = |number: usize| number.to_string() + &"x".repeat(1 << 20);
        for number in 0..40 {
            report.selected(&workload(long(number)));
        }
        assert_eq!((report.workloads.len(), report.more_workloads), (31, 9));
        for number in 0..3 {
            report.unjudged("p", "a[0]", &workload(long(number)), "why", 1);
            let of = Denied {
                policy: "p".into(),
                place: "a[0]".into(),
                workload: long(number),
                process: String::new(),
                count: 0,
                examples: Vec::new(),
            };
            let example = || Example { time: String::new(), pid: 1, operation: String::new(), resource: long(number) };
            report.denied(of, example);
        }
        assert_eq!((report.denied.len(), report.denials(), report.more_unjudged), (1, 3, 3));
        assert!(report.denied[0].examples.is_empty() && report.denied[0].workload.is_empty());
        report.refused("shop/web", &long(1));
        assert!(report.refused.is_empty() && report.more_refused == 1 && report.has_refused());
        report.refused("w", "r");
        report.refused("w", "r");
        assert_eq!((report.refused.len(), report.more_refused), (1, 1));
    }
}
