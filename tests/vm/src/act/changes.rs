//! Acts that change files by their names, or mounts; and writes and code that no open or execve(2) of the moment names.

use std::{
    fmt,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::truncate,
};

use super::{IMPOSSIBLE, MARK, Outcome, errno_of};

/// Makes a system call that safe code cannot, and ends with the errno.
const CALLER: &str = "/bin/mapper";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const EACCES: i32 = 13;
/// Bytes that a file has afterwards.
const CUT: i64 = 3;
const MODE: u32 = 0o631;
/// Said and waited for by acts that begin before a policy and end under it.
pub const READY: &str = "/tmp/ready";
/// See [`READY`].
pub const GO: &str = "/tmp/go";
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: u32 = 2400;

/// One way to change a file, or what a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// unlink(2).
    Unlink,
    /// rmdir(2).
    Rmdir,
    /// mkdir(2).
    Mkdir,
    /// chmod(2).
    Chmod,
    /// truncate(2).
    Truncate,
    /// open(2) with O_TRUNC.
    Overwrite,
    /// setxattr(2).
    SetAttribute,
    /// rename(2) to the second name.
    Rename,
    /// link(2) of the second name.
    Link,
    /// symlink(2) of the second name.
    Symlink,
    /// mount(2) of a new file system.
    Mount,
    /// umount(2).
    Umount,
    /// mount(2) that shows the first name's file at the second.
    Bind,
    /// move_mount(2) of a mount to the second name.
    MoveMount,
    /// pivot_root(2); the second name is where the old root goes.
    PivotRoot,
    /// A write to a file that was opened before the policy.
    WriteLater,
    /// A shared mapping, by another program, of a file that was opened before the policy.
    MapLater,
    /// The same of one that mprotect(2) makes writable.
    ProtectLater,
    /// A descriptor that was opened before the policy is sent over a socket, and received.
    ReceiveLater,
    /// The dynamic loader is told to load the program.
    Load,
}

impl Change {
    const ALL: [(&str, Self); 20] = [
        ("unlink", Self::Unlink),
        ("rmdir", Self::Rmdir),
        ("mkdir", Self::Mkdir),
        ("chmod", Self::Chmod),
        ("truncate", Self::Truncate),
        ("overwrite", Self::Overwrite),
        ("set-attribute", Self::SetAttribute),
        ("rename", Self::Rename),
        ("link", Self::Link),
        ("symlink", Self::Symlink),
        ("mount", Self::Mount),
        ("umount", Self::Umount),
        ("bind-mount", Self::Bind),
        ("move-mount", Self::MoveMount),
        ("pivot-root", Self::PivotRoot),
        ("write-later", Self::WriteLater),
        ("map-later", Self::MapLater),
        ("protect-later", Self::ProtectLater),
        ("receive-later", Self::ReceiveLater),
        ("load", Self::Load),
    ];

    /// By its verb.
    #[must_use]
    pub fn of_verb(verb: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == verb).map(|(_, change)| *change)
    }

    pub(super) fn perform(self, path: &Path, to: &Path) -> Outcome {
        let outcome = |result: io::Result<()>, effect: bool| Outcome { errno: errno_of(&result), effect };
        let status = || path.symlink_metadata();
        match self {
            Self::Unlink => outcome(fs::remove_file(path), status().is_err()),
            Self::Rmdir => outcome(fs::remove_dir(path), status().is_err()),
            Self::Mkdir => outcome(fs::create_dir(path), path.is_dir()),
            Self::Chmod => outcome(
                fs::set_permissions(path, Permissions::from_mode(MODE)),
                status().is_ok_and(|status| status.permissions().mode() & 0o777 == MODE),
            ),
            Self::Truncate => {
                let result = truncate(path, CUT).map_err(io::Error::from);
                outcome(result, status().is_ok_and(|status| status.len() == CUT.unsigned_abs()))
            }
            Self::Overwrite => outcome(File::create(path).map(drop), status().is_ok_and(|status| status.len() == 0)),
            Self::SetAttribute => called(&["set-attribute".as_ref(), path], None),
            Self::Rename => outcome(fs::rename(path, to), status().is_err() && to.symlink_metadata().is_ok()),
            Self::Link => outcome(fs::hard_link(path, to), to.symlink_metadata().is_ok()),
            Self::Symlink => outcome(symlink(path, to), to.symlink_metadata().is_ok()),
            Self::Mount => {
                let none: Option<&str> = None;
                let made = mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), none).map_err(io::Error::from);
                outcome(made, is_mounted(path))
            }
            Self::Umount => outcome(umount2(path, MntFlags::empty()).map_err(io::Error::from), !is_mounted(path)),
            Self::Bind => {
                let none: Option<&str> = None;
                let made = mount(Some(path), to, none, MsFlags::MS_BIND, none).map_err(io::Error::from);
                outcome(made, is_mounted(to))
            }
            Self::MoveMount => {
                let Outcome { errno, .. } = called(&["move-mount".as_ref(), path, to], None);
                Outcome { errno, effect: is_mounted(to) }
            }
            Self::PivotRoot => called(&["pivot-root".as_ref(), path, to], None),
            Self::WriteLater => later(path, |mut file| {
                let written = file.write_all(b"!");
                Outcome { errno: errno_of(&written), effect: fs::read(path).is_ok_and(|now| now.starts_with(b"!")) }
            }),
            Self::MapLater => later(path, |file| called(&["write-shared".as_ref()], Some(file))),
            Self::ProtectLater => later(path, |file| called(&["protect-shared".as_ref()], Some(file))),
            Self::ReceiveLater => later(path, |file| called(&["pass".as_ref()], Some(file))),
            Self::Load => load(path).unwrap_or(IMPOSSIBLE),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = Self::ALL.iter().find(|(_, change)| change == self).map_or("", |(verb, _)| *verb);
        out.write_str(verb)
    }
}

/// The second name of a change that has one stands behind a `=`.
pub(super) fn names(object: &str) -> (PathBuf, PathBuf) {
    let (path, to) = object.split_once('=').unwrap_or((object, ""));
    (path.into(), to.into())
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|place| Path::new(place) == path))
}

fn called(arguments: &[&Path], input: Option<File>) -> Outcome {
    let input = input.map_or_else(Stdio::null, Stdio::from);
    let status = Command::new(CALLER).args(arguments).stdin(input).status();
    let errno = status.ok().and_then(|status| status.code()).unwrap_or(-1);
    Outcome { errno, effect: errno == 0 }
}

/// Opens the file, says so, and goes on when it is told.
fn later(path: &Path, act: impl FnOnce(File) -> Outcome) -> Outcome {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return IMPOSSIBLE };
    if fs::write(READY, "").is_err() {
        return IMPOSSIBLE;
    }
    for _ in 0..PATIENCE {
        if Path::new(GO).exists() {
            return act(file);
        }
        thread::sleep(PAUSE);
    }
    IMPOSSIBLE
}

/// The loader says what it could not do, and not why: a mapping of the program that is refused stands for the denial.
fn load(program: &Path) -> io::Result<Outcome> {
    let marker = PathBuf::from(format!("/tmp/marker-{}", std::process::id()));
    let output = Command::new(LOADER).arg(program).arg(MARK).arg(&marker).stdin(Stdio::null()).output()?;
    let effect = marker.exists();
    // Absent where the program did not run.
    fs::remove_file(&marker).ok();
    let refused = String::from_utf8_lossy(&output.stderr).contains("failed to map segment");
    let errno = if output.status.success() {
        0
    } else if refused {
        EACCES
    } else {
        -1
    };
    Ok(Outcome { errno, effect })
}
