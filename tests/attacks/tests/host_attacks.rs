//! Every attack of the table on this kernel's tiers, for real.
#![forbid(unsafe_code)]

use std::{fs, io::Write as _, os::fd::AsFd as _, path::Path};

use palisade_acts::Pins;
use palisade_attacks::{Held, race, ring};
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
fn host_attacks_come_to_what_the_table_says() {
    let pins = Pins::new("attacks");
    let mut held = Held::new(KernelAdapter::open(pins.config().unwrap()).unwrap()).unwrap();
    let word = std::env::var("PALISADE_ATTACKS").unwrap_or_default();
    // Where the ring of the host finds it.
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attacks.table");
    let mut lines = fs::File::create(table).unwrap();
    let mut say = |line: &str| {
        println!("{line}");
        writeln!(lines, "{line}").unwrap();
    };
    let report = ring::run(&mut held, env!("CARGO_BIN_EXE_attacker").as_ref(), &word, &mut say);
    let report = report.unwrap_or_else(|all| panic!("{all}"));
    ring::say_others(&mut say);
    assert!(!word.is_empty() || report["denied"] > 40, "{report:?}");
}

#[test]
fn host_attacks_that_race_with_swaps_of_policy_meet_the_one_or_the_other_whole() {
    let pins = Pins::new("swaps");
    let mut held = Held::new(KernelAdapter::open(pins.config().unwrap()).unwrap()).unwrap();
    let attacker = env!("CARGO_BIN_EXE_attacker").as_ref();
    println!("{}", race::swaps(&mut held, attacker, 1000).unwrap_or_else(|said| panic!("{said}")));
    println!("{}", race::opens(&mut held, attacker, 20_000).unwrap_or_else(|said| panic!("{said}")));
}
