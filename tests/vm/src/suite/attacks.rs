//! Attacks of the table (`palisade-attacks`) on this boot's tiers, without a container runtime.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use palisade_attacks::{Held, race, ring};
use palisade_kernel::{KernelAdapter, unload};

use super::{Checked, ensure, fixture::config};

const PIN_ROOT: &str = "/sys/fs/bpf/attacks";
const ATTACKER: &str = "/bin/vm_actor";
/// Blocked opens where nobody says how many (`boot.sh` hands `PALISADE_RACE` on).
const OPENS: u64 = 100_000;
const SWAPS: u32 = 1000;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_lsm_attacks_come_to_what_the_table_says", attacks),
        Trial::test("vm_lsm_attacks_during_swaps_of_policy_meet_the_one_or_the_other_whole", swaps),
        Trial::test("vm_lsm_attacks_by_processes_that_compete_on_each_cpu_let_no_open_through", opens),
    ]
}

fn with(check: impl FnOnce(&mut Held) -> Result<(), palisade_attacks::Failed>) -> Checked {
    let checked = KernelAdapter::open(config(Path::new(PIN_ROOT)))
        .map_err(palisade_attacks::Failed::from)
        .and_then(Held::new)
        .and_then(|mut held| check(&mut held));
    unload(Path::new(PIN_ROOT))?;
    checked.map_err(|failed| Failed::from(failed.0))
}

fn attacks() -> Checked {
    let word = std::env::var("PALISADE_ATTACKS").unwrap_or_default();
    let mut report = ring::Report::new();
    with(|held| {
        report = ring::run(held, ATTACKER.as_ref(), &word, &mut |line| println!("{line}"))?;
        Ok(())
    })?;
    ensure(!word.is_empty() || report["denied"] > 90, || format!("{report:?}"))
}

/// A program with one scratch memory for each CPU lets some of them through.
fn opens() -> Checked {
    let amount = std::env::var("PALISADE_RACE").ok().and_then(|text| text.parse().ok()).unwrap_or(OPENS);
    with(|held| race::opens(held, ATTACKER.as_ref(), amount).map(|told| println!("{told}")))
}

fn swaps() -> Checked {
    with(|held| race::swaps(held, ATTACKER.as_ref(), SWAPS).map(|told| println!("{told}")))
}
