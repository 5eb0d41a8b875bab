//! This kernel's tiers, each family by its own, decide real acts as the naive evaluator does, but for what is declared.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{ffi::OsString, os::fd::AsFd as _, path::PathBuf, time::Duration};

use palisade_acts::{Bed, Held, Starter};
use palisade_differential::ring;
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::{BlobDecides, FailMode, ResponderConfig, responder},
    unload,
};

#[test]
#[ignore = "the responder's process, started by the adapter"]
fn responder_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    responder::run(socket, BlobDecides).unwrap();
    std::process::exit(0);
}

/// Pins of this test, taken away with it.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = unload(&self.0) {
            eprintln!("pins stay: {error}");
        }
    }
}

fn config(pins: &Pins) -> KernelConfig {
    let arguments = ["--ignored", "--exact", "responder_process", "--nocapture", "--test-threads=1"];
    let responder = ResponderConfig {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(OsString::from).to_vec(),
        fail_mode: FailMode::Refuse,
        unattended: Duration::ZERO,
    };
    KernelConfig {
        pin_root: pins.0.clone(),
        fail_mode: FailMode::Refuse,
        responder: Some(responder),
        ..KernelConfig::default()
    }
}

#[test]
fn host_tiers_decide_generated_cases_as_the_naive_evaluator_does_but_for_what_is_declared() {
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/palisade-differential-{}", std::process::id())));
    let starter = Starter { program: env!("CARGO_BIN_EXE_acting").into(), profile: String::new() };
    let bed = Bed::new("host", starter).unwrap();
    let mut held = Held::new(KernelAdapter::open(config(&pins)).unwrap(), bed).unwrap();
    let report = ring::run(&mut held, 200).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.told > 300, "{report:?}");
}
