//! A file of lines that is rotated by size.
//!
//! Invariant: every line in the files is whole, in order, and in one of them. A batch that would carry the file past its bound begins a
//! new one: `FILE.1` is the newest of those before, `FILE.N` the oldest, and one past the last is removed by the rename over it. Each
//! rename is atomic and the oldest goes first, so that a crash between two leaves a gap in the numbers and loses nothing.
//! What a failed write left of a line is taken back; where that cannot be (or a crash left it), the next line begins on a line of its own.
//!
//! Decision: a rotation that fails does not stop the lines: they go on in the file that is open, past its bound, and that is said.
//! Synced a second after they were written, beside whoever writes ([`crate::syncing`]): a machine that loses power loses about the last
//! second, and alerts do not wait for a disk.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use palisade_world::{AlertSink, AlertSinkError, SinkHealth};

use crate::syncing::{Appended, Syncing};
use rustix::{
    fs::{OFlags, readlinkat},
    io::Errno,
};

/// The bounds of a file, which may be set anew while it is written: they hold from its next lines on. Older files past a number that was
/// lowered stay where they are.
#[derive(Debug, Clone)]
pub struct FileBounds(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    max_bytes: AtomicU64,
    keep: AtomicU32,
}

impl FileBounds {
    /// Rotated before it grows past `max_bytes`, and as many older ones as `keep`.
    #[must_use]
    pub fn new(max_bytes: u64, keep: u32) -> Self {
        Self(Arc::new(Bounds { max_bytes: max_bytes.into(), keep: keep.into() }))
    }

    /// From now on.
    pub fn set(&self, max_bytes: u64, keep: u32) {
        self.0.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.0.keep.store(keep, Ordering::Relaxed);
    }
}

/// Appends to a file that is made for its owner alone: lines name paths and arguments of workloads. One that is there already may be
/// for more readers, if its owner made it so; one that another user owns or may write to is refused, and so is his symbolic link.
///
/// A rotation from outside (rename, removal, truncation) is noticed by inode and size and followed.
#[derive(Debug)]
pub struct RotatingFile {
    /// First: at the end it syncs the files that are held below it.
    syncing: Syncing,
    path: PathBuf,
    name: String,
    bounds: FileBounds,
    open: Option<Open>,
    /// Those before it that are still to be synced, the newest first; no more than are kept on the disk.
    before: VecDeque<Arc<Appended>>,
    /// Why the last rotation failed; lines go on past the bound.
    rotation: Option<String>,
}

/// Links that are followed from one file to the next.
const MAX_LINKS: u32 = 8;

#[derive(Debug)]
struct Open {
    file: Arc<Appended>,
    /// No pipe, and no device.
    is_regular: bool,
    size: u64,
    /// It ends in a part of a line.
    torn: bool,
}

impl RotatingFile {
    /// A file at `path`, rotated before it grows past `max_bytes`, and as many older ones as `keep`. It is opened with the first line.
    ///
    /// At most (`keep` + 1) × `max_bytes` are on disk, unless one batch of lines alone is more than `max_bytes`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64, keep: u32) -> Self {
        Self::within(path, FileBounds::new(max_bytes, keep))
    }

    /// The same within bounds that may change.
    #[must_use]
    pub fn within(path: impl Into<PathBuf>, bounds: FileBounds) -> Self {
        let path = path.into();
        Self {
            name: format!("file {}", path.display()),
            path,
            bounds,
            open: None,
            before: VecDeque::new(),
            rotation: None,
            syncing: Syncing::default(),
        }
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The oldest first, each over the one after it.
    fn rotate(&self) -> io::Result<()> {
        let keep = self.bounds.0.keep.load(Ordering::Relaxed);
        if keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..keep).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.older(1))
    }

    /// Another file takes its place: it is held until it is synced, and those that went off the disk are let go.
    fn take_leave(&mut self, of: Open, keep: u32) {
        self.before.retain(|file| file.waits());
        if of.file.waits() {
            self.before.push_front(of.file);
        }
        self.before.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// The file to write `more` bytes to.
    fn file(&mut self, more: u64) -> io::Result<&mut Open> {
        let keep = self.bounds.0.keep.load(Ordering::Relaxed);
        if let Some(open) = self.open.take() {
            // Its size as it is now: who rotates by copying truncates it.
            match size_if_at(&open.file.file, &self.path) {
                Some(size) => self.open = Some(Open { size, torn: open.torn && size > 0, ..open }),
                // Who rotates from outside may keep it.
                None => self.take_leave(open, keep.max(1)),
            }
        }
        if self.open.is_none() {
            self.open = Some(opened(&self.path)?);
        }
        let most = self.bounds.0.max_bytes.load(Ordering::Relaxed);
        let full = self.open.as_ref().is_some_and(|open| open.size > 0 && open.size.saturating_add(more) > most);
        if full {
            self.rotation = self.rotate().err().map(|error| format!("it is not rotated, and grows: {error}"));
            if self.rotation.is_none() {
                let next = opened(&self.path)?;
                if let Some(full) = self.open.replace(next) {
                    self.take_leave(full, keep);
                }
            }
        }
        Ok(self.open.as_mut().expect("opened above"))
    }
}

fn opened(path: &Path) -> io::Result<Open> {
    let (file, path) = followed(path)?;
    let there = file.metadata()?;
    if !is_ours(there.uid(), if there.is_file() { there.mode() } else { 0 }, own_uid()) {
        return Err(not_ours());
    }
    let size = there.len();
    let mut last = [b'\n'];
    if there.is_file() && size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    let file = Arc::new(Appended::new(file, &path, size == 0));
    Ok(Open { file, is_regular: there.is_file(), size, torn: last != [b'\n'] })
}

/// Opens what is at a path. Links are followed here, not by the kernel, so that the link that is followed is the very one whose owner was
/// looked at: in a directory of everybody's it is exchanged in between, and would lead lines into any file of the machine.
fn followed(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut path = path.to_owned();
    let flags = |flags: OFlags| flags.bits().cast_signed();
    for _ in 0..MAX_LINKS {
        let mut plain = OpenOptions::new();
        plain.create(true).read(true).append(true).mode(0o600).custom_flags(flags(OFlags::NOFOLLOW));
        match plain.open(&path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {}
            opened => return opened.map(|file| (file, path)),
        }
        let link = OpenOptions::new().read(true).custom_flags(flags(OFlags::PATH | OFlags::NOFOLLOW)).open(&path)?;
        let there = link.metadata()?;
        if !there.is_symlink() {
            continue;
        }
        if !is_ours(there.uid(), 0, own_uid()) {
            return Err(not_ours());
        }
        let leads_to = readlinkat(&link, "", Vec::new())?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        path = folder.join(OsStr::from_bytes(leads_to.as_bytes()));
    }
    Err(io::Error::other("it is a link to a link too often: name the file itself"))
}

/// Whether nobody but this process' user and root has a say in what is at a path.
fn is_ours(owner: u32, mode: u32, own: u32) -> bool {
    (owner == 0 || owner == own) && mode & 0o022 == 0
}

/// This process' user; where `/proc` does not tell it, root's files alone are ours.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

fn not_ours() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "another user owns it or may write to it: remove it, or name another file",
    )
}

/// The file's size, if it is the one at `path`.
fn size_if_at(file: &File, path: &Path) -> Option<u64> {
    let (open, there) = (file.metadata().ok()?, fs::metadata(path).ok()?);
    ((open.dev(), open.ino()) == (there.dev(), there.ino())).then_some(open.len())
}

impl Open {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = &self.file.file;
        if self.torn {
            file.write_all(b"\n")?;
            self.size += 1;
            self.torn = false;
        }
        file.write_all(lines).inspect_err(|_| {
            // What a full disk took of a line is taken back. Where that cannot be done (a device, an append-only file), the reason that
            // counts is still the one why the line was not written.
            self.torn = file.set_len(self.size).is_err();
        })
    }
}

impl AlertSink for RotatingFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let result = self.file(lines.len() as u64).and_then(|open| open.append(lines));
        if let Some(open) = self.open.as_ref().filter(|open| open.is_regular && result.is_ok()) {
            self.syncing.appended(&open.file);
        }
        result.map_err(|source| AlertSinkError { sink: self.name.clone(), source })
    }

    fn health(&mut self) -> SinkHealth {
        let failing = self.rotation.clone().or_else(|| self.syncing.trouble());
        SinkHealth { failing, ..SinkHealth::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn unit_sinks_file_keeps_lines_whole_over_rotation_from_within_and_without() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let mut sink = RotatingFile::new(&path, 10, 1);
        sink.append(b"first line\n").expect("written");
        sink.append(b"second\n").expect("written");
        assert_eq!(fs::read(root.path().join("alerts.jsonl.1")).expect("rotated"), b"first line\n");
        assert_eq!(fs::read(&path).expect("there"), b"second\n");
        fs::rename(&path, root.path().join("elsewhere")).expect("rotated from outside");
        sink.append(b"third\n").expect("written");
        assert_eq!(fs::read(&path).expect("made again"), b"third\n");
    }

    #[test]
    fn unit_sinks_file_keeps_as_many_older_ones_as_it_was_told_and_no_line_twice() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let mut sink = RotatingFile::new(&path, 40, 3);
        let line = |n: u32| format!("line {n:04}\n");
        (0..22).for_each(|n| sink.append(line(n).as_bytes()).expect("written"));
        let of = |name: &str| fs::read_to_string(root.path().join(name)).unwrap_or_default();
        let all = of("alerts.jsonl.3") + &of("alerts.jsonl.2") + &of("alerts.jsonl.1") + &of("alerts.jsonl");
        assert_eq!(all, (8..22).map(line).collect::<String>(), "the newest, in order, none twice, none missing");
        assert_eq!(fs::read_dir(root.path()).expect("there").count(), 4);
        assert!(of("alerts.jsonl.2").len() <= 40);
    }

    #[test]
    fn unit_sinks_file_takes_new_bounds_with_its_next_lines() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let bounds = FileBounds::new(1000, 1);
        let mut sink = RotatingFile::within(&path, bounds.clone());
        ["one\n", "two\n"].iter().for_each(|line| sink.append(line.as_bytes()).expect("written"));
        bounds.set(6, 2);
        ["three\n", "four\n"].iter().for_each(|line| sink.append(line.as_bytes()).expect("written"));
        let of = |name: &str| fs::read_to_string(root.path().join(name)).unwrap_or_default();
        assert_eq!(of("alerts.jsonl.2") + &of("alerts.jsonl.1") + &of("alerts.jsonl"), "one\ntwo\nthree\nfour\n");
        assert_eq!(of("alerts.jsonl.2"), "one\ntwo\n");
    }

    #[test]
    fn unit_sinks_file_that_cannot_be_rotated_takes_lines_on_and_says_so() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        // A directory that is not empty is not renamed over.
        fs::create_dir_all(root.path().join("alerts.jsonl.1/x")).expect("made");
        let mut sink = RotatingFile::new(&path, 8, 1);
        sink.append(b"first\n").expect("written");
        sink.append(b"second\n").expect("written all the same");
        assert!(sink.health().failing.is_some_and(|why| why.contains("not rotated")), "{:?}", sink.health());
        assert_eq!(fs::read(&path).expect("there"), b"first\nsecond\n");
        fs::remove_dir_all(root.path().join("alerts.jsonl.1")).expect("there");
        sink.append(b"third\n").expect("written");
        assert_eq!((sink.health().failing, fs::read(&path).expect("there")), (None, b"third\n".to_vec()));
    }

    #[test]
    fn unit_sinks_line_that_a_crash_cut_is_ended_before_the_next() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        fs::write(&path, b"whole\n{\"half").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        RotatingFile::new(&path, 1000, 1).append(b"next\n").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"whole\n{\"half\nnext\n");
    }

    #[test]
    fn unit_sinks_file_is_for_its_owner_only() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        RotatingFile::new(&path, 10, 1).append(b"x\n").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    }

    #[test]
    fn unit_sinks_link_of_our_own_is_followed_from_where_it_lies_and_one_of_another_never() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (path, target) = (root.path().join("alerts.jsonl"), root.path().join("elsewhere"));
        std::os::unix::fs::symlink("second", &path).expect("made");
        std::os::unix::fs::symlink("elsewhere", root.path().join("second")).expect("made");
        RotatingFile::new(&path, 10, 1).append(b"x\n").expect("written");
        assert_eq!(fs::read(&target).expect("there"), b"x\n");
        fs::remove_file(&path).expect("there");
        std::os::unix::fs::symlink("alerts.jsonl", &path).expect("made");
        RotatingFile::new(&path, 10, 1).append(b"x\n").expect_err("a circle");
        fs::remove_file(&path).expect("there");
        std::os::unix::fs::symlink(&target, &path).expect("made");
        if own_uid() == 0 {
            std::os::unix::fs::lchown(&path, Some(7), None).expect("root gives it away");
            let error = RotatingFile::new(&path, 10, 1).append(b"y\n").expect_err("another user leads us there");
            assert!(error.to_string().contains("another user"), "{error}");
            assert_eq!(fs::read(&target).expect("there"), b"x\n");
        }
    }

    /// Whoever may write to the directory exchanges file and link under our hands: no line ends where only his link leads.
    #[test]
    fn unit_sinks_link_that_is_exchanged_while_a_file_is_opened_leads_no_line_astray() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (path, secret) = (root.path().join("alerts.jsonl"), root.path().join("secret"));
        fs::write(&secret, b"").expect("made");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("ours");
        if own_uid() != 0 {
            return;
        }
        let (attacked, leads_to, done) = (path.clone(), secret.clone(), Arc::new(AtomicU32::new(0)));
        let over = Arc::clone(&done);
        let attacker = std::thread::spawn(move || {
            let (link, aside) = (attacked.with_extension("link"), attacked.with_extension("aside"));
            std::os::unix::fs::symlink(&leads_to, &link).expect("made");
            std::os::unix::fs::lchown(&link, Some(7), None).expect("root gives it away");
            while over.load(Ordering::Relaxed) == 0 {
                // Whatever was made there meanwhile is put aside, and the link stands there for a moment.
                fs::rename(&attacked, &aside).ok();
                fs::rename(&link, &attacked).expect("it is there");
                fs::rename(&attacked, &link).expect("nobody else renames");
            }
        });
        for _ in 0..10_000 {
            // Refused, or written to a file of its own.
            let _ = RotatingFile::new(&path, 1000, 1).append(b"x\n");
        }
        done.store(1, Ordering::Relaxed);
        attacker.join().expect("it ends");
        assert_eq!(fs::read(&secret).expect("there"), b"");
    }

    #[test]
    fn unit_sinks_file_that_others_may_write_to_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        fs::write(&path, "").expect("made");
        let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        chmod(0o666);
        let error = RotatingFile::new(&path, 10, 1).append(b"x\n").expect_err("anybody could write to it");
        assert!(error.to_string().contains("another user"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"");
        chmod(0o644);
        RotatingFile::new(&path, 10, 1).append(b"x\n").expect("its owner lets others read");
        for (owner, mode, ours) in [(0, 0o600, true), (7, 0o600, true), (8, 0o600, false), (7, 0o620, false)] {
            assert_eq!(is_ours(owner, mode, 7), ours, "owner {owner}, mode {mode:o}");
        }
    }

    #[test]
    fn unit_sinks_full_disk_is_an_error_that_names_the_sink() {
        let mut sink = RotatingFile::new("/dev/full", u64::MAX, 1);
        let error = sink.append(b"x\n").expect_err("no space");
        assert!(error.to_string().starts_with("file /dev/full: No space left"), "{error}");
    }

    #[test]
    fn unit_sinks_file_truncated_by_who_rotates_it_grows_from_its_beginning() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("alerts.jsonl");
        let mut sink = RotatingFile::new(&path, 20, 1);
        sink.append(b"a first, long line\n").expect("written");
        fs::write(&path, b"").expect("truncated");
        sink.append(b"second\n").expect("written");
        sink.append(b"third\n").expect("written");
        assert_eq!(
            fs::read(&path).expect("there"),
            b"second\nthird\n",
            "neither rotated too soon nor filled with zeros"
        );
    }
}
