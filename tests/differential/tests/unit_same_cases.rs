//! The Rust walker on the cases that every backend is asked.
#![forbid(unsafe_code)]

use palisade_differential::{Act, Backend, BackendError, RustWalker, Said, ring};
use palisade_kernel_abi::blob::Family;
use palisade_protocol::CompiledPolicy;

#[test]
fn unit_rust_walker_decides_the_common_cases_as_the_naive_evaluator() {
    let report = ring::run(&mut RustWalker::default(), 240).unwrap();
    assert!(report.told > 1000, "{report:?}");
}

/// A walker that loses some denials.
#[derive(Default)]
struct Mutant(RustWalker);

impl Backend for Mutant {
    fn name(&self, family: Family) -> Option<&'static str> {
        self.0.name(family)
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        self.0.install(policy)
    }

    fn act(&mut self, act: &Act) -> Result<Said, BackendError> {
        let mut said = self.0.act(act)?;
        // Once in a while a denial goes astray.
        if said.denied && act.to_string().len().is_multiple_of(7) {
            said = Said { denied: false, told: Some(Vec::new()) };
        }
        Ok(said)
    }
}

#[test]
fn unit_differential_ring_catches_a_backend_that_lets_something_pass_and_shows_few_rules() {
    let error = ring::run(&mut Mutant::default(), 60).unwrap_err().to_string();
    println!("{error}");
    assert!(error.contains("PALISADE_TEST_CASE="), "{error}");
    let first = error.split("\n\n").next().unwrap();
    let shown = first.lines().filter(|line| line.starts_with("  ")).count();
    assert!((1..=3).contains(&shown), "a denial needs one rule, or an Allow for its posture: {error}");
}
