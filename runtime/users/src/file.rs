//! Finding and opening the file.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use palisade_world::{PasswdCandidate, PasswdOf};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};

use crate::passwd;

/// Bytes of a file that is read; a larger one is not. Some thousand users.
pub const MAX_FILE_BYTES: u64 = 256 << 10;
/// Longest `/proc` file that is read: uid_map has at most 340 lines.
const MAX_PROC_BYTES: u64 = 64 << 10;

/// User ids of the initial namespace and their names; `None` where there is no file that is read.
pub fn names(of: PasswdOf, candidates: &[PasswdCandidate]) -> Option<Vec<(u32, String)>> {
    match of {
        PasswdOf::Host => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(CWD, host_root()?, flags, Mode::empty()).ok()?;
            Some(passwd::entries(&passwd_in(root.as_fd()).ok()?))
        }
        PasswdOf::MountNamespace(namespace) => {
            candidates.iter().find_map(|candidate| of_process(namespace, *candidate).ok())
        }
    }
}

/// The host's root directory: that of its first process, for the node may itself be in a container. Where that is not to be looked into,
/// this process' own if it is proven to be the same: both have the same mount there, and a mount's number is the machine's.
#[must_use]
pub fn host_root() -> Option<&'static Path> {
    let of_init = Path::new("/proc/1/root");
    if fs::metadata(of_init.join("etc")).is_ok() {
        return Some(of_init);
    }
    let root = |process: &str| root_mount(&fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()?);
    (root("1")? == root("self")?).then_some(Path::new("/"))
}

/// Number of the mount at `/`: of several the one on top, which is the last (proc_pid_mountinfo(5)).
fn root_mount(mountinfo: &str) -> Option<u64> {
    let at_root = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"))?;
    at_root.split(' ').next()?.parse().ok()
}

fn of_process(namespace: u32, (pid, start_ticks): PasswdCandidate) -> io::Result<Vec<(u32, String)>> {
    let path = |path: &OFlags| *path | OFlags::PATH | OFlags::CLOEXEC;
    // All is asked by this directory, which is of this one process however its number is reused.
    let process = openat(CWD, format!("/proc/{pid}"), path(&OFlags::DIRECTORY), Mode::empty())?;
    let another = || io::Error::new(io::ErrorKind::NotFound, "another process, or another container's");
    if statat(&process, "ns/mnt", rustix::fs::AtFlags::empty())?.st_ino != u64::from(namespace) {
        return Err(another());
    }
    if start_of(&text(&process, "stat")?) != Some(start_ticks) {
        return Err(another());
    }
    let ranges = passwd::ranges(&text(&process, "uid_map")?);
    let root = openat(&process, "root", path(&OFlags::DIRECTORY), Mode::empty())?;
    let entries = passwd::entries(&passwd_in(root.as_fd())?);
    Ok(entries.into_iter().filter_map(|(uid, name)| Some((passwd::outside(&ranges, uid)?, name))).collect())
}

/// Start, of `/proc/PID/stat`: its 22nd field. The second is the process' own choice and may hold spaces and parentheses.
fn start_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn text(process: &OwnedFd, file: &str) -> io::Result<String> {
    let file = openat(process, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_PROC_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `/etc/passwd` below a root directory.
fn passwd_in(root: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, "etc/passwd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let there = fstat(&found)?;
    if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    // The very file that was looked at: opening a device or a FIFO by its name would have had effects, or no end.
    let mut file = fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?.take(MAX_FILE_BYTES + 1);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    fn read(root: &Path) -> io::Result<Vec<u8>> {
        passwd_in(File::open(root).expect("there").as_fd())
    }

    /// A container's root beside a file that is none of its business.
    fn container() -> (tempfile::TempDir, std::path::PathBuf) {
        let outside = tempfile::tempdir().expect("made");
        fs::write(outside.path().join("secret"), "host:x:0:").expect("written");
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("made");
        (outside, root)
    }

    #[test]
    fn unit_users_links_of_a_container_end_in_the_container() {
        let (outside, root) = container();
        fs::write(root.join("real"), "own:x:0:").expect("written");
        symlink("/real", root.join("etc/passwd")).expect("linked");
        assert_eq!(read(&root).expect("its own"), b"own:x:0:");
        for target in ["../../secret", "../../../../secret", outside.path().join("secret").to_str().expect("text")] {
            fs::remove_file(root.join("etc/passwd")).expect("there");
            symlink(target, root.join("etc/passwd")).expect("linked");
            read(&root).expect_err("there is no such file in the container");
        }
        fs::remove_file(root.join("etc/passwd")).expect("there");
        symlink("/proc/self/fd/0", root.join("etc/passwd")).expect("linked");
        read(&root).expect_err("a magic link");
    }

    #[test]
    fn unit_users_file_that_has_no_end_or_is_none_is_not_waited_for() {
        let (_outside, root) = container();
        let path = root.join("etc/passwd");
        assert!(Command::new("mkfifo").arg(&path).status().expect("run").success());
        assert_eq!(read(&root).expect_err("a FIFO").kind(), io::ErrorKind::InvalidInput);
        fs::remove_file(&path).expect("there");
        fs::create_dir(&path).expect("made");
        assert_eq!(read(&root).expect_err("a directory").kind(), io::ErrorKind::InvalidInput);
        fs::remove_dir(&path).expect("there");
        File::create(&path).expect("made").set_len(1 << 40).expect("sparse");
        assert_eq!(read(&root).expect_err("a tebibyte").kind(), io::ErrorKind::InvalidData);
        fs::remove_file(&path).expect("there");
        assert_eq!(read(&root).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn unit_users_process_of_another_start_or_namespace_names_nobody() {
        let pid = std::process::id();
        let start = start_of(&fs::read_to_string("/proc/self/stat").expect("ours")).expect("its 22nd field");
        let namespace = std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/self/ns/mnt").expect("ours"));
        let namespace = PasswdOf::MountNamespace(u32::try_from(namespace).expect("32 bits"));
        let own = names(namespace, &[(pid, start + 1), (pid, start)]).expect("the second is this process");
        assert!(own.contains(&(0, "root".to_owned())), "{own:?}");
        assert_eq!(names(namespace, &[(pid, start + 1)]), None, "its number was reused");
        assert_eq!(names(PasswdOf::MountNamespace(1), &[(pid, start)]), None, "it is no process of that container");
    }

    #[test]
    fn unit_users_root_of_the_host_is_the_mount_on_top() {
        let mountinfo = "1 0 0:1 / / rw - rootfs rootfs rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:5 / /proc rw - proc proc rw\n";
        assert_eq!((root_mount(mountinfo), root_mount("28 27 0:5 / /proc rw\n")), (Some(27), None));
    }

    #[test]
    fn unit_users_start_is_read_whatever_a_process_calls_itself() {
        let fields: Vec<String> = (3..30).map(|n| n.to_string()).collect();
        assert_eq!(start_of(&format!("7 (a) 1 2) x) {}", fields.join(" "))), Some(22));
        assert_eq!(start_of("7 (a"), None);
    }
}
