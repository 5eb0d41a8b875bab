//! What observation costs a system call that nobody asked about: getppid, and an open by a task of no workload.
//!
//! Four beds, each measured in every round, one after the other, so that a machine that slows down slows all of them: nothing
//! attached, a program that does nothing on the same tracepoint (the price of being called), the probes, and the probes with
//! the tier that kills. The fastest of all rounds counts. Needs root.

use std::{
    error::Error,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_kernel::{
    kill::{self, KillDuty},
    observation::Limits,
    probes::Probes,
};
use palisade_kernel_abi::blob::Family;

const ROUNDS: usize = 30;
const CALLS: u32 = 100_000;
const OPENS: u32 = 10_000;

/// (name, what it attaches; dropping it detaches)
type Bed = (&'static str, fn(&Path) -> Result<Box<dyn std::any::Any>, Box<dyn Error>>);

const BEDS: [Bed; 4] = [
    ("nothing", |_| Ok(Box::new(()))),
    ("empty program", |_| Ok(Box::new(Probes::attach_idle()?))),
    ("probes", |pins| Ok(Box::new(Probes::attach(pins, Limits::default())?))),
    ("probes and kills", attach_all),
];

/// Takes the pinned links away again.
struct Kills(PathBuf);

impl Drop for Kills {
    fn drop(&mut self) {
        if let Err(error) = kill::detach(&self.0) {
            eprintln!("{error}");
        }
    }
}

fn attach_all(pins: &Path) -> Result<Box<dyn std::any::Any>, Box<dyn Error>> {
    let probes = Probes::attach(pins, Limits::default())?;
    let duty = KillDuty {
        families: &[Family::Ptrace, Family::File],
        fanotify_judges: true,
        prepare_exec: false,
        audits_host_execs: false,
        host_mnt_ns: 0,
    };
    kill::attach(palisade_bpf::KILL, pins, duty)?;
    Ok(Box::new((probes, Kills(pins.to_path_buf()))))
}

fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which `time` is and which lives over the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Nanoseconds for each call.
fn each(calls: u32, mut call: impl FnMut()) -> f64 {
    let start = monotonic();
    (0..calls).for_each(|_| call());
    (monotonic() - start).as_secs_f64() * 1e9 / f64::from(calls)
}

fn getppid() {
    // SAFETY: takes nothing and gives a number; by `syscall`, for the library might answer without the kernel.
    black_box(unsafe { libc::syscall(libc::SYS_getppid) });
}

fn open_and_close() {
    // SAFETY: the name is a literal that ends with NUL; the descriptor has no other owner, and closing -1 is an error of the call.
    unsafe { libc::close(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY)) };
}

fn main() -> Result<(), Box<dyn Error>> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/palisade-idle-{}", std::process::id()));
    fs::create_dir(&pins)?;
    let mut best = [(f64::MAX, f64::MAX); BEDS.len()];
    for _ in 0..ROUNDS {
        for ((_, attach), best) in BEDS.iter().zip(&mut best) {
            let _attached = attach(&pins)?;
            best.0 = best.0.min(each(CALLS, getppid));
            best.1 = best.1.min(each(OPENS, open_and_close));
        }
    }
    palisade_kernel::unload(&pins)?;
    println!("{:20} {:>12} {:>8} {:>14} {:>8}", "attached", "getppid ns", "added", "open+close ns", "added");
    for ((name, _), (call, open)) in BEDS.iter().zip(best) {
        println!("{name:20} {call:12.1} {:8.1} {open:14.1} {:8.1}", call - best[0].0, open - best[0].1);
    }
    Ok(())
}
