//! The store of traces: a directory of files, and the simulated disk.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use palisade_simulation::{
    random::Random,
    world::{policies::Disk, scheduler, traces::TraceDirectory},
};
use palisade_store::{TraceFiles, TraceThread};
use palisade_world::{TraceStore, TraceStoreError};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// More than any machine here needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Traces of this many bytes are kept so many.
const BYTES: usize = 4096;
const KEPT: usize = 8;
/// More pieces than any store has room for.
const MANY: usize = 20_000;

/// One disk, simulated or real.
trait Bed {
    /// As a process opens it.
    fn store(&self) -> Box<dyn TraceStore>;
    /// What is in the traces that are whole, or in those that are not, the oldest first.
    fn found(&self, whole: bool) -> Vec<Vec<u8>>;
    fn set_full(&self, full: bool);
    /// It takes a while for each thing, or none. A real one does as it likes.
    fn set_slow(&self, slow: bool);
    /// The power goes: of what was not ended the end is missing.
    fn lose_power(&self);
}

struct Real {
    root: TempDir,
    /// Its root is a file system of its own, of half a megabyte.
    mounted: bool,
}

impl Real {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory"), mounted: false }
    }
    fn small() -> Option<Self> {
        let mut bed = crate::is_root().then(Self::new)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(bed.root.path());
        assert!(mount.status().expect("mount(8)").success(), "a small file system");
        bed.mounted = true;
        Some(bed)
    }
    fn traces(&self) -> PathBuf {
        self.root.path().join("traces")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a thread may still write there.
            let unmounted = Command::new("umount").arg("-l").arg(self.root.path()).status();
            assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
        }
    }
}

impl Bed for Real {
    fn store(&self) -> Box<dyn TraceStore> {
        let files = TraceFiles::new(&self.traces(), (KEPT * BYTES) as u64);
        Box::new(TraceThread::start(files).expect("a thread"))
    }
    fn found(&self, whole: bool) -> Vec<Vec<u8>> {
        let extension = if whole { "paltrace" } else { "partial" };
        let entries = fs::read_dir(self.traces()).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("there")).collect()
    }
    fn set_full(&self, full: bool) {
        let path = self.root.path().join("something-else");
        if !full {
            return fs::remove_file(path).expect("there");
        }
        let mut file = fs::File::create(path).expect("made");
        let error = (0..10_000).find_map(|_| file.write_all(&[0; 512]).err()).expect("it is small");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    fn set_slow(&self, _: bool) {}
    fn lose_power(&self) {
        for entry in fs::read_dir(self.traces()).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|found| found == "partial") {
                cut(&path);
            }
        }
    }
}

fn cut(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("there");
    file.set_len(file.metadata().expect("there").len() / 2).expect("cut");
}

struct Simulated {
    disk: Disk,
    traces: TraceDirectory,
}

impl Simulated {
    fn new() -> Self {
        let disk = Disk::new(crate::teller(), Random::stream(1, "disk"), None);
        let traces = TraceDirectory::new(disk.clone(), crate::teller(), Random::stream(1, "traces"), None);
        Self { disk, traces }
    }
}

impl Bed for Simulated {
    fn store(&self) -> Box<dyn TraceStore> {
        Box::new(self.traces.store())
    }
    fn found(&self, whole: bool) -> Vec<Vec<u8>> {
        self.traces.contents(whole)
    }
    fn set_full(&self, full: bool) {
        self.disk.disturb(|disk| disk.full = full);
    }
    fn set_slow(&self, slow: bool) {
        self.disk.disturb(|disk| disk.slow_ms = if slow { 20 } else { 0 });
    }
    fn lose_power(&self) {
        self.traces.lose_power();
    }
}

fn on(real: Option<Real>, body: &impl AsyncFn(&dyn Bed)) {
    if let Some(bed) = real {
        crate::really(body(&bed));
    }
    scheduler::run(1, async |_| body(&Simulated::new()).await);
}

fn on_both(body: &impl AsyncFn(&dyn Bed)) {
    on(Some(Real::new()), body);
}

/// What came of the next trace.
async fn outcome(store: &mut dyn TraceStore) -> Result<(), TraceStoreError> {
    let waits = async {
        loop {
            match store.outcome() {
                Some(outcome) => return outcome,
                None => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(PATIENCE, waits).await.expect("an outcome")
}

async fn give(store: &mut dyn TraceStore, bytes: Vec<u8>) {
    while !store.has_room() {
        sleep(Duration::from_millis(1)).await;
    }
    store.append(bytes);
}

/// Until there is so much of the one that is not whole.
async fn until_written(bed: &dyn Bed, store: &mut dyn TraceStore, bytes: &[u8]) {
    let waits = async {
        while bed.found(false).last().is_none_or(|found| found != bytes) {
            // A simulated disk does what is due when it is looked at.
            store.has_room();
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("written");
}

async fn write(store: &mut dyn TraceStore, name: &str, filled: u8) -> Result<(), TraceStoreError> {
    store.begin(name);
    for _ in 0..4 {
        give(store, vec![filled; BYTES / 4]).await;
    }
    store.end();
    outcome(store).await
}

#[test]
fn host_conformance_trace_is_what_was_appended_in_order_and_whole_only_when_it_was_ended() {
    on_both(&async |bed| {
        let mut store = bed.store();
        store.begin("a");
        for piece in 0..100 {
            give(&mut *store, vec![piece; 10]).await;
        }
        let expected: Vec<u8> = (0..100).flat_map(|piece| [piece; 10]).collect();
        until_written(bed, &mut *store, &expected).await;
        assert!(bed.found(true).is_empty() && store.outcome().is_none(), "it may go on");
        store.end();
        outcome(&mut *store).await.expect("whole");
        assert_eq!((bed.found(true), bed.found(false)), (vec![expected], Vec::new()));
        assert!(store.outcome().is_none(), "said once");
        // What is of no trace is of none.
        give(&mut *store, vec![1]).await;
        store.end();
        write(&mut *store, "b", 7).await.expect("whole");
        assert_eq!(bed.found(true).len(), 2);
        assert!(store.outcome().is_none());
    });
}

#[test]
fn host_conformance_traces_are_kept_within_their_bound_and_the_oldest_go() {
    on_both(&async |bed| {
        let mut store = bed.store();
        for number in 0..20 {
            write(&mut *store, &format!("{number:02}"), number).await.expect("whole");
            // Files of one moment have no order by time.
            sleep(Duration::from_millis(15)).await;
            let found: Vec<u8> = bed.found(true).iter().map(|trace| trace[0]).collect();
            let first = (usize::from(number) + 1).saturating_sub(KEPT);
            let expected: Vec<u8> = (u8::try_from(first).expect("small")..=number).collect();
            assert_eq!(found, expected, "the newest, each whole");
            assert!(bed.found(true).iter().all(|trace| trace.len() == BYTES));
        }
    });
}

#[test]
fn host_conformance_trace_that_a_full_disk_cut_is_never_whole_and_the_next_one_is_as_any_other() {
    on(Real::small(), &async |bed| {
        let mut store = bed.store();
        store.begin("a");
        give(&mut *store, vec![1; 100]).await;
        until_written(bed, &mut *store, &[1; 100]).await;
        bed.set_full(true);
        give(&mut *store, vec![2; 64 << 10]).await;
        let error = outcome(&mut *store).await.expect_err("there is no room");
        assert_eq!(error.source.kind(), ErrorKind::StorageFull, "{error}");
        give(&mut *store, vec![3; 100]).await;
        store.end();
        sleep(Duration::from_millis(50)).await;
        assert!(store.outcome().is_none(), "said once, whatever follows");
        assert!(bed.found(true).is_empty());
        assert!(bed.found(false)[0].starts_with(&[1; 100]), "it is kept as far as it got");
        assert!(!bed.found(false)[0].contains(&3), "nothing follows a gap");
        bed.set_full(false);
        write(&mut *store, "b", 7).await.expect("whole");
        assert_eq!(bed.found(true), [vec![7; BYTES]]);
    });
}

#[test]
fn host_conformance_trace_of_which_a_piece_found_no_room_is_lost_and_said_to_be() {
    on_both(&async |bed| {
        let mut store = bed.store();
        bed.set_slow(true);
        store.begin("a");
        let pieces: Vec<Vec<u8>> = (0..MANY).map(|_| vec![1; 512]).collect();
        for piece in pieces {
            store.append(piece);
        }
        store.end();
        let error = outcome(&mut *store).await.expect_err("nobody has that much room");
        assert_eq!(error.source.kind(), ErrorKind::WouldBlock, "{error}");
        bed.set_slow(false);
        // What was taken is written first.
        while !store.has_room() {
            sleep(Duration::from_millis(1)).await;
        }
        write(&mut *store, "b", 7).await.expect("whole");
        assert!(store.outcome().is_none(), "once for each");
        assert_eq!(bed.found(true), [vec![7; BYTES]], "one with a hole is not whole");
    });
}

#[test]
fn host_conformance_what_the_powers_loss_left_of_a_trace_is_no_whole_one_and_keeps_its_name() {
    on_both(&async |bed| {
        let mut store = bed.store();
        write(&mut *store, "a", 1).await.expect("whole");
        store.begin("b");
        give(&mut *store, vec![2; 1000]).await;
        until_written(bed, &mut *store, &[2; 1000]).await;
        // The process goes with it.
        drop(store);
        bed.lose_power();
        let mut store = bed.store();
        assert_eq!(bed.found(true), [vec![1; BYTES]], "what was said to be whole is");
        let error = write(&mut *store, "b", 3).await.expect_err("a part has that name, and it is not written over");
        assert_eq!(error.source.kind(), ErrorKind::AlreadyExists, "{error}");
        let part = &bed.found(false)[0];
        assert!(part.len() <= 1000 && part.iter().all(|byte| [0, 2].contains(byte)), "{part:?}");
        write(&mut *store, "c", 4).await.expect("whole");
        write(&mut *store, "a", 5).await.expect("in place of the one before");
        let mut found: Vec<u8> = bed.found(true).iter().map(|trace| trace[0]).collect();
        found.sort_unstable();
        assert_eq!(found, [4, 5]);
    });
}
