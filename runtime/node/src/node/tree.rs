//! The tree of actors: who is told what, and where each runs.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use palisade_alerts::Alerts;
use palisade_containers::{Containerd, ContainerdConfig};
use palisade_domain::{Generation, Slot, Workload, WorkloadKind};
use palisade_enforcer::Roster;
use palisade_health::Health;
use palisade_policy::ir::Postures;
use palisade_policy_compiler::{
    actor::PolicyCompiler,
    state::{Bounds, State as CompilerState},
};
use palisade_policy_keeper::{PolicyKeeper, state::State as Kept};
use palisade_probe::Probe;
use palisade_protocol::{
    AlertCountsOf, ConditionReported, InstalledPoliciesOf, PolicySetChanged, PolicySetStatusOf, ProcessesListed,
    ReadinessOf, RecordAccountOf, SubscribeAlerts, WorkloadAppeared, WorkloadNamed, WorkloadsOf,
};
use palisade_sinks::{RotatingFile, Stdout};
use palisade_store::FileDirectory;
use palisade_supervision::{
    Address, ArbiterThread, Asker, ChildSpec, MailboxOf, Overflow, Place, Strategy, Supervisor,
};
use palisade_workloads::Workloads;
use palisade_world::{AlertSink, Membership};

use super::Kernel;
use crate::{arguments::NodeArguments, clock::MachineClock, processes};

/// Batches that may wait for the alerts actor: 64 of 512 records are a tenth of a second of the heaviest load, about 8 MiB.
const BATCHES: usize = 64;

/// The threads: a slow sink never delays enforcement, nor a large compilation a question.
pub struct Places {
    alerts: Arc<ArbiterThread>,
    compile: Arc<ArbiterThread>,
    enforce: Arc<ArbiterThread>,
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
            probe: ArbiterThread::start("probe")?,
        })
    }

    /// All of them, for the watchdog.
    pub fn all(&self) -> Vec<Arc<dyn Place>> {
        vec![self.alerts.clone(), self.compile.clone(), self.enforce.clone(), self.probe.clone()]
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
    pub records: Asker<RecordAccountOf>,
}

/// A tree that is ready to start.
pub struct Planted {
    pub supervisor: Supervisor,
    pub askers: Askers,
}

/// Mailboxes made before the actors, since they know each other.
struct Mailboxes {
    health: MailboxOf<Health>,
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
            // One question from each enforcer.
            compiler: MailboxOf::new("policy-compiler", 4096),
            // Batches, and a fact from each enforcer.
            alerts: MailboxOf::new("alerts", BATCHES + 4096),
            // Three facts a workload.
            roster: MailboxOf::new("roster", 4096),
            workloads: MailboxOf::new("workloads", 64),
            keeper: MailboxOf::new("policy-keeper", 64),
            probe: MailboxOf::new("probe", 64),
        }
    }
}

/// Wires the tree. Children are declared in the order in which they start.
pub fn plant(arguments: &NodeArguments, kernel: &Kernel, places: &Places) -> Planted {
    let boxes = Mailboxes::new();
    let askers = Askers {
        readiness: boxes.health.address().asker(),
        installed: boxes.health.address().asker(),
        workloads: (!arguments.no_containers).then(|| boxes.workloads.address().asker()),
        policies: boxes.keeper.address().asker(),
        alerts: boxes.alerts.address().asker(),
        alert_counts: boxes.alerts.address().asker(),
        records: boxes.probe.address().asker(),
    };
    let conditions = boxes.health.address().outbox::<ConditionReported>(Overflow::Refuse);
    let probe_wiring = palisade_probe::Wiring {
        readers: vec![boxes.alerts.address().outbox(Overflow::Refuse)],
        conditions: conditions.clone(),
    };
    let enforcer_wiring = palisade_enforcer::Wiring {
        enforcement: Arc::clone(&kernel.enforcement),
        compiler: boxes.compiler.address().asker(),
        installed: vec![
            boxes.alerts.address().outbox(Overflow::Refuse),
            boxes.health.address().outbox(Overflow::Refuse),
        ],
        released: boxes.health.address().outbox(Overflow::Refuse),
        conditions: conditions.clone(),
        postures: postures(arguments),
    };
    let workloads_wiring = palisade_workloads::Wiring {
        appeared: boxes.roster.address().outbox(Overflow::Block),
        started: boxes.roster.address().outbox(Overflow::Block),
        gone: boxes.roster.address().outbox(Overflow::Block),
        named: boxes.alerts.address().outbox(Overflow::Block),
        conditions: conditions.clone(),
        clock: Arc::new(MachineClock),
    };
    let keeper_wiring = palisade_policy_keeper::Wiring {
        // Only the newest set matters.
        sets: boxes.roster.address().outbox(Overflow::Coalesce(NonZeroUsize::MIN, |_: &PolicySetChanged| 0)),
        conditions,
        interval: arguments.policy_interval,
    };

    let enforcers = Supervisor::new("enforcers");
    let roster = roster(arguments, boxes.roster, &enforcers, places, enforcer_wiring, &boxes.alerts.address());
    let mut enforcement = Supervisor::new("enforcement").strategy(Strategy::OneForAll).child(enforcers).child(roster);
    if !arguments.no_containers {
        enforcement =
            enforcement.child(workloads(arguments, boxes.workloads, workloads_wiring).place(places.enforce.clone()));
    }
    let enforcement = enforcement.child(keeper(arguments, boxes.keeper, keeper_wiring).place(places.enforce.clone()));

    let supervisor = Supervisor::new("palisade")
        .child(health(arguments, boxes.health))
        .child(
            ChildSpec::with_mailbox(boxes.compiler, |_| {
                Ok(PolicyCompiler::new(CompilerState::new(Bounds::default()), Arc::new(MachineClock)))
            })
            .place(places.compile.clone()),
        )
        .child(alerts(arguments, boxes.alerts).place(places.alerts.clone()))
        .child(enforcement)
        .child(probe(kernel, boxes.probe, probe_wiring).place(places.probe.clone()));
    Planted { supervisor, askers }
}

fn postures(arguments: &NodeArguments) -> Postures {
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

fn health(arguments: &NodeArguments, mailbox: MailboxOf<Health>) -> ChildSpec<Health> {
    let containers = !arguments.no_containers;
    ChildSpec::with_mailbox(mailbox, move |_| {
        let awaited = ["policies", "records"].into_iter().chain(containers.then_some("containers"));
        Ok(Health::awaiting(awaited))
    })
}

fn probe(kernel: &Kernel, mailbox: MailboxOf<Probe>, wiring: palisade_probe::Wiring) -> ChildSpec<Probe> {
    let open = Arc::clone(&kernel.records);
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Probe::new(open()?, wiring.clone())))
}

fn alerts(arguments: &NodeArguments, mailbox: MailboxOf<Alerts>) -> ChildSpec<Alerts> {
    let arguments = arguments.clone();
    let own = mailbox.address();
    ChildSpec::with_mailbox(mailbox, move |_| {
        let mut sinks: Vec<Box<dyn AlertSink>> = Vec::new();
        if !arguments.no_alert_stdout {
            sinks.push(Box::new(Stdout));
        }
        if let Some(path) = &arguments.alert_file {
            sinks.push(Box::new(RotatingFile::new(path, arguments.alert_file_bytes)));
        }
        own.try_tell(ProcessesListed { processes: processes::list() })?;
        Ok(Alerts::new(node_name(&arguments), palisade_alerts::Wiring { sinks, clock: Arc::new(MachineClock) }))
    })
}

/// The roster; with `--host-policy` it hears of the host as of any other workload, at each of its starts.
fn roster(
    arguments: &NodeArguments,
    mailbox: MailboxOf<Roster>,
    enforcers: &Supervisor,
    places: &Places,
    wiring: palisade_enforcer::Wiring,
    alerts: &Address<Alerts>,
) -> ChildSpec<Roster> {
    let (handle, place, own) = (enforcers.handle(), Arc::clone(&places.enforce), mailbox.address());
    let host = Arc::new(host_workload(arguments));
    let named = alerts.outbox::<WorkloadNamed>(Overflow::Refuse);
    let hold_host = arguments.host_policy;
    ChildSpec::with_mailbox(mailbox, move |_| {
        named.try_send(WorkloadNamed { slot: Slot::HOST, workload: Arc::clone(&host) })?;
        if hold_host {
            let membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 1, root: None };
            own.try_tell(WorkloadAppeared { workload: Arc::clone(&host), membership, admission: None })?;
        }
        Ok(Roster::new(handle.clone(), place.clone(), wiring.clone()))
    })
    .place(places.enforce.clone())
}

fn host_workload(arguments: &NodeArguments) -> Workload {
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
        ContainerdConfig { address: arguments.containerd.clone(), hook_socket: Some(arguments.hook_socket.clone()) };
    let slots = arguments.max_workloads;
    ChildSpec::with_mailbox(mailbox, move |_| {
        Ok(Workloads::new(Box::new(Containerd::new(config.clone())), wiring.clone(), slots))
    })
}

/// The keeper; generations go on over its restarts.
fn keeper(
    arguments: &NodeArguments,
    mailbox: MailboxOf<PolicyKeeper>,
    wiring: palisade_policy_keeper::Wiring,
) -> ChildSpec<PolicyKeeper> {
    let directory = arguments.policy_dir.clone();
    let last = Arc::new(AtomicU32::new(0));
    ChildSpec::with_mailbox(mailbox, move |_| {
        let state = Kept::after(Generation(last.load(Ordering::Relaxed)));
        Ok(PolicyKeeper::new(Box::new(FileDirectory::new(&directory)), wiring.clone(), state, Arc::clone(&last)))
    })
}
