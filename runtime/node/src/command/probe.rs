//! `palisade probe`: what this kernel can do, and which tier holds which family.

use std::{fmt::Write as _, process::ExitCode};

use palisade_world::{CapabilityState, KernelMatrix};

use super::Outcome;
use crate::{
    arguments::{Output, OutputArguments},
    node::view,
    render,
};

/// Tries each capability and prints what came of it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &OutputArguments) -> Outcome {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "each capability is really tried: run it as root (sudo palisade probe)"
    );
    let matrix = palisade_kernel::matrix::probe();
    let text = match arguments.output {
        Output::Text => text(&matrix),
        output => render::document(output, &view::matrix(&matrix)),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(matrix: &KernelMatrix) -> String {
    let lsms = if matrix.lsms.is_empty() { "none known".to_owned() } else { matrix.lsms.join(", ") };
    let mut text = format!("kernel {}, active LSMs: {lsms}\n\n", matrix.release);
    for (capability, state) in &matrix.capabilities {
        let state = match state {
            CapabilityState::Available => "yes".to_owned(),
            CapabilityState::Missing(reason) => format!("no: {reason}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<20} {state}", format!("{capability:?}"));
    }
    text.push('\n');
    for (family, held) in &matrix.families {
        let tier =
            serde_json::to_value(held.tier).ok().and_then(|tier| tier.as_str().map(str::to_owned)).unwrap_or_default();
        let _ = writeln!(text, "{:<20} {tier}", format!("{family:?}").to_lowercase());
        for gap in &held.gaps {
            let _ = writeln!(text, "{:<20}   not held: {}: {}", "", gap.what, gap.reason);
        }
    }
    text
}
