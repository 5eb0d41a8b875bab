//! `palisade node`, whose flags are the settings of the configuration file, too.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use palisade_containers::{
    Endpoint,
    nri::{NriConfig, NriSocket},
};
use palisade_domain::{OnUnknownWorkload, Posture, Visibility};
use palisade_kernel::{observation::Limits, selinux::Base};
use palisade_protocol::SetVisibility;

use super::{
    ADMIN_SOCKET, HOOK_SOCKET, LinkArguments,
    parse::{address, age, directives, fold_window, interval, label, nri_choice, selinux_choice, unattended},
};

/// The form of the runtime's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: a line for each event.
    Text,
    /// For machines: a JSON object for each event.
    Json,
}

/// The posture of a family where no Allow rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PostureArgument {
    /// Permit, with an alert.
    Audit,
    /// Deny, with an alert.
    Block,
}

/// What happens to containers that nobody has admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnknownArgument {
    /// Permit, and say nothing.
    Allow,
    /// Permit, with an alert.
    Audit,
    /// Deny, with an alert.
    Block,
}

impl From<UnknownArgument> for OnUnknownWorkload {
    fn from(argument: UnknownArgument) -> Self {
        match argument {
            UnknownArgument::Allow => Self::Allow,
            UnknownArgument::Audit => Self::Audit,
            UnknownArgument::Block => Self::Block,
        }
    }
}

impl From<PostureArgument> for Posture {
    fn from(argument: PostureArgument) -> Self {
        match argument {
            PostureArgument::Audit => Self::Audit,
            PostureArgument::Block => Self::Block,
        }
    }
}

/// `palisade node`.
#[derive(Debug, Clone, Args)]
pub struct NodeArguments {
    /// Directory of policy files (*.yaml, *.yml, *.json); watched.
    #[arg(long, env = "PALISADE_POLICY_DIR", default_value = "/etc/palisade/policies")]
    pub policy_dir: PathBuf,
    /// Directory of what outlives the node: the last good version of each policy file.
    #[arg(long, env = "PALISADE_STATE_DIR", default_value = "/var/lib/palisade")]
    pub state_dir: PathBuf,
    /// Which container runtime is followed.
    #[command(flatten)]
    pub runtime: RuntimeArguments,
    /// The runtime's Node Resource Interface.
    #[command(flatten)]
    pub nri: NriArguments,
    /// Follow no container runtime: hold only the host.
    #[arg(long)]
    pub no_containers: bool,
    /// Socket that the OCI hook asks at.
    #[arg(long, env = "PALISADE_HOOK_SOCKET", default_value = HOOK_SOCKET)]
    pub hook_socket: PathBuf,
    /// Socket of the admin endpoint; private to root.
    #[arg(long, env = "PALISADE_ADMIN_SOCKET", default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// Serve the admin endpoint on this loopback address too, for who has the token.
    #[arg(long, env = "PALISADE_ADMIN_ADDRESS", value_parser = address, value_name = "ADDRESS:PORT")]
    pub admin_address: Option<SocketAddr>,
    /// File of the token for the loopback address; made if missing.
    #[arg(long, env = "PALISADE_ADMIN_TOKEN_FILE", default_value = "/run/palisade/admin.token")]
    pub admin_token_file: PathBuf,
    /// Append alerts to this file as JSON lines; synced each second: a loss of power takes about the last one.
    #[arg(long, env = "PALISADE_ALERT_FILE")]
    pub alert_file: Option<PathBuf>,
    /// Size in bytes past which the alert file is rotated to FILE.1.
    #[arg(long, default_value_t = 64 << 20)]
    pub alert_file_bytes: u64,
    /// How many older alert files are kept: FILE.1 is the newest of them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub alert_file_keep: u32,
    /// Do not print alerts to standard output.
    #[arg(long)]
    pub no_alert_stdout: bool,
    /// Append logs (what visibility asks for) to this file as JSON lines; synced as the alert file is.
    #[arg(long, env = "PALISADE_LOG_FILE")]
    pub log_file: Option<PathBuf>,
    /// Size in bytes past which the log file is rotated to FILE.1.
    #[arg(long, default_value_t = 64 << 20)]
    pub log_file_bytes: u64,
    /// How many older log files are kept.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub log_file_keep: u32,
    /// Print logs to standard output, too.
    #[arg(long)]
    pub log_stdout: bool,
    /// Alerts of one workload in a second past which they are held back, and counted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_alert_per_sec: u32,
    /// Seconds for which they are then held back.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub throttle_sec: u32,
    /// Hold no alerts back.
    #[arg(long)]
    pub no_alert_throttling: bool,
    /// Name of the cluster in alerts and logs.
    #[arg(long, env = "PALISADE_CLUSTER_NAME", default_value = "default")]
    pub cluster_name: String,
    /// Name of this node in alerts, and its `kubernetes.io/hostname` label.
    #[arg(long, env = "PALISADE_NODE_NAME")]
    pub node_name: Option<String>,
    /// Labels of this host for host policies: KEY=VALUE, may be given more than once.
    #[arg(long = "host-label", value_parser = label)]
    pub host_labels: Vec<(String, String)>,
    /// Hold the host outside containers to host policies.
    #[arg(long)]
    pub host_policy: bool,
    /// Default posture for exec and open.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_file_posture: PostureArgument,
    /// Default posture for sockets and destinations.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_network_posture: PostureArgument,
    /// Default posture for capabilities and ptrace.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_capabilities_posture: PostureArgument,
    /// Default posture for USB devices of the host, where a host policy allows some.
    #[arg(long, value_enum, default_value = "audit")]
    pub host_default_device_posture: PostureArgument,
    /// What happens to an act whose path cannot be named for sure (unknown mount, too long) in a workload with rules for the family.
    #[arg(long, value_enum, default_value = "block")]
    pub on_unknown_path: PostureArgument,
    /// What happens to the acts of a container that was made while no node ran, or that no runtime tells of, until it is admitted.
    #[arg(long, value_enum, default_value = "audit")]
    pub on_unknown_workload: UnknownArgument,
    /// What is seen of workloads whose namespace does not say otherwise: process, file, network, capabilities, dns, credentials, kernel,
    /// syscalls, between commas; all is all of them but syscalls; none.
    #[arg(long, env = "PALISADE_VISIBILITY", default_value = "none")]
    pub visibility: Visibility,
    /// The same of the host outside containers, also without --host-policy. Without this: nothing, and with --host-policy what --visibility
    /// says.
    #[arg(long, env = "PALISADE_HOST_VISIBILITY")]
    pub host_visibility: Option<Visibility>,
    /// Observations a second of one workload in the long run; what exceeds it is counted, not sent. 0: no bound. Alerts have none.
    #[arg(long, default_value_t = Limits::default().records_per_second)]
    pub observation_rate: u32,
    /// Observations of one workload that may come at once.
    #[arg(long, default_value_t = Limits::default().burst, value_parser = clap::value_parser!(u32).range(1..))]
    pub observation_burst: u32,
    /// Seconds in which equal observations of a process are sent once, with a count later; 0: each is sent.
    #[arg(long, default_value = "1", value_parser = fold_window)]
    pub fold_window: Duration,
    /// Bytes of memory in which the last minutes of records are kept, for `palisade record --last`; 0: none are kept.
    #[arg(long, default_value_t = 8 << 20)]
    pub trace_memory_bytes: u64,
    /// How many minutes are kept there at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub trace_minutes: u32,
    /// Keep the arguments of processes there, too; else they are overwritten before they are kept.
    #[arg(long)]
    pub trace_arguments: bool,
    /// Keep a trace of what was before and after an alert that a rule blocks, in this directory.
    #[arg(long, env = "PALISADE_TRACE_DIRECTORY")]
    pub trace_directory: Option<PathBuf>,
    /// Bytes of all traces there; the oldest go. One trace takes at most a quarter, or twice what is kept in memory.
    #[arg(long, default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub trace_directory_bytes: u64,
    /// Only around alerts of rules of at least this severity; a rule that states none has 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub trace_alert_severity: u8,
    /// Only around alerts of these policies (NAME, NAMESPACE/NAME or KIND/NAMESPACE/NAME), and then also around what they only audit.
    #[arg(long = "trace-alert-policy", value_delimiter = ',', value_name = "POLICY")]
    pub trace_alert_policies: Vec<String>,
    /// Seconds for which a trace goes on after its alert.
    #[arg(long, default_value = "10", value_parser = age, value_name = "SECONDS")]
    pub trace_alert_after: Duration,
    /// Seconds between the beginnings of two such traces at least; the next one begins where the last one ended.
    #[arg(long, default_value = "60", value_parser = age, value_name = "SECONDS")]
    pub trace_alert_pause: Duration,
    /// Links to other nodes.
    #[command(flatten)]
    pub link: LinkArguments,
    /// Directory for pins below a BPF file system.
    #[arg(long, env = "PALISADE_PIN_ROOT", default_value = "/sys/fs/bpf/palisade")]
    pub pin_root: PathBuf,
    /// Most containers at a time.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4094))]
    pub max_workloads: u32,
    /// Seconds between two looks at the policy directory.
    #[arg(long, default_value = "0.25", value_parser = interval)]
    pub policy_interval: Duration,
    /// Leave what is in the kernel in force when the node stops (for upgrades); else a stop takes everything away.
    #[arg(long)]
    pub keep_enforcing: bool,
    /// How long policy stands once no node runs any more (90s, 5m, 24h; a bare number is seconds), after a crash or a stop with
    /// --keep-enforcing; then nothing is held until the next node comes. 0: for ever. AppArmor profiles and SELinux
    /// constraints do not lapse.
    #[arg(long, env = "PALISADE_MAX_UNATTENDED", default_value = "0", value_parser = unattended, value_name = "TIME")]
    pub max_unattended: Duration,
    /// Hold containers by SELinux, too, where nothing stronger is: by constraints on the user of their context (palisade_0_u to
    /// palisade_127_u), which are loaded with the host's base policy. That is a file of CIL or a directory of such; store: the host's module
    /// store, by semodule; off: not.
    #[arg(long, env = "PALISADE_SELINUX", default_value = "off", value_parser = selinux_choice, value_name = "BASE")]
    pub selinux: SeLinuxChoice,
    /// Form of the runtime's own log, on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or directives such as `info,palisade_kernel=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_parser = directives)]
    pub log_level: String,
}

impl NodeArguments {
    /// For how long policy stands without a node; `None`: for ever.
    #[must_use]
    pub fn stands_unattended(&self) -> Option<Duration> {
        (!self.max_unattended.is_zero()).then_some(self.max_unattended)
    }

    /// What those are held to whom nobody has admitted; `None`: no containers are followed.
    #[must_use]
    pub fn unknown(&self) -> Option<OnUnknownWorkload> {
        (!self.no_containers).then(|| self.on_unknown_workload.into())
    }

    /// What is seen of the host.
    #[must_use]
    pub fn seen_of_host(&self) -> Visibility {
        self.host_visibility.unwrap_or(if self.host_policy { self.visibility } else { Visibility::NONE })
    }

    /// What is seen of whom.
    #[must_use]
    pub fn seen(&self) -> SetVisibility {
        SetVisibility { visibility: self.visibility, host: self.seen_of_host() }
    }
}

/// Which container runtime is followed; without any of these, the first whose socket is in a usual place: containerd (also of k3s, RKE2,
/// MicroK8s), CRI-O, cri-dockerd; else cgroups.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct RuntimeArguments {
    /// Follow the containerd at this socket.
    #[arg(long, env = "PALISADE_CONTAINERD", value_name = "SOCKET")]
    pub containerd: Option<PathBuf>,
    /// Follow the runtime at this socket by the CRI (CRI-O, cri-dockerd, containerd).
    #[arg(long, env = "PALISADE_CRI_SOCKET", value_name = "SOCKET")]
    pub cri_socket: Option<PathBuf>,
    /// Ask no runtime: know containers by their cgroups and /proc alone. Where no file names them, their names are ids.
    #[arg(long)]
    pub by_cgroups: bool,
}

impl RuntimeArguments {
    /// As told; `None` where it is to be found.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        let containerd = self.containerd.clone().map(Endpoint::Containerd);
        let cri = self.cri_socket.clone().map(Endpoint::Cri);
        containerd.or(cri).or(self.by_cgroups.then_some(Endpoint::Cgroups))
    }
}

/// Whether the runtime is asked to add the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NriChoice {
    /// Not.
    None,
    /// By this socket.
    By(NriSocket),
}

/// What SELinux constraints are loaded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeLinuxChoice {
    /// Nothing: that is no means.
    Off,
    /// The host's policy.
    With(Base),
}

impl SeLinuxChoice {
    /// As the kernel's adapter has it.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        match self {
            Self::Off => None,
            Self::With(base) => Some(base.clone()),
        }
    }
}

/// The runtime's Node Resource Interface (NRI).
#[derive(Debug, Clone, Args)]
pub struct NriArguments {
    /// Have the container runtime add the OCI hook to what it creates, by its Node Resource Interface (containerd from 1.7 on, CRI-O) at
    /// this socket; auto: at /var/run/nri/nri.sock where that is there; none: not.
    #[arg(long, env = "PALISADE_NRI_SOCKET", default_value = "auto", value_parser = nri_choice, value_name = "SOCKET")]
    pub nri_socket: NriChoice,
    /// The program that is then added, palisade or palisade-hook, by its path on the host. Without this: this program.
    #[arg(long, env = "PALISADE_NRI_HOOK", value_name = "PROGRAM")]
    pub nri_hook: Option<PathBuf>,
}

impl NriArguments {
    /// As the node has it; `None` where it is not wanted.
    #[must_use]
    pub fn config(&self) -> Option<NriConfig> {
        let NriChoice::By(socket) = self.nri_socket.clone() else { return None };
        // What has no path of its own cannot be executed by another: then the check of the program says so.
        let program = self.nri_hook.clone().or_else(|| std::env::current_exe().ok()).unwrap_or_default();
        Some(NriConfig { socket, program })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use palisade_domain::{Slot, VisibilityClass};

    use super::*;
    use crate::arguments::{Command, Palisade};

    /// What is seen of the host and of a container.
    fn seen(flags: &[&str]) -> (Visibility, Visibility) {
        let line = Palisade::try_parse_from(["palisade", "node"].iter().chain(flags)).expect("known flags");
        let Command::Node(arguments) = line.command else { panic!("another command") };
        (arguments.seen().of(Slot::HOST), arguments.seen().of(Slot(1)))
    }

    #[test]
    fn unit_node_is_a_plugin_of_nri_where_that_is_there_unless_told_otherwise() {
        let nri = |flags: &[&str]| {
            let line = Palisade::try_parse_from(["palisade", "node"].iter().chain(flags))
                .map_err(|error| error.to_string())?;
            let Command::Node(arguments) = line.command else { panic!("another command") };
            Ok::<_, String>(arguments.nri.config())
        };
        let own = std::env::current_exe().expect("this program");
        assert_eq!(nri(&[]), Ok(Some(NriConfig { socket: NriSocket::Auto, program: own.clone() })));
        assert_eq!(nri(&["--nri-socket", "none"]), Ok(None));
        let told = nri(&["--nri-socket", "/run/x.sock", "--nri-hook", "/opt/palisade-hook"])
            .expect("known flags")
            .expect("wanted");
        assert_eq!(told.socket, NriSocket::At("/run/x.sock".into()));
        assert_eq!(told.program, PathBuf::from("/opt/palisade-hook"));
        assert!(nri(&["--nri-socket", "nri.sock"]).is_err_and(|said| said.contains("absolute path")));
    }

    #[test]
    fn unit_node_loads_no_selinux_policy_unless_it_is_told_with_which() {
        let base = |flags: &[&str]| {
            let line = Palisade::try_parse_from(["palisade", "node"].iter().chain(flags))
                .map_err(|error| error.to_string())?;
            let Command::Node(arguments) = line.command else { panic!("another command") };
            Ok::<_, String>(arguments.selinux.base())
        };
        assert_eq!((base(&[]), base(&["--selinux", "off"])), (Ok(None), Ok(None)));
        assert_eq!(base(&["--selinux", "store"]), Ok(Some(Base::Store)));
        assert_eq!(base(&["--selinux", "/selinux/base.cil"]), Ok(Some(Base::Cil("/selinux/base.cil".into()))));
        assert!(base(&["--selinux", "base.cil"]).is_err_and(|said| said.contains("absolute path")));
    }

    #[test]
    fn unit_node_sees_of_the_host_what_is_said_of_it_and_else_nothing_unless_it_is_held_as_a_workload() {
        let (process, file) = (VisibilityClass::Process, VisibilityClass::File);
        let only = |class| Visibility::NONE.with(class);
        assert_eq!(seen(&["--visibility", "file"]), (Visibility::NONE, only(file)));
        assert_eq!(seen(&["--visibility", "file", "--host-policy"]), (only(file), only(file)));
        let own = ["--visibility", "file", "--host-policy", "--host-visibility", "process"];
        assert_eq!(seen(&own), (only(process), only(file)));
        assert_eq!(seen(&["--host-visibility", "process"]), (only(process), Visibility::NONE));
    }
}
