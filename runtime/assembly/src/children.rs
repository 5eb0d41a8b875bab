//! What each actor is built from, at each of its starts.

use std::sync::{Arc, atomic::AtomicU64};

use palisade_alerts::{Alerts, state::Names};
use palisade_domain::Slot;
use palisade_enforcer::Roster;
use palisade_health::{Health, state::State as Conditions};
use palisade_peers::Peers;
use palisade_policy_compiler::{
    actor::PolicyCompiler,
    state::{Bounds, State as CompilerState},
};
use palisade_policy_keeper::{PolicyKeeper, state::State as Policies};
use palisade_probe::Probe;
use palisade_protocol::{
    ConditionReported, RecordAccountOf, SubscribeAlerts, UserNamesRead, VisibilityChanged, WorkloadNamed,
};
use palisade_recorder::Recorder;
use palisade_supervision::{Asker, ChildSpec, Kept, MailboxOf, Outbox, Supervisor};
use palisade_wire::trace::{Fact, Picture, What};
use palisade_workloads::{Workloads, state::State as Slots};
use palisade_world::Containers;

use crate::{Linked, Open, Outputs, Places, PolicyFiles, Ports, Recording, Settings, host_appeared};

pub fn health(settings: &Settings, ports: &Ports, mailbox: MailboxOf<Health>) -> ChildSpec<Health> {
    let containers = ports.containers.is_some().then_some(palisade_workloads::actor::CONDITION);
    let own =
        [palisade_policy_keeper::actor::CONDITION, palisade_probe::actor::CONDITION, palisade_alerts::actor::CONDITION];
    let awaited = own.into_iter().chain(settings.awaited.iter().copied()).chain(containers);
    let state = Kept::new(Conditions::awaiting(awaited));
    let enforcement = Arc::clone(&ports.enforcement);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Health::new(state.clone(), Arc::clone(&enforcement))))
}

pub fn compiler(ports: &Ports, mailbox: MailboxOf<PolicyCompiler>) -> ChildSpec<PolicyCompiler> {
    let clock = Arc::clone(&ports.clock);
    ChildSpec::with_mailbox(mailbox, move |_| {
        Ok(PolicyCompiler::new(CompilerState::new(Bounds::default()), Arc::clone(&clock)))
    })
}

pub fn probe(ports: &Ports, mailbox: MailboxOf<Probe>, wiring: palisade_probe::Wiring) -> ChildSpec<Probe> {
    let open = Arc::clone(&ports.records);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Probe::new(open()?, wiring.clone())))
}

/// The alerts. Nothing that a start needs goes by the actor's own mailbox: where that is full, it would never start again.
pub fn alerts(
    settings: &Settings,
    ports: &Ports,
    mailbox: MailboxOf<Alerts>,
    users: Option<Outbox<UserNamesRead>>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Alerts> {
    let mut names = Names::default();
    let host = Arc::new(settings.live.lock().host.clone());
    names.named(WorkloadNamed { slot: Slot::HOST, workload: host });
    names.named(WorkloadNamed { slot: Slot::UNKNOWN, workload: Arc::new(palisade_enforcer::unknown::workload()) });
    names.visible(&VisibilityChanged { slot: Slot::HOST, visibility: settings.live.lock().seen.host });
    let names = Kept::new(names);
    let (open, clock) = (Arc::clone(&ports.outputs), Arc::clone(&ports.clock));
    let live = settings.live.clone();
    ChildSpec::with_mailbox(mailbox, move |_| {
        let Outputs { sinks, log_sinks, passwd, processes } = open()?;
        let (users, conditions, clock) = (users.clone(), conditions.clone(), Arc::clone(&clock));
        let wiring = palisade_alerts::Wiring { sinks, log_sinks, passwd, users, conditions, clock };
        let settings = live.lock().alerts.clone();
        Ok(Alerts::new(settings, wiring, names.clone(), processes))
    })
}

/// The recorder; what is so now outlives it, since it is said once.
pub fn recorder(
    settings: &Settings,
    ports: &Ports,
    open: &Open<Recording>,
    mailbox: MailboxOf<Recorder>,
    account: Asker<RecordAccountOf>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Recorder> {
    let mut picture = Picture::default();
    let host = What::WorkloadNamed(Slot::HOST, Arc::new(settings.live.lock().host.clone()));
    picture.fact(&Fact { boot_ns: 0, what: host });
    if settings.unknown.is_some() {
        let unknown = Arc::new(palisade_enforcer::unknown::workload());
        picture.fact(&Fact { boot_ns: 0, what: What::WorkloadNamed(Slot::UNKNOWN, unknown) });
    }
    picture.fact(&Fact { boot_ns: 0, what: What::Visible(Slot::HOST, settings.live.lock().seen.host) });
    let (now, open, clock) = (Kept::new(picture), Arc::clone(open), Arc::clone(&ports.clock));
    ChildSpec::with_mailbox(mailbox, move |_| {
        let Recording { settings, store, processes } = open()?;
        let (account, conditions, clock) = (account.clone(), conditions.clone(), Arc::clone(&clock));
        let wiring = palisade_recorder::Wiring { account, store, conditions, clock };
        Ok(Recorder::new(settings, wiring, now.clone(), processes))
    })
}

/// The actor of peers; its place is the links' own.
pub fn peers(
    ports: &Ports,
    linked: &Linked,
    mailbox: MailboxOf<Peers>,
    alerts: Asker<SubscribeAlerts>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Peers> {
    let mut first = [0; 8];
    linked.rng.fill(&mut first);
    let wiring = palisade_peers::Wiring {
        link: Arc::clone(&linked.link),
        tree: Arc::clone(&linked.tree),
        alerts,
        clock: Arc::clone(&ports.clock),
        conditions,
        questions: Arc::new(AtomicU64::new(u64::from_le_bytes(first))),
    };
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Peers::new(wiring.clone())))
}

/// The roster; where the host is held, it is held like any other workload, from each of its starts on.
pub fn roster(
    settings: &Settings,
    mailbox: MailboxOf<Roster>,
    enforcers: &Supervisor,
    places: &Places,
    wiring: palisade_enforcer::Wiring,
) -> ChildSpec<Roster> {
    let (handle, place) = (enforcers.handle(), Arc::clone(&places.enforce));
    let (live, holds_host, unknown) = (settings.live.clone(), settings.holds_host, settings.unknown);
    ChildSpec::with_mailbox(mailbox, move |_| {
        let live = live.lock();
        let roster = Roster::new(handle.clone(), Arc::clone(&place), wiring.clone()).seeing(live.seen);
        let roster = if holds_host { roster.holding(host_appeared(&live.host)) } else { roster };
        Ok(if let Some(unknown) = unknown { roster.holding_unknown(unknown) } else { roster })
    })
    .place(Arc::clone(&places.enforce))
}

pub fn workloads(
    settings: &Settings,
    ports: &Ports,
    open: &Open<Box<dyn Containers>>,
    mailbox: MailboxOf<Workloads>,
    wiring: palisade_workloads::Wiring,
) -> ChildSpec<Workloads> {
    let left = ports.enforcement.left_behind();
    let slots = Kept::new(Slots::new(settings.max_workloads).taking_over(ports.clock.boot(), left));
    let open = Arc::clone(open);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Workloads::new(open()?, wiring.clone(), slots.clone())))
}

/// The keeper; generations and last good versions go on over its restarts.
pub fn keeper(
    settings: &Settings,
    ports: &Ports,
    mailbox: MailboxOf<PolicyKeeper>,
    wiring: palisade_policy_keeper::Wiring,
) -> ChildSpec<PolicyKeeper> {
    let live = settings.live.clone();
    // What stands in the kernel is of sets that a process before this one numbered.
    let last = ports.enforcement.last_generation();
    let state = Kept::new(Policies::with_postures(live.lock().postures).after(last));
    let open = Arc::clone(&ports.policies);
    ChildSpec::with_mailbox(mailbox, move |_| {
        let wiring = palisade_policy_keeper::Wiring { interval: live.lock().policy_interval, ..wiring.clone() };
        let PolicyFiles { directory, last_good } = open()?;
        Ok(PolicyKeeper::new(directory, wiring, state.clone()).remembering(last_good))
    })
}
