//! `palisade hook`: the OCI createRuntime hook.

use std::{io::IsTerminal as _, process::ExitCode};

use palisade_containers::hook::{self, Failure};

use super::Outcome;
use crate::arguments::HookArguments;

/// Asks the node whether the container on standard input may start; without a node it does not, unless told otherwise.
///
/// # Errors
/// A person called it. Else never: the reason goes to standard error, where the container runtime shows it.
pub fn run(arguments: &HookArguments) -> Outcome {
    anyhow::ensure!(
        !std::io::stdin().is_terminal(),
        "a container runtime calls this with the container's state on standard input: see deploy/hooks"
    );
    let failure = if arguments.fail_open { Failure::Open } else { Failure::Closed };
    let outcome = hook::run(std::io::stdin().lock(), &arguments.socket, arguments.timeout);
    if let Err(error) = &outcome {
        super::to_stderr(&format!("palisade hook: {error}"));
    }
    Ok(if failure.permits(&outcome) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
