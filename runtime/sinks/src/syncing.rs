//! Brings what was appended to files to their disk, beside whoever appends.
//!
//! Invariant: the sync that covers a line begins at most [`SYNC_EVERY`] after it was appended, or after the sync before it, if that took
//! longer. The end waits until all is synced. A file's name is synced with its first lines, and so are the renames of a rotation. Who appends
//! holds the files: one that he lets go, as a rotation does that removes it, is not held open here, where its bytes would stay on the disk.
//!
//! Decision: `fdatasync` on a thread of its own, once for all lines of a second. A sync for each batch, or on the thread that appends, would
//! make lines wait for a disk that is busy; at the heaviest load their queue holds a tenth of a second, and then they are lost at once.
//! Where more than [`FILES`] files are full within that second, whoever appends waits for the disk all the same.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use palisade_world::SYNC_EVERY;

/// Files that may wait to be synced: one, and those that took its place within a second.
const FILES: usize = 8;

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) file: File,
    /// Where its name is to be synced, once.
    folder: Mutex<Option<PathBuf>>,
    /// It waits to be synced.
    asked: AtomicBool,
}

/// How a file is synced: the disk's own way, but in tests.
type Sync = dyn Fn(&Appended) -> io::Result<()> + Send + std::marker::Sync;

/// See the module.
pub(crate) struct Syncing {
    every: Duration,
    sync: Arc<Sync>,
    worker: Option<Worker>,
    trouble: Arc<Mutex<Option<String>>>,
}

struct Worker {
    files: SyncSender<Weak<Appended>>,
    /// Dropped: no more come, and nobody waits for any.
    hurry: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Appended {
    /// A file that was opened at a path; one that is new has a name that is not on the disk yet.
    pub(crate) fn new(file: File, path: &Path, is_new: bool) -> Self {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Mutex::new(is_new.then(|| parent.to_owned()));
        Self { file, folder, asked: AtomicBool::new(false) }
    }

    /// Whether it is still to be synced.
    pub(crate) fn waits(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Its bytes, and its name.
    fn sync(&self) -> io::Result<()> {
        known_to_disk(self.file.sync_data())?;
        let folder = lock(&self.folder).clone();
        if let Some(folder) = folder {
            known_to_disk(File::open(folder)?.sync_all())?;
            *lock(&self.folder) = None;
        }
        Ok(())
    }
}

/// A file system that knows no sync is none that fails.
fn known_to_disk(synced: io::Result<()>) -> io::Result<()> {
    synced.or_else(|error| if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Syncing {
    fn default() -> Self {
        Self::by(SYNC_EVERY, Arc::new(Appended::sync))
    }
}

impl std::fmt::Debug for Syncing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncing").field("every", &self.every).finish_non_exhaustive()
    }
}

fn note(trouble: &Mutex<Option<String>>, synced: &io::Result<()>) {
    let said = synced.as_ref().err().map(|error| format!("written, and not synced to its disk: {error}"));
    if let Some(said) = &said {
        tracing::error!("{said}");
    }
    *lock(trouble) = said;
}

impl Syncing {
    fn by(every: Duration, sync: Arc<Sync>) -> Self {
        Self { every, sync, worker: None, trouble: Arc::default() }
    }

    /// Something was appended to a file. Returns at once, but where too many files wait.
    pub(crate) fn appended(&mut self, file: &Arc<Appended>) {
        if file.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.worker.is_none() {
            self.worker = Worker::start(self.every, &self.sync, &self.trouble)
                .inspect_err(|error| tracing::warn!(%error, "no thread to sync a file: each batch waits for its disk"))
                .ok();
        }
        let is_taken = self.worker.as_ref().is_some_and(|worker| worker.files.try_send(Arc::downgrade(file)).is_ok());
        if !is_taken {
            file.asked.store(false, Ordering::Release);
            note(&self.trouble, &(self.sync)(file));
        }
    }

    /// Why the last sync failed, if it did: what it was of may not be on the disk, ever.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}

impl Worker {
    fn start(every: Duration, sync: &Arc<Sync>, trouble: &Arc<Mutex<Option<String>>>) -> io::Result<Self> {
        let (files, appended) = sync_channel(FILES);
        let (hurry, hurried) = sync_channel(0);
        let (sync, trouble) = (Arc::clone(sync), Arc::clone(trouble));
        let work = move || sync_all(every, &*sync, &appended, &hurried, &trouble);
        let thread = thread::Builder::new().name("alert-sync".to_owned()).spawn(work)?;
        Ok(Self { files, hurry, thread })
    }
}

fn sync_all(
    every: Duration,
    sync: &Sync,
    appended: &Receiver<Weak<Appended>>,
    hurried: &Receiver<()>,
    trouble: &Mutex<Option<String>>,
) {
    while let Ok(first) = appended.recv() {
        // More lines come meanwhile. Nobody ever sends: who drops his end wants no waiting.
        let _ = hurried.recv_timeout(every);
        for file in std::iter::once(first).chain(appended.try_iter()).filter_map(|file| file.upgrade()) {
            // Before the sync: what is appended from now on asks for another.
            file.asked.swap(false, Ordering::AcqRel);
            note(trouble, &sync(&file));
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let Some(Worker { files, hurry, thread }) = self.worker.take() else { return };
        drop(hurry);
        drop(files);
        // It cannot panic but by a bug, which is said where it happens.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn file() -> Arc<Appended> {
        Arc::new(Appended::new(tempfile::tempfile().expect("a file"), Path::new("x"), false))
    }

    /// Counts syncs, each of which does this before.
    fn counting(
        does: impl Fn(usize) -> io::Result<()> + Send + std::marker::Sync + 'static,
    ) -> (Syncing, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let sync = move |_: &Appended| does(counted.fetch_add(1, Ordering::SeqCst));
        (Syncing::by(SOON, Arc::new(sync)), count)
    }

    fn until(holds: impl Fn() -> bool) {
        for _ in 0..5000 {
            if holds() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("it never holds");
    }

    #[test]
    fn unit_sinks_one_sync_is_for_all_that_was_appended_before_it_and_what_comes_later_has_another() {
        let (mut syncing, count) = counting(|_| Ok(()));
        let (one, other) = (file(), file());
        (0..100).for_each(|_| syncing.appended(&one));
        syncing.appended(&other);
        until(|| count.load(Ordering::SeqCst) == 2);
        thread::sleep(2 * SOON);
        assert_eq!(count.load(Ordering::SeqCst), 2, "once for each file");
        syncing.appended(&one);
        until(|| count.load(Ordering::SeqCst) == 3);
    }

    #[test]
    fn unit_sinks_end_waits_for_no_second_and_for_all_that_is_to_be_synced() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let slow = move |_: &Appended| {
            thread::sleep(SOON);
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let mut syncing = Syncing::by(Duration::from_secs(3600), Arc::new(slow));
        let files = [file(), file(), file()];
        files.iter().for_each(|file| syncing.appended(file));
        drop(syncing);
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn unit_sinks_file_that_is_let_go_is_closed_at_once_and_synced_no_more() {
        let (mut syncing, count) = counting(|_| Ok(()));
        let (gone, kept) = (file(), file());
        [&gone, &kept].into_iter().for_each(|file| syncing.appended(file));
        assert!(gone.waits());
        let held = Arc::downgrade(&gone);
        drop(gone);
        assert_eq!(held.strong_count(), 0, "nobody holds its bytes");
        drop(syncing);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn unit_sinks_disk_whose_sync_hangs_keeps_nobody_who_appends_to_a_few_files() {
        let (free, held) = sync_channel::<()>(0);
        let held = Mutex::new(held);
        let (mut syncing, count) = counting(move |_| {
            let _ = lock(&held).recv();
            Ok(())
        });
        let one = file();
        syncing.appended(&one);
        until(|| count.load(Ordering::SeqCst) == 1);
        (0..100).for_each(|_| syncing.appended(&one));
        let others: Vec<_> = (1..FILES).map(|_| file()).collect();
        others.iter().for_each(|file| syncing.appended(file));
        assert_eq!(count.load(Ordering::SeqCst), 1, "it hangs, and this goes on");
        drop(free);
        until(|| count.load(Ordering::SeqCst) == 1 + FILES);
    }

    #[test]
    fn unit_sinks_sync_that_fails_is_said_until_one_succeeds() {
        let (mut syncing, count) = counting(|at| if at == 0 { Err(io::Error::other("a broken disk")) } else { Ok(()) });
        let one = file();
        syncing.appended(&one);
        until(|| syncing.trouble().is_some());
        assert_eq!(syncing.trouble().as_deref(), Some("written, and not synced to its disk: a broken disk"));
        syncing.appended(&one);
        until(|| syncing.trouble().is_none());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
