//! What is held of a trace's facts by who reads it: of each slot the last one of each kind, as a [`Picture`](super::Picture) has them.
//!
//! Invariant: what the reader gives out of these never takes more than [`MAX_HELD`] bytes of memory together, though the facts
//! come in any number of blocks. Blocks are bounded one by one, and what their facts tell of slots stays. A block that is left out holds
//! nothing: what of it was counted is taken back.
//!
//! What is bounded where it is kept: policy sets and processes, which whoever keeps them can forget.
//!
//! Decision: here and not with each of those who keep it, because there are many of them (replay, rehearsal, edits), and a block that is
//! left out is counted and named by the reader already.

use std::collections::BTreeMap;

use palisade_domain::Slot;

use super::fact::{Fact, What};

/// Bytes of memory for what is told of all slots: 16 KiB for each of 4,096 workloads.
pub const MAX_HELD: usize = 64 << 20;

/// What is told of slots, in the order of [`kind_of`].
const KINDS: [&str; 6] =
    ["names of workloads", "visibility", "announced policies", "policies in force", "places", "names of users"];

/// Which of [`KINDS`], and of which slot.
fn kind_of(what: &What) -> Option<(usize, Slot)> {
    Some(match what {
        What::WorkloadNamed(slot, _) => (0, *slot),
        What::Visible(slot, _) => (1, *slot),
        What::PolicyAnnounced(policy) => (2, policy.slot),
        What::PolicyInstalled(policy, _) => (3, policy.slot),
        What::Place(place) => (4, place.slot),
        What::Users(users) => (5, users.slot),
        _ => return None,
    })
}

/// More than is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "with it, what is told of slots would take {bytes} bytes of memory, and {MAX_HELD} are held: most of it is {most}"
)]
pub struct TooMuch {
    /// How much.
    pub bytes: usize,
    /// What takes the most.
    pub most: &'static str,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holding {
    of: BTreeMap<(usize, Slot), usize>,
    by_kind: [usize; KINDS.len()],
    /// What each fact of the block that is being read took the place of, in their order.
    before: Vec<((usize, Slot), Option<usize>)>,
}

impl Holding {
    /// The block that was read is given out: what was counted of it stays.
    pub(super) fn keep(&mut self) {
        self.before.clear();
    }

    /// It is left out.
    pub(super) fn take_back(&mut self) {
        while let Some((key, before)) = self.before.pop() {
            self.count(key, before);
        }
    }

    /// So much is held of one kind and slot from now on; how much was.
    fn count(&mut self, key: (usize, Slot), memory: Option<usize>) -> Option<usize> {
        let before = match memory {
            Some(memory) => self.of.insert(key, memory),
            None => self.of.remove(&key),
        };
        let of_kind = self.by_kind.get_mut(key.0).map(|bytes| {
            *bytes -= before.unwrap_or(0);
            *bytes += memory.unwrap_or(0);
        });
        debug_assert!(of_kind.is_some(), "each kind has its name");
        before
    }

    /// One more fact, of so many bytes of memory. A slot whose workload is gone counts until another has it.
    pub(super) fn fact(&mut self, fact: &Fact, memory: usize) -> Result<(), TooMuch> {
        let Some(key) = kind_of(&fact.what) else { return Ok(()) };
        let before = self.count(key, Some(memory));
        self.before.push((key, before));
        let bytes = self.by_kind.iter().sum();
        if bytes <= MAX_HELD {
            return Ok(());
        }
        let most = self.by_kind.iter().zip(KINDS).max_by_key(|(bytes, _)| **bytes).map_or("", |(_, kind)| kind);
        Err(TooMuch { bytes, most })
    }
}

#[cfg(test)]
mod tests {
    use palisade_domain::Visibility;

    use super::*;

    #[test]
    fn unit_holding_counts_of_a_slot_what_was_told_last_and_names_what_is_the_most() {
        let visible = |slot| Fact { boot_ns: 1, what: What::Visible(Slot(slot), Visibility::ALL) };
        let mut holding = Holding::default();
        for _ in 0..10 {
            assert_eq!(holding.fact(&visible(1), MAX_HELD), Ok(()));
        }
        assert_eq!(holding.fact(&visible(2), 1), Err(TooMuch { bytes: MAX_HELD + 1, most: "visibility" }));
        holding.take_back();
        assert_eq!(holding.fact(&visible(2), 1), Ok(()), "what was left out is not held");
        holding.keep();
        assert_eq!(holding.fact(&visible(1), MAX_HELD), Err(TooMuch { bytes: MAX_HELD + 1, most: "visibility" }));
        assert_eq!(holding.fact(&visible(1), 1), Ok(()), "what takes its place is less");
        holding.take_back();
        assert_eq!((holding.of.len(), holding.by_kind[1]), (1, 1));
        assert_eq!(holding.fact(&Fact { boot_ns: 1, what: What::SnapshotEnd }, MAX_HELD), Ok(()));
    }
}
