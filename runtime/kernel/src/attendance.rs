//! The node's sign of life in the kernel (`struct pal_attendance`), and what an earlier node's last one tells.
//!
//! Policy that is pinned stands while no node runs. How long is the user's choice, and the kernel must hold to it by itself, for a timer of
//! the node would die with the node: each sign of life moves a deadline in a pinned map, and past it programs find no policy.
//!
//! Invariant: the deadline is moved by a thread of its own ([`Attendant`]), which no busy actor holds up; a node of which a thread hangs is
//! ended by its watchdog, and lapses from then on. Each word is one store.
//!
//! Units: nanoseconds of CLOCK_BOOTTIME, which goes on while the machine sleeps; counts of all CPUs together.
//!
//! Decision: what the programs had counted is stored with each sign, so that the next node can say what was decided since: what is counted
//! in its name begins at the last sign, which is up to [`BEAT`] before the end of the node.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use palisade_world::{Absence, BootNanos, Enforcement};

use crate::{
    layout,
    sys::{self, MapFd, Mapping},
};

/// Between two signs of life.
pub const BEAT: Duration = Duration::from_secs(1);

/// What programs have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub decided: u64,
    pub denied: u64,
    pub lapsed: u64,
}

/// The map `attendance`.
#[derive(Debug)]
pub(crate) struct Attendance {
    mapping: Mapping,
}

impl Attendance {
    pub fn open(pin: &Path) -> io::Result<Self> {
        let map = MapFd::open(pin)?;
        Ok(Self { mapping: Mapping::new(&map, size_of::<layout::Attendance>().next_multiple_of(4096))? })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the callers' offsets are of u64 fields of `Attendance`, aligned to 8 in a mapping that begins at a page and has room
        // for it; it lives as long as the borrow of `self`. This process accesses it through atomics alone, and the programs write a
        // single word of it, by one store.
        unsafe { AtomicU64::from_ptr(self.mapping.as_ptr().add(offset).cast()) }
    }

    /// A sign of life at `now`: policy stands for `span` more; without one, for ever.
    pub fn beat(&self, now: BootNanos, span: Option<Duration>, counted: Counted) {
        let set = |offset, value| self.word(offset).store(value, Ordering::Release);
        let span = span.map_or(0, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let deadline = if span == 0 { 0 } else { now.0.saturating_add(span) };
        set(std::mem::offset_of!(layout::Attendance, deadline_ns), deadline);
        set(std::mem::offset_of!(layout::Attendance, span_ns), span);
        set(std::mem::offset_of!(layout::Attendance, decided), counted.decided);
        set(std::mem::offset_of!(layout::Attendance, denied), counted.denied);
        set(std::mem::offset_of!(layout::Attendance, lapsed), counted.lapsed);
        set(std::mem::offset_of!(layout::Attendance, beat_ns), now.0);
    }

    /// What happened since the last sign of life; `None`: there was none.
    pub fn absence(&self, now: BootNanos, counted: Counted) -> Option<Absence> {
        let get = |offset| self.word(offset).load(Ordering::Acquire);
        let since = get(std::mem::offset_of!(layout::Attendance, beat_ns));
        let deadline = get(std::mem::offset_of!(layout::Attendance, deadline_ns));
        (since != 0).then(|| Absence {
            since: BootNanos(since),
            until: now,
            lapsed: (deadline != 0 && now.0 > deadline).then_some(BootNanos(deadline)),
            decided: counted.decided.saturating_sub(get(std::mem::offset_of!(layout::Attendance, decided))),
            denied: counted.denied.saturating_sub(get(std::mem::offset_of!(layout::Attendance, denied))),
            passed: counted.lapsed.saturating_sub(get(std::mem::offset_of!(layout::Attendance, lapsed))),
        })
    }
}

/// Gives signs of life until it is dropped; the last one then.
#[derive(Debug)]
pub struct Attendant {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Attendant {
    /// The first sign is given before this returns.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(enforcement: Arc<dyn Enforcement>, span: Option<Duration>) -> io::Result<Self> {
        // Nothing is ever sent: its end is the message.
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        // Four signs within the span, so that one that comes late lapses nothing.
        let pause = span.map_or(BEAT, |span| BEAT.min(span / 4));
        enforcement.attend(span);
        // The thread takes no signal: while a node starts, its own thread looks for one that waits.
        let _held = sys::SignalsHeld::new();
        let thread = thread::Builder::new().name("attendance".to_owned()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                enforcement.attend(span);
            }
            enforcement.attend(span);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        // Its end wakes the thread.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Now, as the programs' clock says.
pub(crate) fn now() -> BootNanos {
    BootNanos(u64::try_from(sys::boot_time().as_nanos()).unwrap_or(u64::MAX))
}
