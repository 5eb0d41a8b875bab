//! Attacks of the table (`palisade-attacks`) on this boot's tiers, without a container runtime.

use std::{ffi::OsString, path::Path, time::Duration};

use libtest_mimic::{Failed, Trial};
use palisade_attacks::{Held, race, ring};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::{FailMode, ResponderConfig},
    selinux::Base,
    unload,
};

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

fn with(config: KernelConfig, check: impl FnOnce(&mut Held) -> Result<(), palisade_attacks::Failed>) -> Checked {
    let checked = KernelAdapter::open(config)
        .map_err(palisade_attacks::Failed::from)
        .and_then(Held::new)
        .and_then(|mut held| check(&mut held));
    unload(Path::new(PIN_ROOT))?;
    checked.map_err(|failed| Failed::from(failed.0))
}

/// More of them than so many are denied.
fn table(config: KernelConfig, denied: usize) -> Checked {
    let word = std::env::var("PALISADE_ATTACKS").unwrap_or_default();
    let mut report = ring::Report::new();
    with(config, |held| {
        report = ring::run(held, ATTACKER.as_ref(), &word, &mut |line| println!("{line}"))?;
        Ok(())
    })?;
    ensure(!report.is_empty(), || format!("no attack is called '{word}'"))?;
    ensure(!word.is_empty() || report["denied"] > denied, || format!("{report:?}"))
}

fn attacks() -> Checked {
    table(config(Path::new(PIN_ROOT)), 90)
}

/// By what there is where no program may judge on hooks: fanotify and cgroup BPF, and beside them a profile or constraints.
pub(crate) fn beside_fanotify(selinux: Option<Base>, denied: usize) -> Checked {
    // Its program is the node's.
    let responder = ResponderConfig {
        program: "/bin/palisade".into(),
        arguments: vec![OsString::from("responder")],
        fail_mode: FailMode::Refuse,
        unattended: Duration::ZERO,
    };
    let config = KernelConfig {
        pin_root: PIN_ROOT.into(),
        fail_mode: FailMode::Refuse,
        responder: Some(responder),
        selinux,
        ..KernelConfig::default()
    };
    table(config, denied)
}

/// A program with one scratch memory for each CPU lets some of them through.
fn opens() -> Checked {
    let amount = std::env::var("PALISADE_RACE").ok().and_then(|text| text.parse().ok()).unwrap_or(OPENS);
    with(config(Path::new(PIN_ROOT)), |held| {
        race::opens(held, ATTACKER.as_ref(), amount).map(|told| println!("{told}"))
    })
}

fn swaps() -> Checked {
    with(config(Path::new(PIN_ROOT)), |held| race::swaps(held, ATTACKER.as_ref(), SWAPS).map(|told| println!("{told}")))
}
