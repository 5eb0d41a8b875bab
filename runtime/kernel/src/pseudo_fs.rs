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

/// Where a path, which need not be there, lies by a type of file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Below,
    /// It is where one is mounted.
    Root,
    Elsewhere,
}

/// Whether `path` lies on a file system of this type.
pub(crate) fn place_in(file_system: PseudoFs, path: &Path) -> io::Result<Place> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    Ok(place_among(&mounted(file_system.kind, &mountinfo), path))
}

fn place_among(points: &[PathBuf], path: &Path) -> Place {
    // The nearest directory that is there, links resolved.
    let there = path.ancestors().find_map(|ancestor| Some((ancestor, fs::canonicalize(ancestor).ok()?)));
    let Some((ancestor, there)) = there else { return Place::Elsewhere };
    match points.iter().any(|point| there.starts_with(point)) {
        false => Place::Elsewhere,
        true if ancestor == path && points.contains(&there) => Place::Root,
        true => Place::Below,
    }
}

/// Whether what lies at `path` is on no file system that the host's mount namespace has: it ends with ours. Where the host's cannot be
/// looked at, nothing is said.
pub(crate) fn is_ours_alone(file_system: PseudoFs, path: &Path) -> bool {
    let (Ok(own), Ok(hosts)) = (fs::read("/proc/self/mountinfo"), fs::read("/proc/1/mountinfo")) else { return false };
    fs::canonicalize(path).is_ok_and(|path| is_missing_among(file_system.kind, &own, &hosts, &path))
}

fn is_missing_among(kind: &str, own: &[u8], hosts: &[u8], path: &Path) -> bool {
    let (own, hosts) = (MountTable::parse(own), MountTable::parse(hosts));
    let holds = |mountpoint: &[u8]| path.starts_with(OsStr::from_bytes(mountpoint));
    let of_path = own.mounts().iter().filter(|mount| mount.kind == kind.as_bytes() && holds(&mount.mountpoint));
    let device = of_path.max_by_key(|mount| mount.mountpoint.len()).map(|mount| mount.dev);
    device.is_some_and(|device| hosts.mounts().iter().all(|mount| mount.dev != device))
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

    #[test]
    fn unit_a_place_is_told_from_the_mountpoint_above_it_whatever_it_is_called() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let point = fs::canonicalize(root.path()).expect("there");
        let named = |name: &str| place_among(std::slice::from_ref(&point), &point.join(name));
        fs::create_dir(point.join("palisade")).expect("made");
        std::os::unix::fs::symlink(".", point.join("link")).expect("linked");
        assert_eq!([named("palisade"), named("none/yet")], [Place::Below; 2]);
        assert_eq!([named(""), named("palisade/.."), named("link")], [Place::Root; 3]);
        assert_eq!(place_among(&[point.join("palisade")], &point), Place::Elsewhere);
    }

    #[test]
    fn unit_a_file_system_that_the_host_does_not_have_ends_with_our_mount_namespace() {
        let own = b"20 1 0:20 / /sys/fs/bpf rw - bpf none rw\n21 20 0:21 / /sys/fs/bpf/own rw - bpf none rw\n";
        let hosts = b"30 1 0:20 / /sys/fs/bpf rw - bpf none rw\n";
        let is_missing = |path: &str| is_missing_among("bpf", own, hosts, Path::new(path));
        assert!(!is_missing("/sys/fs/bpf/palisade"));
        assert!(is_missing("/sys/fs/bpf/own/palisade"));
        assert!(!is_missing("/elsewhere"), "on none that we have, either");
    }
}
