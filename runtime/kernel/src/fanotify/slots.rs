//! What the responder knows of workloads: whose cgroups they are, their policies, and how they name files.
//!
//! Invariant: a lookup by cgroup finds the nearest admitted ancestor, so that a child cgroup never escapes its policy.
//! Maps have a fixed hasher; no decision depends on their order.

use std::{
    collections::{BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::BuildHasherDefault,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use palisade_kernel_abi::blob::{Blob, Decision, Effect, Family, Modifiers};

use super::{
    mounts::{MAX_MOUNTINFO_BYTES, Mount, MountTable, ProcName, canonical},
    sys,
};

type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A policy in force.
#[derive(Debug)]
pub(super) struct Policy {
    /// What decides.
    pub blob: Blob,
    /// Of which set.
    pub generation: u32,
    /// The policy's number, for records.
    pub number: u32,
    refuses: [bool; 2],
}

impl Policy {
    /// A policy of a valid blob.
    pub(super) fn new(blob: Blob, generation: u32, number: u32) -> Self {
        let refuses = [Family::Process, Family::File].map(|family| can_refuse(&blob, family));
        Self { blob, generation, number, refuses }
    }

    /// Whether anything in the family can be blocked: where nothing can, the fail mode has nothing to guard.
    pub(super) fn refuses(&self, family: Family) -> bool {
        self.refuses[usize::from(family == Family::File)]
    }

    /// Whether the family has a table.
    pub(super) fn has(&self, family: Family) -> bool {
        self.blob.head().families >> family as u32 & 1 == 1
    }

    /// Whether rules of the family name executables.
    pub(super) fn names_sources(&self, family: Family) -> bool {
        self.blob.head().family[family as usize].sources > 1
    }

    /// Whether decisions of the family depend on who owns the file.
    pub(super) fn names_owner(&self, family: Family) -> bool {
        self.blob.head().family[family as usize].modifiers > 1
    }

    /// Whether decisions of the family depend on a controlling terminal.
    pub(super) fn names_terminal(&self, family: Family) -> bool {
        self.blob.head().family[family as usize].modifiers > Modifiers::TTY.0
    }
}

fn can_refuse(blob: &Blob, family: Family) -> bool {
    let table = &blob.head().family[family as usize];
    let cells = u64::from(table.accepts) * u64::from(table.sources) * u64::from(table.modifiers);
    let words = blob.words().iter().skip(table.base as usize).take(usize::try_from(cells).unwrap_or(usize::MAX));
    blob.head().families >> family as u32 & 1 == 1
        && words.into_iter().any(|word| Decision::from_word(*word).effect == Effect::Block)
}

/// One workload.
#[derive(Debug, Default)]
pub(super) struct SlotState {
    /// Inode number of the cgroup.
    pub cgroup: u64,
    /// In force, if any.
    pub policy: Option<Policy>,
    /// It has executed its own code.
    pub running: bool,
    /// How it names files.
    pub names: Names,
    /// Places whose marks end with the slot.
    pub marked: Vec<OwnedFd>,
    /// Devices of all that is watched for the slot, also where no descriptor is kept.
    pub watched: BTreeSet<u64>,
}

impl SlotState {
    /// Notes that the place is watched; a place that is kept already is not kept twice.
    pub(super) fn watch(&mut self, place: OwnedFd, keep: bool) -> io::Result<()> {
        let status = sys::status_of(place.as_fd())?;
        let is_kept = |kept: &OwnedFd| sys::status_of(kept.as_fd()).is_ok_and(|kept| kept.mount == status.mount);
        if keep && !self.marked.iter().any(is_kept) {
            self.marked.push(place);
        }
        self.watched.insert(status.dev);
        Ok(())
    }
}

/// All workloads.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_cgroup: FixedMap<Box<[u8]>, u32>,
    by_slot: FixedMap<u32, (Box<[u8]>, SlotState)>,
}

impl Slots {
    /// The slot of the nearest admitted cgroup at or above `path`.
    pub(super) fn of_cgroup(&self, mut path: &[u8]) -> Option<u32> {
        loop {
            if let Some(slot) = self.by_cgroup.get(path) {
                return Some(*slot);
            }
            let parent = path.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0)?;
            path = &path[..parent];
        }
    }

    /// What is known of a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut SlotState> {
        self.by_slot.get_mut(&slot).map(|(_, state)| state)
    }

    /// Makes the cgroup the slot's. Told again of the same cgroup, the slot keeps what is known of it, or a restart of whoever
    /// tells would take the policy away. Another workload that had the slot is returned.
    pub(super) fn admit(&mut self, slot: u32, path: &[u8], cgroup: u64, running: bool) -> Option<SlotState> {
        if let Some((known, state)) = self.by_slot.get_mut(&slot)
            && **known == *path
            && state.cgroup == cgroup
        {
            state.running |= running;
            return None;
        }
        let before = self.release(slot);
        self.by_cgroup.insert(path.into(), slot);
        self.by_slot.insert(slot, (path.into(), SlotState { cgroup, running, ..SlotState::default() }));
        before
    }

    /// Whether a slot has a file system watched that the device is of, kept or not.
    pub(super) fn watches(&self, dev: u64) -> bool {
        self.by_slot.values().any(|(_, state)| state.watched.contains(&dev))
    }

    /// All kept places of all slots.
    pub(super) fn marked(&self) -> impl Iterator<Item = &OwnedFd> {
        self.by_slot.values().flat_map(|(_, state)| &state.marked)
    }

    /// Forgets the slot.
    pub(super) fn release(&mut self, slot: u32) -> Option<SlotState> {
        let (path, state) = self.by_slot.remove(&slot)?;
        // A cgroup of the same name may belong to a later slot by now.
        if self.by_cgroup.get(&path) == Some(&slot) {
            self.by_cgroup.remove(&path);
        }
        Some(state)
    }
}

/// Why a file has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// It is on a mount that the learnt table does not show, or mounts kept moving.
    UnknownMount,
    /// The kernel's name for it is longer than 4,095 bytes.
    TooLong,
}

/// How a workload names files: the table learnt at its first exec, and the present one.
#[derive(Debug, Default)]
pub(super) struct Names {
    learnt: MountTable,
    live: Option<Live>,
    present: MountTable,
    /// Where the live mountinfo's root is now, seen from the top of its namespace: `/` unless somebody pivoted.
    base: Vec<u8>,
    text: Vec<u8>,
    reading: Vec<u8>,
    other: MountTable,
    scratch: Vec<u8>,
}

/// What shows a namespace's mounts as long as it is open: mountinfo, and the root that it names mountpoints from.
#[derive(Debug)]
pub(super) struct Live {
    /// `/proc/<pid>/mountinfo`.
    pub mountinfo: OwnedFd,
    /// `O_PATH` of `/proc/<pid>/root`, the same process's.
    pub root: OwnedFd,
}

impl Live {
    /// Of a process.
    pub(super) fn of(proc: BorrowedFd<'_>, pid: u32) -> io::Result<Self> {
        let mountinfo = sys::open_at(proc, ProcName::of(pid, "mountinfo").as_c_str())?;
        let root = sys::open_path_at(proc, ProcName::of(pid, "root").as_c_str())?;
        Ok(Self { mountinfo, root })
    }
}

/// How often a name is taken again because mounts changed meanwhile. More often means that somebody is trying.
const ATTEMPTS: usize = 4;

impl Names {
    /// Whether the table was learnt.
    pub(super) fn learnt(&self) -> bool {
        self.live.is_some()
    }

    /// Takes the table to name files by: `learnt` where the node kept it from before, else what `live` shows now.
    pub(super) fn learn(&mut self, proc: BorrowedFd<'_>, live: Live, learnt: Option<&[u8]>) -> io::Result<()> {
        self.text = sys::read_all(live.mountinfo.as_fd(), MAX_MOUNTINFO_BYTES)?;
        read_base(proc, &ProcName::of_fd(live.root.as_raw_fd().unsigned_abs()), &mut self.base)?;
        self.learnt = MountTable::parse(learnt.unwrap_or(&self.text));
        self.present = MountTable::parse_below(&self.base, &self.text);
        self.live = Some(live);
        Ok(())
    }

    /// Whether the mount is one of the container's now.
    pub(super) fn shows(&mut self, proc: BorrowedFd<'_>, mount: u64) -> bool {
        self.refresh_if_changed(proc);
        self.present.by_id(mount).is_some()
    }

    /// Whether the task's own namespace, other than the container's, shows the mount.
    pub(super) fn other_shows(&mut self, proc: BorrowedFd<'_>, tid: u32, mount: u64) -> bool {
        self.read_other(proc, tid).is_ok() && self.other.by_id(mount).is_some()
    }

    /// Writes to `out` the name, by the learnt table, of what the link at `link` below `proc` leads to by mount `mount`.
    ///
    /// `buffer` is for the kernel's present name.
    pub(super) fn name(
        &mut self,
        proc: BorrowedFd<'_>,
        link: &ProcName,
        mount: u64,
        tid: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Unnamed> {
        let (mut first, mut second) = ([0; 4096], [0; 4096]);
        for _ in 0..ATTEMPTS {
            let path = read_name(proc, link, &mut first)?;
            if !self.learnt() {
                out.clear();
                out.extend_from_slice(path);
                return Ok(());
            }
            // A mount elsewhere than at the root can change its name without a mount event, by a rename above its
            // mountpoint: then the table is read anew, and the name must be the same before and after.
            let changed = self.refresh_if_changed(proc);
            let steady = match self.present.by_id(mount) {
                Some(present) if present.mountpoint == b"/" => !changed,
                Some(_) => self.refresh(proc).is_ok() && read_name(proc, link, &mut second)? == path,
                None => self.read_other(proc, tid).is_ok() && read_name(proc, link, &mut second)? == path,
            };
            if steady && self.put_together(path, mount, out).is_some() {
                return Ok(());
            }
        }
        Err(Unnamed::UnknownMount)
    }

    fn put_together(&mut self, path: &[u8], mount: u64, out: &mut Vec<u8>) -> Option<()> {
        let present: &Mount = self.present.by_id(mount).or_else(|| self.other.by_id(mount))?;
        canonical(path, present, &self.learnt, &mut self.scratch, out)
    }

    /// The kernel says cheaply whether the namespace changed since the last question; where it does not say, it may have.
    fn refresh_if_changed(&mut self, proc: BorrowedFd<'_>) -> bool {
        let Some(live) = &self.live else { return false };
        let asked = sys::poll([(live.mountinfo.as_fd(), libc::POLLPRI)], Some(0));
        let changed = asked.map_or(true, |[events]| events & libc::POLLERR != 0);
        if changed && let Err(error) = self.refresh(proc) {
            tracing::debug!(%error, "the present mounts cannot be read: files have no name until they can");
        }
        changed
    }

    /// Reads the present table anew. Where it cannot be read, no mount is known: a number of an old reading may be another
    /// mount's by now, and the kernel tells of each change only once.
    fn refresh(&mut self, proc: BorrowedFd<'_>) -> io::Result<()> {
        let read = self.read_present(proc);
        if read.is_err() {
            self.text.clear();
            self.present = MountTable::default();
        }
        read
    }

    fn read_present(&mut self, proc: BorrowedFd<'_>) -> io::Result<()> {
        let live = self.live.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        sys::read_all_into(live.mountinfo.as_fd(), MAX_MOUNTINFO_BYTES, &mut self.reading)?;
        read_base(proc, &ProcName::of_fd(live.root.as_raw_fd().unsigned_abs()), &mut self.scratch)?;
        if self.reading != self.text || self.scratch != self.base {
            std::mem::swap(&mut self.reading, &mut self.text);
            std::mem::swap(&mut self.scratch, &mut self.base);
            self.present = MountTable::parse_below(&self.base, &self.text);
        }
        Ok(())
    }

    fn read_other(&mut self, proc: BorrowedFd<'_>, tid: u32) -> io::Result<()> {
        let file = sys::open_at(proc, ProcName::of(tid, "mountinfo").as_c_str())?;
        sys::read_all_into(file.as_fd(), MAX_MOUNTINFO_BYTES, &mut self.reading)?;
        read_base(proc, &ProcName::of(tid, "root"), &mut self.scratch)?;
        self.other = MountTable::parse_below(&self.scratch, &self.reading);
        Ok(())
    }
}

/// Where a root is, seen from the top of its mount namespace.
fn read_base(proc: BorrowedFd<'_>, link: &ProcName, base: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let path = sys::read_link(proc, link.as_c_str(), &mut buffer)?;
    if path.first() != Some(&b'/') {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    base.clear();
    base.extend_from_slice(path);
    Ok(())
}

fn read_name<'b>(proc: BorrowedFd<'_>, link: &ProcName, buffer: &'b mut [u8]) -> Result<&'b [u8], Unnamed> {
    sys::read_link(proc, link.as_c_str(), buffer).map_err(|error| match error.raw_os_error() {
        Some(libc::ENAMETOOLONG) => Unnamed::TooLong,
        _ => Unnamed::UnknownMount,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_a_child_cgroup_belongs_to_the_nearest_admitted_one() {
        let mut slots = Slots::default();
        slots.admit(1, b"/pods/a", 11, false);
        slots.admit(2, b"/pods/a/nested", 12, false);
        assert_eq!(slots.of_cgroup(b"/pods/a"), Some(1));
        assert_eq!(slots.of_cgroup(b"/pods/a/x/y"), Some(1));
        assert_eq!(slots.of_cgroup(b"/pods/a/nested/z"), Some(2));
        assert_eq!(slots.of_cgroup(b"/pods/ab"), None);
        assert_eq!(slots.of_cgroup(b"/"), None);
        assert_eq!(slots.of_cgroup(b""), None);
    }

    #[test]
    fn unit_releasing_a_slot_leaves_a_later_one_of_the_same_cgroup() {
        let mut slots = Slots::default();
        slots.admit(1, b"/a", 11, false);
        slots.admit(2, b"/a", 12, false);
        assert!(slots.release(1).is_some());
        assert_eq!(slots.of_cgroup(b"/a"), Some(2));
        assert!(slots.release(1).is_none(), "once");
    }

    #[test]
    fn unit_a_cgroup_that_is_admitted_again_keeps_what_is_known_of_it() {
        let mut slots = Slots::default();
        assert!(slots.admit(1, b"/a", 11, true).is_none());
        assert!(slots.admit(1, b"/a", 11, false).is_none());
        assert!(slots.get_mut(1).is_some_and(|state| state.running), "it has run before, whatever is said later");
        let before = slots.admit(1, b"/a", 12, false).expect("a new cgroup of the same name is another workload");
        assert_eq!(before.cgroup, 11);
        assert!(slots.get_mut(1).is_some_and(|state| !state.running));
    }

    #[test]
    fn unit_a_device_is_watched_as_long_as_any_slot_has_it_kept_or_not() {
        let mut slots = Slots::default();
        let place = || sys::open_path(c"/").expect("the root");
        let dev = sys::status_of(place().as_fd()).expect("a status").dev;
        for (slot, keep) in [(1, true), (2, false)] {
            slots.admit(slot, format!("/{slot}").as_bytes(), slot.into(), false);
            for _ in 0..2 {
                slots.get_mut(slot).expect("admitted").watch(place(), keep).expect("a place");
            }
        }
        assert_eq!(slots.marked().count(), 1, "kept once, though told twice");
        drop(slots.release(1));
        assert!(slots.watches(dev), "the other slot's root is on it");
        drop(slots.release(2));
        assert!(!slots.watches(dev));
    }

    #[test]
    fn unit_a_table_that_cannot_be_read_again_names_nothing() {
        let proc = sys::open_path(c"/proc").expect("procfs");
        let (mut names, me) = (Names::default(), std::process::id());
        names.learn(proc.as_fd(), Live::of(proc.as_fd(), me).expect("mine"), None).expect("readable");
        let mount = sys::status_at(proc.as_fd(), c"self/exe").expect("a status").mount;
        assert!(names.shows(proc.as_fd(), mount));
        // As many mounts as no container has: the table is longer than is read.
        let endless = sys::memfd(c"mounts", &vec![b'\n'; MAX_MOUNTINFO_BYTES + 32 * 1024]).expect("memfd");
        names.live.as_mut().expect("learnt").mountinfo = endless;
        assert!(names.refresh(proc.as_fd()).is_err());
        assert!(!names.shows(proc.as_fd(), mount), "an old number may be another mount's by now");
    }
}
