//! From a process to the cgroup that is its container's identity.
//!
//! Only the unified hierarchy counts (cgroup2; on hybrid hosts the one with id 0 beside the old ones). A cgroup's id is the inode
//! number of its directory: what `bpf_get_current_cgroup_id()` returns.
//!
//! Invariant: the root of the hierarchy is never a container's cgroup, for its policy would be the whole host's.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use palisade_domain::CgroupId;

use crate::mounts::{self, Mount};

/// Why a container's cgroup is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// A file of `/proc` or the cgroup's directory cannot be read; the process may have ended.
    #[error("{path}: {source}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// cgroups(7) promises a `0::` line where cgroup2 is mounted.
    #[error("no unified cgroup (`0::` line) in /proc/{pid}/cgroup")]
    NoUnifiedLine { pid: u32 },
    /// The process outlived its cgroup.
    #[error("the cgroup {0} of the process was removed")]
    Removed(PathBuf),
    /// The process is in the root of the hierarchy.
    #[error(
        "process {pid} is in the root of the unified hierarchy, which holds the host: the runtime gave the container no cgroup"
    )]
    Root { pid: u32 },
    /// The reader's own cgroup namespace hides the path.
    #[error(
        "{0} lies outside the mounted part of the hierarchy: run in the host's cgroup namespace with all of it mounted"
    )]
    NotMounted(PathBuf),
    /// No cgroup2 mount.
    #[error("the unified cgroup hierarchy (cgroup2) is not mounted")]
    NoHierarchy,
}

/// Where cgroup2 is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    root: PathBuf,
    point: PathBuf,
}

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    pub id: CgroupId,
    /// Below the mount, starting with `/`.
    pub path: PathBuf,
}

impl Hierarchy {
    /// The mount of cgroup2 that shows the most of it.
    pub(crate) fn of(mounts: &[Mount]) -> Result<Self, CgroupError> {
        mounts
            .iter()
            .filter(|mount| mount.filesystem == "cgroup2")
            .min_by_key(|mount| mount.root.components().count())
            .map(|mount| Self { root: mount.root.clone(), point: mount.point.clone() })
            .ok_or(CgroupError::NoHierarchy)
    }

    /// The container's cgroup, from its init process. `cgroups_path` is `linux.cgroupsPath` of its OCI spec.
    pub(crate) fn of_container(&self, pid: u32, cgroups_path: Option<&str>) -> Result<Cgroup, CgroupError> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let lines = fs::read(&file).map_err(|source| CgroupError::Unreadable { path: file, source })?;
        let of_init = unified_path(&lines).ok_or(CgroupError::NoUnifiedLine { pid })??;
        let path = container_directory(&of_init, cgroups_path);
        if path == Path::new("/") {
            return Err(CgroupError::Root { pid });
        }
        let directory = self.directory(path).ok_or_else(|| CgroupError::NotMounted(path.to_owned()))?;
        match fs::metadata(&directory) {
            Ok(metadata) => Ok(Cgroup { id: CgroupId(metadata.ino()), path: path.to_owned() }),
            Err(source) => Err(CgroupError::Unreadable { path: directory, source }),
        }
    }

    /// The path of what is mounted, from the hierarchy's root.
    pub(crate) fn top(&self) -> &Path {
        &self.root
    }

    #[cfg(test)]
    pub(crate) fn at(point: &Path) -> Self {
        Self { root: PathBuf::from("/"), point: point.to_owned() }
    }

    /// Where a cgroup's directory is; `None` outside of what is mounted.
    pub(crate) fn directory(&self, path: &Path) -> Option<PathBuf> {
        if path.components().any(|component| component == Component::ParentDir) {
            return None;
        }
        path.strip_prefix(&self.root).ok().map(|below| self.point.join(below))
    }
}

/// The hierarchy of this process' mount namespace.
pub(crate) fn mounted() -> Result<(Hierarchy, Vec<Mount>), CgroupError> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let mountinfo = fs::read(&path).map_err(|source| CgroupError::Unreadable { path, source })?;
    let mounts = mounts::parse(&mountinfo);
    Ok((Hierarchy::of(&mounts)?, mounts))
}

/// The path of the `0::` line of `/proc/<pid>/cgroup` (cgroups(7)); `None` where there is no such line.
fn unified_path(lines: &[u8]) -> Option<Result<PathBuf, CgroupError>> {
    let path = lines.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(match path.strip_suffix(b" (deleted)") {
        Some(removed) => Err(CgroupError::Removed(PathBuf::from(OsStr::from_bytes(removed)))),
        None => Ok(PathBuf::from(OsStr::from_bytes(path))),
    })
}

/// The directory that the runtime made, where init has since moved itself into a child of it (systemd in a container does).
///
/// `cgroups_path` is a path (cgroupfs driver), perhaps below the runtime's own cgroup, or `slice:prefix:name` (systemd driver).
fn container_directory<'a>(of_init: &'a Path, cgroups_path: Option<&str>) -> &'a Path {
    let made: PathBuf = match cgroups_path.map(|path| (path, path.split(':').collect::<Vec<_>>())) {
        None | Some(("", _)) => return of_init,
        Some((_, parts)) if parts.len() == 3 => PathBuf::from(systemd_unit(parts[1], parts[2])),
        Some((path, _)) => PathBuf::from(path.trim_matches('/')),
    };
    if made.as_os_str().is_empty() {
        return of_init;
    }
    of_init.ancestors().find(|ancestor| ancestor.ends_with(&made)).unwrap_or(of_init)
}

/// runc's naming of the unit (`libcontainer/cgroups/systemd`, `getUnitName`).
fn systemd_unit(prefix: &str, name: &str) -> String {
    match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(root: &str, point: &str) -> Hierarchy {
        Hierarchy { root: root.into(), point: point.into() }
    }

    #[test]
    fn unit_cgroup_takes_the_unified_line_of_a_hybrid_host() {
        let lines = b"9:name=systemd:/x\n4:memory:/default/c1\n1:cpu:/default/c1\n0::/default/c1\n";
        assert_eq!(unified_path(lines).unwrap().unwrap(), Path::new("/default/c1"));
    }

    #[test]
    fn unit_cgroup_takes_the_only_line_of_a_unified_host() {
        assert_eq!(
            unified_path(b"0::/kubepods.slice/a.scope\n").unwrap().unwrap(),
            Path::new("/kubepods.slice/a.scope")
        );
    }

    #[test]
    fn unit_cgroup_without_unified_line_is_said() {
        assert!(unified_path(b"4:memory:/default/c1\n10::/no\n").is_none());
        assert!(unified_path(b"").is_none());
    }

    #[test]
    fn unit_cgroup_that_was_removed_is_no_identity() {
        assert!(
            matches!(unified_path(b"0::/a/b (deleted)\n"), Some(Err(CgroupError::Removed(path))) if path == Path::new("/a/b"))
        );
    }

    #[test]
    fn unit_cgroup_hierarchy_prefers_the_mount_of_the_whole() {
        let mounts = mounts::parse(
            b"1 0 0:1 /part /a rw - cgroup2 x rw\n2 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 x rw\n3 0 0:2 / /c rw - cgroup x rw\n",
        );
        assert_eq!(Hierarchy::of(&mounts).unwrap(), hierarchy("/", "/sys/fs/cgroup/unified"));
        assert!(matches!(Hierarchy::of(&mounts[2..]), Err(CgroupError::NoHierarchy)));
    }

    #[test]
    fn unit_cgroup_directory_is_below_the_mount_or_unknown() {
        let whole = hierarchy("/", "/sys/fs/cgroup");
        assert_eq!(whole.directory(Path::new("/a/b")), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(whole.directory(Path::new("/../b")), None, "a path outside the reader's cgroup namespace");
        let part = hierarchy("/pods", "/mnt");
        assert_eq!(part.directory(Path::new("/pods/x")), Some("/mnt/x".into()));
        assert_eq!(part.directory(Path::new("/other/x")), None);
    }

    #[test]
    fn unit_cgroup_of_a_container_is_the_one_its_runtime_made() {
        let directory = |init: &'static str, spec| container_directory(Path::new(init), spec).to_str().unwrap();
        assert_eq!(directory("/default/c1", None), "/default/c1");
        assert_eq!(directory("/default/c1", Some("")), "/default/c1");
        assert_eq!(directory("/default/c1", Some("/default/c1")), "/default/c1");
        assert_eq!(directory("/default/c1/init.scope", Some("/default/c1")), "/default/c1");
        assert_eq!(directory("/outer/default/c1/x/y", Some("/default/c1")), "/outer/default/c1");
        assert_eq!(
            directory("/default/c11", Some("/default/c1")),
            "/default/c11",
            "a longer name is another container"
        );
        let systemd = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-c1.scope/init.scope";
        assert_eq!(
            directory(systemd, Some("kubepods-pod1.slice:cri-containerd:c1")),
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-c1.scope"
        );
    }

    #[test]
    fn unit_cgroup_units_are_named_as_runc_names_them() {
        assert_eq!(systemd_unit("cri-containerd", "abc"), "cri-containerd-abc.scope");
        assert_eq!(systemd_unit("", "abc"), "abc.scope");
        assert_eq!(systemd_unit("x", "abc.slice"), "abc.slice");
    }
}
