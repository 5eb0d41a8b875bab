//! The tree of actors: who is told what, and where each runs.

use std::{io, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use palisade_alerts::{
    Alerts,
    compose::NodeNames,
    state::{Names, Settings},
    throttle::Limit,
};
use palisade_containers::{NodeConfig, NodeContainers};
use palisade_domain::{Slot, Workload, WorkloadKind};
use palisade_enforcer::Roster;
use palisade_health::{Health, state::State as Conditions};
use palisade_policy::ir::Postures;
use palisade_policy_compiler::{
    actor::PolicyCompiler,
    state::{Bounds, State as CompilerState},
};
use palisade_policy_keeper::{PolicyKeeper, state::State as Policies};
use palisade_probe::Probe;
use palisade_protocol::{
    AlertCountsOf, ConditionReported, InstalledPoliciesOf, PolicyAnnounced, PolicyInstalled, PolicySetChanged,
    PolicySetStatusOf, ProcessesOf, ReadinessOf, RecordAccountOf, SetPolicyInterval, SetPostures, SubscribeAlerts,
    VisibilityChanged, WorkloadAppeared, WorkloadGone, WorkloadNamed, WorkloadsOf,
};
use palisade_sinks::{Queued, RotatingFile, Stdout};
use palisade_store::{Beside, FileDirectory, LastGoodFiles};
use palisade_supervision::{
    ArbiterThread, Asker, ChildSpec, Kept, MailboxOf, Outbox, Overflow, Place, Strategy, Supervisor,
};
use palisade_users::PasswdFiles;
use palisade_workloads::{Workloads, state::State as Slots};
use palisade_world::{AlertSink, Enforcement, Membership};

use super::{
    Configured, Kernel,
    reload::{self, Configuration, ReloadConfiguration},
};
use crate::{
    arguments::NodeArguments, clock::MachineClock, configuration::command_line::CommandLine, machine, processes,
};

/// The supervisor of the enforcers.
pub const ENFORCERS: &str = "enforcers";
/// The most slots that a node can have; facts that find a mailbox full wait before it, the newest of each slot.
const SLOTS: usize = 4096;
/// Restarts of enforcers that are tolerated within a minute: one whose start always crashes makes about nine, so this is some thirty
/// workloads at once. Fewer are faults of those workloads, which stay as they stand; the others must not be restarted for them.
const ENFORCER_RESTARTS: u32 = 256;

/// The threads: a slow sink never delays enforcement, nor a large compilation a question, nor a large directory an admission.
pub struct Places {
    alerts: Arc<ArbiterThread>,
    compile: Arc<ArbiterThread>,
    enforce: Arc<ArbiterThread>,
    policies: Arc<ArbiterThread>,
    probe: Arc<ArbiterThread>,
}

impl Places {
    /// Starts them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            alerts: ArbiterThread::start("alerts")?,
            compile: ArbiterThread::start("compile")?,
            enforce: ArbiterThread::start("enforce")?,
            policies: ArbiterThread::start("policies")?,
            probe: ArbiterThread::start("probe")?,
        })
    }

    /// All of them, for the watchdog.
    pub fn all(&self) -> Vec<Arc<dyn Place>> {
        vec![self.alerts.clone(), self.compile.clone(), self.enforce.clone(), self.policies.clone(), self.probe.clone()]
    }
}

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

/// A tree that is ready to start.
pub struct Planted {
    pub supervisor: Supervisor,
    pub askers: Askers,
    /// SIGHUP's.
    pub reload: Outbox<ReloadConfiguration>,
}

/// Mailboxes made before the actors, since they know each other.
struct Mailboxes {
    health: MailboxOf<Health>,
    configuration: MailboxOf<Configuration>,
    compiler: MailboxOf<PolicyCompiler>,
    alerts: MailboxOf<Alerts>,
    roster: MailboxOf<Roster>,
    workloads: MailboxOf<Workloads>,
    keeper: MailboxOf<PolicyKeeper>,
    probe: MailboxOf<Probe>,
}

impl Mailboxes {
    fn new() -> Self {
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
}

/// Wires the tree. Children are declared in the order in which they start.
pub fn plant(configured: Configured, kernel: &Kernel, places: &Places) -> Planted {
    let boxes = Mailboxes::new();
    let Configured { arguments, line, level } = configured;
    // What changes while the node runs; actors that start again are built from it.
    let live = Kept::new(arguments.clone());
    let arguments = &arguments;
    let reload = boxes.configuration.address().outbox(Overflow::Refuse);
    let askers = Askers {
        readiness: boxes.health.address().asker(),
        installed: boxes.health.address().asker(),
        workloads: (!arguments.no_containers).then(|| boxes.workloads.address().asker()),
        policies: boxes.keeper.address().asker(),
        alerts: boxes.alerts.address().asker(),
        alert_counts: boxes.alerts.address().asker(),
        processes: boxes.alerts.address().asker(),
        records: boxes.probe.address().asker(),
    };
    let conditions = boxes.health.address().outbox(each(2 * SLOTS, |report: &ConditionReported| hash(&report.name)));
    let alerts_address = boxes.alerts.address();
    let probe_wiring = palisade_probe::Wiring {
        readers: vec![boxes.alerts.address().outbox(Overflow::Refuse)],
        conditions: conditions.clone(),
    };
    let enforcer_wiring = palisade_enforcer::Wiring {
        enforcement: Arc::clone(&kernel.enforcement),
        compiler: boxes.compiler.address().asker(),
        announced: alerts_address.outbox(each(2 * SLOTS, |fact: &PolicyAnnounced| {
            u64::from(fact.slot.0) << 32 | u64::from(fact.generation.0)
        })),
        installed: vec![
            alerts_address.outbox(each(SLOTS, |fact: &PolicyInstalled| u64::from(fact.slot.0))),
            boxes.health.address().outbox(each(SLOTS, |fact: &PolicyInstalled| u64::from(fact.slot.0))),
        ],
        released: boxes.health.address().outbox(each(SLOTS, |fact: &WorkloadGone| u64::from(fact.slot.0))),
        conditions: conditions.clone(),
        visibility: arguments.visibility,
        host_visibility: arguments.seen_of_host(),
        // The node's own holds where a namespace says nothing.
        select_visibility: |set, workload| set.visibility_of(workload),
        visible: alerts_address.outbox(each(SLOTS, |fact: &VisibilityChanged| u64::from(fact.slot.0))),
    };
    let reload_wiring = reload::Wiring {
        postures: boxes.keeper.address().outbox(each(1, |_: &SetPostures| 0)),
        policy_interval: boxes.keeper.address().outbox(each(1, |_: &SetPolicyInterval| 0)),
        host: arguments.host_policy.then(|| boxes.roster.address().outbox(each(1, |_: &WorkloadAppeared| 0))),
        named: alerts_address.outbox(each(1, |_: &WorkloadNamed| 0)),
        conditions: conditions.clone(),
        level,
        live: live.clone(),
    };
    let workloads_wiring = palisade_workloads::Wiring {
        appeared: boxes.roster.address().outbox(Overflow::Block),
        started: boxes.roster.address().outbox(Overflow::Block),
        gone: boxes.roster.address().outbox(Overflow::Block),
        named: alerts_address.outbox(each(SLOTS, |fact: &WorkloadNamed| u64::from(fact.slot.0))),
        conditions: conditions.clone(),
        clock: Arc::new(MachineClock),
    };
    let keeper_wiring = palisade_policy_keeper::Wiring {
        // Only the newest set matters.
        sets: boxes.roster.address().outbox(each(1, |_: &PolicySetChanged| 0)),
        conditions: conditions.clone(),
        interval: arguments.policy_interval,
    };

    let enforcers = Supervisor::new(ENFORCERS).intensity(ENFORCER_RESTARTS, Duration::from_secs(60));
    let roster = roster(&live, boxes.roster, &enforcers, places, enforcer_wiring);
    let mut enforcement = Supervisor::new("enforcement").strategy(Strategy::OneForAll).child(enforcers).child(roster);
    if !arguments.no_containers {
        enforcement =
            enforcement.child(workloads(arguments, boxes.workloads, workloads_wiring).place(places.enforce.clone()));
    }
    let enforcement = enforcement.child(keeper(&live, boxes.keeper, keeper_wiring).place(places.policies.clone()));

    let supervisor = Supervisor::new("palisade")
        .child(health(arguments, &kernel.enforcement, boxes.health))
        .child(configuration(line, boxes.configuration, reload_wiring))
        .child(
            ChildSpec::with_mailbox(boxes.compiler, |_| {
                Ok(PolicyCompiler::new(CompilerState::new(Bounds::default()), Arc::new(MachineClock)))
            })
            .place(places.compile.clone()),
        )
        .child(alerts(arguments, boxes.alerts, conditions).place(places.alerts.clone()))
        .child(enforcement)
        .child(probe(kernel, boxes.probe, probe_wiring).place(places.probe.clone()));
    Planted { supervisor, askers, reload }
}

/// The newest of each key waits for room, of at most so many keys.
fn each<M>(keys: usize, key: fn(&M) -> u64) -> Overflow<M> {
    Overflow::Coalesce(NonZeroUsize::new(keys).unwrap_or(NonZeroUsize::MIN), key)
}

/// FNV-1a: names of conditions are few and our own.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The global postures.
pub fn postures(arguments: &NodeArguments) -> Postures {
    Postures {
        file: arguments.default_file_posture.into(),
        network: arguments.default_network_posture.into(),
        capabilities: arguments.default_capabilities_posture.into(),
    }
}

/// The node's name: as told, or the host's.
pub fn node_name(arguments: &NodeArguments) -> String {
    arguments.node_name.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

fn health(
    arguments: &NodeArguments,
    enforcement: &Arc<dyn Enforcement>,
    mailbox: MailboxOf<Health>,
) -> ChildSpec<Health> {
    let containers = (!arguments.no_containers).then_some(palisade_workloads::actor::CONDITION);
    let awaited = [
        palisade_policy_keeper::actor::CONDITION,
        palisade_probe::actor::CONDITION,
        palisade_alerts::actor::CONDITION,
        reload::actor::CONDITION,
    ];
    let state = Kept::new(Conditions::awaiting(awaited.into_iter().chain(containers)));
    let enforcement = Arc::clone(enforcement);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Health::new(state.clone(), Arc::clone(&enforcement))))
}

fn configuration(
    line: CommandLine,
    mailbox: MailboxOf<Configuration>,
    wiring: reload::Wiring,
) -> ChildSpec<Configuration> {
    let state = Kept::new(reload::state::State::new(line.effective()));
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Configuration::new(line.clone(), wiring.clone(), state.clone())))
}

fn probe(kernel: &Kernel, mailbox: MailboxOf<Probe>, wiring: palisade_probe::Wiring) -> ChildSpec<Probe> {
    let open = Arc::clone(&kernel.records);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Probe::new(open()?, wiring.clone())))
}

/// The alerts. Nothing that a start needs goes by the actor's own mailbox: where that is full, it would never start again.
fn alerts(
    arguments: &NodeArguments,
    mailbox: MailboxOf<Alerts>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Alerts> {
    let arguments = arguments.clone();
    let mut names = Names::default();
    names.named(WorkloadNamed { slot: Slot::HOST, workload: Arc::new(host_workload(&arguments)) });
    names.visible(&VisibilityChanged { slot: Slot::HOST, visibility: arguments.seen_of_host() });
    let names = Kept::new(names);
    ChildSpec::with_mailbox(mailbox, move |_| {
        let (sinks, log_sinks) = sinks(&arguments)?;
        let wiring = palisade_alerts::Wiring {
            sinks,
            log_sinks,
            passwd: Box::new(PasswdFiles::default()),
            conditions: conditions.clone(),
            clock: Arc::new(MachineClock),
        };
        Ok(Alerts::new(alert_settings(&arguments), wiring, names.clone(), processes::list()))
    })
}

type Sinks = Vec<Box<dyn AlertSink>>;

/// Those of alerts, and those of logs.
fn sinks(arguments: &NodeArguments) -> io::Result<(Sinks, Sinks)> {
    let queued = |sink: Box<dyn AlertSink>| Queued::start(sink).map(|sink| Box::new(sink) as Box<dyn AlertSink>);
    let all = |stdout: bool, path: &Option<PathBuf>, bytes, keep| {
        let stdout = stdout.then(|| Box::new(Stdout) as Box<dyn AlertSink>);
        let file = path.as_ref().map(|path| Box::new(RotatingFile::new(path, bytes, keep)) as Box<dyn AlertSink>);
        stdout.into_iter().chain(file).map(queued).collect::<io::Result<Sinks>>()
    };
    let NodeArguments { alert_file, alert_file_bytes, alert_file_keep, .. } = arguments;
    let NodeArguments { log_file, log_file_bytes, log_file_keep, log_stdout, .. } = arguments;
    Ok((
        all(!arguments.no_alert_stdout, alert_file, *alert_file_bytes, *alert_file_keep)?,
        all(*log_stdout, log_file, *log_file_bytes, *log_file_keep)?,
    ))
}

fn alert_settings(arguments: &NodeArguments) -> Settings {
    let names = NodeNames {
        cluster: arguments.cluster_name.clone(),
        node: node_name(arguments),
        node_id: machine::id().unwrap_or_default(),
    };
    let limit = Limit { per_second: arguments.max_alert_per_sec, silence_seconds: arguments.throttle_sec };
    let throttle = (!arguments.no_alert_throttling).then_some(limit);
    // As the kernel adapter is told.
    Settings { names, throttle, visibility: arguments.visibility }
}

/// The roster; with `--host-policy` it holds the host like any other workload, from each of its starts on.
fn roster(
    live: &Kept<NodeArguments>,
    mailbox: MailboxOf<Roster>,
    enforcers: &Supervisor,
    places: &Places,
    wiring: palisade_enforcer::Wiring,
) -> ChildSpec<Roster> {
    let (handle, place) = (enforcers.handle(), Arc::clone(&places.enforce));
    let live = live.clone();
    ChildSpec::with_mailbox(mailbox, move |_| {
        let roster = Roster::new(handle.clone(), place.clone(), wiring.clone());
        let arguments = live.lock();
        Ok(if arguments.host_policy { roster.holding(host_appeared(&arguments)) } else { roster })
    })
    .place(places.enforce.clone())
}

/// The host is there from the start on, and once more with each change of its labels.
pub fn host_appeared(arguments: &NodeArguments) -> WorkloadAppeared {
    let membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 1, root: None };
    WorkloadAppeared { workload: Arc::new(host_workload(arguments)), membership, admission: None }
}

/// The host as policies select it.
pub fn host_workload(arguments: &NodeArguments) -> Workload {
    let name = node_name(arguments);
    let own = ["kubernetes.io/hostname", "kubearmor.io/hostname"].map(|key| (key.to_owned(), name.clone()));
    Workload {
        kind: WorkloadKind::Host,
        namespace: String::new(),
        container: String::new(),
        container_id: None,
        image: String::new(),
        labels: own.into_iter().chain(arguments.host_labels.iter().cloned()).collect(),
        name,
    }
}

fn workloads(
    arguments: &NodeArguments,
    mailbox: MailboxOf<Workloads>,
    wiring: palisade_workloads::Wiring,
) -> ChildSpec<Workloads> {
    let config =
        NodeConfig { endpoint: arguments.runtime.endpoint(), hook_socket: Some(arguments.hook_socket.clone()) };
    let slots = Kept::new(Slots::new(arguments.max_workloads));
    ChildSpec::with_mailbox(mailbox, move |_| {
        Ok(Workloads::new(Box::new(NodeContainers::new(config.clone())), wiring.clone(), slots.clone()))
    })
}

/// The keeper; generations and last good versions go on over its restarts.
fn keeper(
    live: &Kept<NodeArguments>,
    mailbox: MailboxOf<PolicyKeeper>,
    wiring: palisade_policy_keeper::Wiring,
) -> ChildSpec<PolicyKeeper> {
    let live = live.clone();
    let state = Kept::new(Policies::with_postures(postures(&live.lock())));
    ChildSpec::with_mailbox(mailbox, move |_| {
        let (path, interval, state_dir) = {
            let arguments = live.lock();
            (arguments.policy_dir.clone(), arguments.policy_interval, arguments.state_dir.clone())
        };
        let wiring = palisade_policy_keeper::Wiring { interval, ..wiring.clone() };
        let directory = Beside::start(&path, Box::new(FileDirectory::new(&path)))?;
        let last_good = Box::new(LastGoodFiles::of(&path, &state_dir));
        Ok(PolicyKeeper::new(Box::new(directory), wiring, state.clone()).remembering(last_good))
    })
}
