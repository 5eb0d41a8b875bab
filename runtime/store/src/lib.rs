//! The policy directory: a consistent reading of it, and its changes; and, beside it, the last good version of each file
//! ([`LastGoodFiles`]), which outlives the process. And the directory of traces that a node keeps by itself ([`TraceFiles`]).
//!
//! Invariant: a reading holds each file as it stood at one moment, and no file of it changed while the reading was taken; else it is
//! taken again. A file in the middle of being written looks like that as well: who reads waits until the directory has
//! [settled](PolicyDirectory::settled). Change is found by comparing a fingerprint (name, inode, size, modification and change time), not by inotify, because
//! ConfigMap volumes swap a symlink, network file systems tell nothing, and a scan of a thousand files takes about a millisecond.
//!
//! Read are regular files (symlinks followed) named `*.yaml`, `*.yml` or `*.json`, not hidden, not in subdirectories. A name that is not
//! UTF-8 is shown with replacements, and read all the same; of names that are shown alike each but the first has a number.
//!
//! Decision: a file that cannot be read (a dangling link, no permission, past its bound, a pipe or a device) is named in the reading and is no error of it,
//! because one such file would else keep every other one from being read: what becomes of it is its keeper's to say.
#![forbid(unsafe_code)]

mod last_good;

mod beside;
mod trace_files;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub use beside::Beside;
use palisade_world::{PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading, UnreadableFile};
use rustix::fs::OFlags;

pub use last_good::LastGoodFiles;
pub use trace_files::TraceFiles;

/// At most this many files: ten times what a node of 110 pods is known to need.
pub const MAX_FILES: u64 = 10_000;
/// At most this large a file, in bytes: a Kubernetes object is at most 1.5 MiB, and a file may hold several.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// At most this much in all, in bytes: a hundred thousand policies. Reading them takes about a tenth of a second a MiB, and whoever reads
/// must be back long before the watchdog takes his thread for stuck.
pub const MAX_TOTAL_BYTES: u64 = 32 << 20;
/// Readings tried before a directory counts as never settling.
const ATTEMPTS: u32 = 5;

/// What becomes of a pipe, a socket or a device by the name of a policy.
const NO_REGULAR_FILE: &str = "it is no regular file";

/// A directory on a file system.
#[derive(Debug)]
pub struct FileDirectory {
    path: PathBuf,
    /// As of the last reading.
    seen: Option<Vec<Fingerprint>>,
    /// As of the last look; `None`: it could not be looked at.
    noticed: Option<Vec<Fingerprint>>,
}

/// What changes when a file changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fingerprint {
    name: OsString,
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Why nothing more is known of it.
    fault: Option<String>,
}

impl Fingerprint {
    fn new(name: OsString, metadata: &fs::Metadata, fault: Option<String>) -> Self {
        Self {
            name,
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            fault,
        }
    }

    /// Of the file at `path`; none where it is no policy file, or was removed since it was listed.
    fn of(name: OsString, path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => None,
            Ok(metadata) => {
                let found = Self::new(name, &metadata, None);
                if metadata.is_file() {
                    return Some(found);
                }
                // Whoever writes to a device or a pipe changes its times.
                let times = ((0, 0), (0, 0));
                Some(Self { modified: times.0, changed: times.1, fault: Some(NO_REGULAR_FILE.to_owned()), ..found })
            }
            Err(error) => {
                // What a link leads to may be missing; the link itself is not.
                let link = fs::symlink_metadata(path).ok()?;
                Some(Self::new(name, &link, Some(error.to_string())))
            }
        }
    }
}

/// A reading, and whether another one may find more though nothing is seen to change.
struct Taken {
    reading: PolicyReading,
    again: bool,
}

impl FileDirectory {
    /// The directory at `path`; nothing is read yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: None, noticed: None }
    }

    fn fingerprints(&self) -> Result<Vec<Fingerprint>, PolicyDirectoryError> {
        let entries = fs::read_dir(&self.path).map_err(|source| unreadable(&self.path, source))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| unreadable(&self.path, source))?;
            let (name, path) = (entry.file_name(), entry.path());
            if !is_policy_name(&name) {
                continue;
            }
            let Some(fingerprint) = Fingerprint::of(name, &path) else { continue };
            found.push(fingerprint);
            bound(&self.path, "number of files", found.len() as u64, MAX_FILES)?;
        }
        found.sort();
        Ok(found)
    }

    fn read_once(&self, of: &[Fingerprint]) -> Result<Taken, PolicyDirectoryError> {
        let (mut reading, mut again, mut total) = (PolicyReading::default(), false, 0);
        let mut shown = BTreeMap::new();
        for fingerprint in of {
            let name = distinct(&fingerprint.name.to_string_lossy(), &mut shown);
            match content(&self.path.join(&fingerprint.name), fingerprint) {
                Ok(content) => {
                    total += content.len() as u64;
                    bound(&self.path, "total size in bytes", total, MAX_TOTAL_BYTES)?;
                    reading.files.push(PolicyFile { name, content });
                }
                Err(fault) => {
                    again |= fault.passes();
                    reading.unreadable.push(UnreadableFile { name, reason: fault.to_string() });
                }
            }
        }
        Ok(Taken { reading, again })
    }
}

/// A name as it is shown, with a number where another file is shown so: else one of the two would stand for both. A numbered name is no
/// policy file's, so it is nobody else's.
fn distinct(name: &str, shown: &mut BTreeMap<String, u32>) -> String {
    let times = shown.entry(name.to_owned()).or_default();
    *times += 1;
    if *times == 1 { name.to_owned() } else { format!("{name} ({times})") }
}

/// Why one file is not read.
#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error("{0}")]
    Unknown(String),
    #[error("{NO_REGULAR_FILE}")]
    NoRegularFile,
    #[error("size in bytes is {0}, at most {MAX_FILE_BYTES} is read")]
    TooLarge(u64),
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
}

impl FileFault {
    /// Whether it may pass without a trace in the file's fingerprint. A permission that is given is one; a disk that answers again is not.
    fn passes(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.kind() != std::io::ErrorKind::PermissionDenied)
    }
}

fn content(path: &Path, fingerprint: &Fingerprint) -> Result<Vec<u8>, FileFault> {
    if let Some(fault) = &fingerprint.fault {
        return Err(FileFault::Unknown(fault.clone()));
    }
    let mut content = Vec::new();
    if fingerprint.size <= MAX_FILE_BYTES {
        // A pipe may have taken the file's place since it was listed, and nobody waits for its writer.
        let file = fs::OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(FileFault::NoRegularFile);
        }
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    }
    // Grown since it was listed, or of a file system that tells no sizes.
    let size = fingerprint.size.max(content.len() as u64);
    if size > MAX_FILE_BYTES { Err(FileFault::TooLarge(size)) } else { Ok(content) }
}

impl PolicyDirectory for FileDirectory {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        let mut before = self.fingerprints()?;
        for attempt in 1..=ATTEMPTS {
            let reading = self.read_once(&before);
            let after = self.fingerprints()?;
            if after == before {
                // A directory past its bounds stays so until it changes.
                let again = reading.as_ref().is_ok_and(|taken| taken.again);
                self.seen = (!again).then_some(after);
                return reading.map(|taken| taken.reading);
            }
            if attempt == ATTEMPTS {
                break;
            }
            before = after;
        }
        Err(PolicyDirectoryError::Unsettled { path: self.path.clone(), attempts: ATTEMPTS })
    }

    fn changed(&mut self) -> bool {
        self.noticed = self.fingerprints().ok();
        // Unreadable now, or never read: reading tells why.
        self.noticed.is_none() || self.noticed != self.seen
    }

    fn settled(&mut self) -> bool {
        let now = self.fingerprints().ok();
        let before = std::mem::replace(&mut self.noticed, now);
        before == self.noticed
    }
}

/// By bytes: a name that is not UTF-8 is no reason to leave a policy out.
fn is_policy_name(name: &OsStr) -> bool {
    let ends = |extension: &&str| Path::new(name).extension().is_some_and(|found| found == *extension);
    !name.as_encoded_bytes().starts_with(b".") && ["yaml", "yml", "json"].iter().any(ends)
}

fn unreadable(path: &Path, source: std::io::Error) -> PolicyDirectoryError {
    PolicyDirectoryError::Unreadable { path: path.to_owned(), source }
}

fn bound(path: &Path, what: &'static str, found: u64, bound: u64) -> Result<(), PolicyDirectoryError> {
    if found > bound {
        return Err(PolicyDirectoryError::TooLarge { path: path.to_owned(), what, found, bound });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
