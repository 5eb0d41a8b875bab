//! Blocks of records and facts: from values to stored bytes and back.

use std::{cell::RefCell, collections::BTreeSet, io, sync::Arc};

use palisade_domain::Slot;
use palisade_kernel_abi::record::{slices, slot_and_time};
use zstd::bulk::{Compressor, Decompressor};

use super::{
    MAX_BATCH_BYTES, MAX_BYTES, MAX_MEMORY, MAX_RECORDS,
    cbor::{CborError, Items, Reading},
    columns::{self, ColumnsError},
    fact::Fact,
    frame::{BlockHead, BlockKind, MAX_CONTENT, sum},
    holding::TooMuch,
    index::MAX_SLOTS,
};

/// zstd's own default: at 1, records take 6 % more; at 9, 4 % less for four times the work (tests/bench `replay`).
const LEVEL: i32 = 3;

/// A block as it is stored, without its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its head; the sequence number is set where it is put into a file.
    pub head: BlockHead,
    /// What follows the head.
    pub stored: Arc<[u8]>,
    /// Whose records are in it; none: too many to be named, or none are.
    pub slots: Option<BTreeSet<Slot>>,
}

/// Why a block cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// More than a block holds.
    #[error("{bytes} bytes do not fit into a block of {MAX_CONTENT}")]
    TooLarge {
        /// How much.
        bytes: usize,
    },
    /// What is made of it when it is read takes more memory than a reader has.
    #[error("what is in it takes {memory} bytes of memory, and {most} are a block's")]
    TakesMuch {
        /// How much.
        memory: usize,
        /// How much it may.
        most: usize,
    },
    /// zstd failed.
    #[error("zstd: {0}")]
    Compression(#[source] std::io::Error),
}

/// Why a block's bytes are not what they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its sum is another.
    #[error("its bytes are not those that were written: their sum differs")]
    Sum,
    /// It does not unfold to what its head says.
    #[error("zstd does not unfold it to the {0} bytes that its head says")]
    Compression(u32),
    /// Its content is no CBOR of this format.
    #[error("its content: {0}")]
    Content(#[from] CborError),
    /// Its columns are no records.
    #[error("its records: {0}")]
    Columns(#[from] ColumnsError),
    /// Its facts are more than is held of a trace.
    #[error("its facts: {0}")]
    Holding(#[from] TooMuch),
    /// A fact of another kind is in it.
    #[error("it is a checkpoint, and tells of something else than processes")]
    NoCheckpoint,
    /// Something stands behind its content.
    #[error("there is something behind its content")]
    Longer,
    /// Head and content disagree.
    #[error("its head says {head} records, its content {content}")]
    Records {
        /// As the head says.
        head: u32,
        /// As the content says.
        content: usize,
    },
}

thread_local! {
    // To make one costs more than to fold a small block with it: 1.3 MB are asked for and given back. One a thread that writes traces, and
    // the bytes do not depend on what it folded before.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(kept) => kept.compress(content),
        None => kept.insert(Compressor::new(LEVEL)?).compress(content),
    })
}

fn decompress(stored: &[u8], most: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(kept) => kept.decompress(stored, most),
        None => kept.insert(Decompressor::new()?).decompress(stored, most),
    })
}

impl Block {
    fn of(kind: BlockKind, content: Items, records: u32, times: (u64, u64)) -> Result<Self, BlockError> {
        let memory = content.memory();
        if memory > MAX_MEMORY {
            return Err(BlockError::TakesMuch { memory, most: MAX_MEMORY });
        }
        let content = content.into_bytes();
        let too_large = BlockError::TooLarge { bytes: content.len() };
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= MAX_CONTENT).ok_or(too_large)?;
        let stored = compress(&content).map_err(BlockError::Compression)?;
        let head = BlockHead {
            kind,
            sequence: 0,
            content: length,
            stored: u32::try_from(stored.len()).map_err(|_| BlockError::TooLarge { bytes: stored.len() })?,
            records,
            first_ns: times.0,
            last_ns: times.1,
            sum: sum(&stored),
        };
        Ok(Self { head, stored: Arc::from(stored), slots: None })
    }

    /// Of content that is written already: the header, the index, and what tests of readers make.
    ///
    /// # Errors
    /// Where it is too much for a block.
    pub fn plain(kind: BlockKind, content: Items) -> Result<Self, BlockError> {
        Self::of(kind, content, 0, (0, 0))
    }

    /// Of facts.
    ///
    /// # Errors
    /// Where they are too many for a block.
    pub fn facts(facts: &[Fact]) -> Result<Self, BlockError> {
        let mut content = Items::default();
        content.list::<Fact>(facts.len(), 1);
        facts.iter().for_each(|fact| fact.write(&mut content));
        let times = facts.iter().map(|fact| fact.boot_ns);
        let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
        Self::of(BlockKind::Facts, content, 0, (first, last))
    }

    /// Of facts, in order; what is too much for one block goes into several.
    ///
    /// # Errors
    /// Where one fact alone is too much for a block.
    pub fn several_of_facts(facts: &[Fact]) -> Result<Vec<Self>, BlockError> {
        match Self::facts(facts) {
            Ok(block) => Ok(vec![block]),
            Err(BlockError::TooLarge { .. } | BlockError::TakesMuch { .. }) if facts.len() > 1 => {
                let (one, other) = facts.split_at(facts.len() / 2);
                let mut all = Self::several_of_facts(one)?;
                all.extend(Self::several_of_facts(other)?);
                Ok(all)
            }
            Err(error) => Err(error),
        }
    }

    /// Of the processes that live at this moment: facts of kind 7.
    ///
    /// # Errors
    /// Where they are too many for a block.
    pub fn checkpoint(facts: &[Fact]) -> Result<Self, BlockError> {
        let block = Self::facts(facts)?;
        Ok(Self { head: BlockHead { kind: BlockKind::Checkpoint, ..block.head }, ..block })
    }

    /// Bytes in a file, the head among them.
    #[must_use]
    pub fn len(&self) -> u64 {
        (super::frame::BLOCK_HEAD + self.stored.len()) as u64
    }

    /// A block is never empty: it has a head.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Its content, held against its head.
    pub(super) fn content(head: &BlockHead, stored: &[u8]) -> Result<Vec<u8>, Damage> {
        if sum(stored) != head.sum {
            return Err(Damage::Sum);
        }
        // The head's bound was checked when it was read.
        let unfolded = decompress(stored, head.content as usize);
        unfolded.ok().filter(|content| content.len() == head.content as usize).ok_or(Damage::Compression(head.content))
    }

    /// The facts of a block that was kept as it was made.
    ///
    /// # Errors
    /// Where its bytes changed since.
    pub fn facts_told(&self) -> Result<Vec<Fact>, Damage> {
        read_facts(&Self::content(&self.head, &self.stored)?, |_, _| Ok(()))
    }

    /// The records of a block that was kept as it was made.
    ///
    /// # Errors
    /// Where its bytes changed since.
    pub fn records(&self) -> Result<Batches, Damage> {
        read_records(&self.head, &Self::content(&self.head, &self.stored)?)
    }
}

/// Reads a block of facts; `each` is told the bytes of memory that each takes, and may refuse it.
pub(super) fn read_facts(
    content: &[u8],
    mut each: impl FnMut(&Fact, usize) -> Result<(), Damage>,
) -> Result<Vec<Fact>, Damage> {
    let mut reading = Reading::within(content, MAX_MEMORY);
    let mut refused = Ok(());
    let facts = reading.list("facts", 1, |reading| {
        let before = reading.left();
        let fact = Fact::read(reading)?;
        if refused.is_ok() {
            refused = each(&fact, size_of::<Fact>() + before - reading.left());
        }
        Ok(fact)
    })?;
    refused?;
    if reading.is_over() { Ok(facts) } else { Err(Damage::Longer) }
}

/// Batches of records, as they were delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batches {
    bytes: Vec<u8>,
    /// Of each batch: its records, and where it ends in `bytes`.
    ends: Vec<(u32, usize)>,
    records: usize,
}

impl Batches {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records in all.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.records
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether another batch may come without passing the bounds of a block.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.records < super::BLOCK_RECORDS && self.bytes.len() < super::BLOCK_BYTES
    }

    /// Appends a batch: the records of `bytes` that `keep` lets through, after it changed what it wants to change in them. Returns how many
    /// bytes of the batch could not be told apart as records.
    ///
    /// A batch of which nothing is kept leaves nothing. The caller looks at [`Self::has_room`] first; one batch is at most 512 records.
    pub fn push(&mut self, bytes: &[u8], mut keep: impl FnMut(&mut [u8]) -> bool) -> usize {
        let (before, mut count, mut told) = (self.bytes.len(), 0_u32, 0);
        for record in slices(bytes.get(..bytes.len().min(MAX_BATCH_BYTES)).unwrap_or_default()) {
            told += record.len();
            let at = self.bytes.len();
            self.bytes.extend_from_slice(record);
            if keep(&mut self.bytes[at..]) {
                count += 1;
            } else {
                self.bytes.truncate(at);
            }
        }
        if self.bytes.len() > before {
            self.records += count as usize;
            self.ends.push((count, self.bytes.len()));
        }
        bytes.len() - told
    }

    /// Each batch: how many records, and their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends
            .iter()
            .zip(starts)
            .map(|((count, end), start)| (*count, self.bytes.get(start..*end).unwrap_or_default()))
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.records = 0;
    }

    /// The block of them.
    ///
    /// # Errors
    /// Where they are too many for a block.
    pub fn block(&self) -> Result<Block, BlockError> {
        if self.records > MAX_RECORDS || self.bytes.len() > MAX_BYTES {
            return Err(BlockError::TooLarge { bytes: self.bytes.len() });
        }
        let mut content = Items::default();
        content.map(3);
        content.number(1_u64);
        content.array(self.ends.len());
        self.ends.iter().for_each(|(count, _)| content.number(*count));
        content.number(2_u64);
        content.number(self.bytes.len() as u64);
        content.number(3_u64);
        columns::write(slices(&self.bytes), &mut content);
        let (mut slots, mut first, mut last) = (BTreeSet::new(), u64::MAX, 0);
        for record in slices(&self.bytes) {
            let (slot, boot_ns) = slot_and_time(record);
            (first, last) = (boot_ns.min(first), boot_ns.max(last));
            if slots.len() <= MAX_SLOTS {
                slots.insert(Slot(slot));
            }
        }
        let records = u32::try_from(self.records).unwrap_or(u32::MAX);
        let block = Block::of(BlockKind::Records, content, records, (first.min(last), last))?;
        Ok(Block { slots: (slots.len() <= MAX_SLOTS).then_some(slots), ..block })
    }
}

/// Reads a block of records.
pub(super) fn read_records(head: &BlockHead, content: &[u8]) -> Result<Batches, Damage> {
    let most = head.records as usize;
    if most > MAX_RECORDS {
        return Err(ColumnsError::Number { what: "the number of records", found: most as u64 }.into());
    }
    // No batch is empty and no shape unused, so that there are no more of either than records.
    let mut reading = Reading::within(content, most * (size_of::<u32>() + columns::SHAPE));
    if reading.map("records")? != 3 {
        return Err(reading.wanted("a map of three").into());
    }
    reading.key(1, "batches")?;
    let counts = reading.list("batches", 1, |reading| {
        let at = reading.wanted("a batch with a record");
        reading.number::<u32>("a batch's records").and_then(|count| if count > 0 { Ok(count) } else { Err(at) })
    })?;
    let records = counts.iter().fold(0_usize, |sum, count| sum.saturating_add(*count as usize));
    if records != head.records as usize {
        return Err(Damage::Records { head: head.records, content: records });
    }
    reading.key(2, "bytes")?;
    let bytes = reading.number("the length of all records")?;
    reading.key(3, "columns")?;
    let bytes = columns::read(&mut reading, records, bytes)?;
    if !reading.is_over() {
        return Err(Damage::Longer);
    }
    let ends = ends(&bytes, counts);
    Ok(Batches { bytes, ends, records })
}

/// Where batches of so many records end.
fn ends(bytes: &[u8], counts: Vec<u32>) -> Vec<(u32, usize)> {
    let mut lengths = slices(bytes).map(<[u8]>::len);
    let mut end = 0;
    let of_batch = |count: u32| {
        end += lengths.by_ref().take(count as usize).sum::<usize>();
        (count, end)
    };
    counts.into_iter().map(of_batch).collect()
}

#[cfg(test)]
mod tests {
    use super::{Block, BlockKind, Items};

    fn of(numbers: impl Iterator<Item = u64> + Clone) -> Block {
        let mut content = Items::default();
        content.array(numbers.clone().count());
        numbers.for_each(|number| content.number(number));
        Block::plain(BlockKind::Index, content).expect("not too much")
    }

    #[test]
    fn unit_block_has_the_same_bytes_whatever_was_written_before_it() {
        let first = of((0..5000).map(|number| number % 251));
        let other = of((0..50_000u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100_003));
        let short = of(0..3);
        assert_eq!(of((0..5000).map(|number| number % 251)), first);
        assert_eq!(of(0..3), short);
        for block in [&first, &other, &short] {
            let content = Block::content(&block.head, &block.stored).expect("whole");
            assert_eq!(content.len(), block.head.content as usize);
        }
        let mut torn = first;
        torn.head.content -= 1;
        assert!(Block::content(&torn.head, &torn.stored).is_err());
        assert!(Block::content(&short.head, &short.stored).is_ok(), "after one that failed");
    }
}
