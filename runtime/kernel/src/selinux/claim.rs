//! One node at a time for SELinux of a host: the kernel has one policy, and the store one module of ours.
//!
//! Two nodes with pins of their own would replace each other's policy: the second is refused, goes on without this means, and says so. It is free again
//! when its holder has ended, however it ended.
//!
//! Decision: a lock (flock(2)) that the kernel gives back, on a file of the host's: a node in a container needs `/run/palisade` of the host, by which it
//! is told what stands, and meets the others there.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::sys;

/// Of every node of this host.
const FILE: &str = "/run/palisade/selinux.claim";
/// Who only looks has it locked for less ([`Claim::is_held`]), and a node that is refused is so for its life.
const MOMENT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);

/// Why SELinux cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// By a node that runs, with these pins.
    #[error("another node of this host holds containers by SELinux, the one with the pins {}: run one", .0.display())]
    Held(PathBuf),
    #[error("{FILE}: {0}")]
    Unusable(#[from] io::Error),
}

/// SELinux of this host is ours while this lives.
#[derive(Debug)]
pub(super) struct Claim {
    _locked: File,
}

impl Claim {
    /// For the node with these pins.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn take(pin_root: &Path) -> Result<Self, ClaimError> {
        Self::at(Path::new(FILE), pin_root)
    }

    /// By whomever.
    pub fn is_held() -> bool {
        let file = File::open(FILE);
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn at(file: &Path, pin_root: &Path) -> Result<Self, ClaimError> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)?;
        if !lock(&file)? {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(ClaimError::Held(holder.into()));
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(pin_root.as_os_str().as_encoded_bytes())?;
        Ok(Self { _locked: file })
    }
}

/// Whether it could be, within a moment.
fn lock(file: &File) -> io::Result<bool> {
    let until = sys::boot_time() + MOMENT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if sys::boot_time() >= until => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_selinux_of_a_host_is_one_nodes_until_it_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("run/claim");
        let take = |pins: &str| Claim::at(&file, Path::new(pins));
        let first = take("/sys/fs/bpf/first").unwrap();
        let refused = take("/sys/fs/bpf/second").unwrap_err().to_string();
        assert!(refused.contains("/sys/fs/bpf/first: run one"), "{refused}");
        drop(first);
        let _second = take("/sys/fs/bpf/2").unwrap();
        let refused = take("/sys/fs/bpf/first").unwrap_err();
        assert!(matches!(&refused, ClaimError::Held(pins) if pins == Path::new("/sys/fs/bpf/2")), "{refused:?}");
    }

    #[test]
    fn unit_selinux_node_that_starts_while_somebody_looks_who_has_the_host_is_not_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("claim");
        let looked = File::create(&file).unwrap();
        looked.try_lock_shared().unwrap();
        let looks = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(looked);
        });
        Claim::at(&file, Path::new("/sys/fs/bpf/first")).unwrap();
        looks.join().unwrap();
    }
}
