//! Where alerts go: standard output and a file.
//!
//! Invariant: a sink takes whole lines. A file that grew past its bound is renamed to `<name>.1` before the next line, so that at most
//! twice the bound is on disk; a rotation from outside (rename, removal, truncation) is noticed by inode and size and followed. Around a
//! sink that may block goes [`Queued`].
#![forbid(unsafe_code)]

mod queued;

pub use queued::{BATCHES, Queued};

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use palisade_world::{AlertSink, AlertSinkError};

/// Writes to standard output.
#[derive(Debug, Default)]
pub struct Stdout;

impl AlertSink for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let mut out = io::stdout().lock();
        out.write_all(lines)
            .and_then(|()| out.flush())
            .map_err(|source| AlertSinkError { sink: "stdout".into(), source })
    }
}

/// Appends to a file that only its owner may read: alerts name paths and arguments of workloads.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    name: String,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

impl RotatingFile {
    /// A file at `path` that is rotated past `max_bytes`. It is opened with the first line.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64) -> Self {
        let path = path.into();
        Self { name: format!("file {}", path.display()), path, max_bytes, open: None }
    }

    fn file(&mut self) -> io::Result<&mut (File, u64)> {
        self.open = match self.open.take() {
            // Its size as it is now: who rotates by copying truncates it.
            Some((file, _)) => size_if_at(&file, &self.path).map(|size| (file, size)),
            None => None,
        };
        if let Some((_, size)) = &self.open
            && *size >= self.max_bytes
        {
            let mut rotated = self.path.clone().into_os_string();
            rotated.push(".1");
            fs::rename(&self.path, rotated)?;
            self.open = None;
        }
        if self.open.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
            let size = file.metadata()?.len();
            self.open = Some((file, size));
        }
        Ok(self.open.as_mut().expect("opened above"))
    }
}

/// The file's size, if it is the one at `path`.
fn size_if_at(file: &File, path: &Path) -> Option<u64> {
    let (open, there) = (file.metadata().ok()?, fs::metadata(path).ok()?);
    ((open.dev(), open.ino()) == (there.dev(), there.ino())).then_some(open.len())
}

impl AlertSink for RotatingFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let result = self.file().and_then(|(file, size)| {
            file.write_all(lines).inspect_err(|_| {
                // What a full disk took of a line is taken back, so that the next line begins at a line's beginning. Where that cannot
                // be done (a device), the reason that counts is still the one why the line was not written.
                let _ = file.set_len(*size);
            })
        });
        result.map_err(|source| AlertSinkError { sink: self.name.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_sinks_file_keeps_lines_whole_over_rotation_from_within_and_without() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let mut sink = RotatingFile::new(&path, 10);
        sink.append(b"first line\n").expect("written");
        sink.append(b"second\n").expect("written");
        assert_eq!(fs::read(root.path().join("alerts.jsonl.1")).expect("rotated"), b"first line\n");
        assert_eq!(fs::read(&path).expect("there"), b"second\n");
        fs::rename(&path, root.path().join("elsewhere")).expect("rotated from outside");
        sink.append(b"third\n").expect("written");
        assert_eq!(fs::read(&path).expect("made again"), b"third\n");
    }

    #[test]
    fn unit_sinks_file_is_for_its_owner_only() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        RotatingFile::new(&path, 10).append(b"x\n").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    }

    #[test]
    fn unit_sinks_full_disk_is_an_error_that_names_the_sink() {
        let mut sink = RotatingFile::new("/dev/full", u64::MAX);
        let error = sink.append(b"x\n").expect_err("no space");
        assert!(error.to_string().starts_with("file /dev/full: No space left"), "{error}");
    }

    #[test]
    fn unit_sinks_file_truncated_by_who_rotates_it_grows_from_its_beginning() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let mut sink = RotatingFile::new(&path, 20);
        sink.append(
            b"a first, long line
",
        )
        .expect("written");
        fs::write(&path, b"").expect("truncated");
        sink.append(
            b"second
",
        )
        .expect("written");
        sink.append(
            b"third
",
        )
        .expect("written");
        assert_eq!(
            fs::read(&path).expect("there"),
            b"second\nthird\n",
            "neither rotated too soon nor filled with zeros"
        );
    }
}
