//! The OCI createRuntime hook alone: `palisade-hook --socket PATH [--timeout-ms N] [--fail-open]`, the state on standard input.
//!
//! Exit status: 0 the container may start, 1 it may not (standard error says why), 64 wrong usage (which fails closed, too).
#![forbid(unsafe_code)]

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use palisade_containers::hook::{self, Failure};

const USAGE: &str = "usage: palisade-hook --socket PATH [--timeout-ms N] [--fail-open]";

struct Arguments {
    socket: PathBuf,
    timeout: Duration,
    failure: Failure,
}

fn main() -> ExitCode {
    let Some(Arguments { socket, timeout, failure }) = parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let outcome = hook::run(std::io::stdin().lock(), &socket, timeout);
    if let Err(error) = &outcome {
        eprintln!("palisade hook: {error}");
    }
    if failure.permits(&outcome) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let (mut socket, mut timeout, mut failure) = (None, hook::DEFAULT_TIMEOUT, Failure::Closed);
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--socket" => socket = Some(PathBuf::from(words.next()?)),
            "--timeout-ms" => timeout = Duration::from_millis(words.next()?.to_str()?.parse().ok()?),
            "--fail-open" => failure = Failure::Open,
            _ => return None,
        }
    }
    Some(Arguments { socket: socket?, timeout, failure })
}
