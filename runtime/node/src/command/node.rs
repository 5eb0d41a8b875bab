//! `palisade node`.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::Outcome;
use crate::{arguments::NodeArguments, node};

/// What is logged unless RUST_LOG says otherwise. Of the HTTP server only what goes wrong: it names sockets by names of a moment. Nothing
/// of what is wrong with requests, which are answered: who may connect to the loopback port is not who may fill the log.
const DEFAULT_LOG: &str = "info,actix_server=warn,actix_http=off";

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps it from running.
pub fn run(arguments: NodeArguments) -> Outcome {
    log();
    anyhow::ensure!(rustix::process::geteuid().is_root(), "the node loads BPF programs: run it as root");
    actix_rt::System::new().block_on(node::run(arguments, node::kernel::open))
}

/// Standard output is for alerts; the runtime's own log goes to standard error. RUST_LOG chooses, and colour is for terminals.
fn log() {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.is_empty());
    let filter = wanted.as_deref().map(EnvFilter::try_new);
    let wrong = filter.as_ref().and_then(|filter| filter.as_ref().err()).map(ToString::to_string);
    let filter = filter.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(DEFAULT_LOG));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    tracing_subscriber::registry().with(filter).with(lines).init();
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG is not understood: the log is that of `{DEFAULT_LOG}`");
    }
}
