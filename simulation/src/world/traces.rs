//! The directory of traces on a simulated disk.
//!
//! Invariant: as the real one: a trace that was ended is on the disk, whole. What was not ended when the power goes is as long as any
//! write left it, and what is past the last sync may be zeros; it stays there as a part, by whose name no other begins.

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
/// Beside them the beginning and the end of one trace, and the beginning of the next: as the real store has it.
const ORDERS: usize = QUEUE + 3;

#[derive(Debug, Default)]
struct TraceFile {
    name: String,
    bytes: Vec<u8>,
    whole: bool,
    /// It is what the power's loss left.
    torn: bool,
}

#[derive(Debug)]
struct State {
    /// By the order in which they were begun.
    files: BTreeMap<u64, TraceFile>,
    begun: u64,
    random: Random,
}

impl State {
    /// The oldest go, but for what is being written.
    fn rotate(&mut self, open: Option<u64>) {
        let kept: Vec<u64> = self.files.keys().copied().filter(|number| Some(*number) != open).collect();
        kept.iter().take(kept.len().saturating_sub(KEPT)).for_each(|number| drop(self.files.remove(number)));
    }
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
        SimTraceStore {
            directory: self.clone(),
            orders: VecDeque::new(),
            open: None,
            lost: false,
            outcomes: VecDeque::new(),
        }
    }

    /// What is in each trace that was ended, or in each that was not, the oldest first.
    #[must_use]
    pub fn contents(&self, whole: bool) -> Vec<Vec<u8>> {
        lock(&self.state).files.values().filter(|file| file.whole == whole).map(|file| file.bytes.clone()).collect()
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
                file.torn = true;
                (file.bytes.clone(), written)
            };
            files.values_mut().filter(|file| !file.whole && !file.torn).map(tear).collect()
        };
        for (found, written) in torn {
            self.teller.tell(&Event::TraceTorn { found, written });
        }
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
    /// Something of the trace that was begun last found no room: it is over, and its outcome says so.
    lost: bool,
    outcomes: VecDeque<Result<(), TraceStoreError>>,
}

impl SimTraceStore {
    fn order(&mut self, order: Order) {
        self.work();
        self.lost &= !matches!(order, Order::Begin(_));
        if self.lost {
            return;
        }
        if self.orders.len() >= ORDERS {
            self.lost = true;
            let source = io::Error::new(io::ErrorKind::WouldBlock, "the disk has not taken what was given before");
            return self.outcomes.push_back(Err(TraceStoreError { what: "the store of traces".to_owned(), source }));
        }
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
        state.rotate(None);
        if state.files.values().any(|file| !file.whole && file.name == name) {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "a part of a trace has that name");
            return Err(TraceStoreError { what: name.to_owned(), source });
        }
        state.begun += 1;
        let number = state.begun;
        state.files.insert(number, TraceFile { name: name.to_owned(), ..TraceFile::default() });
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
            let name = state.files.get(&number).map(|file| file.name.clone());
            // By its name it takes the place of one that was there.
            state.files.retain(|_, file| !file.whole || Some(&file.name) != name.as_ref());
            let bytes = state.files.get_mut(&number).map(|file| {
                file.whole = true;
                file.bytes.clone()
            });
            state.rotate(None);
            bytes
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
