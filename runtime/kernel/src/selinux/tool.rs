//! The host's own programs that compile policies, each executed for one thing and waited for as long as its caller says.
//!
//! Invariant: nobody waits for ever, and what a program says is kept up to a bound, whatever it says.
//!
//! Decision: what it says goes to a file without a name and not to a pipe: who runs on after a node that was killed would die of a pipe that nobody
//! reads, in the middle of its commit. A domain that may not write to the file is given `/dev/null` by the kernel: then it said nothing.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::PolicyError;
use crate::sys;

const PAUSE: Duration = Duration::from_millis(5);
/// Of a program's words an error has the first.
const MAX_SAID_BYTES: u64 = 2000;

/// Who does not end in time, or is waited for by nobody any more, is killed.
pub(super) fn run(command: &mut Command, patience: Duration, given_up: &AtomicBool) -> Result<(), PolicyError> {
    let (child, said) = spawn(command, Stdio::null())?;
    let (status, _) = end(child, patience, given_up)?;
    judge(command, status, said)
}

/// The same, for what it prints: not more than a pipe holds, or it does not end in time.
pub(super) fn output(command: &mut Command, patience: Duration, given_up: &AtomicBool) -> Result<String, PolicyError> {
    let failed = PolicyError::Compiler;
    let said = sys::nameless_file(c"said").map_err(failed)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said.try_clone().map_err(failed)?);
    let (status, child) = end(command.spawn().map_err(failed)?, patience, given_up)?;
    judge(command, status, said)?;
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout {
        stdout.read_to_string(&mut printed).map_err(failed)?;
    }
    Ok(printed)
}

fn end(mut child: Child, patience: Duration, given_up: &AtomicBool) -> Result<(ExitStatus, Child), PolicyError> {
    let ended = wait(&mut child, sys::boot_time() + patience, given_up);
    let ended = ended.and_then(|status| status.ok_or(PolicyError::TimedOut(patience)));
    if ended.is_err() {
        child.kill().and_then(|()| child.wait()).map_err(PolicyError::Compiler)?;
    }
    Ok((ended?, child))
}

/// And the file of what it says.
pub(super) fn spawn(command: &mut Command, stdin: Stdio) -> Result<(Child, File), PolicyError> {
    let failed = PolicyError::Compiler;
    let said = sys::nameless_file(c"said").map_err(failed)?;
    command.stdin(stdin).stdout(Stdio::null()).stderr(said.try_clone().map_err(failed)?);
    Ok((command.spawn().map_err(failed)?, said))
}

pub(super) fn judge(command: &Command, status: ExitStatus, mut said: File) -> Result<(), PolicyError> {
    if status.success() {
        return Ok(());
    }
    let mut words = Vec::new();
    let read = said.rewind().and_then(|()| said.take(MAX_SAID_BYTES).read_to_end(&mut words));
    read.map_err(PolicyError::Compiler)?;
    let tool = command.get_program().to_string_lossy().into_owned();
    Err(PolicyError::Refused { tool, status, said: String::from_utf8_lossy(&words).trim().to_owned() })
}

/// Until then, by the boot clock; `None`: it runs on, as it does where it is given up.
pub(super) fn wait(
    child: &mut Child,
    until: Duration,
    given_up: &AtomicBool,
) -> Result<Option<ExitStatus>, PolicyError> {
    await_until(until, given_up, || child.try_wait())
}

/// Until there is an answer, or `None` then.
pub(super) fn await_until<T>(
    until: Duration,
    given_up: &AtomicBool,
    mut ask: impl FnMut() -> io::Result<Option<T>>,
) -> Result<Option<T>, PolicyError> {
    loop {
        if let Some(answer) = ask().map_err(PolicyError::Compiler)? {
            return Ok(Some(answer));
        }
        if given_up.load(Ordering::Relaxed) {
            return Err(PolicyError::GivenUp);
        }
        if sys::boot_time() >= until {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}
