//! Attacks of the table (`palisade-attacks`) on a workload that runs under the profile of the node, beside fanotify and cgroup BPF, as it is
//! where AppArmor is active and no program may judge on hooks.

use std::{ffi::OsString, path::Path, time::Duration};

use palisade_attacks::{Held, ring};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::{FailMode, ResponderConfig},
    unload,
};

use super::{Checked, ensure};

const PIN_ROOT: &str = "/sys/fs/bpf/attacks";
const ATTACKER: &str = "/bin/vm_actor";

/// Of the responder, whose program is the node's.
fn config() -> KernelConfig {
    let responder = ResponderConfig {
        program: "/bin/palisade".into(),
        arguments: vec![OsString::from("responder")],
        fail_mode: FailMode::Refuse,
        unattended: Duration::ZERO,
    };
    KernelConfig {
        pin_root: PIN_ROOT.into(),
        fail_mode: FailMode::Refuse,
        responder: Some(responder),
        ..KernelConfig::default()
    }
}

pub fn all() -> Checked {
    let word = std::env::var("PALISADE_ATTACKS").unwrap_or_default();
    let report = KernelAdapter::open(config())
        .map_err(palisade_attacks::Failed::from)
        .and_then(Held::new)
        .and_then(|mut held| ring::run(&mut held, ATTACKER.as_ref(), &word, &mut |line| println!("{line}")));
    unload(Path::new(PIN_ROOT))?;
    let report = report.map_err(|failed| failed.0)?;
    ensure(!report.is_empty(), || format!("no attack is called '{word}'"))?;
    ensure(!word.is_empty() || report["denied"] > 70, || format!("{report:?}"))
}
