//! The tree of actors over this machine: its adapters, its threads, its settings.

use std::{io, sync::Arc};

use palisade_alerts::{compose::NodeNames, state::Settings as AlertSettings};
use palisade_assembly::{Askers, Live, Open, Places, PolicyFiles, Ports, Settings};
use palisade_containers::{NodeConfig, NodeContainers, PlaceListener};
use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::ir::Postures;
use palisade_store::{Beside, FileDirectory, LastGoodFiles};
use palisade_supervision::{ArbiterThread, ChildSpec, Kept, MailboxOf, Outbox, Overflow, Supervisor};
use palisade_users::PasswdFiles;
use palisade_world::{Containers, Enforcement};

use super::{
    Configured, Kernel,
    links::RunningLinks,
    outputs::{self, Outputs, Sinks},
    recording,
    reload::{self, Configuration, ReloadConfiguration},
};
use crate::{
    arguments::NodeArguments, clock::MachineClock, configuration::command_line::CommandLine, machine, processes,
};

/// A tree that is ready to start.
pub struct Planted {
    pub supervisor: Supervisor,
    pub askers: Askers,
    /// SIGHUP's.
    pub reload: Outbox<ReloadConfiguration>,
}

/// The threads: a slow sink never delays enforcement, nor a large compilation a question, nor a large directory an admission.
///
/// # Errors
/// What the operating system says.
pub fn threads() -> io::Result<Places> {
    Ok(Places {
        alerts: ArbiterThread::start("alerts")?,
        compile: ArbiterThread::start("compile")?,
        enforce: ArbiterThread::start("enforce")?,
        policies: ArbiterThread::start("policies")?,
        probe: ArbiterThread::start("probe")?,
        record: ArbiterThread::start("record")?,
    })
}

/// Plants the tree over this machine.
pub fn plant(configured: Configured, kernel: &Kernel, places: &Places, links: Option<&RunningLinks>) -> Planted {
    let Configured { arguments, line, level } = configured;
    // Signals.
    let mailbox = MailboxOf::new("configuration", 4);
    let reload = mailbox.address().outbox(Overflow::Refuse);
    let outputs = Outputs::new(&arguments);
    let settings = settings(&arguments);
    // What changes while the node runs: sinks that are opened again are made from it.
    let kept = Kept::new(arguments.clone());
    let ports = ports(&kept, &outputs, kernel, links);
    let live = settings.live.clone();
    let running = links.map(RunningLinks::links);
    let configuration = |outlets| {
        let wiring = reload::Wiring { outlets, outputs, level, arguments: kept, live, links: running };
        configuration(line, mailbox, wiring)
    };
    let palisade_assembly::Planted { supervisor, askers } =
        palisade_assembly::plant(&settings, &ports, places, configuration);
    Planted { supervisor, askers, reload }
}

fn settings(arguments: &NodeArguments) -> Settings {
    Settings {
        live: Kept::new(live(arguments)),
        holds_host: arguments.host_policy,
        unknown: arguments.unknown(),
        max_workloads: arguments.max_workloads,
        awaited: vec![reload::actor::CONDITION],
        jitter_seed: 0,
    }
}

/// What may change while the node runs.
pub fn live(arguments: &NodeArguments) -> Live {
    Live {
        host: host_workload(arguments),
        postures: postures(arguments),
        policy_interval: arguments.policy_interval,
        seen: arguments.seen(),
        alerts: alert_settings(arguments),
    }
}

/// This machine's adapters.
fn ports(kept: &Kept<NodeArguments>, outputs: &Outputs, kernel: &Kernel, links: Option<&RunningLinks>) -> Ports {
    let arguments = &*kept.lock();
    Ports {
        clock: Arc::new(MachineClock),
        enforcement: Arc::clone(&kernel.enforcement),
        devices: arguments.host_policy.then(|| Arc::clone(&kernel.devices)),
        records: Arc::clone(&kernel.records),
        containers: (!arguments.no_containers).then(|| containers(arguments, &kernel.enforcement)),
        policies: policies(arguments),
        outputs: open_outputs(kept, outputs),
        recording: Some(recording::open(kept)),
        links: links.map(RunningLinks::port),
    }
}

/// Where containers are made is told straight to the kernel: no actor decides anything about it, and it must be there before the first of them.
fn containers(arguments: &NodeArguments, enforcement: &Arc<dyn Enforcement>) -> Open<Box<dyn Containers>> {
    let config = NodeConfig {
        endpoint: arguments.runtime.endpoint(),
        hook_socket: Some(arguments.hook_socket.clone()),
        nri: arguments.nri.config(),
    };
    let enforcement = Arc::clone(enforcement);
    let tell: Arc<PlaceListener> = Arc::new(move |places| {
        let paths: Vec<String> = places.iter().map(|place| place.path.display().to_string()).collect();
        match enforcement.hold_unknown_in(places) {
            Ok(()) => tracing::debug!(places = %paths.join(", "), "containers are made in"),
            Err(error) => {
                tracing::error!(places = %paths.join(", "), %error, "containers that are made there while no node runs are the host's");
            }
        }
    });
    Arc::new(move || Ok(Box::new(NodeContainers::new(config.clone()).telling_places(Arc::clone(&tell)))))
}

fn policies(arguments: &NodeArguments) -> Open<PolicyFiles> {
    let (path, state_dir) = (arguments.policy_dir.clone(), arguments.state_dir.clone());
    Arc::new(move || {
        let directory = Box::new(Beside::start(&path, Box::new(FileDirectory::new(&path)))?);
        Ok(PolicyFiles { directory, last_good: Box::new(LastGoodFiles::of(&path, &state_dir)) })
    })
}

fn open_outputs(kept: &Kept<NodeArguments>, outputs: &Outputs) -> Open<palisade_assembly::Outputs> {
    let (kept, outputs) = (kept.clone(), outputs.clone());
    Arc::new(move || {
        let Sinks { sinks, log_sinks } = outputs.sinks(&kept.lock())?;
        let (passwd, processes) = (Box::new(PasswdFiles::default()), processes::list());
        Ok(palisade_assembly::Outputs { sinks, log_sinks, passwd, processes })
    })
}

fn configuration(
    line: CommandLine,
    mailbox: MailboxOf<Configuration>,
    wiring: reload::Wiring,
) -> ChildSpec<Configuration> {
    let state = Kept::new(reload::state::State::new(line.effective(), wiring.links.is_some()));
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Configuration::new(line.clone(), wiring.clone(), state.clone())))
}

/// The global postures.
pub fn postures(arguments: &NodeArguments) -> Postures {
    Postures {
        file: arguments.default_file_posture.into(),
        network: arguments.default_network_posture.into(),
        capabilities: arguments.default_capabilities_posture.into(),
        device: arguments.host_default_device_posture.into(),
    }
}

/// The node's name: as told, or the host's.
pub fn node_name(arguments: &NodeArguments) -> String {
    arguments.node_name.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

pub(super) fn alert_settings(arguments: &NodeArguments) -> AlertSettings {
    let names = NodeNames {
        cluster: arguments.cluster_name.clone(),
        node: node_name(arguments),
        node_id: machine::id().unwrap_or_default(),
    };
    AlertSettings { names, throttle: outputs::throttle(arguments), visibility: arguments.visibility }
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
