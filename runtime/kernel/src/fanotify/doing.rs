//! Who acts, as `/proc` tells it: the header of a record that no kernel program writes.
//!
//! Limit: it is read after the act has begun. Of a task that has ended meanwhile nothing is known but what the caller knows.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use palisade_kernel_abi::record::{Header, Phase};

use super::{
    mounts::ProcName,
    sys,
    tasks::{Credentials, Stat},
};

/// What is known of who acts beside `/proc`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doer {
    /// Whose workload's.
    pub slot: u32,
    /// Inode number of its cgroup.
    pub cgroup: u64,
    /// The thread.
    pub tid: u32,
    /// Whose code.
    pub phase: Phase,
}

/// Nanoseconds of a clock tick, in which `/proc` counts.
pub(crate) fn tick_nanos() -> u64 {
    // SAFETY: takes a number and gives one; no memory of ours is concerned.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(ticks).unwrap_or(100).max(1)
}

/// The directory of all processes.
pub(crate) fn proc_directory() -> io::Result<OwnedFd> {
    sys::open_path(c"/proc")
}

/// Where a link of the task leads (`exe`, `cwd`).
pub(crate) fn link<'b>(proc: BorrowedFd<'_>, tid: u32, name: &str, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    sys::read_link(proc, ProcName::of(tid, name).as_c_str(), buffer).ok()
}

/// Its controlling terminal, 0 for none.
pub(crate) fn terminal(proc: BorrowedFd<'_>, tid: u32) -> u32 {
    Stat::read(proc, tid).unwrap_or_default().tty
}

/// The header of a record about it.
pub(crate) fn header(proc: BorrowedFd<'_>, doer: &Doer, producer: u32, sequence: u64, tick_nanos: u64) -> Header {
    let who = Credentials::read(proc, doer.tid).unwrap_or_default();
    let process = Stat::read(proc, who.tgid).unwrap_or_default();
    let parent = Stat::read(proc, process.parent).unwrap_or_default();
    Header {
        sequence,
        producer,
        slot: doer.slot,
        boot_ns: sys::boot_nanos(),
        cgroup_id: doer.cgroup,
        task_start_ns: process.start_ticks * tick_nanos,
        parent_start_ns: parent.start_ticks * tick_nanos,
        tgid: who.tgid,
        tid: doer.tid,
        parent_tgid: process.parent,
        uid: who.uid,
        euid: who.euid,
        fsuid: who.fsuid,
        gid: who.gid,
        mnt_ns: namespace(proc, doer.tid, "ns/mnt"),
        pid_ns: namespace(proc, doer.tid, "ns/pid"),
        phase: doer.phase,
        call: None,
        comm: Stat::read(proc, doer.tid).unwrap_or_default().comm,
    }
}

/// The inode number of a namespace of a task; 0 where it has none any more.
fn namespace(proc: BorrowedFd<'_>, tid: u32, entry: &str) -> u32 {
    let status = sys::status_at(proc, ProcName::of(tid, entry).as_c_str());
    status.ok().and_then(|status| u32::try_from(status.ino).ok()).unwrap_or(0)
}
