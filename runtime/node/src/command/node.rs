//! `palisade node`.

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::Outcome;
use crate::{arguments::NodeArguments, node};

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps it from running.
pub fn run(arguments: NodeArguments) -> Outcome {
    // Standard output is for alerts; the runtime's own log goes to standard error. RUST_LOG chooses.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::registry().with(filter).with(fmt::layer().with_writer(std::io::stderr)).init();
    anyhow::ensure!(rustix::process::geteuid().is_root(), "the node loads BPF programs: run it as root");
    let kernel = node::kernel::open(&arguments).context("kernel")?;
    actix_rt::System::new().block_on(node::run(arguments, kernel))
}
