//! Which cgroup belongs to which slot, as the kernel programs look it up. Children are added by the kernel at `cgroup_mkdir`;
//! those that were made before an admission are added here.
//!
//! Ids are inode numbers of the unified hierarchy's directories.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use palisade_domain::{CgroupId, Slot};

use crate::sys::MapFd;

/// Cgroups below a workload's are at most so deep: the kernel's own bound is far lower in practice.
const MAX_DIRECTORIES: usize = 65_536;

/// The registered cgroups.
#[derive(Debug)]
pub(crate) struct Cgroups(MapFd);

impl Cgroups {
    pub fn new(map: MapFd) -> Self {
        Self(map)
    }

    pub fn assign(&self, cgroup: CgroupId, slot: Slot) -> io::Result<()> {
        self.0.update(&cgroup.0.to_ne_bytes(), &slot.0.to_ne_bytes())
    }

    pub fn slot_of(&self, cgroup: CgroupId) -> io::Result<Option<Slot>> {
        let mut slot = [0; 4];
        let found = self.0.lookup(&cgroup.0.to_ne_bytes(), &mut slot)?;
        Ok(found.then(|| Slot(u32::from_ne_bytes(slot))))
    }

    /// Assigns what is below a cgroup already. A directory that is made meanwhile has its parent registered, and the kernel
    /// sees to it.
    pub fn assign_below(&self, directory: &Path, slot: Slot) -> io::Result<()> {
        for (_, cgroup) in directories_below(directory) {
            self.assign(cgroup, slot)?;
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<(CgroupId, Slot)>> {
        let mut entries = Vec::new();
        for key in self.0.keys()? {
            if let Ok(id) = <[u8; 8]>::try_from(key) {
                let cgroup = CgroupId(u64::from_ne_bytes(id));
                entries.extend(self.slot_of(cgroup)?.map(|slot| (cgroup, slot)));
            }
        }
        Ok(entries)
    }

    pub fn of_slot(&self, slot: Slot) -> io::Result<Vec<CgroupId>> {
        Ok(self.entries()?.into_iter().filter(|(_, owner)| *owner == slot).map(|(cgroup, _)| cgroup).collect())
    }

    pub fn forget(&self, slot: Slot) -> io::Result<()> {
        for cgroup in self.of_slot(slot)? {
            self.0.delete(&cgroup.0.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Ids of all cgroups that there are.
    pub fn living(&self, unified: &Path) -> BTreeSet<CgroupId> {
        directories_below(unified).into_iter().map(|(_, cgroup)| cgroup).collect()
    }

    /// Forgets cgroups that are gone; the slots of the others.
    pub fn take_over(&self, living: Option<&BTreeSet<CgroupId>>) -> io::Result<BTreeSet<Slot>> {
        let mut slots = BTreeSet::new();
        for (cgroup, slot) in self.entries()? {
            if living.is_some_and(|living| !living.contains(&cgroup)) {
                self.0.delete(&cgroup.0.to_ne_bytes())?;
            } else {
                slots.insert(slot);
            }
        }
        Ok(slots)
    }
}

/// All directories below one, itself not included. What vanishes while we look is left out.
fn directories_below(directory: &Path) -> Vec<(PathBuf, CgroupId)> {
    let mut found: Vec<(PathBuf, CgroupId)> = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && found.len() < MAX_DIRECTORIES
                && let Ok(metadata) = entry.metadata()
            {
                found.push((entry.path(), CgroupId(metadata.ino())));
                waiting.push(entry.path());
            }
        }
    }
    found
}
