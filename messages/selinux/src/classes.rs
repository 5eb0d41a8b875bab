//! The classes and permissions of the policy in force, and what the kernel calls capabilities.
//!
//! Decision: what the policy in force does not have is not written into the module, for it would not compile; and what a policy does not
//! know the kernel does not ask it about, so that nothing could deny it.

use std::collections::{BTreeMap, BTreeSet};

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
