//! The tree of a node's actors over ports: who is told what, and where each runs. The binary plants it over adapters, a simulation over
//! its own world: both run this tree, and no other.
//!
//! ```text
//! palisade                       one-for-one
//! ├─ health
//! ├─ configuration               of whoever plants: what changes while the node runs, by its [`Outlets`]
//! ├─ policy-compiler             own place: a large set is seconds of work
//! ├─ alerts                      own place: a slow disk delays no enforcement
//! ├─ recorder                    own place: compressing costs nobody else; where one is asked for
//! ├─ enforcement                 one-for-all: who has which slot is one truth
//! │  ├─ enforcers                one-for-one, one child a workload
//! │  ├─ roster
//! │  ├─ workloads
//! │  └─ policy-keeper            own place: a large directory delays no admission
//! ├─ probe                       own place: rings are read whatever else goes on
//! └─ peers                       at the links' own place: what other nodes send delays nothing here; where there are links
//! ```
//!
//! Invariant: nothing here knows an adapter, a command line or a clock but the port's. What differs between one node and another is in
//! [`Ports`], [`Places`] and [`Settings`].
//!
//! Decision: a crate beside the binary, not a part of it, because a simulation that wired the actors by itself would prove something about
//! another node than the one that people run.
#![forbid(unsafe_code)]

mod children;
mod mailboxes;
mod plant;

use std::{sync::Arc, time::Duration};

use palisade_alerts::{
    actor::{SetSinks, SetThrottle},
    state::Settings as AlertSettings,
};
use palisade_domain::{OnUnknownWorkload, Slot, Workload};
use palisade_peers::actor::OwnTree;
use palisade_policy::ir::Postures;
use palisade_protocol::{
    AlertCountsOf, AlertSettingsChanged, ConditionReported, EndRecording, FollowNodes, InstalledPoliciesOf, NodesOf,
    PolicySetStatusOf, ProcessListed, ProcessesOf, ReadinessOf, RecordAccountOf, RecordTrace, RecordingCountsOf,
    SetPolicyInterval, SetPostures, SetVisibility, SubscribeAlerts, WorkloadAppeared, WorkloadNamed, WorkloadsOf,
};
use palisade_recorder::state::Settings as RecorderSettings;
use palisade_supervision::{Asker, BuildError, Kept, Outbox, Place, Supervisor};
use palisade_world::{
    AlertSink, Clock, Containers, Devices, Enforcement, LastGood, Link, Membership, PasswdReader, PolicyDirectory,
    RecordSource, Rng, TraceStore,
};

pub use plant::plant;

/// The supervisor of the enforcers.
pub const ENFORCERS: &str = "enforcers";

/// Opens something anew for each generation of the actor that owns it.
pub type Open<T> = Arc<dyn Fn() -> Result<T, BuildError> + Send + Sync>;

/// The world, as the tree is handed it.
pub struct Ports {
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Holds workloads to policies.
    pub enforcement: Arc<dyn Enforcement>,
    /// The host's USB devices; absent where the world has none.
    pub devices: Option<Arc<dyn Devices>>,
    /// The stream of records.
    pub records: Open<Box<dyn RecordSource>>,
    /// The container runtime; absent where none is followed.
    pub containers: Option<Open<Box<dyn Containers>>>,
    /// Where policies come from.
    pub policies: Open<PolicyFiles>,
    /// What alerts need.
    pub outputs: Open<Outputs>,
    /// What a recorder needs; absent where nothing is recorded: then nobody is told for it, either.
    pub recording: Option<Open<Recording>>,
    /// Links to other nodes; absent where none are asked for.
    pub links: Option<Linked>,
}

/// Links that run, and what the actor of peers needs beside them.
#[derive(Clone)]
pub struct Linked {
    /// To the other nodes.
    pub link: Arc<dyn Link>,
    /// This node's tree, once it stands.
    pub tree: OwnTree,
    /// Where the links run.
    pub place: Arc<dyn Place>,
    /// Where questions to peers begin to be numbered: never twice at the same place.
    pub rng: Arc<dyn Rng>,
}

/// Where policies come from.
pub struct PolicyFiles {
    /// The directory.
    pub directory: Box<dyn PolicyDirectory>,
    /// Where last good versions outlive the process.
    pub last_good: Box<dyn LastGood>,
}

/// Where lines go, and what names the users and processes in them.
pub struct Outputs {
    /// Sinks of alerts. None of them may block.
    pub sinks: Vec<Box<dyn AlertSink>>,
    /// Sinks of logs; none are made for nobody.
    pub log_sinks: Vec<Box<dyn AlertSink>>,
    /// Names of users.
    pub passwd: Box<dyn PasswdReader>,
    /// Processes that run already.
    pub processes: Vec<ProcessListed>,
}

/// What is recorded, and where traces that are made by themselves go.
pub struct Recording {
    /// What is kept, and how traces begin.
    pub settings: RecorderSettings,
    /// Of traces around alerts; absent where none are kept.
    pub store: Option<Box<dyn TraceStore>>,
    /// Processes that run already.
    pub processes: Vec<ProcessListed>,
}

/// Where each part runs.
#[derive(Clone)]
pub struct Places {
    /// Alerts: a slow sink never delays enforcement.
    pub alerts: Arc<dyn Place>,
    /// The compiler: a large compilation never delays a question.
    pub compile: Arc<dyn Place>,
    /// Roster, workloads and enforcers.
    pub enforce: Arc<dyn Place>,
    /// The keeper: a large directory never delays an admission.
    pub policies: Arc<dyn Place>,
    /// The probe.
    pub probe: Arc<dyn Place>,
    /// The recorder: compressing never delays who reads records.
    pub record: Arc<dyn Place>,
}

impl Places {
    /// All of it at one place.
    #[must_use]
    pub fn one(place: &Arc<dyn Place>) -> Self {
        let place = || Arc::clone(place);
        Self { alerts: place(), compile: place(), enforce: place(), policies: place(), probe: place(), record: place() }
    }

    /// All of them, for a watchdog.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Place>> {
        [&self.alerts, &self.compile, &self.enforce, &self.policies, &self.probe, &self.record].map(Arc::clone).to_vec()
    }
}

/// What a node is told.
pub struct Settings {
    /// What may change while it runs; actors that start again are built from it.
    pub live: Kept<Live>,
    /// Whether the host itself is held to host policies.
    pub holds_host: bool,
    /// What those are held to whom nobody has admitted; `None`: no containers are followed, so nobody is unknown.
    pub unknown: Option<OnUnknownWorkload>,
    /// Most workloads at a time.
    pub max_workloads: u32,
    /// Conditions that must be reported before the node is ready, beside those of the tree's own actors.
    pub awaited: Vec<&'static str>,
    /// Seed of the jitter of restarts.
    pub jitter_seed: u64,
}

/// What may change while a node runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// The host as policies select it and alerts name it.
    pub host: Workload,
    /// The global postures.
    pub postures: Postures,
    /// Between two looks at the policy directory.
    pub policy_interval: Duration,
    /// What is seen where a namespace says nothing, and of the host.
    pub seen: SetVisibility,
    /// Of the alerts.
    pub alerts: AlertSettings,
}

/// The host is there from the start on, and once more with each change of its labels.
#[must_use]
pub fn host_appeared(host: &Workload) -> WorkloadAppeared {
    let membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 1, root: None };
    WorkloadAppeared { workload: Arc::new(host.clone()), membership, admission: None }
}

/// By which whoever plants tells the actors what changed.
#[derive(Clone)]
pub struct Outlets {
    /// The keeper of the policy set.
    pub postures: Outbox<SetPostures>,
    /// The same.
    pub policy_interval: Outbox<SetPolicyInterval>,
    /// The roster, for the host's labels; nobody where the host is not held.
    pub host: Option<Outbox<WorkloadAppeared>>,
    /// Who names workloads in alerts, and who records.
    pub named: Vec<Outbox<WorkloadNamed>>,
    /// Who enforces and who makes logs: each sees by default what this says.
    pub visibility: [Outbox<SetVisibility>; 2],
    /// Who writes alerts.
    pub throttle: Outbox<SetThrottle>,
    /// Who records, of both; nobody where nothing is recorded.
    pub recorded: Option<Outbox<AlertSettingsChanged>>,
    /// Who writes alerts.
    pub sinks: Outbox<SetSinks>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
}

/// Ends to ask, for who shows the node.
#[derive(Clone)]
pub struct Askers {
    /// Health.
    pub readiness: Asker<ReadinessOf>,
    /// Health.
    pub installed: Asker<InstalledPoliciesOf>,
    /// Workloads; absent where no runtime is followed.
    pub workloads: Option<Asker<WorkloadsOf>>,
    /// The keeper.
    pub policies: Asker<PolicySetStatusOf>,
    /// Alerts.
    pub alerts: Asker<SubscribeAlerts>,
    /// Alerts.
    pub alert_counts: Asker<AlertCountsOf>,
    /// Alerts.
    pub processes: Asker<ProcessesOf>,
    /// The probe.
    pub records: Asker<RecordAccountOf>,
    /// The recorder; absent where nothing is recorded.
    pub recording: Option<Asker<RecordTrace>>,
    /// The same.
    pub end_recording: Option<Asker<EndRecording>>,
    /// The same.
    pub recording_counts: Option<Asker<RecordingCountsOf>>,
    /// Peers; absent where there are no links.
    pub nodes: Option<NodesAskers>,
}

/// Questions to the actor of peers.
#[derive(Clone)]
pub struct NodesAskers {
    /// How they are.
    pub nodes: Asker<NodesOf>,
    /// Their alerts.
    pub follow: Asker<FollowNodes>,
}

/// A tree that is ready to start.
pub struct Planted {
    /// Starts it.
    pub supervisor: Supervisor,
    /// Asks it.
    pub askers: Askers,
}
