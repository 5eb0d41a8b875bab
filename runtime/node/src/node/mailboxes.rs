//! The mailboxes of a node's actors, and who says what to whom.
//!
//! Invariant: what waits for room outside of a mailbox is bounded: the newest of each key, of as many keys as a node has slots.

use std::{num::NonZeroUsize, sync::Arc};

use palisade_alerts::{
    Alerts,
    actor::{SetSinks, SetThrottle},
};
use palisade_enforcer::Roster;
use palisade_health::Health;
use palisade_policy_compiler::actor::PolicyCompiler;
use palisade_policy_keeper::PolicyKeeper;
use palisade_probe::Probe;
use palisade_protocol::{
    AlertCountsOf, ConditionReported, InstalledPoliciesOf, PolicyAnnounced, PolicyInstalled, PolicySetChanged,
    PolicySetStatusOf, ProcessesOf, ReadinessOf, RecordAccountOf, SetPolicyInterval, SetPostures, SetVisibility,
    SubscribeAlerts, VisibilityChanged, WorkloadAppeared, WorkloadGone, WorkloadNamed, WorkloadsOf,
};
use palisade_supervision::{Asker, Kept, MailboxOf, Outbox, Overflow};
use palisade_workloads::Workloads;
use palisade_world::Enforcement;

use super::{
    outputs::Outputs,
    reload::{self, Configuration},
};
use crate::{arguments::NodeArguments, clock::MachineClock, log::LogLevel};

/// The most slots that a node can have; facts that find a mailbox full wait before it, the newest of each slot.
const SLOTS: usize = 4096;
/// Ends to ask, for the admin endpoint.
#[derive(Clone)]
pub struct Askers {
    pub readiness: Asker<ReadinessOf>,
    pub installed: Asker<InstalledPoliciesOf>,
    pub workloads: Option<Asker<WorkloadsOf>>,
    pub policies: Asker<PolicySetStatusOf>,
    pub alerts: Asker<SubscribeAlerts>,
    pub alert_counts: Asker<AlertCountsOf>,
    pub processes: Asker<ProcessesOf>,
    pub records: Asker<RecordAccountOf>,
}

/// Mailboxes made before the actors, since they know each other.
pub struct Mailboxes {
    pub health: MailboxOf<Health>,
    pub configuration: MailboxOf<Configuration>,
    pub compiler: MailboxOf<PolicyCompiler>,
    pub alerts: MailboxOf<Alerts>,
    pub roster: MailboxOf<Roster>,
    pub workloads: MailboxOf<Workloads>,
    pub keeper: MailboxOf<PolicyKeeper>,
    pub probe: MailboxOf<Probe>,
}

impl Mailboxes {
    /// All of them, empty.
    pub fn new() -> Self {
        Self {
            // Reports coalesce by name, and come from each of up to 4,096 enforcers at once after a change.
            health: MailboxOf::new("health", 8192),
            // Signals.
            configuration: MailboxOf::new("configuration", 4),
            // One question from each enforcer.
            compiler: MailboxOf::new("policy-compiler", 4096),
            // Batches, and a fact from each enforcer.
            alerts: MailboxOf::new("alerts", palisade_probe::actor::IN_FLIGHT + SLOTS),
            // Three facts a workload.
            roster: MailboxOf::new("roster", 4096),
            workloads: MailboxOf::new("workloads", 64),
            keeper: MailboxOf::new("policy-keeper", 64),
            probe: MailboxOf::new("probe", 64),
        }
    }

    /// Who keeps conditions: the newest of each name.
    pub fn conditions(&self) -> Outbox<ConditionReported> {
        self.health.address().outbox(each(2 * SLOTS, |report: &ConditionReported| hash(&report.name)))
    }

    /// Who is asked what the admin endpoint shows.
    pub fn askers(&self, arguments: &NodeArguments) -> Askers {
        Askers {
            readiness: self.health.address().asker(),
            installed: self.health.address().asker(),
            workloads: (!arguments.no_containers).then(|| self.workloads.address().asker()),
            policies: self.keeper.address().asker(),
            alerts: self.alerts.address().asker(),
            alert_counts: self.alerts.address().asker(),
            processes: self.alerts.address().asker(),
            records: self.probe.address().asker(),
        }
    }

    /// What the probe says.
    pub fn probe_wiring(&self) -> palisade_probe::Wiring {
        palisade_probe::Wiring {
            readers: vec![self.alerts.address().outbox(Overflow::Refuse)],
            conditions: self.conditions(),
        }
    }

    /// What enforcers say; what is seen is what the kernel is told at each admission.
    pub fn enforcer_wiring(
        &self,
        enforcement: &Arc<dyn Enforcement>,
        arguments: &NodeArguments,
    ) -> palisade_enforcer::Wiring {
        let alerts = self.alerts.address();
        palisade_enforcer::Wiring {
            enforcement: Arc::clone(enforcement),
            compiler: self.compiler.address().asker(),
            announced: alerts.outbox(each(2 * SLOTS, |fact: &PolicyAnnounced| {
                u64::from(fact.slot.0) << 32 | u64::from(fact.generation.0)
            })),
            installed: vec![
                alerts.outbox(each(SLOTS, |fact: &PolicyInstalled| u64::from(fact.slot.0))),
                self.health.address().outbox(each(SLOTS, |fact: &PolicyInstalled| u64::from(fact.slot.0))),
            ],
            released: self.health.address().outbox(each(SLOTS, |fact: &WorkloadGone| u64::from(fact.slot.0))),
            conditions: self.conditions(),
            visibility: arguments.visibility,
            host_visibility: arguments.seen_of_host(),
            // The node's own holds where a namespace says nothing.
            select_visibility: |set, workload| set.visibility_of(workload),
            visible: alerts.outbox(each(SLOTS, |fact: &VisibilityChanged| u64::from(fact.slot.0))),
        }
    }

    /// Who is told what changes while the node runs.
    pub fn reload_wiring(
        &self,
        arguments: &NodeArguments,
        level: LogLevel,
        live: Kept<NodeArguments>,
        outputs: Outputs,
    ) -> reload::Wiring {
        let (alerts, keeper, roster) = (self.alerts.address(), self.keeper.address(), self.roster.address());
        reload::Wiring {
            postures: keeper.outbox(each(1, |_: &SetPostures| 0)),
            policy_interval: keeper.outbox(each(1, |_: &SetPolicyInterval| 0)),
            visibility: [roster.outbox(each(1, |_: &SetVisibility| 0)), alerts.outbox(each(1, |_: &SetVisibility| 0))],
            throttle: alerts.outbox(each(1, |_: &SetThrottle| 0)),
            sinks: alerts.outbox(each(1, |_: &SetSinks| 0)),
            host: arguments.host_policy.then(|| roster.outbox(each(1, |_: &WorkloadAppeared| 0))),
            named: alerts.outbox(each(1, |_: &WorkloadNamed| 0)),
            conditions: self.conditions(),
            level,
            outputs,
            live,
        }
    }

    /// What who follows containers says.
    pub fn workloads_wiring(&self) -> palisade_workloads::Wiring {
        let (alerts, roster) = (self.alerts.address(), self.roster.address());
        palisade_workloads::Wiring {
            appeared: roster.outbox(Overflow::Block),
            started: roster.outbox(Overflow::Block),
            gone: roster.outbox(Overflow::Block),
            named: alerts.outbox(each(SLOTS, |fact: &WorkloadNamed| u64::from(fact.slot.0))),
            conditions: self.conditions(),
            clock: Arc::new(MachineClock),
        }
    }

    /// What who keeps policies says.
    pub fn keeper_wiring(&self, arguments: &NodeArguments) -> palisade_policy_keeper::Wiring {
        palisade_policy_keeper::Wiring {
            // Only the newest set matters.
            sets: self.roster.address().outbox(each(1, |_: &PolicySetChanged| 0)),
            conditions: self.conditions(),
            interval: arguments.policy_interval,
        }
    }
}

/// The newest of each key waits for room, of at most so many keys.
fn each<M>(keys: usize, key: fn(&M) -> u64) -> Overflow<M> {
    Overflow::Coalesce(NonZeroUsize::new(keys).unwrap_or(NonZeroUsize::MIN), key)
}

/// FNV-1a: names of conditions are few and our own.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
