//! One running node: adapters, the tree of actors, the admin endpoint, and the order in which they start and stop.
//! The tree is that of [`palisade_assembly`], and beside it `peers`, with the links on a thread of its own, where links are asked for.

mod absence;
mod bound;
pub mod kernel;
mod links;
mod metrics;
mod nodes;
mod outputs;
mod recording;
pub mod reload;
mod tree;
pub mod view;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use palisade_admin::{AdminAddress, Bound, Token};
use palisade_assembly::Open;
use palisade_kernel::{Attendant, Claim};
use palisade_supervision::{Here, Watchdog};
use palisade_world::{Devices, Enforcement, RecordSource, RefusedProgram};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::reload::ReloadConfiguration;
use crate::{arguments::NodeArguments, configuration::command_line::CommandLine, log::LogLevel};

/// What a node runs with, and how it is changed while it does.
pub struct Configured {
    /// At the start.
    pub arguments: NodeArguments,
    /// Where they come from.
    pub line: CommandLine,
    /// The runtime's own log.
    pub level: LogLevel,
}

/// How long a thread may be silent before the process exits and its service manager starts it again. Compiling is bounded to less.
const STALL: Duration = Duration::from_secs(30);

/// Exit status of a node of which a thread stalled.
const STALLED: i32 = 70;

/// The kernel, as the node is handed it.
pub struct Kernel {
    /// Holds workloads to policies.
    pub enforcement: Arc<dyn Enforcement>,
    /// Programs that the kernel did not take: those that decide, and those that only see.
    pub refused: Vec<RefusedProgram>,
    /// Authorizes USB devices.
    pub devices: Arc<dyn Devices>,
    /// Opens the stream of records.
    pub records: Open<Box<dyn RecordSource>>,
    /// Bytes of all record rings together, which this process maps.
    pub rings_bytes: u64,
    /// Gives the signs of life by which policy stands; the last one when it is dropped.
    pub attendant: Attendant,
    /// Takes away what is in the kernel, at an authorised stop.
    pub unload: Box<dyn FnOnce() -> anyhow::Result<()>>,
}

/// Runs a node until a signal or until its tree gives up; `open` loads what the kernel takes.
///
/// What can fail for a wrong command line (sockets, ports, the token, pins that are another node's) comes before the kernel is touched:
/// a node that does not start leaves nothing in force.
///
/// # Errors
/// What keeps it from starting, in words.
pub async fn run(
    configured: Configured,
    open: impl FnOnce(&NodeArguments) -> anyhow::Result<Kernel>,
) -> anyhow::Result<ExitCode> {
    // First of all: a signal while the node starts is kept, and answered with an ordered stop.
    let mut signals = Signals::hear()?;
    let arguments = configured.arguments.clone();
    let _claim = Claim::take(&arguments.pin_root)?;
    let bound = bind(&arguments)?;
    let bound_links = links::bind(&arguments.link)?;
    let kernel = match open(&arguments) {
        Err(error) if kernel::was_told_to_stop(&error) => {
            if !arguments.keep_enforcing {
                palisade_kernel::unload(&arguments.pin_root).context("what is in the kernel is not taken away")?;
            }
            tracing::info!("stopped before it had started");
            return Ok(ExitCode::SUCCESS);
        }
        opened => opened.context("kernel")?,
    };
    let running_links = bound_links.map(|links| links.start(&tree::node_name(&arguments))).transpose()?;
    let mut bound_rows = bound::rows(arguments.max_workloads, kernel.rings_bytes, arguments.trace_memory_bytes);
    bound_rows.extend(running_links.as_ref().map(links::RunningLinks::row));
    bound::say(&bound_rows);
    let places = tree::threads().context("cannot start threads")?;
    let planted = tree::plant(configured, &kernel, &places, running_links.as_ref());
    // This thread as well: supervisors, health and the admin endpoint are on it.
    let of_links = running_links.iter().map(links::RunningLinks::place).collect();
    let watched = [places.all(), of_links, vec![Here::beating()]].concat();
    let watchdog = Watchdog::start(&watched, STALL, |stall| {
        let (thread, actor, seconds) = (&stall.place, stall.actor.as_deref().unwrap_or("none"), stall.silent.as_secs());
        tracing::error!(%thread, %actor, seconds, "a thread does not turn its loop: exit, to be started again");
        std::process::exit(STALLED);
    });
    let running = planted.supervisor.start(|gave_up| tracing::error!(%gave_up, "the tree gave up")).await;
    let running = Arc::new(
        running.map_err(|gave_up| anyhow::anyhow!("{} did not start: {}", gave_up.child, gave_up.last_error))?,
    );
    if let Some(links) = &running_links {
        links.show(&running);
    }
    let end_recording = planted.askers.end_recording.clone();
    let nodes = nodes::AllNodes {
        own: tree::node_name(&arguments),
        asker: planted.askers.nodes.clone(),
        links: running_links.as_ref().map(links::RunningLinks::links),
    };
    let held = view::Held { enforcement: Arc::clone(&kernel.enforcement), refused: kernel.refused };
    let view = view::View::new(Arc::clone(&running), planted.askers, held, bound_rows, nodes);
    let admin = bound.serve(Arc::new(view))?;
    tracing::info!(
        socket = %arguments.admin_socket.display(),
        loopback = admin.loopback.map(|address| address.to_string()),
        token = arguments.admin_address.map(|_| arguments.admin_token_file.display().to_string()),
        "admin endpoint"
    );
    let gave_up = loop {
        tokio::select! {
            biased;
            told = signals.next() => match told {
                Told::Stop => break None,
                // Where no room is, one waits that will read the file as it is then.
                Told::Reload => drop(planted.reload.try_send(ReloadConfiguration)),
            },
            gave_up = running.gave_up() => break Some(gave_up),
        }
    };
    if let Some(recorder) = end_recording {
        recording::end(&recorder).await;
    }
    admin.stop().await;
    let report = running.stop().await;
    if let Some(links) = &running_links {
        links.close().await;
    }
    if !report.abandoned.is_empty() {
        tracing::warn!(actors = %report.abandoned.join(", "), "left behind at the stop");
    }
    if let Some(gave_up) = gave_up {
        // What is pinned stands on; the service manager starts the node again.
        anyhow::bail!("{} failed too often: {}", gave_up.child, gave_up.last_error);
    }
    // The last sign of life: from here on what stays in force stands unattended.
    drop(kernel.attendant);
    // No actor is left, and this thread turns no loop while a policy of SELinux is made and loaded.
    drop(watchdog);
    if !arguments.keep_enforcing {
        (kernel.unload)().context("what is in the kernel is not taken away")?;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What a signal says.
enum Told {
    Stop,
    Reload,
}

/// What a node hears: SIGTERM and SIGINT stop it. SIGHUP reloads its configuration, unless it comes because the node's terminal is gone: then
/// it stops it. One that was ignored when the node began (nohup) stays ignored.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    had_terminal: bool,
}

impl Signals {
    fn hear() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            hangup: (!ignores_hangup()).then(|| signal(SignalKind::hangup())).transpose().context("SIGHUP")?,
            had_terminal: has_terminal(),
        })
    }

    async fn next(&mut self) -> Told {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = hangup => if self.had_terminal && !has_terminal() { Told::Stop } else { Told::Reload },
        }
    }
}

/// Whether there is a controlling terminal. The kernel takes it from the session before it sends SIGHUP for its end, so that a `kill -HUP`
/// is told from a terminal that went.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// SIGHUP is signal 1, the lowest bit of the mask.
fn ignores_hangup() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & 1 == 1)
}

/// Makes the sockets' directories and takes the admin endpoint's addresses.
fn bind(arguments: &NodeArguments) -> anyhow::Result<Bound> {
    for file in [&arguments.admin_socket, &arguments.hook_socket, &arguments.admin_token_file] {
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
    }
    let token = |address| Token::at(&arguments.admin_token_file).map(|token| (address, token));
    let loopback = arguments.admin_address.map(token).transpose()?;
    Ok(AdminAddress { socket: arguments.admin_socket.clone(), loopback }.bind()?)
}
