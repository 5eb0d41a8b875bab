//! The system calls by which children act, each behind a safe function: std would add flags, retry, or call another one.
//!
//! Descriptors are plain numbers: a wrong one makes a call fail, and no Rust value is bound to any of them.

use std::{
    ffi::{CStr, CString},
    os::fd::AsRawFd,
    ptr,
};

use super::errno_of;

/// Sends a signal.
pub fn kill(pid: i32, signal: i32) -> i32 {
    // SAFETY: takes two numbers. The children are named by it while they are not waited for, so that the number is theirs.
    unsafe { libc::kill(pid, signal) }
}

/// Ends this process by a signal of its own.
pub fn raise(signal: i32) -> i32 {
    // SAFETY: takes a number; the tests raise only signals without a handler, so that no Rust code runs in one.
    unsafe { libc::raise(signal) }
}

/// Waits to be killed; a minute at most, should the test end before.
pub fn pause() -> i32 {
    // SAFETY: take nothing and a number; the alarm has no handler and ends the process.
    unsafe {
        libc::alarm(60);
        loop {
            libc::pause();
        }
    }
}

/// ptrace(2) with a request that takes neither address nor data: `PTRACE_ATTACH`, `PTRACE_SEIZE`, `PTRACE_TRACEME`. Returns errno.
pub fn trace(request: u32, target: i32) -> i32 {
    // SAFETY: these requests read no memory of the caller; the last two arguments are numbers and zero.
    errno_of(unsafe { libc::ptrace(request, target, 0, 0) })
}

/// open(2) with exactly these flags.
pub fn open(path: &CStr, flags: i32) -> i32 {
    // SAFETY: `path` ends with NUL and is borrowed over the call; the mode is passed whether or not it is used.
    unsafe { libc::open(path.as_ptr(), flags, 0o600) }
}

/// creat(2).
pub fn creat(path: &CStr) -> i32 {
    // SAFETY: `path` ends with NUL and is borrowed over the call.
    unsafe { libc::creat(path.as_ptr(), 0o600) }
}

/// openat2(2) below a directory.
pub fn open_below(directory: i32, path: &CStr, flags: i32) -> i64 {
    let how: [u64; 3] = [u64::from(flags.unsigned_abs()), 0, 0];
    // SAFETY: `path` ends with NUL; `how` has the fields of `struct open_how`, whose size is passed; both live over the call.
    unsafe { libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), how.as_ptr(), size_of_val(&how)) }
}

/// Closes a number that [`open`] gave.
pub fn close(descriptor: i32) -> i32 {
    // SAFETY: the number came from a call of this module; no `OwnedFd` or `File` was made of it that would close it again.
    unsafe { libc::close(descriptor) }
}

/// write(2).
pub fn write(descriptor: i32, bytes: &[u8]) -> isize {
    // SAFETY: `bytes` is readable for the length that is passed.
    unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) }
}

/// sendfile(2) of a file's beginning, which refers to its pages and copies nothing. 0 or errno.
pub fn send_file(socket: &impl AsRawFd, file: &impl AsRawFd, length: usize) -> i32 {
    let mut from = 0;
    // SAFETY: both descriptors are open over the call, and the kernel writes one number to `from`, which lives as long.
    let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut from, length) };
    if usize::try_from(sent) == Ok(length) { 0 } else { errno_of(-1) }
}

/// send(2) of bytes whose last one is out of band. 0 or errno.
pub fn send_urgent(socket: &impl AsRawFd, bytes: &[u8]) -> i32 {
    // SAFETY: `bytes` is readable for the length that is passed, and the socket is open over the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_OOB) };
    if usize::try_from(sent) == Ok(bytes.len()) { 0 } else { errno_of(-1) }
}

/// execve(2) with an empty environment; returns errno, if at all.
pub fn exec(program: &CStr, arguments: &[CString]) -> i32 {
    exec_with(program, arguments, &[])
}

/// execve(2); returns errno, if at all.
pub fn exec_with(program: &CStr, arguments: &[CString], environment: &[CString]) -> i32 {
    let list = |strings: &[CString]| -> Vec<_> {
        strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(ptr::null())).collect()
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: both lists end with a null pointer, each string with NUL, and all are borrowed until the image is gone.
    errno_of(unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) })
}

/// execveat(2) of an open file; returns errno, if at all.
pub fn exec_descriptor(file: &impl AsRawFd, arguments: &[CString]) -> i32 {
    let arguments: Vec<_> = arguments.iter().map(|one| one.as_ptr()).chain(std::iter::once(ptr::null())).collect();
    let environment = [ptr::null::<libc::c_char>()];
    let file = file.as_raw_fd();
    // SAFETY: it sets a flag of a descriptor that is open: an interpreter must be able to open it by its number.
    unsafe { libc::fcntl(file, libc::F_SETFD, 0) };
    // SAFETY: both lists end with a null pointer, each string with NUL, and all are borrowed until the image is gone.
    errno_of(unsafe {
        let (list, empty) = (arguments.as_ptr(), environment.as_ptr());
        libc::syscall(libc::SYS_execveat, file, c"".as_ptr(), list, empty, libc::AT_EMPTY_PATH) as i32
    })
}

/// Makes a ring of io_uring, which the process has until it executes something; false where the kernel refuses.
pub fn use_ring() -> bool {
    let mut parameters = [0_u8; 120]; // struct io_uring_params
    // SAFETY: the kernel reads and writes the 120 bytes, which live over the call.
    unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) >= 0 }
}

/// Waits for any child or traced thread of the calling thread; returns its number and, as wait(2) gives it, what became of it.
pub fn wait_for_any() -> (i32, i32) {
    let mut status = 0;
    // SAFETY: the kernel writes one number to `status`, which lives over the call.
    (unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) }, status)
}

/// Executes a program from memory, by a descriptor; returns errno, if at all.
pub fn exec_from_memory(name: &CStr, program: &[u8]) -> i32 {
    // SAFETY: `name` ends with NUL.
    let file = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    write(file, program);
    let (arguments, environment) = ([name.as_ptr(), ptr::null()], [ptr::null()]);
    // SAFETY: as for `exec`; a wrong descriptor is an error of the call.
    errno_of(unsafe { libc::fexecve(file, arguments.as_ptr(), environment.as_ptr()) })
}

/// socket(2).
pub fn socket(domain: i32, kind: i32, protocol: i32) -> i32 {
    // SAFETY: takes three numbers.
    unsafe { libc::socket(domain, kind, protocol) }
}

/// connect(2) to a name as the kernel reads it.
pub fn connect(socket: i32, name: &[u8]) -> i32 {
    let length = u32::try_from(name.len()).unwrap_or(0);
    // SAFETY: the kernel copies `length` bytes from `name`, which has as many, and wants no alignment of them.
    unsafe { libc::connect(socket, name.as_ptr().cast(), length) }
}

/// sendto(2) of one byte to a name as the kernel reads it.
pub fn send_to(socket: i32, name: &[u8]) -> isize {
    let length = u32::try_from(name.len()).unwrap_or(0);
    // SAFETY: one byte of the payload and `length` of the name are read, and there are as many; no alignment is wanted.
    unsafe { libc::sendto(socket, c"x".as_ptr().cast(), 1, 0, name.as_ptr().cast(), length) }
}

/// This process is killed when the thread ends that started it.
pub fn end_with_parent() -> i32 {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }
}

/// fork(2) of a child that begins in the cgroup of that directory; 0 in the child.
pub fn clone_into(cgroup: i32) -> i32 {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let mut words = [0_u64; 11];
    words[0] = CLONE_INTO_CGROUP;
    words[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    words[10] = u64::from(cgroup.cast_unsigned());
    // SAFETY: `struct clone_args`, which is eleven words and lives over the call. No stack is given, so that the child runs on a copy
    // of this one.
    let child = unsafe { libc::syscall(libc::SYS_clone3, words.as_ptr(), size_of_val(&words)) };
    i32::try_from(child).unwrap_or(-1)
}

/// Takes away what is kept of the process: 0 where something was. `pin`: of a map of task storage.
pub fn forget_process(pin: &CStr, pid: i32) -> i64 {
    const OBJ_GET: i64 = 7;
    const MAP_DELETE_ELEM: i64 = 3;
    // SAFETY: takes numbers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let by_name: [u64; 2] = [pin.as_ptr() as u64, 0];
    // SAFETY: the attributes and the name live over the call, which reads them.
    let map = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, by_name.as_ptr(), size_of_val(&by_name)) };
    let element: [u64; 3] = [map.cast_unsigned(), (&raw const process).cast::<i32>() as u64, 0];
    // SAFETY: as above; the key is four bytes.
    let deleted = unsafe { libc::syscall(libc::SYS_bpf, MAP_DELETE_ELEM, element.as_ptr(), size_of_val(&element)) };
    for descriptor in [map, process] {
        close(i32::try_from(descriptor).unwrap_or(-1));
    }
    deleted
}

/// Gives this process new namespaces; called in a child that has one thread.
pub fn unshare(flags: i32) -> i32 {
    // SAFETY: takes a number; what it changes belongs to the calling thread, which is the child's only one.
    unsafe { libc::unshare(flags) }
}

/// Lets no mount of this process's namespace spread to others.
pub fn make_mounts_private() -> i32 {
    // SAFETY: `/` ends with NUL; with these flags the kernel reads neither source, type nor data, which may be null.
    unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) }
}

/// Mounts a tmpfs.
pub fn mount_tmpfs(place: &CStr) -> i32 {
    // SAFETY: three strings that end with NUL and live over the call; a tmpfs takes no data, which may be null.
    unsafe { libc::mount(c"bed".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, ptr::null()) }
}

/// The group, then the real user; effective and saved user stay root.
pub fn become_user(user: u32, group: u32) -> i32 {
    // SAFETY: take numbers. Called in a child with one thread, for each is a thread's own in the kernel.
    unsafe { libc::setresgid(group, group, group) | libc::setresuid(user, 0, 0) }
}

/// Gives this process a terminal of its own as controlling terminal; returns its device number.
pub fn take_terminal() -> u64 {
    let mut name: [libc::c_char; 64] = [0; 64];
    // SAFETY: takes a number.
    let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) };
    // SAFETY: `name` is writable for the length that is passed; the calls write no further and end what they write with NUL. It
    // was zero before, so that it ends with NUL also where they fail.
    let terminal = unsafe {
        libc::grantpt(master);
        libc::unlockpt(master);
        libc::ptsname_r(master, name.as_mut_ptr(), name.len());
        libc::setsid();
        libc::open(name.as_ptr(), libc::O_RDWR)
    };
    // SAFETY: integers and padding, for which zero is a value; the kernel fills no more than one `stat`.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: this request takes a number as its argument; `status` is writable and lives over the call.
    unsafe {
        libc::ioctl(terminal, libc::TIOCSCTTY, 0);
        libc::fstat(terminal, &raw mut status);
    }
    status.st_rdev
}

/// ptrace by the 32-bit entry, where its number is 26; returns what the kernel does.
#[cfg(target_arch = "x86_64")]
pub fn trace_by_32_bit_entry(request: u32, target: i32) -> i32 {
    let result: i32;
    let request = u64::from(request);
    // SAFETY: the entry takes its numbers in the low halves of eax, ebx, ecx, edx and esi and clears r8 to r11, which are
    // declared. rbx, which the compiler keeps for itself, is lent by exchange and given back. With address and data zero the
    // kernel touches no memory of ours, and the stack is not used.
    unsafe {
        std::arch::asm!(
            "xchg {request:r}, rbx",
            "int 0x80",
            "xchg {request:r}, rbx",
            request = inout(reg) request => _,
            inlateout("eax") 26 => result,
            in("ecx") target,
            in("edx") 0,
            in("esi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

/// open by the 32-bit entry, where its number is 5; returns what the kernel does.
#[cfg(target_arch = "x86_64")]
pub fn open_by_32_bit_entry(path: &CStr) -> i32 {
    let result: i32;
    let bytes = path.to_bytes_with_nul();
    assert!(bytes.len() <= 4096, "one page is made for it");
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
    // SAFETY: a new mapping at a place of the kernel's choice, below 4 GiB, where a 32-bit pointer leads to it.
    let low = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(low, libc::MAP_FAILED);
    // SAFETY: the page was just mapped writable, nothing else refers to it, and the bytes fit (checked above).
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), low.cast(), bytes.len()) };
    // SAFETY: registers as in `trace_by_32_bit_entry`; the kernel reads a string that ends with NUL from a page that stays mapped.
    unsafe {
        std::arch::asm!(
            "xchg {path:r}, rbx",
            "int 0x80",
            "xchg {path:r}, rbx",
            path = inout(reg) low => _,
            inlateout("eax") 5 => result,
            in("ecx") libc::O_RDONLY,
            in("edx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}
