//! One module for each command. Each `run` prints and says with which status to exit; what it returns as an error is printed as one line.

pub mod certificate;
pub mod completion;
pub mod config;
pub mod doctor;
pub mod hook;
pub mod logs;
pub mod node;
pub mod nodes;
pub mod policy;
pub mod policy_explain;
pub mod policy_test;
pub mod probe;
pub mod record;
pub mod rehearse;
pub mod replay;
pub mod responder;
pub mod top;
pub mod trace;
pub mod trace_input;
pub mod tree;
pub mod unload;
pub mod version;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What each command returns.
pub type Outcome = anyhow::Result<ExitCode>;

/// Prints to standard output; `false` where the reader went away (`| head`), which is no error.
///
/// # Errors
/// Anything else that the operating system says.
pub fn print(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("standard output"),
    }
}

/// Whether standard output is a pipe that nobody reads any more; what cannot be asked is taken for read.
#[must_use]
pub fn reader_is_gone() -> bool {
    let out = std::io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

/// Waits for `work`, which may begin tasks of its own on this thread.
///
/// # Errors
/// What the operating system says.
pub fn block_on_local<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::task::LocalSet::new().block_on(&runtime()?, work))
}

/// A runtime for commands that only wait.
///
/// # Errors
/// What the operating system says.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start an event loop")
}
