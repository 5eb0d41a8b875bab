//! Acts on files.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use super::{IMPOSSIBLE, Outcome, errno_of};

const THREADS: usize = 8;
const OPENS_OF_A_THREAD: usize = 500;

pub(super) fn open(path: &Path) -> Outcome {
    let opened = File::open(path);
    let errno = errno_of(&opened);
    let effect = opened.is_ok_and(|mut file| matches!(file.read(&mut [0]), Ok(1)));
    Outcome { errno, effect }
}

pub(super) fn create(path: &Path) -> Outcome {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let errno = errno_of(&created);
    if let Ok(mut file) = created {
        // A file that cannot be written is one without effect below.
        file.write_all(b"x").ok();
    }
    // Also an empty file is an effect: open(2) makes it before the open itself is judged.
    Outcome { errno, effect: path.symlink_metadata().is_ok() }
}

/// Goes to the directory of a path, one component after the other, and gives the last component.
pub(super) fn enter(path: &Path, make: bool) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for component in path.parent().into_iter().flat_map(Path::components) {
        let component = Path::new(component.as_os_str());
        if make && !component.has_root() && !component.exists() {
            fs::create_dir(component)?;
        }
        env::set_current_dir(component)?;
    }
    Ok(name.into())
}

/// The worst of all outcomes: any byte that was read is the effect, and the first error that is no denial is the error.
pub(super) fn open_often(path: &Path) -> Outcome {
    let one_thread = || (0..OPENS_OF_A_THREAD).map(|_| open(path)).reduce(worse).unwrap_or(IMPOSSIBLE);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one_thread)).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap_or(IMPOSSIBLE));
        outcomes.reduce(worse).unwrap_or(IMPOSSIBLE)
    })
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    let errno = if matches!(one.errno, 1 | 13) { other.errno } else { one.errno };
    Outcome { errno, effect: one.effect || other.effect }
}

/// Not the user that a file has by itself.
const OTHER_USER: u32 = 4321;

pub(super) fn chown_away(path: &Path) -> Outcome {
    let changed = std::os::unix::fs::chown(path, Some(OTHER_USER), None);
    Outcome { errno: errno_of(&changed), effect: path.metadata().is_ok_and(|status| status.uid() == OTHER_USER) }
}
