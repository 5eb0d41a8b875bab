//! The tree of actors over this machine: its adapters, its threads, its settings.

use std::{io, path::PathBuf, sync::Arc};

use palisade_alerts::{compose::NodeNames, state::Settings as AlertSettings, throttle::Limit};
use palisade_assembly::{Askers, Live, Open, Outlets, Outputs, Places, PolicyFiles, Ports, Settings};
use palisade_containers::{NodeConfig, NodeContainers};
use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::ir::Postures;
use palisade_sinks::{Queued, RotatingFile, Stdout};
use palisade_store::{Beside, FileDirectory, LastGoodFiles};
use palisade_supervision::{ArbiterThread, ChildSpec, Kept, MailboxOf, Outbox, Overflow, Supervisor};
use palisade_users::PasswdFiles;
use palisade_world::{AlertSink, Containers};

use super::{
    Configured, Kernel,
    reload::{self, Configuration, ReloadConfiguration},
};
use crate::{
    arguments::NodeArguments, clock::MachineClock, configuration::command_line::CommandLine, log::LogLevel, machine,
    processes,
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
    })
}

/// Plants the tree over this machine.
pub fn plant(configured: Configured, kernel: &Kernel, places: &Places) -> Planted {
    let Configured { arguments, line, level } = configured;
    // Signals.
    let mailbox = MailboxOf::new("configuration", 4);
    let reload = mailbox.address().outbox(Overflow::Refuse);
    let settings = settings(&arguments);
    let live = settings.live.clone();
    let configuration = |outlets| configuration(line, level, mailbox, outlets, live);
    let palisade_assembly::Planted { supervisor, askers } =
        palisade_assembly::plant(&settings, &ports(&arguments, kernel), places, configuration);
    Planted { supervisor, askers, reload }
}

fn settings(arguments: &NodeArguments) -> Settings {
    let live = Live {
        host: host_workload(arguments),
        postures: postures(arguments),
        policy_interval: arguments.policy_interval,
    };
    Settings {
        live: Kept::new(live),
        holds_host: arguments.host_policy,
        max_workloads: arguments.max_workloads,
        visibility: arguments.visibility,
        alerts: alert_settings(arguments),
        awaited: vec![reload::actor::CONDITION],
        jitter_seed: 0,
    }
}

/// This machine's adapters.
fn ports(arguments: &NodeArguments, kernel: &Kernel) -> Ports {
    Ports {
        clock: Arc::new(MachineClock),
        enforcement: Arc::clone(&kernel.enforcement),
        records: Arc::clone(&kernel.records),
        containers: (!arguments.no_containers).then(|| containers(arguments)),
        policies: policies(arguments),
        outputs: outputs(arguments),
    }
}

fn containers(arguments: &NodeArguments) -> Open<Box<dyn Containers>> {
    let config =
        NodeConfig { endpoint: arguments.runtime.endpoint(), hook_socket: Some(arguments.hook_socket.clone()) };
    Arc::new(move || Ok(Box::new(NodeContainers::new(config.clone()))))
}

fn policies(arguments: &NodeArguments) -> Open<PolicyFiles> {
    let (path, state_dir) = (arguments.policy_dir.clone(), arguments.state_dir.clone());
    Arc::new(move || {
        let directory = Box::new(Beside::start(&path, Box::new(FileDirectory::new(&path)))?);
        Ok(PolicyFiles { directory, last_good: Box::new(LastGoodFiles::of(&path, &state_dir)) })
    })
}

fn outputs(arguments: &NodeArguments) -> Open<Outputs> {
    let arguments = arguments.clone();
    Arc::new(move || {
        let (sinks, log_sinks) = sinks(&arguments)?;
        Ok(Outputs { sinks, log_sinks, passwd: Box::new(PasswdFiles::default()), processes: processes::list() })
    })
}

fn configuration(
    line: CommandLine,
    level: LogLevel,
    mailbox: MailboxOf<Configuration>,
    outlets: Outlets,
    live: Kept<Live>,
) -> ChildSpec<Configuration> {
    let wiring = reload::Wiring { outlets, level, live };
    let state = Kept::new(reload::state::State::new(line.effective()));
    ChildSpec::with_mailbox(mailbox, move |_| Ok(Configuration::new(line.clone(), wiring.clone(), state.clone())))
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

fn alert_settings(arguments: &NodeArguments) -> AlertSettings {
    let names = NodeNames {
        cluster: arguments.cluster_name.clone(),
        node: node_name(arguments),
        node_id: machine::id().unwrap_or_default(),
    };
    let limit = Limit { per_second: arguments.max_alert_per_sec, silence_seconds: arguments.throttle_sec };
    let throttle = (!arguments.no_alert_throttling).then_some(limit);
    // As the kernel adapter is told.
    AlertSettings { names, throttle, visibility: arguments.visibility }
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
