//! Which file systems of a container are watched, found by the node (the responder opens nothing).
//!
//! Marks are on whole file systems: a mark on a mount is evaded by `unshare -m`, whose copies are other mounts. The price is
//! that everybody's opens on a watched file system pass the responder. Therefore never:
//! - file systems that hold the host's own directories ([`HOST_DIRECTORIES`]): a stuck responder would take the host along;
//! - kinds whose opens wait for somebody else (FUSE, network): the responder opens each file too, and that somebody may be a
//!   process that waits for the responder;
//! - kernel file systems (`proc`, `sysfs`, `cgroup2` ...): the responder reads procfs itself.
//!
//! Each file system left out is a [`Gap`], told to the user by its mountpoint.

use std::{
    collections::BTreeSet,
    ffi::CString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use palisade_world::Gap;

use super::{
    mounts::{MAX_MOUNTINFO_BYTES, Mount, MountTable, ProcName},
    slots::Live,
    sys,
};

/// What holds one of these on the host is never watched.
///
/// The last three hold the layers of containers: overlayfs opens a layer's file for each of its own, on some kernels with
/// an event of its own, by a mount that no table shows.
const HOST_DIRECTORIES: [&[u8]; 11] = [
    b"/",
    b"/usr",
    b"/etc",
    b"/var",
    b"/run",
    b"/dev",
    b"/dev/shm",
    b"/boot",
    b"/var/lib/containerd",
    b"/var/lib/docker",
    b"/var/lib/containers",
];

/// Local file systems with ordinary opens.
const WATCHED_KINDS: [&[u8]; 15] = [
    b"overlay",
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"bcachefs",
    b"zfs",
    b"tmpfs",
    b"ramfs",
    b"squashfs",
    b"erofs",
    b"vfat",
    b"iso9660",
];

/// Kinds without files that policies speak of.
const KERNEL_KINDS: [&[u8]; 14] = [
    b"proc",
    b"sysfs",
    b"cgroup",
    b"cgroup2",
    b"devpts",
    b"mqueue",
    b"debugfs",
    b"tracefs",
    b"securityfs",
    b"bpf",
    b"pstore",
    b"configfs",
    b"hugetlbfs",
    b"nsfs",
];

/// A place to mark.
#[derive(Debug)]
pub(super) struct Place {
    /// `O_PATH`, somewhere on the file system.
    pub fd: OwnedFd,
    /// The responder keeps the descriptor to end the watch. Not for the container's own overlay, whose mark ends with it, and
    /// whose mount must not be kept busy.
    pub keep: bool,
}

/// What to watch for a container, and what is left out.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// One for each file system.
    pub watched: Vec<Place>,
    /// Left out.
    pub gaps: Vec<Gap>,
}

/// Places of a container before it runs: its root on the host.
pub(super) fn of_root(root: &Path) -> io::Result<Places> {
    let host = host_table()?;
    let fd = sys::open_path(&CString::new(root.as_os_str().as_bytes())?)?;
    let id = sys::status_of(fd.as_fd())?.mount;
    let mount = host.by_id(id).ok_or_else(|| io::Error::other("the root's mount is not in this mount namespace"))?;
    let mut places = Places::default();
    match left_out(mount, &host_devices(&host)) {
        Some(reason) => places.gaps.push(gap(b"/", reason)),
        None => places.watched.push(Place { fd, keep: false }),
    }
    Ok(places)
}

/// Places of a container by its mount table: all of it once it has pivoted, what is below `root` until then.
pub(super) fn of_process(pid: u32, root: Option<&Path>) -> io::Result<Places> {
    let proc = sys::open_path(c"/proc")?;
    let mine = sys::status_at(proc.as_fd(), c"self/ns/mnt")?;
    let theirs = sys::status_at(proc.as_fd(), ProcName::of(pid, "ns/mnt").as_c_str())?;
    if mine.ino == theirs.ino {
        // No namespace of its own: its mounts are the host's.
        return root.map_or_else(|| Ok(Places::default()), of_root);
    }
    let host = host_devices(&host_table()?);
    let text = mountinfo(pid)?;
    let table = MountTable::parse(&text);
    let root = root
        .map(|root| root.as_os_str().as_bytes())
        .filter(|root| table.mounts().iter().any(|m| m.mountpoint == *root));
    let root = root.unwrap_or(b"/");
    let mut places = Places::default();
    let mut seen = BTreeSet::new();
    let view = sys::open_path_at(proc.as_fd(), ProcName::of(pid, "root").as_c_str())?;
    for mount in table.mounts() {
        let Some(name) = within(&mount.mountpoint, root) else { continue };
        if KERNEL_KINDS.contains(&mount.kind.as_slice()) {
            continue;
        }
        if let Some(reason) = left_out(mount, &host) {
            places.gaps.push(gap(name, reason));
            // Without its root there is nothing to tell a container by: a namespace that did not pivot shows the host's mounts.
            if name == b"/" {
                return Ok(places);
            }
        } else if !seen.contains(&mount.dev) {
            let opened = CString::new(mount.mountpoint.as_slice()).map_err(io::Error::from);
            match opened.and_then(|path| sys::open_path_in_root(view.as_fd(), &path, 0)) {
                Ok(fd) if sys::status_of(fd.as_fd())?.mount == mount.id => {
                    seen.insert(mount.dev);
                    places.watched.push(Place { fd, keep: name != b"/" });
                }
                _ => places.gaps.push(gap(name, "it is hidden under another mount")),
            }
        }
    }
    Ok(places)
}

/// Whether the mount is one of this process's namespace, on a file system that is never watched.
pub(super) fn is_of_host(mount: u64) -> io::Result<bool> {
    let host = host_table()?;
    Ok(host.by_id(mount).is_some_and(|mount| host_devices(&host).contains(&mount.dev)))
}

/// The text of a process's mountinfo.
pub(super) fn mountinfo(pid: u32) -> io::Result<Vec<u8>> {
    let proc = sys::open_path(c"/proc")?;
    let file = sys::open_at(proc.as_fd(), ProcName::of(pid, "mountinfo").as_c_str())?;
    sys::read_all(file.as_fd(), MAX_MOUNTINFO_BYTES)
}

/// What shows a process's mounts as long as it is open.
pub(super) fn live(pid: u32) -> io::Result<Live> {
    Live::of(sys::open_path(c"/proc")?.as_fd(), pid)
}

fn host_table() -> io::Result<MountTable> {
    mountinfo(std::process::id()).map(|text| MountTable::parse(&text))
}

/// How the mountpoint is called below `root`.
fn within<'m>(mountpoint: &'m [u8], root: &[u8]) -> Option<&'m [u8]> {
    if root == b"/" {
        return Some(mountpoint);
    }
    let rest = mountpoint.strip_prefix(root)?;
    match rest.first() {
        None => Some(b"/"),
        Some(b'/') => Some(rest),
        Some(_) => None,
    }
}

/// The devices that hold the host's directories.
fn host_devices(host: &MountTable) -> BTreeSet<u64> {
    let holder = |directory: &&[u8]| {
        let holds = |mount: &&Mount| within(directory, &mount.mountpoint).is_some();
        // The last of equals: later mounts cover earlier ones.
        host.mounts().iter().filter(holds).max_by_key(|mount| mount.mountpoint.len()).map(|mount| mount.dev)
    };
    HOST_DIRECTORIES.iter().filter_map(holder).collect()
}

fn left_out(mount: &Mount, host: &BTreeSet<u64>) -> Option<&'static str> {
    if host.contains(&mount.dev) {
        Some("it is on a file system that holds the host's own directories, and those are never watched by fanotify")
    } else if !WATCHED_KINDS.contains(&mount.kind.as_slice()) {
        Some("opens on this kind of file system may wait for others, and are not watched by fanotify")
    } else {
        None
    }
}

fn gap(mountpoint: &[u8], reason: &str) -> Gap {
    Gap { what: format!("paths below {}", String::from_utf8_lossy(mountpoint)), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_file_systems_of_the_host_and_of_waiting_kinds_are_left_out() {
        let host = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /var rw - ext4 /dev/sda2 rw\n3 1 8:3 / /data rw - ext4 /dev/sda3 rw\n",
        );
        let devices = host_devices(&host);
        let reason = |line: &[u8]| left_out(&MountTable::parse(line).mounts()[0], &devices);
        assert!(reason(b"9 8 8:1 /vol /v rw - ext4 x rw\n").is_some());
        assert!(reason(b"9 8 8:2 /lib/kubelet/x /v rw - ext4 x rw\n").is_some());
        assert!(reason(b"9 8 0:9 / /v rw - fuse.sshfs x rw\n").is_some());
        assert!(reason(b"9 8 0:9 / /v rw - nfs4 x rw\n").is_some());
        assert_eq!(reason(b"9 8 8:3 / /v rw - ext4 x rw\n"), None);
        assert_eq!(reason(b"9 8 0:9 / / rw - overlay x rw\n"), None);
    }

    #[test]
    fn unit_mounts_below_the_root_are_named_as_the_container_will() {
        assert_eq!(within(b"/run/c/rootfs", b"/run/c/rootfs"), Some(&b"/"[..]));
        assert_eq!(within(b"/run/c/rootfs/data", b"/run/c/rootfs"), Some(&b"/data"[..]));
        assert_eq!(within(b"/run/c/rootfs2", b"/run/c/rootfs"), None);
        assert_eq!(within(b"/var", b"/run/c/rootfs"), None);
    }
}
