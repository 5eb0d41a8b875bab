//! Traces as files of a directory.
//!
//! Invariant: a file named `*.paltrace` is whole; one that is being written, or was when the node ended, is named `*.paltrace.partial`, and
//! is read to its last whole block all the same. Together they take at most the bytes that were given, but for what is being
//! written: at its end the oldest go. Nothing of another name is touched.
//!
//! Files are for their owner only: what a workload opened and connected to is in them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use palisade_world::TraceStoreError;

/// What whole traces end in.
const EXTENSION: &str = "paltrace";
const PARTIAL: &str = "partial";

/// See the module. Whoever calls it waits for the disk: [`TraceThread`](crate::TraceThread) does.
#[derive(Debug)]
pub struct TraceFiles {
    directory: PathBuf,
    max_bytes: u64,
    open: Option<(PathBuf, File)>,
}

fn failed(what: String) -> impl FnOnce(io::Error) -> TraceStoreError {
    move |source| TraceStoreError { what, source }
}

impl TraceFiles {
    /// Keeps traces of at most so many bytes in a directory, which is made when the first one begins.
    #[must_use]
    pub fn new(directory: &Path, max_bytes: u64) -> Self {
        Self { directory: directory.to_owned(), max_bytes, open: None }
    }

    /// Takes the oldest away until the rest fits.
    fn rotate(&self) -> Result<(), TraceStoreError> {
        let shown = self.directory.display().to_string();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed(shown))? {
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.ends_with(&format!(".{EXTENSION}")) || name.ends_with(&format!(".{EXTENSION}.{PARTIAL}"));
            let is_open = self.open.as_ref().is_some_and(|(open, _)| *open == path);
            if let Ok(about) = entry.metadata()
                && ours
                && !is_open
                && about.is_file()
            {
                let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                kept.push((changed.unwrap_or_default(), path, about.len()));
            }
        }
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in kept {
            if total <= self.max_bytes {
                break;
            }
            fs::remove_file(&path).map_err(failed(path.display().to_string()))?;
            total -= bytes;
        }
        Ok(())
    }

    /// Begins a trace.
    ///
    /// # Errors
    /// What the operating system said; nothing is begun.
    pub fn begin(&mut self, name: &str) -> Result<(), TraceStoreError> {
        self.open = None;
        fs::create_dir_all(&self.directory).map_err(failed(self.directory.display().to_string()))?;
        self.rotate()?;
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let path = self.directory.join(format!("{plain}.{EXTENSION}.{PARTIAL}"));
        // Never one that is there, nor what a link leads to.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        self.open = Some((path.clone(), file.map_err(failed(path.display().to_string()))?));
        Ok(())
    }

    /// More bytes of it.
    ///
    /// # Errors
    /// What the operating system said; the trace ends there.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), TraceStoreError> {
        let Some((path, file)) = &mut self.open else { return Ok(()) };
        let written = file.write_all(bytes).map_err(failed(path.display().to_string()));
        if written.is_err() {
            self.open = None;
        }
        written
    }

    /// It is whole, and on the disk by its name.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn end(&mut self) -> Result<(), TraceStoreError> {
        let Some((path, file)) = self.open.take() else { return Ok(()) };
        let shown = || path.display().to_string();
        file.sync_all().map_err(failed(shown()))?;
        drop(file);
        fs::rename(&path, path.with_extension("")).map_err(failed(shown()))?;
        // Its name as well: a trace that was said to be whole is found as one after the power went.
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(failed(self.directory.display().to_string()))?;
        self.rotate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn unit_trace_files_are_whole_or_say_that_they_are_not_and_the_oldest_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("traces");
        fs::create_dir(&at).expect("made");
        fs::write(at.join("notes.txt"), vec![0; 5000]).expect("written");
        let mut store = TraceFiles::new(&at, 2500);
        for name in ["a", "b", "../c d"] {
            store.begin(name).expect("begun");
            store.append(&[1; 600]).expect("written");
            assert!(names(&at).iter().any(|name| name.ends_with(".paltrace.partial")));
            store.append(&[2; 400]).expect("written");
            store.end().expect("ended");
            // Files of one moment are told apart by name.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(names(&at), [".._c_d.paltrace", "b.paltrace", "notes.txt"]);
        let whole = fs::read(at.join("b.paltrace")).expect("there");
        assert_eq!((whole.len(), whole[599], whole[600]), (1000, 1, 2));
        store.begin("d").expect("begun");
        store.begin("e").expect("begun");
        assert!(names(&at).contains(&"d.paltrace.partial".to_owned()), "as far as it got");
    }

    #[test]
    fn unit_trace_files_say_which_file_cannot_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("written");
        let error = TraceFiles::new(&file, 1000).begin("a").expect_err("no directory");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}
