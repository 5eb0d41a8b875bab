//! `palisade probe`: what this kernel can do, and which tier holds which family.

use std::{fmt::Write as _, process::ExitCode};

use palisade_containers::nri::NriSocket;
use palisade_kernel::probes::{self, ProbesError, RefusedProbe};
use palisade_world::{CapabilityState, KernelMatrix};
use serde_json::json;

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
    let refused = probes::refused_here();
    let text = match arguments.output {
        Output::Text => text(&matrix) + &observation(&refused) + &nri(&NriSocket::Auto),
        output => {
            let mut document = with_observation(view::matrix(&matrix), &refused);
            document["nri"] = json!({ "socket": NriSocket::Auto.path(), "there": NriSocket::Auto.is_there() });
            render::document(output, &document)
        }
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

/// What is not seen here, by program.
fn observation(refused: &Result<Vec<RefusedProbe>, ProbesError>) -> String {
    let mut text = "\n".to_owned();
    match refused {
        // Writing to a string cannot fail.
        Ok(refused) if refused.is_empty() => {
            let _ = writeln!(text, "{:<20} all", "observation");
        }
        Ok(refused) => {
            let _ = writeln!(text, "{:<20} all but", "observation");
            for RefusedProbe { program, needs, without, reason } in refused {
                let _ = writeln!(text, "{:<20}   not seen: {without}: {program} needs {needs}: {reason}", "");
            }
        }
        Err(error) => {
            let _ = writeln!(text, "{:<20} none: {error}", "observation");
        }
    }
    text
}

/// Whether a runtime offers to add the hook, at the usual place.
fn nri(socket: &NriSocket) -> String {
    let path = socket.path().display();
    let state = if socket.is_there() {
        format!("{path}: the container runtime adds the hook to what it creates")
    } else {
        format!("no socket at {path}")
    };
    format!("{:<20} {state}\n", "nri")
}

fn with_observation(
    mut document: serde_json::Value,
    refused: &Result<Vec<RefusedProbe>, ProbesError>,
) -> serde_json::Value {
    document["observation"] = match refused {
        Ok(refused) => {
            let not_seen = refused.iter().map(|RefusedProbe { program, needs, without, reason }| {
                json!({ "program": program, "needs": needs, "without": without, "reason": reason })
            });
            json!({ "notSeen": not_seen.collect::<Vec<_>>() })
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_probe_tells_whether_a_runtime_offers_to_add_the_hook() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let socket = NriSocket::At(root.path().join("nri.sock"));
        assert!(nri(&socket).contains("no socket at"));
        let _listener = std::os::unix::net::UnixListener::bind(socket.path()).expect("bound");
        assert!(nri(&socket).contains("adds the hook"));
    }

    #[test]
    fn unit_probe_tells_by_name_what_of_observation_this_kernel_refuses() {
        assert!(observation(&Ok(Vec::new())).contains("all\n"));
        let program = "observe_capability";
        let refused = RefusedProbe { program, needs: "6.14", without: "uses", reason: "no tracepoint".to_owned() };
        let refused = Ok(vec![refused]);
        assert!(observation(&refused).contains("not seen: uses: observe_capability needs 6.14: no tracepoint"));
        let document = with_observation(json!({}), &refused);
        assert_eq!(document["observation"]["notSeen"][0]["program"], "observe_capability");
    }
}
