//! The account of records: the pure part.
//!
//! Invariant: for each producer, `highest - lowest + 1 = delivered + missing` over the sequence numbers seen, in whatever order they came
//! (a preempted program writes its number late). Once the rings are drained `missing` equals what the producer counted as lost, suppressed
//! or folded, and `produced = delivered + lost + suppressed + folded` holds; [`State::unexplained`] says by how much it does not.

use std::collections::BTreeMap;

use palisade_kernel_abi::record::RecordReader;
use palisade_protocol::RecordAccount;
use palisade_world::{Loss, RecordBatch};

/// One producer's numbers.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    lowest: u64,
    highest: u64,
    delivered: u64,
}

impl Sequence {
    fn missing(&self) -> u64 {
        (self.highest - self.lowest).saturating_add(1).saturating_sub(self.delivered)
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct State {
    /// CPUs and responders: a few dozen at most, bounded by [`State::MAX_PRODUCERS`].
    producers: BTreeMap<u32, Sequence>,
    account: RecordAccount,
}

impl State {
    /// More producers than any machine has CPUs: a number past it comes from a broken record.
    pub const MAX_PRODUCERS: usize = 16_384;

    /// Accounts for a batch; returns the first malformed record, in words.
    pub fn read(&mut self, batch: &RecordBatch) -> Option<String> {
        let mut first = None;
        let mut seen = 0;
        for record in RecordReader::new(&batch.bytes) {
            seen += 1;
            match record {
                Ok(record) => self.count(record.header.producer, record.header.sequence),
                Err(error) => {
                    self.account.malformed += 1;
                    first.get_or_insert_with(|| error.to_string());
                }
            }
        }
        // An error that ends a batch hides the records after it.
        self.account.malformed += u64::from(batch.records.saturating_sub(seen));
        first
    }

    fn count(&mut self, producer: u32, sequence: u64) {
        if !self.producers.contains_key(&producer) && self.producers.len() >= Self::MAX_PRODUCERS {
            self.account.malformed += 1;
            return;
        }
        self.account.delivered += 1;
        let entry =
            self.producers.entry(producer).or_insert(Sequence { lowest: sequence, highest: sequence, delivered: 0 });
        entry.lowest = entry.lowest.min(sequence);
        entry.highest = entry.highest.max(sequence);
        entry.delivered += 1;
    }

    /// Records that a reader had no room for.
    pub fn refused(&mut self, records: u32) {
        self.account.refused += u64::from(records);
    }

    /// The producers' own counts; returns how many losses are new. What was kept back by intent is none.
    pub fn losses(&mut self, loss: Loss) -> u64 {
        let new = lost(&loss).saturating_sub(lost(&self.account.loss));
        self.account.loss = loss;
        new
    }

    /// The account now.
    #[must_use]
    pub fn account(&self) -> RecordAccount {
        let missing = self.producers.values().fold(0, |sum: u64, producer| sum.saturating_add(producer.missing()));
        RecordAccount { missing, ..self.account.clone() }
    }

    /// Sequence numbers that neither arrived nor were counted by their producer, while nothing is on its way: 0, or something is wrong.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let account = self.account();
        account.missing.saturating_sub(total(account.loss.counts.values()))
    }
}

fn lost(loss: &Loss) -> u64 {
    total(loss.counts.iter().filter(|((_, reason), _)| !reason.is_intended()).map(|(_, count)| count))
}

/// A sum of numbers that a broken record or a broken map may have made as large as they come.
fn total<'a>(counts: impl Iterator<Item = &'a u64>) -> u64 {
    counts.fold(0, |sum, count| sum.saturating_add(*count))
}
