//! The configuration while the node runs: an actor that looks at its file.
//!
//! - *Owns*: what the node runs with, and what of the file waits for a restart.
//! - *Hears*: its own timer; [`ReloadConfiguration`], which SIGHUP sends.
//! - *Says*: [`SetPostures`](palisade_protocol::SetPostures), [`SetPolicyInterval`](palisade_protocol::SetPolicyInterval), the host anew
//!   ([`WorkloadAppeared`](palisade_protocol::WorkloadAppeared), [`WorkloadNamed`](palisade_protocol::WorkloadNamed)) where its labels are
//!   others, [`SetVisibility`](palisade_protocol::SetVisibility), [`SetThrottle`](palisade_alerts::actor::SetThrottle),
//!   [`SetSinks`](palisade_alerts::actor::SetSinks), the bounds of files, the log's level; [`ConditionReported`](palisade_protocol::ConditionReported).
//! - *Bounds*: one look at a time; a file of at most [`MAX_BYTES`](crate::configuration::file::MAX_BYTES).
//! - *On restart*: the state outlives it (the factory keeps it); what was told stands with who was told.
//! - *On overload*: looks are skipped while one is under way; what is told coalesces to the newest.
//!
//! Decision: the file's content is looked at, not inotify, for the reasons of the policy directory (`palisade_store`). It is read beside the
//! actor's thread: a file system that hangs costs a condition, not the node.

pub mod actor;
pub mod state;

pub use actor::{Configuration, ReloadConfiguration, Wiring};
