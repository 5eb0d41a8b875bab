//! The node's metrics, a function for each actor that is asked: one that does not answer takes no other's metrics along.

use std::collections::BTreeMap;

use palisade_admin::{Metric, MetricKind};
use palisade_assembly::ENFORCERS;
use palisade_domain::{Family, Verdict};
use palisade_kernel_abi::record::Kind;
use palisade_protocol::{
    AlertCounts, PolicyInstalled, PolicySetStatus, RecordAccount, RecordingCounts, RecordingOutcome, WorkloadTable,
};
use palisade_supervision::{Mail, TreeNode};
use palisade_world::{HeldFamily, KernelMatrix, KernelMemory, LossReason, RefusedProgram};

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::single(name, help, MetricKind::Counter, value)
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::single(name, help, MetricKind::Gauge, value)
}

/// What the probe accounts for.
pub fn records(account: &RecordAccount) -> Vec<Metric> {
    let kind_of =
        |kind: u16| Kind::from_code(kind).map_or_else(|| kind.to_string(), |kind| format!("{kind:?}").to_lowercase());
    let counts = || account.loss.counts.iter();
    let lost = counts()
        .filter(|((_, reason), _)| !reason.is_intended())
        .map(|((kind, reason), count)| (vec![("kind", kind_of(*kind)), ("reason", format!("{reason:?}"))], *count));
    let kept_back = |name, help, wanted: LossReason| Metric {
        name,
        help,
        kind: MetricKind::Counter,
        samples: counts()
            .filter(|((_, reason), _)| *reason == wanted)
            .map(|((kind, _), count)| (vec![("kind", kind_of(*kind))], *count))
            .collect(),
    };
    let produced = account.loss.produced.values().fold(0, |sum: u64, of_cpu| sum.saturating_add(*of_cpu));
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
        kept_back(
            "records_suppressed",
            "Observations past their workload's rate, never decisions.",
            LossReason::Suppressed,
        ),
        kept_back(
            "records_folded",
            "Observations equal to one that was sent shortly before, never decisions.",
            LossReason::Folded,
        ),
        counter("records_produced", "Numbers given to records: delivered, lost, suppressed or folded.", produced),
    ]
}

/// What the recorder counts: each outcome, so that one that never came shows as 0.
pub fn recordings(counts: &RecordingCounts) -> Vec<Metric> {
    let ended = |outcome: RecordingOutcome| {
        (vec![("outcome", outcome.word().to_owned())], counts.ended.get(&outcome).copied().unwrap_or(0))
    };
    vec![
        gauge("recordings_running", "Recordings that are being made.", counts.running),
        Metric {
            name: "recordings_ended",
            help: "Recordings that are over: whole, or because a part had no room for anything, their reader took nothing or went away, or the store of traces did not keep them.",
            kind: MetricKind::Counter,
            samples: RecordingOutcome::ALL.into_iter().map(ended).collect(),
        },
    ]
}

/// What the alerts actor counts.
pub fn alerts(counts: &AlertCounts) -> Vec<Metric> {
    let by_verdict =
        |(verdict, count): (&Verdict, &u64)| (vec![("verdict", format!("{verdict:?}").to_lowercase())], *count);
    let raised = counts.raised.iter().map(by_verdict);
    let held_back = counts.held_back.iter().map(by_verdict);
    let unwritten = counts.unwritten.iter().map(|(sink, count)| (vec![("sink", sink.clone())], *count));
    vec![
        Metric { name: "alerts", help: "Alerts raised.", kind: MetricKind::Counter, samples: raised.collect() },
        Metric {
            name: "alerts_held_back",
            help: "Alerts that were not said, since their workload raised too many.",
            kind: MetricKind::Counter,
            samples: held_back.collect(),
        },
        counter("logs", "Logs made for sinks and followers.", counts.logs),
        Metric {
            name: "alerts_unwritten",
            help: "Lines that a sink did not take.",
            kind: MetricKind::Counter,
            samples: unwritten.collect(),
        },
        counter("alerts_missed_by_listeners", "Lines that slow followers missed.", counts.missed_by_listeners),
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

/// Containers that no slot was free for.
pub fn workloads(table: &WorkloadTable) -> Vec<Metric> {
    let help = "Containers that run without policy, for as many workloads are held as may be (--max-workloads).";
    vec![gauge("containers_unheld", help, table.unheld as u64)]
}

/// What is held of what policies ask for, and what is not.
///
/// A word of the policy language is a label, not a policy: the words are some dozens, policies come and go.
pub fn held(installed: &[PolicyInstalled]) -> Vec<Metric> {
    let (mut by_tier, mut unenforceable) = (BTreeMap::new(), BTreeMap::new());
    for fact in installed {
        for (family, held) in &fact.installed.families {
            *by_tier.entry((word(family), word(&held.tier))).or_insert(0_u64) += 1;
        }
        for part in fact.not_held.iter() {
            *unenforceable.entry(part.what.clone()).or_insert(0_u64) += part.count as u64;
        }
    }
    vec![
        Metric {
            name: "families_held",
            help: "Workloads with rules in force, by the family and the tier that holds it.",
            kind: MetricKind::Gauge,
            samples: by_tier
                .into_iter()
                .map(|((family, tier), count)| (vec![("family", family), ("tier", tier)], count))
                .collect(),
        },
        Metric {
            name: "rules_unenforceable",
            help: "Rules in force that ask for something that is not held, of all workloads, by what they ask for.",
            kind: MetricKind::Gauge,
            samples: unenforceable.into_iter().map(|(what, count)| (vec![("what", what)], count)).collect(),
        },
    ]
}

/// What the kernel at hand gives: which tier would hold a family, and which programs it did not take.
pub fn kernel(matrix: &KernelMatrix, refused: &[RefusedProgram]) -> Vec<Metric> {
    let tier = |(family, held): (&Family, &HeldFamily)| (vec![("family", word(family)), ("tier", word(&held.tier))], 1);
    let program = |refused: &RefusedProgram| (vec![("program", refused.program.clone())], 1);
    vec![
        Metric {
            name: "kernel_families",
            help: "Which tier holds which family on this kernel; audit: the acts are seen at most.",
            kind: MetricKind::Gauge,
            samples: matrix.families.iter().map(tier).collect(),
        },
        Metric {
            name: "programs_refused",
            help: "One for each program that the kernel did not take: /v1/kernel says why, and what is lost.",
            kind: MetricKind::Gauge,
            samples: refused.iter().map(program).collect(),
        },
    ]
}

/// As every answer calls it.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Kernel memory.
pub fn memory(memory: &KernelMemory) -> Vec<Metric> {
    vec![
        gauge("blobs", "Different compiled policies in the kernel.", memory.blob_count),
        gauge("blob_bytes", "Kernel memory of compiled policies.", memory.blobs),
        gauge("map_bytes", "Kernel memory of all other maps.", memory.maps),
    ]
}

/// What one actor's mail comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    restarts: u64,
    depth: u64,
    shed: u64,
    lost: u64,
}

impl Counts {
    fn of(node: &TreeNode) -> Self {
        let mail = |of: fn(&Mail) -> u64| node.mail.as_ref().map_or(0, of);
        Self {
            restarts: node.restarts,
            depth: mail(|mail| mail.depth),
            shed: mail(|mail| mail.shed),
            lost: mail(|mail| mail.lost_panic),
        }
    }

    fn add(&mut self, other: Self) {
        self.restarts += other.restarts;
        self.depth += other.depth;
        self.shed += other.shed;
        self.lost += other.lost;
    }

    /// What stays of it once its actor is gone: nothing waits for that any more.
    fn past(self) -> Self {
        Self { depth: 0, ..self }
    }

    /// Whether `self` is of a later actor of the same name.
    fn is_another_than(self, before: Self) -> bool {
        self.restarts < before.restarts || self.shed < before.shed || self.lost < before.lost
    }
}

/// Restarts and mailboxes of each node of the tree; of the enforcers together, as the actor `enforcer`.
///
/// Decision: no series for each enforcer, because pods come and go, and each would leave one behind in whatever keeps the metrics;
/// the tree tells of each of them. The sums are counters, so what an enforcer counted until it was last seen stays in them.
#[derive(Debug, Default)]
pub struct Mailboxes {
    /// As last seen, by name: as many as there are enforcers.
    enforcers: BTreeMap<String, Counts>,
    /// Of those that are gone.
    gone: Counts,
}

impl Mailboxes {
    /// The metrics of the tree as it is now.
    pub fn metrics(&mut self, root: &TreeNode) -> Vec<Metric> {
        let (mut path, mut actors, mut enforcers) = (Vec::<String>::new(), Vec::new(), BTreeMap::new());
        root.walk(&mut |level, node| {
            path.truncate(level);
            if path.last().is_some_and(|parent| parent == ENFORCERS) {
                enforcers.insert(node.name.clone(), Counts::of(node));
            }
            path.push(node.name.clone());
            if !path[..level].iter().any(|above| above == ENFORCERS) {
                actors.push((path.join("/"), Counts::of(node), node.mail.is_some()));
            }
        });
        actors.push(("enforcer".to_owned(), self.enforcers(enforcers), true));
        let metric = |name, help, kind, of: fn(&Counts) -> u64, of_supervisors: bool| {
            let told = actors.iter().filter(|(_, _, mail)| of_supervisors || *mail);
            let samples = told.map(|(actor, counts, _)| (vec![("actor", actor.clone())], of(counts))).collect();
            Metric { name, help, kind, samples }
        };
        let (shed, lost) = ("Messages refused or displaced for want of room.", "Messages lost in panics.");
        vec![
            metric("actor_restarts", "Restarts.", MetricKind::Counter, |counts| counts.restarts, true),
            metric("mailbox_depth", "Messages waiting.", MetricKind::Gauge, |counts| counts.depth, false),
            metric("mailbox_shed", shed, MetricKind::Counter, |counts| counts.shed, false),
            metric("mailbox_lost_in_panic", lost, MetricKind::Counter, |counts| counts.lost, false),
        ]
    }

    /// The sum of all that were ever seen.
    fn enforcers(&mut self, now: BTreeMap<String, Counts>) -> Counts {
        for (name, before) in std::mem::replace(&mut self.enforcers, now) {
            if self.enforcers.get(&name).is_none_or(|now| now.is_another_than(before)) {
                self.gone.add(before.past());
            }
        }
        let mut sum = self.gone;
        self.enforcers.values().for_each(|counts| sum.add(*counts));
        sum
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use palisade_domain::{Generation, PolicyKind, PolicyRef, Slot, Tier};
    use palisade_protocol::NotHeld;
    use palisade_supervision::{Kind, State};
    use palisade_world::Installed;

    use super::*;

    fn node(name: &str, restarts: u64, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: name.into(),
            kind: Kind::Actor("x".into()),
            state: State::Running,
            restart: None,
            place: "here".into(),
            generation: 1,
            uptime_ms: None,
            restarts,
            last_error: None,
            mail: None,
            children,
        }
    }

    fn tree(enforcers: &[(&str, u64)]) -> TreeNode {
        let enforcers = enforcers.iter().map(|(name, restarts)| node(name, *restarts, Vec::new())).collect();
        node(
            "palisade",
            0,
            vec![node("enforcement", 1, vec![node(ENFORCERS, 2, enforcers)]), node("probe", 3, Vec::new())],
        )
    }

    /// Actor and restarts.
    fn restarts(metrics: &[Metric]) -> Vec<(&str, u64)> {
        metrics[0].samples.iter().map(|(labels, value)| (labels[0].1.as_str(), *value)).collect()
    }

    #[test]
    fn unit_node_metrics_tell_how_each_recording_ended_also_what_never_came() {
        let ended = [(RecordingOutcome::Whole, 3), (RecordingOutcome::Unread, 2)].into();
        let metrics = recordings(&RecordingCounts { running: 1, ended });
        assert_eq!((metrics[0].name, metrics[0].samples[0].1), ("recordings_running", 1));
        let by_outcome: Vec<(&str, u64)> =
            metrics[1].samples.iter().map(|(labels, count)| (labels[0].1.as_str(), *count)).collect();
        let expected = [("whole", 3), ("too_small", 0), ("unread", 2), ("reader_gone", 0), ("not_stored", 0)];
        assert_eq!((metrics[1].name, by_outcome), ("recordings_ended", expected.to_vec()));
    }

    #[test]
    fn unit_node_metrics_tell_what_is_held_by_which_tier_and_what_is_not() {
        let held = |tier| HeldFamily { tier, gaps: Vec::new() };
        let policy =
            Arc::new(PolicyRef { kind: PolicyKind::KubeArmorPolicy, namespace: "shop".into(), name: "p".into() });
        let not_held = |what: &str, count| NotHeld {
            policy: Arc::clone(&policy),
            what: what.into(),
            reason: "none".into(),
            places: Vec::new(),
            count,
        };
        let fact = |slot, families: &[(Family, Tier)], parts: Vec<NotHeld>| PolicyInstalled {
            slot: Slot(slot),
            generation: Generation(1),
            policy: None,
            installed: Installed {
                number: 1,
                families: families.iter().map(|(family, tier)| (*family, held(*tier))).collect(),
            },
            not_held: parts.into(),
        };
        let metrics = super::held(&[
            fact(
                1,
                &[(Family::File, Tier::Fanotify), (Family::Network, Tier::CgroupBpf)],
                vec![not_held("readOnly", 3)],
            ),
            fact(2, &[(Family::File, Tier::Fanotify)], vec![not_held("readOnly", 1), not_held("apparmor", 1)]),
        ]);
        let samples = |at: usize| -> Vec<(String, u64)> {
            let words = |labels: &[(&str, String)]| {
                labels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
            };
            metrics[at].samples.iter().map(|(labels, value)| (words(labels), *value)).collect()
        };
        assert_eq!(samples(0), [("file fanotify".to_owned(), 2), ("network cgroup-bpf".to_owned(), 1)]);
        assert_eq!(samples(1), [("apparmor".to_owned(), 1), ("readOnly".to_owned(), 4)]);
    }

    #[test]
    fn unit_node_metrics_have_one_series_for_all_enforcers_that_never_goes_back() {
        let mut mailboxes = Mailboxes::default();
        let metrics = mailboxes.metrics(&tree(&[("1:shop/web/main", 4), ("2:shop/api/main", 5)]));
        let expected = [
            ("palisade", 0),
            ("palisade/enforcement", 1),
            ("palisade/enforcement/enforcers", 2),
            ("palisade/probe", 3),
            ("enforcer", 9),
        ];
        assert_eq!(restarts(&metrics), expected);
        assert_eq!(metrics[1].samples.len(), 1, "a supervisor has no mail");
        let mut last = |enforcers: &[_]| {
            let metrics = mailboxes.metrics(&tree(enforcers));
            restarts(&metrics).last().map(|(actor, restarts)| ((*actor).to_owned(), *restarts))
        };
        assert_eq!(last(&[("2:shop/api/main", 5)]), Some(("enforcer".into(), 9)), "one is gone");
        assert_eq!(last(&[("2:shop/api/main", 0)]), Some(("enforcer".into(), 9)), "the same name again, from zero");
        assert_eq!(last(&[("2:shop/api/main", 1), ("3:shop/web/main", 1)]), Some(("enforcer".into(), 11)));
        assert_eq!(last(&[]), Some(("enforcer".into(), 11)));
    }
}
