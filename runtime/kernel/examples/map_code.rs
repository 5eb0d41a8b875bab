//! Makes the system calls that its first argument names; the exit code is the errno, 0 where they succeeded. For the VM ring, whose own
//! crates have no unsafe code.
//!
//! Executable memory:
//!
//! - `anonymous`: mmap(2) of memory of no file
//! - `file`: mmap(2) of a file's pages, as a loader does it
//! - `private`: the same, writable as well
//! - `later`: the same without, which mprotect(2) makes writable
//! - `shared`: shared memory of no file
//!
//! Others:
//!
//! - `write-shared`: a byte is written through a shared mapping of standard input
//! - `protect-shared`: the same through one that only mprotect(2) makes writable
//! - `pass`: standard input is sent over a socket and received; what is withheld counts as EACCES
//! - `set-attribute PATH`: setxattr(2) of capabilities
//! - `move-mount FROM TO`: move_mount(2)
//! - `pivot-root NEW OLD`: pivot_root(2)
//!
//! Against Palisade itself; of several objects each must fail alike, or it is EINVAL:
//!
//! - `open-maps IDS`, `open-programs IDS`, `open-links IDS`: a descriptor of each by its id, separated by commas
//! - `open-pin PATH`: a descriptor of what is pinned there
//! - `detach-pin PATH`: a link that is pinned there is opened, and detached
//! - `signal PID NUMBER`: kill(2)
//! - `file-signal PID NUMBER`: a pipe sends the signal to the process once something is in it
//! - `trace PID`: PTRACE_SEIZE
//! - `limit PID`: prlimit(2) of open files to 3
//! - `nice PID`: setpriority(2)
//! - `open-write PATH`: open(2) for writing
//! - `put PID CGROUP`: a process is moved into a cgroup
//! - `read-only PATH`: mount(2) that makes a file system read-only; `read-only-mount PATH`: one mount of it
//! - `cover PATH`: mount(2) of a new file system; `uncover PATH`: umount2(2), whatever is below
//! - `carry FROM TO`: mount(2) with MS_MOVE; `bind FROM TO`: with MS_BIND, and a further flag that means nothing beside it
//!
//! Before another one:
//!
//! - `in-host-mounts WAY`: from the mount namespace of process 1
//! - `entered CGROUP WAY`: after a move into the cgroup; `born-in CGROUP WAY`: by a child that begins there

use std::{
    env,
    ffi::{CStr, CString},
    fs::{self, File},
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::ExitCode,
    ptr,
};

const PAGE: usize = 4096;
const READ_EXECUTE: i32 = libc::PROT_READ | libc::PROT_EXEC;
const ALL: i32 = READ_EXECUTE | libc::PROT_WRITE;

/// Returns errno where it is refused.
fn map(file: Option<&File>, protection: i32, flags: i32) -> Result<*mut libc::c_void, i32> {
    let descriptor = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: a new mapping at a place of the kernel's choice; the descriptor is borrowed over the call.
    let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, descriptor, 0) };
    if at == libc::MAP_FAILED { Err(last()) } else { Ok(at) }
}

fn protect(at: *mut libc::c_void, protection: i32) -> Result<(), i32> {
    // SAFETY: a page that `map` made and nothing else refers to.
    if unsafe { libc::mprotect(at, PAGE, protection) } == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

fn make(arguments: &[String]) -> Result<(), i32> {
    let way = arguments.first().ok_or(libc::EINVAL)?;
    let rest = |count| arguments.get(count..).ok_or(libc::EINVAL);
    match way.as_str() {
        "in-host-mounts" => {
            let mounts = file("/proc/1/ns/mnt")?;
            ended(libc::SYS_setns, [mounts.as_raw_fd().into(), libc::CLONE_NEWNS.into(), 0, 0])?;
            make(rest(1)?)
        }
        "entered" => {
            put("0", text(arguments, 1)?)?;
            make(rest(2)?)
        }
        "born-in" => born_in(text(arguments, 1)?, || make(rest(2)?)),
        _ => make_one(way, arguments),
    }
}

fn make_one(way: &str, arguments: &[String]) -> Result<(), i32> {
    let path = |at| path(arguments, at);
    let number = |at| number(arguments, at);
    let own = File::open("/proc/self/exe").map_err(|error| error.raw_os_error().unwrap_or(-1))?;
    match way {
        "anonymous" => map(None, READ_EXECUTE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).map(drop),
        "file" => map(Some(&own), READ_EXECUTE, libc::MAP_PRIVATE).map(drop),
        "private" => map(Some(&own), ALL, libc::MAP_PRIVATE).map(drop),
        "later" => protect(map(Some(&own), READ_EXECUTE, libc::MAP_PRIVATE)?, ALL),
        "shared" => map(None, READ_EXECUTE, libc::MAP_SHARED | libc::MAP_ANONYMOUS).map(drop),
        "write-shared" => map_input(libc::PROT_READ | libc::PROT_WRITE).map(write_into),
        "protect-shared" => {
            let at = map_input(libc::PROT_READ)?;
            protect(at, libc::PROT_READ | libc::PROT_WRITE).map(|()| write_into(at))
        }
        "pass" => pass(),
        "set-attribute" => set_attribute(&path(1)?),
        // The last argument of the kernel's move_mount has no flags: both paths are named from the working directory.
        "move-mount" => twice(libc::SYS_move_mount, Some(libc::AT_FDCWD), &path(1)?, &path(2)?),
        "pivot-root" => twice(libc::SYS_pivot_root, None, &path(1)?, &path(2)?),
        "open-maps" => each(arguments, |id| bpf_by_id(BPF_MAP_GET_FD_BY_ID, id).map(drop)),
        "open-programs" => each(arguments, |id| bpf_by_id(BPF_PROG_GET_FD_BY_ID, id).map(drop)),
        "open-links" => each(arguments, |id| bpf_by_id(BPF_LINK_GET_FD_BY_ID, id).map(drop)),
        "open-pin" => open_pin(&path(1)?).map(drop),
        "detach-pin" => {
            let link = open_pin(&path(1)?)?;
            bpf(BPF_LINK_DETACH, [link.as_raw_fd().unsigned_abs().into(), 0]).map(drop)
        }
        "trace" => ended(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), number(1)?, 0, 0]),
        "signal" => ended(libc::SYS_kill, [number(1)?, number(2)?, 0, 0]),
        "file-signal" => file_signal(number(1)?, number(2)?),
        "limit" => limit(number(1)?),
        "nice" => ended(libc::SYS_setpriority, [libc::PRIO_PROCESS.into(), number(1)?, 19, 0]),
        "open-write" => {
            let opened = File::options().write(true).open(text(arguments, 1)?);
            opened.map(drop).map_err(|error| error.raw_os_error().unwrap_or(-1))
        }
        "put" => put(text(arguments, 1)?, text(arguments, 2)?),
        "read-only" => mount(c"none", &path(1)?, libc::MS_REMOUNT | libc::MS_RDONLY),
        "read-only-mount" => mount(c"none", &path(1)?, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY),
        "cover" => mount(c"none", &path(1)?, 0),
        "carry" => mount(&path(1)?, &path(2)?, libc::MS_MOVE),
        "bind" => mount(&path(1)?, &path(2)?, libc::MS_BIND | libc::MS_PRIVATE),
        "uncover" => {
            // SAFETY: the path ends with NUL.
            if unsafe { libc::umount2(path(1)?.as_ptr(), libc::MNT_DETACH) } == 0 { Ok(()) } else { Err(last()) }
        }
        _ => Err(libc::EINVAL),
    }
}

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;

/// bpf(2) with the first two words of its attribute.
fn bpf(command: libc::c_long, words: [u64; 2]) -> Result<libc::c_long, i32> {
    // SAFETY: the attribute is as long as is said, and what an address in it names lives over the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), mem::size_of_val(&words)) };
    if done < 0 { Err(last()) } else { Ok(done) }
}

fn descriptor(number: libc::c_long) -> Result<OwnedFd, i32> {
    let number = i32::try_from(number).map_err(|_| libc::EBADF)?;
    // SAFETY: the call has just made it, and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn bpf_by_id(command: libc::c_long, id: u64) -> Result<OwnedFd, i32> {
    descriptor(bpf(command, [id, 0])?)
}

fn open_pin(path: &CString) -> Result<OwnedFd, i32> {
    descriptor(bpf(BPF_OBJ_GET, [path.as_ptr() as u64, 0])?)
}

/// All of them must end in the same way.
fn each(arguments: &[String], act: impl Fn(u64) -> Result<(), i32>) -> Result<(), i32> {
    let ids = text(arguments, 1)?;
    let ends: Vec<_> = ids.split(',').map(|id| id.parse().map_err(|_| libc::EINVAL).and_then(&act)).collect();
    let [first, ..] = ends[..] else { return Err(libc::EINVAL) };
    if ends.iter().all(|end| *end == first) { first } else { Err(libc::EINVAL) }
}

fn number(arguments: &[String], at: usize) -> Result<libc::c_long, i32> {
    text(arguments, at)?.parse().map_err(|_| libc::EINVAL)
}

fn ended(call: libc::c_long, [a, b, c, d]: [libc::c_long; 4]) -> Result<(), i32> {
    // SAFETY: these calls are given numbers alone.
    if unsafe { libc::syscall(call, a, b, c, d) } < 0 { Err(last()) } else { Ok(()) }
}

fn limit(process: libc::c_long) -> Result<(), i32> {
    let few = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
    let process = libc::pid_t::try_from(process).map_err(|_| libc::EINVAL)?;
    // SAFETY: the limit is read, and lives over the call; nothing is written back.
    if unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, &raw const few, ptr::null_mut()) } < 0 {
        Err(last())
    } else {
        Ok(())
    }
}

/// What becomes of the signal its sender is not told.
fn file_signal(process: libc::c_long, signal: libc::c_long) -> Result<(), i32> {
    let (reader, mut writer) = io::pipe().map_err(|error| error.raw_os_error().unwrap_or(-1))?;
    let ends = libc::c_long::from(reader.as_raw_fd());
    ended(libc::SYS_fcntl, [ends, libc::F_SETOWN.into(), process, 0])?;
    ended(libc::SYS_fcntl, [ends, 10 /* F_SETSIG */, signal, 0])?;
    ended(libc::SYS_fcntl, [ends, libc::F_SETFL.into(), libc::O_ASYNC.into(), 0])?;
    io::Write::write_all(&mut writer, b"!").map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn text(arguments: &[String], at: usize) -> Result<&str, i32> {
    arguments.get(at).map(String::as_str).ok_or(libc::EINVAL)
}

fn path(arguments: &[String], at: usize) -> Result<CString, i32> {
    CString::new(text(arguments, at)?).map_err(|_| libc::EINVAL)
}

fn file(path: &str) -> Result<File, i32> {
    File::open(path).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn put(process: &str, cgroup: &str) -> Result<(), i32> {
    fs::write(format!("{cgroup}/cgroup.procs"), process).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

/// What became of it is the child's exit code.
fn born_in(cgroup: &str, act: impl FnOnce() -> Result<(), i32>) -> Result<(), i32> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let place = file(cgroup)?;
    let mut words = [0_u64; 11];
    words[0] = CLONE_INTO_CGROUP;
    words[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    words[10] = u64::from(place.as_raw_fd().unsigned_abs());
    // SAFETY: `struct clone_args`, which is eleven words and lives over the call. No stack is given, so that the child runs on a copy
    // of this one; there is no other thread.
    let child = unsafe { libc::syscall(libc::SYS_clone3, words.as_ptr(), mem::size_of_val(&words)) };
    if child == 0 {
        std::process::exit(act().map_or_else(|errno| errno, |()| 0));
    }
    let mut status = 0;
    let pid = libc::pid_t::try_from(child).map_err(|_| libc::EINVAL)?;
    // SAFETY: `status` is writable and lives over the call.
    if pid < 0 || unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        return Err(last());
    }
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        errno => Err(errno),
    }
}

fn mount(source: &CStr, target: &CStr, flags: libc::c_ulong) -> Result<(), i32> {
    // SAFETY: strings end with NUL; the call takes nothing else.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), flags, ptr::null()) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

fn map_input(protection: i32) -> Result<*mut libc::c_void, i32> {
    // SAFETY: a new mapping at a place of the kernel's choice.
    let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, libc::MAP_SHARED, libc::STDIN_FILENO, 0) };
    if at == libc::MAP_FAILED { Err(last()) } else { Ok(at) }
}

fn write_into(at: *mut libc::c_void) {
    // SAFETY: the page is mapped writable, and the file has a first byte.
    unsafe { at.cast::<u8>().write(b'!') };
}

fn set_attribute(path: &CString) -> Result<(), i32> {
    // Of revision 2: its number, and five words of which the first permits one capability.
    let mut value = [0_u8; 20];
    value[3] = 2;
    value[5] = 4;
    let name = c"security.capability";
    // SAFETY: strings end with NUL, and the value is as long as is said.
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if set == 0 { Ok(()) } else { Err(last()) }
}

fn twice(call: libc::c_long, from: Option<i32>, one: &CString, other: &CString) -> Result<(), i32> {
    let done = match from {
        // SAFETY: strings end with NUL; the call takes nothing else.
        Some(from) => unsafe { libc::syscall(call, from, one.as_ptr(), from, other.as_ptr(), 0) },
        // SAFETY: as above.
        None => unsafe { libc::syscall(call, one.as_ptr(), other.as_ptr()) },
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

const DESCRIPTOR_BYTES: u32 = mem::size_of::<i32>() as u32;

fn pass() -> Result<(), i32> {
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) } != 0 {
        return Err(last());
    }
    let mut byte = [0_u8];
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // Words, for control messages are aligned.
    let mut control = [0_usize; 8];
    // SAFETY: all that the message points to lives to the end of the function, and is as long as is said; one descriptor fits.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(DESCRIPTOR_BYTES) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(DESCRIPTOR_BYTES) as _;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(libc::STDIN_FILENO);
        if libc::sendmsg(pair[0], &raw const message, 0) != 1 || libc::recvmsg(pair[1], &raw mut message, 0) != 1 {
            return Err(last());
        }
        if libc::CMSG_FIRSTHDR(&raw const message).is_null() { Err(libc::EACCES) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    ExitCode::from(make(&arguments).map_or_else(|errno| u8::try_from(errno).unwrap_or(u8::MAX), |()| 0))
}
