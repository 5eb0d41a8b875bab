//! The thread that writes a recording.
//!
//! Invariant: nobody but this thread waits for a disk, or for who reads standard output, so that whoever interrupts is heard meanwhile. At
//! most [`QUEUE`] parts of the answer wait for it; then no more is read of the node, which counts what it cannot send.

use anyhow::Context as _;
use hyper::body::Bytes;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    super::new_file::NewFile,
    files::{Files, Last},
};

/// A part is what is read of a socket at once: some hundreds of kilobytes at most.
const QUEUE: usize = 4;

/// What is left of a recording, and whether all that came of it is written.
pub type Written = (Last, anyhow::Result<()>);

/// See the module.
pub struct Writing {
    pub(super) parts: Sender<Bytes>,
    written: JoinHandle<Written>,
}

impl Writing {
    /// Of these files, to the end of what comes.
    pub fn start(files: Files) -> Self {
        Self::of(|parts| write(files, parts))
    }

    /// What a thread does with what comes.
    pub(super) fn of(does: impl FnOnce(Receiver<Bytes>) -> Written + Send + 'static) -> Self {
        let (parts, coming) = channel(QUEUE);
        Self { parts, written: spawn_blocking(|| does(coming)) }
    }

    /// These came: waits while too much does.
    ///
    /// # Errors
    /// Nothing is written any more; why, [`Self::end`] tells.
    pub async fn take(&self, part: &Bytes) -> anyhow::Result<bool> {
        self.parts.send(part.clone()).await.context("nothing is written any more")?;
        Ok(true)
    }

    /// Nothing more comes.
    pub fn end(self) -> JoinHandle<Written> {
        self.written
    }
}

pub(super) fn write(mut files: Files, mut parts: Receiver<Bytes>) -> Written {
    let taken = std::iter::from_fn(|| parts.blocking_recv()).try_for_each(|part| files.take(&part));
    // Who waits to give more hears it before the disk has what came.
    drop(parts);
    let mut last = files.close();
    let whole = last.whole.take().map_or(Ok(()), NewFile::finish).with_context(|| last.shown.clone());
    (last, taken.and(whole))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;
    use palisade_wire::trace::{Header, TraceWriter};

    use super::*;
    use crate::arguments::{Command, Palisade};

    fn files(line: &[&str]) -> Files {
        let Command::Record(arguments) = Palisade::parse_from(["palisade", "record"].iter().chain(line)).command else {
            panic!("record")
        };
        Files::create(&arguments).expect("made")
    }

    fn trace() -> Bytes {
        TraceWriter::begin(Vec::new(), &Header::default()).and_then(TraceWriter::finish).expect("written").into()
    }

    #[tokio::test]
    async fn unit_record_writes_what_comes_in_order_and_then_says_what_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        let writing = Writing::start(files(&["--out", &out.display().to_string()]));
        let trace = trace();
        for at in 0..trace.len() {
            assert!(writing.take(&trace.slice(at..=at)).await.expect("written"));
        }
        let (last, all) = writing.end().await.expect("no panic");
        all.expect("on the disk");
        assert!(last.passing.is_whole && last.whole.is_none());
        assert_eq!(fs::read(&out).expect("there"), trace);
    }

    #[tokio::test]
    async fn unit_record_that_cannot_write_takes_no_more_and_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        let shown = out.display().to_string();
        let writing = Writing::start(files(&["--out", &shown, "--max-size", "16K", "--rotate", "1"]));
        // The first one's place, which is taken meanwhile.
        fs::create_dir(directory.path().join("t.1")).expect("made");
        let trace = trace();
        while writing.take(&trace).await.is_ok() {}
        let (_, all) = writing.end().await.expect("no panic");
        let said = all.expect_err("it is a directory").to_string();
        assert!(said.contains(&shown), "{said}");
    }
}
