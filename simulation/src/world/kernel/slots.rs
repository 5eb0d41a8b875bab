//! Slots, and who belongs to them: what is in the kernel's maps, and outlives the process that put it there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_domain::{CgroupId, Slot};
use palisade_kernel_abi::blob::Blob;
use palisade_world::{BootNanos, LeftBehind};

/// What a slot holds. A deed is judged by one of these, read at once.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// Of which set.
    pub generation: u32,
    /// Of the blob; 0: none.
    pub number: u32,
    /// By what deeds are judged.
    pub policy: Option<Arc<Blob>>,
    /// Something was installed since the slot was admitted, be it that nothing selects it.
    pub installed: bool,
}

/// One slot.
#[derive(Debug, Clone, Default)]
pub struct SlotEntry {
    /// Its policy.
    pub in_force: InForce,
    /// Kinds of records that are seen, bit n for kind n.
    pub visible: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Slots {
    entries: BTreeMap<Slot, SlotEntry>,
    cgroups: BTreeMap<CgroupId, Slot>,
    numbers: BTreeMap<[u8; 32], (u32, u32)>,
    last_number: u32,
    /// Left in force by a process before this one, not yet admitted again.
    strangers: BTreeSet<Slot>,
    /// Admitted by this process.
    members: BTreeSet<Slot>,
    /// When those were released that are nobody's, boot time.
    released: BTreeMap<Slot, BootNanos>,
}

impl Slots {
    /// The slot of a cgroup.
    #[must_use]
    pub fn of_cgroup(&self, cgroup: CgroupId) -> Option<Slot> {
        self.cgroups.get(&cgroup).copied()
    }

    /// What a slot holds.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&SlotEntry> {
        self.entries.get(&slot)
    }

    /// What a slot holds, to be changed.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut SlotEntry> {
        self.entries.get_mut(&slot)
    }

    /// Whether this process admitted it.
    #[must_use]
    pub fn is_member(&self, slot: Slot) -> bool {
        self.members.contains(&slot)
    }

    /// The newest generation that stands anywhere.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.entries.values().map(|entry| entry.in_force.generation).max().unwrap_or(0)
    }

    /// Slots that are somebody's, with their cgroups.
    #[must_use]
    pub fn held(&self) -> Vec<(Slot, CgroupId)> {
        self.cgroups.iter().map(|(cgroup, slot)| (*slot, *cgroup)).collect()
    }

    /// Another process took the maps over: what holds a living cgroup stands, all else goes. What it found.
    pub fn take_over(&mut self, now: BootNanos, lives: impl Fn(CgroupId) -> bool) -> Vec<LeftBehind> {
        self.members.clear();
        self.cgroups.retain(|cgroup, _| lives(*cgroup));
        self.strangers = self.cgroups.values().copied().collect();
        let living =
            self.cgroups.iter().map(|(cgroup, slot)| LeftBehind { slot: *slot, cgroup: Some(*cgroup), released: None });
        let rest = |(slot, at): (&Slot, &BootNanos)| LeftBehind { slot: *slot, cgroup: None, released: Some(*at) };
        let mut left: Vec<LeftBehind> = living.chain(self.released.iter().map(rest)).collect();
        let is_host = |slot: &Slot| *slot == Slot::HOST;
        let stands = |slot: &Slot| self.strangers.contains(slot) || is_host(slot);
        let gone: Vec<Slot> = self.entries.keys().filter(|slot| !stands(slot)).copied().collect();
        for slot in gone {
            self.clear(slot);
            self.released.insert(slot, now);
            left.push(LeftBehind { slot, cgroup: None, released: None });
        }
        left
    }

    /// A cgroup was removed: the kernel forgets whose it was, as its program at `cgroup_rmdir` does.
    pub fn cgroup_gone(&mut self, cgroup: CgroupId) {
        self.cgroups.remove(&cgroup);
    }

    /// A cgroup belongs to a slot. What an earlier process left in force for it stands until something is installed.
    pub fn admit(&mut self, slot: Slot, cgroup: Option<CgroupId>, visible: u64) {
        self.members.insert(slot);
        self.released.remove(&slot);
        let Some(cgroup) = cgroup else {
            self.entries.entry(slot).or_default().visible = visible;
            return;
        };
        if self.strangers.contains(&slot) && self.of_cgroup(cgroup) != Some(slot) {
            self.relocate(slot);
        }
        let before = self.cgroups.insert(cgroup, slot);
        if let Some(stranger) = before.filter(|before| *before != slot && self.strangers.contains(before)) {
            let inherited = self.entries.get(&stranger).map(|entry| entry.in_force.clone()).unwrap_or_default();
            self.entries.entry(slot).or_default().in_force = inherited;
            self.strangers.remove(&stranger);
            self.entries.remove(&stranger);
        }
        self.strangers.remove(&slot);
        self.entries.entry(slot).or_default().visible = visible;
    }

    /// Moves a stranger out of a slot that another needs.
    fn relocate(&mut self, slot: Slot) {
        let refuge = (1..4096).rev().map(Slot).find(|free| !self.entries.contains_key(free));
        let Some(refuge) = refuge else { return };
        if let Some(entry) = self.entries.remove(&slot) {
            self.entries.insert(refuge, entry);
        }
        self.cgroups.values_mut().filter(|of| **of == slot).for_each(|of| *of = refuge);
        self.strangers.remove(&slot);
        self.strangers.insert(refuge);
    }

    /// The number of a blob, the same for equal blobs as long as one slot names it.
    pub fn number(&mut self, blob: &Blob) -> u32 {
        let last = &mut self.last_number;
        let (number, slots) = self.numbers.entry(blob.digest()).or_insert_with(|| {
            *last += 1;
            (*last, 0)
        });
        *slots += 1;
        *number
    }

    /// One slot less names this number.
    pub fn forget_number(&mut self, number: u32) {
        self.numbers.retain(|_, (of, slots)| {
            *slots -= u32::from(*of == number);
            *slots > 0
        });
    }

    /// The slot is nobody's; a stranger's stays.
    pub fn release(&mut self, slot: Slot, now: BootNanos) {
        self.members.remove(&slot);
        if !self.strangers.contains(&slot) {
            self.clear(slot);
            self.released.insert(slot, now);
        }
    }

    fn clear(&mut self, slot: Slot) {
        self.cgroups.retain(|_, of| *of != slot);
        if let Some(entry) = self.entries.remove(&slot) {
            self.forget_number(entry.in_force.number);
        }
    }
}
