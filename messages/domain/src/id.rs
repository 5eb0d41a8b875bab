//! Identifiers. Newtypes, so that a slot is never passed where a cgroup is wanted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A workload's dense number in the kernel maps. 0 is the host outside containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// The host outside containers.
    pub const HOST: Self = Self(0);
    /// Whoever is in a place of containers and was not admitted, or not yet: the last number, which no workload gets.
    pub const UNKNOWN: Self = Self(4095);
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The kernel's id of a cgroup of the unified hierarchy: the inode number of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// The runtime's id of a container, as the container runtime spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a policy set in force; grows by one with each accepted change, 0 before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The content hash (BLAKE3) of a compiled policy; equal rules have equal ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    /// The first 12 hex digits: enough for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Wall-clock time in nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// RFC 3339 with microseconds, as KubeArmor writes it: `2026-11-25T21:37:41.000123Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (seconds, microseconds) = (self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000);
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microseconds:06}Z")
    }
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap day is a year's last; 400 of them
/// are 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // since 0000-03-01
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Which document a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace, empty for kinds that have none.
    pub namespace: String,
    /// Its `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{:?}/{}", self.kind, self.name)
        } else {
            write!(f, "{:?}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// The kinds of policy documents that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `security.kubearmor.com/v1`, namespaced.
    KubeArmorPolicy,
    /// `security.kubearmor.com/v1`, for workloads of the namespaces that it selects.
    KubeArmorClusterPolicy,
    /// `security.kubearmor.com/v1`, for hosts.
    KubeArmorHostPolicy,
    /// `security.kubearmor.com/v1`, packets of hosts, and of workloads of a namespace.
    KubeArmorNetworkPolicy,
    /// `palisade.dev/v1alpha1`: the families of KubeArmorPolicy and our own.
    PalisadePolicy,
}

#[cfg(test)]
mod tests {
    use super::UnixNanos;

    #[test]
    fn unit_ids_time_reads_as_a_calendar_has_it() {
        let at = |seconds: u64| UnixNanos(seconds * 1_000_000_000 + 123_456).rfc3339();
        // By date -u -d @N.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000123Z"),
            (951_782_400, "2000-02-29T00:00:00.000123Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000123Z"),
            (1_795_642_661, "2026-11-25T21:37:41.000123Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000123Z"),
        ] {
            assert_eq!(at(seconds), text);
        }
    }
}
