//! Mailboxes made before the actors, since they know each other.

use palisade_alerts::Alerts;
use palisade_enforcer::Roster;
use palisade_health::Health;
use palisade_peers::Peers;
use palisade_policy_compiler::actor::PolicyCompiler;
use palisade_policy_keeper::PolicyKeeper;
use palisade_probe::Probe;
use palisade_recorder::Recorder;
use palisade_supervision::MailboxOf;
use palisade_workloads::Workloads;

/// The most slots that a node can have; facts that find a mailbox full wait before it, the newest of each slot.
pub const SLOTS: usize = 4096;

/// One a kind of actor.
pub struct Mailboxes {
    pub health: MailboxOf<Health>,
    pub compiler: MailboxOf<PolicyCompiler>,
    pub alerts: MailboxOf<Alerts>,
    pub roster: MailboxOf<Roster>,
    pub workloads: MailboxOf<Workloads>,
    pub keeper: MailboxOf<PolicyKeeper>,
    pub probe: MailboxOf<Probe>,
    pub recorder: Option<MailboxOf<Recorder>>,
    pub peers: Option<MailboxOf<Peers>>,
}

impl Mailboxes {
    /// All of them, empty; those of the recorder and of peers only where one is.
    pub fn new(records: bool, links: bool) -> Self {
        Self {
            // Reports coalesce by name, and come from each of up to 4,096 enforcers at once after a change.
            health: MailboxOf::new("health", 8192),
            // One question from each enforcer.
            compiler: MailboxOf::new("policy-compiler", 4096),
            // Batches, and a fact from each enforcer.
            alerts: MailboxOf::new("alerts", palisade_probe::actor::IN_FLIGHT + SLOTS),
            // Three facts a workload.
            roster: MailboxOf::new("roster", 4096),
            workloads: MailboxOf::new("workloads", 64),
            keeper: MailboxOf::new("policy-keeper", 64),
            probe: MailboxOf::new("probe", 64),
            // Few, so that the probe never waits for it: what finds no room is shed, and the trace says so. Facts coalesce before it.
            recorder: records.then(|| MailboxOf::new("recorder", palisade_recorder::actor::MAILBOX)),
            // Questions of the admin endpoint.
            peers: links.then(|| MailboxOf::new("peers", 64)),
        }
    }
}
