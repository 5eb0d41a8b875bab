//! The node's side: starts the responder, tells it what to hold, and replaces it when it is gone.
//!
//! Invariant: the journal is what the responder must know. Every call changes the journal only after the responder has agreed,
//! and a new responder is told all of the journal before it counts as there; so a restart never loses a policy, and never
//! resurrects one. Between a death and the end of the replay the kernel permits: that time is measured and shown.
//!
//! Decision: its own watching thread, not a timer of an actor: the death is seen within a millisecond through a pidfd, and a
//! responder that hangs is killed, for killing it frees who waits.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::{blob::Blob, responder::Request};
use palisade_world::{EnforcementError, Gap, Membership};

pub use super::watch::StartError;
use super::{
    counters::read,
    places,
    records::Records,
    running::{Entry, refused},
    sys,
    watch::{Impairment, Shared, starting},
};

/// What happens to an act that cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailMode {
    /// It is refused where the policy could have refused it.
    #[default]
    Refuse,
    /// It happens, with a record.
    Permit,
}

/// How the responder is run.
#[derive(Debug, Clone)]
pub struct ResponderConfig {
    /// The program: this binary.
    pub program: PathBuf,
    /// Its arguments: the hidden subcommand.
    pub arguments: Vec<OsString>,
    /// For acts that cannot be decided.
    pub fail_mode: FailMode,
    /// How long policy stands when the node has gone without a word. An orderly end takes it away at once.
    pub unattended: Duration,
}

impl ResponderConfig {
    /// The running binary's own subcommand `responder`.
    #[must_use]
    pub fn this_binary() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("responder")],
            fail_mode: FailMode::default(),
            unattended: Duration::ZERO,
        }
    }
}

/// How the responder is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponderHealth {
    /// Its process.
    pub pid: u32,
    /// How often it was replaced.
    pub restarts: u64,
    /// For how long, all together, there was none (also now), in nanoseconds: acts of that time were permitted by the kernel.
    pub absent_nanos: u64,
    /// Containers that the present one holds less well than the one before: it could not be told all of them.
    pub unrestored: u64,
    /// Events read by the present one.
    pub taken: u64,
    /// Events answered by the present one.
    pub answered: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Decisions of the present one that panicked.
    pub panics: u64,
    /// Acts on files without a known name.
    pub unnamed: u64,
    /// Events that the kernel refused itself because the file could not be opened for the responder; at least so many, for the
    /// kernel does not tell of one that it met behind others.
    pub unreadable: u64,
}

/// The responder, as the enforcement adapter holds it. Dropping it ends the responder, and with it all denials.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts the responder and waits until it answers.
    ///
    /// # Errors
    /// See [`StartError`]; among others where fanotify is not permitted.
    pub fn start(config: ResponderConfig) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            config,
            state: Mutex::default(),
            account: Arc::default(),
            stopping: AtomicBool::new(false),
            impairment: Impairment::default(),
        });
        {
            let mut state = shared.state();
            let running = shared.start(&mut state)?;
            state.running = Some(running);
        }
        let watched = Arc::clone(&shared);
        // Whole before the thread: dropped on an error, it ends the process that was just started.
        let mut responder = Self { shared, watcher: None };
        let watcher = std::thread::Builder::new().name("fanotify-watch".to_owned()).spawn(move || watched.watch());
        responder.watcher = Some(watcher.map_err(starting("watching thread"))?);
        Ok(responder)
    }

    /// Makes the cgroup's tasks, now and later, the slot's; its file systems are watched from its first policy on. Returns what of
    /// the container cannot be watched. Admitted again, a cgroup keeps its policy and its mount table.
    ///
    /// # Errors
    /// [`EnforcementError`]; nothing is left half done, and what was known before stays.
    pub fn admit(&self, membership: &Membership) -> Result<Vec<Gap>, EnforcementError> {
        let slot = membership.slot;
        let mut state = self.shared.state();
        // Whoever is admitted again is still held: what is known of the same cgroup stays.
        let known = state.journal.get(&slot).filter(|known| known.membership.cgroup == membership.cgroup).cloned();
        let entry = match &known {
            Some(known) => Entry { membership: membership.clone(), ..known.clone() },
            None => Entry { membership: membership.clone(), learnt: None, policy: None, watched: false },
        };
        let gaps = state.running(slot).and_then(|running| running.tell_admission(&entry));
        if gaps.is_ok() {
            state.journal.insert(slot, entry);
            if known.is_none() {
                self.shared.restored(&mut state, slot);
            }
        } else if known.is_none() {
            // The half that was done is undone; a responder that is gone has nothing to undo.
            if let Ok(running) = state.running(slot) {
                let _gone_already = running.call(slot, &Request::Release { slot: slot.0 }, &[]);
            }
            state.journal.remove(&slot);
        }
        gaps
    }

    /// Takes the mount table of a container that runs, and watches its volumes if it has had a policy. The responder has learnt
    /// the table itself if it saw the container's first exec. Returns what cannot be watched.
    ///
    /// # Errors
    /// [`EnforcementError`]; paths are named as they are then.
    pub fn learn_mounts(&self, slot: Slot, pid: u32) -> Result<Vec<Gap>, EnforcementError> {
        let mut state = self.shared.state();
        let mut entry = state.journal.get(&slot).cloned().ok_or(EnforcementError::UnknownSlot(slot))?;
        if entry.learnt.as_ref().is_none_or(|(known, _)| *known != pid) {
            let text = places::mountinfo(pid).map_err(|error| refused(slot, "mountinfo", &error))?;
            entry.learnt = Some((pid, Arc::new(text)));
        }
        let gaps = state.running(slot)?.tell_mounts(&entry)?;
        state.journal.insert(slot, entry);
        Ok(gaps)
    }

    /// Puts a policy in force, or takes it away. Before the first one the file systems are marked, and stay so. `policy` is its
    /// number in records.
    ///
    /// # Errors
    /// [`EnforcementError`]; the previous policy stays in force.
    pub fn install(
        &self,
        slot: Slot,
        generation: Generation,
        policy: Option<(u32, &Arc<Blob>)>,
    ) -> Result<(), EnforcementError> {
        let mut state = self.shared.state();
        let mut entry = state.journal.get(&slot).cloned().ok_or(EnforcementError::UnknownSlot(slot))?;
        entry.policy = policy.map(|(number, blob)| (generation, number, Arc::clone(blob)));
        let running = state.running(slot)?;
        if entry.policy.is_some() && !entry.watched && entry.membership.cgroup.is_some() {
            entry.watched = true;
            running.tell_watch(&entry)?;
        }
        running.tell_policy(&entry)?;
        state.journal.insert(slot, entry);
        Ok(())
    }

    /// Forgets the slot. Calling it again is harmless.
    ///
    /// # Errors
    /// [`EnforcementError::Responder`]; the slot is forgotten all the same once the responder is replaced.
    pub fn release(&self, slot: Slot) -> Result<(), EnforcementError> {
        let mut state = self.shared.state();
        state.journal.remove(&slot);
        self.shared.restored(&mut state, slot);
        state.running(slot)?.call(slot, &Request::Release { slot: slot.0 }, &[])
    }

    /// The responder's records. One reader at a time.
    #[must_use]
    pub fn records(&self) -> Records {
        Records::new(Arc::clone(&self.shared.account))
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> ResponderHealth {
        let state = self.shared.state();
        let mut health = ResponderHealth {
            restarts: state.restarts,
            absent_nanos: state.absent_nanos(),
            unrestored: u64::try_from(state.unrestored.len()).unwrap_or(u64::MAX),
            ..ResponderHealth::default()
        };
        if let Some(running) = &state.running {
            let page = running.counters.page();
            health.pid = running.child.id();
            health.taken = read(&page.taken);
            health.answered = read(&page.answered);
            health.refused = read(&page.refused);
            health.panics = read(&page.panics);
            health.unnamed = read(&page.unnamed);
            health.unreadable = read(&page.unreadable);
        }
        health
    }

    /// What it does not hold at this moment that it should, or did not a moment ago. Waits for no lock.
    #[must_use]
    pub fn impairments(&self) -> Vec<Gap> {
        self.shared.impairment.gaps(sys::boot_nanos())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(mut running) = self.shared.state().running.take() {
            running.retire();
        }
        // It wakes within a second at the latest; at once where its pidfd polls or it pauses.
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            let _panicked = watcher.join();
        }
    }
}
