//! A sink that never keeps its caller waiting.
//!
//! Invariant: `append` returns at once. Lines wait in a queue of [`BATCHES`] batches, of [`BYTES`] in all, for the sink's own thread; those that find it full,
//! and those that the sink behind it then refuses, are counted and said by [`AlertSink::health`]. Lines keep their order.
//!
//! A full disk is waited for: the batch in hand is tried again every [`RETRY`], while those behind it wait in the queue. So what is lost to
//! one that has room again soon is nothing, and else it is the newest lines, each counted, with a whole file before the gap and after it.
//!
//! What is written is synced by the sink itself; an ordered end waits for that as well.
//!
//! A sink that others take the place of ([`AlertSink::end`]) writes what it took, for as long as [`PATIENCE`] attempts at a full disk.
//!
//! Decision: a thread, because a write to a pipe that nobody reads, or to a file on a server that is away, blocks for as long as it likes:
//! on the actor's own thread it would hold up the rings, and the watchdog would end the node for it.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use palisade_world::{AlertSink, AlertSinkError, SYNC_EVERY, SinkHealth};

/// Batches that may wait: at the heaviest load a tenth of a second.
pub const BATCHES: usize = 64;
/// Bytes that may wait, whatever a workload makes of its lines: arguments of control characters come to hundreds of kilobytes a line. As
/// many as [`BATCHES`] of 512 lines of a kilobyte. One batch alone may be more.
pub const BYTES: usize = 32 << 20;
/// Between two attempts while a disk is full.
pub const RETRY: Duration = Duration::from_millis(250);
/// Attempts at a full disk once others have taken the sink's place: half a minute.
const PATIENCE: u32 = 120;
/// Looks at a sink after its last lines: they are synced a second after, and it takes the disk a while.
const LOOKS: u32 = 3;
/// How long an ordered end waits for what is queued to be written: less than an actor has to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// See the module.
pub struct Queued {
    name: String,
    queue: Option<SyncSender<Vec<u8>>>,
    behind: Arc<Behind>,
    done: Receiver<()>,
    /// Others have taken its place.
    replaced: bool,
}

/// What both sides know.
#[derive(Debug, Default)]
struct Behind {
    health: Mutex<SinkHealth>,
    /// Batches in the queue.
    waiting: AtomicUsize,
    /// Bytes in the queue and in hand.
    bytes: AtomicUsize,
    /// Lines in the queue and in hand.
    unwritten: AtomicU64,
    /// Others have taken its place.
    replaced: AtomicBool,
    /// Nothing more comes: what cannot be written now is lost.
    ending: AtomicBool,
}

impl Queued {
    /// Starts the thread of `sink`.
    ///
    /// # Errors
    /// The operating system makes no thread.
    pub fn start(sink: Box<dyn AlertSink>) -> io::Result<Self> {
        let name = sink.name().to_owned();
        let (queue, lines) = sync_channel(BATCHES);
        let (ending, done) = sync_channel(1);
        let behind = Arc::<Behind>::default();
        let shared = Arc::clone(&behind);
        // Detached: its end is told by the channel, and one that never ends must not be waited for.
        thread::Builder::new().name("alert-sink".to_owned()).spawn(move || {
            write_all(sink, &lines, &shared);
            drop(ending);
        })?;
        Ok(Self { name, queue: Some(queue), behind, done, replaced: false })
    }
}

fn lock(health: &Mutex<SinkHealth>) -> MutexGuard<'_, SinkHealth> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(batch: &[u8]) -> u64 {
    batch.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn write_all(mut sink: Box<dyn AlertSink>, lines: &Receiver<Vec<u8>>, behind: &Behind) {
    let mut patience = PATIENCE;
    let mut looks = 0;
    loop {
        // What comes of a sync is known when nothing is written any more.
        let next =
            if looks > 0 { lines.recv_timeout(SYNC_EVERY) } else { lines.recv().map_err(RecvTimeoutError::from) };
        let batch = match next {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => {
                looks -= 1;
                lock(&behind.health).failing = sink.health().failing;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        looks = LOOKS;
        behind.waiting.fetch_sub(1, Ordering::Relaxed);
        let failing = write(sink.as_mut(), &batch, behind, &mut patience);
        let mut health = lock(&behind.health);
        if failing.is_some() {
            health.lost += count(&batch);
        }
        behind.unwritten.fetch_sub(count(&batch), Ordering::Relaxed);
        behind.bytes.fetch_sub(batch.len(), Ordering::Relaxed);
        health.failing = failing.or_else(|| sink.health().failing);
    }
}

/// Writes a batch, however long its disk is full; the reason why it is lost, if it is.
fn write(sink: &mut dyn AlertSink, batch: &[u8], behind: &Behind, patience: &mut u32) -> Option<String> {
    loop {
        let error = sink.append(batch).err()?.source;
        let reason = error.to_string();
        let heals = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if behind.replaced.load(Ordering::Relaxed) {
            *patience = patience.saturating_sub(1);
        }
        if !heals || *patience == 0 || behind.ending.load(Ordering::Relaxed) {
            return Some(reason);
        }
        lock(&behind.health).failing = Some(format!("{reason}: lines wait"));
        thread::sleep(RETRY);
    }
}

impl AlertSink for Queued {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let refused = |kind, why: String| AlertSinkError { sink: self.name.clone(), source: io::Error::new(kind, why) };
        let Some(queue) = &self.queue else {
            return Err(refused(io::ErrorKind::BrokenPipe, "it has ended".to_owned()));
        };
        let waiting = self.behind.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting + lines.len() > BYTES {
            return Err(refused(
                io::ErrorKind::WouldBlock,
                format!("it does not keep up: {waiting} bytes wait already"),
            ));
        }
        // Before it can be taken out.
        self.behind.bytes.fetch_add(lines.len(), Ordering::Relaxed);
        self.behind.waiting.fetch_add(1, Ordering::Relaxed);
        self.behind.unwritten.fetch_add(count(lines), Ordering::Relaxed);
        let sent = queue.try_send(lines.to_vec()).inspect_err(|_| {
            self.behind.waiting.fetch_sub(1, Ordering::Relaxed);
            self.behind.unwritten.fetch_sub(count(lines), Ordering::Relaxed);
            self.behind.bytes.fetch_sub(lines.len(), Ordering::Relaxed);
        });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => {
                refused(io::ErrorKind::WouldBlock, format!("it does not keep up: {BATCHES} batches wait already"))
            }
            TrySendError::Disconnected(_) => refused(io::ErrorKind::BrokenPipe, "its thread has ended".to_owned()),
        })
    }

    fn health(&mut self) -> SinkHealth {
        let has_room =
            self.behind.waiting.load(Ordering::Relaxed) < BATCHES && self.behind.bytes.load(Ordering::Relaxed) < BYTES;
        let takes_lines = Some(self.queue.is_some() && has_room);
        let mut health = lock(&self.behind.health);
        SinkHealth { lost: std::mem::take(&mut health.lost), failing: health.failing.clone(), takes_lines }
    }

    fn end(&mut self) -> u64 {
        self.queue = None;
        self.replaced = true;
        self.behind.replaced.store(true, Ordering::Relaxed);
        self.behind.unwritten.load(Ordering::Relaxed)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queue = None;
        self.behind.ending.store(true, Ordering::Relaxed);
        // Whose place others took had its time, and lines go on meanwhile.
        let within = if self.replaced { Duration::ZERO } else { DRAIN };
        let is_left = self.done.recv_timeout(within) == Err(RecvTimeoutError::Timeout);
        if is_left && self.behind.unwritten.load(Ordering::Relaxed) > 0 {
            tracing::error!(sink = self.name, "left behind with alerts that are not written");
        } else if is_left && !self.replaced {
            tracing::error!(sink = self.name, "left behind with alerts that may not be synced to their disk");
        }
        let lost = self.health().lost;
        if lost > 0 {
            tracing::error!(sink = self.name, alerts = lost, "alerts not written at the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a line only when it is let, and does with it as it is told.
    struct Gated(mpsc::Receiver<io::Result<()>>, SyncSender<Vec<u8>>);

    impl AlertSink for Gated {
        fn name(&self) -> &'static str {
            "gated"
        }
        fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
            let told = self.0.recv().unwrap_or(Ok(()));
            told.map_err(|source| AlertSinkError { sink: "gated".into(), source })?;
            self.1.send(lines.to_vec()).expect("the test listens");
            Ok(())
        }
    }

    fn gated() -> (Queued, SyncSender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let (gate, at_gate) = sync_channel(4 * BATCHES);
        let (written, out) = sync_channel(4 * BATCHES);
        (Queued::start(Box::new(Gated(at_gate, written))).expect("a thread"), gate, out)
    }

    #[test]
    fn unit_sinks_sink_that_hangs_holds_nobody_up_and_refuses_past_its_bound() {
        let (mut sink, gate, out) = gated();
        // One may be in the writer's hands.
        let refused = (0..BATCHES + 11).filter(|n| sink.append(format!("{n}\n").as_bytes()).is_err()).count();
        assert!((10..=11).contains(&refused), "{refused}");
        let error = sink.append(b"x\n").expect_err("full");
        assert!(error.to_string().contains("64 batches wait already"), "{error}");
        drop(gate);
        drop(sink);
        let written: Vec<_> = out.iter().collect();
        assert_eq!(written.len(), BATCHES + 11 - refused, "what was taken is written, in order, also at the end");
        assert_eq!((written[0].as_slice(), written[1].as_slice()), (&b"0\n"[..], &b"1\n"[..]));
    }

    #[test]
    fn unit_sinks_sink_that_hangs_holds_no_more_memory_than_its_bound_however_long_its_lines_are() {
        let (mut sink, gate, out) = gated();
        let large = [vec![b'x'; BYTES / 4], b"\n".to_vec()].concat();
        let taken = (0..8).filter(|_| sink.append(&large).is_ok()).count();
        assert_eq!(taken, 3, "four and their line feeds are past the bound");
        assert_eq!(sink.health().takes_lines, Some(true));
        sink.append(b"short\n").expect("it has room still");
        drop(gate);
        (0..4).for_each(|_| drop(out.recv().expect("written")));
        while sink.behind.bytes.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        sink.append(&[large.clone(), large.clone(), large.clone(), large].concat()).expect("one alone may be more");
    }

    #[test]
    fn unit_sinks_lines_that_fail_behind_the_queue_are_counted_and_recovery_is_seen() {
        let (mut sink, gate, out) = gated();
        sink.append(b"one\ntwo\n").expect("queued");
        sink.append(b"three\n").expect("queued");
        gate.send(Err(io::Error::from(io::ErrorKind::BrokenPipe))).expect("told");
        gate.send(Err(io::Error::from(io::ErrorKind::BrokenPipe))).expect("told");
        sink.append(b"four\n").expect("queued");
        gate.send(Ok(())).expect("told");
        assert_eq!(out.recv().expect("written"), b"four\n");
        // The writer notes it after the write.
        let (mut lost, mut failing) = (0, Some(String::new()));
        while failing.is_some() {
            let health = sink.health();
            lost += health.lost;
            failing = health.failing;
            thread::yield_now();
        }
        assert_eq!(lost, 3, "by lines, not by batches");
        assert_eq!(sink.health().lost, 0, "said once");
    }
    #[test]
    fn unit_sinks_lines_wait_for_a_disk_that_is_full_and_none_is_lost_once_it_has_room() {
        let (mut sink, gate, out) = gated();
        sink.append(b"one\n").expect("queued");
        sink.append(b"two\n").expect("queued");
        gate.send(Err(io::Error::from(io::ErrorKind::StorageFull))).expect("told");
        let mut failing = None;
        while failing.is_none() {
            failing = sink.health().failing;
            thread::yield_now();
        }
        assert!(failing.is_some_and(|why| why.contains("lines wait")));
        (0..2).for_each(|_| gate.send(Ok(())).expect("told"));
        assert_eq!(
            (out.recv().expect("written"), out.recv().expect("written")),
            (b"one\n".to_vec(), b"two\n".to_vec())
        );
        while sink.health().failing.is_some() {
            thread::yield_now();
        }
        assert_eq!(sink.health().lost, 0);
    }

    #[test]
    fn unit_sinks_sink_whose_place_others_take_writes_what_it_took_and_holds_nobody_up() {
        let (mut sink, gate, out) = gated();
        sink.append(b"one\ntwo\n").expect("queued");
        sink.append(b"three\n").expect("queued");
        assert_eq!(sink.end(), 3, "asked at once, answered at once");
        sink.append(b"late\n").expect_err("it has ended");
        (0..2).for_each(|_| gate.send(Ok(())).expect("told"));
        assert_eq!(
            (out.recv().expect("written"), out.recv().expect("written")),
            (b"one\ntwo\n".to_vec(), b"three\n".to_vec())
        );
        while sink.end() > 0 {
            thread::yield_now();
        }
        assert_eq!(sink.health().lost, 0);
        let (mut hangs, _gate, _out) = gated();
        hangs.append(b"x\n").expect("queued");
        assert_eq!(hangs.end(), 1);
        let (ended, is_over) = sync_channel(1);
        thread::spawn(move || {
            drop(hangs);
            ended.send(()).expect("the test waits");
        });
        is_over.recv_timeout(DRAIN / 2).expect("nobody waits for what hangs");
    }

    #[test]
    fn unit_sinks_disk_that_stays_full_holds_no_end_up_and_every_line_is_counted() {
        let sink = Queued::start(Box::new(crate::RotatingFile::new("/dev/full", u64::MAX, 1)));
        let mut sink = sink.expect("a thread");
        let refused = (0..BATCHES + 9).filter(|n| sink.append(format!("{n}\n").as_bytes()).is_err()).count();
        assert!((8..=9).contains(&refused), "{refused}");
        assert_eq!(sink.health().takes_lines, Some(false));
        let behind = Arc::clone(&sink.behind);
        // Its end would take what is lost out of the count to log it.
        sink.queue = None;
        behind.ending.store(true, Ordering::Relaxed);
        assert_eq!(sink.done.recv_timeout(DRAIN), Err(RecvTimeoutError::Disconnected), "it ended by itself");
        assert_eq!(sink.health().lost, (BATCHES + 9 - refused) as u64);
    }
}
