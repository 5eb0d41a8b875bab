//! The disk that policies come from and last good versions are kept on.
//!
//! Invariant: a reading is consistent, as the port asks. What was written in place is seen half done by who reads meanwhile; what was not
//! yet on the disk when the power goes is the version before, none, or torn.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use palisade_world::{
    LastGood, LastGoodError, PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading, UnreadableFile,
};

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

    /// Who asks it for something waits; what comes of it is known when the thread goes on.
    pub fn wait(&self) {
        let wait = {
            let mut state = lock(&self.state);
            let most = state.faults.slow_ms;
            (most > 0).then(|| state.random.millis(1, most))
        };
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
