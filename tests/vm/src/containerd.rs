//! Real containers in the guest, driven as a user of `ctr` does.
//!
//! One containerd serves the whole suite: starting it takes seconds of emulated time. Containers use the host's network, for the
//! guest has no CNI plugins, and the overlayfs snapshotter, for that is where paths are hard.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
};

use crate::act::{Act, MARK, Outcome};

/// Where the guest's containerd listens.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
/// The image that the ring made: the actor, its libraries and a few files to touch.
pub const IMAGE: &str = "localhost/palisade-vm:1";
/// The actor's place in the image.
pub const ACTOR: &str = "/bin/vm_actor";
const IMAGE_ARCHIVE: &str = "/image.tar";
const LOG: &str = "/run/containerd.log";
/// Of starting; emulated, so far longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Why containers could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A program could not be started or a file not read.
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
    /// A command failed.
    #[error("{command}: {stderr}")]
    Command {
        /// Which.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// Nothing answered in time.
    #[error("{what} after {PATIENCE:?}; the log ends: {log}")]
    Late {
        /// What did not happen.
        what: String,
        /// containerd's last lines.
        log: String,
    },
    /// The actor's output is not one outcome for each act.
    #[error("the actor said: {0}")]
    Output(String),
}

impl ContainerdError {
    /// What the actor said before its command failed belongs to the reason.
    fn with_output(self, output: &str) -> Self {
        match self {
            Self::Command { command, stderr } => Self::Command { command, stderr: format!("{stderr}{output}") },
            other => other,
        }
    }
}

/// A running containerd with the image imported; stopped when dropped.
#[derive(Debug)]
pub struct Containerd(Child);

/// A running container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its first process in the guest's PID namespace.
    pub pid: u32,
}

impl Containerd {
    /// Starts it and imports the image.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn start() -> Result<Self, ContainerdError> {
        let log = File::create(LOG).map_err(|error| ContainerdError::Io(LOG.into(), error))?;
        let child = Command::new("containerd")
            .args(["--address", SOCKET, "--log-level", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| ContainerdError::Io("containerd".into(), error))?;
        let started = Self(child);
        wait_for("containerd does not answer", || ctr(&["version"]).is_ok())?;
        ctr(&["images", "import", IMAGE_ARCHIVE])?;
        Ok(started)
    }

    /// Starts a container whose first process does the acts and then stays, and waits for its process.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn hold(&self, id: &str, options: &[&str]) -> Result<Container, ContainerdError> {
        let mut arguments = vec!["run", "--detach", "--net-host", "--null-io"];
        arguments.extend(options);
        arguments.extend([IMAGE, id, ACTOR, "--hold"]);
        ctr(&arguments)?;
        let pid = self.pid_of(id)?;
        Ok(Container { id: id.to_owned(), pid })
    }

    /// Starts a container whose first process does the acts, and waits for its end.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn run(&self, id: &str, options: &[&str], acts: &[Act]) -> Result<Vec<Outcome>, ContainerdError> {
        let mut arguments = vec!["run", "--rm", "--net-host"];
        arguments.extend(options);
        outcomes_of(acts, &arguments, &[IMAGE, id, ACTOR])
    }

    fn pid_of(&self, id: &str) -> Result<u32, ContainerdError> {
        let output = ctr(&["tasks", "list"])?;
        let pid = output.lines().find_map(|line| {
            let mut columns = line.split_whitespace();
            (columns.next() == Some(id)).then(|| columns.next()?.parse().ok()).flatten()
        });
        pid.ok_or(ContainerdError::Output(output))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Container {
    /// Does the acts in a new process inside, as `kubectl exec` does.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn exec(&self, acts: &[Act]) -> Result<Vec<Outcome>, ContainerdError> {
        outcomes_of(acts, &["tasks", "exec", "--exec-id", "suite"], &[&self.id, ACTOR])
    }

    /// Starts a process inside, as `kubectl exec` does, with a terminal or without; whether it came to write the file.
    ///
    /// # Errors
    /// See [`ContainerdError`]; that the process was refused is none.
    pub fn enter(&self, terminal: bool, marker: &str) -> Result<bool, ContainerdError> {
        let io = |error: io::Error| ContainerdError::Io("a terminal".into(), error);
        let mut command = Command::new("ctr");
        command.args(["--address", SOCKET, "tasks", "exec", "--exec-id", "session"]).stderr(Stdio::null());
        // ctr copies between its own terminal and the session's.
        let master = if terminal {
            let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).map_err(|errno| io(errno.into()))?;
            let slave = grantpt(&master).and_then(|()| unlockpt(&master)).and_then(|()| ptsname_r(&master));
            let slave = slave.map_err(|errno| io(errno.into()))?;
            let slave =
                File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(slave).map_err(io)?;
            command.arg("--tty").stdin(slave.try_clone().map_err(io)?).stdout(slave);
            Some(master)
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            None
        };
        let status = command.args([&self.id, ACTOR, MARK, marker]).status();
        status.map_err(|error| ContainerdError::Io("ctr tasks exec".into(), error))?;
        drop(master);
        let file = self.outside(marker);
        Ok(fs::remove_file(file).is_ok())
    }

    /// Its cgroup's directory below the mount of the unified hierarchy.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn cgroup(&self) -> Result<PathBuf, ContainerdError> {
        let file = format!("/proc/{}/cgroup", self.pid);
        let text = fs::read_to_string(&file).map_err(|error| ContainerdError::Io(file, error))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(|path| Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
            .ok_or(ContainerdError::Output(text))
    }

    /// A path inside, as seen from outside.
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Kills and removes it.
    ///
    /// # Errors
    /// See [`ContainerdError`].
    pub fn remove(self) -> Result<(), ContainerdError> {
        ctr(&["tasks", "delete", "--force", &self.id])?;
        ctr(&["containers", "delete", &self.id]).map(drop)
    }
}

/// Runs `ctr` and gives its standard output.
fn ctr(arguments: &[&str]) -> Result<String, ContainerdError> {
    let command = || format!("ctr {}", arguments.join(" "));
    let output: Output = Command::new("ctr")
        .args(["--address", SOCKET])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ContainerdError::Io(command(), error))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = format!("{}{stdout}", String::from_utf8_lossy(&output.stderr));
    Err(ContainerdError::Command { command: command(), stderr })
}

/// Runs `ctr` with the acts as its last arguments and reads what the actor printed from a file that the container's shim writes,
/// not from `ctr`: that one may end before it has read all (a lost line would look like an actor that died).
fn outcomes_of(acts: &[Act], options: &[&str], subject: &[&str]) -> Result<Vec<Outcome>, ContainerdError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = format!("/run/actor-output-{}-{number}", std::process::id());
    let output_to = format!("file://{file}");
    let texts: Vec<String> = acts.iter().map(Act::to_string).collect();
    let arguments: Vec<&str> = options
        .iter()
        .chain(&["--log-uri", &output_to])
        .chain(subject)
        .copied()
        .chain(texts.iter().map(String::as_str))
        .collect();
    let result = ctr(&arguments);
    let output = fs::read_to_string(&file).unwrap_or_default();
    result.map_err(|error| error.with_output(&output))?;
    outcomes(acts, &output)
}

/// One outcome for each act, in order: a line too few is an actor that died.
fn outcomes(acts: &[Act], output: &str) -> Result<Vec<Outcome>, ContainerdError> {
    let mut lines = output.lines();
    let parsed: Option<Vec<Outcome>> =
        acts.iter().map(|act| lines.next()?.strip_prefix(&act.to_string())?.trim_start().parse().ok()).collect();
    parsed.filter(|_| lines.next().is_none()).ok_or_else(|| ContainerdError::Output(output.to_owned()))
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) -> Result<(), ContainerdError> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if happened() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let log = fs::read_to_string(LOG).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(5).collect();
    Err(ContainerdError::Late { what: what.to_owned(), log: tail.join(" | ") })
}
