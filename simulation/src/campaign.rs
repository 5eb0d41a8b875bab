//! Many runs: each seed twice, and of one that fails the shortest prefix that still does.

use std::time::Duration;

use crate::{
    checkers::Violation,
    run::{Outcome, Request, run},
};

/// Prefixes are not told apart closer than this.
const RESOLUTION: Duration = Duration::from_millis(200);

/// What is said of one seed.
#[derive(Debug)]
pub struct Verdict {
    /// The first of both runs.
    pub outcome: Outcome,
    /// What failed.
    pub failure: Option<Failure>,
}

/// Why a seed failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Two runs of it were not the same.
    NotRepeated {
        /// Hashes of both.
        hashes: [String; 2],
    },
    /// A checker objects.
    Violated(Violation),
}

/// Runs a seed twice.
#[must_use]
pub fn twice(request: &Request) -> Verdict {
    let outcome = run(request);
    let again = run(&Request { aloud: false, ..request.clone() });
    let hashes = [&outcome, &again].map(|outcome| outcome.journal.hash());
    let failure = if hashes[0] == hashes[1] {
        outcome.violations.first().cloned().map(Failure::Violated)
    } else {
        Some(Failure::NotRepeated { hashes })
    };
    Verdict { outcome, failure }
}

/// The shortest prefix of a failing run that still fails by the same checker.
#[must_use]
pub fn shortest_prefix(request: &Request, violation: &Violation) -> Duration {
    let fails_at = |stop_at: Duration| {
        let prefix = Request { stop_at: Some(stop_at), aloud: false, ..request.clone() };
        run(&prefix).violations.iter().any(|found| found.checker == violation.checker)
    };
    let whole = request.stop_at.unwrap_or(request.length);
    let (mut passes, mut fails) = (Duration::ZERO, whole);
    // What went wrong at one instant needs no more than what was before it.
    let near = (violation.at + RESOLUTION).min(whole);
    if near < whole && fails_at(near) {
        fails = near;
    }
    while fails - passes > RESOLUTION {
        let middle = passes + (fails - passes) / 2;
        if fails_at(middle) {
            fails = middle;
        } else {
            passes = middle;
        }
    }
    fails
}
