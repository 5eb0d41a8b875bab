//! Host ring: the smaller ports of a node, simulated and as this machine has them, by the same test bodies: clocks, randomness, names of users,
//! the store of traces, and what a loss of power leaves of a file of lines. A full disk and a container's names need root; the rest does not.
#![forbid(unsafe_code)]

mod clocks;
mod lines;
mod passwd;
mod randomness;
mod traces;

use std::{fs, os::unix::fs::MetadataExt as _};

use palisade_simulation::{
    event::{Ears, Teller},
    journal::Journal,
    random::Random,
    world::{clock::SimClock, kernel::Kernel},
};
use tokio::time::Instant;

/// Runs a body where time is real.
fn really<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(body)
}

fn teller() -> Teller {
    let ears = Ears::new(Instant::now(), Journal::new(false), Vec::new());
    Teller::new(0, &std::sync::Arc::new(std::sync::Mutex::new(ears)))
}

fn kernel() -> Kernel {
    Kernel::new(teller(), SimClock::new(Instant::now(), 0), Random::stream(1, "kernel"), 4096, None)
}

/// Whether this is root; else it is said.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        println!("skipped: needs root");
    }
    is_root
}
