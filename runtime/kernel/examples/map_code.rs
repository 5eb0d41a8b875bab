//! Makes memory executable in the way that its argument names; the exit code is the errno, 0 where the memory is. For the VM ring,
//! whose own crates have no unsafe code.
//!
//! - `anonymous`: mmap(2) of memory of no file
//! - `file`: mmap(2) of a file's pages, as a loader does it
//! - `private`: the same, writable as well
//! - `later`: the same without, which mprotect(2) makes writable
//! - `shared`: shared memory of no file

use std::{fs::File, io, os::fd::AsRawFd as _, process::ExitCode, ptr};

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
        _ => Err(libc::EINVAL),
    }
}

fn main() -> ExitCode {
    let way = std::env::args().nth(1).unwrap_or_default();
    ExitCode::from(make(&way).map_or_else(|errno| u8::try_from(errno).unwrap_or(u8::MAX), |()| 0))
}
