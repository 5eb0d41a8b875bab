//! Who acts: the cgroup of a thread, and whether it is the container runtime's own code or the workload's.
//!
//! # Identity without a race
//! A thread is remembered by an open descriptor of `/proc/<tid>/cgroup`. Such a descriptor belongs to that thread for ever:
//! once the thread has ended, reading fails with `ESRCH`, whoever has its number now. So the cgroup is read anew at every
//! event (no stale membership), for the price of one `pread`, and what is remembered with it is never another thread's.
//!
//! # Runtime or workload
//! runc's init works inside the container's cgroup, in `exec` even inside its root, before it executes the container's file.
//! Neither cgroup nor root tells it from the workload; its executable does. A thread is the *runtime's* as long as
//! 1. it was never seen as the workload's (sticky), and
//! 2. its executable is on no mount of the container, and
//! 3. the container has executed nothing of its own yet, *or* the parent process is outside the container's cgroup and runs
//!    the very same program (same inode, or the same bytes: runc copies itself to a memfd).
//!
//! The runtime's phase ends with the first exec inside the container, whichever file it is: the runtime's own binary (by
//! /proc/self/exe, as in CVE-2019-5736) or a memfd runs there for the container and with its libraries. Files that are not
//! watched raise no event when they are executed. So such an exec is known by the ELF interpreter that it loads from the
//! container or, where it loads none, by the process's memory being another one than at an act before ([`Tasks::keep_image`]).
//! Inside is a mount namespace that is neither the host's nor the parent's: there the runtime re-executes itself. What is
//! linked statically and executed before its process opened anything inside is not told (runc reads /etc/passwd there).
//!
//! Number 3 is what a workload cannot arrange: once it runs, its children have parents inside, and a process whose parent is
//! outside (reparented to the shim, or `CLONE_PARENT` from an `exec` session) does not run the shim's program. A workload that
//! executes a memfd is the workload. (runc from 1.2 on may run itself from a detached overlay, whose files cannot be compared
//! without opening them: its `exec` counts as the workload, which an allow-list of files must then permit `/etc/passwd`.) The runtime is exempt from the file family only; what it executes is judged.
//!
//! Bounds: 4,096 threads are remembered, four to a place; a thread that is forgotten is looked up again. The memory of 1,024
//! processes of runtimes is; one more is told of in the log.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    mounts::ProcName,
    places,
    sys::{self, FileStatus},
};

/// Whose code a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The container runtime's.
    Runtime,
    /// The container's.
    Workload,
}

/// Which file an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileKey {
    /// By which mount.
    pub mount: u64,
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

impl From<&FileStatus> for FileKey {
    fn from(status: &FileStatus) -> Self {
        Self { mount: status.mount, dev: status.dev, ino: status.ino }
    }
}

/// One remembered thread.
#[derive(Debug)]
pub(super) struct Task {
    tid: u32,
    cgroup: OwnedFd,
    /// It was seen to run the workload's code.
    pub workload: bool,
    /// It may execute this file: the open of it must follow, in the same thread, before anything else.
    pub opening: Option<FileKey>,
    /// The ELF interpreter that the file names which it may execute; only where the kernel's stack cannot be read.
    pub interpreter: Option<FileKey>,
}

const WAYS: usize = 4;
const SETS: usize = 1024;
/// Processes whose memory is remembered: runtimes are in this phase for milliseconds.
const MAX_IMAGES: usize = 1024;

/// The threads of late.
#[derive(Debug)]
pub(super) struct Tasks {
    proc: OwnedFd,
    places: Vec<Option<Task>>,
    turn: usize,
    /// By process, while a runtime's code acts inside: `/proc/<tgid>/maps`, which stays that of the memory that it was opened of.
    images: BTreeMap<u32, OwnedFd>,
    memfd_device: u64,
    mount_namespace: u64,
}

impl Tasks {
    /// Nothing remembered; /proc is opened once.
    pub(super) fn new() -> io::Result<Self> {
        let proc = sys::open_path(c"/proc")?;
        let memfd_device = sys::status_of(sys::memfd(c"palisade-device", b"")?.as_fd())?.dev;
        // The host's, also where this process is in a pod that shares the host's PIDs and has mounts of its own.
        let of = |name| sys::status_at(proc.as_fd(), name);
        let mount_namespace = of(c"1/ns/mnt").or_else(|_| of(c"self/ns/mnt"))?.ino;
        let places = std::iter::repeat_with(|| None).take(WAYS * SETS).collect();
        Ok(Self { proc, places, turn: 0, images: BTreeMap::new(), memfd_device, mount_namespace })
    }

    /// The directory of all processes.
    pub(super) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// The thread, and its text of `/proc/<tid>/cgroup` in `buffer`.
    ///
    /// # Errors
    /// `ESRCH` or `ENOENT` where the thread has ended; `EOVERFLOW` where the text fills the buffer, for its end may be cut off.
    pub(super) fn look_up<'b>(&mut self, tid: u32, buffer: &'b mut [u8]) -> io::Result<(usize, &'b [u8])> {
        let set = tid as usize % SETS * WAYS;
        let known = (set..set + WAYS).find(|at| self.places[*at].as_ref().is_some_and(|task| task.tid == tid));
        if let Some(at) = known {
            if let Some(read) = self.places[at].as_ref().and_then(|task| read_whole(task.cgroup.as_fd(), buffer).ok()) {
                return Ok((at, &buffer[..read]));
            }
            self.places[at] = None;
        }
        let cgroup = sys::open_at(self.proc(), ProcName::of(tid, "cgroup").as_c_str())?;
        let read = read_whole(cgroup.as_fd(), buffer)?;
        let at = self.place_for(set);
        self.places[at] = Some(Task { tid, cgroup, workload: false, opening: None, interpreter: None });
        Ok((at, &buffer[..read]))
    }

    /// A free place of the set, else one whose thread has no exec under way, else the next in turn.
    fn place_for(&mut self, set: usize) -> usize {
        let mut places = set..set + WAYS;
        let free = places.clone().find(|at| self.places[*at].is_none());
        self.turn = (self.turn + 1) % WAYS;
        let turn = set + self.turn;
        let idle = |at: &usize| self.places[*at].as_ref().is_some_and(|task| task.opening.is_none());
        free.or_else(|| Some(turn).filter(idle)).or_else(|| places.find(idle)).unwrap_or(turn)
    }

    /// The thread at a place that [`Tasks::look_up`] gave.
    pub(super) fn task(&mut self, at: usize) -> Option<&mut Task> {
        self.places.get_mut(at)?.as_mut()
    }

    /// The executable of a process or thread.
    pub(super) fn executable(&self, tid: u32) -> io::Result<FileStatus> {
        sys::status_at(self.proc(), ProcName::of(tid, "exe").as_c_str())
    }

    /// The parent process; 0 where it is not of this PID namespace.
    pub(super) fn parent(&self, tid: u32) -> io::Result<u32> {
        Ok(Stat::read(self.proc(), tid)?.parent)
    }

    /// Whether two processes run the same program: one file, or a memfd of the same bytes as a program of the host.
    ///
    /// Files are opened only where that cannot raise an event, which this process would have to answer itself: memfds are on
    /// a file system that cannot be watched, and the host's own directories never are.
    pub(super) fn same_program(&self, one: u32, other: u32) -> bool {
        let (Ok(a), Ok(b)) = (self.executable(one), self.executable(other)) else { return false };
        if (a.dev, a.ino) == (b.dev, b.ino) {
            return true;
        }
        let comparable = a.dev == self.memfd_device && a.size == b.size && a.size > 0;
        comparable && places::is_of_host(b.mount).unwrap_or(false) && self.same_bytes(one, other).unwrap_or(false)
    }

    /// Whether the task has another mount namespace than the host, so that what its mountinfo shows is not the host's.
    pub(super) fn has_other_mounts(&self, tid: u32) -> bool {
        let theirs = sys::status_at(self.proc(), ProcName::of(tid, "ns/mnt").as_c_str());
        theirs.is_ok_and(|status| status.ino != self.mount_namespace)
    }

    /// Whether the task is in a mount namespace of the container's: neither the host's nor that of who started it.
    pub(super) fn is_inside(&self, tid: u32) -> bool {
        let namespace = |tid| sys::status_at(self.proc(), ProcName::of(tid, "ns/mnt").as_c_str()).ok();
        let Some(own) = namespace(tid).filter(|own| own.ino != self.mount_namespace) else { return false };
        self.parent(tid).ok().and_then(namespace).is_none_or(|parents| parents.ino != own.ino)
    }

    /// Remembers which memory the task's process has now. An exec, by whichever thread, gives it another one.
    pub(super) fn keep_image(&mut self, tid: u32) {
        let Ok(tgid) = Credentials::read(self.proc(), tid).map(|who| who.tgid) else { return };
        if self.images.contains_key(&tgid) {
            return;
        }
        if self.images.len() >= MAX_IMAGES {
            self.images.retain(|_, maps| image_of(maps.as_fd()) != Image::OfNobody);
        }
        match sys::open_at(self.proc(), ProcName::of(tgid, "maps").as_c_str()) {
            Ok(maps) if self.images.len() < MAX_IMAGES => {
                self.images.insert(tgid, maps);
            }
            Ok(_) => tracing::warn!(tgid, bound = MAX_IMAGES, "more runtimes than can be remembered"),
            Err(error) => tracing::debug!(tgid, %error, "a runtime's memory cannot be remembered"),
        }
    }

    /// Whether the task's process has executed something since [`Tasks::keep_image`].
    pub(super) fn image_was_replaced(&mut self, tid: u32) -> bool {
        if self.images.is_empty() {
            return false;
        }
        let Ok(tgid) = Credentials::read(self.proc(), tid).map(|who| who.tgid) else { return false };
        match self.images.get(&tgid).map(|maps| image_of(maps.as_fd())) {
            Some(Image::Replaced) => true,
            Some(Image::OfNobody) => {
                self.images.remove(&tgid);
                false
            }
            Some(Image::Same) | None => false,
        }
    }

    fn same_bytes(&self, one: u32, other: u32) -> io::Result<bool> {
        let a = sys::open_at(self.proc(), ProcName::of(one, "exe").as_c_str())?;
        let b = sys::open_at(self.proc(), ProcName::of(other, "exe").as_c_str())?;
        let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut at = 0u64;
        loop {
            let read = sys::read_at(a.as_fd(), &mut left, at)?;
            if sys::read_at(b.as_fd(), &mut right, at)? != read || left[..read] != right[..read] {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            at += read as u64;
        }
    }
}

/// What has become of the memory that a descriptor of `/proc/<tgid>/maps` is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Image {
    Same,
    Replaced,
    /// The process has ended, whoever has its number now.
    OfNobody,
}

fn image_of(maps: BorrowedFd<'_>) -> Image {
    match sys::read_at(maps, &mut [0], 0) {
        Ok(0) => Image::Replaced,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Image::OfNobody,
        _ => Image::Same,
    }
}

fn read_whole(file: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let read = sys::read_at(file, buffer, 0)?;
    if read == buffer.len() { Err(io::Error::from_raw_os_error(libc::EOVERFLOW)) } else { Ok(read) }
}

/// What `/proc/<tid>/stat` says of a task, as far as it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stat {
    /// Parent process.
    pub parent: u32,
    /// Controlling terminal, as `st_rdev`.
    pub tty: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: u64,
    /// Name.
    pub comm: [u8; 16],
}

impl Stat {
    /// Reads it.
    pub(super) fn read(proc: BorrowedFd<'_>, tid: u32) -> io::Result<Self> {
        let file = sys::open_at(proc, ProcName::of(tid, "stat").as_c_str())?;
        let mut buffer = [0; 1024];
        let read = sys::read_at(file.as_fd(), &mut buffer, 0)?;
        Self::parse(&buffer[..read]).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))
    }

    /// The name may hold blanks and parentheses: it ends at the last `)`.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(open + 1..close)?;
        let mut comm = [0; 16];
        let len = name.len().min(comm.len());
        comm[..len].copy_from_slice(&name[..len]);
        let mut fields = std::str::from_utf8(text.get(close + 2..)?).ok()?.split(' ').skip(1);
        let parent = fields.next()?.parse().ok()?;
        let tty: i32 = fields.nth(2)?.parse().ok()?;
        let start_ticks = fields.nth(14)?.parse().ok()?;
        Some(Self { parent, tty: tty.cast_unsigned(), start_ticks, comm })
    }
}

/// What `/proc/<tid>/status` says of a task, as far as it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Credentials {
    /// Process.
    pub tgid: u32,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// File-system user.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
}

impl Credentials {
    /// Reads them.
    pub(super) fn read(proc: BorrowedFd<'_>, tid: u32) -> io::Result<Self> {
        let file = sys::open_at(proc, ProcName::of(tid, "status").as_c_str())?;
        let mut buffer = [0; 2048];
        let read = sys::read_at(file.as_fd(), &mut buffer, 0)?;
        Self::parse(&buffer[..read]).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The name's control characters are escaped by the kernel, so that no line of another key can be forged.
        let line = |key: &[u8]| text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key));
        let numbers = |line: &[u8]| {
            let mut out = [0u32; 4];
            let text = std::str::from_utf8(line).ok()?;
            for (slot, word) in out.iter_mut().zip(text.split_ascii_whitespace()) {
                *slot = word.parse().ok()?;
            }
            Some(out)
        };
        let uids = numbers(line(b"Uid:")?)?;
        Some(Self {
            tgid: numbers(line(b"Tgid:")?)?[0],
            uid: uids[0],
            euid: uids[1],
            fsuid: uids[3],
            gid: numbers(line(b"Gid:")?)?[0],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::unified_path;

    #[test]
    fn unit_stat_is_read_behind_a_name_with_parentheses() {
        let text = b"42 (a) b (c)) S 7 42 42 34816 42 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
        let stat = Stat::parse(text).expect("well formed");
        assert_eq!((stat.parent, stat.tty, stat.start_ticks), (7, 34816, 987_654));
        assert_eq!(&stat.comm[..8], b"a) b (c)");
        assert_eq!(Stat::parse(b"42 (a"), None);
    }

    #[test]
    fn unit_credentials_take_the_fourth_uid_as_that_of_the_file_system() {
        let text = b"Name:\tx\\nUid: 9\nTgid:\t5\nUid:\t1\t2\t3\t4\nGid:\t6\t7\t8\t9\n";
        let read = Credentials::parse(text).expect("well formed");
        assert_eq!(read, Credentials { tgid: 5, uid: 1, euid: 2, fsuid: 4, gid: 6 });
    }

    #[test]
    fn host_a_cgroup_text_that_may_be_cut_is_not_believed() {
        let mut tasks = Tasks::new().expect("procfs");
        let me = std::process::id();
        let (_, text) = tasks.look_up(me, &mut [0; 65536]).map(|(at, text)| (at, text.to_vec())).expect("alive");
        for short in [text.len(), text.len() - 1] {
            let error = tasks.look_up(me, &mut vec![0; short]).expect_err("its last line may be missing");
            assert_eq!(error.raw_os_error(), Some(libc::EOVERFLOW));
        }
        assert!(tasks.look_up(me, &mut vec![0; text.len() + 1]).is_ok());
    }

    #[test]
    fn host_a_thread_is_found_again_and_forgotten_when_it_ends() {
        let mut tasks = Tasks::new().expect("procfs");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let mut buffer = [0; 4096];
        let (at, text) = tasks.look_up(child.id(), &mut buffer).expect("alive");
        assert!(unified_path(text).is_some());
        tasks.task(at).expect("just put there").workload = true;
        let (again, _) = tasks.look_up(child.id(), &mut [0; 4096]).expect("alive");
        assert!(tasks.task(again).expect("known").workload, "what is remembered stays with the thread");
        child.kill().expect("alive");
        child.wait().expect("mine");
        assert!(tasks.look_up(child.id(), &mut [0; 4096]).is_err(), "its descriptor is of nobody else");
    }
}
