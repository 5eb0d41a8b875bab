//! Reading a trace in order, from whatever gives bytes: no seeking.
//!
//! Invariant: a record is given out only of a block whose sums hold. What is damaged is left out, named and counted, and reading goes on
//! with the next block whose head holds; where the file ends early, all whole blocks before are read and the report says what is missing.

use std::io::{self, Read};

use palisade_kernel_abi::record::{OLDEST_VERSION, VERSION as VERSION_OF_RECORDS};

use super::{
    block::{Batches, Block, Damage, read_facts, read_records},
    cbor::Reading,
    fact::{Fact, What},
    frame::{BLOCK_HEAD, BLOCK_MARK, BlockHead, BlockKind, FILE_HEAD, HeadError, TRAILER, TRAILER_MARK, Trailer},
    frame::{VERSION, version_of},
    header::{self, Header},
    holding::Holding,
    index::{self, Entry},
};

/// Damages that a report names; it counts them all.
pub const NAMED_DAMAGES: usize = 16;

/// Why a trace is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What gives the bytes failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin as a trace.
    #[error("this is no trace: it does not begin as one that `palisade record` writes")]
    NoTrace,
    /// A newer program wrote it.
    #[error(
        "trace version {found}, this program reads {VERSION}: read it with the palisade that wrote it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: u16,
    },
    /// The header is damaged, or cut off.
    #[error("the trace has no header that can be read ({0}): nothing in it can be trusted")]
    Header(String),
    /// The records are of another machine's byte order or layout.
    #[error("the trace's records are {0}, which this program does not read")]
    Records(String),
}

/// What a trace holds, block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Facts.
    Facts(Vec<Fact>),
    /// Records.
    Records(Batches),
    /// The processes that live here, for who has read no record before.
    Checkpoint(Vec<Fact>),
}

/// A place in the file that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Where it begins, bytes from the file's first.
    pub at: u64,
    /// The block's number, where its head holds.
    pub block: Option<u32>,
    /// Its records, where its head holds.
    pub records: Option<u32>,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.block, self.records) {
            (Some(block), Some(records)) => {
                write!(f, "block {block} at byte {} ({records} records) is left out: {}", self.at, self.why)
            }
            _ => write!(f, "what begins at byte {} is left out: {}", self.at, self.why),
        }
    }
}

/// How the file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// It is not read to its end yet.
    #[default]
    NotReached,
    /// As it should.
    Whole,
    /// Behind a block, without index and trailer: the recording was not ended, or the file is cut there.
    NoTrailer,
    /// Inside a block.
    Cut {
        /// Bytes of the block that are there.
        have: u64,
        /// Bytes that it has.
        need: u64,
        /// Its records, where its head is there.
        records: Option<u32>,
    },
}

/// What was read and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whole blocks, header and index among them.
    pub blocks: u64,
    /// Records given out.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of memory that all facts took that were given out.
    pub memory: u64,
    /// Latest time in a whole block of records, `CLOCK_BOOTTIME` nanoseconds.
    pub last_ns: u64,
    /// The first few damages.
    pub damages: Vec<Damaged>,
    /// How many there are.
    pub damaged: u64,
    /// Records of damaged blocks, as their heads say.
    pub damaged_records: u64,
    /// Blocks whose numbers are missing.
    pub missing_blocks: u64,
    /// How it ended.
    pub ending: Ending,
    /// Something stands after the trailer: another trace that was put behind, or what is none.
    pub has_more: bool,
}

impl Report {
    /// What is missing, a line each; none where nothing is.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.damages.iter().map(ToString::to_string).collect();
        if self.damaged > self.damages.len() as u64 {
            lines.push(format!("{} more damaged places are left out", self.damaged - self.damages.len() as u64));
        }
        if self.missing_blocks > 0 {
            lines.push(format!(
                "{} blocks are missing by their numbers; {} records are known to be among what is left out",
                self.missing_blocks, self.damaged_records
            ));
        }
        let until = || format!("{} blocks and {} records are whole", self.blocks, self.records);
        if self.has_more {
            lines.push(
                "what stands after the trace's end is not read: traces are put together by `palisade trace merge`"
                    .into(),
            );
        }
        match self.ending {
            Ending::NotReached | Ending::Whole => {}
            Ending::NoTrailer => lines.push(format!(
                "the trace ends without its index: {}; whether more was recorded, it does not say",
                until()
            )),
            Ending::Cut { have, need, records } => {
                let of = records.map(|records| format!(" of {records} records")).unwrap_or_default();
                lines.push(format!(
                    "the trace ends inside a block{of}, of which {} of {need} bytes are missing: {}; whether more was recorded, it does not say",
                    need.saturating_sub(have),
                    until()
                ));
            }
        }
        lines
    }
}

/// Bytes that are looked at before they are taken.
#[derive(Debug)]
struct Window<R> {
    from: R,
    buffer: Vec<u8>,
    /// Where the buffer's first byte is in the file.
    at: u64,
}

impl<R: Read> Window<R> {
    /// As many bytes as are there, up to `want`.
    fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.buffer.len() < want {
            let missing = (want - self.buffer.len()) as u64;
            // By what comes and not by what is said: a length that lies allocates no more than the file has.
            self.from.by_ref().take(missing).read_to_end(&mut self.buffer)?;
        }
        Ok(self.buffer.get(..want).unwrap_or(&self.buffer))
    }

    fn skip(&mut self, count: usize) {
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count);
        self.at += count as u64;
    }
}

/// Reads one trace.
#[derive(Debug)]
pub struct TraceReader<R> {
    window: Window<R>,
    header: Header,
    report: Report,
    next_sequence: u32,
    index: Option<Vec<Entry>>,
    holding: Holding,
    /// Blocks are left out by intent.
    sought: bool,
}

impl<R: Read> TraceReader<R> {
    /// Reads the file's head and the header.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(from: R) -> Result<Self, OpenError> {
        let mut window = Window { from, buffer: Vec::new(), at: 0 };
        let head = window.peek(FILE_HEAD)?.first_chunk::<FILE_HEAD>().copied().ok_or(OpenError::NoTrace)?;
        match version_of(&head) {
            None => return Err(OpenError::NoTrace),
            Some(VERSION) => {}
            Some(found) => return Err(OpenError::Newer { found }),
        }
        window.skip(FILE_HEAD);
        let unreadable = |why: String| OpenError::Header(why);
        let first = window.peek(BLOCK_HEAD)?.first_chunk::<BLOCK_HEAD>().copied();
        let head = first.ok_or_else(|| unreadable("the file ends before it".into()))?;
        let head = BlockHead::read(&head).map_err(|error| unreadable(error.to_string()))?;
        if head.kind != BlockKind::Header {
            return Err(unreadable("another block stands in its place".into()));
        }
        let whole = BLOCK_HEAD + head.stored as usize;
        let stored = window.peek(whole)?.get(BLOCK_HEAD..whole);
        let stored = stored.ok_or_else(|| unreadable("the file ends inside it".into()))?;
        let content = Block::content(&head, stored).map_err(|error| unreadable(error.to_string()))?;
        let mut reading = Reading::within(&content, header::MAX_MEMORY);
        let header = Header::read(&mut reading).map_err(|error| unreadable(error.to_string()))?;
        if header.little_endian != cfg!(target_endian = "little") {
            return Err(OpenError::Records("of a machine of another byte order".into()));
        }
        if !(OLDEST_VERSION..=VERSION_OF_RECORDS).contains(&header.record_version) {
            return Err(OpenError::Records(format!("of layout version {}", header.record_version)));
        }
        window.skip(whole);
        let report = Report { blocks: 1, ..Report::default() };
        Ok(Self { window, header, report, next_sequence: 1, index: None, holding: Holding::default(), sought: false })
    }

    /// The bytes are those of [`seek::Sought`](super::seek::Sought): blocks that are not there are not missing.
    #[must_use]
    pub fn sought(self) -> Self {
        Self { sought: true, ..self }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far and what was not; whole after [`Self::next_part`] gave nothing.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The index, once the reader came to it.
    #[must_use]
    pub fn index(&self) -> Option<&[Entry]> {
        self.index.as_deref()
    }

    /// The next part that is whole; nothing at the end.
    ///
    /// # Errors
    /// What gives the bytes failed.
    // Not an iterator: it may fail, and the report is read in between.
    pub fn next_part(&mut self) -> io::Result<Option<Part>> {
        loop {
            self.report.bytes = self.window.at;
            if self.report.ending != Ending::NotReached {
                return Ok(None);
            }
            let begins = self.window.peek(BLOCK_HEAD)?;
            if begins.is_empty() {
                self.report.ending = Ending::NoTrailer;
                return Ok(None);
            }
            if begins.get(..4) == Some(&TRAILER_MARK[..]) && self.ends()? {
                return Ok(None);
            }
            let Some(bytes) = self.window.peek(BLOCK_HEAD)?.first_chunk::<BLOCK_HEAD>().copied() else {
                let have = self.window.buffer.len() as u64;
                self.report.ending = Ending::Cut { have, need: BLOCK_HEAD as u64, records: None };
                continue;
            };
            match BlockHead::read(&bytes) {
                Ok(head) => {
                    if let Some(part) = self.block(&head)? {
                        return Ok(Some(part));
                    }
                }
                Err(error) => self.seek_head(&error)?,
            }
        }
    }

    /// Whether a trailer that holds stands here.
    fn ends(&mut self) -> io::Result<bool> {
        let trailer = self.window.peek(TRAILER)?.first_chunk::<TRAILER>().and_then(Trailer::read);
        if let Some(trailer) = trailer {
            let missing = trailer.blocks.saturating_sub(self.next_sequence);
            self.missing(missing);
            self.report.ending = Ending::Whole;
            self.window.skip(TRAILER);
            self.report.bytes = self.window.at;
            self.report.has_more = !self.window.peek(1)?.is_empty();
        }
        Ok(trailer.is_some())
    }

    /// Reads the block of a head that holds; nothing where it has nothing to give out.
    fn block(&mut self, head: &BlockHead) -> io::Result<Option<Part>> {
        let at = self.window.at;
        let whole = BLOCK_HEAD + head.stored as usize;
        let Some(stored) = self.window.peek(whole)?.get(BLOCK_HEAD..whole) else {
            let have = self.window.buffer.len() as u64;
            // A head whose content is cut off holds all the same: its records are known by number.
            self.report.ending = Ending::Cut { have, need: whole as u64, records: Some(head.records) };
            return Ok(None);
        };
        let mut memory = 0;
        let read = Block::content(head, stored).and_then(|content| match head.kind {
            BlockKind::Facts => {
                let facts = read_facts(&content, |fact, of_fact| {
                    memory += of_fact as u64;
                    Ok(self.holding.fact(fact, of_fact)?)
                });
                facts.map(|facts| Some(Part::Facts(facts)))
            }
            BlockKind::Checkpoint => {
                let facts = read_facts(&content, |fact, of_fact| {
                    memory += of_fact as u64;
                    if matches!(fact.what, What::Process(_)) { Ok(()) } else { Err(Damage::NoCheckpoint) }
                });
                facts.map(|facts| Some(Part::Checkpoint(facts)))
            }
            BlockKind::Records => read_records(head, &content).map(|batches| Some(Part::Records(batches))),
            BlockKind::Index => {
                self.index = Some(index::read(&mut Reading::new(&content))?);
                Ok(None)
            }
            BlockKind::Header => Err(Damage::Longer),
        });
        self.window.skip(whole);
        let is_late = head.sequence < self.next_sequence;
        if read.is_ok() && !is_late {
            self.holding.keep();
        } else {
            self.holding.take_back();
        }
        if is_late {
            // A block of before, or of another file: given out twice, its records would be told as having happened twice.
            let why = format!("its number comes after block {}", self.next_sequence.saturating_sub(1));
            self.damaged(Damaged { at, block: Some(head.sequence), records: Some(head.records), why });
            return Ok(None);
        }
        self.missing(head.sequence - self.next_sequence);
        self.next_sequence = head.sequence.saturating_add(1);
        match read {
            Ok(part) => {
                self.report.blocks += 1;
                self.report.memory += memory;
                if head.kind == BlockKind::Records {
                    self.report.records += u64::from(head.records);
                    self.report.last_ns = self.report.last_ns.max(head.last_ns);
                }
                Ok(part)
            }
            Err(error) => {
                let (block, records) = (Some(head.sequence), Some(head.records));
                self.damaged(Damaged { at, block, records, why: error.to_string() });
                Ok(None)
            }
        }
    }

    fn missing(&mut self, blocks: u32) {
        self.report.missing_blocks += if self.sought { 0 } else { u64::from(blocks) };
    }

    fn damaged(&mut self, what: Damaged) {
        self.report.damaged += 1;
        self.report.damaged_records += u64::from(what.records.unwrap_or(0));
        if self.report.damages.len() < NAMED_DAMAGES {
            self.report.damages.push(what);
        }
    }

    /// Goes on to the next head that holds, or the trailer, or the end.
    fn seek_head(&mut self, error: &HeadError) -> io::Result<()> {
        /// Bytes that are looked through at a time.
        const STEP: usize = 64 << 10;
        let at = self.window.at;
        self.window.skip(1);
        loop {
            let ahead = self.window.peek(STEP + BLOCK_HEAD)?;
            let (over, len) = (ahead.len() < STEP + BLOCK_HEAD, ahead.len());
            let holds = |at: usize| {
                let rest = ahead.get(at..).unwrap_or_default();
                let is_head = rest.starts_with(&BLOCK_MARK)
                    && rest.first_chunk().is_some_and(|head| !matches!(BlockHead::read(head), Err(HeadError::NoHead)));
                let is_end = rest.starts_with(&TRAILER_MARK) && rest.first_chunk().and_then(Trailer::read).is_some();
                is_head || is_end
            };
            if let Some(found) = (0..len).find(|at| holds(*at)) {
                self.window.skip(found);
                break;
            }
            if over {
                self.window.skip(len);
                break;
            }
            self.window.skip(STEP);
        }
        let why = format!("{error}; {} bytes", self.window.at - at);
        self.damaged(Damaged { at, block: None, records: None, why });
        Ok(())
    }
}
