//! One module for each command. Each `run` prints and says with which status to exit; what it returns as an error is printed as one line.

pub mod certificate;
pub mod completion;
pub mod config;
pub mod doctor;
pub mod hook;
pub mod logs;
pub mod new_file;
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

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::render;

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

/// A line on standard error; that it cannot be written is no reason to end, least of all by a panic with another exit status.
pub fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard error that begins as all of them do.
pub fn complain(line: &str) {
    to_stderr(&format!("palisade: {}", render::printable(line)));
}

/// Whether a path means standard input or output in place of a file.
#[must_use]
pub fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    fn sources(directory: &Path, read: &mut dyn FnMut(&Path, &str)) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, read);
            } else {
                read(&path, &fs::read_to_string(&path).expect("a source"));
            }
        }
    }

    #[test]
    fn unit_commands_print_by_nothing_that_panics_where_nobody_can_be_told() {
        let mut looked_at = 0;
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
            looked_at += 1;
            for (number, line) in text.lines().enumerate() {
                let panics = ["println", "print"].iter().any(|word| line.contains(&format!("{word}!(")));
                assert!(!panics, "{}:{}: use `to_stderr` or `print`: {line}", path.display(), number + 1);
            }
        });
        assert!(looked_at > 20, "{looked_at} sources");
    }
}
