//! A file that a command makes.
//!
//! Invariant: what was there before is whole until what takes its place is, and nothing is taken away that this run did not make. No link,
//! device or pipe is written to.
//!
//! Decision: a file beside it and a rename, not a truncation, because the node may refuse or break off after the file was opened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// For its owner only: what a workload does is in it.
pub struct NewFile {
    file: File,
    /// Where it is written.
    written: PathBuf,
    /// Whose place it takes when it is whole; none: it is there already.
    replaces: Option<PathBuf>,
}

impl NewFile {
    /// Makes it; of a file that is there already only with `force`, and then beside it.
    ///
    /// # Errors
    /// In words.
    pub fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        let replaces = may_be_replaced(path, force)?.then(|| path.to_owned());
        let written = if replaces.is_some() { beside(path) } else { path.to_owned() };
        let file = open_new(&written).with_context(|| written.display().to_string())?;
        Ok(Self { file, written, replaces })
    }

    /// What was written is all of it: on the disk, and in its place.
    ///
    /// # Errors
    /// The operating system's; the file is where [`Self::keep`] leaves it.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.replaces.map_or(Ok(()), |path| fs::rename(&self.written, path))
    }

    /// Leaves what is half made, and says where.
    pub fn keep(self) -> PathBuf {
        self.written
    }

    /// Takes it away.
    pub fn discard(self) {
        // Where that fails an empty file stays: nothing is lost by it.
        let _ = fs::remove_file(self.written);
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file for its owner only, and never one that is there already.
///
/// # Errors
/// The operating system's.
pub fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Whether something is there that is to be replaced.
///
/// # Errors
/// What is there is not to be, or is no file.
pub fn may_be_replaced(path: &Path, force: bool) -> anyhow::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
        Ok(_) if !force => {
            bail!("{} is there already: name another file, or overwrite it with --force", path.display())
        }
        Ok(there) if !there.is_file() => {
            bail!("{} is a link, a device or another that is no file: name a file with --out", path.display())
        }
        Ok(_) => Ok(true),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn unit_new_file_leaves_what_was_there_until_it_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        fs::write(&path, "good").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let error = NewFile::create(&path, false).err().expect("there").to_string();
        assert!(error.contains("--force"), "{error}");
        NewFile::create(&path, true).expect("beside it").discard();
        let mut half = NewFile::create(&path, true).expect("beside it");
        half.write_all(b"half").expect("written");
        let half = half.keep();
        let of = |path: &Path| fs::read_to_string(path).expect("there");
        assert_eq!((of(&path), of(&half)), ("good".to_owned(), "half".to_owned()));
        fs::remove_file(half).expect("there");
        let mut whole = NewFile::create(&path, true).expect("beside it");
        whole.write_all(b"better").expect("written");
        whole.finish().expect("in its place");
        assert_eq!(of(&path), "better");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "its owner's alone");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing is left over");
    }

    #[test]
    fn unit_new_file_takes_the_place_of_no_link_nor_pipe() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link, socket) =
            (directory.path().join("t"), directory.path().join("l"), directory.path().join("s"));
        fs::write(&target, "good").expect("written");
        symlink(&target, &link).expect("linked");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        for path in [&link, &socket, &directory.path().to_owned()] {
            let error = NewFile::create(path, true).err().expect("no file").to_string();
            assert!(error.contains("no file"), "{error}");
            assert!(fs::symlink_metadata(path).is_ok(), "{} is still there", path.display());
        }
        assert_eq!(fs::read_to_string(&target).expect("there"), "good");
    }
}
