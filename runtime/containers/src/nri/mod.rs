//! The node as a plugin of the runtime's Node Resource Interface (NRI): containerd from 1.7 on, CRI-O from 1.26 on.
//!
//! Before the runtime writes a container's specification it asks its plugins; this one adds the OCI createRuntime hook of [`crate::hook`], so
//! that a container of a runtime that nobody gave a base specification waits for its policy all the same.
//!
//! Decisions:
//! - The hook, not an admission of NRI's own: in `CreateContainer` there is no process and no cgroup yet, and a plugin has two seconds. One
//!   path of admission is tested; where the specification has the hook already nothing is added, so it never runs twice.
//! - Registered once the node can answer hooks, not before: a hook that nobody answers keeps its container from starting.
//! - No source of containers: the API and the cgroup tree tell them with process and end. NRI's `StopContainer` comes before the end, and
//!   whoever ends enforcement at it lets go of a container for its whole time of grace; it is not even subscribed. A source of *names*: the
//!   labels of pods ([`Pods`]), which without the runtime's API come by nothing else.
//! - Own frames ([`mux`]) and calls ([`ttrpc`]): nobody publishes the two-channel multiplexer as a crate, and the crate `ttrpc` brings a
//!   second version of prost, tasks without a bound and sockets of its own for what is ten bytes of header.
//! - While this node is away the runtime adds nothing: NRI alone fails open, a base specification fails closed. (Newer runtimes
//!   can be told to require a plugin.)
//!
//! *Owns*: the connection, one task. *Hears*: the runtime's calls. *Says*: why hooks are not added, if they are not.
//! *Bounds*: bytes of a frame and a message, pods and their labels, seconds of each step; one call at a time.
//! *On restart*: connected and registered anew. *On overload*: calls wait in the socket, and the runtime gives up on a plugin that is late.
//!
//! Source: containerd/nri, `pkg/api/api.proto` and `pkg/net/multiplex`; containerd/ttrpc, `PROTOCOL.md`.

mod connection;
mod messages;
mod mux;
mod plugin;
mod pods;
mod ttrpc;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::plugin::Plugin;
pub(crate) use self::pods::Pods;

/// Where runtimes serve NRI by default.
pub const USUAL_SOCKET: &str = "/var/run/nri/nri.sock";

/// First wait before the runtime is tried again.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest: what a runtime that is back starts meanwhile has no hook by us.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Whose the runtime is.
const RUNTIMES_UID: u32 = 0;

/// The root of whoever executes hooks: the runtime is a process of the host.
const HOST: &str = "/proc/1/root";

/// Where the runtime is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NriSocket {
    /// At [`USUAL_SOCKET`], where one is there.
    Auto,
    /// Here, and that nobody serves it is said.
    At(PathBuf),
}

impl NriSocket {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Auto => Path::new(USUAL_SOCKET),
            Self::At(path) => path,
        }
    }

    /// Whether a socket is there; whether somebody serves it shows when it is connected to.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|there| there.file_type().is_socket())
    }
}

/// How a node is a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NriConfig {
    /// The runtime's socket.
    pub socket: NriSocket,
    /// What is added as hook: `palisade` or `palisade-hook`, by its path on the host.
    pub program: PathBuf,
}

/// Whether the runtime, on the host, can execute this program.
///
/// # Errors
/// Why not, in words.
pub fn executable_on_host(program: &Path) -> Result<(), String> {
    let Ok(below) = program.strip_prefix("/") else { return Err(format!("{} is no absolute path", program.display())) };
    // Who may load kernel programs and yet not look at init is in no container of the host's: then its own root is meant.
    let is_barred = fs::metadata(HOST).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    match fs::metadata(Path::new(if is_barred { "/" } else { HOST }).join(below)) {
        Ok(there) if there.is_file() && there.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("{} is not a program", program.display())),
        Err(error) => Err(format!("{} on the host: {error}", program.display())),
    }
}

/// A plugin that stays registered as far as the runtime allows; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Nri {
    /// Why hooks are not added; `None` while nothing is wanting.
    lacking: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Nri {
    /// Begins to register. `hook_socket` is where the added hook asks.
    pub(crate) fn start(config: NriConfig, hook_socket: &Path, pods: Pods) -> Self {
        let (says, lacking) = watch::channel(None);
        let plugin = Plugin::new(&config.program, hook_socket, pods);
        Self { lacking, task: tokio::spawn(follow(config, plugin, says)) }
    }

    /// The next change of what is wanting. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Option<String> {
        if self.lacking.changed().await.is_err() {
            // Its task is over, which only a bug makes it; said once before.
            std::future::pending::<()>().await;
        }
        self.lacking.borrow_and_update().clone()
    }
}

impl Drop for Nri {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Registers, serves, and again after each end.
async fn follow(config: NriConfig, mut plugin: Plugin, says: watch::Sender<Option<String>>) {
    let began = Instant::now();
    let (mut wait, mut was_registered, mut failed) = (RETRY_MIN, false, 0_u64);
    loop {
        if config.socket != NriSocket::Auto || was_registered || config.socket.is_there() {
            let registered = || {
                say(&says, None);
            };
            let (ended, served) = attempt(&config, &mut plugin, registered).await;
            failed += 1;
            was_registered |= served;
            wait = if served { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
            let lacking = format!(
                "NRI at {}: {ended}: what the runtime creates gets no hook by this node until it is registered again ({failed} failures; {})",
                config.socket.path().display(),
                plugin.counts(),
            );
            say(&says, Some(lacking));
        }
        sleep(jittered(wait, began.elapsed())).await;
    }
}

/// Why it ended, and whether it was registered until then.
async fn attempt(config: &NriConfig, plugin: &mut Plugin, registered: impl Fn()) -> (String, bool) {
    if let Err(reason) = executable_on_host(&config.program) {
        return (format!("no hook to add ({reason}): name a program of the host with --nri-hook"), false);
    }
    let mut served = false;
    let ended = connection::serve(config.socket.path(), RUNTIMES_UID, plugin, || {
        served = true;
        registered();
    })
    .await;
    (ended.to_string(), served)
}

fn say(says: &watch::Sender<Option<String>>, lacking: Option<String>) {
    if let Some(reason) = &lacking {
        tracing::warn!(%reason, "no hooks by NRI");
    }
    says.send_if_modified(|now| {
        let modified = *now != lacking;
        *now = lacking;
        modified
    });
}

/// Up to a quarter more, by the microseconds that went by: nodes whose runtimes went together (an upgrade of all) do not come together.
fn jittered(wait: Duration, passed: Duration) -> Duration {
    wait + wait / 4 * (passed.subsec_micros() % 256) / 256
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
