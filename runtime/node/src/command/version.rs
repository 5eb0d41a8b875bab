//! `palisade version`.

use std::process::ExitCode;

use serde_json::json;

use super::Outcome;
use crate::arguments::{Output, OutputArguments};

/// Prints the version.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &OutputArguments) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    super::print(&match arguments.output {
        Output::Json => format!("{:#}\n", json!({ "version": version })),
        Output::Text => format!("palisade {version}\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
