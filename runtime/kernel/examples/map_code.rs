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

use std::{env, ffi::CString, fs::File, io, mem, os::fd::AsRawFd as _, process::ExitCode, ptr};

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

fn make(way: &str) -> Result<(), i32> {
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
        "set-attribute" => set_attribute(&path(2)?),
        // The last argument of the kernel's move_mount has no flags: both paths are named from the working directory.
        "move-mount" => twice(libc::SYS_move_mount, Some(libc::AT_FDCWD), &path(2)?, &path(3)?),
        "pivot-root" => twice(libc::SYS_pivot_root, None, &path(2)?, &path(3)?),
        _ => Err(libc::EINVAL),
    }
}

fn path(argument: usize) -> Result<CString, i32> {
    env::args().nth(argument).and_then(|path| CString::new(path).ok()).ok_or(libc::EINVAL)
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
    let way = env::args().nth(1).unwrap_or_default();
    ExitCode::from(make(&way).map_or_else(|errno| u8::try_from(errno).unwrap_or(u8::MAX), |()| 0))
}
