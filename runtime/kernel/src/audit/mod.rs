//! The kernel's audit, in which LSMs tell of what they deny, and records of that like those of the kernel's programs.
//!
//! ```text
//!   kernel ──(multicast)──► events: an LSM's text ──► records ──► the node
//!                                                      │  ▲ whose line, under which policy, by which rule
//!                              what is lost: account ◄─┘  └── an LSM's side ([`Denials`]): AppArmor's profiles,
//!                                                             SELinux's users
//! ```
//!
//! Decision: a reader for each LSM, not one for all: of those that deny and tell here, a kernel has one active.

mod account;
pub(crate) mod body;
mod events;
mod held;
mod records;

use std::{fs, io, os::unix::fs::MetadataExt as _};

pub(crate) use account::{APPARMOR, Account, SELINUX};
#[cfg(test)]
pub(crate) use events::forged;
pub use events::{AuditEvents, AuditLosses, Heard};
pub(crate) use held::{Ended, Held};
pub(crate) use records::Act;
pub use records::{AuditRecords, Denials};

/// The inode of the PID namespace that all others are below (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Whether denials would be heard: the kernel sends its audit records to the host's network namespace alone, and says so to nobody who listens
/// in another. What is denied and told to nobody is no means to hold anything.
///
/// # Errors
/// Why not, in words for people.
pub(crate) fn is_heard() -> Result<(), String> {
    let own = network_namespace("self");
    heard_from(sees_all_processes(), own.as_ref().ok(), network_namespace("1").as_ref().ok())?;
    AuditEvents::open().map(drop).map_err(|error| format!("the kernel's audit cannot be heard: {error}"))
}

/// Device and inode: of a namespace its identity.
fn network_namespace(process: &str) -> io::Result<(u64, u64)> {
    fs::metadata(format!("/proc/{process}/ns/net")).map(|status| (status.dev(), status.ino()))
}

/// `first`: that of process 1, which is the host's only where all processes are seen.
fn heard_from(sees_all: bool, own: Option<&(u64, u64)>, first: Option<&(u64, u64)>) -> Result<(), String> {
    if !sees_all {
        return Err(
            "denials name processes by the host's numbers: run the node in its PID namespace (hostPID)".to_owned()
        );
    }
    if own.is_none() || own != first {
        return Err(
            "denials are told in the host's network namespace alone: run the node there (hostNetwork)".to_owned()
        );
    }
    Ok(())
}

/// Whether `/proc` has the processes of the whole host.
pub(crate) fn sees_all_processes() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|status| status.ino() == FIRST_PID_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_denials_are_heard_only_in_the_namespaces_of_the_host() {
        let (host, pod) = ((4, 7), (4, 8));
        assert_eq!(heard_from(true, Some(&host), Some(&host)), Ok(()));
        for (sees_all, own, first) in [
            (true, Some(&pod), Some(&host)),
            (true, None, None),
            (true, Some(&host), None),
            // A container's first process is in its own.
            (false, Some(&pod), Some(&pod)),
        ] {
            assert!(heard_from(sees_all, own, first).is_err(), "{sees_all} {own:?} {first:?}");
        }
    }
}
