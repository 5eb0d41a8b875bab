//! The thread that watches the responder, and what it and its callers share.
//!
//! Invariant: a responder that is gone is replaced, and the time without one counts from when that was seen to when the next one
//! knows the whole journal. Starts that come to nothing are ever further apart ([`Pacing`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use palisade_domain::Slot;
use palisade_kernel_abi::{record::PRODUCER_USER, responder::Request};
use palisade_world::{EnforcementError, Gap};

use super::{
    counters::{Counters, read},
    node::ResponderConfig,
    records::RecordAccount,
    running::{Entry, REPLY_TIMEOUT, Running, unreachable},
    sys,
};

/// How often a living responder is asked whether it moves.
const WATCH_MS: u32 = 1000;
/// Records that the socket holds while nobody reads: about 4,000 of 250 bytes with their bookkeeping.
const RECORD_SOCKET_BYTES: i32 = 4 << 20;
/// Pauses between starts that come to nothing, doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// A responder that stood this long had not failed to start.
const STEADY: Duration = Duration::from_secs(10);
/// For how long an absence that is over is told: those who ask do so every second, and most absences last a few milliseconds.
const TOLD_NANOS: u64 = 3_000_000_000;

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

pub(super) fn starting(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError { what, source }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub config: ResponderConfig,
    pub state: Mutex<State>,
    pub account: Arc<RecordAccount>,
    pub stopping: AtomicBool,
    pub impairment: Impairment,
}

/// What is missing now, told without the lock: that is held for seconds while a responder is replaced, or does not answer.
#[derive(Debug, Default)]
pub(super) struct Impairment {
    absent: AtomicBool,
    /// When it is old news that there was none, boot-time nanoseconds; 0: there always was one.
    absence_told: AtomicU64,
    unrestored: AtomicUsize,
}

impl Impairment {
    fn lose(&self) {
        self.absent.store(true, Ordering::SeqCst);
    }

    fn stand(&self) {
        self.absence_told.store(sys::boot_nanos() + TOLD_NANOS, Ordering::SeqCst);
        self.absent.store(false, Ordering::SeqCst);
    }

    fn restore(&self, unrestored: &BTreeSet<Slot>) {
        self.unrestored.store(unrestored.len(), Ordering::SeqCst);
    }

    /// `now`: boot-time nanoseconds.
    pub(super) fn gaps(&self, now: u64) -> Vec<Gap> {
        let gap = |what: &str, reason: String| Gap { what: what.to_owned(), reason };
        let absence = if self.absent.load(Ordering::SeqCst) {
            Some("the fanotify responder is being replaced: opens and execs are permitted until the next one stands")
        } else if now < self.absence_told.load(Ordering::SeqCst) {
            Some("the fanotify responder was replaced: opens and execs were permitted until the next one stood")
        } else {
            None
        };
        let absence = absence.map(|reason| gap("process, file", reason.to_owned()));
        let unrestored = match self.unrestored.load(Ordering::SeqCst) {
            0 => None,
            containers => {
                let reason =
                    format!("containers held less well than before the fanotify responder was replaced: {containers}");
                Some(gap("process, file of some containers", reason))
            }
        };
        absence.into_iter().chain(unrestored).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub running: Option<Running>,
    pub journal: BTreeMap<Slot, Entry>,
    pub starts: u32,
    pub restarts: u64,
    pub absent_nanos: u64,
    /// Since when there is none, by the clock of records: until the next one stands, failed attempts and pauses included.
    pub absent_since: Option<u64>,
    /// Since when there is the present one, by the same clock.
    pub stands_since: u64,
    /// Containers of which the present responder could not be told all.
    pub unrestored: BTreeSet<Slot>,
}

impl State {
    pub(super) fn absent_nanos(&self) -> u64 {
        self.absent_nanos + self.absent_since.map_or(0, |since| sys::boot_nanos().saturating_sub(since))
    }
}

impl State {
    pub(super) fn running(&mut self, slot: Slot) -> Result<&mut Running, EnforcementError> {
        self.running.as_mut().ok_or_else(|| unreachable(slot, "it is being replaced"))
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single assignment after the responder agreed: a panic leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is missing of the slot any more: it is gone, or another's.
    pub(super) fn restored(&self, state: &mut State, slot: Slot) {
        state.unrestored.remove(&slot);
        self.impairment.restore(&state.unrestored);
    }

    /// Starts one and tells it the journal.
    pub(super) fn start(&self, state: &mut State) -> Result<Running, StartError> {
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
        let pidfd = match crate::sys::pidfd_open(child.id()) {
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
                self.impairment.restore(&unrestored);
                state.unrestored = unrestored;
            }
            Err(error) => {
                running.kill();
                running.reap();
                return Err(starting("greeting")(io::Error::other(error)));
            }
        }
        state.stands_since = sys::boot_nanos();
        self.account.add(producer, records, counters);
        Ok(running)
    }

    /// Until the responder is to end: replaces one that died or hangs.
    pub(super) fn watch(&self) {
        let mut pacing = Pacing::default();
        let mut before = (0, 0);
        while !self.stopping.load(Ordering::SeqCst) {
            let pidfd = self.state().running.as_ref().map(|running| Arc::clone(&running.pidfd));
            if let Some(pidfd) = pidfd {
                let ended = wait_for_end(pidfd.as_fd());
                if self.stopping.load(Ordering::SeqCst) || (!ended && self.moves(&mut before)) {
                    continue;
                }
            }
            if self.replace(&mut pacing) {
                before = (0, 0);
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

    /// Ends what is left of the present one; from now on there is none. Returns for how long it stood.
    fn lose(&self, state: &mut State) -> Duration {
        let Some(mut old) = state.running.take() else { return Duration::ZERO };
        self.impairment.lose();
        let now = sys::boot_nanos();
        state.absent_since = Some(now);
        old.kill();
        old.reap();
        tracing::warn!(
            pid = old.child.id(),
            "fanotify responder is gone: opens and execs are permitted until the next one stands"
        );
        Duration::from_nanos(now.saturating_sub(state.stands_since))
    }

    /// Without a pause the lock is kept: who calls meanwhile waits for the next one.
    fn replace(&self, pacing: &mut Pacing) -> bool {
        let mut state = self.state();
        pacing.lost(self.lose(&mut state));
        let pause = pacing.pause();
        if !pause.is_zero() {
            drop(state);
            std::thread::park_timeout(pause);
            state = self.state();
        }
        !self.stopping.load(Ordering::SeqCst) && self.stand_in(&mut state)
    }

    /// Starts a new one. The time without one counts.
    fn stand_in(&self, state: &mut State) -> bool {
        match self.start(state) {
            Ok(running) => {
                state.absent_nanos = state.absent_nanos();
                state.absent_since = None;
                self.impairment.stand();
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

/// Whether the process ends within the time between two looks. What cannot be watched is no dead process, and no reason to look
/// again at once.
fn wait_for_end(pidfd: BorrowedFd<'_>) -> bool {
    match sys::poll([(pidfd, libc::POLLIN)], Some(WATCH_MS)) {
        Ok([events]) => events != 0,
        Err(error) => {
            tracing::warn!(%error, "the fanotify responder's process cannot be watched");
            std::thread::park_timeout(Duration::from_millis(WATCH_MS.into()));
            false
        }
    }
}

/// How long the next start waits: not at all after a responder that stood for a while, longer and longer after those that did not
/// or could not be started. Whatever ends each new one at once must not have the machine start one after the other.
#[derive(Debug, Default)]
struct Pacing {
    next: Duration,
}

impl Pacing {
    /// One is gone that stood this long.
    fn lost(&mut self, stood: Duration) {
        if stood >= STEADY {
            self.next = Duration::ZERO;
        }
    }

    /// Before a start.
    fn pause(&mut self) -> Duration {
        let next = (self.next * 2).clamp(BACKOFF.0, BACKOFF.1);
        std::mem::replace(&mut self.next, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_fanotify_starts_wait_longer_and_longer_until_a_responder_has_stood() {
        let mut pacing = Pacing::default();
        assert_eq!(pacing.pause(), Duration::ZERO, "the first one is replaced at once");
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pacing.lost(Duration::from_millis(5));
            pauses.push(pacing.pause());
        }
        assert_eq!((pauses[0], pauses[11]), BACKOFF);
        assert!(pauses.is_sorted(), "{pauses:?}");
        pacing.lost(STEADY);
        assert_eq!(pacing.pause(), Duration::ZERO);
    }

    #[test]
    fn unit_fanotify_absence_is_told_for_as_long_as_it_takes_to_ask() {
        let impairment = Impairment::default();
        assert!(impairment.gaps(7).is_empty());
        impairment.lose();
        assert!(impairment.gaps(sys::boot_nanos())[0].reason.contains("is being replaced"));
        impairment.stand();
        let now = sys::boot_nanos();
        assert!(impairment.gaps(now)[0].reason.contains("was replaced"));
        assert!(impairment.gaps(now + TOLD_NANOS).is_empty());
    }
}
