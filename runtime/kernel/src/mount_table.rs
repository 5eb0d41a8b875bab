//! Learning a workload's mount table: the mounts that its paths are named by, as they are once the container has pivoted.
//!
//! A thread joins the workload's mount namespace and opens each mount point of its mountinfo; the program `learn_mount`,
//! driven by test runs, climbs from there and writes the crossings. The kernel's pointers never pass through user space.
//!
//! A mount's identity is a pair of dentry addresses, so the dentries must not be freed and their addresses given to others. What keeps
//! them is the mount namespace itself, for as long as nobody unmounts in it. That takes CAP_SYS_ADMIN: where a container may have it,
//! each mount's root is held by a detached copy of the mount (`OPEN_TREE_CLONE`), not by an open descriptor on it, for that would make
//! the workload's own umount fail with EBUSY. What is held are the file systems, until the slot is released.
//!
//! Decision: copies for those containers alone, because twenty mounts are 18 kB of kernel memory, and the others cannot free what is
//! theirs. Gaps: a session that is given more than the container has (`docker exec --privileged`), and a container whose last task in
//! that namespace leaves it by a user namespace of its own and takes the copies there down as a whole; either must then have a dentry
//! made at a freed address.
//!
//! The table is mapped: to forget a workload is one look over all of it, half a megabyte, and no call for each crossing.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use aya::{
    Ebpf, TestRun as _,
    programs::{Program, RawTracePointRunOptions},
};
use palisade_domain::Slot;

use crate::{
    KernelTypes, fanotify, layout,
    objects::{self, ObjectError, PinRoot},
    sys::{self, MapFd, Mapping},
};

/// Why a mount table was not learnt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    #[error("{what}: {source}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("learn_mount: {0}")]
    Program(String),
    #[error("a file system among its mounts does not answer (FUSE, network): given up after {} s", LESSON.as_secs())]
    Hangs,
    #[error("{MAX_HANGING} lessons hang already on file systems that do not answer")]
    TooManyHang,
}

/// How long a lesson may take; some hundred mounts take milliseconds. What opens a place on a file system that does not answer cannot be
/// interrupted: its thread is left to it.
const LESSON: Duration = Duration::from_secs(3);

/// Threads that are left so, at most: each is one workload whose mounts hang.
const MAX_HANGING: usize = 32;

/// Crossings that all workloads together have room for.
const WORDS: usize = layout::MOUNT_BUCKETS as usize * size_of::<layout::Mounts>() / size_of::<u64>();

/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u64 = 1 << 21;

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> LearnError {
    let what = what.into();
    move |source| LearnError::System { what, source }
}

/// What a lesson brought.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Copies of the mounts, which keep their dentries.
    pub held: Vec<OwnedFd>,
    /// Mount points that were read.
    pub mounts: usize,
    /// Mount points that could not be opened or held.
    pub skipped: usize,
}

/// The learner and the map that it fills.
#[derive(Debug)]
pub(crate) struct MountTable {
    learner: Ebpf,
    mounts: Mapping,
    /// Lessons under way: one at a time, but for those that hang.
    hanging: Arc<AtomicUsize>,
}

impl MountTable {
    pub fn open(btf: &KernelTypes, pins: &PinRoot) -> Result<(Self, Option<objects::Refusal>), ObjectError> {
        let mut learner = objects::load("learn", palisade_bpf::LEARN, btf, pins, &[])?;
        let spec = &objects::LEARN[0];
        let refusal = objects::load_program(&mut learner, spec, btf).err().map(|reason| objects::Refusal {
            program: spec.name,
            needs: spec.needs,
            without: spec.without,
            reason,
        });
        let path = pins.map("mounts");
        let mounts = MapFd::open(&path).and_then(|map| Mapping::new(&map, WORDS * size_of::<u64>()));
        let mounts = mounts.map_err(|source| ObjectError::Pins { path, source })?;
        Ok((Self { learner, mounts, hanging: Arc::default() }, refusal))
    }

    /// Forgets the slot's crossings.
    pub fn forget(&self, slot: Slot) {
        for word in self.words() {
            let crossing = word.load(Ordering::Relaxed);
            if crossing != 0 && crossing & layout::MOUNT_SLOT == u64::from(slot.0) {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has room for WORDS words (see `open`), begins at a page, and lives as long as the borrow of `self`; every bit
        // pattern is a value. Nothing of this process accesses them but through these atomics, and the learner in the kernel by atomic
        // exchanges of whole words.
        unsafe { std::slice::from_raw_parts(self.mounts.as_ptr().cast::<AtomicU64>(), WORDS) }
    }

    /// Learns the table of the process's mount namespace, on a thread of its own: joining a namespace is by thread, and a mount that
    /// hangs must not take its caller along.
    pub fn learn(this: &Arc<Self>, slot: Slot, pid: u32) -> Result<Learnt, LearnError> {
        if this.hanging.load(Ordering::Relaxed) >= MAX_HANGING {
            return Err(LearnError::TooManyHang);
        }
        let mountinfo = format!("/proc/{pid}/mountinfo");
        let points = mount_points(&fs::read(&mountinfo).map_err(system(mountinfo))?);
        let path = format!("/proc/{pid}/ns/mnt");
        let namespace = File::open(&path).map_err(system(path))?;
        let holds = may_unmount(pid).map_err(system(format!("/proc/{pid}/status")))?;
        let table = Arc::clone(this);
        let lesson = move || {
            sys::unshare_directories().map_err(system("unshare directories"))?;
            sys::join_mount_namespace(namespace.as_fd()).map_err(system("join the mount namespace"))?;
            table.learn_here(slot, &points, holds)
        };
        within(LESSON, &this.hanging, lesson)
    }

    fn learn_here(&self, slot: Slot, points: &[PathBuf], holds: bool) -> Result<Learnt, LearnError> {
        let mut learnt = Learnt::default();
        for point in points {
            // A mount point that another mount covers cannot be opened by its path; it cannot be reached by one either.
            let Ok(place) = sys::open_place(point) else {
                learnt.skipped += 1;
                continue;
            };
            self.learn_mount(slot, &place)?;
            learnt.mounts += 1;
            if !holds {
                continue;
            }
            match sys::copy_mount(place.as_fd()) {
                Ok(copy) => learnt.held.push(copy),
                Err(_) => learnt.skipped += 1,
            }
        }
        Ok(learnt)
    }

    fn learn_mount(&self, slot: Slot, place: &OwnedFd) -> Result<u32, LearnError> {
        let Some(Program::RawTracePoint(program)) = self.learner.program("learn_mount") else {
            return Err(LearnError::Program("not in the object".to_owned()));
        };
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = u64::from(place.as_raw_fd().unsigned_abs());
        options.args[1] = u64::from(slot.0);
        let answer = program.test_run(options).map_err(|error| LearnError::Program(objects::chain(&error)))?;
        let result = answer.return_value.cast_signed();
        u32::try_from(result).map_err(|_| LearnError::Program(io::Error::from_raw_os_error(-result).to_string()))
    }
}

/// Whether a task of the container may have the capability to unmount, by what its first one's executables can have at most.
fn may_unmount(pid: u32) -> io::Result<bool> {
    Ok(bounded_by(&fs::read_to_string(format!("/proc/{pid}/status"))?).is_none_or(|most| most & SYS_ADMIN != 0))
}

/// The bounding set in a process's status.
fn bounded_by(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// What the lesson brings, if that is in time; counted while it hangs. One that ends late has its result dropped.
fn within(
    time: Duration,
    hanging: &Arc<AtomicUsize>,
    lesson: impl FnOnce() -> Result<Learnt, LearnError> + Send + 'static,
) -> Result<Learnt, LearnError> {
    let (sender, learnt) = mpsc::sync_channel(1);
    hanging.fetch_add(1, Ordering::Relaxed);
    let count = Hanging(Arc::clone(hanging));
    let thread = std::thread::Builder::new().name("learn-mounts".to_owned()).spawn(move || {
        let brought = lesson();
        drop(count);
        // Nobody listens to one that comes late.
        let _ = sender.send(brought);
    });
    thread.map_err(system("start a thread"))?;
    learnt.recv_timeout(time).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => LearnError::Hangs,
            RecvTimeoutError::Disconnected => LearnError::Program("the thread panicked".to_owned()),
        })
    })
}

/// Counts a lesson for as long as it lasts.
struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The mount points of a mountinfo, parents first as the kernel lists them, each once; any bytes, not only UTF-8.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = Vec::new();
    for mount in fanotify::mounts::MountTable::parse(mountinfo).mounts() {
        let point = Path::new(OsStr::from_bytes(&mount.mountpoint));
        if !points.iter().any(|known| known == point) {
            points.push(point.to_path_buf());
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_mount_points_are_bytes_and_each_comes_once() {
        let text = b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /a\\040b rw - tmpfs t rw\n3 2 0:3 / /a\\040b rw - tmpfs t rw\n4 1 0:4 / /\xff rw - tmpfs t rw\n";
        let expected: [&[u8]; 3] = [b"/", b"/a b", b"/\xff"];
        assert_eq!(mount_points(text), expected.map(|point| PathBuf::from(OsStr::from_bytes(point))));
    }

    #[test]
    fn unit_who_may_unmount_is_told_by_the_bounding_set_and_whoever_has_none_may() {
        let most = |status: &str| bounded_by(status).is_none_or(|most| most & SYS_ADMIN != 0);
        assert!(!most("Name:\tsh\nCapPrm:\t000001ffffffffff\nCapBnd:\t00000000a80425fb\n"), "as runc gives them");
        assert!(most("CapBnd:\t000001ffffffffff\n"));
        assert!(most("CapBnd:\t0000000000200000\n"));
        assert!(most("Name:\tsh\n"), "what cannot be read is the dearer one");
    }

    #[test]
    fn unit_mount_lessons_that_hang_are_given_up_and_counted_until_they_end() {
        let hanging = Arc::new(AtomicUsize::new(0));
        let (mut answers, answering) = io::pipe().expect("a pipe");
        let stuck = move || {
            io::Read::read(&mut answers, &mut [0]).map_err(system("the file system"))?;
            Ok(Learnt::default())
        };
        assert!(matches!(within(Duration::from_millis(20), &hanging, stuck), Err(LearnError::Hangs)));
        assert_eq!(hanging.load(Ordering::Relaxed), 1);
        drop(answering);
        let ended = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            hanging.load(Ordering::Relaxed) == 0
        });
        assert!(ended, "it is counted until it ends");
        let prompt = within(Duration::from_secs(5), &hanging, || Ok(Learnt { mounts: 7, ..Learnt::default() }));
        assert_eq!(prompt.expect("in time").mounts, 7);
    }
}
