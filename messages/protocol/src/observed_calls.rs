//! Which system calls a record stands for, and which records tell of a call on a path: what rules on such calls are decided by.
//!
//! Invariant: a call that no record tells of has no kind here ([`kinds_of`] is 0), and a rule that names it is said to be not held.
//!
//! A record of an open, a change of a file, a mount or a module tells the call's number, and a rule is held against that alone: one on
//! `unlink` does not audit `unlinkat`, as in KubeArmor. An execution's does not, for the kernel itself sets the number of every new image's
//! call to `execve`'s: a rule that names `execve` or `execveat` audits both.
//!
//! Limit: names that a call gave are taken as given, put behind where they start and freed of `.` and `..`; links in them are not followed.
//! An open through `io_uring` is no system call, and is none here.

use std::borrow::Cow;

use palisade_kernel_abi::record::{
    Body, CallNumber, FileChange, FileOperation, Kind, ModuleOperation, Mount, MountOperation, Text, kind_bit,
};
use palisade_policy::{ObservedCall, ir::Rule};

const EXEC: &[&str] = &["execve", "execveat"];
const OPEN: &[&str] = &["open", "openat", "openat2", "creat", "open_by_handle_at"];
const FINIT_MODULE: &[&str] = &["finit_module"];

/// Of a change of a file. What an open made is told by the open's own record.
const fn changing(operation: FileOperation) -> &'static [&'static str] {
    match operation {
        FileOperation::Create => &[],
        FileOperation::Unlink => &["unlink", "unlinkat"],
        FileOperation::Rmdir => &["rmdir", "unlinkat"],
        FileOperation::Rename => &["rename", "renameat", "renameat2"],
        FileOperation::Link => &["link", "linkat"],
        FileOperation::Symlink => &["symlink", "symlinkat"],
        FileOperation::Mkdir => &["mkdir", "mkdirat"],
        FileOperation::Mknod => &["mknod", "mknodat"],
        FileOperation::Chmod => &["chmod", "fchmod", "fchmodat", "fchmodat2"],
        FileOperation::Chown => &["chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32"],
        FileOperation::Truncate => &["truncate", "truncate64", "ftruncate", "ftruncate64"],
        // These are told where they are decided, and not observed.
        FileOperation::SetXattr | FileOperation::RemoveXattr | FileOperation::Write | FileOperation::MapWrite => &[],
    }
}

/// Of a change of mounts; those that name no path have none.
const fn mounting(operation: MountOperation) -> &'static [&'static str] {
    match operation {
        MountOperation::Mount => &["mount"],
        MountOperation::Umount => &["umount", "umount2"],
        MountOperation::PivotRoot => &["pivot_root"],
        MountOperation::MoveMount => &["move_mount"],
        MountOperation::OpenTree => &["open_tree", "open_tree_attr"],
        MountOperation::Fspick => &["fspick"],
        MountOperation::Setattr => &["mount_setattr"],
        MountOperation::Chroot => &["chroot"],
        MountOperation::Fsopen | MountOperation::Fsconfig | MountOperation::Fsmount => &[],
    }
}

/// A call on paths, as a record tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct CallOnPath<'r> {
    /// What it may have been, where the record does not tell its number.
    pub calls: &'static [&'static str],
    /// What it was about.
    pub path: Cow<'r, [u8]>,
    /// The other name of a rename or link.
    pub other: Option<Cow<'r, [u8]>>,
}

impl<'r> CallOnPath<'r> {
    /// The call that a record without a decision tells of, if it was on a path.
    #[must_use]
    pub fn of(body: &Body<'r>) -> Option<Self> {
        let (calls, path, other) = match body {
            Body::Exec(exec) => (EXEC, whole(&exec.path, &Text::default()), None),
            Body::Open(open) => (OPEN, whole(&open.path, &Text::default()), None),
            Body::FileChange(change) => of_change(change),
            Body::Mount(mount) => of_mount(mount),
            Body::Module(module) if module.operation == ModuleOperation::Finit => {
                (FINIT_MODULE, whole(&module.path, &Text::default()), None)
            }
            _ => return None,
        };
        (!calls.is_empty()).then_some(Self { calls, path, other })
    }

    /// Whether a rule audits it, by the number that its record tells, if it does, and what the calling process executes.
    #[must_use]
    pub fn is_audited_by(&self, rule: &Rule, number: Option<CallNumber>, executable: &[u8]) -> bool {
        let mut paths = std::iter::once(&self.path).chain(&self.other);
        paths.any(|path| match number {
            Some(CallNumber { number, is_compat }) => {
                rule.observes(&ObservedCall { number, is_compat, path, executable })
            }
            None => rule.observes_any(self.calls, path, executable),
        })
    }
}

type Told<'r> = (&'static [&'static str], Cow<'r, [u8]>, Option<Cow<'r, [u8]>>);

fn of_change<'r>(change: &FileChange<'r>) -> Told<'r> {
    let (old, new) = (|| whole(&change.path, &change.base), || whole(&change.new_path, &change.new_base));
    let calls = changing(change.operation);
    match change.operation {
        // Its other text is what it leads to, which the call touches not.
        FileOperation::Symlink => (calls, new(), None),
        FileOperation::Rename | FileOperation::Link => (calls, old(), Some(new())),
        _ => (calls, old(), None),
    }
}

fn of_mount<'r>(mount: &Mount<'r>) -> Told<'r> {
    (mounting(mount.operation), whole(&mount.target, &mount.base), None)
}

/// The kinds of records that tell of a call on a path, bit n for kind n; 0: nothing tells.
#[must_use]
pub fn kinds_of(call: &str) -> u64 {
    let bit = |told: bool, kind| if told { kind_bit(kind) } else { 0 };
    bit(EXEC.contains(&call), Kind::Exec)
        | bit(OPEN.contains(&call), Kind::Open)
        | bit(FINIT_MODULE.contains(&call), Kind::Module)
        | bit(FileOperation::ALL.iter().any(|operation| changing(*operation).contains(&call)), Kind::FileChange)
        | bit(MountOperation::ALL.iter().any(|operation| mounting(*operation).contains(&call)), Kind::Mount)
}

/// A name behind what it starts from, without `.`, `..` and doubled slashes; one that needs nothing of it is not copied.
fn whole<'r>(path: &Text<'r>, base: &Text<'_>) -> Cow<'r, [u8]> {
    let path = path.bytes;
    let is_plain = |component: &[u8]| !component.is_empty() && component != b"." && component != b"..";
    if path.strip_prefix(b"/").is_some_and(|rest| rest.split(|byte| *byte == b'/').all(is_plain)) {
        return Cow::Borrowed(path);
    }
    let start: &[u8] = if path.starts_with(b"/") { b"" } else { base.bytes };
    let mut components: Vec<&[u8]> = Vec::new();
    for component in start.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    let mut joined = Vec::with_capacity(start.len() + path.len() + 2);
    for component in components {
        joined.push(b'/');
        joined.extend_from_slice(component);
    }
    if joined.is_empty() { Cow::Borrowed(b"/") } else { Cow::Owned(joined) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Text<'_> {
        Text { bytes, ..Text::default() }
    }

    #[test]
    fn unit_observed_call_names_stand_whole_behind_what_they_start_from() {
        for (base, path, expected) in [
            ("/tmp", "a", "/tmp/a"),
            ("/tmp/b", "../a", "/tmp/a"),
            ("/tmp", "/etc//./passwd", "/etc/passwd"),
            ("", "/etc/passwd", "/etc/passwd"),
            ("/tmp", "", "/tmp"),
            ("/", "../..", "/"),
            ("/tmp", "/etc/", "/etc"),
        ] {
            assert_eq!(*whole(&text(path.as_bytes()), &text(base.as_bytes())), *expected.as_bytes(), "{base} {path}");
        }
    }

    #[test]
    fn unit_observed_call_of_a_rename_is_on_both_names_and_of_a_link_on_its_own() {
        let change =
            FileChange { path: text(b"/a"), new_path: text(b"b"), new_base: text(b"/d"), ..FileChange::default() };
        let told = |operation| CallOnPath::of(&Body::FileChange(FileChange { operation, ..change })).expect("a call");
        let renamed = told(FileOperation::Rename);
        assert_eq!((&*renamed.path, renamed.other.as_deref()), (&b"/a"[..], Some(&b"/d/b"[..])));
        let linked = told(FileOperation::Symlink);
        assert_eq!((&*linked.path, linked.other), (&b"/d/b"[..], None));
        assert_eq!(CallOnPath::of(&Body::FileChange(FileChange { operation: FileOperation::Create, ..change })), None);
    }

    #[test]
    fn unit_observed_call_has_the_kinds_of_the_records_that_tell_it_and_none_where_nothing_does() {
        assert_eq!(kinds_of("unlinkat"), kind_bit(Kind::FileChange));
        assert_eq!(kinds_of("openat"), kind_bit(Kind::Open));
        assert_eq!(kinds_of("umount2"), kind_bit(Kind::Mount));
        assert_eq!(kinds_of("execve"), kind_bit(Kind::Exec));
        assert_eq!((kinds_of("stat"), kinds_of("fsopen")), (0, 0));
    }
}
