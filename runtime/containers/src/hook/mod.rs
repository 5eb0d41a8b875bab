//! The OCI createRuntime hook: a container waits until its node has answered.
//!
//! runc calls the hook when the container's namespaces and cgroup exist and before anything of it runs (runtime-spec `config.md`,
//! "createRuntime"), with the container's state on standard input. The hook ([`run`]) asks the node over a Unix socket and ends with
//! status 0 only if the container is admitted; any other end makes runc give up the container and show what the hook wrote to
//! standard error.
//!
//! *Fails closed*: no node, no answer, or a wrong one, and the container does not start. [`Failure::Open`] is for installations that
//! value starts above policy; it excuses a node that is away, never a node that refuses.

pub(crate) mod message;
mod server;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, sleep},
};

use self::message::{Answer, MAX_ANSWER_BYTES};
pub(crate) use self::{
    message::Request,
    server::{Call, Server, Signal},
};
pub use crate::oci::StateError;
use crate::oci::{MAX_STATE_BYTES, State};

/// Hooks that are served at a time; containerd starts pods' containers a few at a time, so this is reached only in a storm. Those
/// beyond it wait in the socket's backlog.
pub const MAX_CONCURRENT: usize = 64;

/// Where a hook asks that is not told where.
pub const DEFAULT_SOCKET: &str = "/run/palisade/hook.sock";

/// How long a hook waits for the node's answer by default. A policy is in force some tens of milliseconds after the question; the rest
/// is for a node that has just lost containerd and connects anew. containerd gives a start two minutes.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a hook waits for a node that is not there, as one is that restarts or is upgraded; part of the whole timeout, and short,
/// for where there is no node at all every container waits it out before it is refused.
pub const ABSENCE: Duration = Duration::from_secs(3);

/// Between two tries.
const RETRY: Duration = Duration::from_millis(50);

/// Why a container may not start.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Standard input cannot be read.
    #[error("standard input: {0}")]
    Input(#[source] io::Error),
    /// The state is not one for this hook.
    #[error("{0}")]
    State(#[from] StateError),
    /// No node at the socket.
    #[error("no node at {socket}: {source}")]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node closed the connection or answered something else.
    #[error("the node at {socket} gave no answer: {reason}")]
    NoAnswer {
        /// Where.
        socket: PathBuf,
        /// What came instead.
        reason: String,
    },
    /// The node took too long.
    #[error("the node at {socket} did not answer in {} ms", timeout.as_millis())]
    TimedOut {
        /// Where.
        socket: PathBuf,
        /// How long it had.
        timeout: Duration,
    },
    /// The node answered, and the answer is no.
    #[error("container {id} is refused: {reason}")]
    Refused {
        /// Which container.
        id: String,
        /// The node's words.
        reason: String,
    },
}

/// What to do when the node cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The container does not start.
    Closed,
    /// It starts, outside policy until the node finds it.
    Open,
}

impl Failure {
    /// Whether this end of the hook lets the container start.
    #[must_use]
    pub fn permits(self, outcome: &Result<(), HookError>) -> bool {
        match outcome {
            Ok(()) => true,
            Err(HookError::Refused { .. } | HookError::State(_) | HookError::Input(_)) => false,
            Err(HookError::Unreachable { .. } | HookError::NoAnswer { .. } | HookError::TimedOut { .. }) => {
                self == Self::Open
            }
        }
    }
}

/// Asks the node at `socket` whether the container, whose OCI state is on `stdin`, may start; waits `timeout` at most in all.
///
/// # Errors
/// [`HookError`]; each names the socket or the container and says what happened.
pub fn run(stdin: impl Read, socket: &Path, timeout: Duration) -> Result<(), HookError> {
    let mut json = Vec::new();
    // One more than the bound, so that a longer state is seen as such.
    stdin.take(MAX_STATE_BYTES + 1).read_to_end(&mut json).map_err(HookError::Input)?;
    let state = State::parse(&json)?;
    let request = Request::of(&state)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| HookError::Unreachable { socket: socket.to_owned(), source })?;
    let asked = runtime.block_on(async { tokio::time::timeout(timeout, ask(&request, socket)).await });
    match asked.unwrap_or_else(|_| Err(timed_out(socket, timeout)))? {
        Answer { admitted: true, .. } => Ok(()),
        Answer { reason, .. } => Err(HookError::Refused { id: state.id, reason }),
    }
}

/// No answer in time; where nobody serves the socket, that is why.
fn timed_out(socket: &Path, timeout: Duration) -> HookError {
    match std::os::unix::net::UnixStream::connect(socket) {
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            HookError::Unreachable { socket: socket.to_owned(), source }
        }
        _ => HookError::TimedOut { socket: socket.to_owned(), timeout },
    }
}

async fn ask(request: &Request, socket: &Path) -> Result<Answer, HookError> {
    let no_answer = |reason: String| HookError::NoAnswer { socket: socket.to_owned(), reason };
    let mut stream =
        connect(socket).await.map_err(|source| HookError::Unreachable { socket: socket.to_owned(), source })?;
    // A node may answer and close before it has read all: its answer counts, not the failed write.
    let written = stream.write_all(&request.to_line()).await;
    let mut line = Vec::new();
    let mut answers = BufReader::new(stream).take(MAX_ANSWER_BYTES);
    answers.read_until(b'\n', &mut line).await.map_err(|error| no_answer(error.to_string()))?;
    match (line.is_empty(), written) {
        (true, Err(error)) => Err(no_answer(error.to_string())),
        (true, Ok(())) => Err(no_answer("it closed the connection".to_owned())),
        (false, _) => Answer::parse(&line).map_err(no_answer),
    }
}

/// Waits [`ABSENCE`] for somebody to serve the socket; any other error is final.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let give_up = Instant::now() + ABSENCE;
    loop {
        match UnixStream::connect(socket).await {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && Instant::now() < give_up =>
            {
                sleep(RETRY).await;
            }
            connected => return connected,
        }
    }
}

#[cfg(test)]
mod tests;
