//! Errors, system calls and their commands, signals, terminals.

/// The error's text, without the number; what strerror(3) says.
#[must_use]
pub fn error(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.rsplit_once(" (os error ").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// A system call as KubeArmor writes it: `SYS_OPENAT`. `compat`: of i386's table.
#[must_use]
pub fn syscall(number: u32, compat: bool) -> String {
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    let name = if compat {
        syscalls::x86::Sysno::new(at).map(|call| call.name())
    } else if cfg!(target_arch = "aarch64") {
        syscalls::aarch64::Sysno::new(at).map(|call| call.name())
    } else {
        syscalls::x86_64::Sysno::new(at).map(|call| call.name())
    };
    name.map_or_else(|| format!("SYS_{number}"), |name| format!("SYS_{}", name.to_uppercase()))
}

/// `asm-generic/signal.h`; x86 and arm64 have no other numbers.
#[must_use]
pub fn signal(number: u32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    at.and_then(|at| NAMES.get(at)).map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// `linux/bpf.h`, `enum bpf_cmd`.
#[must_use]
pub fn bpf_command(number: u32) -> String {
    const NAMES: [&str; 37] = [
        "MAP_CREATE",
        "MAP_LOOKUP_ELEM",
        "MAP_UPDATE_ELEM",
        "MAP_DELETE_ELEM",
        "MAP_GET_NEXT_KEY",
        "PROG_LOAD",
        "OBJ_PIN",
        "OBJ_GET",
        "PROG_ATTACH",
        "PROG_DETACH",
        "PROG_TEST_RUN",
        "PROG_GET_NEXT_ID",
        "MAP_GET_NEXT_ID",
        "PROG_GET_FD_BY_ID",
        "MAP_GET_FD_BY_ID",
        "OBJ_GET_INFO_BY_FD",
        "PROG_QUERY",
        "RAW_TRACEPOINT_OPEN",
        "BTF_LOAD",
        "BTF_GET_FD_BY_ID",
        "TASK_FD_QUERY",
        "MAP_LOOKUP_AND_DELETE_ELEM",
        "MAP_FREEZE",
        "BTF_GET_NEXT_ID",
        "MAP_LOOKUP_BATCH",
        "MAP_LOOKUP_AND_DELETE_BATCH",
        "MAP_UPDATE_BATCH",
        "MAP_DELETE_BATCH",
        "LINK_CREATE",
        "LINK_UPDATE",
        "LINK_GET_FD_BY_ID",
        "LINK_GET_NEXT_ID",
        "ENABLE_STATS",
        "ITER_CREATE",
        "LINK_DETACH",
        "PROG_BIND_MAP",
        "TOKEN_CREATE",
    ];
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    NAMES.get(at).map_or_else(|| number.to_string(), |name| format!("BPF_{name}"))
}

/// `linux/io_uring.h`, `IORING_OP_*`.
#[must_use]
pub fn io_uring_opcode(number: u8) -> String {
    const NAMES: [&str; 58] = [
        "NOP",
        "READV",
        "WRITEV",
        "FSYNC",
        "READ_FIXED",
        "WRITE_FIXED",
        "POLL_ADD",
        "POLL_REMOVE",
        "SYNC_FILE_RANGE",
        "SENDMSG",
        "RECVMSG",
        "TIMEOUT",
        "TIMEOUT_REMOVE",
        "ACCEPT",
        "ASYNC_CANCEL",
        "LINK_TIMEOUT",
        "CONNECT",
        "FALLOCATE",
        "OPENAT",
        "CLOSE",
        "FILES_UPDATE",
        "STATX",
        "READ",
        "WRITE",
        "FADVISE",
        "MADVISE",
        "SEND",
        "RECV",
        "OPENAT2",
        "EPOLL_CTL",
        "SPLICE",
        "PROVIDE_BUFFERS",
        "REMOVE_BUFFERS",
        "TEE",
        "SHUTDOWN",
        "RENAMEAT",
        "UNLINKAT",
        "MKDIRAT",
        "SYMLINKAT",
        "LINKAT",
        "MSG_RING",
        "FSETXATTR",
        "SETXATTR",
        "FGETXATTR",
        "GETXATTR",
        "SOCKET",
        "URING_CMD",
        "SEND_ZC",
        "SENDMSG_ZC",
        "READ_MULTISHOT",
        "WAITID",
        "FUTEX_WAIT",
        "FUTEX_WAKE",
        "FUTEX_WAITV",
        "FIXED_FD_INSTALL",
        "FTRUNCATE",
        "BIND",
        "LISTEN",
    ];
    NAMES.get(usize::from(number)).map_or_else(|| number.to_string(), |name| format!("IORING_OP_{name}"))
}

/// A terminal by its device number as `st_rdev` encodes it in 16 bits (`admin-guide/devices.txt`): `pts0`, `tty1`.
#[must_use]
pub fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8, device & 0xff);
    match (major, minor) {
        (0, 0) => String::new(),
        (136..=143, _) => format!("pts{}", (major - 136) * 256 + minor),
        (4, 0..=63) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 0) => "tty".to_owned(),
        (5, 1) => "console".to_owned(),
        _ => format!("{major}:{minor}"),
    }
}
