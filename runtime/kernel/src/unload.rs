//! Taking away all that is pinned: once that is done, nothing is judged any more.
//!
//! Invariant: it returns when the programs are off, not when their pins are. The kernel detaches a program some time after its
//! link's last reference went, each after the one before it, which takes seconds where there are many; acts are denied until
//! then, by nobody that could be asked.
//!
//! Decision: links are open while their pins go, and closed last. Who closes the last reference waits for the detaching; a file
//! system that drops a pin does not. Links of cgroups can be told to detach, and are.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    apparmor,
    objects::ObjectError,
    selinux,
    sys::{self, Readers},
    usb,
};

/// How long a link may be somebody else's, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Removes every pin below the root, and the programs with their links; rules in AppArmor and SELinux deny nothing any more; USB devices are
/// authorized as they were before.
///
/// # Errors
/// The first pin that cannot be removed, and a link that somebody else has open; the rest is removed all the same.
pub fn unload(root: &Path) -> Result<(), ObjectError> {
    let mut links = Links::default();
    // Directories, which hold links, before the maps in the root: no program runs while what it reads goes away.
    let mut below = Ok(());
    for directory in entries(root)?.into_iter().filter(|path| is_directory(path)) {
        below = below.and(remove(&directory, &mut links));
    }
    let ended = links.end();
    let pins = remove(root, &mut Links::default());
    let profiles =
        apparmor::unload().map_err(|source| ObjectError::Pins { path: "/sys/kernel/security/apparmor".into(), source });
    let constraints =
        selinux::unload(root).map_err(|source| ObjectError::Pins { path: "/sys/fs/selinux".into(), source });
    let devices = usb::UsbPaths::of(root);
    let devices = usb::restore(&devices).map_err(|source| ObjectError::Pins { path: devices.remembered, source });
    below.and(ended).and(pins).and(profiles).and(constraints).and(devices)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ObjectError + use<> {
    let path = path.to_path_buf();
    move |source| ObjectError::Pins { path, source }
}

/// What is in the directory; nothing where it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, ObjectError> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(directory)(error)),
    }
}

/// One that is there itself: a link to one is an entry like another, and what it leads to is not ours.
fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

fn remove(directory: &Path, links: &mut Links) -> Result<(), ObjectError> {
    if !directory.exists() {
        return Ok(());
    }
    let (directories, pins): (Vec<_>, Vec<_>) = entries(directory)?.into_iter().partition(|path| is_directory(path));
    let mut result = Ok(());
    for below in &directories {
        result = result.and(remove(below, links));
    }
    for pin in &pins {
        links.keep(pin);
        result = result.and(fs::remove_file(pin).map_err(failed(pin)));
    }
    result.and(fs::remove_dir(directory).map_err(failed(directory)))
}

/// Links that end with their last reference alone, open.
#[derive(Debug, Default)]
struct Links(Vec<(PathBuf, OwnedFd)>);

impl Links {
    /// Where the pin is a link that can be told to detach, it is told.
    fn keep(&mut self, pin: &Path) {
        // What cannot be opened is no link, or will be detached when the kernel comes to it.
        let Ok(link) = sys::open_pin(pin) else { return };
        if sys::detach(link.as_fd()).is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP)) {
            self.0.push((pin.to_path_buf(), link));
        }
    }

    /// Closes them, which detaches their programs.
    fn end(self) -> Result<(), ObjectError> {
        if self.0.is_empty() {
            return Ok(());
        }
        // A pin that was removed is still a reference for a grace period. Where waiting fails, the kernel's own time must do.
        if let Err(error) = Readers::new().and_then(|readers| readers.wait()) {
            tracing::debug!(%error, "no grace period could be waited for");
        }
        let ids: Vec<_> = self.0.into_iter().map(|(pin, link)| (pin, sys::link_id(link.as_fd()))).collect();
        let until = sys::boot_time() + PATIENCE;
        for (pin, id) in ids {
            let id = id.map_err(failed(&pin))?;
            while sys::link_is_there(id).map_err(failed(&pin))? {
                if sys::boot_time() >= until {
                    let held = "its program goes on: another process has the link open";
                    return Err(failed(&pin)(io::Error::new(io::ErrorKind::ResourceBusy, held)));
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}
