//! Numbers of the system-call interface by their names.
//!
//! Sources: errors by the C library's strerror(3); system calls by the crate `syscalls`, which is made from the kernel's own tables; all
//! others from the UAPI headers that each table names, as of Linux 6.18. These numbers are the interface: they are for ever, and what is
//! newer than a table is shown as its number, never as another name.

mod calls;
mod files;
mod network;
mod rights;

use std::fmt::Write as _;

pub use calls::{bpf_command, error, io_uring_opcode, signal, syscall, terminal};
pub use files::{at_flags, memfd_flags, mount_flags, open_flags, rename_flags};
pub use network::{dns_rcode, dns_type, domain, protocol, socket_type};
pub use rights::{capabilities, capability, namespace_flags, ptrace};

fn listed(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(",")
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
