//! What reads bytes that somebody else wrote, each as one function from bytes to a panic where it fails.
//!
//! Invariant: a target never fails for bytes that are merely wrong; it fails where a reader panics, breaks its own bounds, or says
//! of what it took something that is not so. `tests/rings/fuzz.sh` runs each for some seconds; by hand, the ring's head says how.
#![forbid(unsafe_code)]

mod audit_line;
mod blob;
mod containers;
mod edits;
mod frame;
mod glob;
mod import;
mod policy;
mod record;
mod responder;
mod settings;
mod trace;

pub use audit_line::audit_line;
pub use blob::blob;
pub use containers::{cri_status, hook};
pub use frame::frame;
pub use glob::glob;
pub use import::import;
pub use policy::{policy, policy_test};
pub use record::record;
pub use responder::responder;
pub use settings::settings;
pub use trace::trace;
