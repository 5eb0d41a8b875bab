//! The two wires between a supervisor and each child: orders down, notices up.
//!
//! Invariant: both are bounded without a limit that could be hit. Orders are *level-triggered*: one cell holds the
//! newest order and replaces the one before (a kill replaces a stop, a newer generation replaces both). Notices: a
//! generation sends at most a start and an exit, and only its supervisor begins the next generation.

use crate::{exit::Exit, plan::ChildId};
use futures_util::task::AtomicWaker;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};
use tokio::sync::Notify;

/// What a child should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing yet.
    Wait,
    /// Run this generation.
    Run(u64),
    /// Stop this generation in good order.
    Stop(u64),
    /// Drop this generation.
    Kill(u64),
    /// Nothing runs; mail is refused until the next run.
    Shut,
    /// End for good.
    Close,
}

/// The cell with the newest order.
#[derive(Debug)]
pub(crate) struct Control {
    /// Of the order in the cell; read without the lock to see that nothing is new, which is the case at most polls.
    version: AtomicU64,
    order: Mutex<Order>,
    waker: AtomicWaker,
    /// Nobody is left to obey: the child's task is gone with its place.
    deaf: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(1),
            order: Mutex::new(Order::Wait),
            waker: AtomicWaker::new(),
            deaf: AtomicBool::new(false),
        }
    }
}

impl Control {
    pub(crate) fn give(&self, order: Order) {
        {
            let mut cell = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            *cell = order;
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        self.waker.wake();
    }
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
    pub(crate) fn deafen(&self) {
        self.deaf.store(true, Ordering::Release);
    }
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
    /// The newest order and its version, which belong together.
    pub(crate) fn read(&self) -> (u64, Order) {
        let cell = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version(), *cell)
    }
}

/// What a child tells its supervisor.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Started(u64),
    Exited(u64, Exit),
}

/// Where the notices of all children of one supervisor arrive.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    notices: Mutex<VecDeque<(ChildId, Notice)>>,
    arrived: Notify,
}

impl Inbox {
    pub(crate) fn put(&self, from: ChildId, notice: Notice) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push_back((from, notice));
        self.arrived.notify_one();
    }
    pub(crate) fn take(&self) -> Option<(ChildId, Notice)> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

/// What is handed down the tree.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    /// Names from the root to here, by slashes.
    pub(crate) path: Arc<str>,
    /// For the jitter of supervisors below.
    pub(crate) seed: u64,
    pub(crate) ledger: Arc<Ledger>,
}

/// Who stopped and who did not, in order, while the whole tree stops.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Mutex<Option<StopReport>>,
}

/// How the stop of a tree went; paths from the root, by slashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopReport {
    /// Acknowledged, in order.
    pub stopped: Vec<String>,
    /// Left behind at their deadline.
    pub abandoned: Vec<String>,
}

impl Ledger {
    /// Begins to record; before, nothing is kept, however long the tree lives.
    pub(crate) fn begin(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }
    pub(crate) fn stopped(&self, path: String) {
        if let Some(report) = &mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner) {
            report.stopped.push(path);
        }
    }
    pub(crate) fn abandoned(&self, path: String) {
        if let Some(report) = &mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner) {
            report.abandoned.push(path);
        }
    }
    pub(crate) fn report(&self) -> StopReport {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }
}

/// The child's end of both wires.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) id: ChildId,
    pub(crate) lineage: Lineage,
    pub(crate) control: Arc<Control>,
    pub(crate) inbox: Arc<Inbox>,
}

impl Line {
    pub(crate) fn started(&self, generation: u64) {
        self.inbox.put(self.id, Notice::Started(generation));
    }
    pub(crate) fn exited(&self, generation: u64, exit: Exit) {
        self.inbox.put(self.id, Notice::Exited(generation, exit));
    }
}
