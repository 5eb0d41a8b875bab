//! `palisade responder`: the fanotify responder that the node starts.

use super::Outcome;

/// Serves until the node retires it; its own exit status tells how it ended.
///
/// # Errors
/// None of its own: the responder says what happened in its log.
#[expect(clippy::unnecessary_wraps, reason = "one shape for every command")]
pub fn run() -> Outcome {
    Ok(palisade_kernel::fanotify::responder::main())
}
