//! The suite of the boot where SELinux is active and enforces: runs as root inside the guest and prints as Rust's test harness does
//! (see `palisade_vm::selinux`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use libtest_mimic::Arguments;
use palisade_vm::selinux;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The kernel has one policy, and one stream of audit records.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, selinux::trials()).exit_code()
}
