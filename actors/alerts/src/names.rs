//! Numbers of the system-call interface by their names.
//!
//! Sources: errors by the C library's strerror(3); system calls by the crate `syscalls`, which is made from the kernel's own tables; all
//! others from the UAPI headers that each table names, as of Linux 6.18. These numbers are the interface: they are for ever, and what is
//! newer than a table is shown as its number, never as another name. Flags that differ between machines (`O_*`) are x86-64's and arm64's.

use std::fmt::Write as _;

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

/// `linux/socket.h` (kernel's own, `AF_*`).
#[must_use]
pub fn domain(number: u8) -> String {
    const NAMES: [&str; 46] = [
        "UNSPEC",
        "UNIX",
        "INET",
        "AX25",
        "IPX",
        "APPLETALK",
        "NETROM",
        "BRIDGE",
        "ATMPVC",
        "X25",
        "INET6",
        "ROSE",
        "DECnet",
        "NETBEUI",
        "SECURITY",
        "KEY",
        "NETLINK",
        "PACKET",
        "ASH",
        "ECONET",
        "ATMSVC",
        "RDS",
        "SNA",
        "IRDA",
        "PPPOX",
        "WANPIPE",
        "LLC",
        "IB",
        "MPLS",
        "CAN",
        "TIPC",
        "BLUETOOTH",
        "IUCV",
        "RXRPC",
        "ISDN",
        "PHONET",
        "IEEE802154",
        "CAIF",
        "ALG",
        "NFC",
        "VSOCK",
        "KCM",
        "QIPCRTR",
        "SMC",
        "XDP",
        "MCTP",
    ];
    NAMES.get(usize::from(number)).map_or_else(|| number.to_string(), |name| format!("AF_{name}"))
}

/// `linux/net.h`, `SOCK_*`.
#[must_use]
pub fn socket_type(number: u8) -> String {
    let name = match number {
        1 => "STREAM",
        2 => "DGRAM",
        3 => "RAW",
        4 => "RDM",
        5 => "SEQPACKET",
        6 => "DCCP",
        10 => "PACKET",
        other => return other.to_string(),
    };
    format!("SOCK_{name}")
}

/// `linux/in.h`, `IPPROTO_*`, of Internet sockets; the low byte of MPTCP's 262 is 6, as TCP's.
#[must_use]
pub fn protocol(domain: u8, number: u8) -> String {
    let name = match (domain, number) {
        (2 | 10, 1) => "ICMP",
        (2 | 10, 2) => "IGMP",
        (2 | 10, 4) => "IPIP",
        (2 | 10, 6) => "TCP",
        (2 | 10, 17) => "UDP",
        (2 | 10, 33) => "DCCP",
        (2 | 10, 41) => "IPV6",
        (2 | 10, 47) => "GRE",
        (2 | 10, 50) => "ESP",
        (2 | 10, 51) => "AH",
        (2 | 10, 58) => "ICMPV6",
        (2 | 10, 132) => "SCTP",
        (2 | 10, 136) => "UDPLITE",
        (2 | 10, 255) => "RAW",
        (_, other) => return other.to_string(),
    };
    name.to_owned()
}

/// `linux/capability.h`, `CAP_*`.
#[must_use]
pub fn capability(number: u32) -> String {
    const NAMES: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    NAMES.get(at).map_or_else(|| number.to_string(), |name| format!("CAP_{name}"))
}

/// The capabilities of a set by commas; `none` and `all` (of those that have a name) where that is it.
#[must_use]
pub fn capabilities(set: u64) -> String {
    const ALL: u64 = (1 << 41) - 1;
    match set {
        0 => "none".to_owned(),
        ALL => "all".to_owned(),
        _ => listed((0..64).filter(|bit| set >> bit & 1 == 1).map(capability)),
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(",")
}

/// `linux/ptrace.h`, `PTRACE_*`.
#[must_use]
pub fn ptrace(request: u32) -> String {
    let name = match request {
        0 => "TRACEME",
        1 => "PEEKTEXT",
        2 => "PEEKDATA",
        3 => "PEEKUSER",
        4 => "POKETEXT",
        5 => "POKEDATA",
        6 => "POKEUSER",
        7 => "CONT",
        8 => "KILL",
        9 => "SINGLESTEP",
        16 => "ATTACH",
        17 => "DETACH",
        24 => "SYSCALL",
        0x4206 => "SEIZE",
        0x4207 => "INTERRUPT",
        other => return other.to_string(),
    };
    format!("PTRACE_{name}")
}

/// Names of bits, in order, and what no name is known for as a number; `0` for none.
fn bits(value: u64, names: &[(u64, &str)]) -> String {
    let mut text = String::new();
    let mut rest = value;
    for (bit, name) in names {
        if rest & bit == *bit {
            rest &= !bit;
            text.push_str(if text.is_empty() { "" } else { "|" });
            text.push_str(name);
        }
    }
    if rest != 0 || text.is_empty() {
        text.push_str(if text.is_empty() { "" } else { "|" });
        // Writing to a string cannot fail.
        let _ = if rest == 0 { write!(text, "0") } else { write!(text, "{rest:#x}") };
    }
    text
}

/// `asm-generic/fcntl.h`, and arm64's and x86's `asm/fcntl.h` where they differ: `O_*`. O_SYNC holds O_DSYNC, O_TMPFILE holds O_DIRECTORY.
#[must_use]
pub fn open_flags(flags: u32) -> String {
    const ARM: bool = cfg!(target_arch = "aarch64");
    const DIRECT: u64 = if ARM { 0o200_000 } else { 0o40_000 };
    const LARGEFILE: u64 = if ARM { 0o400_000 } else { 0o100_000 };
    const DIRECTORY: u64 = if ARM { 0o40_000 } else { 0o200_000 };
    const NOFOLLOW: u64 = if ARM { 0o100_000 } else { 0o400_000 };
    const NAMES: [(u64, &str); 16] = [
        (0o100, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o400, "O_NOCTTY"),
        (0o1000, "O_TRUNC"),
        (0o2000, "O_APPEND"),
        (0o4000, "O_NONBLOCK"),
        (0o4_010_000, "O_SYNC"),
        (0o10_000, "O_DSYNC"),
        (0o20_000, "O_ASYNC"),
        (DIRECT, "O_DIRECT"),
        (LARGEFILE, "O_LARGEFILE"),
        (0o20_000_000 | DIRECTORY, "O_TMPFILE"),
        (DIRECTORY, "O_DIRECTORY"),
        (NOFOLLOW, "O_NOFOLLOW"),
        (0o1_000_000, "O_NOATIME"),
        (0o2_000_000, "O_CLOEXEC"),
    ];
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(flags & 3) as usize];
    let rest = u64::from(flags & !3);
    if rest & 0o10_000_000 != 0 {
        // O_PATH ignores the access mode.
        return format!("O_PATH|{}", bits(rest & !0o10_000_000, &NAMES)).trim_end_matches("|0").to_owned();
    }
    if rest == 0 { access.to_owned() } else { format!("{access}|{}", bits(rest, &NAMES)) }
}

/// `linux/mount.h`, `MS_*` and of umount2 `MNT_*`.
#[must_use]
pub fn mount_flags(flags: u64, umount: bool) -> String {
    const UMOUNT: [(u64, &str); 4] = [(1, "MNT_FORCE"), (2, "MNT_DETACH"), (4, "MNT_EXPIRE"), (8, "UMOUNT_NOFOLLOW")];
    const MOUNT: [(u64, &str); 21] = [
        (1, "MS_RDONLY"),
        (2, "MS_NOSUID"),
        (4, "MS_NODEV"),
        (8, "MS_NOEXEC"),
        (16, "MS_SYNCHRONOUS"),
        (32, "MS_REMOUNT"),
        (64, "MS_MANDLOCK"),
        (128, "MS_DIRSYNC"),
        (256, "MS_NOSYMFOLLOW"),
        (1024, "MS_NOATIME"),
        (2048, "MS_NODIRATIME"),
        (4096, "MS_BIND"),
        (8192, "MS_MOVE"),
        (16384, "MS_REC"),
        (32768, "MS_SILENT"),
        (1 << 16, "MS_POSIXACL"),
        (1 << 17, "MS_UNBINDABLE"),
        (1 << 18, "MS_PRIVATE"),
        (1 << 19, "MS_SLAVE"),
        (1 << 20, "MS_SHARED"),
        (1 << 21, "MS_RELATIME"),
    ];
    bits(flags, if umount { &UMOUNT } else { &MOUNT })
}

/// `linux/sched.h`, `CLONE_NEW*`.
#[must_use]
pub fn namespace_flags(flags: u64) -> String {
    const NAMES: [(u64, &str); 12] = [
        (0x80, "CLONE_NEWTIME"),
        (0x200, "CLONE_FS"),
        (0x400, "CLONE_FILES"),
        (0x800, "CLONE_SIGHAND"),
        (0x10000, "CLONE_THREAD"),
        (0x20000, "CLONE_NEWNS"),
        (0x40000, "CLONE_SYSVSEM"),
        (0x0200_0000, "CLONE_NEWCGROUP"),
        (0x0400_0000, "CLONE_NEWUTS"),
        (0x0800_0000, "CLONE_NEWIPC"),
        (0x1000_0000, "CLONE_NEWUSER"),
        (0x2000_0000, "CLONE_NEWPID"),
    ];
    let net = flags & 0x4000_0000 != 0;
    let rest = flags & !0x4000_0000;
    match (net, rest) {
        (true, 0) => "CLONE_NEWNET".to_owned(),
        (true, rest) => format!("{}|CLONE_NEWNET", bits(rest, &NAMES)),
        (false, rest) => bits(rest, &NAMES),
    }
}

/// `linux/memfd.h`, `MFD_*`.
#[must_use]
pub fn memfd_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 5] =
        [(1, "MFD_CLOEXEC"), (2, "MFD_ALLOW_SEALING"), (4, "MFD_HUGETLB"), (8, "MFD_NOEXEC_SEAL"), (16, "MFD_EXEC")];
    bits(u64::from(flags), &NAMES)
}

/// `linux/fcntl.h`, `AT_*` of the calls that change names and modes.
#[must_use]
pub fn at_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 4] = [
        (0x100, "AT_SYMLINK_NOFOLLOW"),
        (0x200, "AT_REMOVEDIR"),
        (0x400, "AT_SYMLINK_FOLLOW"),
        (0x1000, "AT_EMPTY_PATH"),
    ];
    bits(u64::from(flags), &NAMES)
}

/// `linux/fs.h`, `RENAME_*`.
#[must_use]
pub fn rename_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 3] = [(1, "RENAME_NOREPLACE"), (2, "RENAME_EXCHANGE"), (4, "RENAME_WHITEOUT")];
    bits(u64::from(flags), &NAMES)
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

/// DNS types by IANA's registry (DNS parameters, resource record types).
#[must_use]
pub fn dns_type(number: u16) -> String {
    let name = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

/// DNS response codes by IANA's registry (DNS parameters, RCODEs).
#[must_use]
pub fn dns_rcode(number: u8) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE",
    ];
    NAMES.get(usize::from(number)).map_or_else(|| number.to_string(), |name| (*name).to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_are_those_of_this_machines_headers() {
        assert_eq!((error(13).as_str(), error(1).as_str()), ("Permission denied", "Operation not permitted"));
        assert_eq!(error(2), "No such file or directory");
        assert_eq!(syscall(11, true), "SYS_EXECVE");
        assert_eq!(syscall(9_999, false), "SYS_9999", "no other's name");
        #[cfg(target_arch = "x86_64")]
        assert_eq!((syscall(257, false).as_str(), syscall(257, true).as_str()), ("SYS_OPENAT", "SYS_REMAP_FILE_PAGES"));
        assert_eq!((signal(9), signal(31), signal(34)), ("SIGKILL".into(), "SIGSYS".into(), "34".into()));
        assert_eq!(
            (domain(2), domain(10), domain(16), domain(45)),
            ("AF_INET".into(), "AF_INET6".into(), "AF_NETLINK".into(), "AF_MCTP".into())
        );
        assert_eq!((protocol(2, 6), protocol(16, 6)), ("TCP".into(), "6".into()), "netlink's 6 is not TCP");
        assert_eq!(
            (capability(13), capability(40), capability(41)),
            ("CAP_NET_RAW".into(), "CAP_CHECKPOINT_RESTORE".into(), "41".into())
        );
        assert_eq!(capabilities(1 << 13 | 1 << 21), "CAP_NET_RAW,CAP_SYS_ADMIN");
        assert_eq!(
            (terminal(136 << 8), terminal(137 << 8 | 1), terminal(4 << 8 | 64)),
            ("pts0".into(), "pts257".into(), "ttyS0".into())
        );
    }

    #[test]
    fn unit_names_of_flags_leave_no_bit_out() {
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(0o2_001_101), "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC");
        assert_eq!(open_flags(0o4_010_002), "O_RDWR|O_SYNC");
        assert_eq!(open_flags(0o10_000_000), "O_PATH");
        assert_eq!(open_flags(0x4000_0000), "O_RDONLY|0x40000000", "not known, not dropped");
        assert_eq!(mount_flags(4096 | 16384, false), "MS_BIND|MS_REC");
        assert_eq!(mount_flags(2, true), "MNT_DETACH");
        assert_eq!(namespace_flags(0x6002_0000), "CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWNET");
        assert_eq!((namespace_flags(0), bpf_command(5)), ("0".into(), "BPF_PROG_LOAD".into()));
    }
}
