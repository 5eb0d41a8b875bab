//! The node's side: starts the responder, tells it what to hold, and replaces it when it is gone.
//!
//! Invariant: the journal is what the responder must know. Every call changes the journal only after the responder has agreed,
//! and a new responder is told all of the journal before it counts as there; so a restart never loses a policy, and never
//! resurrects one. Between a death and the end of the replay the kernel permits: that time is measured and shown.
//!
//! Decision: its own watching thread, not a timer of an actor: the death is seen within a millisecond through a pidfd, and a
//! responder that hangs is killed, for killing it frees who waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::{
    blob::Blob,
    record::PRODUCER_USER,
    responder::{MAX_FRAME, Request, VERSION, decode_reply, encode_request},
};
use palisade_world::{EnforcementError, Gap, Membership};

use super::{
    counters::{Counters, read},
    places::{self, Places},
    records::{RecordAccount, Records},
    sys,
};

/// A reply takes microseconds, a blob of 8 MiB some 50 ms. After this long the responder is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a living responder is asked whether it moves.
const WATCH_MS: u32 = 1000;
/// Records that the socket holds while nobody reads: about 4,000 of 250 bytes with their bookkeeping.
const RECORD_SOCKET_BYTES: i32 = 4 << 20;
/// Pauses between starts that fail, doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

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

/// Why the responder could not be started.
#[derive(Debug, thiserror::Error)]
#[error("fanotify responder: {what}: {source}")]
pub struct StartError {
    /// Which operation.
    pub what: &'static str,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

fn starting(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError { what, source }
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

#[derive(Debug)]
struct Shared {
    config: ResponderConfig,
    state: Mutex<State>,
    account: Arc<RecordAccount>,
    stopping: AtomicBool,
    impairment: Impairment,
}

/// What is missing now, told without the lock: that is held for seconds while a responder is replaced, or does not answer.
#[derive(Debug, Default)]
struct Impairment {
    absent: AtomicBool,
    unrestored: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    journal: BTreeMap<Slot, Entry>,
    starts: u32,
    restarts: u64,
    absent_nanos: u64,
    /// Since when there is none, by the clock of records: until the next one stands, failed attempts and pauses included.
    absent_since: Option<u64>,
    /// Containers of which the present responder could not be told all.
    unrestored: BTreeSet<Slot>,
}

impl State {
    fn absent_nanos(&self) -> u64 {
        self.absent_nanos + self.absent_since.map_or(0, |since| sys::boot_nanos().saturating_sub(since))
    }
}

/// What a new responder has to be told of a slot.
#[derive(Debug, Clone)]
struct Entry {
    membership: Membership,
    /// The process whose mounts are the workload's, and the table learnt from it.
    learnt: Option<(u32, Arc<Vec<u8>>)>,
    policy: Option<(Generation, u32, Arc<Blob>)>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Shared with the watching thread: a copy of the descriptor could fail, and a process that cannot be watched is no dead one.
    pidfd: Arc<OwnedFd>,
    socket: OwnedFd,
    counters: Arc<Counters>,
    next: u32,
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

    /// Makes the cgroup's tasks, now and later, the slot's, and watches the file systems that are there already.
    /// Returns what of the container is not watched. Admitted again, a cgroup keeps its policy and its mount table.
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
            None => Entry { membership: membership.clone(), learnt: None, policy: None },
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

    /// Takes the mount table of a container that runs, and watches its volumes. The responder has learnt the table itself if
    /// it saw the container's first exec. Returns what is not watched.
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

    /// Puts a policy in force, or takes it away. `policy` is its number in records.
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
        state.running(slot)?.tell_policy(&entry)?;
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

    /// What it does not hold at this moment that it should. Waits for no lock.
    #[must_use]
    pub fn impairments(&self) -> Vec<Gap> {
        let impairment = &self.shared.impairment;
        let gap = |what: &str, reason: String| Gap { what: what.to_owned(), reason };
        let absent = impairment.absent.load(Ordering::SeqCst).then(|| {
            let reason =
                "the fanotify responder is being replaced: opens and execs are permitted until the next one stands";
            gap("process, file", reason.to_owned())
        });
        let unrestored = match impairment.unrestored.load(Ordering::SeqCst) {
            0 => None,
            containers => {
                let reason =
                    format!("containers held less well than before the fanotify responder was replaced: {containers}");
                Some(gap("process, file of some containers", reason))
            }
        };
        absent.into_iter().chain(unrestored).collect()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(mut running) = self.shared.state().running.take() {
            running.retire();
        }
        // It wakes within WATCH_MS at the latest; at once where its pidfd polls.
        if let Some(watcher) = self.watcher.take() {
            let _panicked = watcher.join();
        }
    }
}

fn refused(slot: Slot, what: &'static str, error: &io::Error) -> EnforcementError {
    EnforcementError::Refused { slot, what, reason: error.to_string() }
}

fn unreachable(slot: Slot, reason: impl std::fmt::Display) -> EnforcementError {
    EnforcementError::Responder { slot, reason: format!("{reason}") }
}

impl State {
    fn running(&mut self, slot: Slot) -> Result<&mut Running, EnforcementError> {
        self.running.as_mut().ok_or_else(|| unreachable(slot, "it is being replaced"))
    }
}

impl Running {
    fn call(&mut self, slot: Slot, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), EnforcementError> {
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        let frame = encode_request(number, request);
        sys::send_with_fds(self.socket.as_fd(), &frame, fds).map_err(|error| unreachable(slot, error))?;
        let mut buffer = [0; MAX_FRAME];
        loop {
            let (len, _) =
                sys::receive(self.socket.as_fd(), &mut buffer, true).map_err(|error| unreachable(slot, error))?;
            if len == 0 {
                return Err(unreachable(slot, "it has ended"));
            }
            let (answered, result) = decode_reply(&buffer[..len]).map_err(|error| unreachable(slot, error))?;
            // An older number is the late answer to a call that gave up waiting.
            if answered == number {
                return result.map_err(|reason| EnforcementError::Refused { slot, what: "fanotify responder", reason });
            }
        }
    }

    /// Tells it the journal; returns of which containers it could not be told all.
    ///
    /// What fails for one container (it has ended, a volume cannot be marked) leaves the others their policy: only a responder
    /// that is gone or silent ends the replay, for then there is nobody to hold any of them.
    fn tell_all(&mut self, journal: &BTreeMap<Slot, Entry>) -> Result<BTreeSet<Slot>, EnforcementError> {
        let mut unrestored = BTreeSet::new();
        for (slot, entry) in journal {
            let admitted = passed_over(self.tell_admission(entry))?;
            // The container may have ended meanwhile: then it has no mounts to name and will be released.
            let learnt = entry.learnt.is_none() || passed_over(self.tell_mounts(entry))?;
            let installed = passed_over(self.tell_policy(entry))?;
            if !(admitted && learnt && installed) {
                unrestored.insert(*slot);
            }
        }
        Ok(unrestored)
    }

    fn tell_admission(&mut self, entry: &Entry) -> Result<Vec<Gap>, EnforcementError> {
        let membership = &entry.membership;
        let slot = membership.slot;
        let (Some(cgroup), Some(path)) = (membership.cgroup, &membership.cgroup_path) else {
            return Ok(host_gap());
        };
        let path = path.as_os_str().as_bytes().to_vec();
        let running = entry.learnt.is_some();
        self.call(slot, &Request::Admit { slot: slot.0, cgroup: cgroup.0, running, path }, &[])?;
        let found = match (membership.pid, &membership.root) {
            (0, None) => Ok(Places::default()),
            (0, Some(root)) => places::of_root(root),
            (pid, root) => places::of_process(pid, root.as_deref()),
        };
        match found {
            Ok(places) => self.tell_places(slot, places),
            // Told anew for a container that has ended meanwhile.
            Err(error) if running && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(refused(slot, "finding its file systems", &error)),
        }
    }

    fn tell_mounts(&mut self, entry: &Entry) -> Result<Vec<Gap>, EnforcementError> {
        let slot = entry.membership.slot;
        let Some((pid, text)) = &entry.learnt else { return Ok(Vec::new()) };
        let places = places::of_process(*pid, entry.membership.root.as_deref());
        let places = places.map_err(|error| refused(slot, "finding its file systems", &error))?;
        let live = places::live(*pid).map_err(|error| refused(slot, "mountinfo", &error))?;
        let table = sys::memfd(c"palisade-mount-table", text).map_err(|error| refused(slot, "memfd_create", &error))?;
        let gaps = self.tell_places(slot, places)?;
        self.call(slot, &Request::Learn { slot: slot.0 }, &[live.mountinfo.as_fd(), live.root.as_fd(), table.as_fd()])?;
        Ok(gaps)
    }

    fn tell_places(&mut self, slot: Slot, places: Places) -> Result<Vec<Gap>, EnforcementError> {
        for place in &places.watched {
            self.call(slot, &Request::Mark { slot: slot.0, keep: place.keep }, &[place.fd.as_fd()])?;
        }
        Ok(places.gaps)
    }

    fn tell_policy(&mut self, entry: &Entry) -> Result<(), EnforcementError> {
        let slot = entry.membership.slot;
        if entry.membership.cgroup.is_none() {
            return Ok(());
        }
        let Some((generation, policy, blob)) = &entry.policy else {
            let request = Request::Install { slot: slot.0, generation: 0, policy: 0, present: false };
            return self.call(slot, &request, &[]);
        };
        let memory =
            sys::memfd(c"palisade-blob", blob.content()).map_err(|error| refused(slot, "memfd_create", &error))?;
        let request = Request::Install { slot: slot.0, generation: generation.0, policy: *policy, present: true };
        self.call(slot, &request, &[memory.as_fd()])
    }

    /// Ends it in order; kills it where it does not end in time. Its control thread may well answer while the other one is
    /// stuck, and then processes wait for an answer as long as it lives.
    fn retire(&mut self) {
        let told = self.call(Slot::HOST, &Request::Retire, &[]).is_ok();
        let timeout = u32::try_from(REPLY_TIMEOUT.as_millis()).unwrap_or(WATCH_MS);
        let ended = || sys::poll([(self.pidfd.as_fd(), libc::POLLIN)], Some(timeout)).is_ok_and(|[events]| events != 0);
        if !told || !ended() {
            self.kill();
        }
        self.reap();
    }

    fn kill(&self) {
        // Only fails where it has ended already.
        let _ended = sys::kill(self.pidfd.as_fd());
    }

    fn reap(&mut self) {
        let _status = self.child.wait();
    }
}

/// Whether a part of the journal was told; an error only where the responder itself is gone.
fn passed_over<T>(told: Result<T, EnforcementError>) -> Result<bool, EnforcementError> {
    match told {
        Ok(_) => Ok(true),
        Err(error @ EnforcementError::Responder { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "a container is not held as before its responder ended");
            Ok(false)
        }
    }
}

fn host_gap() -> Vec<Gap> {
    let reason = "the host's own file systems are never watched by fanotify";
    vec![Gap { what: "host policies for process and file".to_owned(), reason: reason.to_owned() }]
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single assignment after the responder agreed: a panic leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is missing of the slot any more: it is gone, or another's.
    fn restored(&self, state: &mut State, slot: Slot) {
        state.unrestored.remove(&slot);
        self.impairment.unrestored.store(state.unrestored.len(), Ordering::SeqCst);
    }

    /// Starts one and tells it the journal.
    fn start(&self, state: &mut State) -> Result<Running, StartError> {
        let (mine, its) = sys::seqpacket_pair(1 << 17).map_err(starting("socketpair"))?;
        let (records, records_in) = sys::seqpacket_pair(RECORD_SOCKET_BYTES).map_err(starting("record socket"))?;
        sys::set_receive_timeout(mine.as_fd(), REPLY_TIMEOUT).map_err(starting("timeout"))?;
        let counters = Arc::new(Counters::new().map_err(starting("counters"))?);
        let mut child = Command::new(&self.config.program)
            .args(&self.config.arguments)
            .stdin(Stdio::from(its))
            .current_dir("/")
            // Its own group: Ctrl-C at the node's terminal is for the node, which ends the responder in order.
            .process_group(0)
            .spawn()
            .map_err(starting("spawn"))?;
        let pidfd = match sys::pidfd_open(child.id()) {
            Ok(pidfd) => Arc::new(pidfd),
            Err(error) => {
                let _ended = child.kill();
                let _status = child.wait();
                return Err(starting("pidfd_open")(error));
            }
        };
        let mut running = Running { child, pidfd, socket: mine, counters: Arc::clone(&counters), next: 0 };
        let producer = PRODUCER_USER.wrapping_add(state.starts);
        state.starts += 1;
        let told = running.greet(&self.config, producer, &records_in).and_then(|()| running.tell_all(&state.journal));
        match told {
            Ok(unrestored) => {
                self.impairment.unrestored.store(unrestored.len(), Ordering::SeqCst);
                state.unrestored = unrestored;
            }
            Err(error) => {
                running.kill();
                running.reap();
                return Err(starting("greeting")(io::Error::other(error)));
            }
        }
        self.account.add(producer, records, counters);
        Ok(running)
    }

    /// Until the responder is to end: replaces one that died or hangs.
    fn watch(&self) {
        let mut backoff = BACKOFF.0;
        let mut before = (0, 0);
        while !self.stopping.load(Ordering::SeqCst) {
            let pidfd = self.state().running.as_ref().map(|running| Arc::clone(&running.pidfd));
            if let Some(pidfd) = pidfd {
                let ended =
                    sys::poll([(pidfd.as_fd(), libc::POLLIN)], Some(WATCH_MS)).is_ok_and(|[events]| events != 0);
                if self.stopping.load(Ordering::SeqCst) || (!ended && self.moves(&mut before)) {
                    continue;
                }
            }
            if self.replace() {
                (backoff, before) = (BACKOFF.0, (0, 0));
            } else {
                std::thread::sleep(backoff);
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }

    /// Whether the responder answers its socket, and its events since the last look.
    fn moves(&self, before: &mut (u64, u64)) -> bool {
        let mut state = self.state();
        let Some(running) = state.running.as_mut() else { return true };
        let page = running.counters.page();
        let now = (read(&page.taken), read(&page.answered));
        let stands = now.0 > now.1 && now.1 == before.1 && now.0 == before.0;
        *before = now;
        !stands && running.call(Slot::HOST, &Request::Ping, &[]).is_ok()
    }

    /// Ends what is left of the old one, starts a new one. The time without one counts.
    fn replace(&self) -> bool {
        let mut state = self.state();
        if self.stopping.load(Ordering::SeqCst) {
            return true;
        }
        if let Some(mut old) = state.running.take() {
            self.impairment.absent.store(true, Ordering::SeqCst);
            state.absent_since = Some(sys::boot_nanos());
            old.kill();
            old.reap();
            tracing::warn!(
                pid = old.child.id(),
                "fanotify responder is gone: opens and execs are permitted until the next one stands"
            );
        }
        match self.start(&mut state) {
            Ok(running) => {
                state.absent_nanos = state.absent_nanos();
                state.absent_since = None;
                self.impairment.absent.store(false, Ordering::SeqCst);
                tracing::info!(pid = running.child.id(), "fanotify responder replaced");
                state.running = Some(running);
                state.restarts += 1;
                true
            }
            Err(error) => {
                tracing::error!(%error, "fanotify responder does not start");
                false
            }
        }
    }
}

impl Running {
    fn greet(&mut self, config: &ResponderConfig, producer: u32, records: &OwnedFd) -> Result<(), EnforcementError> {
        let counters = Arc::clone(&self.counters);
        let request = Request::Hello {
            version: VERSION,
            producer,
            refuse_on_failure: config.fail_mode == FailMode::Refuse,
            unattended_seconds: u32::try_from(config.unattended.as_secs()).unwrap_or(u32::MAX),
        };
        self.call(Slot::HOST, &request, &[records.as_fd(), counters.memory()])
    }
}
