//! One node at a time for each pin root.
//!
//! Two nodes on the same pins would replace each other's programs and clear each other's slots: the second one claims the pins before
//! it touches anything, and is refused. What a node that ended left pinned is free to be claimed, however that node ended.
//!
//! Decision: a lock (flock(2)) on the pin root's directory, not a file with a process id, because the kernel gives the lock back when its
//! holder is killed, and because two roots of different BPF file systems never meet.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::pseudo_fs::{self, Place};

/// The directory may be removed (by an unload) between its opening and its locking; more often than this it is not.
const ATTEMPTS: u32 = 8;

/// Why the pins cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A node runs on them.
    #[error("{0} is held by a node that runs: stop it first (SIGTERM), or name another directory with --pin-root")]
    Held(PathBuf),
    /// Nothing can be pinned there.
    #[error("{0} is not on a BPF file system: name a directory on one with --pin-root (mount -t bpf bpf /sys/fs/bpf)")]
    NotBpf(PathBuf),
    /// Whatever is below it is taken away with the node's own.
    #[error(
        "{0} is the BPF file system itself, where other programs have their pins, too: name a directory of its own with --pin-root ({0}/palisade)"
    )]
    NotOurs(PathBuf),
    /// The directory cannot be made or opened.
    #[error("{path}: {source}", path = path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The pins are ours while this lives.
#[derive(Debug)]
pub struct Claim {
    root: PathBuf,
    directory: File,
}

impl Drop for Claim {
    /// A claim under which nothing was pinned leaves nothing; the lock is still held here.
    fn drop(&mut self) {
        if is_at(&self.directory, &self.root) {
            fs::remove_dir(&self.root).ok();
        }
    }
}

/// Whether the open directory is the one that has this name now.
fn is_at(directory: &File, root: &Path) -> bool {
    match (directory.metadata(), fs::metadata(root)) {
        (Ok(ours), Ok(there)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
        _ => false,
    }
}

impl Claim {
    /// Claims the pins below `root`, which is made if it is missing; where no BPF file system is mounted, it is mounted first.
    ///
    /// # Errors
    /// See [`ClaimError`]; nothing has been touched then.
    pub fn take(root: &Path) -> Result<Self, ClaimError> {
        if let Err(error) = pseudo_fs::ensure(pseudo_fs::BPF) {
            tracing::warn!(%error, "no BPF file system can be mounted");
        }
        is_for_pins(root)?;
        let claim = Self::make(root)?;
        if pseudo_fs::is_ours_alone(pseudo_fs::BPF, root) {
            tracing::warn!(
                root = %root.display(),
                "this BPF file system is of this mount namespace alone: what is pinned ends with it, so that nothing is in force after a \
                 crash; mount one on the host (mount -t bpf bpf /sys/fs/bpf) and let the node have that"
            );
        }
        Ok(claim)
    }

    fn make(root: &Path) -> Result<Self, ClaimError> {
        for _ in 0..ATTEMPTS {
            fs::create_dir_all(root).map_err(|source| unusable(root, source))?;
            if let Some(claim) = Self::try_take(root)? {
                return Ok(claim);
            }
        }
        Err(unusable(root, io::ErrorKind::NotFound.into()))
    }

    /// Claims what a node left below `root`; `None` where nothing is left.
    ///
    /// # Errors
    /// See [`ClaimError`]: also of a directory that holds no pins, for who claims it may be about to remove all that is in it.
    pub fn of_what_is_left(root: &Path) -> Result<Option<Self>, ClaimError> {
        if !root.exists() {
            return Ok(None);
        }
        is_for_pins(root)?;
        Self::try_take(root)
    }

    /// `None` where the directory is not there, or no more.
    fn try_take(root: &Path) -> Result<Option<Self>, ClaimError> {
        let directory = match File::open(root) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unusable(root, source)),
        };
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ClaimError::Held(root.to_path_buf())),
            Err(TryLockError::Error(source)) => return Err(unusable(root, source)),
        }
        // A lock on a directory that was removed meanwhile keeps nobody away.
        Ok(is_at(&directory, root).then(|| Self { root: root.to_path_buf(), directory }))
    }
}

/// A directory below the root of a BPF file system, or one that could be made there.
fn is_for_pins(root: &Path) -> Result<(), ClaimError> {
    match pseudo_fs::place_in(pseudo_fs::BPF, root).map_err(|source| unusable(root, source))? {
        Place::Below => Ok(()),
        Place::Root => Err(ClaimError::NotOurs(root.to_path_buf())),
        Place::Elsewhere => Err(ClaimError::NotBpf(root.to_path_buf())),
    }
}

fn unusable(root: &Path, source: io::Error) -> ClaimError {
    ClaimError::Unusable { path: root.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_claim_keeps_a_second_node_away_until_the_first_has_ended() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pins = root.path().join("pins");
        assert!(Claim::try_take(&pins).expect("nothing is there").is_none());
        let first = Claim::make(&pins).expect("free");
        assert!(matches!(Claim::make(&pins), Err(ClaimError::Held(_))));
        assert!(matches!(Claim::try_take(&pins), Err(ClaimError::Held(_))));
        fs::write(pins.join("pinned"), "").expect("pinned");
        drop(first);
        assert!(Claim::try_take(&pins).expect("free").is_some());
        fs::remove_file(pins.join("pinned")).expect("unloaded");
        drop(Claim::make(&pins).expect("free"));
        assert!(!pins.exists(), "nothing was pinned");
    }

    #[test]
    fn unit_claim_refuses_a_place_where_nothing_can_be_pinned_and_makes_nothing_there() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pins = root.path().join("pins");
        let error = Claim::take(&pins).expect_err("no BPF file system");
        assert!(matches!(error, ClaimError::NotBpf(_)) && error.to_string().contains("--pin-root"), "{error}");
        assert!(!pins.exists());
    }

    #[test]
    fn unit_claim_of_a_directory_that_was_removed_is_none() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pins = root.path().join("pins");
        let first = Claim::make(&pins).expect("free");
        fs::remove_dir(&pins).expect("empty");
        let _second = Claim::make(&pins).expect("another directory of the same name");
        drop(first);
        assert!(matches!(Claim::make(&pins), Err(ClaimError::Held(_))));
    }

    #[test]
    fn unit_claim_of_what_is_left_is_of_no_directory_that_holds_no_pins() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert!(Claim::of_what_is_left(&root.path().join("nothing")).expect("not there").is_none());
        let error = Claim::of_what_is_left(root.path()).expect_err("somebody's files");
        assert!(matches!(error, ClaimError::NotBpf(_)), "{error}");
    }
}
