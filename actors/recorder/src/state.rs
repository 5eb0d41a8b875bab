//! From batches and facts to blocks, and from blocks to recordings: the pure part.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use palisade_kernel_abi::record::{Kind, RecordReader, redact_arguments};
use palisade_protocol::{
    PolicyAnnounced, PolicyInstalled, RecordTrace, RecordingCounts, RecordingEnd, RecordingOutcome, RecordingOver,
    RecordingRefused,
};
use palisade_supervision::Kept;
use palisade_wire::trace::{Batches, Block, CHECKPOINT_RECORDS, Fact, Header, Loss, Picture, Process, What};

use crate::{
    recording::{Next, Now, Recording, Wanted},
    ring::Ring,
    trigger::{Begin, Trigger},
};

pub use crate::trigger::AroundAlerts;

/// Recordings at a time: a person or two, and one around an alert.
pub const RECORDINGS: usize = 8;
/// Bytes of the ring while it is kept only because a recording runs.
pub const RING_WHILE_RECORDING: u64 = 8 << 20;
/// How long what is open waits to be sealed, nanoseconds: a recording is at most this much behind.
pub const SEAL_NS: u64 = 1_000_000_000;
/// Producers that are counted by: more than any machine has CPUs.
const MAX_PRODUCERS: usize = 16_384;
/// Recordings that were over of which it is known why: as many as run.
const OVER_KEPT: usize = RECORDINGS;
/// A clock that was set, and not one that drifts between two readings.
const CLOCK_STEP_NS: u64 = 1_000_000;

/// What is kept, and how traces begin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Of each trace, but for times, bounds and what is redacted.
    pub header: Header,
    /// Bytes of the ring; 0: none while no recording runs.
    pub ring_bytes: u64,
    /// How far it reaches back, nanoseconds.
    pub ring_ns: u64,
    /// Keep arguments in the ring.
    pub arguments: bool,
    /// Keep the traces around alerts: none, or how.
    pub around_alerts: Option<AroundAlerts>,
    /// Recordings are numbered from here on. Two lives of a recorder number from elsewhere: who asks why the recording of one was over would
    /// else end that of another.
    pub first_id: u64,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    ring: Ring,
    /// What is so at the last record. Facts are said once, so that it outlives the actor.
    now: Kept<Picture>,
    records: Batches,
    records_have_arguments: bool,
    facts: Vec<Fact>,
    /// Boot time since when something is open.
    open_since_ns: Option<u64>,
    /// The next number of each producer.
    sequences: BTreeMap<u32, u64>,
    loss: Loss,
    loss_said_ns: u64,
    /// Records since the processes were told.
    since_checkpoint: u64,
    /// Checkpoints that were more than a block holds.
    pub(crate) checkpoints_left_out: u64,
    /// It is said that processes are left out.
    pub(crate) says_left_out: bool,
    clock: Option<u64>,
    recordings: BTreeMap<u64, Recording>,
    /// Why the last ones were over that should have gone on.
    over: VecDeque<(u64, RecordingOver)>,
    /// How all ended that are over.
    ended: BTreeMap<RecordingOutcome, u64>,
    next_id: u64,
    trigger: Option<Trigger>,
}

impl State {
    /// Nothing recorded yet, where this is so.
    #[must_use]
    pub fn knowing(settings: Settings, now: Kept<Picture>) -> Self {
        let ring = Ring::beginning_with(now.lock().clone());
        let trigger = settings.around_alerts.clone().map(Trigger::new);
        let next_id = settings.first_id;
        Self {
            settings,
            ring,
            now,
            records: Batches::new(),
            records_have_arguments: false,
            facts: Vec::new(),
            open_since_ns: None,
            sequences: BTreeMap::new(),
            loss: Loss::default(),
            loss_said_ns: 0,
            since_checkpoint: 0,
            checkpoints_left_out: 0,
            says_left_out: false,
            clock: None,
            recordings: BTreeMap::new(),
            over: VecDeque::new(),
            ended: BTreeMap::new(),
            next_id,
            trigger,
        }
    }

    /// A process that ran before the probes: it is part of the beginning, and no fact of a moment.
    #[must_use]
    pub fn listing(mut self, processes: impl IntoIterator<Item = Process>) -> Self {
        let mut now = self.now.lock();
        processes.into_iter().for_each(|process| now.fact(&Fact { boot_ns: 0, what: What::Process(process) }));
        self.ring = Ring::beginning_with(now.clone());
        drop(now);
        self
    }

    /// Bytes in the ring.
    #[must_use]
    pub const fn ring_bytes(&self) -> u64 {
        self.ring.bytes()
    }

    #[cfg(test)]
    pub(crate) const fn ring(&self) -> &Ring {
        &self.ring
    }

    fn is_kept(&self) -> bool {
        self.settings.ring_bytes > 0 || !self.recordings.is_empty()
    }

    /// Something is so from now on.
    pub fn fact(&mut self, boot_ns: u64, what: What) {
        let fact = Fact { boot_ns, what };
        self.now.lock().fact(&fact);
        if !self.is_kept() {
            self.ring = Ring::default();
            return;
        }
        // Records of before stand before it.
        self.seal_records();
        self.open_since_ns.get_or_insert(boot_ns);
        self.facts.push(fact);
    }

    /// A batch of the kernel's records.
    pub fn batch(&mut self, now_ns: u64, bytes: &[u8]) {
        if !self.is_kept() {
            self.follow(bytes);
            return;
        }
        self.seal_facts();
        if !self.records.has_room() {
            self.seal_records();
        }
        let arguments = self.settings.arguments || self.recordings.values().any(Recording::has_arguments);
        if self.records_have_arguments != arguments && !self.records.is_empty() {
            self.seal_records();
        }
        self.records_have_arguments = arguments;
        self.open_since_ns.get_or_insert(now_ns);
        let mut records = std::mem::take(&mut self.records);
        let now = self.now.clone();
        let mut now = now.lock();
        let untold = records.push(bytes, |record| {
            let Some(Ok(read)) = RecordReader::new(record).next() else {
                self.loss.malformed += 1;
                return false;
            };
            self.number(read.header.producer, read.header.sequence);
            if let Some(trigger) = &mut self.trigger {
                trigger.record(&read);
            }
            now.record(&read);
            // No other has any, and to look for them is to decode it once more.
            arguments || read.kind() != Kind::Exec || redact_arguments(record).is_ok()
        });
        self.loss.malformed += u64::from(untold > 0);
        self.records = records;
    }

    /// Only what is so now is kept.
    fn follow(&mut self, bytes: &[u8]) {
        let now = self.now.clone();
        let mut now = now.lock();
        for record in RecordReader::new(bytes).flatten() {
            self.number(record.header.producer, record.header.sequence);
            if let Some(trigger) = &mut self.trigger {
                trigger.record(&record);
            }
            now.record(&record);
        }
    }

    fn number(&mut self, producer: u32, sequence: u64) {
        if self.sequences.len() >= MAX_PRODUCERS && !self.sequences.contains_key(&producer) {
            self.loss.malformed += 1;
            return;
        }
        let next = self.sequences.entry(producer).or_insert(sequence);
        if sequence >= *next {
            self.loss.missing = self.loss.missing.saturating_add(sequence - *next);
            *next = sequence.saturating_add(1);
        } else {
            // A program that was preempted writes its number late.
            self.loss.missing = self.loss.missing.saturating_sub(1);
        }
    }

    /// What the kernel counted by kind and reason, since its probes were loaded.
    pub fn kernel_lost(&mut self, rows: Vec<(u16, String, u64)>) {
        self.loss.kernel = rows;
    }

    /// Time passes: `boot_ns` and the wall clock's distance from it.
    pub fn tick(&mut self, boot_ns: u64, unix_minus_boot_ns: u64) {
        if self.clock.is_none_or(|clock| clock.abs_diff(unix_minus_boot_ns) > CLOCK_STEP_NS) {
            self.clock = Some(unix_minus_boot_ns);
            self.fact(boot_ns, What::Clock(unix_minus_boot_ns));
        }
        let left_out = self.now.lock().left_out();
        if left_out > 0 && !std::mem::replace(&mut self.says_left_out, true) {
            tracing::warn!(
                left_out,
                "living processes are not in traces, or without arguments: there are more than are kept"
            );
        }
        // Not with each tick: a fact ends a block.
        let is_old = boot_ns.saturating_sub(self.loss_said_ns) >= SEAL_NS;
        if is_old && self.is_kept() && *self.now.lock().loss() != self.loss {
            self.loss_said_ns = boot_ns;
            self.fact(boot_ns, What::Loss(self.loss.clone()));
        }
        let is_due = |since: u64| boot_ns.saturating_sub(since) >= SEAL_NS || !self.recordings.is_empty();
        if self.open_since_ns.is_some_and(is_due) {
            self.seal();
        }
        self.forget(boot_ns);
    }

    fn forget(&mut self, boot_ns: u64) {
        if self.is_kept() {
            let while_recording = if self.recordings.is_empty() { 0 } else { RING_WHILE_RECORDING };
            let bytes = self.settings.ring_bytes.max(while_recording);
            self.ring.forget(bytes, boot_ns.saturating_sub(self.settings.ring_ns));
        } else if self.ring.bytes() > 0 {
            self.ring = Ring::default();
        }
    }

    /// Makes blocks of what is open.
    pub fn seal(&mut self) {
        self.seal_facts();
        self.seal_records();
        self.open_since_ns = None;
    }

    fn seal_records(&mut self) {
        if self.records.is_empty() {
            return;
        }
        match self.records.block() {
            Ok(block) => self.ring.push(block, self.records_have_arguments, self.records.records()),
            Err(error) => {
                self.loss.malformed += self.records.records() as u64;
                tracing::error!(%error, "a block of records is not kept");
            }
        }
        self.since_checkpoint += self.records.records() as u64;
        self.records.clear();
        self.open_since_ns = None;
        if self.since_checkpoint >= CHECKPOINT_RECORDS {
            self.since_checkpoint = 0;
            self.checkpoint();
        }
    }

    /// The processes that live now: all that was read of records is in the ring.
    fn checkpoint(&mut self) {
        let boot_ns = self.ring.last_ns();
        // What is kept only since somebody asked for it is not in what tells of before.
        let arguments = self.settings.arguments;
        let facts = self.now.lock().checkpoint(boot_ns, None, arguments);
        // Without one a reader begins at the one before, or at the beginning: what it reads more is time. Without arguments it would fit, and
        // who begins there would not have those of processes that live on.
        match Block::checkpoint(&facts) {
            Ok(block) => self.ring.push(block, arguments, facts.len()),
            Err(error) => {
                self.checkpoints_left_out += 1;
                if self.checkpoints_left_out == 1 {
                    tracing::warn!(%error, "what lives is too much for a checkpoint: who seeks in a trace reads more of it");
                } else {
                    tracing::debug!(%error, count = self.checkpoints_left_out, "no checkpoint");
                }
            }
        }
    }

    fn seal_facts(&mut self) {
        let mut facts = std::mem::take(&mut self.facts);
        if facts.is_empty() {
            return;
        }
        match Block::facts(&facts) {
            Ok(block) => self.ring.push(block, false, facts.len()),
            Err(_) => {
                // One that is too large takes no other along: a policy set of many megabytes.
                for fact in facts.drain(..) {
                    match Block::facts(&[fact]) {
                        Ok(block) => self.ring.push(block, false, 1),
                        Err(error) => {
                            tracing::warn!(%error, "a fact is too large for a trace: what it tells is not in it");
                        }
                    }
                }
            }
        }
        facts.clear();
        self.facts = facts;
    }

    /// Begins a recording; its number.
    ///
    /// # Errors
    /// See [`RecordingRefused`].
    pub fn begin(&mut self, boot_ns: u64, unix_ns: u64, asked: &RecordTrace) -> Result<u64, RecordingRefused> {
        if self.recordings.len() >= RECORDINGS {
            return Err(RecordingRefused::TooMany(RECORDINGS));
        }
        if self.is_kept() {
            self.seal();
        } else {
            self.ring = Ring::beginning_with(self.now.lock().clone());
        }
        let nanos = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = if asked.last.is_zero() {
            self.ring.end()
        } else {
            self.ring.since(boot_ns.saturating_sub(nanos(asked.last)))
        };
        let until_ns = asked.duration.map(|duration| boot_ns.saturating_add(nanos(duration)));
        let header = Header {
            boot_ns,
            unix_ns,
            redacted: self.redacted(asked),
            limit_bytes: asked.limit_bytes,
            limit_ns: asked.duration.map_or(0, nanos),
            workloads: asked.workloads.clone(),
            ..self.settings.header.clone()
        };
        let wanted = Wanted {
            workloads: asked.workloads.clone(),
            arguments: asked.arguments,
            until_ns,
            limit_bytes: asked.limit_bytes,
            in_parts: asked.in_parts,
        };
        // Of now it is known, and of a moment of the ring it is read from there.
        let picture = if at == self.ring.end() { self.now.lock().clone() } else { self.ring.picture_at(at) };
        let before = if at == self.ring.end() { &self.loss } else { picture.loss() };
        let recording = Recording::begin(header, wanted, &self.ring, at, (&picture, before))?;
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.recordings.insert(id, recording);
        Ok(id)
    }

    fn redacted(&self, asked: &RecordTrace) -> Vec<String> {
        match (asked.arguments, self.settings.arguments, asked.last.is_zero()) {
            (false, ..) => vec!["arguments".into()],
            (true, false, false) => vec!["arguments before the recording was asked for".into()],
            (true, ..) => Vec::new(),
        }
    }

    /// What comes next of a recording.
    pub fn next(&mut self, id: u64, now_ns: u64) -> Next {
        let Some(recording) = self.recordings.get_mut(&id) else { return Next::Over };
        let unix_ns = now_ns.saturating_add(self.clock.unwrap_or(0));
        let next = recording.next(&self.ring, Now { boot_ns: now_ns, unix_ns, loss: &self.loss });
        if next == Next::Over {
            let too_small = recording.too_small();
            let outcome = too_small.map_or(RecordingOutcome::Whole, |_| RecordingOutcome::TooSmall);
            self.stop(id, outcome);
            if let Some(too_small) = too_small {
                self.is_over(id, RecordingOver::TooSmall(too_small));
            }
        }
        next
    }

    /// Nobody wants more of it.
    pub fn stop(&mut self, id: u64, outcome: RecordingOutcome) {
        if self.recordings.remove(&id).is_some() {
            *self.ended.entry(outcome).or_default() += 1;
        }
    }

    /// Its reader took nothing of it for so long.
    pub fn give_up(&mut self, id: u64, unread: Duration) {
        self.stop(id, RecordingOutcome::Unread);
        self.is_over(id, RecordingOver::Unread(unread));
    }

    /// How many run, and what became of the others.
    #[must_use]
    pub fn counts(&self) -> RecordingCounts {
        RecordingCounts { running: self.recordings.len() as u64, ended: self.ended.clone() }
    }

    fn is_over(&mut self, id: u64, why: RecordingOver) {
        tracing::warn!(recording = id, %why, "a recording ends before its time");
        if self.over.len() >= OVER_KEPT {
            self.over.pop_front();
        }
        self.over.push_back((id, why));
    }

    /// Ends it whole: what is there until now, then its index. Whether there was one.
    pub fn end(&mut self, id: u64, now_ns: u64) -> RecordingEnd {
        self.seal();
        let ended = self.recordings.get_mut(&id).map(|recording| recording.end(now_ns)).is_some();
        RecordingEnd { ended, why: self.over.iter().find(|(over, _)| *over == id).map(|(_, why)| why.clone()) }
    }

    /// Decisions may name this policy from now on.
    pub fn announced(&mut self, fact: &PolicyAnnounced) {
        if let Some(trigger) = &mut self.trigger {
            trigger.announced(fact);
        }
    }

    /// It is in force.
    pub fn installed(&mut self, fact: &PolicyInstalled) {
        if let Some(trigger) = &mut self.trigger {
            trigger.installed(fact);
        }
    }

    /// Whether a trace is to be begun, around an alert since the last question.
    pub fn alerted(&mut self, now_ns: u64) -> Option<Begin> {
        self.trigger.as_mut().and_then(|trigger| trigger.begins(now_ns))
    }
}
