//! The steps of one execve(2), told apart.
//!
//! execve of a dynamically linked program raises, in the calling thread and with no user code in between: permission to
//! execute the file, to open it, to execute its ELF interpreter (`ld.so`), to open that. A script raises the first two, then
//! the same four for its interpreter. Policies speak of the file and of a script's interpreter as executed; of `ld.so` only
//! when a process executes it itself (`/lib64/ld-linux-x86-64.so.2 /path/bin` is an attack on allow-lists).
//!
//! Which it is, is asked of the kernel, not guessed from the order of events: the waiting thread's kernel stack
//! (`/proc/<tid>/stack`) has `load_elf_binary` on it only while the ELF loader opens the interpreter. Guessing is evaded: an
//! execve that fails late (`E2BIG`) leaves the same traces as one that goes on. Only where the stack cannot be read (Yama
//! scope 3, no `CONFIG_STACKTRACE`) the interpreter that the last executed file names is taken for it, once.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::{mounts::ProcName, sys, tasks::FileKey};

/// What a thread that waits for permission to execute is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExecStep {
    /// It executes the file, or a script's interpreter.
    Executes,
    /// The kernel loads the ELF interpreter of a file that was permitted.
    LoadsInterpreter,
    /// The kernel's stack does not say.
    Unknown,
}

/// Asks the kernel's stack of the waiting thread.
pub(super) fn step(proc: BorrowedFd<'_>, tid: u32) -> ExecStep {
    let mut buffer = [0; 4096];
    let read = sys::open_at(proc, ProcName::of(tid, "stack").as_c_str())
        .and_then(|file| sys::read_at(file.as_fd(), &mut buffer, 0));
    read.map_or(ExecStep::Unknown, |len| step_of(&buffer[..len]))
}

fn step_of(stack: &[u8]) -> ExecStep {
    let has = |name: &[u8]| stack.windows(name.len()).any(|window| window == name);
    if has(b"load_elf_") {
        ExecStep::LoadsInterpreter
    } else if has(b"fanotify_") && has(b"exec") {
        ExecStep::Executes
    } else {
        ExecStep::Unknown
    }
}

/// The ELF interpreter that an executable names, as the thread's root resolves it. Used only where [`step`] is unknown.
pub(super) fn interpreter_of(file: BorrowedFd<'_>, proc: BorrowedFd<'_>, tid: u32) -> Option<FileKey> {
    let name = CString::new(interpreter_name(|buffer, at| sys::read_at(file, buffer, at))?).ok()?;
    let root = sys::open_path_at(proc, ProcName::of(tid, "root").as_c_str()).ok()?;
    // Not across mounts: a lookup on somebody's FUSE would make the responder wait for him.
    let place = sys::open_path_in_root(root.as_fd(), &name, libc::RESOLVE_NO_XDEV).ok()?;
    sys::status_of(place.as_fd()).ok().map(|status| FileKey::from(&status))
}

const PT_INTERP: u32 = 3;
/// More program headers than any linker makes; the kernel itself takes 64 KiB of them.
const MAX_HEADERS: u64 = 1024;

/// The string of `PT_INTERP`, of 64- and 32-bit ELF in this machine's byte order.
fn interpreter_name(read: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> Option<Vec<u8>> {
    let mut head = [0; 64];
    if read(&mut head, 0).ok()? < 52 || !head.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = head[4] == 2;
    let number = |bytes: &[u8], at: usize, len: usize| {
        bytes.get(at..at + len).map(|field| field.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let word = if wide { 8 } else { 4 };
    let table = number(&head, if wide { 32 } else { 28 }, word)?;
    let size = number(&head, if wide { 54 } else { 42 }, 2)?;
    let count = number(&head, if wide { 56 } else { 44 }, 2)?;
    for index in 0..count.min(MAX_HEADERS) {
        let mut entry = [0; 56];
        let got = read(&mut entry, table.checked_add(index * size)?).ok()?;
        if number(entry.get(..got)?, 0, 4)? == u64::from(PT_INTERP) {
            let offset = number(&entry, if wide { 8 } else { 4 }, word)?;
            let len = usize::try_from(number(&entry, if wide { 32 } else { 16 }, word)?).ok()?;
            let mut name = vec![0; len.min(libc::PATH_MAX.unsigned_abs() as usize)];
            let got = read(&mut name, offset).ok()?;
            name.truncate(got);
            let end = name.iter().position(|byte| *byte == 0)?;
            name.truncate(end);
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_the_loader_of_elf_is_told_from_execve_by_the_stack() {
        let loads = b"[<0>] fanotify_get_response+0x1\n[<0>] fsnotify+0x1\n[<0>] open_exec+0x1\n[<0>] load_elf_binary+0x2/0x3\n[<0>] bprm_execve+0x4\n";
        let executes = b"[<0>] fanotify_get_response+0x1\n[<0>] do_open_execat+0x1\n[<0>] do_execveat_common+0x2\n";
        assert_eq!(step_of(loads), ExecStep::LoadsInterpreter);
        assert_eq!(step_of(executes), ExecStep::Executes);
        assert_eq!(step_of(b"[<0>] __switch_to_asm+0x70/0x70\n"), ExecStep::Unknown);
        assert_eq!(step_of(b""), ExecStep::Unknown);
    }

    #[test]
    fn unit_the_interpreter_of_this_test_is_found_in_its_elf_headers() {
        let bytes = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        let read = |buffer: &mut [u8], at: u64| {
            let rest = bytes.get(usize::try_from(at).expect("small")..).unwrap_or(&[]);
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        };
        let name = interpreter_name(read).expect("tests are linked dynamically");
        assert!(name.starts_with(b"/lib"), "{}", String::from_utf8_lossy(&name));
        assert!(std::path::Path::new(std::str::from_utf8(&name).expect("ASCII")).exists());
    }

    #[test]
    fn unit_headers_that_lie_are_no_interpreter() {
        let of = |bytes: &[u8]| {
            interpreter_name(|buffer, at| {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            })
        };
        let mut elf = [0xffu8; 200];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        assert_eq!(of(&elf), None, "offsets past the end");
        assert_eq!(of(b"#!/bin/sh\n"), None);
        assert_eq!(of(&elf[..40]), None);
    }
}
