//! The directory of traces on a simulated disk.
//!
//! Invariant: as the real one: a trace that was ended is on the disk, whole. What was not ended when the power goes is as long as any
//! write left it, and what is past the last sync may be zeros.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use palisade_world::{TraceStore, TraceStoreError};

use super::{mutation::Mutation, policies::Disk};
use crate::{
    event::{Event, Teller, lock},
    random::Random,
};

/// Traces that are kept; the oldest goes.
const KEPT: usize = 8;

#[derive(Debug, Default)]
struct TraceFile {
    bytes: Vec<u8>,
    whole: bool,
}

#[derive(Debug)]
struct State {
    /// By the order in which they were begun.
    files: BTreeMap<u64, TraceFile>,
    begun: u64,
    random: Random,
}

/// See the module.
#[derive(Clone)]
pub struct TraceDirectory {
    state: Arc<Mutex<State>>,
    disk: Disk,
    teller: Teller,
    mutation: Option<Mutation>,
}

impl TraceDirectory {
    /// An empty one.
    #[must_use]
    pub fn new(disk: Disk, teller: Teller, random: Random, mutation: Option<Mutation>) -> Self {
        let state = State { files: BTreeMap::new(), begun: 0, random };
        Self { state: Arc::new(Mutex::new(state)), disk, teller, mutation }
    }

    /// The port, as a recorder opens it.
    #[must_use]
    pub fn store(&self) -> SimTraceStore {
        SimTraceStore { directory: self.clone(), open: None }
    }

    /// The power goes: what is found of each trace that was not ended.
    pub fn lose_power(&self) {
        let torn: Vec<(Vec<u8>, Vec<u8>)> = {
            let mut state = lock(&self.state);
            let State { files, random, .. } = &mut *state;
            let tear = |file: &mut TraceFile| {
                let written = std::mem::take(&mut file.bytes);
                let at = usize::try_from(random.between(0, written.len() as u64)).unwrap_or(0);
                file.bytes = written.clone();
                // Its length may be on the disk before its bytes are.
                if random.percent(30) {
                    file.bytes[at..].fill(0);
                } else {
                    file.bytes.truncate(at);
                }
                (file.bytes.clone(), written)
            };
            files.values_mut().filter(|file| !file.whole).map(tear).collect()
        };
        for (found, written) in torn {
            self.teller.tell(&Event::TraceTorn { found, written });
        }
        lock(&self.state).files.retain(|_, file| file.whole);
    }
}

/// See [`TraceDirectory::store`].
pub struct SimTraceStore {
    directory: TraceDirectory,
    open: Option<u64>,
}

impl SimTraceStore {
    fn room(&self, what: &str) -> Result<(), TraceStoreError> {
        self.directory.disk.wait();
        if !self.directory.disk.is_full() {
            return Ok(());
        }
        self.directory.teller.tell(&Event::TraceRefused);
        let source = io::Error::new(io::ErrorKind::StorageFull, "injected: no space left");
        Err(TraceStoreError { what: what.to_owned(), source })
    }
}

impl TraceStore for SimTraceStore {
    fn begin(&mut self, name: &str) -> Result<(), TraceStoreError> {
        self.open = None;
        self.room(name)?;
        let mut state = lock(&self.directory.state);
        state.begun += 1;
        let number = state.begun;
        state.files.insert(number, TraceFile::default());
        while state.files.len() > KEPT {
            state.files.pop_first();
        }
        self.open = Some(number);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), TraceStoreError> {
        let Some(number) = self.open else { return Ok(()) };
        self.room("append").inspect_err(|_| self.open = None)?;
        let mut state = lock(&self.directory.state);
        let loses = self.directory.mutation == Some(Mutation::LosesPartsOfTraces) && state.random.percent(50);
        if let Some(file) = state.files.get_mut(&number).filter(|file| !loses || file.bytes.is_empty()) {
            file.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), TraceStoreError> {
        let Some(number) = self.open.take() else { return Ok(()) };
        self.directory.disk.wait();
        let bytes = {
            let mut state = lock(&self.directory.state);
            let Some(file) = state.files.get_mut(&number) else { return Ok(()) };
            file.whole = true;
            file.bytes.clone()
        };
        self.directory.teller.tell(&Event::TraceWhole(bytes));
        Ok(())
    }
}
