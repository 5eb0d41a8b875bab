//! The policy set in force.

use std::sync::Arc;

use actix::Message;
use palisade_domain::Generation;
use palisade_policy::{Diagnostic, PolicySet, ir::Postures};

/// A new set is in force from now on; each enforcer brings its workload to it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct PolicySetChanged {
    /// Its number.
    pub generation: Generation,
    /// All policies.
    pub set: Arc<PolicySet>,
    /// The global postures, of this generation as its policies are.
    pub postures: Postures,
}

/// Which set is in force, and what is wrong with the directory.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "PolicySetStatus")]
pub struct PolicySetStatusOf;

/// Answer to [`PolicySetStatusOf`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySetStatus {
    /// In force.
    pub generation: Generation,
    /// `kind/namespace/name` of each policy in force, sorted.
    pub policies: Vec<String>,
    /// What the last reading found wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// Files whose last good version is in force instead of what they hold now.
    pub held_back: Vec<String>,
    /// The directory itself could not be read at the last attempt.
    pub unreadable: Option<String>,
}
