//! The gate of one mailbox: who may put a message in, and the counters that say what became of it.
//!
//! Invariant: `offered = admitted + staged + shed + coalesced + refused_closed` and
//! `admitted = queued + in flight + handled + expired + lost`. Each counter has one kind of writer.
//!
//! Cost: a sender pays one load and one compare-and-swap; the receiver pays plain stores on a cache line of its own.
//! Decision: depth is `admitted - taken` of two monotone counters, not one shared up-down counter, because then the
//! receiver never needs an atomic read-modify-write and both totals come for free.

use std::sync::{
    Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering, fence},
};
use tokio::sync::Notify;

const CLOSED: u64 = 1 << 63;
const COUNT: u64 = CLOSED - 1;

/// Why the gate let no message through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Full,
    Closed,
}

/// Keeps what one side writes off the other side's cache line (64 bytes on all our targets).
#[derive(Debug, Default)]
#[repr(align(64))]
struct Apart<T>(T);

/// Written by senders.
#[derive(Debug, Default)]
struct Entry {
    /// Messages let in so far; the top bit says closed.
    admitted: AtomicU64,
    high_water: AtomicU64,
}

/// Written by the receiving shell only.
#[derive(Debug, Default)]
struct Exit {
    /// Admitted messages that left the queue.
    taken: AtomicU64,
    handled: AtomicU64,
    expired: AtomicU64,
    lost_panic: AtomicU64,
    lost_panic_records: AtomicU64,
    lost_closed: AtomicU64,
}

/// Something that holds messages back until there is room.
pub(crate) trait Staged: Send + Sync {
    /// Moves what fits into the mailbox.
    fn flush(&self);
}

/// See the module.
pub(crate) struct Gate {
    capacity: u64,
    entry: Apart<Entry>,
    exit: Apart<Exit>,
    shed: AtomicU64,
    coalesced: AtomicU64,
    refused_closed: AtomicU64,
    /// Messages staged plus senders that wait for room: what the receiver must look after when it has made room.
    attention: AtomicU64,
    room: Notify,
    stages: Mutex<Vec<Weak<dyn Staged>>>,
}

/// A reading of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailCounts {
    /// Most messages that may wait.
    pub capacity: u64,
    /// Messages let into the mailbox.
    pub admitted: u64,
    /// Messages waiting in the mailbox.
    pub queued: u64,
    /// The largest `queued` ever.
    pub high_water: u64,
    /// Messages whose handler returned.
    pub handled: u64,
    /// Questions whose asker had gone before their turn; not handled.
    pub expired: u64,
    /// Messages whose handler panicked.
    pub lost_panic: u64,
    /// Records in those messages, as the actor noted them (at least one a message).
    pub lost_panic_records: u64,
    /// Messages still queued when the mailbox was closed.
    pub lost_closed: u64,
    /// Messages refused or displaced because the mailbox was full.
    pub shed: u64,
    /// Messages replaced by a newer one of the same key.
    pub coalesced: u64,
    /// Messages refused because the child is over.
    pub refused_closed: u64,
}

impl Gate {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1) as u64,
            entry: Apart::default(),
            exit: Apart::default(),
            shed: AtomicU64::new(0),
            coalesced: AtomicU64::new(0),
            refused_closed: AtomicU64::new(0),
            attention: AtomicU64::new(0),
            room: Notify::new(),
            stages: Mutex::new(Vec::new()),
        }
    }

    /// Reserves a place for one message.
    pub(crate) fn admit(&self) -> Result<(), Denied> {
        let entry = &self.entry.0;
        let mut admitted = entry.admitted.load(Ordering::Acquire);
        loop {
            if admitted & CLOSED != 0 {
                return Err(Denied::Closed);
            }
            // `taken` read later may already count messages beyond `admitted`; the exchange then fails and we look again.
            let queued = admitted.saturating_sub(self.exit.0.taken.load(Ordering::Acquire));
            if queued >= self.capacity {
                return Err(Denied::Full);
            }
            match entry.admitted.compare_exchange_weak(admitted, admitted + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if queued + 1 > entry.high_water.load(Ordering::Relaxed) {
                        entry.high_water.fetch_max(queued + 1, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(seen) => admitted = seen,
            }
        }
    }

    /// Gives back a reserved place whose message could not be queued.
    pub(crate) fn withdraw(&self) {
        self.entry.0.admitted.fetch_sub(1, Ordering::AcqRel);
    }

    /// A message that came past the gate (by a plain `Addr`) counts as admitted when it is taken.
    pub(crate) fn admit_unasked(&self, messages: u64) {
        self.entry.0.admitted.fetch_add(messages, Ordering::AcqRel);
    }

    pub(crate) fn close(&self) {
        self.entry.0.admitted.fetch_or(CLOSED, Ordering::AcqRel);
        self.flush_stages(); // what is staged is refused, and counted so
        self.room.notify_waiters();
    }

    pub(crate) fn open(&self) {
        self.entry.0.admitted.fetch_and(COUNT, Ordering::AcqRel);
    }

    pub(crate) fn queued(&self) -> u64 {
        let taken = self.exit.0.taken.load(Ordering::Acquire);
        (self.entry.0.admitted.load(Ordering::Acquire) & COUNT).saturating_sub(taken)
    }

    // The receiver is the only writer of these, so load and store suffice.
    fn bump(counter: &AtomicU64, by: u64) {
        counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
    }
    pub(crate) fn took(&self, messages: u64) {
        Self::bump(&self.exit.0.taken, messages);
    }
    pub(crate) fn handled(&self) {
        Self::bump(&self.exit.0.handled, 1);
    }
    pub(crate) fn expired(&self) {
        Self::bump(&self.exit.0.expired, 1);
    }
    pub(crate) fn lost_in_panic(&self, messages: u64, records: u64) {
        Self::bump(&self.exit.0.lost_panic, messages);
        Self::bump(&self.exit.0.lost_panic_records, records);
    }
    pub(crate) fn lost_at_close(&self, messages: u64) {
        Self::bump(&self.exit.0.lost_closed, messages);
    }

    pub(crate) fn count_shed(&self, messages: u64) {
        self.shed.fetch_add(messages, Ordering::Relaxed);
    }
    pub(crate) fn count_coalesced(&self) {
        self.coalesced.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn count_refused_closed(&self, messages: u64) {
        self.refused_closed.fetch_add(messages, Ordering::Relaxed);
    }

    /// Announces something that waits for room. Pairs with [`Gate::after_pass`]: both sides fence between their write
    /// and their read, so either the sender sees the room or the receiver sees the sender.
    pub(crate) fn want_attention(&self) {
        self.attention.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
    pub(crate) fn drop_attention(&self, by: u64) {
        self.attention.fetch_sub(by, Ordering::SeqCst);
    }
    pub(crate) fn room(&self) -> &Notify {
        &self.room
    }
    pub(crate) fn register(&self, stage: Weak<dyn Staged>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.retain(|stage| stage.strong_count() > 0);
        stages.push(stage);
    }

    /// The receiver has emptied the mailbox or used up its turn: let waiting senders in.
    pub(crate) fn after_pass(&self) {
        fence(Ordering::SeqCst);
        if self.attention.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.flush_stages();
        self.room.notify_waiters();
    }

    /// Flushes every stage; the list is copied so that no lock is held while stages take theirs.
    pub(crate) fn flush_stages(&self) {
        let stages: Vec<_> =
            self.stages.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        for stage in stages {
            stage.flush();
        }
    }

    pub(crate) fn counts(&self) -> MailCounts {
        let exit = &self.exit.0;
        MailCounts {
            capacity: self.capacity,
            queued: self.queued(),
            admitted: self.entry.0.admitted.load(Ordering::Acquire) & COUNT,
            high_water: self.entry.0.high_water.load(Ordering::Relaxed),
            handled: exit.handled.load(Ordering::Acquire),
            expired: exit.expired.load(Ordering::Acquire),
            lost_panic: exit.lost_panic.load(Ordering::Acquire),
            lost_panic_records: exit.lost_panic_records.load(Ordering::Acquire),
            lost_closed: exit.lost_closed.load(Ordering::Acquire),
            shed: self.shed.load(Ordering::Relaxed),
            coalesced: self.coalesced.load(Ordering::Relaxed),
            refused_closed: self.refused_closed.load(Ordering::Relaxed),
        }
    }
}
