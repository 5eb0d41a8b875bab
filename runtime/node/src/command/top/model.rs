//! What a frame shows, made of two looks at the node: the pure part.
//!
//! Units: rates are a second, over the time between the two looks as the node's clock tells it; without a look before they are 0. A count
//! that went back (its actor started again) counts from zero. Names are escaped here: nothing behind this module sees a control character.

use std::collections::BTreeMap;

use palisade_admin::answers::{
    Activity, MailAnswer, Policies, Readiness, TreeNodeAnswer, WorkloadAnswer, WorkloadRow, Workloads,
};
use serde::Serialize;

use crate::{arguments::SortArgument, render::printable};

/// What the kernel calls observations that were sent once, with a count.
const FOLDED: &str = "Folded";
/// What it calls those past their workload's rate.
const SUPPRESSED: &str = "Suppressed";

/// One look at the node.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Counts.
    pub activity: Activity,
    /// Who there is.
    pub workloads: Workloads,
    /// Actors.
    pub tree: TreeNodeAnswer,
    /// Conditions.
    pub readiness: Readiness,
    /// The set in force.
    pub policies: Policies,
}

/// What is shown, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// By what.
    pub sort: SortArgument,
    /// Names contain this.
    pub filter: String,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Of the node.
    pub node: NodeLine,
    /// Of each workload that the filter lets through.
    pub workloads: Vec<WorkloadLine>,
    /// Of each actor that the filter lets through.
    pub actors: Vec<ActorLine>,
}

/// The node as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct NodeLine {
    /// Nothing is pending or failed.
    pub ready: bool,
    /// Conditions that are not good: `name: state: reason`.
    pub conditions: Vec<String>,
    /// The policy set in force.
    pub generation: u32,
    /// Policies in it.
    pub policies: usize,
    /// Workloads, whatever the filter.
    pub workloads: usize,
    /// Kernel records.
    pub events_per_second: f64,
    /// Alerts.
    pub alerts_per_second: f64,
    /// By verdict.
    pub alerts: BTreeMap<String, u64>,
    /// Records lost in the kernel, by reason, as among the metrics: without what it held back by intent, which is the next two.
    pub lost: BTreeMap<String, u64>,
    /// Observations past their workload's rate.
    pub suppressed: u64,
    /// Observations that were sent once, with a count.
    pub folded: u64,
    /// Record numbers that did not arrive, and that nothing in the kernel counted: 0 once the rings are drained.
    pub missing: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Records that a full reader refused.
    pub refused: u64,
    /// Alerts that were not said, since their workload raised too many.
    pub held_back: u64,
    /// Alerts that a sink did not take.
    pub unwritten: u64,
    /// Alerts that slow followers missed.
    pub missed: u64,
    /// Messages shed or lost between actors.
    pub shed: u64,
    /// Actors that did not answer.
    pub unanswered: Vec<String>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadLine {
    /// `namespace/pod/container`, or `host`.
    pub name: String,
    /// Its place in the kernel.
    pub slot: u32,
    /// Alerts a second.
    pub alerts_per_second: f64,
    /// Kernel records a second.
    pub events_per_second: f64,
    /// Alerts by verdict.
    pub alerts: BTreeMap<String, u64>,
    /// Kernel records.
    pub events: u64,
    /// Of the policy in force; none before the first.
    pub generation: Option<u32>,
    /// By which its families are held, strongest first; empty where no policy selects it.
    pub tiers: Vec<String>,
}

/// One actor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorLine {
    /// Names from below the root.
    pub name: String,
    /// What it does.
    pub state: String,
    /// Messages that wait.
    pub depth: u64,
    /// Most that may.
    pub capacity: u64,
    /// Most that ever did.
    pub high_water: u64,
    /// Messages handled a second.
    pub per_second: f64,
    /// Times it started again.
    pub restarts: u64,
    /// Messages shed, or lost in a panic.
    pub shed: u64,
}

/// The tiers, strongest first.
const TIERS: [&str; 8] = ["bpf-lsm", "fmod-ret", "apparmor", "selinux", "cgroup-bpf", "fanotify", "kill", "audit"];

/// What the look `now` shows, `before` being the one before it.
#[must_use]
pub fn frame(before: Option<&Look>, now: &Look, options: &Options) -> Frame {
    let rate = Rate::between(before, now);
    let mut workloads: Vec<WorkloadLine> =
        now.workloads.workloads.iter().map(|row| workload(row, before, now, rate)).collect();
    let mut actors = Vec::new();
    collect_actors(&now.tree, &mut Vec::new(), &mut actors);
    let node = node(before, now, &workloads, &actors, rate);
    workloads.retain(|line| line.name.contains(&options.filter));
    actors.retain(|line| line.name.contains(&options.filter));
    sort(&mut workloads, &mut actors, options.sort);
    Frame { node, workloads, actors }
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    /// 0: there is no look before.
    seconds: f64,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds between two looks")]
    fn between(before: Option<&Look>, now: &Look) -> Self {
        let ms = before.map_or(0, |before| now.activity.at_ms.saturating_sub(before.activity.at_ms));
        Self { seconds: ms as f64 / 1000.0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people; exact up to 2^53 events")]
    fn of(self, before: u64, now: u64) -> f64 {
        if self.seconds <= 0.0 {
            return 0.0;
        }
        // Less than before: it began again.
        now.checked_sub(before).unwrap_or(now) as f64 / self.seconds
    }
}

fn workload(row: &WorkloadRow, before: Option<&Look>, now: &Look, rate: Rate) -> WorkloadLine {
    let of = |look: &Look| {
        let counts = look.activity.workloads.iter().find(|counts| counts.slot == row.slot);
        counts.map_or_else(Default::default, |counts| (counts.events, counts.alerts.clone()))
    };
    let (events, alerts) = of(now);
    // Before its first look a workload did nothing; but what it did before ours is no rate.
    let (events_before, alerts_before) = before.map_or((events, alerts.clone()), of);
    let sum = |alerts: &BTreeMap<String, u64>| alerts.values().sum();
    let families =
        row.policy.as_ref().filter(|policy| policy.blob.is_some()).map_or(&[][..], |policy| &policy.families);
    let mut tiers: Vec<String> = families.iter().map(|family| printable(&family.tier)).collect();
    tiers.sort_by_key(|tier| TIERS.iter().position(|known| known == tier));
    tiers.dedup();
    WorkloadLine {
        name: printable(&name(&row.workload)),
        slot: row.slot,
        alerts_per_second: rate.of(sum(&alerts_before), sum(&alerts)),
        events_per_second: rate.of(events_before, events),
        alerts,
        events,
        generation: row.policy.as_ref().map(|policy| policy.generation),
        tiers,
    }
}

fn name(workload: &WorkloadAnswer) -> String {
    let parts = [&workload.namespace, &workload.name, &workload.container];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { workload.kind.clone() } else { parts.join("/") }
}

/// Supervisors are told only where they are not as they should be.
fn collect_actors(node: &TreeNodeAnswer, above: &mut Vec<String>, actors: &mut Vec<ActorLine>) {
    above.push(printable(&node.name));
    if node.mail.is_some() || node.state != "running" {
        let mail = |of: fn(&MailAnswer) -> u64| node.mail.as_ref().map_or(0, of);
        actors.push(ActorLine {
            // All are below the root.
            name: above[1.min(above.len() - 1)..].join("/"),
            state: printable(&node.state),
            depth: mail(|mail| mail.depth),
            capacity: mail(|mail| mail.capacity),
            high_water: mail(|mail| mail.high_water),
            per_second: node.mail.as_ref().map_or(0.0, |mail| mail.handled_per_second),
            restarts: node.restarts,
            shed: mail(|mail| mail.shed + mail.lost_panic),
        });
    }
    node.children.iter().for_each(|child| collect_actors(child, above, actors));
    above.pop();
}

fn node(before: Option<&Look>, now: &Look, workloads: &[WorkloadLine], actors: &[ActorLine], rate: Rate) -> NodeLine {
    let alerts = |look: &Look| look.activity.alerts.values().sum::<u64>();
    let delivered = |look: &Look| look.activity.records.delivered;
    let bad = now.readiness.conditions.iter().filter(|(_, condition)| condition.state != "good");
    let records = &now.activity.records;
    NodeLine {
        ready: now.readiness.ready,
        conditions: bad
            .map(|(name, condition)| {
                printable(&format!(
                    "{name}: {}: {}",
                    condition.state,
                    condition.reason.as_deref().unwrap_or("no reason given")
                ))
            })
            .collect(),
        generation: now.policies.generation,
        policies: now.policies.policies.len(),
        workloads: workloads.len(),
        events_per_second: rate.of(before.map_or(0, delivered), delivered(now)),
        alerts_per_second: rate.of(before.map_or(0, alerts), alerts(now)),
        alerts: now.activity.alerts.clone(),
        lost: records
            .lost
            .iter()
            .filter(|(reason, count)| **count > 0 && ![SUPPRESSED, FOLDED].contains(&reason.as_str()))
            .map(|(reason, count)| (printable(reason), *count))
            .collect(),
        suppressed: records.lost.get(SUPPRESSED).copied().unwrap_or(0),
        folded: records.lost.get(FOLDED).copied().unwrap_or(0),
        missing: records.missing.saturating_sub(records.lost.values().sum()),
        malformed: records.malformed,
        refused: records.refused,
        held_back: now.activity.held_back.values().sum(),
        unwritten: now.activity.unwritten.values().sum(),
        missed: now.activity.missed_by_listeners,
        shed: actors.iter().map(|actor| actor.shed).sum(),
        unanswered: now.activity.unanswered.clone(),
    }
}

fn sort(workloads: &mut [WorkloadLine], actors: &mut [ActorLine], by: SortArgument) {
    let total = |line: &WorkloadLine| line.alerts.values().sum::<u64>();
    match by {
        SortArgument::Alerts => {
            workloads.sort_by(|a, b| {
                b.alerts_per_second
                    .total_cmp(&a.alerts_per_second)
                    .then(total(b).cmp(&total(a)))
                    .then(a.name.cmp(&b.name))
            });
            actors.sort_by(|a, b| b.depth.cmp(&a.depth).then(b.restarts.cmp(&a.restarts)).then(a.name.cmp(&b.name)));
        }
        SortArgument::Events => {
            workloads.sort_by(|a, b| {
                b.events_per_second
                    .total_cmp(&a.events_per_second)
                    .then(b.events.cmp(&a.events))
                    .then(a.name.cmp(&b.name))
            });
            actors.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then(a.name.cmp(&b.name)));
        }
        SortArgument::Name => {
            workloads.sort_by(|a, b| a.name.cmp(&b.name));
            actors.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
}
