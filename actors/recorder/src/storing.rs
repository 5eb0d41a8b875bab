//! The trace around an alert that is on its way to the store.
//!
//! Invariant: nobody here waits for a disk. A store without room leaves the recording where it is in the ring, which sheds what it forgets and counts
//! it in that trace; and a disk that takes nothing is said.

use std::time::Duration;

use palisade_protocol::Condition;
use palisade_world::TraceStore;

use crate::recording::Next;

/// How long a disk may take nothing before that is said.
const STORED_WITHIN: Duration = Duration::from_secs(10);

struct Underway {
    id: u64,
    /// All of it is with the store.
    is_told: bool,
    /// When the store last took something of it.
    moved_ns: u64,
}

/// See the module.
pub(crate) struct Storing {
    store: Box<dyn TraceStore>,
    underway: Option<Underway>,
    failed: Option<String>,
    not_stored: u64,
}

impl Storing {
    pub(crate) fn new(store: Box<dyn TraceStore>) -> Self {
        Self { store, underway: None, failed: None, not_stored: 0 }
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.underway.is_none()
    }

    pub(crate) fn begin(&mut self, id: u64, name: &str, now_ns: u64) {
        self.store.begin(name);
        self.underway = Some(Underway { id, is_told: false, moved_ns: now_ns });
    }

    /// The recording that is kept, as long as not all of it is with the store.
    pub(crate) fn recording(&self) -> Option<u64> {
        self.underway.as_ref().filter(|underway| !underway.is_told).map(|underway| underway.id)
    }

    /// Whether the store takes more now.
    pub(crate) fn has_room(&mut self) -> bool {
        self.store.has_room()
    }

    /// What came next of the recording; whether that was something.
    pub(crate) fn tell(&mut self, next: Next, now_ns: u64) -> bool {
        let Some(underway) = &mut self.underway else { return false };
        match next {
            Next::Nothing => return false,
            Next::Bytes(bytes) => self.store.append(bytes),
            Next::Over => {
                self.store.end();
                underway.is_told = true;
            }
        }
        underway.moved_ns = now_ns;
        true
    }

    /// What came of it: the recording that is over with it, of one that is not kept.
    pub(crate) fn hear(&mut self) -> Option<Option<u64>> {
        match self.store.outcome()? {
            Ok(()) => {
                self.failed = None;
                self.underway = None;
                Some(None)
            }
            Err(error) => {
                let id = self.underway.take().map(|underway| underway.id);
                self.refused(error.to_string());
                Some(id)
            }
        }
    }

    /// One is not kept.
    pub(crate) fn refused(&mut self, why: String) {
        tracing::error!(%why, "a trace around an alert is not kept");
        self.not_stored += 1;
        self.failed = Some(why);
    }

    pub(crate) fn condition(&mut self, now_ns: u64) -> Condition {
        let is_full = !self.store.has_room();
        let moved_ns = self.underway.as_ref().filter(|underway| underway.is_told || is_full).map(|of| of.moved_ns);
        let waits = moved_ns.map_or(Duration::ZERO, |moved_ns| Duration::from_nanos(now_ns.saturating_sub(moved_ns)));
        match &self.failed {
            _ if waits >= STORED_WITHIN => Condition::Degraded(format!(
                "a trace around an alert waits for its disk, which has taken nothing for {} s",
                waits.as_secs()
            )),
            Some(why) => {
                Condition::Degraded(format!("traces around alerts are not kept ({} so far): {why}", self.not_stored))
            }
            None => Condition::Good,
        }
    }
}
