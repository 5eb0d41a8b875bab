//! The trace that an import writes.
//!
//! Invariant: facts and records come out in the order in which they came in: a fact closes the block of records before it.

use std::{collections::BTreeMap, io::Write};

use palisade_kernel_abi::record::{Body, Header as RecordHeader, Record, RecordWriter, STRING_MAX, Text};
use palisade_wire::trace::{Batches, Fact, Header, TraceWriter, WriteError};

/// Records of one batch.
const BATCH: usize = 512;

pub(super) struct Writing<W: Write> {
    writer: TraceWriter<W>,
    /// The next number of each producer.
    sequences: BTreeMap<u32, u64>,
    records: RecordWriter,
    in_batch: usize,
    block: Batches,
}

impl<W: Write> Writing<W> {
    pub(super) fn begin(to: W, header: &Header) -> Result<Self, WriteError> {
        Ok(Self {
            writer: TraceWriter::begin(to, header)?,
            sequences: BTreeMap::new(),
            records: RecordWriter::default(),
            in_batch: 0,
            block: Batches::new(),
        })
    }

    pub(super) fn facts(&mut self, facts: &[Fact]) -> Result<(), WriteError> {
        self.flush()?;
        self.writer.facts(facts)
    }

    /// Whether it became a record: one that is too long for any does not.
    pub(super) fn record(&mut self, header: RecordHeader, body: Body<'_>) -> Result<bool, WriteError> {
        let sequence = self.sequences.entry(header.producer).or_default();
        let header = RecordHeader { sequence: *sequence, ..header };
        if self.records.write(&Record { header, body, decision: None }).is_err() {
            return Ok(false);
        }
        *sequence += 1;
        self.in_batch += 1;
        if self.in_batch >= BATCH {
            self.batch();
            if !self.block.has_room() {
                self.flush()?;
            }
        }
        Ok(true)
    }

    fn batch(&mut self) {
        self.block.push(self.records.bytes(), |_| true);
        self.records.clear();
        self.in_batch = 0;
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.batch();
        self.writer.records(&self.block)?;
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<W, WriteError> {
        self.flush()?;
        self.writer.finish()
    }
}

/// A path as a record carries it: what is too long keeps its end.
pub(super) fn path(bytes: &[u8], user: bool) -> Text<'_> {
    let cut = bytes.len() > STRING_MAX;
    let begin = bytes.len().saturating_sub(STRING_MAX);
    Text { bytes: bytes.get(begin..).unwrap_or_default(), cut, user, unreadable: false }
}

/// Any other text: what is too long keeps its beginning.
pub(super) fn text(bytes: &[u8]) -> Text<'_> {
    let cut = bytes.len() > STRING_MAX;
    Text { bytes: bytes.get(..bytes.len().min(STRING_MAX)).unwrap_or_default(), cut, user: false, unreadable: false }
}
