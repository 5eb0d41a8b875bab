//! The last good version of each policy file, in a directory of the node's own.
//!
//! Invariant: what is recalled is what was kept, byte for byte: each version carries its name, its length and a sum of its bytes, and one
//! that does not agree with them (a disk that was full, a machine that lost power) is reported and not recalled. A version is in place as a
//! whole or not at all, for it is renamed into it, by one writer at a time: nodes that share the directory wait for each other. As many are kept
//! as the policy directory has good files, and those have its bounds; a file past them is not read.
//!
//! Decision: files and no database: a version is written once for each change of a policy file, and read once at a start. They are not
//! flushed to the disk one by one: ten thousand of them took longer than a node may take to start, and a version that power took away is
//! found by its sum.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use palisade_world::{LastGood, LastGoodError, PolicyFile};

/// The first line of a version, so that another format is never taken for it.
const FORMAT: &str = "palisade last good policy file 1";
/// What versions are called, after the sum of their name.
const SUFFIX: &str = ".kept";
/// A version that is being written.
const UNFINISHED: &str = "unfinished";

/// Most bytes of a version: the largest policy file, and its head and name.
const MAX_VERSION_BYTES: u64 = crate::MAX_FILE_BYTES + 8192;

/// Tries for the directory's lock, and the wait between two: a version is written in milliseconds, and a node must not wait for one that hangs.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Versions in a directory.
#[derive(Debug)]
pub struct LastGoodFiles {
    directory: PathBuf,
}

impl LastGoodFiles {
    /// Of the policy directory, below a directory of state: two policy directories have nothing of each other.
    #[must_use]
    pub fn of(policies: &Path, state: &Path) -> Self {
        let sum = sum(policies.as_os_str().as_encoded_bytes());
        Self::new(state.join("policies").join(format!("{sum:016x}")))
    }

    /// In `directory`, which is made with the first version, for its owner only.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{:016x}{SUFFIX}", sum(name.as_bytes())))
    }

    fn versions(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

impl LastGood for LastGoodFiles {
    fn recall(&mut self) -> (Vec<PolicyFile>, Vec<LastGoodError>) {
        let paths = match self.versions() {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Default::default(),
            Err(error) => return (Vec::new(), vec![failed(&self.directory, &error)]),
        };
        let (mut files, mut errors) = (Vec::new(), Vec::new());
        for path in paths {
            match bounded(&path).map_err(|error| error.to_string()).and_then(|bytes| unwrapped(&bytes)) {
                Ok(file) if self.path(&file.name) == path => files.push(file),
                Ok(_) => errors.push(failed(&path, &"it is kept under another file's name")),
                Err(reason) => errors.push(failed(&path, &reason)),
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        (files, errors)
    }

    fn keep(&mut self, file: &PolicyFile) -> Result<(), LastGoodError> {
        let unfinished = self.directory.join(UNFINISHED);
        let path = self.path(&file.name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| failed(&self.directory, &error))?;
        let _alone = alone(&self.directory).map_err(|error| failed(&self.directory, &error))?;
        fs::write(&unfinished, wrapped(file)).map_err(|error| failed(&unfinished, &error))?;
        fs::rename(&unfinished, &path).map_err(|error| failed(&path, &error))
    }

    fn forget(&mut self, name: &str) -> Result<(), LastGoodError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, &error)),
            _ => Ok(()),
        }
    }
}

/// The lock is given back when the file is dropped, or its holder ends, however that is.
fn alone(directory: &Path) -> io::Result<File> {
    let lock = File::open(directory)?;
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another node writes there, and does not end"))
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_VERSION_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_VERSION_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_VERSION_BYTES} bytes")));
    }
    Ok(bytes)
}

fn failed(path: &Path, reason: &dyn ToString) -> LastGoodError {
    LastGoodError { path: path.to_owned(), reason: reason.to_string() }
}

/// Format, length of the name, length and sum of the content; the name; the content.
fn wrapped(file: &PolicyFile) -> Vec<u8> {
    let PolicyFile { name, content } = file;
    let head = format!("{FORMAT}\n{} {} {:016x}\n", name.len(), content.len(), sum(content));
    [head.as_bytes(), name.as_bytes(), content].concat()
}

fn unwrapped(bytes: &[u8]) -> Result<PolicyFile, String> {
    let other = || "it is no version of this format".to_owned();
    let rest = bytes.strip_prefix(FORMAT.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n")).ok_or_else(other)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(other)?;
    let head = std::str::from_utf8(&rest[..end]).map_err(|_| other())?;
    let [name, content, expected] = head.split(' ').collect::<Vec<&str>>()[..] else { return Err(other()) };
    let (Ok(name_bytes), Ok(content_bytes)) = (name.parse::<usize>(), content.parse::<usize>()) else {
        return Err(other());
    };
    let body = &rest[end + 1..];
    if name_bytes.checked_add(content_bytes) != Some(body.len()) {
        return Err(format!("it has {} bytes after its head, and says {name_bytes} and {content_bytes}", body.len()));
    }
    let (name, content) = body.split_at(name_bytes);
    if format!("{:016x}", sum(content)) != expected {
        return Err("its bytes are not those that were kept".to_owned());
    }
    let name = std::str::from_utf8(name).map_err(|_| other())?.to_owned();
    Ok(PolicyFile { name, content: content.to_vec() })
}

/// FNV-1a of 64 bits: against accidents, not against who may write the directory, for that is root.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> PolicyFile {
        PolicyFile { name: name.into(), content: content.to_vec() }
    }

    fn recalled(directory: &Path) -> (Vec<PolicyFile>, Vec<String>) {
        let (files, errors) = LastGoodFiles::new(directory).recall();
        (files, errors.into_iter().map(|error| error.reason).collect())
    }

    #[test]
    fn unit_last_good_recalls_in_another_process_what_was_kept_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("state/policies");
        assert_eq!(recalled(&directory), Default::default(), "nothing is kept before the first");
        let mut kept = LastGoodFiles::new(&directory);
        let odd = "b \u{1f600}\n/../x.yaml";
        for (name, content) in [("a.yaml", &b"one"[..]), (odd, b"\n\0\xff"), ("a.yaml", b"two"), ("c.yaml", b"")] {
            kept.keep(&file(name, content)).expect("room");
        }
        let all = vec![file("a.yaml", b"two"), file(odd, b"\n\0\xff"), file("c.yaml", b"")];
        assert_eq!(recalled(&directory), (all, Vec::new()));
        kept.forget("a.yaml").expect("it is there");
        kept.forget("never.yaml").expect("it is forgotten already");
        assert_eq!(recalled(&directory).0.len(), 2);
    }

    #[test]
    fn unit_last_good_of_one_policy_directory_is_not_that_of_another() {
        let state = tempfile::tempdir().expect("a folder");
        let of = |policies: &str| LastGoodFiles::of(Path::new(policies), state.path());
        of("/etc/a").keep(&file("p.yaml", b"x")).expect("room");
        assert_eq!(of("/etc/a").recall().0.len(), 1);
        assert_eq!(of("/etc/b").recall().0.len(), 0);
    }

    #[test]
    fn unit_last_good_reports_what_is_not_as_it_was_kept_and_recalls_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut kept = LastGoodFiles::new(folder.path());
        for name in ["a", "b", "c", "d"] {
            kept.keep(&file(name, b"content")).expect("room");
        }
        let torn = fs::read(kept.path("a")).expect("kept");
        fs::write(kept.path("a"), &torn[..torn.len() - 1]).expect("room");
        let changed = fs::read_to_string(kept.path("b")).expect("kept").replace("content", "c0ntent");
        fs::write(kept.path("b"), changed).expect("room");
        fs::rename(kept.path("c"), kept.path("other")).expect("kept");
        fs::write(folder.path().join("unfinished"), b"half").expect("room");
        let (files, mut errors) = recalled(folder.path());
        errors.sort();
        assert_eq!(files, [file("d", b"content")]);
        let torn = "it has 7 bytes after its head, and says 1 and 7";
        let expected =
            [torn, "it is kept under another file's name", "its bytes are not those that were kept"].map(str::to_owned);
        assert_eq!(errors, expected);
    }

    #[test]
    fn unit_last_good_of_two_nodes_in_one_directory_is_always_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path();
        LastGoodFiles::new(directory).keep(&file("a", b"first")).expect("room");
        thread::scope(|scope| {
            for content in [vec![b'x'; 300_000], vec![b'y'; 100]] {
                scope.spawn(move || {
                    let mut kept = LastGoodFiles::new(directory);
                    for _ in 0..150 {
                        kept.keep(&file("a", &content)).expect("the other one ends soon");
                        let (files, errors) = kept.recall();
                        assert!(errors.is_empty() && files.len() == 1, "{errors:?}");
                    }
                });
            }
        });
    }

    #[test]
    fn unit_last_good_does_not_wait_for_a_node_that_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let _hangs = alone(folder.path()).expect("nobody else");
        let error = LastGoodFiles::new(folder.path()).keep(&file("a", b"x")).expect_err("it is held");
        assert!(error.to_string().contains("another node"), "{error}");
    }

    #[test]
    fn unit_last_good_reads_no_more_than_a_version_may_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = LastGoodFiles::new(folder.path());
        File::create(kept.path("long")).and_then(|long| long.set_len(MAX_VERSION_BYTES + 1)).expect("room");
        fs::create_dir(kept.path("directory")).expect("room");
        let (files, mut errors) = recalled(folder.path());
        errors.sort();
        assert!(
            files.is_empty() && errors[0] == "it has more than 16785408 bytes" && errors[1] == "it is no file",
            "{errors:?}"
        );
    }

    #[test]
    fn unit_last_good_says_why_it_cannot_keep() {
        let folder = tempfile::tempdir().expect("a folder");
        let occupied = folder.path().join("file");
        fs::write(&occupied, b"").expect("room");
        let error = LastGoodFiles::new(occupied.join("below")).keep(&file("a", b"x")).expect_err("it is below a file");
        assert!(error.to_string().contains("Not a directory"), "{error}");
    }
}
