//! Who was in a container's cgroups before these were admitted: the kernel's programs were told of nobody there.
//!
//! Invariant: once a container is admitted something is kept of each process in it, as if it had acted since. Therefore whom a workload
//! puts somewhere and of whom nothing is kept is the host's (`bpf/identity.bpf.c`). Threads are what their process's leader is.
//!
//! Decision: by pidfds from here, not by an iterator in the kernel, which 6.1 walks over all tasks of the machine for each container. A
//! process that is born meanwhile has a parent in a cgroup that is registered by now, and one that is moved in is told of.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use palisade_domain::Slot;

use crate::{
    layout,
    slots::SlotTable,
    sys::{self, MapFd},
};

/// Descriptors at a time: a container may have more processes than the node may have descriptors.
const AT_ONCE: usize = 64;

/// What tasks keep.
#[derive(Debug)]
pub(crate) struct Members {
    tasks: MapFd,
}

impl Members {
    pub fn new(tasks: MapFd) -> Self {
        Self { tasks }
    }

    /// Keeps the slot of who is in the cgroup, which is registered, or below. What is kept of somebody else's, as of one who left his own
    /// container for this cgroup, stays.
    pub fn keep(&self, directory: &Path, slot: Slot, slots: &SlotTable) -> io::Result<()> {
        let mut waiting = vec![directory.to_path_buf()];
        while let Some(directory) = waiting.pop() {
            // It may be gone, as may be who was in it.
            let Ok(cgroup) = fs::metadata(&directory) else { continue };
            let kept = layout::Task {
                cgroup: cgroup.ino(),
                slot: slot.0,
                incarnation: slots.incarnation(slot),
                phase: layout::PHASE_WORKLOAD,
                found_ns: u64::try_from(sys::boot_time().as_nanos()).unwrap_or(u64::MAX),
                ..layout::Task::default()
            };
            let listed: Vec<u32> = listed(&directory)?.into_iter().collect();
            for numbers in listed.chunks(AT_ONCE) {
                for process in members_of(&directory, numbers)? {
                    self.keep_one(&process, kept, slots)?;
                }
            }
            waiting.extend(directories_in(&directory));
        }
        Ok(())
    }

    fn keep_one(&self, process: &OwnedFd, kept: layout::Task, slots: &SlotTable) -> io::Result<()> {
        let key = process.as_raw_fd().to_ne_bytes();
        let mut bytes = [0; size_of::<layout::Task>()];
        let written = match self.tasks.lookup(&key, &mut bytes) {
            Ok(false) => self.tasks.insert_new(&key, &kept.bytes()).map(drop),
            Ok(true) => {
                let before = layout::Task::of_bytes(&bytes);
                // Of the host, which a workload has put there.
                let is_hosts = before.slot == 0 && before.cgroup == kept.cgroup;
                let is_valid = before.slot != 0 && slots.incarnation(Slot(before.slot)) == before.incarnation;
                if is_hosts || is_valid { Ok(()) } else { self.tasks.update(&key, &kept.bytes()) }
            }
            Err(error) => Err(error),
        };
        // It has ended: the kernel says that it does not know it, or has no room that it would have had.
        written.or_else(|error| if runs(process) { Err(error) } else { Ok(()) })
    }
}

/// Those of the numbers that are in the cgroup. A number may be given to another process after the list is read: who is in it again, and has not
/// ended by then, is the one.
fn members_of(directory: &Path, numbers: &[u32]) -> io::Result<Vec<OwnedFd>> {
    let mut opened = Vec::new();
    for number in numbers {
        match sys::pidfd_open(*number) {
            Ok(process) => opened.push((*number, process)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // Whom we have no descriptor for would be the host's.
            Err(error) => return Err(error),
        }
    }
    if opened.is_empty() {
        return Ok(Vec::new());
    }
    let still = listed(directory)?;
    opened.retain(|(number, process)| still.contains(number) && runs(process));
    Ok(opened.into_iter().map(|(_, process)| process).collect())
}

fn runs(process: &OwnedFd) -> bool {
    sys::poll([(process.as_fd(), libc::POLLIN)], Some(0)).is_ok_and(|[ended]| ended == 0)
}

/// By their numbers in this PID namespace; who has none there is 0. Of a threaded cgroup the list cannot be read: its processes are in the
/// one above. One that is gone has nobody in it.
fn listed(directory: &Path) -> io::Result<BTreeSet<u32>> {
    let members = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) => {
            String::new()
        }
        members => members?,
    };
    Ok(members.lines().filter_map(|number| number.parse().ok()).filter(|number| *number != 0).collect())
}

fn directories_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
