//! Traces made of traces: a part cut out, parts put together, arguments overwritten.
//!
//! Invariant: what comes out is a trace like any other, with a start snapshot of its own first moment, and no record of it differs from the one
//! that came in but for what redaction overwrites. What was missing or damaged in what came in is in the reports that are handed back.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, Write},
};

use palisade_domain::Slot;
use palisade_kernel_abi::record::{RecordReader, numbering, redact_arguments, slices, slot_and_time};
use palisade_wire::trace::{
    Batches, Chosen, Ending, Fact, Header, Loss, OpenError, Part, Picture, Report, TraceReader, TraceWriter, What,
    WriteError, checkpoint_of, seek,
};

#[cfg(test)]
mod tests;

/// Why no trace was made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What comes in is no trace, or cannot be read.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// What gives the bytes failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What takes the bytes failed.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// Traces that do not belong together.
    #[error("the traces are not parts of one recording: {0}")]
    Apart(String),
    /// They tell the same for longer than can be remembered.
    #[error("the traces overlap by more than {MAX_SEEN} records: cut off what both tell (`palisade trace cut`)")]
    Overlap,
    /// One of several traces that come in.
    #[error("{why}")]
    Input {
        /// Which, from 0.
        which: usize,
        /// Why.
        why: Box<EditError>,
    },
}

/// What gives a trace part by part.
pub trait Parts {
    /// Its header.
    fn header(&self) -> &Header;

    /// The next part; none at the end.
    ///
    /// # Errors
    /// What gives the bytes failed.
    fn next_part(&mut self) -> io::Result<Option<Part>>;

    /// What was read so far, and what could not be.
    fn report(&self) -> &Report;
}

impl<R: Read> Parts for TraceReader<R> {
    fn header(&self) -> &Header {
        Self::header(self)
    }

    fn next_part(&mut self) -> io::Result<Option<Part>> {
        Self::next_part(self)
    }

    fn report(&self) -> &Report {
        Self::report(self)
    }
}

/// What is cut out. Times are `CLOCK_BOOTTIME` nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from_ns: u64,
    /// The last one.
    pub until_ns: u64,
    /// Only workloads of these names; empty: all.
    pub workloads: Vec<String>,
}

/// Cuts a part out of a trace: `from` gives all its parts, or those that are sought ([`palisade_wire::trace::seek`]). What comes before the
/// part that is cut out is read for what was so at its beginning. What cannot be read before the end of the span is lost in what is made, and
/// said there; what is behind the span is none of it. How many processes the beginning goes without, or without their arguments, comes back.
///
/// # Errors
/// See [`EditError`].
pub fn cut<W: Write>(from: &mut impl Parts, span: &Span, to: W) -> Result<(W, u64), EditError> {
    let mut header = from.header().clone();
    if !span.workloads.is_empty() {
        header.workloads.clone_from(&span.workloads);
    }
    let mut cutting = Cutting {
        writer: TraceWriter::begin(to, &header)?,
        chosen: Chosen::new(span.workloads.clone()),
        picture: Picture::default(),
        began: false,
        followed: false,
        is_past: false,
        span,
        kept: Batches::new(),
        loss: None,
        lost: Lost::default(),
    };
    while let Some(part) = from.next_part()? {
        match part {
            Part::Facts(facts) => cutting.facts(&facts)?,
            Part::Records(batches) => cutting.records(&batches, from.report())?,
            Part::Checkpoint(facts) => cutting.checkpoint(&facts)?,
        }
    }
    cutting.end(from.report())
}

struct Cutting<'s, W: Write> {
    writer: TraceWriter<W>,
    chosen: Chosen,
    /// What is so until it begins.
    picture: Picture,
    began: bool,
    /// Whether the picture has followed any record: a checkpoint says less than what was followed.
    followed: bool,
    /// Records came that are all later than the span.
    is_past: bool,
    span: &'s Span,
    kept: Batches,
    /// What was said to be lost next after the span: of its last seconds nothing else tells.
    loss: Option<Fact>,
    lost: Lost,
}

impl<W: Write> Cutting<'_, W> {
    /// The snapshot, before the first record or fact of the span.
    fn begin(&mut self, boot_ns: u64) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.began, true) {
            return Ok(());
        }
        self.chosen.picture(&self.picture);
        self.writer.facts(&self.picture.facts(boot_ns, self.chosen.slots(), true))
    }

    fn facts(&mut self, facts: &[Fact]) -> Result<(), WriteError> {
        for fact in facts {
            if fact.boot_ns > self.span.until_ns {
                if matches!(fact.what, What::Loss(_)) && self.loss.is_none() {
                    self.loss = Some(Fact { boot_ns: self.span.until_ns, what: fact.what.clone() });
                }
                continue;
            }
            self.lost.hear(std::slice::from_ref(fact));
            self.chosen.fact(fact);
            // Those of the snapshot are told as the new one's.
            if !self.began {
                self.picture.fact(fact);
            }
        }
        let is_of = |fact: &&Fact| {
            let in_span = (self.span.from_ns..=self.span.until_ns).contains(&fact.boot_ns);
            in_span && self.chosen.is_about(fact) && fact.what != What::SnapshotEnd
        };
        let kept: Vec<Fact> = if self.began { facts.iter().filter(is_of).cloned().collect() } else { Vec::new() };
        self.writer.facts(&kept)
    }

    fn checkpoint(&mut self, facts: &[Fact]) -> Result<(), WriteError> {
        if self.began {
            return self.writer.checkpoint(&checkpoint_of(facts, self.chosen.slots(), true));
        }
        if !self.followed {
            self.picture.forget_processes();
            facts.iter().for_each(|fact| self.picture.fact(fact));
        }
        Ok(())
    }

    fn records(&mut self, batches: &Batches, report: &Report) -> Result<(), WriteError> {
        self.followed = true;
        let is_later = |record| slot_and_time(record).1 > self.span.until_ns;
        if !self.is_past && !batches.is_empty() && slices(batches.bytes()).all(is_later) {
            self.is_past = true;
            // What was left out before these may be of the span; what is behind them is not.
            self.lost.left_out(report);
        }
        self.kept.clear();
        let (span, chosen) = (self.span, &self.chosen);
        let is_of = |record: &[u8]| {
            let (slot, boot_ns) = slot_and_time(record);
            (span.from_ns..=span.until_ns).contains(&boot_ns) && chosen.has(Slot(slot))
        };
        for (_, bytes) in batches.iter() {
            self.kept.push(bytes, |record| is_of(record));
        }
        let first = slices(self.kept.bytes()).map(|record| slot_and_time(record).1).min();
        if !self.began {
            let mut before = RecordReader::new(batches.bytes()).flatten();
            let is_before = |boot_ns| boot_ns < first.unwrap_or(span.from_ns).min(span.until_ns);
            before
                .by_ref()
                .filter(|record| is_before(record.header.boot_ns))
                .for_each(|record| self.picture.record(&record));
        }
        if let Some(first) = first {
            self.begin(first)?;
        }
        self.writer.records(&self.kept)
    }

    fn end(mut self, report: &Report) -> Result<(W, u64), EditError> {
        self.begin(self.span.from_ns)?;
        if !self.is_past {
            self.lost.damaged(report);
        }
        let mut facts = Vec::new();
        if let Some(loss) = self.loss.take() {
            self.lost.hear(std::slice::from_ref(&loss));
            facts.push(loss);
        }
        let of_damage = self.lost.facts();
        if !of_damage.is_empty() {
            facts = of_damage;
        }
        facts.iter_mut().for_each(|fact| fact.boot_ns = fact.boot_ns.min(self.span.until_ns));
        self.writer.facts(&facts)?;
        Ok((self.writer.finish()?, self.picture.left_out()))
    }
}

/// Overwrites the arguments of processes.
///
/// # Errors
/// See [`EditError`].
pub fn redact<W: Write>(from: impl Read, to: W) -> Result<(W, Report, u64), EditError> {
    let mut reader = TraceReader::open(from)?;
    let header = Header { redacted: vec!["arguments".into()], ..reader.header().clone() };
    let mut writer = TraceWriter::begin(to, &header)?;
    let (mut kept, mut redacted) = (Batches::new(), 0);
    let mut lost = Lost::default();
    while let Some(part) = reader.next_part()? {
        match part {
            Part::Checkpoint(facts) => writer.checkpoint(&checkpoint_of(&facts, None, false))?,
            Part::Facts(mut facts) => {
                lost.hear(&facts);
                for fact in &mut facts {
                    if let What::Process(process) = &mut fact.what {
                        redacted += u64::from(!process.arguments.is_empty());
                        process.arguments.clear();
                    }
                }
                writer.facts(&facts)?;
            }
            Part::Records(batches) => {
                kept.clear();
                for (_, bytes) in batches.iter() {
                    // What cannot be read cannot be redacted, and is left out.
                    kept.push(bytes, |record| {
                        let done = redact_arguments(record);
                        redacted += u64::from(done == Ok(true));
                        lost.records += u64::from(done.is_err());
                        done.is_ok()
                    });
                }
                writer.records(&kept)?;
            }
        }
    }
    lost.damaged(reader.report());
    writer.facts(&lost.facts())?;
    Ok((writer.finish()?, reader.report().clone(), redacted))
}

/// Puts parts of one recording together, in the order of their beginnings: of one node and one boot. The first one's snapshot begins the
/// trace; those of the others are facts of their moments. The reports are in the order in which the traces were given.
///
/// # Errors
/// See [`EditError`].
pub fn merge<R: Read + Seek, W: Write>(from: Vec<R>, to: W) -> Result<(W, Vec<Report>), EditError> {
    merge_by(from, to, &mut Seen::default())
}

/// One of the traces that come in.
struct Incoming<R> {
    /// As which it was given.
    which: usize,
    /// Earliest time of its records; 0 where it cannot be told before they are read.
    first_ns: u64,
    reader: TraceReader<R>,
}

fn merge_by<R: Read + Seek, W: Write>(from: Vec<R>, to: W, seen: &mut Seen) -> Result<(W, Vec<Report>), EditError> {
    let open = |(which, mut from): (usize, R)| {
        let of = |why: EditError| EditError::Input { which, why: Box::new(why) };
        // A pipe has no place to go back to.
        let can_seek = from.stream_position().is_ok();
        let first_ns = if can_seek { seek::first_ns(&mut from).map_err(|error| of(error.into()))? } else { None };
        let reader = TraceReader::open(from).map_err(|error| of(error.into()))?;
        Ok(Incoming { which, first_ns: first_ns.unwrap_or(0), reader })
    };
    let mut parts = from.into_iter().enumerate().map(open).collect::<Result<Vec<_>, EditError>>()?;
    parts.sort_by_key(|part| (part.reader.header().boot_ns, part.reader.header().part));
    let mut writer = TraceWriter::begin(to, &merged_header(&parts)?)?;
    let mut reports = vec![Report::default(); parts.len()];
    let (mut lost, mut picture) = (Lost::default(), Picture::default());
    // Latest record of the parts before.
    let mut told_ns = 0;
    // Of each part, where the first of those behind it begins: what is earlier nobody tells again.
    let mut begins: Vec<u64> = parts.iter().map(|part| part.first_ns).collect();
    for at in (0..begins.len()).rev() {
        begins[at] = begins[at].min(begins.get(at + 1).copied().unwrap_or(u64::MAX));
    }
    // Each reader goes with its part: what it holds is as much as a trace may make it hold.
    for (number, Incoming { which, mut reader, .. }) in parts.into_iter().enumerate() {
        let before_ns = told_ns;
        seen.begin_part(begins.get(number + 1).copied().unwrap_or(u64::MAX));
        while let Some(part) =
            reader.next_part().map_err(|error| EditError::Input { which, why: Box::new(error.into()) })?
        {
            match part {
                Part::Facts(mut facts) => {
                    // A snapshot from before what the last part told of a process says what it was, not what it is.
                    let is_old = |fact: &Fact| fact.boot_ns <= before_ns && is_known(&picture, fact);
                    facts.retain(|fact| number == 0 || (fact.what != What::SnapshotEnd && !is_old(fact)));
                    // It is asked of processes alone.
                    facts.iter().filter(|fact| is_of_process(fact)).for_each(|fact| picture.fact(fact));
                    lost.hear(&facts);
                    writer.facts(&facts)?;
                }
                Part::Records(batches) => {
                    let new = seen.new_of(&batches)?;
                    for record in RecordReader::new(new.bytes()).flatten() {
                        told_ns = told_ns.max(record.header.boot_ns);
                        picture.record(&record);
                    }
                    writer.records(&new)?;
                }
                Part::Checkpoint(facts) => writer.checkpoint(&facts)?,
            }
        }
        seen.end_part();
        lost.damaged(reader.report());
        reports[which] = reader.report().clone();
    }
    writer.facts(&lost.facts())?;
    Ok((writer.finish()?, reports))
}

/// The first one's header, with what all of them lack.
fn merged_header<R: Read>(parts: &[Incoming<R>]) -> Result<Header, EditError> {
    let Some(first) = parts.first().map(|part| part.reader.header()) else {
        return Err(EditError::Apart("there are none".into()));
    };
    let mut header = first.clone();
    for Incoming { which, reader, .. } in parts {
        let other = reader.header();
        let apart = |why: String| EditError::Input { which: *which, why: Box::new(EditError::Apart(why)) };
        if (&other.node, &other.node_id, &other.kernel) != (&first.node, &first.node_id, &first.kernel) {
            return Err(apart(format!("one is of node {}, another of node {}", first.node, other.node)));
        }
        let booted = |header: &Header| header.unix_ns.saturating_sub(header.boot_ns);
        // A wall clock that was set in between is not another boot; an hour is more than any clock is set by.
        if booted(other).abs_diff(booted(first)) > 3_600_000_000_000 {
            return Err(apart(format!("node {} was booted in between", first.node)));
        }
        header.record_version = header.record_version.max(other.record_version);
        header.redacted.extend(other.redacted.iter().cloned());
        header.workloads = if header.workloads.is_empty() || other.workloads.is_empty() {
            Vec::new()
        } else {
            [header.workloads, other.workloads.clone()].concat()
        };
    }
    for list in [&mut header.redacted, &mut header.workloads] {
        list.sort();
        list.dedup();
    }
    Ok(header)
}

const fn is_of_process(fact: &Fact) -> bool {
    matches!(fact.what, What::Process(_))
}

/// Whether a fact is of a process of which it is known what it executes.
fn is_known(picture: &Picture, fact: &Fact) -> bool {
    matches!(&fact.what, What::Process(process) if picture.knows(process))
}

/// What the traces that come in have not: it is missing in what is made of them as well.
#[derive(Debug, Default)]
struct Lost {
    /// As it was said last.
    said: Loss,
    boot_ns: u64,
    /// Of damaged places: records by number, and one for each place that tells no number.
    records: u64,
}

impl Lost {
    fn hear(&mut self, facts: &[Fact]) {
        for fact in facts {
            self.boot_ns = self.boot_ns.max(fact.boot_ns);
            if let What::Loss(loss) = &fact.what {
                self.said = loss.clone();
            }
        }
    }

    /// Of a trace that is read to its end.
    fn damaged(&mut self, report: &Report) {
        self.left_out(report);
        let ending = match report.ending {
            Ending::NotReached | Ending::Whole => 0,
            Ending::NoTrailer => 1,
            Ending::Cut { records, .. } => u64::from(records.unwrap_or(0)).max(1),
        };
        self.records = self.records.saturating_add(ending).saturating_add(u64::from(report.has_more));
    }

    /// Of what was read until now.
    fn left_out(&mut self, report: &Report) {
        self.boot_ns = self.boot_ns.max(report.last_ns);
        let places = report.damaged.saturating_add(report.missing_blocks);
        self.records = self.records.saturating_add(report.damaged_records.max(places));
    }

    /// As a fact, where anything is.
    fn facts(&self) -> Vec<Fact> {
        if self.records == 0 {
            return Vec::new();
        }
        let malformed = self.said.malformed.saturating_add(self.records);
        vec![Fact { boot_ns: self.boot_ns, what: What::Loss(Loss { malformed, ..self.said.clone() }) }]
    }
}

/// Records that are remembered, so that none is told twice: 192 MiB of those of the part that is read, and, while they are put in order at
/// its end, up to 128 MiB beside. That is a quarter of an hour of 10,000 records a second that two recordings both have.
pub const MAX_SEEN: usize = 8 << 20;

/// Records of the parts before: recordings that overlap tell an act twice.
///
/// Remembered are those only that a later part may have: of the time at which the first of the later ones begins, and after it. So that
/// a merge of any number of files of a rotation remembers a few seconds of records.
#[derive(Debug, Default)]
struct Seen {
    /// Number and time of each, by producer: numbers begin anew with a node that starts again. Sorted up to the last part's end.
    before: BTreeMap<u32, Vec<(u64, u64)>>,
    now: Vec<(u32, (u64, u64))>,
    /// The first moment that a later part has.
    from_ns: u64,
    remembered: usize,
    /// The most that ever were.
    most: usize,
}

impl Seen {
    /// A part begins, behind which others have records from this moment on.
    fn begin_part(&mut self, from_ns: u64) {
        self.from_ns = from_ns;
    }

    fn new_of(&mut self, batches: &Batches) -> Result<Batches, EditError> {
        let mut new = Batches::new();
        for (_, bytes) in batches.iter() {
            new.push(bytes, |record| {
                let (producer, sequence) = numbering(record);
                let key = (sequence, slot_and_time(record).1);
                let is_new = self.before.get(&producer).is_none_or(|seen| seen.binary_search(&key).is_err());
                if is_new && key.1 >= self.from_ns {
                    self.now.push((producer, key));
                }
                is_new
            });
        }
        self.most = self.most.max(self.remembered + self.now.len());
        if self.remembered + self.now.len() > MAX_SEEN { Err(EditError::Overlap) } else { Ok(new) }
    }

    fn end_part(&mut self) {
        let from_ns = self.from_ns;
        self.before.values_mut().for_each(|seen| seen.retain(|(_, boot_ns)| *boot_ns >= from_ns));
        for (producer, key) in self.now.drain(..) {
            self.before.entry(producer).or_default().push(key);
        }
        self.before.retain(|_, seen| !seen.is_empty());
        self.before.values_mut().for_each(|seen| {
            seen.sort_unstable();
            seen.shrink_to_fit();
        });
        self.remembered = self.before.values().map(Vec::len).sum();
    }
}
