//! The responder: its own process, for a stuck one hangs users' processes and a dead one only permits.
//!
//! Two threads. The *answering* thread (the main one) reads events, judges and answers them; a panic in a judgement is
//! caught, counted, and answered by the fail mode through the event's guard; a panic anywhere else ends the process. The
//! *control* thread serves the node: it parses blobs and sets marks outside the lock, and holds the lock only to swap.
//!
//! # Life
//! When the node goes away the responder goes on with the policies it has for the time that it was told (so that policy
//! stands while the node restarts), then ends. When the responder ends in whatever way, the kernel closes the group, permits
//! what waits, and drops the marks: no denial outlives it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use palisade_kernel_abi::{
    blob::{Blob, SizeClass},
    responder::{MAX_FRAME, Request, VERSION, decode_request, encode_reply},
};

use super::{
    counters::{Counters, count},
    group::{Events, Group},
    judge::{BlobDecides, Decide, Judge},
    mounts::MAX_MOUNTINFO_BYTES,
    reporter::Reporter,
    slots::{Live, Policy, SlotState, Slots},
    sys,
    tasks::Tasks,
};

/// Why the responder ended.
#[derive(Debug, thiserror::Error)]
#[error("fanotify responder: {what}: {source}")]
pub struct ResponderError {
    /// Which operation.
    pub what: &'static str,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ResponderError {
    move |source| ResponderError { what, source }
}

/// The process's whole life, with the node's socket as standard input: what the hidden subcommand calls.
#[must_use]
pub fn main() -> ExitCode {
    let socket = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "fanotify responder has no socket");
            return ExitCode::FAILURE;
        }
    };
    match run(socket, BlobDecides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "fanotify responder ended");
            ExitCode::FAILURE
        }
    }
}

/// Serves the node at the other end of `socket`; returns when it is told to retire, or when the node is gone for too long.
///
/// # Errors
/// What made it impossible to go on. Every waiting process is permitted then, by the kernel.
pub fn run(socket: OwnedFd, decide: impl Decide) -> Result<(), ResponderError> {
    sys::harden_process();
    // Killing the responder frees no memory worth having, and takes policy away. Refused in restricted units.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::debug!(%error, "oom_score_adj stays as it is");
    }
    let start = greet(&socket)?;
    let shared = Arc::new(Shared { group: Group::new().map_err(failed("fanotify_init"))?, slots: Mutex::default() });
    reply(socket.as_fd(), start.number, &Ok(())).map_err(failed("first reply"))?;
    let reporter = Reporter::new(start.records, start.counters, start.producer);
    let tasks = Tasks::new().map_err(failed("/proc"))?;
    let judge = Judge::new(tasks, reporter, decide, start.refuse_on_failure);
    let (ended, end) = sys::seqpacket_pair(1 << 16).map_err(failed("socketpair"))?;
    let control = Control { socket, shared: Arc::clone(&shared), unattended: start.unattended, _ended: ended };
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control.serve())
        .map_err(failed("control thread"))?;
    answer_all(&shared, judge, end.as_fd())
}

/// What both threads use.
struct Shared {
    group: Group,
    slots: Mutex<Slots>,
}

impl Shared {
    /// A panic leaves whole values behind (swaps are single assignments), so a poisoned lock is as good as any.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Start {
    number: u32,
    producer: u32,
    refuse_on_failure: bool,
    unattended: Duration,
    records: OwnedFd,
    counters: Counters,
}

fn greet(socket: &OwnedFd) -> Result<Start, ResponderError> {
    let invalid = |text: &'static str| failed("first frame")(io::Error::new(io::ErrorKind::InvalidData, text));
    let mut buffer = [0; MAX_FRAME];
    let (len, fds) = sys::receive(socket.as_fd(), &mut buffer, true).map_err(failed("first frame"))?;
    let Ok((number, Request::Hello { version: VERSION, producer, refuse_on_failure, unattended_seconds })) =
        decode_request(&buffer[..len])
    else {
        return Err(invalid("not a greeting of this version"));
    };
    let mut fds = fds.into_iter();
    let (Some(records), Some(memory)) = (fds.next(), fds.next()) else {
        return Err(invalid("two descriptors are missing"));
    };
    let counters = Counters::map(memory).map_err(failed("counters"))?;
    let unattended = Duration::from_secs(u64::from(unattended_seconds));
    Ok(Start { number, producer, refuse_on_failure, unattended, records, counters })
}

fn reply(socket: BorrowedFd<'_>, number: u32, result: &Result<(), String>) -> io::Result<()> {
    sys::send_with_fds(socket, &encode_reply(number, result), &[])
}

/// Until the control thread ends, which drops the other end of `end`.
fn answer_all<D: Decide>(shared: &Shared, mut judge: Judge<D>, end: BorrowedFd<'_>) -> Result<(), ResponderError> {
    let mut events = Events::default();
    loop {
        let ready = sys::poll([(shared.group.as_fd(), libc::POLLIN), (end, libc::POLLIN)], None);
        let [group, over] = match ready {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            ready => ready.map_err(failed("poll"))?,
        };
        if over != 0 {
            return Ok(());
        }
        if group == 0 {
            continue;
        }
        match shared.group.read(&mut events) {
            Ok(()) => answer_batch(shared, &mut judge, &mut events),
            // The file of an event could not be opened (a lease, a stale handle): the kernel has refused that event itself.
            Err(_) => count(&judge.reporter().page().unreadable),
        }
    }
}

fn answer_batch<D: Decide>(shared: &Shared, judge: &mut Judge<D>, events: &mut Events) {
    for mut event in events.drain(&shared.group) {
        count(&judge.reporter().page().taken);
        // The guard outlives the panic and answers what was set before it; what a panic leaves in the caches is looked up again.
        let judged = catch_unwind(AssertUnwindSafe(|| judge.judge(&mut shared.slots(), &mut event)));
        if judged.is_err() {
            count(&judge.reporter().page().panics);
        }
        if event.is_refused() {
            count(&judge.reporter().page().refused);
        }
        drop(event);
        count(&judge.reporter().page().answered);
    }
}

/// Serves the node.
struct Control {
    socket: OwnedFd,
    shared: Arc<Shared>,
    unattended: Duration,
    /// Dropped with the thread, which ends the answering thread.
    _ended: OwnedFd,
}

impl Control {
    fn serve(self) {
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            let (len, fds) = match sys::receive(self.socket.as_fd(), &mut buffer, true) {
                Ok((0, _)) => break,
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let (number, result, retire) = match decode_request(&buffer[..len]) {
                Ok((number, Request::Retire)) => (number, Ok(()), true),
                Ok((number, request)) => (number, self.handle(request, fds), false),
                Err(error) => (0, Err(error.to_string()), false),
            };
            let told = reply(self.socket.as_fd(), number, &result);
            if retire {
                return;
            }
            if told.is_err() {
                break;
            }
        }
        std::thread::sleep(self.unattended);
    }

    fn handle(&self, request: Request, fds: Vec<OwnedFd>) -> Result<(), String> {
        let mut fds = fds.into_iter();
        let mut next = |what: &str| fds.next().ok_or_else(|| format!("no descriptor of {what}"));
        match request {
            Request::Hello { .. } => Err("greeted before".to_owned()),
            Request::Admit { slot, cgroup, running, path } => {
                let before = self.shared.slots().admit(slot, &path, cgroup, running);
                self.unmark(before);
                Ok(())
            }
            Request::Mark { slot, keep } => self.mark(slot, next("the place")?, keep),
            Request::Learn { slot } => {
                let live = Live { mountinfo: next("mountinfo")?, root: next("its root")? };
                self.learn(slot, live, &next("the learnt table")?)
            }
            Request::Install { slot, generation, policy, present } => {
                let blob = if present { Some(read_blob(&next("the blob")?)?) } else { None };
                self.with(slot, |state| {
                    std::mem::replace(&mut state.policy, blob.map(|blob| Policy::new(blob, generation, policy)))
                })
                .map(drop)
            }
            Request::Release { slot } => {
                let released = self.shared.slots().release(slot);
                self.unmark(released);
                Ok(())
            }
            Request::Ping => {
                drop(self.shared.slots());
                Ok(())
            }
            Request::Retire => Ok(()),
        }
    }

    fn with<T>(&self, slot: u32, change: impl FnOnce(&mut SlotState) -> T) -> Result<T, String> {
        self.shared.slots().get_mut(slot).map(change).ok_or_else(|| format!("slot {slot} is not admitted"))
    }

    fn mark(&self, slot: u32, place: OwnedFd, keep: bool) -> Result<(), String> {
        self.shared.group.mark(place.as_fd()).map_err(|error| format!("fanotify_mark: {error}"))?;
        self.with(slot, |state| state.watch(place, keep))?.map_err(|error| format!("statx: {error}"))
    }

    /// Ends the watch of what was kept for a slot that is gone; a file system that another slot has as well stays watched.
    fn unmark(&self, gone: Option<SlotState>) {
        let places = gone.map(|state| state.marked).unwrap_or_default();
        if places.is_empty() {
            return;
        }
        for place in &places {
            let used = sys::status_of(place.as_fd()).is_ok_and(|here| self.shared.slots().watches(here.dev));
            if !used && let Err(error) = self.shared.group.unmark(place.as_fd()) {
                tracing::debug!(%error, "mark was gone already");
            }
        }
        // Subvolumes of btrfs are devices of their own on one file system: what was unmarked may be another slot's too.
        for place in self.shared.slots().marked() {
            if let Err(error) = self.shared.group.mark(place.as_fd()) {
                tracing::warn!(%error, "a volume that is in use cannot be marked again");
            }
        }
    }

    fn learn(&self, slot: u32, live: Live, table: &OwnedFd) -> Result<(), String> {
        let text =
            sys::read_all(table.as_fd(), MAX_MOUNTINFO_BYTES).map_err(|error| format!("mount table: {error}"))?;
        let proc = sys::open_path(c"/proc").map_err(|error| format!("/proc: {error}"))?;
        self.with(slot, |state| {
            state.running = true;
            // What was learnt at the first exec is older, and so truer, than what the node saw later.
            if state.names.learnt() { Ok(()) } else { state.names.learn(proc.as_fd(), live, Some(&text)) }
        })?
        .map_err(|error| format!("mountinfo: {error}"))
    }
}

fn read_blob(memory: &OwnedFd) -> Result<Blob, String> {
    let largest = SizeClass::M8.value_bytes();
    let bytes = sys::read_all(memory.as_fd(), largest).map_err(|error| format!("blob: {error}"))?;
    Blob::from_bytes(&bytes).map_err(|error| format!("blob: {error}"))
}
