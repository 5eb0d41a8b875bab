//! `palisade unload`.

use std::process::ExitCode;

use super::Outcome;
use crate::arguments::UnloadArguments;

/// Takes away all that a node left in the kernel; nothing denies any more afterwards.
///
/// # Errors
/// A pin cannot be removed.
pub fn run(arguments: &UnloadArguments) -> Outcome {
    palisade_kernel::unload(&arguments.pin_root)?;
    super::print(&format!("nothing is left below {}\n", arguments.pin_root.display()))?;
    Ok(ExitCode::SUCCESS)
}
