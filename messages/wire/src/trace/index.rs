//! The index: what each block holds, so that a reader with a seekable file goes where the time and the workload are.
//!
//! Bounds: [`MAX_BLOCKS`] blocks a file, at which a writer ends it; of a block up to [`MAX_SLOTS`] slots are named, else all are meant.

use std::collections::BTreeSet;

use palisade_domain::Slot;

use super::{
    cbor::{CborError, Items, Reading},
    frame::BlockKind,
};

/// Blocks of a file: at most 12 GiB of records' bytes, and an index of some megabytes.
pub const MAX_BLOCKS: usize = 65_536;
/// Slots that an entry names.
pub const MAX_SLOTS: usize = 32;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins, from the file's first byte.
    pub at: u64,
    /// What it holds.
    pub kind: BlockKind,
    /// Its records.
    pub records: u32,
    /// Earliest time in it, `CLOCK_BOOTTIME` nanoseconds.
    pub first_ns: u64,
    /// Latest time in it.
    pub last_ns: u64,
    /// Whose records are in it; none: too many to be named.
    pub slots: Option<BTreeSet<Slot>>,
}

impl Entry {
    /// Whether it is a block of records in which some of this time and (if given) of one of these workloads may be.
    #[must_use]
    pub fn may_hold(&self, from_ns: u64, until_ns: u64, slots: Option<&BTreeSet<Slot>>) -> bool {
        let in_time = self.first_ns <= until_ns && self.last_ns >= from_ns;
        let is_of = |slots: &BTreeSet<Slot>| self.slots.as_ref().is_none_or(|own| !own.is_disjoint(slots));
        self.kind == BlockKind::Records && in_time && slots.is_none_or(is_of)
    }
}

const KINDS: [BlockKind; 4] = [BlockKind::Header, BlockKind::Facts, BlockKind::Records, BlockKind::Checkpoint];

pub(super) fn write(entries: &[Entry], out: &mut Items) {
    out.array(6 * entries.len());
    for entry in entries {
        out.number(entry.at);
        out.number(entry.kind as u8);
        out.number(entry.records);
        out.number(entry.first_ns);
        out.number(entry.last_ns);
        match &entry.slots {
            Some(slots) => {
                out.array(slots.len());
                slots.iter().for_each(|slot| out.number(slot.0));
            }
            None => out.null(),
        }
    }
}

pub(super) fn read(reading: &mut Reading<'_>) -> Result<Vec<Entry>, CborError> {
    let count = reading.array("the index")? / 6;
    if count > MAX_BLOCKS {
        return Err(reading.wanted("an index of no more blocks than a file has"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let at = reading.number("a place")?;
        let wanted = reading.wanted("a kind of block");
        let code: u8 = reading.number("a kind of block")?;
        entries.push(Entry {
            at,
            kind: KINDS.into_iter().find(|kind| *kind as u8 == code).ok_or(wanted)?,
            records: reading.number("a number of records")?,
            first_ns: reading.number("a time")?,
            last_ns: reading.number("a time")?,
            slots: reading.optional(|reading| {
                let slots = reading.array("slots")?;
                (0..slots).map(|_| reading.number("a slot").map(Slot)).collect()
            })?,
        });
    }
    Ok(entries)
}
