//! Writing a trace to whatever takes bytes in order.

use std::io::{self, Write};

use super::{
    block::{Batches, Block, BlockError},
    cbor::Items,
    fact::Fact,
    frame::{BLOCK_HEAD, BlockHead, BlockKind, FILE_HEAD, TRAILER, Trailer, file_head},
    header::{Header, MAX_MEMORY as MAX_HEADER},
    index::{self, Entry, MAX_BLOCKS},
};

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What takes the bytes failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A block cannot be made.
    #[error("{0}")]
    Block(#[from] BlockError),
    /// The trace has as many blocks as its index may have.
    #[error("the trace is full: {MAX_BLOCKS} blocks")]
    Full,
}

/// Writes one trace. What was written is whole up to the last block at any moment; [`Self::finish`] makes it seekable.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    /// Bytes written.
    at: u64,
    sequence: u32,
    records: u64,
    index: Vec<Entry>,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the file's head and the header.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn begin(mut out: W, header: &Header) -> Result<Self, WriteError> {
        out.write_all(&file_head())?;
        let mut content = Items::default();
        header.write(&mut content);
        if content.memory() > MAX_HEADER {
            return Err(BlockError::TakesMuch { memory: content.memory(), most: MAX_HEADER }.into());
        }
        let mut writer = Self { out, at: FILE_HEAD as u64, sequence: 0, records: 0, index: Vec::new() };
        writer.block(&Block::plain(BlockKind::Header, content)?)?;
        Ok(writer)
    }

    /// Appends a block.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn block(&mut self, block: &Block) -> Result<(), WriteError> {
        if self.index.len() >= MAX_BLOCKS {
            return Err(WriteError::Full);
        }
        let BlockHead { kind, records, first_ns, last_ns, .. } = block.head;
        self.index.push(Entry { at: self.at, kind, records, first_ns, last_ns, slots: block.slots.clone() });
        self.records += u64::from(records);
        self.put(block)
    }

    fn put(&mut self, block: &Block) -> Result<(), WriteError> {
        self.out.write_all(&BlockHead { sequence: self.sequence, ..block.head }.bytes())?;
        self.out.write_all(&block.stored)?;
        self.sequence += 1;
        self.at += (BLOCK_HEAD + block.stored.len()) as u64;
        Ok(())
    }

    /// Appends a block of facts; none where there are none. What is too much for one block goes into several.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn facts(&mut self, facts: &[Fact]) -> Result<(), WriteError> {
        if facts.is_empty() {
            return Ok(());
        }
        Block::several_of_facts(facts)?.iter().try_for_each(|block| self.block(block))
    }

    /// Appends a checkpoint; none where it would say nothing.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn checkpoint(&mut self, facts: &[Fact]) -> Result<(), WriteError> {
        if facts.is_empty() { Ok(()) } else { self.block(&Block::checkpoint(facts)?) }
    }

    /// Appends a block of records; none where there are none.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn records(&mut self, batches: &Batches) -> Result<(), WriteError> {
        if batches.is_empty() { Ok(()) } else { self.block(&batches.block()?) }
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.at
    }

    /// A trace is never empty: it has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// What takes the bytes.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Bytes that a last fact and [`Self::finish`] add, at most: for who keeps to a size.
    #[must_use]
    pub fn ending_len(&self) -> u64 {
        (2048 + 2 * BLOCK_HEAD + TRAILER + 48 * self.index.len()) as u64
    }

    /// Writes the index and the trailer.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        let mut content = Items::default();
        index::write(&self.index, &mut content);
        let index_at = self.at;
        self.put(&Block::plain(BlockKind::Index, content)?)?;
        let trailer = Trailer { index_at, blocks: self.sequence, records: self.records };
        self.out.write_all(&trailer.bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}
