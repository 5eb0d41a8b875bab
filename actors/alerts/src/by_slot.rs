//! Events and alerts by slot.
//!
//! Invariant: at most [`SLOTS`] slots are counted, in a table that grows to the highest slot seen: counting an event is an addition, no
//! search and (but for a slot never seen before) no allocation. A slot that is given to another workload begins at zero.

use std::collections::BTreeMap;

use palisade_domain::{Slot, Verdict};
use palisade_protocol::SlotCounts;

/// Slots of the kernel's maps (`bpf/include`); a record that names a higher one is of nobody.
const SLOTS: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct BySlot(Vec<SlotCounts>);

impl BySlot {
    /// An event of this slot.
    pub fn event(&mut self, slot: Slot) {
        if let Some(counts) = self.of(slot) {
            counts.events += 1;
        }
    }

    /// An alert of this slot.
    pub fn alert(&mut self, slot: Slot, verdict: Verdict) {
        if let Some(counts) = self.of(slot) {
            *counts.raised.entry(verdict).or_default() += 1;
        }
    }

    /// The slot is another workload's from now on.
    pub fn begin(&mut self, slot: Slot) {
        if let Some(counts) = usize::try_from(slot.0).ok().and_then(|slot| self.0.get_mut(slot)) {
            *counts = SlotCounts::default();
        }
    }

    /// Those that had an event.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Slot, SlotCounts> {
        let slots = (0..).map(Slot).zip(&self.0);
        slots.filter(|(_, counts)| counts.events > 0).map(|(slot, counts)| (slot, counts.clone())).collect()
    }

    fn of(&mut self, slot: Slot) -> Option<&mut SlotCounts> {
        let slot = usize::try_from(slot.0).ok().filter(|slot| *slot < SLOTS)?;
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, SlotCounts::default);
        }
        self.0.get_mut(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_alerts_count_by_slot_within_the_bound_and_anew_for_each_workload() {
        let mut by_slot = BySlot::default();
        by_slot.event(Slot(3));
        by_slot.event(Slot(3));
        by_slot.alert(Slot(3), Verdict::Denied);
        by_slot.event(Slot(u32::MAX));
        let counts = by_slot.counts();
        assert_eq!(counts.keys().collect::<Vec<_>>(), [&Slot(3)]);
        assert_eq!(counts[&Slot(3)], SlotCounts { events: 2, raised: BTreeMap::from([(Verdict::Denied, 1)]) });
        by_slot.begin(Slot(3));
        by_slot.begin(Slot(9));
        assert!(by_slot.counts().is_empty());
    }
}
