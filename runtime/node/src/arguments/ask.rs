//! Commands that ask the running node.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    ADMIN_SOCKET, NodesArgument, Output,
    parse::{age, operations, refresh, verdicts},
};

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
    /// Whose.
    #[arg(long, value_enum, default_value = "own", conflicts_with = "follow")]
    pub nodes: NodesArgument,
}

/// `palisade top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Where the node is.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Print one frame as text and end; also what happens where standard output is no terminal, or one of TERM=dumb.
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
    #[arg(long, value_enum, default_value = "policy", requires_if("system", "follow"))]
    pub filter: LinesArgument,
    /// Whose.
    #[arg(long, value_enum, default_value = "own", conflicts_with = "filter")]
    pub nodes: NodesArgument,
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
    /// Kind of act: exec, open, socket, connect, ptrace ..., or KubeArmor's: Process, File, Network ...
    #[arg(long, value_parser = operations)]
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
    #[arg(long, value_parser = verdicts)]
    pub verdict: Option<String>,
    /// Labels of the workload, all of them: `app=web,tier=front`.
    #[arg(long)]
    pub labels: Option<String>,
    /// Not older than this: `90s`, `5m`, `2h`, `1d`.
    #[arg(long, value_parser = age, value_name = "AGE")]
    pub since: Option<Duration>,
}
