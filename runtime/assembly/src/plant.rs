//! The wiring: who is told what.

use std::{iter, num::NonZeroUsize, sync::Arc, time::Duration};

use actix::{Handler, Message};
use palisade_alerts::actor::{SetSinks, SetThrottle};
use palisade_protocol::{
    AlertSettingsChanged, ConditionReported, PolicyAnnounced, PolicyDocumentsChanged, PolicyInstalled,
    PolicySetChanged, SetPolicyInterval, SetPostures, SetVisibility, UserNamesRead, VisibilityChanged,
    WorkloadAppeared, WorkloadGone, WorkloadNamed, WorkloadPlaced,
};
use palisade_recorder::Recorder;
use palisade_supervision::{Child, Outbox, Overflow, Strategy, Supervisor};

use crate::{
    Askers, ENFORCERS, NodesAskers, Outlets, Places, Planted, Ports, Settings, children,
    mailboxes::{Mailboxes, SLOTS},
};

/// Restarts of enforcers that are tolerated within a minute: one whose start always crashes makes about nine, so this is some thirty
/// workloads at once. Fewer are faults of those workloads, which stay as they stand; the others must not be restarted for them.
const ENFORCER_RESTARTS: u32 = 256;

/// Wires the tree. Children are declared in the order in which they start; `configuration` makes the second of them.
pub fn plant<C: Child>(
    settings: &Settings,
    ports: &Ports,
    places: &Places,
    configuration: impl FnOnce(Outlets) -> C,
) -> Planted {
    let boxes = Mailboxes::new(ports.recording.is_some(), ports.links.is_some());
    let askers = askers(&boxes, ports);
    let conditions = boxes.health.address().outbox(each(2 * SLOTS, |report: &ConditionReported| hash(&report.name)));
    let configuration = configuration(outlets(&boxes, settings, &conditions));
    let probe_wiring = palisade_probe::Wiring {
        // The recorder knows by the records' numbers what was shed before it.
        readers: and(
            boxes.alerts.address().outbox(Overflow::Refuse),
            to_recorder(&boxes, Overflow::ShedOldest(NonZeroUsize::MIN)),
        ),
        conditions: conditions.clone(),
    };
    let enforcer_wiring = enforcer_wiring(&boxes, settings, ports, &conditions);
    let workloads_wiring = workloads_wiring(&boxes, ports, &conditions);
    let keeper_wiring = palisade_policy_keeper::Wiring {
        // Only the newest set matters.
        sets: boxes.roster.address().outbox(each(1, |_: &PolicySetChanged| 0)),
        documents: to_recorder(&boxes, each(1, |_: &PolicyDocumentsChanged| 0)).into_iter().collect(),
        conditions: conditions.clone(),
        interval: settings.live.lock().policy_interval,
    };

    // One file that was read does not stand for another.
    let user_names = |fact: &UserNamesRead| u64::from(fact.slot.0);
    let users = to_recorder(&boxes, each(SLOTS, user_names));

    let enforcers = Supervisor::new(ENFORCERS).intensity(ENFORCER_RESTARTS, Duration::from_secs(60));
    let roster = children::roster(settings, boxes.roster, &enforcers, places, enforcer_wiring);
    let mut enforcement = Supervisor::new("enforcement").strategy(Strategy::OneForAll).child(enforcers).child(roster);
    if let Some(open) = &ports.containers {
        let workloads = children::workloads(settings, ports, open, boxes.workloads, workloads_wiring);
        enforcement = enforcement.child(workloads.place(Arc::clone(&places.enforce)));
    }
    let keeper = children::keeper(settings, ports, boxes.keeper, keeper_wiring);
    let enforcement = enforcement.child(keeper.place(Arc::clone(&places.policies)));

    let alerts = children::alerts(settings, ports, boxes.alerts, users, conditions.clone());
    let supervisor = Supervisor::new("palisade")
        .seed(settings.jitter_seed)
        .child(children::health(settings, ports, boxes.health))
        .child(configuration)
        .child(children::compiler(ports, boxes.compiler).place(Arc::clone(&places.compile)))
        .child(alerts.place(Arc::clone(&places.alerts)));
    let supervisor = match (&ports.recording, boxes.recorder) {
        (Some(open), Some(mailbox)) => {
            let account = askers.records.clone();
            let recorder = children::recorder(settings, ports, open, mailbox, account, conditions.clone());
            supervisor.child(recorder.place(Arc::clone(&places.record)))
        }
        _ => supervisor,
    };
    let supervisor = supervisor
        .child(enforcement)
        .child(children::probe(ports, boxes.probe, probe_wiring).place(Arc::clone(&places.probe)));
    let supervisor = match (&ports.links, boxes.peers) {
        (Some(linked), Some(mailbox)) => {
            let peers = children::peers(ports, linked, mailbox, askers.alerts.clone(), conditions);
            supervisor.child(peers.place(Arc::clone(&linked.place)))
        }
        _ => supervisor,
    };
    Planted { supervisor, askers }
}

fn askers(boxes: &Mailboxes, ports: &Ports) -> Askers {
    Askers {
        readiness: boxes.health.address().asker(),
        installed: boxes.health.address().asker(),
        workloads: ports.containers.is_some().then(|| boxes.workloads.address().asker()),
        policies: boxes.keeper.address().asker(),
        alerts: boxes.alerts.address().asker(),
        alert_counts: boxes.alerts.address().asker(),
        processes: boxes.alerts.address().asker(),
        records: boxes.probe.address().asker(),
        recording: boxes.recorder.as_ref().map(|recorder| recorder.address().asker()),
        end_recording: boxes.recorder.as_ref().map(|recorder| recorder.address().asker()),
        recording_counts: boxes.recorder.as_ref().map(|recorder| recorder.address().asker()),
        nodes: boxes
            .peers
            .as_ref()
            .map(|peers| NodesAskers { nodes: peers.address().asker(), follow: peers.address().asker() }),
    }
}

fn outlets(boxes: &Mailboxes, settings: &Settings, conditions: &Outbox<ConditionReported>) -> Outlets {
    let (alerts, roster) = (boxes.alerts.address(), boxes.roster.address());
    Outlets {
        visibility: [roster.outbox(each(1, |_: &SetVisibility| 0)), alerts.outbox(each(1, |_: &SetVisibility| 0))],
        throttle: alerts.outbox(each(1, |_: &SetThrottle| 0)),
        recorded: to_recorder(boxes, each(1, |_: &AlertSettingsChanged| 0)),
        sinks: alerts.outbox(each(1, |_: &SetSinks| 0)),
        postures: boxes.keeper.address().outbox(each(1, |_: &SetPostures| 0)),
        policy_interval: boxes.keeper.address().outbox(each(1, |_: &SetPolicyInterval| 0)),
        host: settings.holds_host.then(|| boxes.roster.address().outbox(each(1, |_: &WorkloadAppeared| 0))),
        named: and(alerts.outbox(each(1, |_: &WorkloadNamed| 0)), to_recorder(boxes, each(1, |_: &WorkloadNamed| 0))),
        conditions: conditions.clone(),
    }
}

fn enforcer_wiring(
    boxes: &Mailboxes,
    settings: &Settings,
    ports: &Ports,
    conditions: &Outbox<ConditionReported>,
) -> palisade_enforcer::Wiring {
    let (alerts, health) = (boxes.alerts.address(), boxes.health.address());
    let seen = settings.live.lock().seen;
    let installed = |fact: &PolicyInstalled| u64::from(fact.slot.0);
    let released = |fact: &WorkloadGone| u64::from(fact.slot.0);
    let visible = |fact: &VisibilityChanged| u64::from(fact.slot.0);
    palisade_enforcer::Wiring {
        enforcement: Arc::clone(&ports.enforcement),
        compiler: boxes.compiler.address().asker(),
        announced: and(alerts.outbox(each(2 * SLOTS, announcement)), to_recorder(boxes, each(2 * SLOTS, announcement))),
        installed: [alerts.outbox(each(SLOTS, installed)), health.outbox(each(SLOTS, installed))]
            .into_iter()
            .chain(to_recorder(boxes, each(SLOTS, installed)))
            .collect(),
        released: and(health.outbox(each(SLOTS, released)), to_recorder(boxes, each(SLOTS, released))),
        conditions: conditions.clone(),
        visibility: seen.visibility,
        host_visibility: seen.host,
        // The node's own holds where a namespace says nothing.
        select_visibility: |set, workload| set.visibility_of(workload),
        visible: and(alerts.outbox(each(SLOTS, visible)), to_recorder(boxes, each(SLOTS, visible))),
        devices: ports.devices.clone(),
        judged: vec![alerts.outbox(Overflow::Refuse)],
    }
}

fn workloads_wiring(
    boxes: &Mailboxes,
    ports: &Ports,
    conditions: &Outbox<ConditionReported>,
) -> palisade_workloads::Wiring {
    let roster = boxes.roster.address();
    let named = |fact: &WorkloadNamed| u64::from(fact.slot.0);
    let placed = |fact: &WorkloadPlaced| u64::from(fact.membership.slot.0);
    palisade_workloads::Wiring {
        appeared: roster.outbox(Overflow::Block),
        started: roster.outbox(Overflow::Block),
        gone: roster.outbox(Overflow::Block),
        named: and(boxes.alerts.address().outbox(each(SLOTS, named)), to_recorder(boxes, each(SLOTS, named))),
        placed: to_recorder(boxes, each(SLOTS, placed)).into_iter().collect(),
        conditions: conditions.clone(),
        clock: Arc::clone(&ports.clock),
    }
}

/// The recorder's end of what is said, where there is a recorder.
fn to_recorder<M>(boxes: &Mailboxes, overflow: Overflow<M>) -> Option<Outbox<M>>
where
    M: Message + Send + 'static,
    M::Result: Send,
    Recorder: Handler<M>,
{
    boxes.recorder.as_ref().map(|recorder| recorder.address().outbox(overflow))
}

/// One that is always told, and one that may be.
fn and<M: Message>(always: Outbox<M>, perhaps: Option<Outbox<M>>) -> Vec<Outbox<M>> {
    iter::once(always).chain(perhaps).collect()
}

/// Announcements of one slot and generation say the same.
fn announcement(fact: &PolicyAnnounced) -> u64 {
    u64::from(fact.slot.0) << 32 | u64::from(fact.generation.0)
}

/// The newest of each key waits for room, of at most so many keys.
fn each<M>(keys: usize, key: fn(&M) -> u64) -> Overflow<M> {
    Overflow::Coalesce(NonZeroUsize::new(keys).unwrap_or(NonZeroUsize::MIN), key)
}

/// FNV-1a: names of conditions are few and our own.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
