//! USB devices of the host, by the kernel's authorization of each (`Documentation/usb/authorization.rst`): [`UsbDevices`] is the port's
//! implementation.
//!
//! A thread of its own hears the kernel's events ([`uevents`]) and looks at the devices ([`keeper`]); it runs while rules are held. What the
//! kernel did before is kept in a file below `/run` ([`memory`]): after a crash no device is authorized by itself until the next node judges,
//! and `palisade unload` gives everything back.
//!
//! Invariant: [`UsbDevices::hold`] returns once nothing is authorized by itself any more, or says why not in [`UsbDevices::seen`]. It waits for
//! no driver longer than [`PATIENCE`].
//!
//! Bounds: [`JUDGED`] devices wait to be told, what finds no room is counted; a look is as long as what is plugged in.

mod keeper;
mod memory;
mod tree;
mod uevents;

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use palisade_domain::{DeviceRules, Tier};
use palisade_world::{CapabilityState, DeviceJudged, Devices, DevicesSeen, HeldFamily};

use self::{keeper::Keeper, tree::Tree, uevents::Uevents};
use crate::{
    matrix::{gap, unseen},
    sys,
};

/// Judgements that wait to be asked for.
const JUDGED: usize = 256;
/// How long [`UsbDevices::hold`] waits for a look that is under way: a driver may take its time over a device.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks where the kernel tells of nothing: an event may be lost, and a root hub may be told otherwise by somebody else.
const LOOK_EVERY_MS: u32 = 1000;

/// Where sysfs is, and where to keep what the kernel did before.
#[derive(Debug, Clone)]
pub struct UsbPaths {
    /// `/sys`.
    pub sysfs: PathBuf,
    /// A file; its directory is made.
    pub remembered: PathBuf,
}

impl UsbPaths {
    /// Those of the node with this pin root.
    #[must_use]
    pub fn of(pin_root: &Path) -> Self {
        let name = pin_root.display().to_string().trim_matches('/').replace('/', "-");
        Self { sysfs: PathBuf::from("/sys"), remembered: PathBuf::from(format!("/run/palisade/usb-{name}")) }
    }
}

/// Whether devices can be authorized here: each root hub takes the very word that it has.
pub(crate) fn try_authorization(sysfs: &Path) -> Result<(), String> {
    let tree = Tree::new(sysfs);
    let hubs = match tree.hubs() {
        Ok(hubs) => hubs,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("this kernel has no USB: /sys/bus/usb is not there".to_owned());
        }
        Err(error) => return Err(format!("/sys/bus/usb/devices: {error}")),
    };
    for hub in &hubs {
        tree.default_of(hub).and_then(|value| tree.set_default(hub, value)).map_err(|error| error.to_string())?;
    }
    tree.parameter().and_then(|value| tree.set_parameter(value)).map_err(|error| error.to_string())
}

/// How devices are held with these capabilities.
pub(crate) fn held(state: Option<&CapabilityState>) -> HeldFamily {
    match state {
        Some(CapabilityState::Available) => HeldFamily {
            tier: Tier::UsbAuthorization,
            gaps: vec![
                gap(
                    "devices that were there before",
                    "what was authorized when a policy came stays so, and is told of",
                ),
                gap(
                    "single interfaces",
                    "a device is used as a whole or not at all, by the strictest answer of its interfaces",
                ),
                gap("who writes to sysfs", "root of the host can authorize a device by hand"),
                gap("devices that come and go between two looks", "they were not authorized, and nobody tells of them"),
            ],
        },
        Some(CapabilityState::Missing(reason)) => unseen("device", reason),
        None => unseen("device", "USB was not asked for"),
    }
}

/// Gives back what a node with these paths took, which must not run any more.
///
/// # Errors
/// What the kernel says; the rest is given back all the same.
pub fn restore(paths: &UsbPaths) -> io::Result<()> {
    // The file alone says that something was taken: most machines never had one.
    if !paths.remembered.exists() {
        return Ok(());
    }
    if !Tree::new(&paths.sysfs).is_there() {
        return fs::remove_file(&paths.remembered);
    }
    Keeper::new(&paths.sysfs, &paths.remembered).give_back()
}

/// The adapter.
#[derive(Debug)]
pub struct UsbDevices {
    paths: UsbPaths,
    shared: Arc<Shared>,
    thread: Mutex<Option<Worker>>,
}

#[derive(Debug)]
struct Worker {
    /// A byte says that there is something new to do.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    looked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: Arc<DeviceRules>,
    /// How often rules were asked for, and how many of these a look has been made by.
    asked: u64,
    done: u64,
    runs: bool,
    stops: bool,
    judged: VecDeque<DeviceJudged>,
    lost: u64,
    unheld: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsbDevices {
    /// Touches nothing before there are rules to hold.
    #[must_use]
    pub fn new(paths: UsbPaths) -> Self {
        Self { paths, shared: Arc::default(), thread: Mutex::default() }
    }

    /// Looks no more. What was taken stays taken, until [`restore`] or another node.
    pub fn stop(&self) {
        self.shared.state().stops = true;
        if let Some(Worker { wake, thread }) = self.worker().take() {
            drop(wake);
            if thread.join().is_err() {
                tracing::error!("the thread that judged USB devices had panicked");
            }
        }
    }

    fn worker(&self) -> MutexGuard<'_, Option<Worker>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread look by what is wanted now; starts it where there is none.
    fn wake(&self) -> io::Result<()> {
        let mut worker = self.worker();
        let runs = std::mem::replace(&mut self.shared.state().runs, true);
        if runs && let Some(worker) = worker.as_mut() {
            // A full pipe wakes as well as one byte more.
            let _ = worker.wake.write(&[0]);
            return Ok(());
        }
        let started = self.start();
        if started.is_err() {
            self.shared.state().runs = false;
        }
        *worker = Some(started?);
        Ok(())
    }

    fn start(&self) -> io::Result<Worker> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let events = Uevents::open();
        if let Err(error) = &events {
            tracing::warn!(%error, "the kernel's events cannot be heard: USB devices wait up to a second to be judged");
        }
        let (shared, keeper) = (Arc::clone(&self.shared), Keeper::new(&self.paths.sysfs, &self.paths.remembered));
        let run = move || run(&shared, keeper, woken, events.ok());
        let thread = thread::Builder::new().name("usb".to_owned()).spawn(run)?;
        Ok(Worker { wake, thread })
    }
}

impl Devices for UsbDevices {
    fn hold(&self, rules: &Arc<DeviceRules>) {
        let asked = {
            let mut state = self.shared.state();
            let is_new = state.wanted.rules != rules.rules || state.wanted.posture != rules.posture;
            state.wanted = Arc::clone(rules);
            let nothing = rules.rules.is_empty() && !state.runs && !self.paths.remembered.exists();
            if state.stops || nothing || (!is_new && state.runs) {
                return;
            }
            state.asked += 1;
            state.asked
        };
        if let Err(error) = self.wake() {
            self.shared.state().unheld = Some(format!("no thread could be started: {error}"));
            return;
        }
        let waits = |state: &mut State| state.done < asked && state.runs;
        let state = self.shared.state();
        // Past it `seen` says that it is not in force.
        drop(self.shared.looked.wait_timeout_while(state, PATIENCE, waits));
    }

    fn seen(&self) -> DevicesSeen {
        let mut state = self.shared.state();
        let late = (state.done < state.asked && state.runs)
            .then(|| "not in force yet: the kernel still sets up a device that was authorized before".to_owned());
        DevicesSeen {
            judged: state.judged.drain(..).collect(),
            lost: std::mem::take(&mut state.lost),
            unheld: late.or_else(|| state.unheld.clone()),
        }
    }
}

impl Drop for UsbDevices {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread: a look by what is wanted, then a wait for a reason to look again. It ends when nothing is wanted and nothing is taken.
fn run(shared: &Shared, mut keeper: Keeper, mut woken: UnixStream, mut events: Option<Uevents>) {
    loop {
        let (rules, asked) = {
            let state = shared.state();
            (Arc::clone(&state.wanted), state.asked)
        };
        let looked = keeper.look(&rules);
        let mut state = shared.state();
        state.done = asked;
        state.unheld = looked.unheld;
        for judged in looked.judged {
            if state.judged.len() < JUDGED {
                state.judged.push_back(judged);
            } else {
                state.lost += 1;
            }
        }
        let is_over = state.stops || (state.wanted.rules.is_empty() && !keeper.has_taken() && state.asked == asked);
        state.runs &= !is_over;
        drop(state);
        shared.looked.notify_all();
        if is_over || !wait(&mut woken, events.as_mut()) {
            shared.state().runs = false;
            return;
        }
    }
}

/// Until there is a reason for a look; not, where nobody can give one any more.
fn wait(woken: &mut UnixStream, mut events: Option<&mut Uevents>) -> bool {
    let until = sys::boot_time() + Duration::from_millis(LOOK_EVERY_MS.into());
    loop {
        let left = until.saturating_sub(sys::boot_time());
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(LOOK_EVERY_MS);
        // Without events the first descriptor stands twice.
        let other = events.as_ref().map_or(woken.as_fd(), |events| events.as_fd());
        if let Err(error) = sys::poll([(woken.as_fd(), libc::POLLIN), (other, libc::POLLIN)], Some(left_ms))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "USB devices are judged no more");
            return false;
        }
        match woken.read(&mut [0; 64]) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) => {}
        }
        if events.as_mut().is_some_and(|events| events.drain().unwrap_or(true)) || left.is_zero() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests;
