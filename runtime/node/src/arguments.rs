//! The command line.

mod ask;
mod link;
mod node;
mod parse;
mod trace;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use self::parse::{address, label, seconds};
pub use self::{
    ask::{FilterArguments, LinesArgument, LogsArguments, SortArgument, TopArguments, TreeArguments},
    link::{CertificateCommand, LinkArguments, NodesArgument, NodesArguments},
    node::{LogFormat, NodeArguments, NriArguments, PostureArgument, RuntimeArguments},
    trace::{ImportedFrom, Moment, RecordArguments, RehearseArguments, ReplayArguments, ReplayOutput, TraceCommand},
};

/// Where the node's admin socket is unless told otherwise.
pub const ADMIN_SOCKET: &str = "/run/palisade/admin.sock";
/// Where hooks ask unless told otherwise.
pub const HOOK_SOCKET: &str = palisade_containers::hook::DEFAULT_SOCKET;

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
    /// Record a trace of the running node: what its workloads do from now on, or did in the last minutes.
    Record(RecordArguments),
    /// Look at traces, and make others of them; needs no running node.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Replay a trace: the lines that a node makes of it; needs no running node.
    Replay(ReplayArguments),
    /// Say what policies would deny of what traces hold; exit status 1 if anything, for checks before a change.
    Rehearse(RehearseArguments),
    /// Print the nodes that the running node is linked to, and since when one is out.
    Nodes(NodesArguments),
    /// Make certificates for links between nodes, and take them back.
    #[command(subcommand)]
    Certificate(CertificateCommand),
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

/// Commands that only print.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
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
        #[arg(default_value = "/etc/palisade/policies")]
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
    #[command(after_long_help = POLICY_TEST)]
    Test {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
}

/// What a policy test looks like.
const POLICY_TEST: &str = "\
A policy test:
  apiVersion: palisade.dev/v1alpha1
  kind: PolicyTest
  name: web pods may not read the shadow file
  workloads:
    - { name: web, namespace: default, labels: { app: web } }
  policies:
    - deny-shadow.yaml   # beside the test's file; or a whole policy in place
  cases:
    - name: it is not opened
      workload: web
      open: { path: /etc/shadow }   # exec, open, socket, connect, ptrace, capability, dns, syscall, preset
      expect: { action: Block, policy: deny-shadow }   # DefaultPosture where no rule of an allow-list decides";

/// `palisade policy explain`.
///
/// What belongs to one act only asks for a group with that act alone: where an argument asks for another that a third one excludes, clap
/// takes it for granted and says nothing.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("act").args(
        ["exec", "open", "socket", "connect", "ptrace", "capability", "dns", "syscall", "preset", "device"]
    ),
    group = ArgGroup::new("act of an executable").args(
        ["exec", "open", "socket", "connect", "ptrace", "capability", "dns", "syscall"]
    ),
    group = ArgGroup::new("act on a file").args(["exec", "open"]),
    group = ArgGroup::new("act at a terminal").args(["exec", "open", "socket", "connect"]),
    group = ArgGroup::new("act on the network").args(["socket", "connect"]),
    group = ArgGroup::new("execution").args(["exec"]),
    group = ArgGroup::new("opening").args(["open"]),
    group = ArgGroup::new("making of a socket").args(["socket"]),
    group = ArgGroup::new("system call").args(["syscall"]),
    group = ArgGroup::new("coming of a device").args(["device"]),
)]
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
    /// Default posture for USB devices of the host.
    #[arg(long, value_enum, default_value = "audit")]
    pub host_default_device_posture: PostureArgument,
    /// It executes this file, by its own path: where an image's symbolic links lead is not known here.
    #[arg(long, value_name = "PATH")]
    pub exec: Option<String>,
    /// It opens this file, by its own path.
    #[arg(long, value_name = "PATH")]
    pub open: Option<String>,
    /// It makes a socket of this family: inet, inet6, unix, netlink, packet, or a number.
    #[arg(long, value_name = "FAMILY")]
    pub socket: Option<String>,
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
    /// It does what this preset protects from.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A USB device of this class comes to the host, with subclass and protocol as lsusb has them.
    #[arg(long, value_name = "CLASS[:SUBCLASS[:PROTOCOL]]")]
    pub device: Option<String>,
    /// At this level: the hubs on the way to the device, its own port included.
    #[arg(long, requires = "coming of a device", default_value_t = 1)]
    pub level: u32,
    /// By this executable (of an exec: the one that calls it).
    #[arg(long, value_name = "PATH", requires = "act of an executable")]
    pub source: Option<String>,
    /// For writing: as what changes the file or its name is judged, too.
    #[arg(long, requires = "opening")]
    pub write: bool,
    /// By this user.
    #[arg(long, requires = "act on a file", default_value_t = 0)]
    pub uid: u32,
    /// The file is this user's.
    #[arg(long, requires = "act on a file", default_value_t = 0)]
    pub owner: u32,
    /// From a terminal.
    #[arg(long, requires = "act at a terminal")]
    pub tty: bool,
    /// An argument of what is executed, after its name; may be given more than once.
    #[arg(long = "argument", requires = "execution", allow_hyphen_values = true, value_name = "TEXT")]
    pub arguments: Vec<String>,
    /// Over this protocol: tcp, udp, sctp, icmp, icmpv6, dccp, or a number (tcp, of a connection).
    #[arg(long, requires = "act on the network")]
    pub protocol: Option<String>,
    /// Of a socket: its type (stream, dgram, raw, seqpacket ...), or what its protocol usually has.
    #[arg(long = "type", requires = "making of a socket", value_name = "TYPE")]
    pub socket_type: Option<String>,
    /// On this file.
    #[arg(long, requires = "system call", value_name = "PATH")]
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
    /// The runtime's Node Resource Interface.
    #[command(flatten)]
    pub nri: NriArguments,
    /// Links to other nodes, as the node would have them.
    #[command(flatten)]
    pub links: LinkArguments,
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
