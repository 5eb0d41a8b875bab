//! Finding the kernel's own file systems by mountinfo, and mounting those that are missing.
//!
//! The unified cgroup hierarchy is found, never mounted: where it is says which hierarchy the container runtime uses.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{fanotify::mounts::MountTable, sys};

/// A file system that is needed and may have to be mounted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PseudoFs {
    pub kind: &'static str,
    pub standard: &'static str,
}

pub(crate) const BPF: PseudoFs = PseudoFs { kind: "bpf", standard: "/sys/fs/bpf" };
pub(crate) const TRACE: PseudoFs = PseudoFs { kind: "tracefs", standard: "/sys/kernel/tracing" };
pub(crate) const SECURITY: PseudoFs = PseudoFs { kind: "securityfs", standard: "/sys/kernel/security" };

pub(crate) const SELINUX: PseudoFs = PseudoFs { kind: "selinuxfs", standard: "/sys/fs/selinux" };

/// Mount points of a file system type, in the kernel's order. Names are bytes: whoever may mount may choose any, and one that is
/// no UTF-8 must not hide the others.
fn mounted(kind: &str, mountinfo: &[u8]) -> Vec<PathBuf> {
    let table = MountTable::parse(mountinfo);
    let of_kind = table.mounts().iter().filter(|mount| mount.kind == kind.as_bytes());
    of_kind.map(|mount| PathBuf::from(OsStr::from_bytes(&mount.mountpoint))).collect()
}

/// Where it is mounted; mounts it at its standard place where it is not.
pub(crate) fn ensure(file_system: PseudoFs) -> io::Result<PathBuf> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    let standard = Path::new(file_system.standard);
    let points = mounted(file_system.kind, &mountinfo);
    if points.iter().any(|point| point == standard) {
        return Ok(standard.to_path_buf());
    }
    if let Some(point) = points.into_iter().next() {
        return Ok(point);
    }
    sys::mount(file_system.kind, standard)?;
    Ok(standard.to_path_buf())
}

/// Whether `path`, which need not be there, lies on a file system of this type.
pub(crate) fn is_below(file_system: PseudoFs, path: &Path) -> io::Result<bool> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    let points = mounted(file_system.kind, &mountinfo);
    // The nearest directory that is there, links resolved.
    let there = path.ancestors().find_map(|ancestor| fs::canonicalize(ancestor).ok());
    Ok(there.is_some_and(|there| points.iter().any(|point| there.starts_with(point))))
}

/// Where the unified cgroup hierarchy is mounted.
pub(crate) fn unified_cgroups() -> io::Result<Option<PathBuf>> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    Ok(mounted("cgroup2", &mountinfo).into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_a_mountpoint_that_is_no_utf8_hides_no_other() {
        let text = b"20 1 0:20 / /mnt/\xff\xfe rw - cgroup2 none rw\n21 1 0:21 / /sys/fs/cgroup rw shared:9 - cgroup2 none rw\n";
        let points = mounted("cgroup2", text);
        assert_eq!(points, [Path::new(OsStr::from_bytes(b"/mnt/\xff\xfe")), Path::new("/sys/fs/cgroup")]);
        assert!(mounted("bpf", text).is_empty());
    }
}
