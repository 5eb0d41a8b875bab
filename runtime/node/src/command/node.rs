//! `palisade node`.

use super::Outcome;
use crate::{arguments::NodeArguments, configuration::command_line::CommandLine, log, node};

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps it from running.
pub fn run(arguments: NodeArguments, line: CommandLine) -> Outcome {
    let level = log::begin(arguments.log_format, &arguments.log_level)?;
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the node loads BPF programs: run it as root (`sudo palisade node`)"
    );
    let configured = node::Configured { arguments, line, level };
    actix_rt::System::new().block_on(node::run(configured, node::kernel::open))
}
