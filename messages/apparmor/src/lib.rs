//! AppArmor profiles, lowered from the blob that decides for a workload; and what AppArmor says of a denial.
//!
//! ```text
//!   blob: automata of paths, names, endpoints ──► files ──┐
//!         decision tables ──► decided (the mildest) ──────┼─► profile ──► the kernel's `.replace`
//!                                                policy_database
//!   audit record of the kernel ──► line ──► an act, which is walked by the blob again for its rule
//! ```
//!
//! A profile denies exactly what the blob blocks *whoever acts*: AppArmor does not see the acting executable, its terminal or its
//! arguments, nor a socket's protocol, nor whose process is traced. What depends on them is left to the other tiers and is
//! named ([`Weakened`]). In nothing else do they differ; the order of rules is in the automaton's states, so that a more specific Allow
//! needs no exception. Differences that the kernel makes are in `differences.md` beside this crate's manifest.
//!
//! Decision: no child profiles for `fromSource`. A transition under `no_new_privs`, which hardened pods have, is refused and the exec with
//! it: the policy would take away the very program that it names. The fanotify tier holds sources beside a profile.
#![forbid(unsafe_code)]

mod decided;
mod files;
mod line;
mod policy_database;
mod profile;
pub mod reading;
pub mod table;

#[cfg(test)]
mod tests;

pub use decided::Weakened;
pub use line::{Line, LineError, Subject};
pub use profile::{FAMILIES, Lowered, MAX_NAME_BYTES, PREFIX, Profile, ProfileName, Share, lower, permissive};

/// The most states of an automaton: their numbers have 16 bits.
pub const MAX_STATES: usize = 1 << 16;

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// More states than the kernel's form can name.
    #[error("the automaton has {states} states or more, and AppArmor's form names {MAX_STATES}")]
    States {
        /// So many were there when it was given up.
        states: usize,
    },
    /// It would not be a name of ours.
    #[error("`{name}` is no name for a profile")]
    Name {
        /// Which.
        name: String,
    },
}
