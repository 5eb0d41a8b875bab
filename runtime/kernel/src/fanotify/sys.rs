//! The few system calls that std does not offer, each behind a safe function.
//!
//! Invariant: nothing here decides; every function is one call, checked, with its error kept. Descriptors are owned types
//! except where a number is only borrowed for the duration of the call.

use std::{
    ffi::CStr,
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

pub(super) use crate::sys::poll;

/// The most descriptors that one message carries.
pub(super) const MAX_FDS: usize = 4;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: private to this file: every caller passes what a successful call that makes a descriptor has just given it, once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What a file is: by its object, not by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStatus {
    /// Owner.
    pub uid: u32,
    /// Inode number.
    pub ino: u64,
    /// Device as `major << 32 | minor` of the file; on overlayfs not always that of the mount.
    pub dev: u64,
    /// The mount that the file was reached by, as mountinfo numbers it.
    pub mount: u64,
    /// Bytes.
    pub size: u64,
}

fn statx(dir: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<FileStatus> {
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_UID | libc::STATX_INO | libc::STATX_MNT_ID | libc::STATX_SIZE;
    // SAFETY: `path` ends with NUL; the kernel writes one `struct statx` to `raw`, which is one; both live over the call.
    check(unsafe { libc::statx(dir, path.as_ptr(), flags | libc::AT_STATX_DONT_SYNC, mask, raw.as_mut_ptr()) })?;
    // SAFETY: it was zeroed, and its fields are integers: initialised whatever the kernel left out (the mask says what that is).
    let raw = unsafe { raw.assume_init() };
    if raw.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "statx gives no mount id (Linux 5.8 is needed)"));
    }
    Ok(FileStatus {
        uid: raw.stx_uid,
        ino: raw.stx_ino,
        dev: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
        mount: raw.stx_mnt_id,
        size: raw.stx_size,
    })
}

/// The status of an open file, also of one opened with `O_PATH`.
pub(super) fn status_of(fd: BorrowedFd<'_>) -> io::Result<FileStatus> {
    statx(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// The status of what `path` below `dir` leads to.
pub(super) fn status_at(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<FileStatus> {
    statx(dir.as_raw_fd(), path, 0)
}

/// The target of a symbolic link, in `buffer`; a target that fills the buffer is refused, since it may be cut.
pub(super) fn read_link<'b>(dir: BorrowedFd<'_>, path: &CStr, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    // SAFETY: `path` ends with NUL; `buffer` is borrowed mutably and as long as is said; the kernel writes no NUL behind it.
    let result = unsafe { libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let len = check_len(result)?;
    if len == buffer.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    Ok(&buffer[..len])
}

/// Opens a file of procfs below `dir` for reading.
pub(super) fn open_at(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with NUL and lives over the call; `dir` is borrowed, so open; without O_CREAT no mode is read.
    check(unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).map(owned)
}

/// Reads from an offset, as much as there is or fits.
pub(super) fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: `buffer` is borrowed mutably and as long as is said; the kernel writes there and nowhere else.
    check_len(unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) })
}

/// An `O_PATH` descriptor of `path` as a task whose root is `root` sees it; symbolic links stay below `root`.
/// `resolve` adds `RESOLVE_*` bounds.
pub(super) fn open_path_in_root(root: BorrowedFd<'_>, path: &CStr, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: `open_how` is of three integers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_PATH | libc::O_CLOEXEC).unsigned_abs());
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | resolve;
    // SAFETY: `path` ends with NUL; the kernel reads as much of `how` as the size says, which is its own; both live over the call.
    let result = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    let fd = RawFd::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    check(fd).map(owned)
}

/// An `O_PATH` descriptor of an absolute path of the caller's own.
pub(super) fn open_path(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with NUL and lives over the call; with O_PATH no mode is read.
    check(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) }).map(owned)
}

/// An `O_PATH` descriptor of `path` below `dir`, links followed.
pub(super) fn open_path_at(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with NUL and lives over the call; `dir` is borrowed, so open; with O_PATH no mode is read.
    check(unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) }).map(owned)
}

/// Two connected sockets that keep message boundaries, with room for `send_bytes` on each side.
pub(super) fn seqpacket_pair(send_bytes: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two numbers, for which `fds` has room.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) })?;
    let pair = (owned(fds[0]), owned(fds[1]));
    for fd in [&pair.0, &pair.1] {
        let size = (&raw const send_bytes).cast();
        // SAFETY: the kernel reads one int, as the length says, from a parameter that lives over the call. Refusal leaves the default
        // size, which only loses sooner.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUFFORCE,
                size,
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
    Ok(pair)
}

/// How long a receive waits before it fails with `WouldBlock`.
pub(super) fn set_receive_timeout(fd: BorrowedFd<'_>, timeout: std::time::Duration) -> io::Result<()> {
    let seconds = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
    let value = libc::timeval { tv_sec: seconds, tv_usec: timeout.subsec_micros().into() };
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: the kernel reads one `timeval`, as the length says, from `value`, which lives over the call.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const value).cast(), size)
    })?;
    Ok(())
}

/// Room for the control message that carries descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct FdSpace([u8; 64]);

/// Sends one message without waiting for room.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `bytes`, for as long as they are, and keeps no address of them after the call.
    check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) }).map(|_| ())
}

/// Sends one message with descriptors, waiting for room.
pub(super) fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let mut space = FdSpace([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is of integers and raw pointers, for which zero (null) is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let payload = u32::try_from(size_of_val(fds).min(fds.len() * size_of::<RawFd>())).unwrap_or(0);
        message.msg_control = space.0.as_mut_ptr().cast();
        // SAFETY: `msg_control` and `msg_controllen` describe `space`, whose 64 bytes hold CMSG_SPACE of MAX_FDS descriptors (32) and
        // are aligned for a `cmsghdr`: so CMSG_FIRSTHDR is not null, and the head and the numbers behind it, at most MAX_FDS
        // (checked above), are written within `space`.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(payload) as usize;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(payload) as usize;
            let out = libc::CMSG_DATA(head).cast::<RawFd>();
            for (index, fd) in fds.iter().enumerate() {
                out.add(index).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: `message` leads to `part`, `space` and `bytes`, all alive over the call; a send writes to none of them, although the
    // fields are mutable pointers.
    check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }).map(|_| ())
}

/// Receives one message and its descriptors. Zero bytes: the other side is gone. A message longer than `buffer` is refused.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = FdSpace([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: as in `send_with_fds`: integers and raw pointers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.0.as_mut_ptr().cast();
    message.msg_controllen = space.0.len();
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: `message` leads to `buffer`, which is borrowed mutably, and to `space`, with the lengths of both, which the kernel keeps to.
    let len = check_len(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    let mut fds = Vec::new();
    // SAFETY: the kernel has written whole control messages to `space` and set `msg_controllen` to their end, within which the macros
    // stay. `cmsg_len` of each is true, so that the numbers behind its head are there; each is a descriptor that the kernel made
    // for this process with this message and that is taken once.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*head).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let numbers = libc::CMSG_DATA(head).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(owned(numbers.add(index).read_unaligned()));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((len, fds))
}

/// An anonymous file of the given content.
pub(super) fn memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: `name` ends with NUL and lives over the call.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }).map(owned)?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, content)?;
    Ok(file.into())
}

/// Everything that a descriptor holds from its beginning, at most `bound` bytes.
pub(super) fn read_all(fd: BorrowedFd<'_>, bound: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    read_all_into(fd, bound, &mut content)?;
    Ok(content)
}

/// As [`read_all`], into memory that is kept between calls.
pub(super) fn read_all_into(fd: BorrowedFd<'_>, bound: usize, content: &mut Vec<u8>) -> io::Result<()> {
    const STEP: usize = 16 * 1024;
    content.clear();
    loop {
        let start = content.len();
        content.resize(start + STEP, 0);
        let read = read_at(fd, &mut content[start..], start as u64)?;
        content.truncate(start + read);
        if read == 0 {
            return Ok(());
        }
        if content.len() > bound {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
    }
}

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), as the kernel stamps records.
pub(super) fn boot_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec` to `now`. The clock exists since Linux 2.6.39, and on refusal `now` stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Makes this process hard to disturb: memory stays resident once touched, it runs before others, and may hold many descriptors.
///
/// Each is a wish: in a restricted service unit some are refused, and the responder works without them, only slower under pressure.
pub(super) fn harden_process() {
    let files = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
    // SAFETY: `files` is read over its call; the others take numbers. Ignoring signals installs no handler of ours, so that no code
    // runs in one.
    unsafe {
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT);
        libc::setpriority(libc::PRIO_PROCESS, 0, -10);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Kills a process that this one started and has not waited for.
pub(super) fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers and, for the signal's description, null: the kernel makes it itself and reads nothing of ours. The process
    // is named by a descriptor, so that no other can be meant.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(libc::c_int::try_from(result).unwrap_or(-1)).map(|_| ())
}
