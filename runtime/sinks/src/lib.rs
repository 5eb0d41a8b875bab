//! Where alerts go: standard output and a file.
//!
//! Invariant: a sink takes whole lines. A file that grew past its bound is renamed to `<name>.1` before the next line, so that at most
//! twice the bound is on disk; a rotation from outside (rename, removal) is noticed by the inode and followed.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
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
        if let Some((file, _)) = &self.open
            && !same_file(file, &self.path)
        {
            self.open = None;
        }
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

fn same_file(file: &File, path: &PathBuf) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

impl AlertSink for RotatingFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let result = self.file().and_then(|(file, size)| {
            // What a full disk took of a line is taken back, so that the next line begins at a line's beginning.
            if let Err(error) = file.write_all(lines) {
                file.set_len(*size)?;
                return Err(error);
            }
            *size += lines.len() as u64;
            Ok(())
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
        assert!(error.to_string().starts_with("file /dev/full: "), "{error}");
    }
}
