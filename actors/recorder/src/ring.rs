//! The last blocks, in bounded memory.
//!
//! Invariant: [`Ring::base`] and the blocks from the first on are together what is so now: a block that is forgotten is folded into the base.

use std::collections::VecDeque;

use palisade_kernel_abi::record::RecordReader;
use palisade_wire::trace::{Block, Picture, frame::BlockKind};

/// A block, and what it costs to be without it.
#[derive(Debug)]
pub struct Entry {
    /// Its bytes.
    pub block: Block,
    /// Its execs have their arguments.
    pub arguments: bool,
    /// Records of all blocks before it, since the ring began.
    pub records_before: u64,
}

/// See the module. Blocks are numbered from 0 on, over all that were forgotten.
#[derive(Debug, Default)]
pub struct Ring {
    base: Picture,
    entries: VecDeque<Entry>,
    first: u64,
    bytes: u64,
    records: u64,
}

impl Ring {
    /// Empty, where this is so.
    #[must_use]
    pub fn beginning_with(base: Picture) -> Self {
        Self { base, ..Self::default() }
    }

    /// What was so before the first block.
    #[must_use]
    pub const fn base(&self) -> &Picture {
        &self.base
    }

    /// Number of the first block that is kept.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next block gets.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Bytes of all blocks.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records of all blocks that ever were.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// A block that is kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Latest time of the last block; 0: there is none.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.block.head.last_ns)
    }

    /// Number of the first kept block that has something of this time or later; [`Self::end`] where none has.
    #[must_use]
    pub fn since(&self, boot_ns: u64) -> u64 {
        let before = self.entries.iter().take_while(|entry| entry.block.head.last_ns < boot_ns).count();
        self.first + before as u64
    }

    /// One more block.
    pub fn push(&mut self, block: Block, arguments: bool) {
        self.bytes += block.len();
        let records_before = self.records;
        self.records += u64::from(block.head.records);
        self.entries.push_back(Entry { block, arguments, records_before });
    }

    /// Forgets the oldest until these bounds hold.
    pub fn forget(&mut self, max_bytes: u64, before_ns: u64) {
        while let Some(oldest) = self.entries.front() {
            if self.bytes <= max_bytes && oldest.block.head.last_ns >= before_ns {
                return;
            }
            self.bytes -= oldest.block.len();
            fold(&oldest.block, &mut self.base);
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// What was so before a block that is kept. Of processes, what is before the last checkpoint is not read: a few blocks are, however
    /// many there are.
    #[must_use]
    pub fn picture_at(&self, number: u64) -> Picture {
        let mut picture = self.base.clone();
        let before = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.entries.len());
        let is_checkpoint =
            |at: &usize| self.entries.get(*at).is_some_and(|entry| is_of(&entry.block, BlockKind::Checkpoint));
        let checkpoint = (0..before).rev().find(is_checkpoint);
        for (at, entry) in self.entries.iter().take(before).enumerate() {
            if Some(at) == checkpoint {
                picture.forget_processes();
                entry.block.facts_told().into_iter().flatten().for_each(|fact| picture.fact(&fact));
            } else if checkpoint.is_none_or(|checkpoint| at > checkpoint) || is_of(&entry.block, BlockKind::Facts) {
                fold(&entry.block, &mut picture);
            }
        }
        picture
    }
}

fn is_of(block: &Block, kind: BlockKind) -> bool {
    block.head.kind == kind
}

/// A block that was made here reads back: what would not would be bytes that changed in memory, and is left out.
fn fold(block: &Block, picture: &mut Picture) {
    match block.head.kind {
        BlockKind::Facts => block.facts_told().into_iter().flatten().for_each(|fact| picture.fact(&fact)),
        BlockKind::Records => {
            if let Ok(batches) = block.records() {
                RecordReader::new(batches.bytes()).flatten().for_each(|record| picture.record(&record));
            }
        }
        BlockKind::Header | BlockKind::Index | BlockKind::Checkpoint => {}
    }
}
