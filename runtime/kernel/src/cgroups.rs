//! Which cgroup belongs to which slot, as the kernel programs look it up. Children are added by the kernel at `cgroup_mkdir`;
//! those that were made before an admission are added here.
//!
//! Ids are inode numbers of the unified hierarchy's directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use palisade_domain::{CgroupId, Slot};
use palisade_world::LeftBehind;

use crate::{layout, sys::MapFd};

/// Directories that one search meets: four times the cgroups that can be registered at all. Past it the search is not complete.
const MAX_DIRECTORIES: usize = 65_536;

/// The registered cgroups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    slots: MapFd,
    /// By slot: how many the workload has made itself, which the kernel bounds.
    made: MapFd,
}

impl Cgroups {
    pub fn new(slots: MapFd, made: MapFd) -> Self {
        Self { slots, made }
    }

    /// One that is registered so already stays as it is: whether it counts among those that the workload made is in its value.
    pub fn assign(&self, cgroup: CgroupId, slot: Slot) -> io::Result<()> {
        if self.slot_of(cgroup)? == Some(slot) {
            return Ok(());
        }
        self.slots.update(&cgroup.0.to_ne_bytes(), &slot.0.to_ne_bytes())
    }

    pub fn slot_of(&self, cgroup: CgroupId) -> io::Result<Option<Slot>> {
        Ok(self.value_of(cgroup)?.map(|value| Slot(value & !layout::CGROUP_MADE)))
    }

    fn value_of(&self, cgroup: CgroupId) -> io::Result<Option<u32>> {
        let mut value = [0; 4];
        let found = self.slots.lookup(&cgroup.0.to_ne_bytes(), &mut value)?;
        Ok(found.then(|| u32::from_ne_bytes(value)))
    }

    /// Assigns what is below a cgroup already. A directory that is made meanwhile has its parent registered, and the kernel
    /// sees to it. `E2BIG`: there are more than can be held.
    pub fn assign_below(&self, directory: &Path, slot: Slot) -> io::Result<()> {
        let found = directories_below(directory, MAX_DIRECTORIES);
        for cgroup in &found.cgroups {
            self.assign(*cgroup, slot)?;
        }
        if found.complete { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::E2BIG)) }
    }

    /// With whether a workload made the cgroup.
    fn entries(&self) -> io::Result<Vec<(CgroupId, Slot, bool)>> {
        let mut entries = Vec::new();
        for key in self.slots.keys()? {
            if let Ok(id) = <[u8; 8]>::try_from(key) {
                let cgroup = CgroupId(u64::from_ne_bytes(id));
                let split = |value| (cgroup, Slot(value & !layout::CGROUP_MADE), value & layout::CGROUP_MADE != 0);
                entries.extend(self.value_of(cgroup)?.map(split));
            }
        }
        Ok(entries)
    }

    /// The cgroups that runtimes made, with their slots: not those that workloads made below them.
    pub fn roots(&self) -> io::Result<Vec<LeftBehind>> {
        let entries = self.entries()?.into_iter().filter(|(_, _, by_workload)| !by_workload);
        Ok(entries.map(|(cgroup, slot, _)| LeftBehind { slot, cgroup: Some(cgroup), released: None }).collect())
    }

    pub fn of_slot(&self, slot: Slot) -> io::Result<Vec<CgroupId>> {
        Ok(self.entries()?.into_iter().filter(|(_, owner, _)| *owner == slot).map(|(cgroup, ..)| cgroup).collect())
    }

    pub fn forget(&self, slot: Slot) -> io::Result<()> {
        for cgroup in self.of_slot(slot)? {
            self.slots.delete(&cgroup.0.to_ne_bytes())?;
        }
        self.count_anew(slot)
    }

    /// None of the slot's counts as made by its workload any more.
    pub fn count_anew(&self, slot: Slot) -> io::Result<()> {
        self.made.update(&slot.0.to_ne_bytes(), &[0; 4])
    }

    /// Ids of all cgroups that there are; `None` where not all could be seen, for then nothing that was not seen is known to be gone.
    pub fn living(unified: &Path) -> Option<BTreeSet<CgroupId>> {
        let found = directories_below(unified, MAX_DIRECTORIES);
        found.complete.then(|| found.cgroups.into_iter().collect())
    }

    /// Forgets cgroups that are gone; the slots of the others. Those that workloads made are counted anew.
    pub fn take_over(&self, living: Option<&BTreeSet<CgroupId>>) -> io::Result<BTreeSet<Slot>> {
        let mut made: BTreeMap<Slot, i32> = BTreeMap::new();
        for (cgroup, slot, by_workload) in self.entries()? {
            if living.is_some_and(|living| !living.contains(&cgroup)) {
                self.slots.delete(&cgroup.0.to_ne_bytes())?;
            } else {
                *made.entry(slot).or_default() += i32::from(by_workload);
            }
        }
        for slot in (0..layout::SLOTS).map(Slot) {
            let count = made.get(&slot).copied().unwrap_or_default();
            self.made.update(&slot.0.to_ne_bytes(), &count.to_ne_bytes())?;
        }
        Ok(made.into_keys().collect())
    }
}

/// What a search found.
#[derive(Debug, Default)]
struct Found {
    cgroups: Vec<CgroupId>,
    /// Nothing was left out but what vanished while we looked.
    complete: bool,
}

/// All directories below one, itself not included.
fn directories_below(directory: &Path, bound: usize) -> Found {
    let gone = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV));
    let mut found = Found { cgroups: Vec::new(), complete: true };
    let mut waiting: Vec<PathBuf> = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                found.complete &= gone(&error);
                continue;
            }
        };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
                Ok((_, metadata)) if !metadata.is_dir() => {}
                Ok(_) if found.cgroups.len() >= bound => found.complete = false,
                Ok((path, metadata)) => {
                    found.cgroups.push(CgroupId(metadata.ino()));
                    waiting.push(path);
                }
                Err(error) => found.complete &= gone(&error),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_a_search_that_left_directories_out_says_so() {
        let top = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(top.path().join("a/b/c")).expect("directories");
        fs::write(top.path().join("a/file"), "").expect("a file");
        let whole = directories_below(top.path(), 3);
        assert_eq!((whole.cgroups.len(), whole.complete), (3, true));
        let cut = directories_below(top.path(), 2);
        assert_eq!((cut.cgroups.len(), cut.complete), (2, false));
        assert!(directories_below(&top.path().join("gone"), 3).complete, "what is gone has nothing below");
        assert!(!directories_below(&top.path().join("a/file"), 3).complete, "what cannot be read may have");
    }
}
