//! What workloads are kept from of Palisade itself (README.md), and what not.

use std::path::Path;

use palisade_world::KernelMatrix;

use super::{Check, Health};

const NAME: &str = "self-protection";

/// On this host.
pub(super) fn check(matrix: &KernelMatrix) -> Check {
    // What cannot be read is not there for workloads either.
    of(matrix, &std::fs::read_to_string(Path::new("/proc/self/mounts")).unwrap_or_default())
}

fn of(matrix: &KernelMatrix, mounts: &str) -> Check {
    if !matrix.judges_on_hooks() {
        let advice = "boot with `bpf` in the kernel's `lsm=` list, or give no container that you do not trust the host's processes, \
                      BPF file system, cgroups or CAP_BPF";
        let found =
            "none without hooks: a workload with the rights for it reaches the node's maps, links, pins and process";
        return Check::of(NAME, Health::Weak, found, advice);
    }
    let first = hierarchies(mounts);
    if first.is_empty() {
        return Check::good(NAME, "workloads are kept from the node");
    }
    let found = format!(
        "workloads are kept from the node, but for its cgroups of version 1 ({}): who may write the host's there freezes, moves or starves it",
        first.join(", ")
    );
    let advice = "boot with `systemd.unified_cgroup_hierarchy=1`, or give no container the host's cgroups to write";
    Check::of(NAME, Health::Weak, found, advice)
}

/// Where cgroups of version 1 are mounted.
fn hierarchies(mounts: &str) -> Vec<&str> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter_map(|fields| (fields.get(2) == Some(&"cgroup")).then(|| fields[1])).collect()
}

#[cfg(test)]
mod tests {
    use palisade_world::{Capability, CapabilityState};

    use super::*;

    #[test]
    fn unit_doctor_says_what_of_itself_is_not_kept_from_workloads() {
        let matrix = |hooks: &[Capability]| KernelMatrix {
            release: "6.1".into(),
            lsms: Vec::new(),
            capabilities: hooks.iter().map(|hook| (*hook, CapabilityState::Available)).collect(),
            families: [].into(),
        };
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let hybrid = format!("{unified}cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n");
        let with = matrix(&[Capability::BpfLsm]);
        assert_eq!(of(&with, unified).health, Health::Good);
        let weak = of(&with, &hybrid);
        assert!(weak.health == Health::Weak && weak.found.contains("(/sys/fs/cgroup/freezer)"), "{weak:?}");
        let none = of(&matrix(&[]), unified);
        assert!(none.health == Health::Weak && none.found.starts_with("none"), "{none:?}");
    }
}
