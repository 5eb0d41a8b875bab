//! The slot table, mapped: what holds for each workload, as every program reads it.
//!
//! Invariant: a policy and its generation are one aligned 8-byte word, written by one store, so that no program ever sees
//! half a swap. A map update by system call would be a copy that a reader can see half done; it would also cost a call for
//! each of the slots that a new policy set changes.
//!
//! Only this process writes slots; programs only read them.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use palisade_domain::{Generation, Slot};
use palisade_world::BootNanos;

use crate::{
    layout::{self, PolicyNumber},
    observation::ObservationMap,
    sys::{MapFd, Mapping},
};

/// All slots of this node.
#[derive(Debug)]
pub(crate) struct SlotTable {
    mapping: Mapping,
    observation: ObservationMap,
}

impl SlotTable {
    pub fn open(pin: &Path, observation: ObservationMap) -> io::Result<Self> {
        let map = MapFd::open(pin)?;
        let bytes = (layout::SLOTS as usize * size_of::<layout::Slot>()).next_multiple_of(4096);
        Ok(Self { mapping: Mapping::new(&map, bytes)?, observation })
    }

    fn word32(&self, slot: Slot, offset: usize) -> Option<&AtomicU32> {
        let at = self.address(slot, offset)?;
        // SAFETY: `address` gave a place within the mapping, which lives as long as the borrow of `self`. Mappings begin at a page, a
        // slot has 32 bytes and the callers' offsets are of u32 fields: aligned to 4. Nothing of this process accesses a slot but
        // through these atomics; the programs in the kernel only read.
        Some(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    fn word64(&self, slot: Slot, offset: usize) -> Option<&AtomicU64> {
        let at = self.address(slot, offset)?;
        // SAFETY: as for `word32`; the callers' offsets are of u64 fields of a slot of 32 bytes: aligned to 8.
        Some(unsafe { AtomicU64::from_ptr(at.cast()) })
    }

    fn installed_word(&self, slot: Slot) -> Option<&AtomicU64> {
        self.word64(slot, std::mem::offset_of!(layout::Slot, installed))
    }

    fn address(&self, slot: Slot, offset: usize) -> Option<*mut u8> {
        let within = slot.0 < layout::SLOTS;
        // SAFETY: the mapping has room for SLOTS slots (see `open`), the slot is below that and `offset` is of a field: the sum stays
        // within one allocation.
        within.then(|| unsafe { self.mapping.as_ptr().add(slot.0 as usize * size_of::<layout::Slot>() + offset) })
    }

    /// Is there such a slot?
    pub fn holds(&self, slot: Slot) -> bool {
        slot.0 < layout::SLOTS
    }

    /// Puts a policy in force, in one store.
    pub fn install(&self, slot: Slot, generation: Generation, policy: PolicyNumber) {
        if let Some(word) = self.installed_word(slot) {
            word.store(u64::from(generation.0) << 32 | u64::from(policy.0), Ordering::Release);
        }
    }

    /// What is in force.
    pub fn installed(&self, slot: Slot) -> (Generation, PolicyNumber) {
        let word = self.installed_word(slot).map_or(0, |word| word.load(Ordering::Acquire));
        #[expect(clippy::cast_possible_truncation, reason = "each half of the word is taken on purpose")]
        let halves = ((word >> 32) as u32, word as u32);
        (Generation(halves.0), PolicyNumber(halves.1))
    }

    /// Sets and clears flags.
    pub fn set_flags(&self, slot: Slot, set: u32, clear: u32) {
        if let Some(word) = self.word32(slot, std::mem::offset_of!(layout::Slot, flags)) {
            word.store(word.load(Ordering::Relaxed) & !clear | set, Ordering::Release);
        }
    }

    /// Which kinds of records are wanted. Called by one thread at a time: what is wanted of anybody is a sum over all slots.
    pub fn set_visibility(&self, slot: Slot, kinds: u64) {
        const OFFSET: usize = std::mem::offset_of!(layout::Slot, visibility);
        let Some(word) = self.word64(slot, OFFSET) else { return };
        // First: what is wanted of a slot and of nobody would not be seen.
        self.observation.want_anywhere(self.observation.wanted_anywhere() | kinds);
        let before = word.swap(kinds, Ordering::AcqRel);
        if before & !kinds != 0 {
            let all = (0..layout::SLOTS).map(|slot| self.visibility(Slot(slot)));
            self.observation.want_anywhere(all.fold(0, |wanted, kinds| wanted | kinds));
        }
    }

    /// When it was released, nanoseconds since boot: 0 for one that is somebody's from now on.
    pub fn set_released(&self, slot: Slot, boot_ns: u64) {
        if let Some(word) = self.released_word(slot) {
            word.store(boot_ns, Ordering::Release);
        }
    }

    /// When it was released, if it was and nobody has it since.
    pub fn released(&self, slot: Slot) -> Option<BootNanos> {
        let boot_ns = self.released_word(slot)?.load(Ordering::Acquire);
        (boot_ns != 0).then_some(BootNanos(boot_ns))
    }

    /// Which kinds of records are wanted.
    pub fn visibility(&self, slot: Slot) -> u64 {
        self.word64(slot, std::mem::offset_of!(layout::Slot, visibility)).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn released_word(&self, slot: Slot) -> Option<&AtomicU64> {
        self.word64(slot, std::mem::offset_of!(layout::Slot, released_ns))
    }

    /// What tasks keep of the slot is valid while they keep this with it.
    pub fn incarnation(&self, slot: Slot) -> u32 {
        let word = self.word32(slot, std::mem::offset_of!(layout::Slot, incarnation));
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Makes void what tasks have kept of the slot.
    pub fn end_incarnation(&self, slot: Slot) {
        if let Some(word) = self.word32(slot, std::mem::offset_of!(layout::Slot, incarnation)) {
            word.fetch_add(1, Ordering::AcqRel);
        }
    }
}
