//! Loading and pinning of programs of a kind that aya does not know: those that run before a function and may take its place.

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type};

use super::{bpf, number, owned};

/// Bytes of the verifier's log that are kept: the end of a long one is lost, which the kernel says by `ENOSPC`.
const LOG_BYTES: usize = 1 << 20;

/// What the verifier is given.
#[derive(Debug)]
pub(crate) struct ModifyingProgram<'a> {
    /// As the kernel lists it.
    pub name: &'a str,
    pub license: &'a CStr,
    pub instructions: &'a [bpf_insn],
    /// The object's own types, as [`load_types`] gave them to the kernel.
    pub types: BorrowedFd<'a>,
    /// What the kernel's types call the function that it goes before.
    pub function: u32,
    /// (bytes of all, how many, bytes of one)
    pub functions: (&'a [u8], usize, usize),
    /// The same of lines.
    pub lines: (&'a [u8], usize, usize),
}

fn length(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// Gives the kernel an object's types.
pub(crate) fn load_types(bytes: &[u8]) -> io::Result<OwnedFd> {
    let size = length(bytes.len())?;
    let loaded = bpf(bpf_cmd::BPF_BTF_LOAD, |attr| {
        // SAFETY: `attr` was zeroed as a whole, and this member is of integers: any bytes are a value of it.
        let load = unsafe { &mut attr.__bindgen_anon_7 };
        load.btf = bytes.as_ptr() as u64;
        load.btf_size = size;
    })?;
    owned(loaded)
}

/// Lets the verifier have the program; with the error comes what it said.
pub(crate) fn load_modifying(program: &ModifyingProgram<'_>) -> Result<OwnedFd, (io::Error, String)> {
    // Without a log first: to write one takes longer than to verify.
    match try_load(program, &mut []) {
        Ok(loaded) => Ok(loaded),
        Err(without) => {
            let mut log = vec![0; LOG_BYTES];
            try_load(program, &mut log).map_err(|error| {
                let said = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default().into_owned();
                // A log that is too long for us is no reason for a refusal.
                let reason = if error.raw_os_error() == Some(libc::ENOSPC) { without } else { error };
                (reason, said)
            })
        }
    }
}

fn try_load(program: &ModifyingProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let (functions, function_count, function_bytes) = program.functions;
    let (lines, line_count, line_bytes) = program.lines;
    let (instructions, log_bytes) = (length(program.instructions.len())?, length(log.len())?);
    let counts = [length(function_count)?, length(function_bytes)?, length(line_count)?, length(line_bytes)?];
    let loaded = bpf(bpf_cmd::BPF_PROG_LOAD, |attr| {
        // SAFETY: `attr` was zeroed as a whole, and this member is of integers, arrays and a union of them: any bytes are a value of it.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
        load.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
        load.attach_btf_id = program.function;
        load.insns = program.instructions.as_ptr() as u64;
        load.insn_cnt = instructions;
        load.license = program.license.as_ptr() as u64;
        load.prog_btf_fd = number(program.types);
        load.func_info = functions.as_ptr() as u64;
        [load.func_info_cnt, load.func_info_rec_size, load.line_info_cnt, load.line_info_rec_size] = counts;
        load.line_info = lines.as_ptr() as u64;
        for (to, from) in load.prog_name.iter_mut().zip(program.name.bytes().take(15)) {
            *to = c_char::from_ne_bytes([from]);
        }
        if log_bytes > 0 {
            load.log_level = 1;
            load.log_buf = log.as_mut_ptr() as u64;
            load.log_size = log_bytes;
        }
    })?;
    owned(loaded)
}

/// Attaches the program to the function that it was loaded for, as long as the link is open or pinned.
pub(crate) fn attach_modifying(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // Without a name it is the kernel's way to attach whatever was loaded for a function, since 5.5.
    let link = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, |attr| attr.raw_tracepoint.prog_fd = number(program))?;
    owned(link)
}

/// Pins a link or a program.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    bpf(bpf_cmd::BPF_OBJ_PIN, |attr| {
        attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
        attr.__bindgen_anon_4.bpf_fd = number(object);
    })
    .map(drop)
}

/// Times that the kernel has skipped the program, for it ran already on that CPU.
pub(crate) fn skips(program: &OwnedFd) -> io::Result<u64> {
    // SAFETY: `bpf_prog_info` is of integers, arrays of them and padding: zero is a value. The kernel writes `info_len` bytes at most.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let bytes = length(size_of::<bpf_prog_info>())?;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, |attr| {
        attr.info.bpf_fd = number(program.as_fd());
        attr.info.info_len = bytes;
        attr.info.info = (&raw mut info) as u64;
    })?;
    Ok(info.recursion_misses)
}
