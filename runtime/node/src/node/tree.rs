//! The tree of actors: who is told what, and where each runs.

use std::{io, sync::Arc, time::Duration};

use palisade_alerts::{
    Alerts,
    compose::NodeNames,
    state::{Names, Settings},
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
use palisade_protocol::{ConditionReported, NodesOf, VisibilityChanged, WorkloadAppeared, WorkloadNamed};
use palisade_store::{Beside, FileDirectory, LastGoodFiles};
use palisade_supervision::{
    ArbiterThread, Asker, ChildSpec, Kept, MailboxOf, Outbox, Overflow, Place, Strategy, Supervisor,
};
use palisade_users::PasswdFiles;
use palisade_workloads::{Workloads, state::State as Slots};
use palisade_world::{Enforcement, Membership};

use super::{
    Configured, Kernel,
    links::RunningLinks,
    mailboxes::{Askers, Mailboxes},
    outputs::{self, Outputs, Sinks},
    reload::{self, Configuration, ReloadConfiguration},
};
use crate::{
    arguments::NodeArguments, clock::MachineClock, configuration::command_line::CommandLine, machine, processes,
};

/// The supervisor of the enforcers.
pub const ENFORCERS: &str = "enforcers";
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

/// A tree that is ready to start.
pub struct Planted {
    pub supervisor: Supervisor,
    pub askers: Askers,
    /// SIGHUP's.
    pub reload: Outbox<ReloadConfiguration>,
    /// Of other nodes, where there are links.
    pub nodes: Option<Asker<NodesOf>>,
}

/// Wires the tree. Children are declared in the order in which they start.
pub fn plant(configured: Configured, kernel: &Kernel, places: &Places, links: Option<&RunningLinks>) -> Planted {
    let boxes = Mailboxes::new();
    let Configured { arguments, line, level } = configured;
    // What changes while the node runs; actors that start again are built from it.
    let live = Kept::new(arguments.clone());
    let outputs = Outputs::new(&arguments);
    let conditions = boxes.conditions();
    let of_peers = conditions.clone();
    let askers = boxes.askers(&arguments);
    let reload = boxes.configuration.address().outbox(Overflow::Refuse);
    let reload_wiring = boxes.reload_wiring(&arguments, level, live.clone(), outputs.clone());
    let probe_wiring = boxes.probe_wiring();
    let enforcer_wiring = boxes.enforcer_wiring(&kernel.enforcement, &arguments);
    let (workloads_wiring, keeper_wiring) = (boxes.workloads_wiring(), boxes.keeper_wiring(&arguments));

    let enforcers = Supervisor::new(ENFORCERS).intensity(ENFORCER_RESTARTS, Duration::from_secs(60));
    let roster = roster(&live, boxes.roster, &enforcers, places, enforcer_wiring);
    let mut enforcement = Supervisor::new("enforcement").strategy(Strategy::OneForAll).child(enforcers).child(roster);
    if !arguments.no_containers {
        enforcement =
            enforcement.child(workloads(&arguments, boxes.workloads, workloads_wiring).place(places.enforce.clone()));
    }
    let enforcement = enforcement.child(keeper(&live, boxes.keeper, keeper_wiring).place(places.policies.clone()));

    let supervisor = Supervisor::new("palisade")
        .child(health(&arguments, &kernel.enforcement, boxes.health))
        .child(configuration(line, boxes.configuration, reload_wiring))
        .child(compiler(boxes.compiler).place(places.compile.clone()))
        .child(alerts(&live, outputs, boxes.alerts, conditions).place(places.alerts.clone()))
        .child(enforcement)
        .child(probe(kernel, boxes.probe, probe_wiring).place(places.probe.clone()));
    let (supervisor, nodes) = match links {
        Some(links) => {
            let (supervisor, nodes) = links.plant(supervisor, askers.alerts.clone(), of_peers);
            (supervisor, Some(nodes))
        }
        None => (supervisor, None),
    };
    Planted { supervisor, askers, reload, nodes }
}

fn compiler(mailbox: MailboxOf<PolicyCompiler>) -> ChildSpec<PolicyCompiler> {
    ChildSpec::with_mailbox(mailbox, |_| {
        Ok(PolicyCompiler::new(CompilerState::new(Bounds::default()), Arc::new(MachineClock)))
    })
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
    live: &Kept<NodeArguments>,
    outputs: Outputs,
    mailbox: MailboxOf<Alerts>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Alerts> {
    let live = live.clone();
    let mut names = Names::default();
    names.named(WorkloadNamed { slot: Slot::HOST, workload: Arc::new(host_workload(&live.lock())) });
    names.visible(&VisibilityChanged { slot: Slot::HOST, visibility: live.lock().seen_of_host() });
    let names = Kept::new(names);
    ChildSpec::with_mailbox(mailbox, move |_| {
        let arguments = live.lock().clone();
        let Sinks { sinks, log_sinks } = outputs.sinks(&arguments)?;
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

fn alert_settings(arguments: &NodeArguments) -> Settings {
    let names = NodeNames {
        cluster: arguments.cluster_name.clone(),
        node: node_name(arguments),
        node_id: machine::id().unwrap_or_default(),
    };
    Settings { names, throttle: outputs::throttle(arguments), visibility: arguments.visibility }
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
        let arguments = live.lock();
        let roster = Roster::new(handle.clone(), place.clone(), wiring.clone()).seeing(arguments.seen());
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
