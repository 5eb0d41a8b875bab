//! Mount tables: reading them, and naming a file as the container saw it at its start.
//!
//! The kernel names a file of an event by climbing from its dentry to the top of the mount namespace that the mount is in
//! (`readlink /proc/self/fd/N`), whatever the task's root: chroot changes nothing. What can change is the mount's place:
//! binds, moves, `unshare -m`, a renamed parent of a mountpoint. Therefore the name is taken apart with the *present* table,
//! `mountpoint + rest`, to the name within the file system, `root + rest`, and put together with the table *learnt* at the
//! container's first exec: `learnt mountpoint + (root + rest - learnt root)`.
//!
//! Invariant: a mount is known by (device of the superblock, root within it), never by its number alone, which is used again
//! after an unmount; numbers are only compared within one reading of one namespace. The device is the one that mountinfo
//! gives: `st_dev` of a file on overlayfs may be that of a layer.

use std::ops::Range;

/// A mountinfo longer than this is not read: 4 MiB is over 20,000 mounts, and a container has about 30.
pub(super) const MAX_MOUNTINFO_BYTES: usize = 4 << 20;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its number, unique among the mounts that exist.
    pub id: u64,
    /// `major << 32 | minor` of the superblock.
    pub dev: u64,
    /// What of the file system is mounted, `/` for all of it.
    pub root: Vec<u8>,
    /// Where, seen from the top of its mount namespace.
    pub mountpoint: Vec<u8>,
    /// `ext4`, `overlay`.
    pub kind: Vec<u8>,
}

/// A reading of mountinfo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Parses mountinfo; lines that are not understood are left out, so that what is on them counts as unknown.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// Parses mountinfo that is seen from `base`: mountinfo names mountpoints from the root of the process that opened it, so
    /// that chroot and pivot_root shift them.
    pub(super) fn parse_below(base: &[u8], text: &[u8]) -> Self {
        let mut table = Self::parse(text);
        if base != b"/" {
            for mount in &mut table.mounts {
                let mut shifted = Vec::with_capacity(base.len() + mount.mountpoint.len());
                let rest: &[u8] = if mount.mountpoint == b"/" { b"" } else { &mount.mountpoint };
                join(base, rest, &mut shifted);
                mount.mountpoint = shifted;
            }
        }
        table
    }

    /// All mounts, in the order of the reading.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount of a number.
    pub(super) fn by_id(&self, id: u64) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// Writes to `out` how this table names what lies at `name` within the file system `dev`: by the mount that is
    /// still where `hint` is now, else by the one whose root is nearest; `None` where no mount of the table shows it.
    fn name_of(&self, dev: u64, name: &[u8], hint: &Mount, out: &mut Vec<u8>) -> Option<()> {
        let shows = |mount: &&Mount| mount.dev == dev && below(name, &mount.root).is_some();
        let in_place = |mount: &Mount| mount.root == hint.root && mount.mountpoint == hint.mountpoint;
        let rank = |mount: &&Mount| (in_place(mount), mount.root.len(), mount.id == hint.id);
        let mount = self.mounts.iter().filter(shows).max_by_key(rank)?;
        join(&mount.mountpoint, below(name, &mount.root)?, out);
        Some(())
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let mut device = fields.next()?.split(|byte| *byte == b':');
    let dev = number(device.next()?)? << 32 | number(device.next()?)?;
    let root = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?.to_vec();
    Some(Mount { id, dev, root, mountpoint, kind })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` (blank, tab, newline, backslash).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// What follows `directory` in `path`: empty for the directory itself, else starting with `/`.
fn below<'p>(path: &'p [u8], directory: &[u8]) -> Option<&'p [u8]> {
    if directory == b"/" {
        return if path == b"/" { Some(b"") } else { Some(path).filter(|path| path.first() == Some(&b'/')) };
    }
    path.strip_prefix(directory).filter(|rest| rest.is_empty() || rest[0] == b'/')
}

/// `directory` and what follows it, as one absolute path.
fn join(directory: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if directory != b"/" {
        out.extend_from_slice(directory);
    }
    out.extend_from_slice(rest);
    if out.is_empty() {
        out.push(b'/');
    }
}

/// The name that `present` (the mount the file was reached by) and `learnt` give to the file that is now at `path`.
///
/// `scratch` keeps its memory between calls. `None`: the file is not where the table shows anything, or `path` is not below
/// the mount's present place (it was moved between two readings).
pub(super) fn canonical(
    path: &[u8],
    present: &Mount,
    learnt: &MountTable,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let rest = below(path, &present.mountpoint)?;
    join(&present.root, rest, scratch);
    learnt.name_of(present.dev, scratch, present, out)
}

/// The part of a path before ` (deleted)`, which the kernel appends to names that no longer lead to the file.
pub(super) fn without_deleted(path: &[u8]) -> Option<&[u8]> {
    path.strip_suffix(b" (deleted)")
}

/// Decimal digits of a number in a fixed buffer: names below /proc without allocation.
pub(super) struct ProcName {
    bytes: [u8; 40],
    len: usize,
}

impl ProcName {
    /// `<number>/<entry>`, for example `1234/cgroup`; `entry` has at most 16 bytes.
    pub(super) fn of(number: u32, entry: &str) -> Self {
        let mut name = Self { bytes: [0; 40], len: 0 };
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut left = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        name.push(&digits[at..]);
        name.push(b"/");
        name.push(entry.as_bytes());
        name
    }

    /// `self/fd/<number>`.
    pub(super) fn of_fd(number: u32) -> Self {
        let digits = Self::of(number, "");
        let mut name = Self { bytes: [0; 40], len: 0 };
        name.push(b"self/fd/");
        let end = digits.len.saturating_sub(1);
        name.push(&digits.bytes[..end]);
        name
    }

    fn push(&mut self, bytes: &[u8]) {
        let range: Range<usize> = self.len..self.len + bytes.len();
        // One byte stays for the NUL; names that do not fit would be a bug of a caller in this crate.
        assert!(range.end < self.bytes.len(), "a name below /proc is short");
        self.bytes[range].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// As C wants it.
    pub(super) fn as_c_str(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"100 50 0:40 / / rw - overlay overlay rw\n\
        101 100 8:16 /vols/a /data/a rw shared:3 - ext4 /dev/sdb rw\n\
        102 100 8:16 /vols/b /data/b rw - ext4 /dev/sdb rw\n\
        103 100 0:41 / /dev/shm rw - tmpfs shm rw\n\
        garbage\n\
        104 100 8:16 /with\\040blank /mnt/x\\134y rw - ext4 /dev/sdb rw\n";

    fn named(path: &str, present: &Mount) -> Option<String> {
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        canonical(path.as_bytes(), present, &MountTable::parse(TABLE), &mut scratch, &mut out)?;
        Some(String::from_utf8(out).expect("test paths are ASCII"))
    }

    fn mount(id: u64, dev: u64, root: &str, mountpoint: &str) -> Mount {
        Mount { id, dev, root: root.into(), mountpoint: mountpoint.into(), kind: b"x".to_vec() }
    }

    const OVERLAY: u64 = 40;
    const DISK: u64 = 8 << 32 | 16;

    #[test]
    fn unit_mountinfo_is_read_with_escapes_and_optional_fields() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.mounts().len(), 5);
        let last = table.by_id(104).expect("the last line");
        assert_eq!((last.root.as_slice(), last.mountpoint.as_slice()), (&b"/with blank"[..], &b"/mnt/x\\y"[..]));
        assert_eq!(table.by_id(101).map(|m| m.kind.as_slice()), Some(&b"ext4"[..]));
    }

    #[test]
    fn unit_a_file_on_an_unmoved_mount_keeps_its_name() {
        assert_eq!(named("/etc/shadow", &mount(100, OVERLAY, "/", "/")).as_deref(), Some("/etc/shadow"));
        assert_eq!(named("/", &mount(100, OVERLAY, "/", "/")).as_deref(), Some("/"));
        assert_eq!(named("/data/a/x", &mount(101, DISK, "/vols/a", "/data/a")).as_deref(), Some("/data/a/x"));
        assert_eq!(named("/data/a", &mount(101, DISK, "/vols/a", "/data/a")).as_deref(), Some("/data/a"));
    }

    #[test]
    fn unit_a_bind_a_move_and_a_copied_namespace_lead_back_to_the_learnt_name() {
        // mount --bind /etc /mnt; the same after unshare -m with new numbers; a pivot that puts the old root below /old.
        assert_eq!(named("/mnt/shadow", &mount(300, OVERLAY, "/etc", "/mnt")).as_deref(), Some("/etc/shadow"));
        assert_eq!(named("/etc/shadow", &mount(301, OVERLAY, "/", "/")).as_deref(), Some("/etc/shadow"));
        assert_eq!(named("/old/etc/shadow", &mount(100, OVERLAY, "/", "/old")).as_deref(), Some("/etc/shadow"));
        // The volume's parent was renamed below the volume's old name.
        assert_eq!(named("/data/a/z/a/s", &mount(101, DISK, "/vols/a", "/data/a/z/a")).as_deref(), Some("/data/a/s"));
        // The whole disk mounted anew shows both volumes.
        assert_eq!(named("/m/vols/b/s", &mount(302, DISK, "/", "/m")).as_deref(), Some("/data/b/s"));
    }

    #[test]
    fn unit_a_table_seen_from_a_changed_root_is_shifted() {
        let table = MountTable::parse_below(b"/srv", TABLE);
        let place = |id| table.by_id(id).map(|mount| String::from_utf8_lossy(&mount.mountpoint).into_owned());
        assert_eq!((place(100).as_deref(), place(101).as_deref()), (Some("/srv"), Some("/srv/data/a")));
        let root = table.by_id(100).expect("the root").clone();
        assert_eq!(named("/srv/etc/shadow", &root).as_deref(), Some("/etc/shadow"));
    }

    #[test]
    fn unit_what_no_learnt_mount_shows_has_no_name() {
        assert_eq!(named("/m/other/s", &mount(302, DISK, "/", "/m")), None);
        assert_eq!(named("/m/vols/ab/s", &mount(302, DISK, "/", "/m")), None, "a sibling with a common prefix");
        assert_eq!(named("/x/s", &mount(303, 77, "/", "/x")), None, "another file system");
        assert_eq!(named("/elsewhere", &mount(101, DISK, "/vols/a", "/data/a")), None, "not below its mount");
    }

    #[test]
    fn unit_names_below_proc_are_written_without_allocation() {
        assert_eq!(ProcName::of(0, "exe").as_c_str(), c"0/exe");
        assert_eq!(ProcName::of(u32::MAX, "mountinfo").as_c_str(), c"4294967295/mountinfo");
        assert_eq!(ProcName::of_fd(17).as_c_str(), c"self/fd/17");
    }
}
