//! Which cgroup belongs to which slot, as the kernel programs look it up. Children are added by the kernel at `cgroup_mkdir`;
//! those that were made before an admission are added here.
//!
//! Ids are inode numbers of the unified hierarchy's directories.
//!
//! Places in which runtimes make containers are registered, too: what is made there is nobody's whom we know ([`Slot::UNKNOWN`]) until it is
//! admitted, and is so again once it is released and still there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
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
        let seen = self.value_of(cgroup)?.unwrap_or_default() & layout::CGROUP_SEEN;
        self.slots.update(&cgroup.0.to_ne_bytes(), &(slot.0 | seen).to_ne_bytes())
    }

    /// Of one that was registered: where nobody is in it now, the kernel has seen everybody come who will be.
    pub fn mark_seen(&self, cgroup: CgroupId, directory: &Path) -> io::Result<()> {
        // Of a threaded one that cannot be read.
        if !fs::read(directory.join("cgroup.procs")).is_ok_and(|members| members.is_empty()) {
            return Ok(());
        }
        let Some(value) = self.value_of(cgroup)? else { return Ok(()) };
        // One that is removed meanwhile must not come back.
        self.slots.replace(&cgroup.0.to_ne_bytes(), &(value | layout::CGROUP_SEEN).to_ne_bytes()).map(drop)
    }

    pub fn slot_of(&self, cgroup: CgroupId) -> io::Result<Option<Slot>> {
        Ok(self.value_of(cgroup)?.map(slot_in).filter(|slot| *slot != Slot::HOST))
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

    /// Registers a place of containers, `mixed`: beside others. What is somebody's stays theirs.
    pub fn hold_below(&self, place: CgroupId, mixed: bool, below: &[CgroupId]) -> io::Result<()> {
        let value = if mixed { layout::CGROUP_MIXED } else { Slot::UNKNOWN.0 };
        self.slots.insert_new(&place.0.to_ne_bytes(), &value.to_ne_bytes())?;
        below.iter().try_for_each(|cgroup| {
            self.slots.insert_new(&cgroup.0.to_ne_bytes(), &Slot::UNKNOWN.0.to_ne_bytes()).map(drop)
        })
    }

    /// With whether a workload made the cgroup. Places of containers beside others are no slot's.
    fn entries(&self) -> io::Result<Vec<(CgroupId, Slot, bool)>> {
        let mut entries = Vec::new();
        for key in self.slots.keys()? {
            if let Ok(id) = <[u8; 8]>::try_from(key) {
                let cgroup = CgroupId(u64::from_ne_bytes(id));
                let split = |value| (cgroup, slot_in(value), value & layout::CGROUP_MADE != 0);
                entries.extend(self.value_of(cgroup)?.map(split));
            }
        }
        Ok(entries)
    }

    /// The cgroups that runtimes made, with their slots: not those that workloads made below them.
    pub fn roots(&self) -> io::Result<Vec<LeftBehind>> {
        let nobodys = |slot: Slot| slot == Slot::HOST || slot == Slot::UNKNOWN;
        let entries = self.entries()?.into_iter().filter(|(_, slot, by_workload)| !by_workload && !nobodys(*slot));
        Ok(entries.map(|(cgroup, slot, _)| LeftBehind { slot, cgroup: Some(cgroup), released: None }).collect())
    }

    pub fn of_slot(&self, slot: Slot) -> io::Result<Vec<CgroupId>> {
        Ok(self.entries()?.into_iter().filter(|(_, owner, _)| *owner == slot).map(|(cgroup, ..)| cgroup).collect())
    }

    /// What is still there of the slot's is nobody's from now on: in a place of containers unknown, else the host's.
    pub fn forget(&self, slot: Slot, in_a_place_of_containers: bool) -> io::Result<()> {
        for cgroup in self.of_slot(slot)? {
            if in_a_place_of_containers {
                // One that is removed meanwhile must not come back: nobody would ever take it out.
                self.slots.replace(&cgroup.0.to_ne_bytes(), &Slot::UNKNOWN.0.to_ne_bytes())?;
            } else {
                self.slots.delete(&cgroup.0.to_ne_bytes())?;
            }
        }
        self.count_anew(slot)
    }

    /// Whether the directory, or one above it, is a place of containers, or was made in one.
    pub fn is_in_a_place_of_containers(&self, unified: &Path, directory: &Path) -> bool {
        let above = directory.ancestors().skip(1).take_while(|above| above.starts_with(unified));
        let ids = above.filter_map(|above| fs::metadata(above).ok()).map(|about| CgroupId(about.ino()));
        let values: Vec<u32> = ids.filter_map(|id| self.value_of(id).ok().flatten()).collect();
        // The nearest one says it. Of a mixed one only what is named as a container was admitted.
        values.first().is_some_and(|value| value & layout::CGROUP_MIXED != 0 || slot_in(*value) == Slot::UNKNOWN)
    }

    /// Places of containers, and what is unknown in them.
    pub fn forget_unknown(&self) -> io::Result<()> {
        for (cgroup, slot, _) in self.entries()? {
            if slot == Slot::UNKNOWN || slot == Slot::HOST {
                self.slots.delete(&cgroup.0.to_ne_bytes())?;
            }
        }
        Ok(())
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
        made.retain(|slot, _| *slot != Slot::HOST && *slot != Slot::UNKNOWN);
        Ok(made.into_keys().collect())
    }
}

/// Of a value of the table.
fn slot_in(value: u32) -> Slot {
    Slot(value & layout::CGROUP_SLOT)
}

/// What a search found.
#[derive(Debug, Default)]
struct Found {
    cgroups: Vec<CgroupId>,
    /// Nothing was left out but what vanished while we looked.
    complete: bool,
}

/// All directories below one, itself not included. By what the listing says alone: to ask for each of a cgroup's twenty files would leave
/// as many inodes and dentries in the kernel, 14 kB for each workload.
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
            match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
                Ok((kind, _)) if !kind.is_dir() => {}
                Ok(_) if found.cgroups.len() >= bound => found.complete = false,
                Ok((_, entry)) => {
                    found.cgroups.push(CgroupId(entry.ino()));
                    waiting.push(entry.path());
                }
                Err(error) => found.complete &= gone(&error),
            }
        }
    }
    found
}

/// The unified hierarchy's line of `/proc/<tid>/cgroup`: the directory below its mount.
pub(crate) fn unified_path(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))
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
        let inodes =
            ["a", "a/b", "a/b/c"].map(|below| fs::metadata(top.path().join(below)).expect("it is there").ino());
        assert_eq!(whole.cgroups, inodes.map(CgroupId), "the outer ones first");
        let cut = directories_below(top.path(), 2);
        assert_eq!((cut.cgroups.len(), cut.complete), (2, false));
        assert!(directories_below(&top.path().join("gone"), 3).complete, "what is gone has nothing below");
        assert!(!directories_below(&top.path().join("a/file"), 3).complete, "what cannot be read may have");
    }

    #[test]
    fn unit_the_unified_line_is_found_on_hybrid_hosts() {
        assert_eq!(unified_path(b"9:name=systemd:/a\n0::/k/x\n"), Some(&b"/k/x"[..]));
        assert_eq!(unified_path(b"9:name=systemd:/a\n"), None);
    }
}
