//! The thread that writes traces.
//!
//! Invariant: nobody but this thread waits for the disk. At most [`QUEUE`] pieces of a trace wait for it; a disk that takes none holds back who
//! would give more ([`TraceStore::has_room`]), not who records.
//!
//! Decision: a thread, and not a task of a runtime, because a disk that hangs keeps whoever called it, and it must be nobody else.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use palisade_world::{TraceStore, TraceStoreError};

use crate::TraceFiles;

/// Pieces that wait: each is at most a block, mostly some dozens of kilobytes.
const QUEUE: usize = 16;
/// Beside them the beginning and the end of one trace, and the beginning of the next.
const ORDERS: usize = QUEUE + 3;
/// One of the trace that was ended, one of the next.
const OUTCOMES: usize = 2;

enum Order {
    Begin(String),
    Append(Vec<u8>),
    End,
}

type Outcome = Result<(), TraceStoreError>;

/// See the module.
#[derive(Debug)]
pub struct TraceThread {
    orders: SyncSender<Order>,
    /// Pieces that are not written yet.
    waiting: Arc<AtomicUsize>,
    outcomes: Receiver<Outcome>,
    /// What was not even given to the thread.
    refused: Option<TraceStoreError>,
    /// It was of the trace that was begun last, of which the thread hears no more: with a hole it would never be whole.
    lost: bool,
}

impl TraceThread {
    /// Starts it; it ends when this is dropped and all that was given to it is written.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(files: TraceFiles) -> io::Result<Self> {
        let mut files = files;
        Self::of(move |order| match order {
            Order::Begin(name) => files.begin(&name).map(|()| false),
            Order::Append(bytes) => files.append(&bytes).map(|()| false),
            Order::End => files.end().map(|()| true),
        })
    }

    /// What a thread does with each order; true: a trace is whole.
    fn of(mut does: impl FnMut(Order) -> Result<bool, TraceStoreError> + Send + 'static) -> io::Result<Self> {
        let (orders, heard) = sync_channel::<Order>(ORDERS);
        let (says, outcomes) = sync_channel(OUTCOMES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let write = move || {
            // What follows a failure is of no trace, until the next one begins.
            let mut is_open = false;
            while let Ok(order) = heard.recv() {
                let is_piece = matches!(order, Order::Append(_));
                if is_open || matches!(order, Order::Begin(_)) {
                    let outcome = match does(order) {
                        Ok(false) => None,
                        Ok(true) => Some(Ok(())),
                        Err(error) => Some(Err(error)),
                    };
                    is_open = outcome.is_none();
                    // Who does not hear it is gone.
                    let _ = outcome.map(|outcome| says.try_send(outcome));
                }
                if is_piece {
                    left.fetch_sub(1, Ordering::AcqRel);
                }
            }
        };
        thread::Builder::new().name("traces".to_owned()).spawn(write)?;
        Ok(Self { orders, waiting, outcomes, refused: None, lost: false })
    }

    fn give(&mut self, order: Order) {
        self.lost &= !matches!(order, Order::Begin(_));
        if self.lost {
            return;
        }
        let is_piece = matches!(order, Order::Append(_));
        self.waiting.fetch_add(usize::from(is_piece), Ordering::AcqRel);
        let Err(error) = self.orders.try_send(order) else { return };
        self.waiting.fetch_sub(usize::from(is_piece), Ordering::AcqRel);
        let source = match error {
            TrySendError::Full(_) => {
                io::Error::new(io::ErrorKind::WouldBlock, "the disk has not taken what was given before")
            }
            TrySendError::Disconnected(_) => io::Error::new(io::ErrorKind::BrokenPipe, "its thread has ended"),
        };
        self.lost = true;
        self.refused = Some(TraceStoreError { what: "the store of traces".to_owned(), source });
    }
}

impl TraceStore for TraceThread {
    fn has_room(&mut self) -> bool {
        self.waiting.load(Ordering::Acquire) < QUEUE
    }

    fn begin(&mut self, name: &str) {
        self.give(Order::Begin(name.to_owned()));
    }

    fn append(&mut self, bytes: Vec<u8>) {
        self.give(Order::Append(bytes));
    }

    fn end(&mut self) {
        self.give(Order::End);
    }

    fn outcome(&mut self) -> Option<Outcome> {
        self.refused.take().map(Err).or_else(|| self.outcomes.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use super::*;

    fn outcome(store: &mut TraceThread) -> Outcome {
        loop {
            match store.outcome() {
                Some(outcome) => return outcome,
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn content(path: &Path) -> Vec<u8> {
        fs::read(path).expect("written")
    }

    #[test]
    fn unit_trace_thread_writes_in_order_and_says_what_came_of_each_trace() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = TraceThread::start(TraceFiles::new(directory.path(), 1 << 20)).expect("a thread");
        for name in ["a", "b"] {
            store.begin(name);
            (0..10).for_each(|piece| store.append(vec![piece]));
            store.end();
            outcome(&mut store).expect("on the disk");
        }
        assert_eq!(content(&directory.path().join("b.paltrace")), (0..10).collect::<Vec<_>>());
        // A name that is taken: what follows is of no trace, and the next one is begun like any other.
        fs::write(directory.path().join("c.paltrace.partial"), "of before").expect("written");
        store.begin("c");
        store.append(vec![1]);
        store.end();
        let error = outcome(&mut store).expect_err("it is there").to_string();
        assert!(error.contains("c.paltrace.partial"), "{error}");
        store.begin("d");
        store.append(vec![7]);
        store.end();
        outcome(&mut store).expect("on the disk");
        assert_eq!(content(&directory.path().join("c.paltrace.partial")), b"of before");
        assert_eq!(content(&directory.path().join("d.paltrace")), [7]);
        // What was given is written though nobody waits for it.
        store.begin("e");
        store.append(vec![9]);
        store.end();
        drop(store);
        let whole = directory.path().join("e.paltrace");
        while !whole.exists() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(content(&whole), [9]);
    }

    #[test]
    fn unit_trace_thread_whose_disk_hangs_keeps_nobody_and_takes_no_more_than_its_bound() {
        let (release, held) = sync_channel::<()>(0);
        let mut store = TraceThread::of(move |order| {
            if matches!(order, Order::Append(_)) {
                let _ = held.recv();
            }
            Ok(matches!(order, Order::End))
        })
        .expect("a thread");
        store.begin("a");
        let mut taken = 0;
        while store.has_room() {
            store.append(vec![0]);
            taken += 1;
        }
        assert_eq!(taken, QUEUE);
        // Who does not ask for room is told what is lost, and not kept.
        (0..ORDERS + 1).for_each(|_| store.append(vec![0]));
        let error = outcome(&mut store).expect_err("full").to_string();
        assert!(error.contains("the disk has not taken"), "{error}");
        drop(release);
        while !store.has_room() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
