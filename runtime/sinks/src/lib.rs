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

/// Appends to a file that is made for its owner alone: alerts name paths and arguments of workloads. One that is there already may be
/// for more readers, if its owner made it so; one that another user owns or may write to is refused, and so is his symbolic link.
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
            // Without the link's owner a link in a directory of everybody's would lead alerts into any file of the machine.
            if fs::symlink_metadata(&self.path).is_ok_and(|there| !is_ours(there.uid(), 0, own_uid())) {
                return Err(not_ours());
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
            let there = file.metadata()?;
            if there.is_file() && !is_ours(there.uid(), there.mode(), own_uid()) {
                return Err(not_ours());
            }
            let size = there.len();
            self.open = Some((file, size));
        }
        Ok(self.open.as_mut().expect("opened above"))
    }
}

/// Whether nobody but this process' user and root has a say in what is at a path.
fn is_ours(owner: u32, mode: u32, own: u32) -> bool {
    (owner == 0 || owner == own) && mode & 0o022 == 0
}

/// This process' user; where `/proc` does not tell it, root's files alone are ours.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

fn not_ours() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "another user owns it or may write to it: remove it, or name another file",
    )
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
    use std::os::unix::fs::PermissionsExt as _;

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
    fn unit_sinks_file_that_others_may_write_to_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        fs::write(&path, "").expect("made");
        let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        chmod(0o666);
        let error = RotatingFile::new(&path, 10).append(b"x\n").expect_err("anybody could write to it");
        assert!(error.to_string().contains("another user"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"");
        chmod(0o644);
        RotatingFile::new(&path, 10).append(b"x\n").expect("its owner lets others read");
        for (owner, mode, ours) in [(0, 0o600, true), (7, 0o600, true), (8, 0o600, false), (7, 0o620, false)] {
            assert_eq!(is_ours(owner, mode, 7), ours, "owner {owner}, mode {mode:o}");
        }
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
