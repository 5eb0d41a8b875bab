//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use palisade_containers::Endpoint;
use palisade_domain::Posture;

/// Where the node's admin socket is unless told otherwise.
pub const ADMIN_SOCKET: &str = "/run/palisade/admin.sock";
/// Where hooks ask unless told otherwise.
pub const HOOK_SOCKET: &str = "/run/palisade/hook.sock";

/// Runtime security for Kubernetes nodes and Linux hosts.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, about, arg_required_else_help = true, after_help = "Begin with: palisade doctor")]
pub struct Palisade {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node: see, decide, enforce, explain.
    Node(Box<NodeArguments>),
    /// Print what this kernel can do, and which tier holds which family.
    Probe(OutputArguments),
    /// Print the live tree of actors of the running node.
    Tree(AdminArguments),
    /// Print alerts of the running node.
    Logs(LogsArguments),
    /// Check and test policies; needs no running node.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look for what would keep the node from working, and say what to do about it.
    Doctor(DoctorArguments),
    /// Take away all that a node left in the kernel: programs, links, maps.
    Unload(UnloadArguments),
    /// Print the version.
    Version(OutputArguments),
    /// The OCI createRuntime hook: container runtimes call it.
    Hook(HookArguments),
    /// The fanotify responder: the node starts it.
    #[command(hide = true)]
    Responder,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For machines.
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
    /// Which container runtime is followed.
    #[command(flatten)]
    pub runtime: RuntimeArguments,
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
    /// Append alerts to this file as JSON lines.
    #[arg(long, env = "PALISADE_ALERT_FILE")]
    pub alert_file: Option<PathBuf>,
    /// Size in bytes past which the alert file is rotated to FILE.1.
    #[arg(long, default_value_t = 64 << 20)]
    pub alert_file_bytes: u64,
    /// Do not print alerts to standard output.
    #[arg(long)]
    pub no_alert_stdout: bool,
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
    /// What happens to an act whose path cannot be named for sure (unknown mount, too long) in a workload with rules for the family.
    #[arg(long, value_enum, default_value = "block")]
    pub on_unknown_path: PostureArgument,
    /// Directory for pins below a BPF file system.
    #[arg(long, env = "PALISADE_PIN_ROOT", default_value = "/sys/fs/bpf/palisade")]
    pub pin_root: PathBuf,
    /// Most containers at a time.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4095))]
    pub max_workloads: u32,
    /// Seconds between two looks at the policy directory.
    #[arg(long, default_value = "0.25", value_parser = interval)]
    pub policy_interval: Duration,
    /// Leave what is in the kernel in force when the node stops (for upgrades); else a stop takes everything away.
    #[arg(long)]
    pub keep_enforcing: bool,
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

/// Commands that only print.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// Commands that ask the running node.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// The node's admin socket.
    #[arg(long, env = "PALISADE_ADMIN_SOCKET", default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// `palisade logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Where the node is.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Go on with alerts as they come.
    #[arg(long, short)]
    pub follow: bool,
    /// How many past alerts to begin with.
    #[arg(long, short = 'n', default_value_t = 100)]
    pub recent: usize,
}

/// `palisade policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy files: every problem with its place, and what to write instead.
    Validate {
        /// Files or directories.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Run policy tests (kind: PolicyTest).
    Test {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
}

/// `palisade doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The policy directory that the node would read.
    #[arg(long, env = "PALISADE_POLICY_DIR", default_value = "/etc/palisade/policies")]
    pub policy_dir: PathBuf,
    /// Which container runtime is followed.
    #[command(flatten)]
    pub runtime: RuntimeArguments,
    /// The node's admin socket.
    #[arg(long, env = "PALISADE_ADMIN_SOCKET", default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// Directory for pins below a BPF file system.
    #[arg(long, env = "PALISADE_PIN_ROOT", default_value = "/sys/fs/bpf/palisade")]
    pub pin_root: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// `palisade unload`.
#[derive(Debug, Args)]
pub struct UnloadArguments {
    /// Directory for pins below a BPF file system.
    #[arg(long, env = "PALISADE_PIN_ROOT", default_value = "/sys/fs/bpf/palisade")]
    pub pin_root: PathBuf,
    /// Even under a node that runs, and that goes on without enforcement.
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// `palisade hook`.
#[derive(Debug, Args)]
pub struct HookArguments {
    /// The node's hook socket.
    #[arg(long, env = "PALISADE_HOOK_SOCKET", default_value = HOOK_SOCKET)]
    pub socket: PathBuf,
    /// Seconds to wait for the node.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    /// Let the container start if the node cannot be asked.
    #[arg(long)]
    pub fail_open: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.25".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("more than 0".into()) } else { Ok(duration) }
}

/// At most a hundred looks a second: each reads the directory.
fn interval(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|interval| if interval.as_millis() < 10 { Err("0.01 or more".into()) } else { Ok(interval) })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port, such as 127.0.0.1:9180 or [::1]:9180".to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("KEY=VALUE".into()),
    }
}
