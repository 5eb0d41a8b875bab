//! Generated cases: this kernel's tiers, BPF LSM first, against the naive evaluator, by real acts without a container runtime.

use std::path::Path;

use libtest_mimic::Trial;
use palisade_acts::{Bed, Held, Starter};
use palisade_differential::ring;
use palisade_kernel::{KernelAdapter, unload};

use super::{Checked, ensure, fixture::config};

const CASES: u64 = 200;
const PIN_ROOT: &str = "/sys/fs/bpf/differential";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "vm_lsm_decides_generated_cases_as_the_naive_evaluator_does_but_for_what_is_declared",
        generated_cases,
    )]
}

fn generated_cases() -> Checked {
    let checked = agree();
    unload(Path::new(PIN_ROOT))?;
    checked
}

fn agree() -> Checked {
    let starter = Starter::of("/bin/vm_actor");
    let adapter = KernelAdapter::open(config(Path::new(PIN_ROOT)))?;
    let mut held = Held::new(adapter, Bed::new("guest", starter)?)?;
    let report = ring::run(&mut held, CASES)?;
    let of_lsm: u64 = report
        .acts
        .iter()
        .filter(|((name, _), _)| matches!(*name, "bpf-lsm" | "fmod-ret"))
        .map(|(_, count)| count)
        .sum();
    ensure(of_lsm > 4_000 && report.told > 1_000, || format!("{report:?}"))
}
