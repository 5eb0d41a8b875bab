//! One semantics: the same rule sets and acts through every means of enforcement, each held to the naive evaluator.
//!
//! - [`corpus`]: random rules and acts in no place in particular, for walkers (`tests/unit_*.rs`, and the kernel's by test runs).
//! - [`Case`]: such rules moved to the [`ground`], where files, sockets and processes are real, and [`Act`]s there.
//! - [`Backend`]: who decides acts: a walker, a real kernel's means. [`ring`] asks it, case after case, and compares.
//! - [`Differences`]: what a backend is known not to see, with reasons: `differences.yaml`, the one list of them.
//!
//! Invariant: what is expected comes from the naive evaluator alone, never from another backend: two that err alike would agree.
//! Invariant: a case is a function of seed and number, so that the host and a guest judge the same ones and a line replays a failure.
//!
//! Decision: a difference is a circumstance that a backend is blind to, not a list of acts: what it may decide instead follows from the
//! rules ([`Blind`]), so that an entry excuses exactly that and nothing beside it.
#![forbid(unsafe_code)]

mod act;
mod backend;
mod case;
pub mod corpus;
mod differences;
mod expected;
pub mod ground;
pub mod ring;
mod walker;
mod yaml;

use std::{collections::BTreeSet, sync::Arc};

use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_policy::ir::{Matcher, Rule, WorkloadRules};
use palisade_policy_compiler::{CompileError, automaton::AutomatonLimits};
use palisade_protocol::CompiledPolicy;

pub use act::{Act, Actor, Deed, Part, Unintelligible};
pub use backend::{Backend, BackendError, Said, Told, walked};
pub use case::Case;
pub use differences::{Apart, BACKENDS, Blind, Difference, Differences, DifferencesError};
pub use expected::{Compared, compare};
pub use walker::RustWalker;

/// A rule of a policy that has no other.
#[must_use]
pub fn rule(action: Action, matcher: Matcher, sources: &[&str]) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "n".into(), name: "generated".into() };
    Rule {
        policy: Arc::new(policy),
        place: "generated".into(),
        matcher,
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        source_directories: BTreeSet::new(),
        action,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}

/// The rules under the usual postures.
#[must_use]
pub fn workload(rules: Vec<Rule>) -> WorkloadRules {
    WorkloadRules { rules: rules.into_iter().map(Arc::new).collect(), ..WorkloadRules::default() }
}

/// As a node compiles them.
///
/// # Errors
/// Where they ask for different things by different arguments, as random rules may.
pub fn compile(rules: &WorkloadRules) -> Result<CompiledPolicy, CompileError> {
    palisade_policy_compiler::compile(rules, &AutomatonLimits::default(), &mut || false)
}
