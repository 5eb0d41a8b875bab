//! The sign of life of one place, for the watchdog: a count of beats and who has the thread now.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How often a place says that it lives.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// Nobody has the thread.
const NOBODY: u64 = 0;

/// See the module. Two relaxed stores for each poll of an actor.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    current: AtomicU64,
    retired: AtomicBool,
    names: Mutex<(u64, BTreeMap<u64, Arc<str>>)>,
}

impl Pulse {
    /// The thread is alive: called by a timer that runs on it.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread ends in good order: its silence is no stall.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended in good order.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Beats until nobody else holds the pulse or it is retired: to be spawned on the thread in question.
    pub async fn keep_beating(pulse: Weak<Self>) {
        while let Some(pulse) = pulse.upgrade().filter(|pulse| !pulse.is_retired()) {
            pulse.beat();
            drop(pulse);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Beats so far.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The actor that has the thread now, if any.
    #[must_use]
    pub fn current(&self) -> Option<Arc<str>> {
        let current = self.current.load(Ordering::Relaxed);
        self.names.lock().unwrap_or_else(PoisonError::into_inner).1.get(&current).cloned()
    }

    pub(crate) fn enrol(&self, name: &Arc<str>) -> u64 {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.0 += 1;
        let ticket = names.0;
        names.1.insert(ticket, name.clone());
        ticket
    }
    pub(crate) fn dismiss(&self, ticket: u64) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&ticket);
    }
    pub(crate) fn enter(&self, ticket: u64) {
        self.current.store(ticket, Ordering::Relaxed);
    }
    pub(crate) fn leave(&self) {
        self.current.store(NOBODY, Ordering::Relaxed);
    }
}
