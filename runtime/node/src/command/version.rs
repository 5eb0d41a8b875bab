//! `palisade version`.

use std::process::ExitCode;

use super::Outcome;

/// Prints the version.
///
/// # Errors
/// Standard output cannot be written.
pub fn run() -> Outcome {
    super::print(&format!("palisade {}\n", env!("CARGO_PKG_VERSION")))?;
    Ok(ExitCode::SUCCESS)
}
