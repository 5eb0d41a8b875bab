//! The automaton against regex-automata, stated verdicts, and what must be refused. Compiled blobs are held against the naive evaluator in
//! `tests/differential`, which makes the random rules of the tests here, too.
//!
//! Randomised tests print their seed; `PALISADE_TEST_SEED` replaces it.

mod automata;
mod caching;
mod kubearmor;
mod large;
mod moves;
mod refusals;
mod serving;
mod stated;
mod verdicts;

use std::sync::Arc;

use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};

use crate::{CompileError, automaton::AutomatonLimits};

pub(crate) fn rule(action: Action, matcher: Matcher, sources: &[&str]) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "test".into(), name: "test".into() };
    Rule {
        policy: Arc::new(policy),
        place: "process.matchPaths[0]".into(),
        matcher,
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        source_directories: Default::default(),
        action,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}

pub(crate) fn file(path: PathMatch) -> Matcher {
    Matcher::File(PathRule::of(path))
}

fn pattern(pattern: &str) -> PathMatch {
    PathMatch::Pattern(pattern.to_owned())
}

pub(crate) fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

fn directory(directory: &str, recursive: bool) -> PathMatch {
    PathMatch::Directory { directory: directory.to_owned(), recursive }
}

pub(crate) fn workload(rules: Vec<Rule>) -> WorkloadRules {
    WorkloadRules { rules: rules.into_iter().map(Arc::new).collect(), ..WorkloadRules::default() }
}

fn compile(rules: &WorkloadRules) -> Result<palisade_protocol::CompiledPolicy, CompileError> {
    crate::compile(rules, &AutomatonLimits::default(), &mut || false)
}
