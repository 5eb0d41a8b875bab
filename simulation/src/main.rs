//! `palisade simulate` as a program of its own: it needs neither clang nor the kernel's adapter, and may have the marked points.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use palisade_simulation::command::{SimulateArguments, run};

/// Simulated nodes.
#[derive(Parser)]
#[command(version)]
struct Program {
    #[command(flatten)]
    arguments: SimulateArguments,
}

fn main() -> ExitCode {
    run(&Program::parse().arguments)
}
