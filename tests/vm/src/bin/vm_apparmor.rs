//! The suite of the boot where AppArmor is active and `bpf` is not: runs as root inside the guest and prints as Rust's test harness does
//! (see `palisade_vm::apparmor`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use libtest_mimic::Arguments;
use palisade_vm::apparmor;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Profiles and the audit's stream are everybody's.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, apparmor::trials()).exit_code()
}
