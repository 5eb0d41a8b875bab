//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use palisade_containers::Endpoint;
use palisade_domain::{Posture, Visibility};
use palisade_kernel::observation::Limits;

/// Where the node's admin socket is unless told otherwise.
pub const ADMIN_SOCKET: &str = "/run/palisade/admin.sock";
/// Where hooks ask unless told otherwise.
pub const HOOK_SOCKET: &str = "/run/palisade/hook.sock";

/// Where the configuration is unless told otherwise.
pub const CONFIG: &str = "/etc/palisade/config.yaml";

/// Runtime security for Kubernetes nodes and Linux hosts.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, arg_required_else_help = true, after_help = "Begin with: palisade doctor")]
pub struct Palisade {
    /// Configuration file: what it sets counts where neither a flag nor the environment says otherwise.
    #[arg(long, global = true, env = "PALISADE_CONFIG", default_value = CONFIG, value_name = "FILE")]
    pub config: PathBuf,
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
    Tree(TreeArguments),
    /// Watch workloads, actors and losses of the running node, live.
    Top(TopArguments),
    /// Print alerts of the running node.
    Logs(LogsArguments),
    /// Check and test policies; needs no running node.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check and show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for what would keep the node from working, and say what to do about it.
    Doctor(DoctorArguments),
    /// Take away all that a node left in the kernel: programs, links, maps.
    Unload(UnloadArguments),
    /// Print the version.
    Version(OutputArguments),
    /// Print the completion of a shell: `palisade completion bash > /etc/bash_completion.d/palisade`.
    Completion(CompletionArguments),
    /// Print the manual page, or write one for each command.
    Man(ManArguments),
    /// Run simulated nodes through faults; needs no kernel and no privilege.
    Simulate(palisade_simulation::command::SimulateArguments),
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
    /// The same as JSON, easier to read.
    Yaml,
}

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
    /// How many older alert files are kept: FILE.1 is the newest of them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub alert_file_keep: u32,
    /// Do not print alerts to standard output.
    #[arg(long)]
    pub no_alert_stdout: bool,
    /// Append logs (what visibility asks for) to this file as JSON lines.
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
    /// What happens to an act whose path cannot be named for sure (unknown mount, too long) in a workload with rules for the family.
    #[arg(long, value_enum, default_value = "block")]
    pub on_unknown_path: PostureArgument,
    /// What is seen of workloads whose namespace does not say otherwise: process, file, network, capabilities, dns, credentials, kernel,
    /// syscalls, between commas; all is all of them but syscalls; none.
    #[arg(long, env = "PALISADE_VISIBILITY", default_value = "none")]
    pub visibility: Visibility,
    /// Observations a second of one workload in the long run; what exceeds it is counted, not sent. 0: no bound. Alerts have none.
    #[arg(long, default_value_t = Limits::default().records_per_second)]
    pub observation_rate: u32,
    /// Observations of one workload that may come at once.
    #[arg(long, default_value_t = Limits::default().burst, value_parser = clap::value_parser!(u32).range(1..))]
    pub observation_burst: u32,
    /// Seconds in which equal observations of a process are sent once, with a count later; 0: each is sent.
    #[arg(long, default_value = "1", value_parser = fold_window)]
    pub fold_window: Duration,
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
    /// Form of the runtime's own log, on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or directives such as `info,palisade_kernel=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_parser = directives)]
    pub log_level: String,
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

/// `palisade tree`.
#[derive(Debug, Args)]
pub struct TreeArguments {
    /// Where the node is.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Go on with what changes.
    #[arg(long, short)]
    pub follow: bool,
}

/// `palisade top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Where the node is.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Print one frame as text and end; also what happens where standard output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks; rates are over this long.
    #[arg(long, default_value = "1", value_parser = refresh)]
    pub interval: Duration,
    /// What workloads and actors are sorted by.
    #[arg(long, value_enum, default_value = "alerts")]
    pub sort: SortArgument,
    /// Show only workloads and actors whose name contains this.
    #[arg(long, default_value = "")]
    pub filter: String,
}

/// What `palisade top` sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortArgument {
    /// Alerts a second, then alerts; actors by messages that wait.
    Alerts,
    /// Events a second, then events; actors by messages a second.
    Events,
    /// Names.
    Name,
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
    /// How many past alerts to begin with, of those that the filters let through.
    #[arg(long, short = 'n', default_value_t = 100)]
    pub recent: usize,
    /// Which lines.
    #[arg(long, value_enum, default_value = "policy")]
    pub filter: LinesArgument,
    /// What to leave out.
    #[command(flatten)]
    pub filters: FilterArguments,
    /// End after this many alerts.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Which lines `palisade logs` shows; KubeArmor's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinesArgument {
    /// Alerts, and what was held back of them.
    Policy,
    /// Logs of what visibility asks for, from now on: with --follow.
    System,
    /// Both.
    All,
}

/// Which alerts. All that are given must hold; `*` stands for any text, and commas part alternatives.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Filters (all that are given must hold; `*` is any text, commas part alternatives)")]
pub struct FilterArguments {
    /// Namespace of the workload.
    #[arg(long)]
    pub namespace: Option<String>,
    /// Pod (or container outside Kubernetes, or host) that acted.
    #[arg(long)]
    pub pod: Option<String>,
    /// Container in its pod.
    #[arg(long)]
    pub container: Option<String>,
    /// Kind of act: exec, open, socket, connect, ptrace ...
    #[arg(long)]
    pub operation: Option<String>,
    /// Executable that acted: `/usr/bin/*`.
    #[arg(long)]
    pub source: Option<String>,
    /// What was acted on: `/etc/*`, `tcp *:443`.
    #[arg(long)]
    pub resource: Option<String>,
    /// Name of the policy that decided.
    #[arg(long)]
    pub policy: Option<String>,
    /// Least severity of the rule, 1 to 10.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub severity: Option<u8>,
    /// denied, killed, observed, unenforceable.
    #[arg(long)]
    pub verdict: Option<String>,
    /// Labels of the workload, all of them: `app=web,tier=front`.
    #[arg(long)]
    pub labels: Option<String>,
    /// Not older than this: `90s`, `5m`, `2h`, `1d`.
    #[arg(long, value_parser = age, value_name = "AGE")]
    pub since: Option<Duration>,
}

/// `palisade config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file: every problem with its place.
    Validate {
        /// The file; the one of --config if none is named.
        file: Option<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print what a node would run with, and where each value comes from. Takes the node's own flags.
    Show {
        /// As for the node.
        #[command(flatten)]
        node: Box<NodeArguments>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print the JSON schema of the configuration file, for editors and checks.
    Schema,
}

/// `palisade completion`.
#[derive(Debug, Args)]
pub struct CompletionArguments {
    /// Of which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// `palisade man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write a page for each command here (palisade.1, palisade-node.1, ...) instead of printing the first.
    #[arg(long)]
    pub directory: Option<PathBuf>,
}

/// `palisade policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy files: every problem with its place, and what to write instead.
    Validate {
        /// Files or directories.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Do not ask this kernel what it holds (which takes root and tries each capability).
        #[arg(long)]
        no_kernel: bool,
        /// What is not held fails the validation, too.
        #[arg(long)]
        strict: bool,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Say in words what policies mean for a workload, and which rule decides what it does.
    Explain(Box<ExplainArguments>),
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

/// `palisade policy explain`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("act").args(["exec", "open", "connect", "ptrace", "capability", "dns", "syscall"]))]
pub struct ExplainArguments {
    /// Files or directories.
    #[arg(default_value = "/etc/palisade/policies")]
    pub paths: Vec<PathBuf>,
    /// The host outside containers, and not a container.
    #[arg(long)]
    pub host: bool,
    /// The workload's namespace.
    #[arg(long, short = 'n', default_value = "default", conflicts_with = "host")]
    pub namespace: String,
    /// The container's name in its pod.
    #[arg(long, default_value = "", conflicts_with = "host")]
    pub container: String,
    /// The pod's or the host's name.
    #[arg(long, default_value = "")]
    pub name: String,
    /// A label of the workload, KEY=VALUE; may be given more than once.
    #[arg(long = "label", short, value_parser = label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Default posture for exec and open.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_file_posture: PostureArgument,
    /// Default posture for sockets, destinations and DNS.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_network_posture: PostureArgument,
    /// Default posture for capabilities and ptrace.
    #[arg(long, value_enum, default_value = "audit")]
    pub default_capabilities_posture: PostureArgument,
    /// It executes this file.
    #[arg(long, value_name = "PATH")]
    pub exec: Option<String>,
    /// It opens this file.
    #[arg(long, value_name = "PATH")]
    pub open: Option<String>,
    /// It connects there.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub connect: Option<SocketAddr>,
    /// It traces a process of this executable.
    #[arg(long, value_name = "PATH")]
    pub ptrace: Option<String>,
    /// It uses this capability.
    #[arg(long, value_name = "NAME")]
    pub capability: Option<String>,
    /// It asks a DNS server for this name.
    #[arg(long, value_name = "NAME")]
    pub dns: Option<String>,
    /// It makes this system call.
    #[arg(long, value_name = "NAME")]
    pub syscall: Option<String>,
    /// By this executable (of an exec: the one that calls it).
    #[arg(long, value_name = "PATH", requires = "act")]
    pub source: Option<String>,
    /// For writing.
    #[arg(long, requires = "open")]
    pub write: bool,
    /// By this user.
    #[arg(long, requires = "act", default_value_t = 0)]
    pub uid: u32,
    /// The file is this user's.
    #[arg(long, requires = "act", default_value_t = 0)]
    pub owner: u32,
    /// From a terminal.
    #[arg(long, requires = "act")]
    pub tty: bool,
    /// An argument of what is executed, after its name; may be given more than once.
    #[arg(long = "argument", requires = "exec", allow_hyphen_values = true, value_name = "TEXT")]
    pub arguments: Vec<String>,
    /// Over this protocol: tcp, udp, sctp.
    #[arg(long, requires = "connect", default_value = "tcp")]
    pub protocol: String,
    /// On this file.
    #[arg(long, requires = "syscall", value_name = "PATH")]
    pub path: Option<String>,
    /// Do not ask this kernel what it holds (which takes root and tries each capability).
    #[arg(long)]
    pub no_kernel: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
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

/// A terminal is drawn at most ten times a second, and a node asked as often.
fn refresh(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(3600);
    seconds(text)
        .and_then(|every| if every.as_millis() < 100 || every > most { Err("0.1 to 3600".into()) } else { Ok(every) })
}

/// `90s`, `5m`, `2h`, `1d`; a bare number is seconds.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with s, m, h or d, such as 90s, 5m, 2h or 1d".to_owned();
    let (number, unit) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// What the log understands, checked before it is needed.
fn directives(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| {
        format!(
            "{error}: a level (error, warn, info, debug, trace), or directives such as `info,palisade_kernel=debug`"
        )
    })
}

fn fold_window(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(
        |window| {
            if window > Duration::from_secs(60) { Err("60 or less".into()) } else { Ok(window) }
        },
    )
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
