//! What the admin endpoint shows, asked of the actors.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use palisade_admin::{AdminView, AlertLines, Document, Metric, MetricKind, ViewError};
use palisade_domain::Family;
use palisade_kernel_abi::record::Kind;
use palisade_protocol::{
    AlertCountsOf, Condition, InstalledPoliciesOf, PolicyInstalled, PolicySetStatusOf, Readiness, ReadinessOf,
    RecordAccountOf, SubscribeAlerts, WorkloadsOf,
};
use palisade_supervision::{AskError, Tree};
use palisade_world::{Enforcement, HeldFamily, KernelMatrix};
use serde_json::{Value, json};

use super::tree::Askers;

/// People and scrapers wait no longer.
const WITHIN: Duration = Duration::from_secs(2);

/// See the module.
pub struct View {
    tree: Arc<Tree>,
    ask: Askers,
    enforcement: Arc<dyn Enforcement>,
}

impl View {
    /// Shows this tree.
    pub fn new(tree: Arc<Tree>, ask: Askers, enforcement: Arc<dyn Enforcement>) -> Self {
        Self { tree, ask, enforcement }
    }

    async fn workloads(&self) -> Result<Value, ViewError> {
        let installed = self.ask.installed.ask(InstalledPoliciesOf, WITHIN).await.map_err(silent("health"))?;
        let installed: BTreeMap<u32, &PolicyInstalled> = installed.iter().map(|fact| (fact.slot.0, fact)).collect();
        let (rows, synchronized) = match &self.ask.workloads {
            Some(workloads) => {
                let table = workloads.ask(WorkloadsOf, WITHIN).await.map_err(silent("workloads"))?;
                (table.workloads, table.synchronized)
            }
            None => (Vec::new(), true),
        };
        let row = |slot: u32, workload: Value| json!({ "slot": slot, "workload": workload, "policy": installed.get(&slot).map(|fact| policy(fact)) });
        let mut all: Vec<Value> =
            installed.contains_key(&0).then(|| row(0, json!({ "kind": "host" }))).into_iter().collect();
        all.extend(rows.iter().map(|(slot, workload)| row(slot.0, json!(**workload))));
        Ok(json!({ "synchronized": synchronized, "workloads": all }))
    }

    async fn policies(&self) -> Result<Value, ViewError> {
        let status = self.ask.policies.ask(PolicySetStatusOf, WITHIN).await.map_err(silent("policy-keeper"))?;
        Ok(json!({
            "generation": status.generation, "policies": status.policies, "diagnostics": status.diagnostics,
            "heldBack": status.held_back, "unreadable": status.unreadable,
        }))
    }
}

fn policy(fact: &PolicyInstalled) -> Value {
    json!({
        "generation": fact.generation,
        "blob": fact.policy.as_ref().map(|policy| policy.id.to_string()),
        "blobBytes": fact.policy.as_ref().map(|policy| policy.blob.as_bytes().len()),
        "rules": fact.policy.as_ref().map_or(0, |policy| policy.rules.len()),
        "families": families(&fact.installed.families),
    })
}

fn families(families: &BTreeMap<Family, HeldFamily>) -> Value {
    let row = |(family, held): (&Family, &HeldFamily)| {
        let gaps: Vec<Value> = held.gaps.iter().map(|gap| json!({ "what": gap.what, "reason": gap.reason })).collect();
        json!({ "family": family, "tier": held.tier, "gaps": gaps })
    };
    families.iter().map(row).collect()
}

/// The kernel's matrix as JSON; `palisade probe` prints the same.
pub fn matrix(matrix: &KernelMatrix) -> Value {
    let capability = |(capability, state): (&palisade_world::Capability, &palisade_world::CapabilityState)| match state
    {
        palisade_world::CapabilityState::Available => {
            json!({ "capability": format!("{capability:?}"), "available": true })
        }
        palisade_world::CapabilityState::Missing(reason) => {
            json!({ "capability": format!("{capability:?}"), "available": false, "reason": reason })
        }
    };
    json!({
        "release": matrix.release, "lsms": matrix.lsms,
        "capabilities": matrix.capabilities.iter().map(capability).collect::<Vec<_>>(),
        "families": families(&matrix.families),
    })
}

fn silent(actor: &'static str) -> impl FnOnce(AskError) -> ViewError {
    move |error| ViewError { actor, reason: error.to_string() }
}

fn conditions(readiness: &Readiness) -> Value {
    let one = |condition: &Condition| match condition {
        Condition::Good => json!({ "state": "good" }),
        Condition::Pending(reason) => json!({ "state": "pending", "reason": reason }),
        Condition::Degraded(reason) => json!({ "state": "degraded", "reason": reason }),
        Condition::Failed(reason) => json!({ "state": "failed", "reason": reason }),
    };
    readiness
        .conditions
        .iter()
        .map(|(name, condition)| (name.clone(), one(condition)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[async_trait]
impl AdminView for View {
    async fn document(&self, which: Document) -> Result<Value, ViewError> {
        match which {
            Document::Tree => serde_json::to_value(self.tree.read())
                .map_err(|error| ViewError { actor: "tree", reason: error.to_string() }),
            Document::Workloads => self.workloads().await,
            Document::Policies => self.policies().await,
            Document::Kernel => {
                let mut value = matrix(self.enforcement.matrix());
                let memory = self.enforcement.memory();
                value["memoryBytes"] =
                    json!({ "blobs": memory.blobs, "blobCount": memory.blob_count, "maps": memory.maps });
                Ok(value)
            }
        }
    }

    async fn readiness(&self) -> Result<(bool, Value), ViewError> {
        let readiness = self.ask.readiness.ask(ReadinessOf, WITHIN).await.map_err(silent("health"))?;
        Ok((readiness.ready, conditions(&readiness)))
    }

    async fn metrics(&self) -> Result<Vec<Metric>, ViewError> {
        let records = self.ask.records.ask(RecordAccountOf, WITHIN).await.map_err(silent("probe"))?;
        let alerts = self.ask.alert_counts.ask(AlertCountsOf, WITHIN).await.map_err(silent("alerts"))?;
        let status = self.ask.policies.ask(PolicySetStatusOf, WITHIN).await.map_err(silent("policy-keeper"))?;
        let memory = self.enforcement.memory();
        let counter = |name, help, value| Metric::single(name, help, MetricKind::Counter, value);
        let gauge = |name, help, value| Metric::single(name, help, MetricKind::Gauge, value);
        let lost = records.loss.counts.iter().map(|((kind, reason), count)| {
            let kind =
                Kind::from_code(*kind).map_or_else(|| kind.to_string(), |kind| format!("{kind:?}").to_lowercase());
            (vec![("kind", kind), ("reason", format!("{reason:?}"))], *count)
        });
        let raised = alerts
            .raised
            .iter()
            .map(|(verdict, count)| (vec![("verdict", format!("{verdict:?}").to_lowercase())], *count));
        let unwritten = alerts.unwritten.iter().map(|(sink, count)| (vec![("sink", sink.clone())], *count));
        let mut metrics = vec![
            counter("records_delivered", "Kernel records read.", records.delivered),
            counter("records_malformed", "Records that could not be decoded.", records.malformed),
            counter("records_refused", "Records that the alerts actor had no room for.", records.refused),
            gauge("records_missing", "Sequence numbers that did not arrive.", records.missing),
            Metric {
                name: "records_lost",
                help: "Records lost in the kernel.",
                kind: MetricKind::Counter,
                samples: lost.collect(),
            },
            Metric { name: "alerts", help: "Alerts raised.", kind: MetricKind::Counter, samples: raised.collect() },
            Metric {
                name: "alerts_unwritten",
                help: "Alerts that a sink did not take.",
                kind: MetricKind::Counter,
                samples: unwritten.collect(),
            },
            counter("alerts_missed_by_listeners", "Alerts that slow followers missed.", alerts.missed_by_listeners),
            counter("alerts_unattributed", "Alerts whose rule is no longer known.", alerts.unattributed),
            gauge("processes", "Processes in the table.", alerts.processes),
            counter("processes_forgotten", "Processes forgotten for want of room.", alerts.forgotten),
            gauge("policy_generation", "Policy set in force.", u64::from(status.generation.0)),
            gauge("policies", "Policies in force.", status.policies.len() as u64),
            gauge("policy_problems", "Problems found in policy files.", status.diagnostics.len() as u64),
            gauge("blobs", "Different compiled policies in the kernel.", memory.blob_count),
            gauge("blob_bytes", "Kernel memory of compiled policies.", memory.blobs),
            gauge("map_bytes", "Kernel memory of all other maps.", memory.maps),
        ];
        metrics.extend(mail(&self.tree.read()));
        Ok(metrics)
    }

    async fn alerts(&self, recent: usize, follow: bool) -> Result<AlertLines, ViewError> {
        let stream = self.ask.alerts.ask(SubscribeAlerts { recent, follow }, WITHIN).await.map_err(silent("alerts"))?;
        Ok(stream.lines)
    }
}

/// Restarts and mailboxes of each node of the tree.
fn mail(root: &palisade_supervision::TreeNode) -> Vec<Metric> {
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
    vec![
        Metric { name: "actor_restarts", help: "Restarts.", kind: MetricKind::Counter, samples: restarts },
        Metric { name: "mailbox_depth", help: "Messages waiting.", kind: MetricKind::Gauge, samples: depth },
        Metric {
            name: "mailbox_shed",
            help: "Messages refused or displaced for want of room.",
            kind: MetricKind::Counter,
            samples: shed,
        },
        Metric {
            name: "mailbox_lost_in_panic",
            help: "Messages lost in panics.",
            kind: MetricKind::Counter,
            samples: lost,
        },
    ]
}
