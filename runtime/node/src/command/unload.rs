//! `palisade unload`.

use std::process::ExitCode;

use palisade_kernel::{Claim, ClaimError};
use serde_json::json;

use super::Outcome;
use crate::{
    arguments::{Output, UnloadArguments},
    render,
};

/// Takes away all that a node left in the kernel; nothing denies any more afterwards. Not under a node that runs: it would go on saying
/// that it holds what it does not hold.
///
/// # Errors
/// A node runs, or a pin cannot be removed.
pub fn run(arguments: &UnloadArguments) -> Outcome {
    anyhow::ensure!(rustix::process::geteuid().is_root(), "what is in the kernel is root's: run it as root (sudo)");
    let claim = match Claim::of_what_is_left(&arguments.pin_root) {
        Err(held @ ClaimError::Held(_)) if !arguments.force => {
            anyhow::bail!("{held}; its own stop unloads. --force unloads under it, and it goes on without enforcement")
        }
        Err(ClaimError::Held(_)) => None,
        other => other?,
    };
    let was_there = arguments.pin_root.exists();
    palisade_kernel::unload(&arguments.pin_root)?;
    drop(claim);
    let in_use = palisade_kernel::selinux::count_in_use().filter(|count| *count > 0);
    let root = arguments.pin_root.display();
    let text = match arguments.output {
        Output::Json | Output::Yaml => render::document(
            arguments.output,
            &json!({ "pinRoot": root.to_string(), "unloaded": was_there, "underSelinuxUsers": in_use.unwrap_or_default() }),
        ),
        Output::Text if was_there => format!("nothing is left below {root}\n"),
        Output::Text => format!("nothing was left below {root}\n"),
    };
    super::print(&text)?;
    if let (Some(count), Output::Text) = (in_use, arguments.output) {
        super::print(&format!(
            "{count} processes run under users of Palisade, which stay declared in SELinux and are denied nothing: unload again when they have ended\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
