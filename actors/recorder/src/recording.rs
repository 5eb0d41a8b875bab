//! One recording: a place in the ring that moves on.

use palisade_domain::Slot;
use palisade_kernel_abi::record::{redact_arguments, slot_and_time};
use palisade_wire::trace::{
    Batches, Chosen, Fact, Header, Loss, Picture, TraceWriter, What, WriteError, checkpoint_of, frame::BlockKind,
};

use crate::ring::{Entry, Ring};

/// What is asked of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) workloads: Vec<String>,
    pub(crate) arguments: bool,
    /// Boot time at which it ends.
    pub(crate) until_ns: Option<u64>,
    /// 0: no bound.
    pub(crate) limit_bytes: u64,
}

/// What comes next of a recording.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing before more is sealed.
    Nothing,
    /// Nothing ever.
    Over,
}

#[derive(Debug)]
pub(crate) struct Recording {
    /// None once it is ended.
    writer: Option<TraceWriter<Vec<u8>>>,
    next: u64,
    /// Records of the blocks that it has passed, given out or not.
    records_passed: u64,
    shed: u64,
    /// What was lost before it began: its counters begin with it.
    lost_before: Loss,
    chosen: Chosen,
    wanted: Wanted,
    /// Reused for each block that is changed.
    changed: Batches,
}

impl Recording {
    /// Begins at a block of the ring with what is so there.
    pub(crate) fn begin(
        header: &Header,
        wanted: Wanted,
        ring: &Ring,
        (at, now_ns): (u64, u64),
        (picture, lost_before): (&Picture, &Loss),
    ) -> Result<Self, WriteError> {
        let mut writer = TraceWriter::begin(Vec::new(), header)?;
        let mut chosen = Chosen::new(wanted.workloads.clone());
        chosen.picture(picture);
        let began_ns = ring.get(at).map_or(now_ns, |entry| entry.block.head.first_ns);
        let mut facts = picture.facts(began_ns, chosen.slots(), wanted.arguments);
        facts.retain(|fact| !matches!(fact.what, What::Loss(_)));
        writer.facts(&facts)?;
        let lost_before = lost_before.clone();
        let records_passed = ring.get(at).map_or(ring.records(), |entry| entry.records_before);
        Ok(Self {
            writer: Some(writer),
            next: at,
            records_passed,
            shed: 0,
            lost_before,
            chosen,
            wanted,
            changed: Batches::new(),
        })
    }

    /// It ends with what is sealed now.
    /// Whether it was asked to keep arguments.
    pub(crate) fn has_arguments(&self) -> bool {
        self.wanted.arguments
    }

    pub(crate) fn end(&mut self, now_ns: u64) {
        self.wanted.until_ns = Some(self.wanted.until_ns.map_or(now_ns, |until| until.min(now_ns)));
    }

    /// What comes next; `now_ns`: all before it is sealed.
    pub(crate) fn next(&mut self, ring: &Ring, now_ns: u64, loss: &Loss) -> Next {
        let Some(mut writer) = self.writer.take() else { return Next::Over };
        if writer.out().is_empty() {
            match self.step(&mut writer, ring, now_ns) {
                Ok(true) => {}
                // What fails here is a trace that is full: it ends whole.
                Ok(false) | Err(_) => {
                    // What is lost by now counts, whenever it was said.
                    let said = writer.facts(&[self.loss(now_ns, loss)]);
                    return said.and_then(|()| writer.finish()).map_or(Next::Over, Next::Bytes);
                }
            }
        }
        let bytes = std::mem::take(writer.out());
        self.writer = Some(writer);
        if bytes.is_empty() { Next::Nothing } else { Next::Bytes(bytes) }
    }

    /// Writes the next block that has something of it; false where it ends.
    fn step(&mut self, writer: &mut TraceWriter<Vec<u8>>, ring: &Ring, now_ns: u64) -> Result<bool, WriteError> {
        if self.next < ring.first() {
            self.fell_behind(writer, ring, now_ns)?;
        }
        while writer.out().is_empty() {
            let Some(entry) = ring.get(self.next) else {
                return Ok(self.wanted.until_ns.is_none_or(|until| now_ns < until));
            };
            if self.wanted.until_ns.is_some_and(|until| entry.block.head.first_ns > until) {
                return Ok(false);
            }
            if self.wanted.limit_bytes > 0
                && writer.len() + entry.block.len() + writer.ending_len() > self.wanted.limit_bytes
            {
                return Ok(false);
            }
            self.next += 1;
            self.records_passed = entry.records_before + u64::from(entry.block.head.records);
            self.put(writer, entry)?;
        }
        Ok(true)
    }

    /// The ring has forgotten what comes next: says how much, and what is so where it goes on.
    fn fell_behind(&mut self, writer: &mut TraceWriter<Vec<u8>>, ring: &Ring, now_ns: u64) -> Result<(), WriteError> {
        let first = ring.get(ring.first());
        let before = first.map_or(ring.records(), |entry| entry.records_before);
        self.shed += before.saturating_sub(self.records_passed);
        self.next = ring.first();
        self.records_passed = before;
        self.chosen.picture(ring.base());
        let began_ns = first.map_or(now_ns, |entry| entry.block.head.first_ns);
        let mut facts = ring.base().facts(began_ns, self.chosen.slots(), self.wanted.arguments);
        facts.retain(|fact| !matches!(fact.what, What::Loss(_) | What::SnapshotEnd));
        facts.push(self.loss(began_ns, ring.base().loss()));
        writer.facts(&facts)
    }

    fn loss(&self, boot_ns: u64, of_all: &Loss) -> Fact {
        Fact { boot_ns, what: What::Loss(self.since(of_all)) }
    }

    /// What is lost since it began. Of what came late, so that less is missing than was then, nothing is.
    fn since(&self, of_all: &Loss) -> Loss {
        let before = &self.lost_before;
        let of_kind = |kind: u16, reason: &str| {
            let row = before.kernel.iter().find(|(of, why, _)| (*of, why.as_str()) == (kind, reason));
            row.map_or(0, |(.., count)| *count)
        };
        let rows = of_all
            .kernel
            .iter()
            .map(|(kind, reason, count)| (*kind, reason.clone(), count.saturating_sub(of_kind(*kind, reason))));
        Loss {
            missing: of_all.missing.saturating_sub(before.missing),
            shed: self.shed,
            malformed: of_all.malformed.saturating_sub(before.malformed),
            kernel: rows.filter(|(.., count)| *count > 0).collect(),
        }
    }

    fn put(&mut self, writer: &mut TraceWriter<Vec<u8>>, entry: &Entry) -> Result<(), WriteError> {
        if entry.block.head.kind == BlockKind::Facts {
            return self.put_facts(writer, entry);
        }
        if entry.block.head.kind == BlockKind::Checkpoint {
            return self.put_checkpoint(writer, entry);
        }
        let redacts = entry.arguments && !self.wanted.arguments;
        if self.chosen.slots().is_none() && !redacts {
            return writer.block(&entry.block);
        }
        // Made here: it reads back.
        let Ok(batches) = entry.block.records() else { return Ok(()) };
        self.changed.clear();
        for (_, bytes) in batches.iter() {
            self.changed.push(bytes, |record| {
                // A record that cannot be redacted is not given out.
                self.chosen.has(Slot(slot_and_time(record).0)) && (!redacts || redact_arguments(record).is_ok())
            });
        }
        writer.records(&self.changed)
    }

    /// Of some workloads only their own processes.
    fn put_checkpoint(&self, writer: &mut TraceWriter<Vec<u8>>, entry: &Entry) -> Result<(), WriteError> {
        if self.chosen.slots().is_none() && (self.wanted.arguments || !entry.arguments) {
            return writer.block(&entry.block);
        }
        let Ok(facts) = entry.block.facts_told() else { return Ok(()) };
        writer.checkpoint(&checkpoint_of(&facts, self.chosen.slots(), self.wanted.arguments))
    }

    fn put_facts(&mut self, writer: &mut TraceWriter<Vec<u8>>, entry: &Entry) -> Result<(), WriteError> {
        let Ok(mut facts) = entry.block.facts_told() else { return Ok(()) };
        facts.iter().for_each(|fact| self.chosen.fact(fact));
        facts.retain(|fact| self.chosen.is_about(fact));
        for fact in &mut facts {
            if let What::Loss(loss) = &mut fact.what {
                *loss = self.since(loss);
            }
        }
        writer.facts(&facts)
    }
}
