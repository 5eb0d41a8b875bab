//! Benchmarks: one module for each subject, one table for all.
//!
//! Each row stands beside a baseline that was measured in the same run, for only the ratio travels between machines; the
//! budgets are the project's own. Times are the fastest of several rounds. What runs in the guest of the VM ring is counted in
//! instructions, which do not depend on how busy the machine is (`bin/guest_costs.rs`).
#![forbid(unsafe_code)]

pub mod costs;
pub mod fleet;
pub mod link;
pub mod mailbox;
pub mod opens;
pub mod packets;
pub mod pipeline;
pub mod policies;
pub mod probes;
pub mod replay;
pub mod rules;
pub mod simulation;
pub mod stopwatch;
pub mod stress;
pub mod table;
pub mod walker;

use table::Table;

/// What a subject's measurement gives back.
pub type Measured = Result<(), Box<dyn std::error::Error>>;
/// What can be measured: a name for the command line, and how.
pub type Subject = (&'static str, fn(&mut Table) -> Measured);

/// All subjects, the quick ones first.
pub const SUBJECTS: &[Subject] = &[
    ("walker", walker::measure),
    ("mailbox", mailbox::measure),
    ("link", link::measure),
    ("pipeline", pipeline::measure),
    ("replay", replay::measure),
    ("simulation", simulation::measure),
    ("policies", policies::measure),
    ("probes", probes::measure),
    ("packets", packets::measure),
    ("stress", stress::measure),
    ("opens", opens::measure),
];
