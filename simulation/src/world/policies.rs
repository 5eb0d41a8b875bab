//! The disk that policies come from and last good versions are kept on.
//!
//! Invariant: a reading is consistent, as the port asks. What was written in place is seen half done by who reads meanwhile; what was not
//! yet on the disk when the power goes is the version before, none, or torn.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_world::{
    LastGood, LastGoodError, PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading, SYNC_EVERY,
    UnreadableFile,
};

use tokio::time::Instant;

use super::{mutation::Mutation, place::stall_current};
use crate::{
    event::{Event, Teller, lock},
    random::Random,
};

/// Faults of the disk, as they are at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFaults {
    /// Nothing more can be written.
    pub full: bool,
    /// Readings that fail.
    pub unreadable_percent: u64,
    /// How long who waits for it waits at most, milliseconds: its thread does nothing else meanwhile.
    pub slow_ms: u64,
}

/// How long a slow disk takes for what it is asked at most, milliseconds.
pub const SLOWEST_MS: u64 = 900;
/// How long a line that was written may be nowhere but in memory: until its file is synced, which takes the disk its time; and a sync that is
/// under way when the line is written comes first.
pub const SYNCED_WITHIN: Duration = SYNC_EVERY.saturating_add(Duration::from_millis(2 * SLOWEST_MS));
/// Bytes of a file of lines, after which another takes its place.
pub const MOST_LINE_BYTES: usize = 512 << 10;

/// A file of lines.
#[derive(Debug, Default)]
struct LineFile {
    bytes: Vec<u8>,
    /// So much of it is on the disk.
    synced: usize,
    /// The syncs that are to come, and those that are not over.
    syncs: VecDeque<Sync>,
}

/// As whoever writes files for production syncs them: one begins a while after the first line that none before it covers.
#[derive(Debug)]
struct Sync {
    begins: Instant,
    over: Instant,
    /// Of how much, once it began.
    covers: Option<usize>,
}

impl LineFile {
    /// Does what was to be done by now.
    fn pass(&mut self, now: Instant) {
        let length = self.bytes.len();
        for sync in self.syncs.iter_mut().filter(|sync| sync.begins <= now) {
            sync.covers.get_or_insert(length);
        }
        while let Some(Sync { covers: Some(covers), .. }) = self.syncs.front().filter(|sync| sync.over <= now) {
            self.synced = self.synced.max(*covers);
            self.syncs.pop_front();
        }
    }

    /// Lines come, and a sync of them takes so long; none: nobody syncs.
    fn append(&mut self, lines: &[u8], now: Instant, ends_what_is_torn: bool, takes: Option<Duration>) {
        self.pass(now);
        if ends_what_is_torn && self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(lines);
        if let Some(takes) = takes.filter(|_| self.syncs.back().is_none_or(|sync| sync.covers.is_some())) {
            let before = self.syncs.back().map_or(now, |sync| sync.over);
            let begins = now.max(before) + SYNC_EVERY;
            self.syncs.push_back(Sync { begins, over: begins + takes, covers: None });
        }
    }

    /// The power goes: its end is missing, or its length is on the disk and its bytes are not.
    fn tear(&mut self, random: &mut Random, now: Instant) {
        self.pass(now);
        let (safe, length) = (self.synced, self.bytes.len());
        let at = usize::try_from(random.between(safe as u64, length as u64)).unwrap_or(safe);
        if random.percent(30) {
            self.bytes[at..].fill(0);
        } else {
            self.bytes.truncate(at);
        }
        (self.synced, self.syncs) = (self.bytes.len(), VecDeque::new());
    }
}

/// A version that was kept, and whether it is on the disk yet.
#[derive(Debug, Default)]
struct Kept {
    durable: Option<Vec<u8>>,
    newest: Option<Vec<u8>>,
    torn: bool,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    unreadable: BTreeMap<String, &'static str>,
    version: u64,
    kept: BTreeMap<String, Kept>,
    lines: BTreeMap<String, LineFile>,
    faults: DiskFaults,
    random: Random,
    mutation: Option<Mutation>,
}

impl State {
    fn reading(&self) -> PolicyReading {
        let readable = self.files.iter().filter(|(name, _)| !self.unreadable.contains_key(*name));
        let files = readable.map(|(name, content)| PolicyFile { name: name.clone(), content: content.clone() });
        let refused = self.unreadable.iter();
        let unreadable = refused.map(|(name, why)| UnreadableFile { name: name.clone(), reason: (*why).into() });
        PolicyReading { files: files.collect(), unreadable: unreadable.collect() }
    }
}

/// One number for each line, whole or not.
pub(super) fn digests(bytes: &[u8]) -> Vec<u64> {
    let digest = |line: &[u8]| {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(line).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(digest).collect()
}

/// See the module.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    teller: Teller,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(teller: Teller, random: Random, mutation: Option<Mutation>) -> Self {
        let state = State {
            files: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            version: 0,
            kept: BTreeMap::new(),
            lines: BTreeMap::new(),
            faults: DiskFaults::default(),
            random,
            mutation,
        };
        Self { state: Arc::new(Mutex::new(state)), teller }
    }

    /// Changes what goes wrong.
    pub fn disturb(&self, change: impl FnOnce(&mut DiskFaults)) {
        change(&mut lock(&self.state).faults);
    }

    fn latency(&self) -> Option<Duration> {
        let mut state = lock(&self.state);
        let most = state.faults.slow_ms;
        (most > 0).then(|| state.random.millis(1, most))
    }

    /// How long who asks it for something waits now, where that is no actor but a thread of its own.
    pub fn delay(&self) -> Duration {
        let wait = self.latency();
        if wait.is_some() {
            self.teller.tell(&Event::DiskSlow);
        }
        wait.unwrap_or_default()
    }

    /// Who asks it for something waits; what comes of it is known when the thread goes on.
    pub fn wait(&self) {
        let wait = self.latency();
        if wait.is_some_and(stall_current) {
            self.teller.tell(&Event::DiskSlow);
        }
    }

    /// Whether nothing more can be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        lock(&self.state).faults.full
    }

    /// Somebody writes a policy file.
    pub fn write(&self, name: &str, content: Vec<u8>) {
        let mut state = lock(&self.state);
        state.version += 1;
        state.unreadable.remove(name);
        state.files.insert(name.to_owned(), content);
    }

    /// Somebody removes one.
    pub fn remove(&self, name: &str) {
        let mut state = lock(&self.state);
        state.version += 1;
        state.unreadable.remove(name);
        state.files.remove(name);
    }

    /// A file is there, and nobody can read it.
    pub fn forbid(&self, name: &str) {
        let mut state = lock(&self.state);
        if state.files.contains_key(name) {
            state.version += 1;
            state.unreadable.insert(name.to_owned(), "injected: permission denied");
        }
    }

    /// The names of the policy files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// A file's content.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.state).files.get(name).cloned()
    }

    /// What who reads the directory finds.
    #[must_use]
    pub fn reading(&self) -> PolicyReading {
        lock(&self.state).reading()
    }

    /// The power goes: of what was kept and is not on the disk yet each is the version before, the newest, or torn.
    pub fn lose_power(&self) {
        let mut state = lock(&self.state);
        let State { kept, random, .. } = &mut *state;
        for kept in kept.values_mut().filter(|kept| kept.newest != kept.durable) {
            match random.below(3) {
                0 => kept.newest.clone_from(&kept.durable),
                1 => kept.durable.clone_from(&kept.newest),
                _ => kept.torn = true,
            }
        }
        let State { lines, random, .. } = &mut *state;
        lines.values_mut().for_each(|of| of.tear(random, Instant::now()));
        drop(state);
        self.found_lines(true);
    }

    /// Appends whole lines to a file, which takes them whole; what the power's loss left of a line before them is ended first.
    pub fn append_lines(&self, file: &str, lines: &[u8], waited: bool) {
        let full = {
            let takes = self.latency().unwrap_or_default();
            let mut state = lock(&self.state);
            let ends = state.mutation != Some(Mutation::RunsOnTornLines);
            let takes = (state.mutation != Some(Mutation::NeverSyncsLines)).then_some(takes);
            let of = state.lines.entry(file.to_owned()).or_default();
            let is_full = of.bytes.len() + lines.len() > MOST_LINE_BYTES;
            let full = is_full.then(|| std::mem::take(of).bytes);
            of.append(lines, Instant::now(), ends, takes);
            full
        };
        if let Some(full) = full {
            // Nobody sees it again: what is to be in it is held against it now.
            self.tell_found(file.to_owned(), &full, false);
            self.teller.tell(&Event::LinesRotated(file.to_owned()));
        }
        self.teller.tell(&Event::LinesWritten { file: file.to_owned(), lines: digests(lines), waited });
    }

    /// What is in a file of lines.
    #[must_use]
    pub fn lines(&self, file: &str) -> Vec<u8> {
        lock(&self.state).lines.get(file).map(|of| of.bytes.clone()).unwrap_or_default()
    }

    /// The end of a file of lines is gone: so many bytes, or what was in them.
    pub fn tear_lines(&self, file: &str, bytes: usize, zeros: bool) {
        if let Some(of) = lock(&self.state).lines.get_mut(file) {
            let at = of.bytes.len().saturating_sub(bytes);
            if zeros {
                of.bytes[at..].fill(0);
            } else {
                of.bytes.truncate(at);
            }
            of.pass(Instant::now());
            (of.synced, of.syncs) = (of.synced.min(of.bytes.len()), VecDeque::new());
        }
    }

    /// Says what is found in the files of lines.
    pub fn tell_lines(&self) {
        self.found_lines(false);
    }

    fn found_lines(&self, power_lost: bool) {
        let found: Vec<(String, Vec<u8>)> =
            lock(&self.state).lines.iter().map(|(file, of)| (file.clone(), of.bytes.clone())).collect();
        for (file, bytes) in found {
            self.tell_found(file, &bytes, power_lost);
        }
    }

    fn tell_found(&self, file: String, bytes: &[u8], power_lost: bool) {
        let torn = bytes.last().is_some_and(|last| *last != b'\n');
        self.teller.tell(&Event::LinesFound { file, lines: digests(bytes), power_lost, torn });
    }

    /// What was kept of a file is damaged on the disk.
    pub fn tear(&self, name: &str) {
        if let Some(kept) = lock(&self.state).kept.get_mut(name) {
            kept.torn = true;
        }
    }

    /// Everything kept so far is on the disk.
    pub fn flush(&self) {
        for kept in lock(&self.state).kept.values_mut() {
            kept.durable.clone_from(&kept.newest);
        }
    }

    /// The directory, as a keeper opens it.
    #[must_use]
    pub fn directory(&self) -> SimPolicyDirectory {
        SimPolicyDirectory { disk: self.clone(), seen: None }
    }

    /// What outlives a process, as a keeper opens it.
    #[must_use]
    pub fn last_good(&self) -> SimLastGood {
        SimLastGood { disk: self.clone() }
    }
}

/// See [`Disk::directory`].
pub struct SimPolicyDirectory {
    disk: Disk,
    /// The version at the last look.
    seen: Option<u64>,
}

fn path() -> PathBuf {
    PathBuf::from("/etc/palisade/policies")
}

impl PolicyDirectory for SimPolicyDirectory {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        self.disk.wait();
        let reading = {
            let mut state = lock(&self.disk.state);
            let chance = state.faults.unreadable_percent;
            if state.random.percent(chance) { None } else { Some(state.reading()) }
        };
        let Some(reading) = reading else {
            self.disk.teller.tell(&Event::PoliciesUnreadable);
            // Looked at again: the change is not read yet.
            self.seen = None;
            return Err(PolicyDirectoryError::Unreadable { path: path(), source: io::Error::other("injected") });
        };
        self.disk.teller.tell(&Event::PoliciesRead(Arc::new(reading.clone())));
        Ok(reading)
    }

    fn changed(&mut self) -> bool {
        let state = lock(&self.disk.state);
        let before = self.seen.replace(state.version);
        let never = state.mutation == Some(Mutation::NeverChanges) && before.is_some();
        before != Some(state.version) && !never
    }

    fn settled(&mut self) -> bool {
        let version = lock(&self.disk.state).version;
        self.seen.replace(version) == Some(version)
    }
}

/// See [`Disk::last_good`].
pub struct SimLastGood {
    disk: Disk,
}

impl SimLastGood {
    fn error(name: &str, reason: &str) -> LastGoodError {
        LastGoodError { path: PathBuf::from("/var/lib/palisade").join(name), reason: reason.to_owned() }
    }
}

impl LastGood for SimLastGood {
    fn recall(&mut self) -> (Vec<PolicyFile>, Vec<LastGoodError>) {
        let (files, errors) = {
            let state = lock(&self.disk.state);
            let (torn, whole): (Vec<_>, Vec<_>) = state.kept.iter().partition(|(_, kept)| kept.torn);
            let files: Vec<PolicyFile> = whole
                .into_iter()
                .filter_map(|(name, kept)| Some(PolicyFile { name: name.clone(), content: kept.newest.clone()? }))
                .collect();
            (files, torn.into_iter().map(|(name, _)| Self::error(name, "injected: torn")).collect())
        };
        self.disk.teller.tell(&Event::PoliciesRecalled(files.clone()));
        (files, errors)
    }

    fn keep(&mut self, file: &PolicyFile) -> Result<(), LastGoodError> {
        self.disk.wait();
        let mut state = lock(&self.disk.state);
        if state.faults.full {
            return Err(Self::error(&file.name, "injected: no space left"));
        }
        let kept = state.kept.entry(file.name.clone()).or_default();
        kept.torn = false;
        kept.newest = Some(file.content.clone());
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), LastGoodError> {
        let mut state = lock(&self.disk.state);
        if let Some(kept) = state.kept.get_mut(name) {
            kept.newest = None;
            kept.torn = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkers::lines::Lines, event::Ears, journal::Journal};

    #[test]
    fn unit_disk_holds_what_is_in_a_file_of_lines_against_what_was_written_before_another_takes_its_place() {
        let rotated = |torn: bool| {
            let ears =
                Arc::new(Mutex::new(Ears::new(Instant::now(), Journal::new(false), vec![Box::new(Lines::default())])));
            let disk = Disk::new(Teller::new(0, &ears), Random::stream(1, "disk"), None);
            disk.append_lines("f", b"one\ntwo\n", false);
            if torn {
                disk.tear_lines("f", 4, false);
            }
            disk.append_lines("f", &[b'x'; MOST_LINE_BYTES - 1], false);
            assert!(disk.lines("f").starts_with(b"x"), "it is another");
            let violations = lock(&ears).conclude();
            violations.into_iter().map(|violation| violation.what).collect::<Vec<_>>()
        };
        assert_eq!(rotated(false), [""; 0]);
        let torn = rotated(true);
        assert!(torn.len() == 1 && torn[0].starts_with("f: line 1 of 2, written at "), "{torn:?}");
    }
}
