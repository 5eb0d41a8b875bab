//! Reads credentials beside the links' thread, which has messages to carry: a file system that does not answer (NFS whose server is gone) holds
//! up whoever opens a file on it, for as long as it likes.
//!
//! Invariant: one reading is under way at a time; one that hangs is waited for, and no other is begun: threads that hang do not pile up.
//! Decision: a thread for each reading, and not tokio's pool for what blocks, because a runtime that ends waits for that pool.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    credentials::{CredentialSource, Credentials, CredentialsError},
    links::held,
};

/// For which a reading is waited for. Files of a few KiB are read in less than one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

type Read = Result<Credentials, CredentialsError>;

struct Reading {
    outcome: oneshot::Receiver<Read>,
    /// Which file it is at.
    at: Arc<Mutex<PathBuf>>,
}

/// See the module.
pub(crate) struct Reader {
    source: Arc<dyn CredentialSource>,
    under_way: Option<Reading>,
}

/// Begins a reading on a thread of its own.
fn begin(
    source: Arc<dyn CredentialSource>,
    at: Arc<Mutex<PathBuf>>,
    tell: impl FnOnce(Read) + Send + 'static,
) -> Result<(), CredentialsError> {
    let reading = move || {
        let reads = |path: &Path| path.clone_into(&mut held(&at));
        tell(source.read_telling(&reads));
    };
    let begun = std::thread::Builder::new().name("link-files".into()).spawn(reading);
    begun.map(drop).map_err(|source| CredentialsError::File { path: PathBuf::new(), source })
}

fn hangs(at: &Mutex<PathBuf>) -> CredentialsError {
    CredentialsError::Hangs { path: held(at).clone(), within: PATIENCE }
}

/// Waits for one reading on the thread of who asks, but no longer than [`PATIENCE`].
pub(crate) fn wait(source: Arc<dyn CredentialSource>) -> Read {
    if !source.may_hang() {
        return source.read();
    }
    let (tell, told) = mpsc::sync_channel(1);
    let at = Arc::new(Mutex::new(PathBuf::new()));
    begin(source, Arc::clone(&at), move |read| {
        // Who asked may have lost patience.
        let _ = tell.try_send(read);
    })?;
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(hangs(&at)))
}

impl Reader {
    pub(crate) const fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self { source, under_way: None }
    }

    /// The first reading, without which there is nothing to do: waited for.
    pub(crate) fn first(&self) -> Read {
        wait(Arc::clone(&self.source))
    }

    /// As they are now. May be dropped before it is done, and loses no reading.
    pub(crate) async fn read(&mut self) -> Read {
        if !self.source.may_hang() {
            return self.source.read();
        }
        if self.under_way.is_none() {
            let (tell, outcome) = oneshot::channel();
            let at = Arc::new(Mutex::new(PathBuf::new()));
            begin(Arc::clone(&self.source), Arc::clone(&at), move |read| {
                // The links may be over.
                let _ = tell.send(read);
            })?;
            self.under_way = Some(Reading { outcome, at });
        }
        let Some(Reading { outcome, at }) = &mut self.under_way else { return self.source.read() };
        let Ok(read) = tokio::time::timeout(PATIENCE, outcome).await else { return Err(hangs(at)) };
        // A reading that panicked told nothing: the next one is another.
        let read = read.unwrap_or_else(|_| Err(hangs(at)));
        self.under_way = None;
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::tests::bed::Office;

    /// Hangs for as long as it is told to.
    struct Hanging {
        papers: Arc<crate::tests::bed::Papers>,
        hangs: AtomicBool,
        readings: AtomicUsize,
    }

    impl CredentialSource for Hanging {
        fn read(&self) -> Read {
            self.readings.fetch_add(1, Ordering::Relaxed);
            while self.hangs.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.papers.read()
        }
        fn read_telling(&self, reads: &dyn Fn(&Path)) -> Read {
            reads(Path::new("/net/node.key"));
            self.read()
        }
        fn may_hang(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn unit_link_reading_that_hangs_is_given_up_by_name_and_not_begun_twice() {
        let papers = Office::new(7).papers("a");
        let (hangs, readings) = (AtomicBool::new(false), AtomicUsize::new(0));
        let hanging = Arc::new(Hanging { papers, hangs, readings });
        let mut reader = Reader::new(Arc::<Hanging>::clone(&hanging));
        reader.read().await.expect("nothing hangs");
        hanging.hangs.store(true, Ordering::Relaxed);
        // Dropped before it is done, it is not lost.
        while hanging.readings.load(Ordering::Relaxed) < 2 {
            assert!(tokio::time::timeout(Duration::from_millis(5), reader.read()).await.is_err(), "it hangs");
        }
        tokio::time::pause();
        for _ in 0..3 {
            let said = reader.read().await.expect_err("it hangs").to_string();
            assert!(said.contains("/net/node.key") && said.contains("5 s"), "{said}");
        }
        tokio::time::resume();
        hanging.hangs.store(false, Ordering::Relaxed);
        reader.read().await.expect("the one that hung");
        assert_eq!(hanging.readings.load(Ordering::Relaxed), 2, "threads pile up");
        reader.read().await.expect("another");
        assert_eq!(hanging.readings.load(Ordering::Relaxed), 3);
    }
}
