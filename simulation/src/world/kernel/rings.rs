//! Record rings: numbered for each CPU, bounded in bytes, with an account of what did not fit or was kept back.
//!
//! Invariant: each record takes a number of its CPU, whatever becomes of it: `produced = read + waiting + lost + suppressed + folded`.

use std::collections::{BTreeMap, VecDeque};

use palisade_kernel_abi::record::{Kind, Record, RecordWriter};
use palisade_world::{Loss, LossReason, RecordBatch};

use crate::{event::RecordKey, random::Random};

struct Entry {
    bytes: Vec<u8>,
    decided: Option<RecordKey>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// The rings of a machine.
pub struct Rings {
    rings: Vec<Ring>,
    capacity_bytes: usize,
    loss: BTreeMap<(u16, LossReason), u64>,
    random: Random,
    /// Records that are put behind the one after them, in percent: a program that was preempted between its number and its record.
    pub swapped_percent: u64,
    /// One of so many records is dropped and not counted: for the checkers' own tests.
    pub silently_lost_one_in: Option<u64>,
    writer: RecordWriter,
    turn: usize,
}

impl Rings {
    /// Empty rings of so many CPUs.
    #[must_use]
    pub fn new(cpus: usize, capacity_bytes: usize, random: Random) -> Self {
        Self {
            rings: (0..cpus).map(|_| Ring::default()).collect(),
            capacity_bytes,
            loss: BTreeMap::new(),
            random,
            swapped_percent: 0,
            silently_lost_one_in: None,
            writer: RecordWriter::default(),
            turn: 0,
        }
    }

    /// How many bytes each ring holds from now on.
    pub fn resize(&mut self, capacity_bytes: usize) {
        self.capacity_bytes = capacity_bytes;
    }

    /// Any CPU.
    pub fn any_cpu(&mut self) -> usize {
        let cpus = self.rings.len() as u64;
        usize::try_from(self.random.below(cpus)).unwrap_or(0)
    }

    /// Takes the next number of a CPU, and gives it up at once.
    pub fn keep_back(&mut self, cpu: usize, kind: Kind, reason: LossReason) {
        self.rings[cpu].next += 1;
        *self.loss.entry((kind.code(), reason)).or_default() += 1;
    }

    /// Writes a record; false where it did not fit.
    ///
    /// # Panics
    /// The record is none: an error in the simulation.
    pub fn write(&mut self, cpu: usize, record: &mut Record<'_>, decided: Option<RecordKey>) -> bool {
        let ring = &mut self.rings[cpu];
        record.header.producer = u32::try_from(cpu).unwrap_or(0);
        record.header.sequence = ring.next;
        self.writer.clear();
        self.writer.write(record).expect("a record of the simulation fits the format");
        if self.silently_lost_one_in.is_some_and(|one_in| self.random.below(one_in) == 0) {
            ring.next += 1;
            return true;
        }
        if ring.bytes + self.writer.bytes().len() > self.capacity_bytes {
            self.keep_back(cpu, record.kind(), LossReason::RingFull);
            return false;
        }
        ring.next += 1;
        ring.bytes += self.writer.bytes().len();
        ring.entries.push_back(Entry { bytes: self.writer.bytes().to_vec(), decided });
        let last = ring.entries.len() - 1;
        if last > 0 && self.random.percent(self.swapped_percent) {
            ring.entries.swap(last, last - 1);
        }
        true
    }

    /// Moves as many records as a batch holds; the keys of the decided ones, and whether more wait.
    pub fn read(&mut self, batch: &mut RecordBatch) -> (Vec<RecordKey>, bool) {
        batch.clear();
        let mut decided = Vec::new();
        for _ in 0..self.rings.len() {
            self.turn = (self.turn + 1) % self.rings.len();
            let ring = &mut self.rings[self.turn];
            while batch.records < RecordBatch::MAX_RECORDS
                && let Some(entry) = ring.entries.pop_front()
            {
                ring.bytes -= entry.bytes.len();
                batch.bytes.extend_from_slice(&entry.bytes);
                batch.records += 1;
                decided.extend(entry.decided);
            }
        }
        (decided, self.waiting() > 0)
    }

    /// Records that wait to be read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rings.iter().map(|ring| ring.entries.len()).sum()
    }

    /// As the kernel counts.
    #[must_use]
    pub fn loss(&self) -> Loss {
        let produced = self.rings.iter().enumerate();
        let produced = produced.map(|(cpu, ring)| (u32::try_from(cpu).unwrap_or(0), ring.next)).collect();
        Loss { counts: self.loss.clone(), produced }
    }

    /// All that is in them is gone, and the counts with it: the machine went down. The keys of the decided records.
    pub fn vanish(&mut self) -> Vec<RecordKey> {
        self.loss.clear();
        let rings = std::mem::take(&mut self.rings);
        self.rings = rings.iter().map(|_| Ring::default()).collect();
        rings.into_iter().flat_map(|ring| ring.entries).filter_map(|entry| entry.decided).collect()
    }
}
