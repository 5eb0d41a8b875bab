//! Reads credentials beside the links' thread, which has messages to carry: a file system that does not answer (NFS whose server is gone) holds
//! up whoever opens a file on it, for as long as it likes.
//!
//! Invariant: of each file one reading is under way at a time; one that hangs is waited for once, and no other is begun until it is over:
//! threads that hang do not pile up, and the other files are read as ever. What comes of a reading that was late is of before, and is read again.
//! Decision: a thread for each reading, and not tokio's pool for what blocks, because a runtime that ends waits for that pool.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use palisade_domain::UnixNanos;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    CredentialFiles,
    credentials::{CredentialSource, CredentialsError, Part, Reading, Separate, Text},
};

/// For which a file is waited for. One of a few KiB is read in less than a millisecond.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

struct UnderWay {
    text: oneshot::Receiver<Text>,
    began: Instant,
    since: UnixNanos,
}

/// See the module.
pub(crate) struct Reader {
    source: Arc<dyn CredentialSource>,
    patience: Duration,
    /// In the order of [`Part::ALL`].
    under_way: [Option<UnderWay>; 4],
}

/// Begins a reading on a thread of its own.
fn begin(
    parts: &Arc<dyn Separate>,
    part: Part,
    tell: impl FnOnce(Text) + Send + 'static,
) -> Result<(), CredentialsError> {
    let read = Arc::clone(parts);
    let begun = std::thread::Builder::new().name("link-file".into()).spawn(move || tell(read.text(part)));
    begun.map(drop).map_err(|source| CredentialsError::File { path: parts.path(part), source })
}

fn hangs(parts: &dyn Separate, part: Part, within: Duration, since: UnixNanos) -> CredentialsError {
    CredentialsError::Hangs { path: parts.path(part), within, since }
}

/// Waits for one reading of files on the thread of who asks, but no longer than [`PATIENCE`].
pub(crate) fn wait(files: &CredentialFiles, now: UnixNanos) -> Reading {
    let parts: Arc<dyn Separate> = Arc::new(files.clone());
    wait_for(&parts, PATIENCE, now)
}

fn wait_for(parts: &Arc<dyn Separate>, patience: Duration, now: UnixNanos) -> Reading {
    let until = Instant::now() + patience;
    let begun = Part::ALL.map(|part| {
        let (tell, told) = mpsc::sync_channel(1);
        begin(parts, part, move |text| {
            // Who asked may have lost patience.
            let _ = tell.try_send(text);
        })
        .map(|()| (part, told))
    });
    let texts = begun.map(|begun| {
        let (part, told) = begun?;
        told.recv_timeout(until - Instant::now()).unwrap_or_else(|_| Err(hangs(&**parts, part, patience, now)))
    });
    Reading::of_texts(&**parts, texts)
}

impl UnderWay {
    fn is_over(&mut self) -> bool {
        !matches!(self.text.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

impl Reader {
    pub(crate) const fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self { source, patience: PATIENCE, under_way: [const { None }; 4] }
    }

    /// The first reading, without which there is nothing to do: waited for.
    pub(crate) fn first(&self, now: UnixNanos) -> Reading {
        self.source.separate().map_or_else(|| self.source.read(), |parts| wait_for(&parts, self.patience, now))
    }

    /// As they are now. May be dropped before it is done, and begins no reading twice.
    pub(crate) async fn read(&mut self, now: UnixNanos) -> Reading {
        let Some(parts) = self.source.separate() else { return self.source.read() };
        let begun = Part::ALL.map(|part| self.begin(&parts, part, now));
        let mut texts = begun.map(|begun| begun.map(|()| None));
        for (part, text) in Part::ALL.into_iter().zip(&mut texts) {
            if text.is_ok() {
                *text = self.text(&*parts, part).await;
            }
        }
        Reading::of_texts(&*parts, texts)
    }

    /// Begins to read a part, where that is not under way; an error where it hangs.
    fn begin(&mut self, parts: &Arc<dyn Separate>, part: Part, now: UnixNanos) -> Result<(), CredentialsError> {
        let place = &mut self.under_way[part as usize];
        if let Some(reading) = place {
            if reading.began.elapsed() < self.patience {
                return Ok(());
            }
            if !reading.is_over() {
                return Err(hangs(&**parts, part, self.patience, reading.since));
            }
            *place = None;
        }
        let (tell, text) = oneshot::channel();
        begin(parts, part, move |text| {
            // The links may be over.
            let _ = tell.send(text);
        })?;
        *place = Some(UnderWay { text, began: Instant::now(), since: now });
        Ok(())
    }

    async fn text(&mut self, parts: &dyn Separate, part: Part) -> Text {
        let Some(UnderWay { text, began, since }) = &mut self.under_way[part as usize] else { return Ok(None) };
        let Ok(text) = tokio::time::timeout_at(*began + self.patience, text).await else {
            return Err(hangs(parts, part, self.patience, *since));
        };
        self.under_way[part as usize] = None;
        text.unwrap_or_else(|_| {
            Err(CredentialsError::File {
                path: parts.path(part),
                source: io::Error::other("nothing came of reading it"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    use super::*;
    use crate::{
        Credentials,
        tests::bed::{EPOCH, Office, Papers},
    };

    /// One part hangs for as long as it is told to.
    struct Hanging {
        papers: Arc<Papers>,
        part: Mutex<Part>,
        hangs: AtomicBool,
        readings: AtomicUsize,
    }

    impl Hanging {
        fn new(part: Part) -> Arc<Self> {
            let papers = Office::new(7).papers("a");
            let (hangs, readings) = (AtomicBool::new(false), AtomicUsize::new(0));
            Arc::new(Self { papers, part: Mutex::new(part), hangs, readings })
        }
    }

    impl Separate for Hanging {
        fn text(&self, part: Part) -> Text {
            let text = self.papers.0.lock().expect("whole")[part as usize].clone();
            if part == *self.part.lock().expect("whole") {
                self.readings.fetch_add(1, Ordering::Relaxed);
                while self.hangs.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(Some(text.into_bytes()))
        }
        fn path(&self, part: Part) -> PathBuf {
            format!("/net/{part:?}").into()
        }
    }

    struct Source(Arc<Hanging>);

    impl CredentialSource for Source {
        fn read(&self) -> Reading {
            self.0.papers.read()
        }
        fn separate(&self) -> Option<Arc<dyn Separate>> {
            Some(Arc::<Hanging>::clone(&self.0))
        }
    }

    fn reader(hanging: &Arc<Hanging>) -> Reader {
        Reader { patience: Duration::from_secs(1), ..Reader::new(Arc::new(Source(Arc::clone(hanging)))) }
    }

    /// Whether certificate and key, authorities, lists were read; and what is said of who was not.
    fn read(reading: Reading) -> ([bool; 3], String) {
        let Reading { own, authorities, revocations } = reading;
        let good = [own.is_ok(), authorities.is_ok(), revocations.is_ok()];
        let said = [own.err(), authorities.err(), revocations.err()].into_iter().flatten();
        (good, said.map(|error| error.to_string()).collect())
    }

    #[tokio::test]
    async fn unit_link_file_that_hangs_holds_up_no_other_and_is_named_with_the_time_from_which_on() {
        for (part, expected) in [
            (Part::Certificate, [false, true, true]),
            (Part::Key, [false, true, true]),
            (Part::Authorities, [true, false, true]),
            (Part::Revocations, [true, true, false]),
        ] {
            let hanging = Hanging::new(part);
            hanging.hangs.store(true, Ordering::Relaxed);
            let mut reader = reader(&hanging);
            for seconds in [0, 9] {
                let now = UnixNanos(EPOCH.0 + seconds * 1_000_000_000);
                let (good, said) = read(reader.read(now).await);
                assert_eq!(good, expected, "{part:?}");
                let name = format!("/net/{part:?}: its file system does not answer");
                assert!(said.contains(&name) && said.contains("began 2026-01-01T00:00:00"), "{said}");
            }
            hanging.hangs.store(false, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn unit_link_file_that_hangs_is_not_begun_twice_and_what_it_said_late_is_read_again() {
        let hanging = Hanging::new(Part::Key);
        let mut reader = reader(&hanging);
        reader.read(EPOCH).await.whole().expect("nothing hangs");
        hanging.hangs.store(true, Ordering::Relaxed);
        // Dropped before it is done, it is not lost.
        while hanging.readings.load(Ordering::Relaxed) < 2 {
            let read = tokio::time::timeout(Duration::from_millis(5), reader.read(EPOCH)).await;
            assert!(read.is_err(), "it hangs");
        }
        for _ in 0..3 {
            assert!(reader.read(EPOCH).await.whole().is_err(), "it hangs");
        }
        // Who is known to hang is not waited for again.
        let again = tokio::time::timeout(Duration::from_millis(900), reader.read(EPOCH)).await;
        assert!(again.expect("the others wait for it").own.is_err(), "it hangs");
        assert_eq!(hanging.readings.load(Ordering::Relaxed), 2, "threads pile up");
        let other = Office::new(8).issue("a", 90);
        hanging.papers.0.lock().expect("whole")[1].clone_from(&other.key);
        hanging.hangs.store(false, Ordering::Relaxed);
        let read = loop {
            if let Ok(read) = reader.read(EPOCH).await.whole() {
                break read;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(hanging.readings.load(Ordering::Relaxed), 3);
        let papers = Credentials::of_pem(&other.certificate, &other.key, "", "").expect("PEM");
        assert!(read.key == papers.key, "it is as it was when it began to hang");
    }

    #[test]
    fn unit_link_first_reading_waits_for_a_file_that_hangs_only_so_long() {
        let hanging = Hanging::new(Part::Authorities);
        hanging.hangs.store(true, Ordering::Relaxed);
        let (good, said) = read(reader(&hanging).first(EPOCH));
        hanging.hangs.store(false, Ordering::Relaxed);
        assert_eq!(good, [true, false, true]);
        assert!(said.contains("/net/Authorities: its file system does not answer"), "{said}");
    }
}
