//! The program that enters a workload's place and becomes the attacker there (see `palisade_acts::acting`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use palisade_acts::acting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    match acting::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
