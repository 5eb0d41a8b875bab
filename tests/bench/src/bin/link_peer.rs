//! The receiving process of the subject `link`: `link_peer MODE DIRECTORY`.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mode, directory) = (words.next().unwrap_or_default(), words.next().map(PathBuf::from).unwrap_or_default());
    match palisade_bench::link::receive(&mode, &directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("link_peer: {error}");
            ExitCode::FAILURE
        }
    }
}
