//! The node's metrics, a function for each actor that is asked: one that does not answer takes no other's metrics along.

use palisade_admin::{Metric, MetricKind};
use palisade_kernel_abi::record::Kind;
use palisade_protocol::{AlertCounts, PolicySetStatus, RecordAccount};
use palisade_supervision::TreeNode;
use palisade_world::KernelMemory;

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::single(name, help, MetricKind::Counter, value)
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::single(name, help, MetricKind::Gauge, value)
}

/// What the probe accounts for.
pub fn records(account: &RecordAccount) -> Vec<Metric> {
    let lost = account.loss.counts.iter().map(|((kind, reason), count)| {
        let kind = Kind::from_code(*kind).map_or_else(|| kind.to_string(), |kind| format!("{kind:?}").to_lowercase());
        (vec![("kind", kind), ("reason", format!("{reason:?}"))], *count)
    });
    vec![
        counter("records_delivered", "Kernel records read.", account.delivered),
        counter("records_malformed", "Records that could not be decoded.", account.malformed),
        counter("records_refused", "Records that the alerts actor had no room for.", account.refused),
        gauge("records_missing", "Sequence numbers that did not arrive.", account.missing),
        Metric {
            name: "records_lost",
            help: "Records lost in the kernel.",
            kind: MetricKind::Counter,
            samples: lost.collect(),
        },
    ]
}

/// What the alerts actor counts.
pub fn alerts(counts: &AlertCounts) -> Vec<Metric> {
    let raised =
        counts.raised.iter().map(|(verdict, count)| (vec![("verdict", format!("{verdict:?}").to_lowercase())], *count));
    let unwritten = counts.unwritten.iter().map(|(sink, count)| (vec![("sink", sink.clone())], *count));
    vec![
        Metric { name: "alerts", help: "Alerts raised.", kind: MetricKind::Counter, samples: raised.collect() },
        Metric {
            name: "alerts_unwritten",
            help: "Alerts that a sink did not take.",
            kind: MetricKind::Counter,
            samples: unwritten.collect(),
        },
        counter("alerts_missed_by_listeners", "Alerts that slow followers missed.", counts.missed_by_listeners),
        counter("alerts_unattributed", "Alerts whose rule is no longer known.", counts.unattributed),
        gauge("processes", "Processes in the table.", counts.processes),
        counter("processes_forgotten", "Processes forgotten for want of room.", counts.forgotten),
    ]
}

/// The policy set.
pub fn policies(status: &PolicySetStatus) -> Vec<Metric> {
    vec![
        gauge("policy_generation", "Policy set in force.", u64::from(status.generation.0)),
        gauge("policies", "Policies in force.", status.policies.len() as u64),
        gauge("policy_problems", "Problems found in policy files.", status.diagnostics.len() as u64),
    ]
}

/// Kernel memory.
pub fn memory(memory: &KernelMemory) -> Vec<Metric> {
    vec![
        gauge("blobs", "Different compiled policies in the kernel.", memory.blob_count),
        gauge("blob_bytes", "Kernel memory of compiled policies.", memory.blobs),
        gauge("map_bytes", "Kernel memory of all other maps.", memory.maps),
    ]
}

/// Restarts and mailboxes of each node of the tree.
pub fn mail(root: &TreeNode) -> Vec<Metric> {
    let mut restarts = Vec::new();
    let (mut depth, mut shed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let mut path: Vec<String> = Vec::new();
    root.walk(&mut |level, node| {
        path.truncate(level);
        path.push(node.name.clone());
        let label = || vec![("actor", path.join("/"))];
        restarts.push((label(), node.restarts));
        if let Some(mail) = &node.mail {
            depth.push((label(), mail.depth));
            shed.push((label(), mail.shed));
            lost.push((label(), mail.lost_panic));
        }
    });
    let metric = |name, help, kind, samples| Metric { name, help, kind, samples };
    vec![
        metric("actor_restarts", "Restarts.", MetricKind::Counter, restarts),
        metric("mailbox_depth", "Messages waiting.", MetricKind::Gauge, depth),
        metric("mailbox_shed", "Messages refused or displaced for want of room.", MetricKind::Counter, shed),
        metric("mailbox_lost_in_panic", "Messages lost in panics.", MetricKind::Counter, lost),
    ]
}

/// Who did not answer.
pub fn unanswered(actors: &[&str]) -> Metric {
    Metric {
        name: "scrape_unanswered",
        help: "Actors that did not answer for this scrape; their metrics are not in it.",
        kind: MetricKind::Gauge,
        samples: actors.iter().map(|actor| (vec![("actor", (*actor).to_owned())], 1)).collect(),
    }
}
