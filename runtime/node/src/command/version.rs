//! `palisade version`.

use std::process::ExitCode;

use serde_json::json;

use super::Outcome;
use crate::{
    arguments::{Output, OutputArguments},
    render,
};

/// Prints the version.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &OutputArguments) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    super::print(&match arguments.output {
        Output::Text => format!("palisade {version}\n"),
        output => render::document(output, &json!({ "version": version })),
    })?;
    Ok(ExitCode::SUCCESS)
}
