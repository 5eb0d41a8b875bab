//! What a trace says that it has not, since it began.
//!
//! Invariant: counters that fall began anew (another part, a node that started again), and count from nothing.
//!
//! What the kernel folded is told by other records and is not lost. A missing number and what the kernel counts are two views of one
//! loss: the larger of them counts.

use std::collections::BTreeMap;

use palisade_wire::trace::Loss;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lost {
    last: Loss,
    missing: u64,
    folded: u64,
    in_kernel: u64,
    /// Shed or malformed.
    other: u64,
}

fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

impl Lost {
    /// What was said so far was before the trace.
    pub(super) fn begin(&mut self) {
        // Parts that were put together have one end of a snapshot.
        let last = std::mem::take(&mut self.last);
        *self = Self { last, ..Self::default() };
    }

    /// These are the counters now.
    pub(super) fn said(&mut self, loss: &Loss) {
        let before: BTreeMap<_, _> =
            self.last.kernel.iter().map(|(kind, reason, count)| ((*kind, reason.as_str()), *count)).collect();
        for (kind, reason, count) in &loss.kernel {
            let grown = grown(*count, before.get(&(*kind, reason.as_str())).copied().unwrap_or(0));
            let counted = if reason == "Folded" { &mut self.folded } else { &mut self.in_kernel };
            *counted = counted.saturating_add(grown);
        }
        // A number that comes late is missing no more; what falls by more than half began anew.
        self.missing = match loss.missing.checked_sub(self.last.missing) {
            Some(more) => self.missing.saturating_add(more),
            None if loss.missing < self.last.missing / 2 => self.missing.saturating_add(loss.missing),
            None => self.missing.saturating_sub(self.last.missing - loss.missing),
        };
        let other = grown(loss.shed, self.last.shed).saturating_add(grown(loss.malformed, self.last.malformed));
        self.other = self.other.saturating_add(other);
        self.last = loss.clone();
    }

    /// Records that are lost.
    pub(super) fn records(&self) -> u64 {
        self.missing.saturating_sub(self.folded).max(self.in_kernel).saturating_add(self.other)
    }
}
