//! `palisade responder`: the fanotify responder that the node starts.

use std::process::ExitCode;

use super::Outcome;

/// Serves until the node closes the socket.
///
/// # Errors
/// In words; the node starts another.
pub fn run() -> Outcome {
    palisade_kernel::fanotify::responder::run_inherited()?;
    Ok(ExitCode::SUCCESS)
}
