//! The policy directory: a consistent reading of it, and its changes.
//!
//! Invariant: a reading holds each file as it stood at one moment, and no file of it changed while the reading was taken; else it is
//! taken again. A file in the middle of being written looks like that as well: who reads waits until the directory has
//! [settled](PolicyDirectory::settled). Change is found by comparing a fingerprint (name, inode, size, modification and change time), not by inotify, because
//! ConfigMap volumes swap a symlink, network file systems tell nothing, and a scan of a thousand files takes about a millisecond.
//!
//! Read are regular files (symlinks followed) named `*.yaml`, `*.yml` or `*.json`, not hidden, not in subdirectories. A name that is not
//! UTF-8 is shown with replacements, and read all the same.
#![forbid(unsafe_code)]

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use palisade_world::{PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading};

/// At most this many files: ten times what a node of 110 pods is known to need.
pub const MAX_FILES: u64 = 10_000;
/// At most this large a file, in bytes: a Kubernetes object is at most 1.5 MiB, and a file may hold several.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// At most this much in all, in bytes: a hundred thousand policies. Reading them takes about a tenth of a second a MiB, and whoever reads
/// must be back long before the watchdog takes his thread for stuck.
pub const MAX_TOTAL_BYTES: u64 = 32 << 20;
/// Readings tried before a directory counts as never settling.
const ATTEMPTS: u32 = 5;

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
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Removed between the listing and now: not of this reading.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                    continue;
                }
                Err(source) => return Err(unreadable(&path, source)),
            };
            if !metadata.is_file() {
                continue;
            }
            found.push(Fingerprint {
                name,
                inode: (metadata.dev(), metadata.ino()),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            });
            bound(&self.path, "number of files", found.len() as u64, MAX_FILES)?;
        }
        found.sort();
        Ok(found)
    }

    fn read_once(&self, of: &[Fingerprint]) -> Result<PolicyReading, PolicyDirectoryError> {
        let mut files = Vec::with_capacity(of.len());
        let mut total = 0;
        for fingerprint in of {
            let path = self.path.join(&fingerprint.name);
            bound(&path, "size in bytes", fingerprint.size, MAX_FILE_BYTES)?;
            let mut content = Vec::new();
            let file = fs::File::open(&path).map_err(|source| unreadable(&path, source))?;
            file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(|source| unreadable(&path, source))?;
            bound(&path, "size in bytes", content.len() as u64, MAX_FILE_BYTES)?;
            total += content.len() as u64;
            bound(&self.path, "total size in bytes", total, MAX_TOTAL_BYTES)?;
            files.push(PolicyFile { name: fingerprint.name.to_string_lossy().into_owned(), content });
        }
        Ok(PolicyReading { files })
    }
}

impl PolicyDirectory for FileDirectory {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        let mut before = self.fingerprints()?;
        for attempt in 1..=ATTEMPTS {
            let reading = self.read_once(&before);
            let after = self.fingerprints()?;
            if after == before {
                self.seen = Some(after);
                return reading;
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
