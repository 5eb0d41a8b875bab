//! The classes and permissions of the policy in force, and what the kernel calls capabilities.
//!
//! Decision: what the policy in force does not have is not written into the module, for it would not compile; and what a policy does not
//! know the kernel does not ask it about, so that nothing could deny it.

use std::collections::{BTreeMap, BTreeSet};

/// Capabilities in the order of their numbers: permissions of `capability` (0 to 31) and `capability2`.
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Numbers of `capability`; the others are of `capability2`.
const OF_THE_FIRST_CLASS: usize = 32;

/// The classes in which a capability is asked for, of the first user namespace and of others.
pub(crate) fn capability_classes(number: usize) -> [&'static str; 2] {
    if number < OF_THE_FIRST_CLASS { ["capability", "cap_userns"] } else { ["capability2", "cap2_userns"] }
}

/// What the policy in force knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Classes {
    /// Permissions by class.
    pub permissions: BTreeMap<String, BTreeSet<String>>,
    /// Sockets of each family, and ICMP and SCTP, have classes of their own (the policy capability `extended_socket_class`).
    pub extended_sockets: bool,
}

impl Classes {
    /// Whether the policy is asked about the permission.
    #[must_use]
    pub fn has(&self, class: &str, permission: &str) -> bool {
        self.permissions.get(class).is_some_and(|permissions| permissions.contains(permission))
    }
}
