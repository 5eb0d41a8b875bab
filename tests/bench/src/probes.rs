//! What the idle probes add to a system call that nobody asked about. Needs root, a kernel with BTF, and its own pins.

use std::{fs, hint::black_box, path::PathBuf};

use nix::unistd::getppid;
use palisade_kernel::probes::Probes;

use crate::{
    Measured,
    stopwatch::nanoseconds_each,
    table::{Row, Table, Unit},
};

/// One round; about 20 ms.
const CALLS: usize = 200_000;
/// What the probes may add.
const BUDGET_NS: f64 = 60.0;

/// Nanoseconds that the probes add to `getppid`.
///
/// # Errors
/// Where the kernel refuses the probes.
pub fn measure(table: &mut Table) -> Measured {
    let bare = call();
    let pins = Pins::create()?;
    let probes = Probes::attach(palisade_bpf::PROBES, &pins.0)?;
    if !probes.refused().is_empty() {
        return Err(format!("the kernel refused {:?}", probes.refused()).into());
    }
    let probed = call();
    table.add(Row {
        what: "idle probes, added to getppid".to_owned(),
        value: (probed - bare).max(0.0),
        unit: Unit::Nanoseconds,
        baseline: Some(("getppid without".to_owned(), bare)),
        budget: Some(BUDGET_NS),
    });
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
