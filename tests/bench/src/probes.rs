//! What the idle probes add to a system call that nobody asked about. Needs root, a kernel with BTF, and its own pins.
//!
//! Being called at all is the kernel's price: a program that does nothing pays it too, and is measured in every round, between
//! the bare call and the probes. The budget is the filter's own share.

use std::{fs, hint::black_box, path::PathBuf};

use nix::unistd::getppid;
use palisade_kernel::{observation::Limits, probes::Probes};

use crate::{
    Measured,
    stopwatch::nanoseconds_each,
    table::{Row, Table, Unit},
};

/// One round; about 20 ms.
const CALLS: usize = 100_000;
const ROUNDS: usize = 5;
/// What the filter may add.
const BUDGET_NS: f64 = 60.0;

/// Nanoseconds that the probes add to `getppid`, and how much of it is their filter.
///
/// # Errors
/// Where the kernel refuses the probes.
pub fn measure(table: &mut Table) -> Measured {
    let pins = Pins::create()?;
    let [mut bare, mut empty, mut probed] = [f64::MAX; 3];
    for _ in 0..ROUNDS {
        bare = bare.min(call());
        let idle = Probes::attach_idle()?;
        empty = empty.min(call());
        drop(idle);
        let probes = Probes::attach(&pins.0, Limits::default())?;
        // A kernel without modules has no tracepoint for them.
        if probes.refused().iter().any(|refused| refused.program != "observe_module") {
            return Err(format!("the kernel refused {:?}", probes.refused()).into());
        }
        probed = probed.min(call());
    }
    let mut add = |what: &str, value: f64, baseline: (&str, f64), budget| {
        let baseline = Some((baseline.0.to_owned(), baseline.1));
        table.add(Row { what: what.to_owned(), value: value.max(0.0), unit: Unit::Nanoseconds, baseline, budget });
    };
    let called = empty - bare;
    add("idle probes' filter, added to getppid", probed - empty, ("an empty program, added", called), Some(BUDGET_NS));
    add("idle probes in all, added to getppid", probed - bare, ("getppid without", bare), None);
    Ok(())
}

fn call() -> f64 {
    nanoseconds_each(CALLS, || {
        for _ in 0..CALLS {
            black_box(getppid());
        }
    })
}

/// A pin directory of this run, removed with all that is pinned in it.
pub struct Pins(pub PathBuf);

impl Pins {
    /// Makes it on the system's BPF file system.
    ///
    /// # Errors
    /// Where there is none.
    pub fn create() -> std::io::Result<Self> {
        let path = PathBuf::from(format!("/sys/fs/bpf/palisade-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = palisade_kernel::unload(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
