//! The VM ring's suite: runs as root inside the guest and prints as Rust's test harness does (see `palisade_vm::suite`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use libtest_mimic::Arguments;
use palisade_vm::suite;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((suite::HOLD_POLICY, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return match suite::hold(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("{}", failed.message().unwrap_or_default());
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    // The guest is one machine: its cgroups, pins and attached programs are everybody's.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, suite::trials()).exit_code()
}
