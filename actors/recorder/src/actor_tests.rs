//! The actor on a paused clock: who does not read, disks that hang, and how often it turns.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Handler, MessageResult};
use palisade_domain::UnixNanos;
use palisade_protocol::{
    Condition, ConditionReported, EndRecording, RecordAccount, RecordAccountOf, RecordTrace, RecordingCounts,
    RecordingCountsOf, RecordingOutcome, RecordingOver, RecordingRefused,
};
use palisade_supervision::{Address, ChildSpec, Context, Kept, Overflow, Supervisor};
use palisade_wire::trace::{Passing, Picture};
use palisade_world::{BootNanos, Clock, TraceStore, TraceStoreError};
use tokio::time::{Instant, sleep};

use crate::{
    Recorder, Wiring,
    reader::READ_WITHIN,
    state::{AroundAlerts, RECORDINGS, Settings},
    tests::{SECOND, batch, blocked, settings},
};

const PATIENCE: Duration = Duration::from_secs(100);

/// The paused clock of the test, how often it was asked, and for how many nanoseconds the machine slept.
struct Paused(Instant, AtomicU64, AtomicU64);

impl Clock for Paused {
    fn boot(&self) -> BootNanos {
        self.1.fetch_add(1, Ordering::Relaxed);
        let awake = u64::try_from(self.0.elapsed().as_nanos()).expect("short");
        BootNanos(10 * SECOND + awake + self.2.load(Ordering::Relaxed))
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(100 * SECOND)
    }
}

/// A disk that takes so many pieces and then hangs until it is let go.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<OfDisk>>);

#[derive(Default)]
struct OfDisk {
    room: usize,
    taken: Vec<u8>,
    is_ended: bool,
    is_free: bool,
}

impl Disk {
    fn with<T>(&self, does: impl FnOnce(&mut OfDisk) -> T) -> T {
        does(&mut self.0.lock().expect("whole"))
    }
}

impl TraceStore for Disk {
    fn has_room(&mut self) -> bool {
        self.with(|disk| disk.is_free || disk.room > 0)
    }
    fn begin(&mut self, _: &str) {}
    fn append(&mut self, bytes: Vec<u8>) {
        self.with(|disk| {
            assert!(disk.is_free || disk.room > 0, "it has no room");
            disk.room = disk.room.saturating_sub(1);
            disk.taken.extend(bytes);
        });
    }
    fn end(&mut self) {
        self.with(|disk| disk.is_ended = true);
    }
    fn outcome(&mut self) -> Option<Result<(), TraceStoreError>> {
        self.with(|disk| (disk.is_free && std::mem::take(&mut disk.is_ended)).then_some(Ok(())))
    }
}

/// Keeps the last condition, and accounts for nothing.
struct Others(Arc<Mutex<Option<Condition>>>);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<ConditionReported> for Others {
    type Result = ();
    fn handle(&mut self, report: ConditionReported, _: &mut Self::Context) {
        *self.0.lock().expect("whole") = report.condition;
    }
}

impl Handler<RecordAccountOf> for Others {
    type Result = MessageResult<RecordAccountOf>;
    fn handle(&mut self, _: RecordAccountOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(RecordAccount::default())
    }
}

struct Bed {
    recorder: Address<Recorder>,
    clock: Arc<Paused>,
    condition: Arc<Mutex<Option<Condition>>>,
}

impl Bed {
    fn asked(&self) -> u64 {
        self.clock.1.load(Ordering::Relaxed)
    }

    fn said(&self) -> String {
        format!("{:?}", self.condition.lock().expect("whole"))
    }

    async fn record(&self, asked: RecordTrace) -> Result<palisade_protocol::RecordingStream, RecordingRefused> {
        self.recorder.ask(asked, PATIENCE).await.expect("answered")
    }
}

/// A recorder of these settings, that has recorded so many seconds, and an alert if one is to be kept.
fn with(settings: Settings, seconds: u64, disk: Option<Disk>, test: impl AsyncFnOnce(Bed)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut node = Supervisor::new("node");
        let condition = Arc::default();
        let others = node.add(ChildSpec::new("others", {
            let condition = Arc::clone(&condition);
            move |_| Others(Arc::clone(&condition))
        }));
        let clock = Arc::new(Paused(Instant::now(), AtomicU64::new(0), AtomicU64::new(0)));
        let recorder = node.add(ChildSpec::new("recorder", {
            let clock = Arc::clone(&clock);
            move |_| {
                let wiring = Wiring {
                    account: others.asker(),
                    store: disk.clone().map(|disk| Box::new(disk) as Box<dyn TraceStore>),
                    conditions: others.outbox(Overflow::Refuse),
                    clock: Arc::clone(&clock) as Arc<dyn Clock>,
                };
                let mut recorder = Recorder::new(settings.clone(), wiring, Kept::new(Picture::default()), Vec::new());
                for second in 0..seconds {
                    recorder.state.batch(10 * SECOND, &batch(4, second * 100, 100, 10 * SECOND));
                    recorder.state.seal();
                }
                if disk.is_some() {
                    recorder.state.batch(10 * SECOND, &blocked());
                    recorder.state.seal();
                }
                recorder
            }
        }));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
        test(Bed { recorder, clock, condition }).await;
        tree.stop().await;
    });
}

fn past() -> RecordTrace {
    RecordTrace { last: Duration::from_secs(600), ..RecordTrace::default() }
}

#[test]
fn unit_recorder_gives_up_readers_that_read_nothing_so_that_others_may_record_and_says_so() {
    with(settings(), 200, None, async |bed| {
        let mut stuck = Vec::new();
        for _ in 0..RECORDINGS {
            stuck.push(bed.record(past()).await.expect("begun"));
        }
        let refused = bed.record(past()).await.err();
        assert_eq!(refused, Some(RecordingRefused::TooMany(RECORDINGS)));
        // One of them reads, if slowly.
        for _ in 0..7 {
            sleep(READ_WITHIN / 6).await;
            stuck[0].bytes.recv().await.expect("there");
        }
        let mut more = bed.record(past()).await.expect("there is room");
        assert!(more.bytes.recv().await.is_some());
        let end = |id| bed.recorder.ask(EndRecording { id: Some(id) }, PATIENCE);
        let given_up = end(stuck[1].id).await.expect("answered");
        assert!(!given_up.ended);
        assert_eq!(given_up.why, Some(RecordingOver::Unread(READ_WITHIN)));
        let reading = end(stuck[0].id).await.expect("answered");
        assert!(reading.ended && reading.why.is_none());
        // One goes away; the one that is ended is over once it is told whole.
        drop(more);
        while stuck[0].bytes.recv().await.is_some() {}
        sleep(Duration::from_secs(1)).await;
        let counts = bed.recorder.ask(RecordingCountsOf, PATIENCE).await.expect("answered");
        let unread = RECORDINGS as u64 - 1;
        let ended =
            [(RecordingOutcome::Whole, 1), (RecordingOutcome::Unread, unread), (RecordingOutcome::ReaderGone, 1)];
        assert_eq!(counts, RecordingCounts { running: 0, ended: ended.into() });
        // What was on its way is there, and then the end of a trace that is not whole.
        let (mut passing, mut chunks) = (Passing::default(), 0);
        while let Some(chunk) = stuck[1].bytes.recv().await {
            passing.pass(&chunk);
            chunks += 1;
        }
        assert!(chunks == crate::actor::CHUNKS && !passing.is_whole, "{chunks}");
    });
}

#[test]
fn unit_recorder_gives_up_no_reader_for_the_time_that_the_machine_slept() {
    with(settings(), 200, None, async |bed| {
        let stream = bed.record(past()).await.expect("begun");
        sleep(READ_WITHIN / 2).await;
        bed.clock.2.store(3_600 * SECOND, Ordering::Relaxed);
        sleep(READ_WITHIN / 3).await;
        let end = bed.recorder.ask(EndRecording { id: Some(stream.id) }, PATIENCE).await.expect("answered");
        assert!(end.ended && end.why.is_none(), "{end:?}");
    });
}

#[test]
fn unit_recorder_turns_no_oftener_for_many_who_read_a_long_past_than_for_one() {
    let turns = |readers: usize| {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        with(Settings { ring_bytes: 64 << 20, ..settings() }, 3_000, None, async move |bed| {
            let left = Arc::new(AtomicUsize::new(readers));
            for _ in 0..readers {
                let mut stream = bed.record(past()).await.expect("begun").bytes;
                let left = Arc::clone(&left);
                tokio::task::spawn_local(async move {
                    while stream.recv().await.is_some() {}
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            let before = bed.asked();
            sleep(Duration::from_secs(1)).await;
            assert_eq!(left.load(Ordering::Relaxed), readers, "the past is longer than this");
            counted.store(bed.asked() - before, Ordering::Relaxed);
        });
        count.load(Ordering::Relaxed)
    };
    let (one, many) = (turns(1), turns(8));
    assert!(one > 100 && many <= one + one / 4, "{one} for one, {many} for many");
}

#[test]
fn unit_recorder_goes_on_while_the_disk_of_its_store_hangs_and_says_so_and_a_stop_waits_for_it() {
    let around = AroundAlerts { before_ns: 600 * SECOND, after_ns: SECOND, ..AroundAlerts::default() };
    let settings = Settings { around_alerts: Some(around), ..settings() };
    let disk = Disk::default();
    disk.with(|disk| disk.room = 3);
    let taken = disk.clone();
    with(settings, 50, Some(disk), async move |bed| {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(bed.said(), "Some(Good)", "it may be slow");
        let mut stream = bed.record(past()).await.expect("begun").bytes;
        for _ in 0..20 {
            stream.recv().await.expect("others are recorded for");
        }
        sleep(Duration::from_secs(10)).await;
        assert!(bed.said().contains("waits for its disk, which has taken nothing for 1"), "{}", bed.said());
        assert!(taken.with(|disk| disk.room == 0 && !disk.taken.is_empty() && !disk.is_ended));
        let stopping = bed.recorder.ask(EndRecording { id: None }, PATIENCE);
        let freed = async {
            sleep(Duration::from_secs(3)).await;
            taken.with(|disk| disk.is_free = true);
        };
        let before = Instant::now();
        let (ended, ()) = tokio::join!(stopping, freed);
        assert!(ended.expect("answered").ended && before.elapsed() >= Duration::from_secs(3));
        let mut passing = Passing::default();
        taken.with(|disk| passing.pass(&disk.taken));
        assert!(passing.is_whole && passing.records > 5_000, "{} records", passing.records);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(bed.said(), "Some(Good)");
    });
}
