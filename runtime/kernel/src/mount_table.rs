//! Learning a workload's mount table: the mounts that its paths are named by, as they are once the container has pivoted.
//!
//! A thread joins the workload's mount namespace and opens each mount point of its mountinfo; the program `learn_mount`,
//! driven by test runs, climbs from there and writes the crossings. The kernel's pointers never pass through user space.
//!
//! A mount's identity is a pair of dentry addresses, so the dentries must not be freed and their addresses given to others.
//! Each mount's root is held by a detached copy of the mount (`OPEN_TREE_CLONE`), not by an open descriptor on it, for that
//! would make the workload's own umount fail with EBUSY. What is held are the file systems, until the slot is released.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, TestRun as _,
    programs::{Program, RawTracePointRunOptions},
};
use palisade_domain::Slot;

use crate::{
    layout,
    objects::{self, ObjectError, PinRoot},
    sys::{self, MapFd},
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
}

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
    mounts: MapFd,
}

impl MountTable {
    pub fn open(btf: &Btf, pins: &PinRoot) -> Result<(Self, Option<objects::Refusal>), ObjectError> {
        let mut learner = objects::load("learn", palisade_bpf::LEARN, btf, pins, &[])?;
        let spec = &objects::LEARN[0];
        let refusal = objects::load_program(&mut learner, spec, btf).err().map(|reason| objects::Refusal {
            program: spec.name,
            needs: spec.needs,
            without: spec.without,
            reason,
        });
        Ok((Self { learner, mounts: pins.open("mounts")? }, refusal))
    }

    /// Forgets the slot's crossings.
    pub fn forget(&self, slot: Slot) -> io::Result<()> {
        let at = std::mem::offset_of!(layout::MountKey, slot);
        for key in self.mounts.keys()? {
            if key.get(at..at + 4) == Some(&slot.0.to_ne_bytes()) {
                self.mounts.delete(&key)?;
            }
        }
        Ok(())
    }

    /// Learns the table of the process's mount namespace, on a thread of its own, for joining a namespace is by thread.
    pub fn learn(&self, slot: Slot, pid: u32) -> Result<Learnt, LearnError> {
        let mountinfo = format!("/proc/{pid}/mountinfo");
        let points = mount_points(&fs::read_to_string(&mountinfo).map_err(system(mountinfo))?);
        let path = format!("/proc/{pid}/ns/mnt");
        let namespace = File::open(&path).map_err(system(path))?;
        std::thread::scope(|scope| {
            let lesson = std::thread::Builder::new().name("learn-mounts".to_owned()).spawn_scoped(scope, || {
                sys::unshare_directories().map_err(system("unshare directories"))?;
                sys::join_mount_namespace(namespace.as_fd()).map_err(system("join the mount namespace"))?;
                self.learn_here(slot, &points)
            });
            let lesson = lesson.map_err(system("start a thread"))?;
            lesson.join().unwrap_or_else(|_| Err(LearnError::Program("the thread panicked".to_owned())))
        })
    }

    fn learn_here(&self, slot: Slot, points: &[PathBuf]) -> Result<Learnt, LearnError> {
        let mut learnt = Learnt::default();
        for point in points {
            // A mount point that another mount covers cannot be opened by its path; it cannot be reached by one either.
            let Ok(place) = sys::open_place(point) else {
                learnt.skipped += 1;
                continue;
            };
            self.learn_mount(slot, &place)?;
            learnt.mounts += 1;
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

/// The mount points of a mountinfo, parents first as the kernel lists them, each once.
pub(crate) fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = Vec::new();
    for line in mountinfo.lines() {
        if let Some(point) = line.split(' ').nth(4).map(unescape)
            && !points.contains(&point)
        {
            points.push(point);
        }
    }
    points
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
pub(crate) fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'\\').then(|| bytes.get(at + 1..at + 4)).flatten().and_then(octal);
        out.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    Path::new(std::ffi::OsStr::from_bytes(&out)).to_path_buf()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}
