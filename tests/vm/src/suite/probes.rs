//! The observation programs on this kernel: its verifier takes them all, within the budget that keeps room for others' verifiers.

use std::path::Path;

use libtest_mimic::Trial;
use palisade_kernel::{observation::Limits, probes::Probes};

use super::{Checked, ensure, fixture};

/// See the objects' own test.
const VERIFIER_BUDGET: u32 = 100_000;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("vm_probes_are_all_taken_by_the_verifier_within_its_budget", all_are_taken)]
}

fn all_are_taken() -> Checked {
    let _kernel = fixture::kernel()?;
    let probes = Probes::attach(Path::new(fixture::PIN_ROOT), Limits::default())?;
    // 6.1 does not tell of capabilities that are used; a kernel that does is to take that program too.
    let btf = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let tells = |tracepoint: &str| btf.windows(tracepoint.len()).any(|name| name == tracepoint.as_bytes());
    let expected: &[&str] = if tells("btf_trace_cap_capable") { &[] } else { &["observe_capability"] };
    let refused: Vec<&str> = probes.refused().iter().map(|refused| refused.program).collect();
    ensure(refused == expected, || format!("{:#?}", probes.refused()))?;
    let counts: Vec<(String, u32)> = probes.verified_instructions().collect();
    for (program, count) in &counts {
        println!("{program:24} {count:>7} instructions verified");
    }
    probes.sweep_folds(std::time::Duration::ZERO)?;
    ensure(counts.len() > 20 && counts.iter().all(|(_, count)| *count < VERIFIER_BUDGET), || format!("{counts:?}"))
}
