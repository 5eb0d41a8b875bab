//! The VM ring's suite: runs as root inside the guest and prints as Rust's test harness does (see `palisade_vm::suite`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The guest is one machine: its cgroups, pins and attached programs are everybody's.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, palisade_vm::suite::trials()).exit_code()
}
