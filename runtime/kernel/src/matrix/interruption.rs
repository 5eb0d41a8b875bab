//! Whether a program before a security function denies, and whether it can be interrupted there.
//!
//! The kernel skips a tracing program for whoever comes by while it runs on the same CPU, so that it does not call itself. Where one
//! task may interrupt another in the kernel (`preempt=full` or `lazy`, PREEMPT_RT), the other then opens unjudged: such a kernel
//! has not this means, however well its programs attach.
//!
//! Decision: tried, not read. The mode is in debugfs alone, which lockdown closes. Two threads share one CPU: the first is kept
//! in the program for longer than a slice, the second opens the file that is denied to both. It takes 40 ms of one CPU.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::TriedFile;
use crate::{KernelTypes, fmod_ret, kernel_types::Constant, objects::chain, sys};

/// What became of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    Denied,
    /// Denied, and the program was interrupted meanwhile.
    Interrupted,
    Permitted,
}

fn open(path: &Path) -> Result<Opened, String> {
    match File::open(path) {
        Ok(_) => Ok(Opened::Permitted),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(Opened::Denied),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(Opened::Interrupted),
        Err(error) => Err(format!("the test file could not be opened for another reason: {error}")),
    }
}

/// Where the two threads tell each other how far they are.
#[derive(Debug, Default)]
struct Pace {
    /// The rival's number once it is on the CPU.
    rival: AtomicU32,
    begun: AtomicBool,
    over: AtomicBool,
}

impl Pace {
    fn wait(condition: impl Fn() -> bool) {
        while !condition() {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A program before `security_file_open` denies two threads one file: are both denied, always?
pub(super) fn try_modify_return(types: &KernelTypes) -> Result<(), String> {
    let file = TriedFile::create()?;
    let pace = Pace::default();
    let cpu = sys::current_cpu().map_err(|error| error.to_string())?;
    thread::scope(|scope| {
        let rival = scope.spawn(|| rival_opens(file.path(), cpu, &pace));
        let first = scope.spawn(|| {
            let opened = first_opens(types, file.path(), cpu, &pace);
            // The rival ends whatever became of this one.
            pace.over.store(true, Ordering::Release);
            pace.begun.store(true, Ordering::Release);
            opened
        });
        let panicked = || "the test's thread panicked".to_owned();
        let first = first.join().map_err(|_| panicked())?;
        let passed = rival.join().map_err(|_| panicked())?;
        judge(first?, passed?)
    })
}

/// `passed`: opens of the rival.
fn judge(first: Opened, passed: u64) -> Result<(), String> {
    match (first, passed) {
        (Opened::Denied, 0) => Ok(()),
        (Opened::Permitted, _) => Err("programs attach before security_file_open and never run".to_owned()),
        (Opened::Interrupted | Opened::Denied, passed) => Err(format!(
            "this kernel preempts its own code (preempt=full, preempt=lazy or PREEMPT_RT), and skips a program that it interrupted for who \
             runs meanwhile: {passed} opens passed in the test; with preempt=voluntary it would be a means"
        )),
    }
}

/// Attaches, and opens the file by the thread that is kept in the program.
fn first_opens(types: &KernelTypes, path: &Path, cpu: usize, pace: &Pace) -> Result<Opened, String> {
    sys::stay_on(cpu).map_err(|error| format!("no thread can be kept on CPU {cpu}: {error}"))?;
    Pace::wait(|| pace.rival.load(Ordering::Acquire) != 0);
    let inode = std::fs::metadata(path).map_err(|error: io::Error| error.to_string())?.ino();
    let (thread, rival) = (sys::thread_id(), pace.rival.load(Ordering::Acquire));
    let constants = [
        Constant::Word("pal_selftest_thread", thread),
        Constant::Word("pal_selftest_rival", rival),
        Constant::Long("pal_selftest_inode", inode),
    ];
    let made = types.load(palisade_bpf::SELFTEST, None, &constants).map_err(|error| chain(&error))?;
    let object = fmod_ret::Relocated::new(palisade_bpf::SELFTEST, &made, types)?;
    let program = object.load("deny_slowly", "security_file_open")?;
    let _link = fmod_ret::attach(&program)?;
    pace.begun.store(true, Ordering::Release);
    let opened = open(path);
    // While the link is there: what the rival opens later is none of the test's.
    pace.over.store(true, Ordering::Release);
    opened
}

/// Opens the file on the same CPU until the first thread is done; how often it could.
fn rival_opens(path: &Path, cpu: usize, pace: &Pace) -> Result<u64, String> {
    let stays = sys::stay_on(cpu).map_err(|error| format!("no thread can be kept on CPU {cpu}: {error}"));
    pace.rival.store(sys::thread_id(), Ordering::Release);
    stays?;
    Pace::wait(|| pace.begun.load(Ordering::Acquire));
    let mut passed = 0;
    while !pace.over.load(Ordering::Acquire) {
        let opened = open(path)?;
        // The link may have gone between the two.
        if opened == Opened::Permitted && !pace.over.load(Ordering::Acquire) {
            passed += 1;
        }
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_a_program_that_was_interrupted_or_passed_by_is_no_means() {
        assert_eq!(judge(Opened::Denied, 0), Ok(()));
        for (first, passed, says) in
            [(Opened::Interrupted, 0, "preempts"), (Opened::Denied, 3, "3 opens"), (Opened::Permitted, 0, "never run")]
        {
            let refused = judge(first, passed).expect_err("it would not hold");
            assert!(refused.contains(says), "{refused}");
        }
    }
}
