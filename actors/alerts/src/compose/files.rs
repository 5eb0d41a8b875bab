//! Changes of names and inodes, and of mounts, in words.

use palisade_domain::{KubeArmorOperation, Operation, text::lossless};
use palisade_kernel_abi::record::{FileChange, FileOperation, Memfd, Mount, MountOperation, Text};

use super::act::Act;
use crate::names;

/// Leaves an owner as it is.
const KEPT: u32 = u32::MAX;
const AT_REMOVEDIR: u32 = 0x200;

/// A name as the call gave it, behind what it starts from: not normalised, because `..` and links are the kernel's to follow.
pub fn joined(base: &Text<'_>, path: &Text<'_>) -> String {
    match (base.bytes, path.bytes) {
        ([], path) | (_, path @ [b'/', ..]) => lossless(path),
        (base, []) => lossless(base),
        (base, path) => lossless(&[base, if base.ends_with(b"/") { b"" } else { b"/" }, path].concat()),
    }
}

/// A name changed, or what an inode says about itself.
pub fn change(change: &FileChange<'_>) -> Act {
    let (operation, call) = called(change);
    let (path, new_path) = (joined(&change.base, &change.path), joined(&change.new_base, &change.new_path));
    // A symbolic link's own name is the new one; its text names what it leads to.
    let link = change.operation == FileOperation::Symlink;
    let mut act = Act::new(operation, KubeArmorOperation::File, if link { new_path.clone() } else { path })
        .cut(change.path.cut || change.base.cut)
        .called(call);
    if change.path.user {
        act = act.with("pathFrom", "caller".to_owned());
    }
    act = match change.operation {
        FileOperation::Create => act.with("flags", names::open_flags(change.flags)).with("mode", octal(change.mode)),
        FileOperation::Rename => {
            act.with("newPath", new_path).with("flags", names::rename_flags(change.flags)).cut(change.new_path.cut)
        }
        FileOperation::Link => act.with("newPath", new_path).cut(change.new_path.cut),
        FileOperation::Symlink => act.with("target", lossless(change.path.bytes)).cut(change.new_path.cut),
        FileOperation::Mkdir | FileOperation::Chmod => act.with("mode", octal(change.mode)),
        FileOperation::Mknod => act.with("mode", octal(change.mode)).with("device", device(change.size)),
        FileOperation::Chown => owners(act, change),
        FileOperation::Truncate => act.with("length", change.size.to_string()),
        FileOperation::Unlink | FileOperation::Rmdir => act.with("flags", names::at_flags(change.flags)),
        FileOperation::SetXattr | FileOperation::RemoveXattr | FileOperation::Write | FileOperation::MapWrite => act,
    };
    act.returned(change.result)
}

/// The call that stands for all of its kind (`unlinkat` for `unlink`), for records whose head does not tell which it was.
fn called(change: &FileChange<'_>) -> (Operation, &'static str) {
    match change.operation {
        FileOperation::Create => (Operation::Create, "OPENAT"),
        FileOperation::Unlink => (Operation::Unlink, "UNLINKAT"),
        FileOperation::Rmdir if change.flags & AT_REMOVEDIR != 0 => (Operation::Rmdir, "UNLINKAT"),
        FileOperation::Rmdir => (Operation::Rmdir, "RMDIR"),
        FileOperation::Rename => (Operation::Rename, "RENAMEAT2"),
        FileOperation::Link => (Operation::Link, "LINKAT"),
        FileOperation::Symlink => (Operation::Symlink, "SYMLINKAT"),
        FileOperation::Mkdir => (Operation::Mkdir, "MKDIRAT"),
        FileOperation::Mknod => (Operation::Mknod, "MKNODAT"),
        FileOperation::Chmod => (Operation::Chmod, "FCHMODAT"),
        FileOperation::Chown => (Operation::Chown, "FCHOWNAT"),
        FileOperation::Truncate => (Operation::Truncate, "TRUNCATE"),
        FileOperation::SetXattr => (Operation::SetXattr, "SETXATTR"),
        FileOperation::RemoveXattr => (Operation::RemoveXattr, "REMOVEXATTR"),
        FileOperation::Write => (Operation::Write, "WRITE"),
        FileOperation::MapWrite => (Operation::MapWrite, "MMAP"),
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:#o}")
}

/// A device number as the calls encode it (`new_encode_dev` of the kernel).
fn device(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    format!("{major}:{minor}")
}

fn owners(act: Act, change: &FileChange<'_>) -> Act {
    let owner = |act: Act, key, id: u32| if id == KEPT { act } else { act.with(key, id.to_string()) };
    owner(owner(act, "userid", change.uid), "group", change.gid)
}

/// A file without a name was made.
pub fn memfd(memfd: &Memfd<'_>) -> Act {
    Act::on(Operation::Memfd, KubeArmorOperation::Syscall, &memfd.name)
        .called("MEMFD_CREATE")
        .with("flags", names::memfd_flags(memfd.flags))
        .returned(memfd.result)
}

/// The mount table changed, or a root directory.
pub fn mount(mount: &Mount<'_>) -> Act {
    let (operation, call) = match mount.operation {
        MountOperation::Mount => (Operation::Mount, "MOUNT"),
        MountOperation::Umount => (Operation::Umount, "UMOUNT2"),
        MountOperation::PivotRoot => (Operation::PivotRoot, "PIVOT_ROOT"),
        MountOperation::MoveMount => (Operation::MoveMount, "MOVE_MOUNT"),
        MountOperation::OpenTree => (Operation::OpenTree, "OPEN_TREE"),
        MountOperation::Fsopen => (Operation::Fsopen, "FSOPEN"),
        MountOperation::Fsconfig => (Operation::Fsconfig, "FSCONFIG"),
        MountOperation::Fsmount => (Operation::Fsmount, "FSMOUNT"),
        MountOperation::Fspick => (Operation::Fspick, "FSPICK"),
        MountOperation::Setattr => (Operation::MountSetattr, "MOUNT_SETATTR"),
        MountOperation::Chroot => (Operation::Chroot, "CHROOT"),
    };
    let flags = match mount.operation {
        MountOperation::Mount => names::mount_flags(mount.flags, false),
        MountOperation::Umount => names::mount_flags(mount.flags, true),
        _ => format!("{:#x}", mount.flags),
    };
    Act::new(operation, KubeArmorOperation::Syscall, joined(&mount.base, &mount.target))
        .cut(mount.target.cut)
        .called(call)
        .with_text("source", &mount.source)
        .with_text("type", &mount.filesystem)
        .with("flags", flags)
        .returned(mount.result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Text<'_> {
        Text { bytes, ..Text::default() }
    }

    #[test]
    fn unit_files_relative_names_stand_behind_what_they_start_from() {
        for (base, path, whole) in [
            ("/tmp", "a", "/tmp/a"),
            ("/", "a", "/a"),
            ("/tmp", "/etc/a", "/etc/a"),
            ("/tmp", "", "/tmp"),
            ("", "a", "a"),
            ("/tmp", "../etc", "/tmp/../etc"),
        ] {
            assert_eq!(joined(&text(base.as_bytes()), &text(path.as_bytes())), whole);
        }
    }

    #[test]
    fn unit_files_symbolic_link_is_called_by_its_own_name() {
        let made = FileChange {
            operation: FileOperation::Symlink,
            path: text(b"/etc/shadow"),
            new_path: text(b"link"),
            new_base: text(b"/tmp"),
            ..FileChange::default()
        };
        let act = change(&made);
        assert_eq!((act.subject.operation, act.resource.as_str()), (Operation::Symlink, "/tmp/link"));
        assert!(act.details.contains(&("target", "/etc/shadow".to_owned())), "{:?}", act.details);
    }

    #[test]
    fn unit_files_device_numbers_are_those_that_ls_shows() {
        assert_eq!((device(0x0103), device(0x0803)), ("1:3".into(), "8:3".into()));
        assert_eq!(device((300 & 0xff) | 8 << 8 | (300 & !0xff) << 12), "8:300");
    }
}
