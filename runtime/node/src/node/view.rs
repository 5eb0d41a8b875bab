//! What the admin endpoint shows, asked of the actors.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use palisade_admin::{
    AdminView, AlertLines, Document, LineFilter, Metric, RecordingBegun, RecordingRequest, ViewError,
    answers::{Activity, RecordCounts, RecordingActivity, WorkloadActivity},
    nodes::{AllAlerts, AllLines},
};
use palisade_assembly::{Askers, ENFORCERS};
use palisade_domain::{Family, Slot, Workload};
use palisade_protocol::{
    AlertCountsOf, Condition, EndRecording, InstalledPoliciesOf, LineClass, LiveProcess, NotHeld, PolicyInstalled,
    PolicySetStatusOf, ProcessesOf, Readiness, ReadinessOf, RecordAccount, RecordAccountOf, RecordTrace,
    RecordingCounts, RecordingCountsOf, RecordingRefused, SlotCounts, SubscribeAlerts, WorkloadsOf,
};
use palisade_supervision::{AskError, State, Tree, TreeNode};
use palisade_world::{Clock as _, Enforcement, HeldFamily, KernelMatrix, RefusedProgram};
use serde_json::{Value, json};

use super::{
    absence,
    bound::{self, Row},
    metrics,
    nodes::AllNodes,
};
use crate::clock::MachineClock;

/// Workloads of one name whose processes are told: the containers of a pod, and of its namesakes.
const MAX_NAMED: usize = 64;

/// People and scrapers wait no longer.
pub const WITHIN: Duration = Duration::from_secs(2);

/// What the kernel holds, and what of this node's programs it did not take.
pub struct Held {
    /// Who holds workloads.
    pub enforcement: Arc<dyn Enforcement>,
    /// Fixed for the life of the node.
    pub refused: Vec<RefusedProgram>,
}

/// See the module.
pub struct View {
    tree: Arc<Tree>,
    ask: Askers,
    kernel: Held,
    mailboxes: Mutex<metrics::Mailboxes>,
    bound: Vec<Row>,
    nodes: AllNodes,
}

impl View {
    /// Shows this tree.
    pub fn new(tree: Arc<Tree>, ask: Askers, kernel: Held, bound: Vec<Row>, nodes: AllNodes) -> Self {
        Self { tree, ask, kernel, mailboxes: Mutex::default(), bound, nodes }
    }

    /// Sums: whole whatever a panic left behind.
    fn mailboxes(&self) -> MutexGuard<'_, metrics::Mailboxes> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
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
        let unknown = installed.contains_key(&Slot::UNKNOWN.0);
        all.extend(unknown.then(|| row(Slot::UNKNOWN.0, json!(palisade_enforcer::unknown::workload()))));
        Ok(json!({ "synchronized": synchronized, "workloads": all }))
    }

    /// What cannot be had is named, and takes nothing else along.
    async fn activity(&self) -> Activity {
        let (records, alerts, recordings) = tokio::join!(
            self.ask.records.ask(RecordAccountOf, WITHIN),
            self.ask.alert_counts.ask(AlertCountsOf, WITHIN),
            self.recordings(),
        );
        let mut activity = Activity { at_ms: MachineClock.boot().0 / 1_000_000, ..Activity::default() };
        match recordings {
            Ok(counts) => activity.recordings = recording_counts(&counts),
            Err(_) => activity.unanswered.push("recorder".into()),
        }
        match records {
            Ok(account) => activity.records = record_counts(&account),
            Err(_) => activity.unanswered.push("probe".into()),
        }
        let Ok(counts) = alerts else {
            activity.unanswered.push("alerts".into());
            return activity;
        };
        activity.alerts = by_name(&counts.raised);
        activity.held_back = by_name(&counts.held_back);
        activity.unwritten = counts.unwritten;
        activity.missed_by_listeners = counts.missed_by_listeners;
        let row = |(slot, counts): (Slot, SlotCounts)| WorkloadActivity {
            slot: slot.0,
            events: counts.events,
            alerts: by_name(&counts.raised),
        };
        activity.workloads = counts.by_slot.into_iter().map(row).collect();
        activity
    }

    /// What the recorder counts; nothing where there is none.
    async fn recordings(&self) -> Result<RecordingCounts, AskError> {
        match &self.ask.recording_counts {
            Some(recorder) => recorder.ask(RecordingCountsOf, WITHIN).await,
            None => Ok(RecordingCounts::default()),
        }
    }

    /// The slots of the workloads that a name names.
    async fn named(&self, name: &str) -> Result<Vec<(Slot, Value)>, ViewError> {
        if name == "host" {
            return Ok(vec![(Slot::HOST, json!({ "kind": "host" }))]);
        }
        let Some(workloads) = &self.ask.workloads else { return Ok(Vec::new()) };
        let table = workloads.ask(WorkloadsOf, WITHIN).await.map_err(silent("workloads"))?;
        let names = |workload: &Workload| {
            let whole = format!("{}/{}/{}", workload.namespace, workload.name, workload.container);
            let pod = format!("{}/{}", workload.namespace, workload.name);
            [whole.as_str(), pod.as_str(), &workload.name].contains(&name)
        };
        let named = table.workloads.iter().filter(|(_, workload)| names(workload));
        Ok(named.map(|(slot, workload)| (*slot, json!(**workload))).collect())
    }

    async fn policies(&self) -> Result<Value, ViewError> {
        let status = self.ask.policies.ask(PolicySetStatusOf, WITHIN).await.map_err(silent("policy-keeper"))?;
        Ok(json!({
            "generation": status.generation, "policies": status.policies, "diagnostics": status.diagnostics,
            "heldBack": status.held_back, "unreadable": status.unreadable,
        }))
    }
}

fn by_name<K: std::fmt::Debug>(counts: &BTreeMap<K, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(key, count)| (format!("{key:?}").to_lowercase(), *count)).collect()
}

fn record_counts(account: &RecordAccount) -> RecordCounts {
    let mut lost = BTreeMap::new();
    for ((_, reason), count) in &account.loss.counts {
        *lost.entry(format!("{reason:?}")).or_default() += count;
    }
    let RecordAccount { delivered, malformed, refused, missing, .. } = *account;
    RecordCounts { delivered, malformed, refused, missing, lost }
}

fn recording_counts(counts: &RecordingCounts) -> RecordingActivity {
    let ended = counts.ended.iter().map(|(outcome, count)| (outcome.word().to_owned(), *count)).collect();
    RecordingActivity { running: counts.running, ended }
}

fn process(process: &LiveProcess) -> Value {
    json!({
        "pid": process.pid, "parentPid": process.parent_pid, "ownPid": process.own_pid, "startTicks": process.start_ticks,
        "uid": process.uid, "username": process.username, "executable": process.executable,
        "arguments": process.arguments, "argumentsCut": process.arguments_cut,
    })
}

fn policy(fact: &PolicyInstalled) -> Value {
    json!({
        "generation": fact.generation,
        "blob": fact.policy.as_ref().map(|policy| policy.id.to_string()),
        "blobBytes": fact.policy.as_ref().map(|policy| policy.blob.as_bytes().len()),
        "rules": fact.policy.as_ref().map_or(0, |policy| policy.rules.len()),
        "families": families(&fact.installed.families),
        "notHeld": fact.not_held.iter().map(not_held).collect::<Vec<_>>(),
    })
}

/// A part of a policy that is not held; `palisade policy validate` prints the same.
pub fn not_held(part: &NotHeld) -> Value {
    let NotHeld { policy, what, reason, places, count } = part;
    json!({ "policy": policy.to_string(), "what": what, "reason": reason, "places": places, "count": count })
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

fn refused(refused: &RefusedProgram) -> Value {
    let RefusedProgram { program, needs, without, reason } = refused;
    json!({ "program": program, "needs": needs, "without": without, "reason": reason })
}

/// Who did not answer, and why.
pub fn silent(actor: &'static str) -> impl FnOnce(AskError) -> ViewError {
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
            Document::TreeOfAll => Ok(json!(self.nodes.trees(&self.tree.read()).await?)),
            Document::Nodes => Ok(json!(self.nodes.nodes().await?)),
            Document::Workloads => self.workloads().await,
            Document::Policies => self.policies().await,
            Document::Activity => Ok(json!(self.activity().await)),
            Document::Kernel => {
                let mut value = matrix(self.kernel.enforcement.matrix());
                let memory = self.kernel.enforcement.memory();
                value["memoryBytes"] =
                    json!({ "blobs": memory.blobs, "blobCount": memory.blob_count, "maps": memory.maps });
                value["refused"] = self.kernel.refused.iter().map(refused).collect();
                if let Some(absence) = self.kernel.enforcement.absence() {
                    value["unattended"] = absence::document(&absence);
                }
                Ok(value)
            }
        }
    }

    async fn readiness(&self) -> Result<(bool, Value), ViewError> {
        let mut readiness = self.ask.readiness.ask(ReadinessOf, WITHIN).await.map_err(silent("health"))?;
        if let Some(down) = down(&self.tree.read()) {
            readiness.ready &= !matches!(down, Condition::Failed(_));
            readiness.conditions.insert("actors".into(), down);
        }
        Ok((readiness.ready, conditions(&readiness)))
    }

    async fn metrics(&self) -> Vec<Metric> {
        let workloads = async {
            match &self.ask.workloads {
                Some(workloads) => Some(workloads.ask(WorkloadsOf, WITHIN).await),
                None => None,
            }
        };
        let (records, alerts, status, recordings, installed, workloads) = tokio::join!(
            self.ask.records.ask(RecordAccountOf, WITHIN),
            self.ask.alert_counts.ask(AlertCountsOf, WITHIN),
            self.ask.policies.ask(PolicySetStatusOf, WITHIN),
            self.recordings(),
            self.ask.installed.ask(InstalledPoliciesOf, WITHIN),
            workloads,
        );
        let mut all = Vec::new();
        let mut unanswered = Vec::new();
        match records {
            Ok(account) => all.extend(metrics::records(&account)),
            Err(_) => unanswered.push("probe"),
        }
        match alerts {
            Ok(counts) => all.extend(metrics::alerts(&counts)),
            Err(_) => unanswered.push("alerts"),
        }
        match status {
            Ok(status) => all.extend(metrics::policies(&status)),
            Err(_) => unanswered.push("policy-keeper"),
        }
        match recordings {
            Ok(counts) => all.extend(metrics::recordings(&counts)),
            Err(_) => unanswered.push("recorder"),
        }
        match installed {
            Ok(installed) => all.extend(metrics::held(&installed)),
            Err(_) => unanswered.push("health"),
        }
        match workloads {
            Some(Ok(table)) => all.extend(metrics::workloads(&table)),
            Some(Err(_)) => unanswered.push("workloads"),
            None => {}
        }
        all.extend(metrics::kernel(self.kernel.enforcement.matrix(), &self.kernel.refused));
        match self.nodes.metrics().await {
            Ok(of_links) => all.extend(of_links),
            Err(_) => unanswered.push("peers"),
        }
        all.extend(metrics::memory(&self.kernel.enforcement.memory()));
        all.extend(self.kernel.enforcement.absence().iter().flat_map(absence::metrics));
        all.extend(bound::metrics(&self.bound));
        all.extend(self.mailboxes().metrics(&self.tree.read()));
        all.push(metrics::unanswered(&unanswered));
        all
    }

    async fn processes(&self, workload: &str) -> Result<Value, ViewError> {
        let named = self.named(workload).await?;
        let more = named.len() > MAX_NAMED;
        let mut workloads = Vec::new();
        for (slot, workload) in named.into_iter().take(MAX_NAMED) {
            let told = self.ask.processes.ask(ProcessesOf { slot }, WITHIN).await.map_err(silent("alerts"))?;
            let processes: Vec<Value> = told.processes.iter().map(process).collect();
            workloads.push(json!({
                "slot": slot.0, "workload": workload, "processes": processes, "more": told.more,
            }));
        }
        Ok(json!({ "workloads": workloads, "more": more }))
    }

    async fn record(&self, request: RecordingRequest) -> Result<RecordingBegun, ViewError> {
        let asked = RecordTrace {
            workloads: request.workloads,
            last: Duration::from_secs(request.last_seconds),
            duration: request.duration_seconds.map(Duration::from_secs),
            limit_bytes: request.limit_bytes,
            in_parts: request.in_parts,
            arguments: request.arguments,
        };
        let refused = |error: RecordingRefused| ViewError { actor: "recorder", reason: error.to_string() };
        let Some(recorder) = &self.ask.recording else {
            return Err(ViewError { actor: "recorder", reason: "this node records nothing".to_owned() });
        };
        let begun = recorder.ask(asked, WITHIN).await.map_err(silent("recorder"))?;
        begun.map(|stream| RecordingBegun { id: stream.id, trace: stream.bytes }).map_err(refused)
    }

    async fn end_recording(&self, id: u64) -> Result<(bool, Option<String>), ViewError> {
        let Some(recorder) = &self.ask.end_recording else { return Ok((false, None)) };
        let end = recorder.ask(EndRecording { id: Some(id) }, WITHIN).await.map_err(silent("recorder"))?;
        Ok((end.ended, end.why.map(|why| why.to_string())))
    }

    async fn alerts_of_all(&self, recent: usize) -> Result<AllAlerts, ViewError> {
        let question = SubscribeAlerts { class: LineClass::Policy, recent, follow: false };
        let mut stream = self.ask.alerts.ask(question, WITHIN).await.map_err(silent("alerts"))?;
        let mut own = Vec::new();
        while let Some(line) = stream.lines.recv().await {
            own.push(line.trim_end().to_owned());
        }
        self.nodes.alerts(own, recent).await
    }

    async fn follow_all(&self, recent: usize) -> Result<AllLines, ViewError> {
        self.nodes.follow(recent).await
    }

    async fn alerts(&self, filter: LineFilter, recent: usize, follow: bool) -> Result<AlertLines, ViewError> {
        let class = match filter {
            LineFilter::Policy => LineClass::Policy,
            LineFilter::System => LineClass::System,
            LineFilter::All => LineClass::All,
        };
        let question = SubscribeAlerts { class, recent, follow };
        let stream = self.ask.alerts.ask(question, WITHIN).await.map_err(silent("alerts"))?;
        if follow && !stream.follows {
            // Not a log that ends for no reason that anybody could see.
            let reason = format!("{} follow already, at most", palisade_alerts::actor::LISTENERS);
            return Err(ViewError { actor: "alerts", reason });
        }
        Ok(stream.lines)
    }
}

/// Actors that do not serve now, though nobody stopped them: what they reported while they did says nothing of them any more. One that
/// fails for its own workload only does not make the node unready.
fn down(root: &TreeNode) -> Option<Condition> {
    let (mut of_node, mut of_workloads, mut path) = (Vec::new(), Vec::new(), Vec::<String>::new());
    root.walk(&mut |level, node| {
        path.truncate(level);
        path.push(node.name.clone());
        if matches!(node.state, State::BackingOff | State::GaveUp | State::Finished | State::Abandoned) {
            let why = node.last_error.as_deref().unwrap_or("it ended");
            let said = format!("{}: {why}", path.join("/"));
            let own = path.iter().rev().nth(1).is_some_and(|parent| parent == ENFORCERS);
            if own { of_workloads.push(said) } else { of_node.push(said) }
        }
    });
    match (of_node.is_empty(), of_workloads.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Condition::Degraded(of_workloads.join("; "))),
        (false, _) => Some(Condition::Failed([of_node, of_workloads].concat().join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use palisade_supervision::{Kind, Strategy};

    use super::*;

    fn node(name: &str, state: State, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: name.into(),
            kind: Kind::Supervisor(Strategy::OneForOne),
            state,
            restart: None,
            place: "here".into(),
            generation: 1,
            uptime_ms: None,
            restarts: 0,
            last_error: (state == State::BackingOff).then(|| "panicked: x".into()),
            mail: None,
            children,
        }
    }

    #[test]
    fn unit_node_is_not_ready_while_one_of_its_own_actors_is_down() {
        let tree = |probe, web| {
            let enforcers = node(ENFORCERS, State::Running, vec![node("4:shop/web/main", web, Vec::new())]);
            let enforcement = node("enforcement", State::Running, vec![enforcers]);
            node("palisade", State::Running, vec![enforcement, node("probe", probe, Vec::new())])
        };
        assert_eq!(down(&tree(State::Running, State::Starting)), None);
        let of_workload = down(&tree(State::Running, State::BackingOff));
        assert!(matches!(of_workload, Some(Condition::Degraded(why)) if why.contains("4:shop/web/main: panicked: x")));
        let of_node = down(&tree(State::BackingOff, State::BackingOff));
        assert!(matches!(of_node, Some(Condition::Failed(why)) if why.starts_with("palisade/probe: panicked: x; ")));
    }
}
