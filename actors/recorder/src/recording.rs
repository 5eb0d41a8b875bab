//! One recording: a place in the ring that moves on.
//!
//! A recording in parts is one place all the same: where a part is full the next one begins with what was so just there, so that no record is
//! between two parts and none is in both. Invariant: each part has something beside its beginning, or the recording is over
//! ([`TooSmall`]); a block that does not fit into an empty part is told in pieces.

use palisade_domain::Slot;
use palisade_kernel_abi::record::{redact_arguments, slot_and_time};
use palisade_protocol::{RecordingRefused, TooSmall};
use palisade_wire::trace::{
    Batches, Block, BlockError, Chosen, Damage, Fact, Header, Loss, Picture, TraceWriter, What, WriteError,
    checkpoint_of, frame::BlockKind,
};

use crate::ring::{Entry, Ring};

/// What is asked of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) workloads: Vec<String>,
    pub(crate) arguments: bool,
    /// Boot time at which it ends.
    pub(crate) until_ns: Option<u64>,
    /// Of a part; 0: no bound.
    pub(crate) limit_bytes: u64,
    /// Where one is full the next one begins.
    pub(crate) in_parts: bool,
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

/// When something comes next, and what is lost by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    /// All before it is sealed.
    pub(crate) boot_ns: u64,
    pub(crate) unix_ns: u64,
    pub(crate) loss: &'a Loss,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something is written, or there is nothing yet.
    On,
    /// The part is full.
    Full,
    /// A part cannot be large enough for what comes next.
    TooSmall(TooSmall),
    /// All is told that was asked for.
    Ends,
}

/// What is made of an entry.
enum Made {
    /// A block, and how many records or facts of the entry are told with it.
    Block(Block, usize),
    /// Nothing of so many is for this recording.
    Nothing(usize),
    /// This much has no room.
    NoRoom(u64),
}

#[derive(Debug)]
pub(crate) struct Recording {
    /// None between two parts, and once it is over.
    writer: Option<TraceWriter<Vec<u8>>>,
    header: Header,
    is_over: bool,
    too_small: Option<TooSmall>,
    /// The block that comes next, and how many of its records or facts are told already.
    next: u64,
    told: usize,
    /// Nothing is in the part but its beginning.
    is_empty: bool,
    /// Records that it has passed, given out or not.
    records_passed: u64,
    shed: u64,
    /// What was lost before the part began: its counters begin with it.
    lost_before: Loss,
    chosen: Chosen,
    wanted: Wanted,
    /// Reused for each block that is changed.
    changed: Batches,
    /// What was so where the part began, once it is not the first: the next one is not far from there.
    began: Option<(Picture, (u64, usize))>,
}

impl Recording {
    /// Begins at a block of the ring with what is so there.
    pub(crate) fn begin(
        header: Header,
        wanted: Wanted,
        ring: &Ring,
        at: u64,
        (picture, lost_before): (&Picture, &Loss),
    ) -> Result<Self, RecordingRefused> {
        let now_ns = header.boot_ns;
        let mut recording = Self {
            writer: None,
            header,
            is_over: false,
            too_small: None,
            next: at,
            told: 0,
            is_empty: true,
            records_passed: ring.get(at).map_or(ring.records(), |entry| entry.records_before),
            shed: 0,
            lost_before: lost_before.clone(),
            chosen: Chosen::new(wanted.workloads.clone()),
            wanted,
            changed: Batches::new(),
            began: None,
        };
        let writer = recording.beginning(ring, picture, now_ns);
        recording.writer = Some(writer.map_err(|error| RecordingRefused::NotBegun(error.to_string()))?);
        recording.too_small.map_or(Ok(recording), |too_small| Err(too_small.into()))
    }

    /// The header, and what is so at the place.
    fn beginning(&mut self, ring: &Ring, picture: &Picture, now_ns: u64) -> Result<TraceWriter<Vec<u8>>, WriteError> {
        let mut writer = TraceWriter::begin(Vec::new(), &self.header)?;
        self.chosen.picture(picture);
        let began_ns = ring.get(self.next).map_or(now_ns, |entry| entry.block.head.first_ns);
        let mut facts = picture.facts(began_ns, self.chosen.slots(), self.wanted.arguments);
        facts.retain(|fact| !matches!(fact.what, What::Loss(_)));
        writer.facts(&facts)?;
        self.is_empty = true;
        if self.room(&writer).is_none() {
            self.too_small = Some(self.needs(&writer, 0));
        }
        Ok(writer)
    }

    /// The part after one that is full.
    fn next_part(&mut self, ring: &Ring, now: Now<'_>) -> Result<TraceWriter<Vec<u8>>, WriteError> {
        self.catch_up(ring);
        (self.header.boot_ns, self.header.unix_ns) = (now.boot_ns, now.unix_ns);
        // Several may begin at one moment.
        self.header.part += 1;
        let at = (self.next, self.told);
        let picture = ring.picture_within(at, self.began.take());
        let writer = self.beginning(ring, &picture, now.boot_ns);
        self.began = Some((picture, at));
        writer
    }

    /// Bytes that one more block may have; none where what is there is too much.
    fn room(&self, writer: &TraceWriter<Vec<u8>>) -> Option<u64> {
        match self.wanted.limit_bytes {
            0 => Some(u64::MAX),
            limit => limit.checked_sub(writer.len() + writer.ending_len()),
        }
    }

    fn needs(&self, writer: &TraceWriter<Vec<u8>>, more: u64) -> TooSmall {
        let needs_bytes = writer.len() + writer.ending_len() + more;
        TooSmall { needs_bytes, limit_bytes: self.wanted.limit_bytes }
    }

    /// Whether it was asked to keep arguments.
    pub(crate) const fn has_arguments(&self) -> bool {
        self.wanted.arguments
    }

    /// Why it is over though there is more, if that is so.
    pub(crate) const fn too_small(&self) -> Option<TooSmall> {
        self.too_small
    }

    /// It ends with what is sealed now.
    pub(crate) fn end(&mut self, now_ns: u64) {
        self.wanted.until_ns = Some(self.wanted.until_ns.map_or(now_ns, |until| until.min(now_ns)));
    }

    /// What comes next.
    pub(crate) fn next(&mut self, ring: &Ring, now: Now<'_>) -> Next {
        if self.is_over {
            return Next::Over;
        }
        let writer = match self.writer.take() {
            Some(writer) => Ok(writer),
            None => self.next_part(ring, now),
        };
        // What fails there is a header that was written once already.
        let Ok(mut writer) = writer else {
            self.is_over = true;
            return Next::Over;
        };
        if writer.out().is_empty() {
            // What fails here is a trace that has as many blocks as it may; one that has none yet would fail again.
            let failed = if self.is_empty { Step::Ends } else { Step::Full };
            match self.step(&mut writer, ring, now.boot_ns).unwrap_or(failed) {
                Step::On => {}
                step => return self.ended(writer, step, now),
            }
        }
        let bytes = std::mem::take(writer.out());
        if self.too_small.is_some() {
            // A part that is none is not given out: those before it are whole.
            self.is_over = true;
            return Next::Over;
        }
        self.writer = Some(writer);
        if bytes.is_empty() { Next::Nothing } else { Next::Bytes(bytes) }
    }

    /// The end of a part, and of the recording if no other follows.
    fn ended(&mut self, mut writer: TraceWriter<Vec<u8>>, step: Step, now: Now<'_>) -> Next {
        if let Step::TooSmall(too_small) = step {
            self.too_small = Some(too_small);
        }
        self.is_over = step != Step::Full || !self.wanted.in_parts;
        // What is lost by now counts, whenever it was said; and the next part counts from here on.
        let said = writer.facts(&[self.loss(now.boot_ns, now.loss)]);
        self.lost_before = now.loss.clone();
        self.shed = 0;
        said.and_then(|()| writer.finish()).map_or(Next::Over, Next::Bytes)
    }

    /// Writes the next block that has something of it.
    fn step(&mut self, writer: &mut TraceWriter<Vec<u8>>, ring: &Ring, now_ns: u64) -> Result<Step, WriteError> {
        if self.next < ring.first() && !self.fell_behind(writer, ring, now_ns)? {
            return Ok(Step::Full);
        }
        while writer.out().is_empty() {
            let Some(entry) = ring.get(self.next) else {
                let is_over = self.wanted.until_ns.is_some_and(|until| now_ns >= until);
                return Ok(if is_over { Step::Ends } else { Step::On });
            };
            if self.wanted.until_ns.is_some_and(|until| entry.block.head.first_ns > until) {
                return Ok(Step::Ends);
            }
            let made = match self.room(writer) {
                Some(room) => self.made(entry, room)?,
                None => Made::NoRoom(0),
            };
            match made {
                Made::Block(block, told) => {
                    writer.block(&block)?;
                    self.is_empty = false;
                    self.pass(entry, told);
                }
                Made::Nothing(told) => self.pass(entry, told),
                Made::NoRoom(bytes) if self.is_empty => return Ok(Step::TooSmall(self.needs(writer, bytes))),
                Made::NoRoom(_) => return Ok(Step::Full),
            }
        }
        Ok(Step::On)
    }

    /// So much of an entry is told.
    fn pass(&mut self, entry: &Entry, told: usize) {
        self.told += told;
        let records = entry.block.head.records;
        let is_passed = entry.block.head.kind == BlockKind::Checkpoint || self.told >= entry.items;
        if is_passed {
            self.next += 1;
            self.told = 0;
        }
        let of_entry = if is_passed { records } else { records.min(u32::try_from(self.told).unwrap_or(records)) };
        self.records_passed = entry.records_before + u64::from(of_entry);
    }

    /// What was next is forgotten: what is missing is counted.
    fn catch_up(&mut self, ring: &Ring) {
        if self.next >= ring.first() {
            return;
        }
        let before = ring.get(ring.first()).map_or(ring.records(), |entry| entry.records_before);
        self.shed += before.saturating_sub(self.records_passed);
        (self.next, self.told) = (ring.first(), 0);
        self.records_passed = before;
    }

    /// What was next is forgotten: what is missing is counted, and what is so now is told. False where that has no room.
    fn fell_behind(&mut self, writer: &mut TraceWriter<Vec<u8>>, ring: &Ring, now_ns: u64) -> Result<bool, WriteError> {
        self.catch_up(ring);
        self.chosen.picture(ring.base());
        let began_ns = ring.get(self.next).map_or(now_ns, |entry| entry.block.head.first_ns);
        let mut facts = ring.base().facts(began_ns, self.chosen.slots(), self.wanted.arguments);
        facts.retain(|fact| !matches!(fact.what, What::Loss(_) | What::SnapshotEnd));
        facts.push(self.loss(began_ns, ring.base().loss()));
        let blocks = Block::several_of_facts(&facts)?;
        let bytes: u64 = blocks.iter().map(Block::len).sum();
        if self.room(writer).is_none_or(|room| bytes > room) {
            return Ok(false);
        }
        blocks.iter().try_for_each(|block| writer.block(block))?;
        Ok(true)
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

    /// What of an entry is told next, in at most so many bytes.
    fn made(&mut self, entry: &Entry, room: u64) -> Result<Made, BlockError> {
        let made = match entry.block.head.kind {
            BlockKind::Records => self.made_of_records(entry, room),
            BlockKind::Facts => self.made_of_facts(entry, room),
            _ => self.made_of_checkpoint(entry, room),
        };
        match made {
            Ok(made) => Ok(made),
            Err(NotMade::Block(error)) => Err(error),
            // It was made here, so that it reads back: what does not is bytes that changed in memory.
            Err(NotMade::Damage(error)) => {
                tracing::error!(%error, "a block of the ring cannot be read: it is left out");
                Ok(Made::Nothing(entry.items))
            }
        }
    }

    fn made_of_records(&mut self, entry: &Entry, room: u64) -> Result<Made, NotMade> {
        let redacts = entry.arguments && !self.wanted.arguments;
        let left = entry.items.saturating_sub(self.told);
        if self.chosen.slots().is_none() && !redacts && self.told == 0 && entry.block.len() <= room {
            return Ok(Made::Block(entry.block.clone(), left));
        }
        let batches = entry.block.records()?;
        let (first, chosen) = (self.told, &self.chosen);
        let changed = &mut self.changed;
        fitting(left, room, self.is_empty, |count| {
            changed.clear();
            let mut nth = 0;
            for (_, bytes) in batches.iter() {
                changed.push(bytes, |record| {
                    nth += 1;
                    // A record that cannot be redacted is not given out.
                    (first..first + count).contains(&(nth - 1))
                        && chosen.has(Slot(slot_and_time(record).0))
                        && (!redacts || redact_arguments(record).is_ok())
                });
            }
            if changed.is_empty() { Ok(None) } else { changed.block().map(Some) }
        })
    }

    fn made_of_facts(&mut self, entry: &Entry, room: u64) -> Result<Made, NotMade> {
        let mut facts = entry.block.facts_told()?;
        facts.iter().for_each(|fact| self.chosen.fact(fact));
        for fact in &mut facts {
            if let What::Loss(loss) = &mut fact.what {
                *loss = self.since(loss);
            }
        }
        let (first, chosen) = (self.told, &self.chosen);
        fitting(entry.items.saturating_sub(first), room, self.is_empty, |count| {
            let told = facts.iter().skip(first).take(count).filter(|fact| chosen.is_about(fact));
            let told: Vec<Fact> = told.cloned().collect();
            if told.is_empty() { Ok(None) } else { Block::facts(&told).map(Some) }
        })
    }

    /// Of some workloads only their own processes. A part that has just begun has told them, and where it has no room a reader
    /// begins at the one before.
    fn made_of_checkpoint(&self, entry: &Entry, room: u64) -> Result<Made, NotMade> {
        let all = self.chosen.slots().is_none() && (self.wanted.arguments || !entry.arguments);
        let block = if self.is_empty {
            None
        } else if all {
            Some(entry.block.clone())
        } else {
            let facts = checkpoint_of(&entry.block.facts_told()?, self.chosen.slots(), self.wanted.arguments);
            if facts.is_empty() { None } else { Some(Block::checkpoint(&facts)?) }
        };
        let fits = block.filter(|block| block.len() <= room);
        Ok(fits.map_or(Made::Nothing(entry.items), |block| Made::Block(block, entry.items)))
    }
}

/// Why nothing is made of an entry.
enum NotMade {
    Damage(Damage),
    Block(BlockError),
}

impl From<Damage> for NotMade {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<BlockError> for NotMade {
    fn from(error: BlockError) -> Self {
        Self::Block(error)
    }
}

/// The block of as many as fit: of all, or, where the part is empty and would stay so, of less and less, down to one.
fn fitting(
    left: usize,
    room: u64,
    is_empty: bool,
    mut block_of: impl FnMut(usize) -> Result<Option<Block>, BlockError>,
) -> Result<Made, NotMade> {
    let mut count = left;
    loop {
        let Some(block) = block_of(count)? else { return Ok(Made::Nothing(count)) };
        if block.len() <= room {
            return Ok(Made::Block(block, count));
        }
        if !is_empty || count <= 1 {
            return Ok(Made::NoRoom(block.len()));
        }
        // Somewhat less than its share, for what is less compresses less; at most half, so that it ends soon.
        let share = count as u128 * u128::from(room) * 3 / (u128::from(block.len()) * 4);
        count = usize::try_from(share).unwrap_or(count).clamp(1, count / 2);
    }
}
