//! `/proc/<pid>/mountinfo`, as far as containers need it: where the unified cgroups are, and where a container's root is mounted.
//!
//! Format: proc_pid_mountinfo(5). Names are bytes; space, tab, newline and backslash come as octal escapes.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The directory of the file system that is seen at `point`.
    pub root: PathBuf,
    /// Where it is seen, from the reader's root.
    pub point: PathBuf,
    /// `overlay`, `cgroup2`, ...
    pub filesystem: String,
}

/// All mounts, in the kernel's order (later ones cover earlier ones). Lines of another form are passed over: the kernel writes none.
pub(crate) fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// `36 35 98:0 /root /point options [optional fields] - type source super-options`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    let filesystem = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { root, point, filesystem: String::from_utf8_lossy(filesystem).into_owned() })
}

/// `\040` is a space.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mountpoint of a container's root file system on the host, which containerd makes at `.../<namespace>/<id>/rootfs` in its
/// state directory; `None` where it has none of its own (`ctr run --rootfs`) or lies in another mount namespace.
pub(crate) fn root_of_container(mounts: &[Mount], runtime_namespace: &str, id: &str) -> Option<PathBuf> {
    let bundle_root = Path::new(crate::oci::BUNDLES).join(runtime_namespace).join(id).join("rootfs");
    mounts.iter().rev().find(|mount| mount.point.ends_with(&bundle_root)).map(|mount| mount.point.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"25 20 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        27 25 0:24 / /sys/fs/cgroup/unified rw,relatime shared:7 master:2 - cgroup2 cgroup2 rw\n\
        90 20 0:50 / /run/c\\040d/io.containerd.runtime.v2.task/k8s.io/abc/rootfs rw - overlay overlay rw,lowerdir=/x\n";

    #[test]
    fn unit_mounts_are_read_with_optional_fields_and_escapes() {
        let mounts = parse(HYBRID);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[2].filesystem, "cgroup2");
        assert_eq!(mounts[2].point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(mounts[3].point, Path::new("/run/c d/io.containerd.runtime.v2.task/k8s.io/abc/rootfs"));
    }

    #[test]
    fn unit_mounts_of_other_forms_are_passed_over() {
        assert_eq!(parse(b""), vec![]);
        assert_eq!(parse(b"garbage\n1 2 3\n36 35 98:0 / /x rw shared:1\n36 35 98:0 / /x rw -\n"), vec![]);
    }

    #[test]
    fn unit_mounts_keep_what_is_no_escape() {
        assert_eq!(unescape(br"a\134b"), Path::new(r"a\b"));
        assert_eq!(unescape(br"a\9b\04"), Path::new(r"a\9b\04"));
    }

    #[test]
    fn unit_mounts_find_a_containers_root_by_namespace_and_id() {
        let mounts = parse(HYBRID);
        assert_eq!(root_of_container(&mounts, "k8s.io", "abc"), Some(mounts[3].point.clone()));
        assert_eq!(root_of_container(&mounts, "default", "abc"), None);
        assert_eq!(root_of_container(&mounts, "k8s.io", "bc"), None);
    }
}
