//! The directory of traces on a simulated disk.
//!
//! Invariant: as the real one: a trace that was ended is on the disk, whole. What was not ended when the power goes is as long as any
//! write left it, and what is past the last sync may be zeros.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use palisade_world::{TraceStore, TraceStoreError};
use tokio::time::Instant;

use super::{mutation::Mutation, policies::Disk};
use crate::{
    event::{Event, Teller, lock},
    random::Random,
};

/// Traces that are kept; the oldest goes.
const KEPT: usize = 8;
/// What waits for the disk at most: as the real store has it.
const QUEUE: usize = 16;

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
        SimTraceStore { directory: self.clone(), orders: VecDeque::new(), open: None, outcomes: VecDeque::new() }
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

/// What is to be done, as the real store's thread has it.
enum Order {
    Begin(String),
    Append(Vec<u8>),
    End,
}

/// See [`TraceDirectory::store`]. What is given to it is done when its disk has taken its time, and is lost with the process before that.
pub struct SimTraceStore {
    directory: TraceDirectory,
    /// In order, and when each is done.
    orders: VecDeque<(Instant, Order)>,
    open: Option<u64>,
    outcomes: VecDeque<Result<(), TraceStoreError>>,
}

impl SimTraceStore {
    fn order(&mut self, order: Order) {
        let after = self.orders.back().map_or_else(Instant::now, |(at, _)| *at);
        self.orders.push_back((after + self.directory.disk.delay(), order));
        self.work();
    }

    /// Does what is due.
    fn work(&mut self) {
        let now = Instant::now();
        while self.orders.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, order)) = self.orders.pop_front() else { return };
            let done = match order {
                Order::Begin(name) => self.begun(&name),
                Order::Append(bytes) => self.appended(&bytes),
                Order::End => {
                    self.ended();
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.open = None;
                self.outcomes.push_back(Err(error));
            }
        }
    }

    fn room(&self, what: &str) -> Result<(), TraceStoreError> {
        if !self.directory.disk.is_full() {
            return Ok(());
        }
        self.directory.teller.tell(&Event::TraceRefused);
        let source = io::Error::new(io::ErrorKind::StorageFull, "injected: no space left");
        Err(TraceStoreError { what: what.to_owned(), source })
    }

    fn begun(&mut self, name: &str) -> Result<(), TraceStoreError> {
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

    fn appended(&mut self, bytes: &[u8]) -> Result<(), TraceStoreError> {
        let Some(number) = self.open else { return Ok(()) };
        self.room("append")?;
        let mut state = lock(&self.directory.state);
        let loses = self.directory.mutation == Some(Mutation::LosesPartsOfTraces) && state.random.percent(50);
        if let Some(file) = state.files.get_mut(&number).filter(|file| !loses || file.bytes.is_empty()) {
            file.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn ended(&mut self) {
        let Some(number) = self.open.take() else { return };
        let bytes = {
            let mut state = lock(&self.directory.state);
            state.files.get_mut(&number).map(|file| {
                file.whole = true;
                file.bytes.clone()
            })
        };
        if let Some(bytes) = bytes {
            self.directory.teller.tell(&Event::TraceWhole(bytes));
        }
        self.outcomes.push_back(Ok(()));
    }
}

impl TraceStore for SimTraceStore {
    fn has_room(&mut self) -> bool {
        self.work();
        self.orders.len() < QUEUE
    }

    fn begin(&mut self, name: &str) {
        self.order(Order::Begin(name.to_owned()));
    }

    fn append(&mut self, bytes: Vec<u8>) {
        self.order(Order::Append(bytes));
    }

    fn end(&mut self) {
        self.order(Order::End);
    }

    fn outcome(&mut self) -> Option<Result<(), TraceStoreError>> {
        self.work();
        self.outcomes.pop_front()
    }
}
