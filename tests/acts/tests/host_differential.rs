//! This kernel's tiers, each family by its own, decide real acts as the naive evaluator does, but for what is declared.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use palisade_acts::{Bed, Held, Pins, Starter};
use palisade_differential::ring;
use palisade_kernel::{
    KernelAdapter,
    fanotify::{BlobDecides, responder},
};

#[test]
#[ignore = "the responder's process, started by the adapter"]
fn responder_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    responder::run(socket, BlobDecides).unwrap();
    std::process::exit(0);
}

#[test]
fn host_tiers_decide_generated_cases_as_the_naive_evaluator_does_but_for_what_is_declared() {
    let pins = Pins::new("differential");
    let starter = Starter::of(env!("CARGO_BIN_EXE_acting"));
    let bed = Bed::new("host", starter).unwrap();
    let mut held = Held::new(KernelAdapter::open(pins.config().unwrap()).unwrap(), bed).unwrap();
    let report = ring::run(&mut held, 200).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.told > 300, "{report:?}");
}
