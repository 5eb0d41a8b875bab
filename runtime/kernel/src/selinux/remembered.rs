//! What of a node's is in SELinux, for whoever comes after it: the next node, and `palisade unload`.
//!
//! Invariant: it is written before a module is loaded, and again, with the load's number, after it: what is in force is never more than the file
//! says. A reboot takes it away together with the policy.
//!
//! Decision: a file and not a question to the kernel, which tells neither where a policy came from nor what its constraints are.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::Base;

/// What the first line begins with; it is a comment in CIL.
const HEAD: &str = "; palisade: loaded as ";

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    file: PathBuf,
}

/// What is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub base: Base,
    /// The number of the load; 0: it was about to be loaded.
    pub loads: u32,
    pub module: String,
}

impl Remembered {
    /// That of the node with this pin root.
    pub fn of(pin_root: &Path) -> Self {
        let name = pin_root.display().to_string().trim_matches('/').replace('/', "-");
        Self { file: PathBuf::from(format!("/run/palisade/selinux-{name}")) }
    }

    /// Whether something is remembered for other pins.
    pub fn has_others(&self) -> bool {
        let entries = self.file.parent().and_then(|directory| fs::read_dir(directory).ok());
        let mut files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        files.any(|file| file != self.file && is_of_pins(&file))
    }

    #[cfg(test)]
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// `None`: nothing of ours is in force.
    ///
    /// # Errors
    /// Where it cannot be read, or is not of this form.
    pub fn read(&self) -> io::Result<Option<Known>> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let known = text.strip_prefix(HEAD).and_then(|rest| {
            let (head, module) = rest.split_once('\n')?;
            let (loads, base) = head.split_once(" with ")?;
            Some(Known { base: Base::of(base), loads: loads.parse().ok()?, module: module.to_owned() })
        });
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is not ours", self.file.display()));
        known.ok_or_else(wrong).map(Some)
    }

    /// # Errors
    /// What the kernel said; what was remembered stays.
    pub fn write(&self, base: &Base, loads: u32, module: &str) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.file.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(format!("{HEAD}{loads} with {base}\n{module}").as_bytes())?;
        fs::rename(&beside, &self.file)
    }

    /// # Errors
    /// What the kernel said; that there is none is no error.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// `selinux-sys-fs-bpf-palisade`, and not what is about to become one.
fn is_of_pins(file: &Path) -> bool {
    let name = file.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    name.starts_with(b"selinux-") && file.extension().is_none_or(|extension| extension != "new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_selinux_what_was_loaded_is_remembered_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let remembered = Remembered { file: directory.path().join("run/selinux-x") };
        assert_eq!(remembered.read().unwrap(), None);
        for (base, loads) in [(Base::Cil("/selinux/a with b.cil".into()), 7), (Base::Store, 0)] {
            remembered.write(&base, loads, "(user x)\n(user y)\n").unwrap();
            let known = Known { base, loads, module: "(user x)\n(user y)\n".to_owned() };
            assert_eq!(remembered.read().unwrap(), Some(known));
        }
        remembered.forget().unwrap();
        remembered.forget().unwrap();
        assert_eq!(remembered.read().unwrap(), None);
        fs::write(&remembered.file, "(user x)").unwrap();
        assert!(remembered.read().is_err(), "another's file is no word about what is in force");
    }

    #[test]
    fn unit_selinux_what_nodes_with_other_pins_left_is_known_to_be_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let own = Remembered { file: directory.path().join("selinux-own") };
        own.write(&Base::Store, 1, "").unwrap();
        fs::write(directory.path().join("selinux.claim"), "").unwrap();
        fs::write(directory.path().join("selinux-other.new"), "").unwrap();
        assert!(!own.has_others());
        Remembered { file: directory.path().join("selinux-other") }.write(&Base::Store, 1, "").unwrap();
        assert!(own.has_others());
    }

    #[test]
    fn unit_selinux_node_remembers_by_its_pin_root() {
        let remembered = Remembered::of(Path::new("/sys/fs/bpf/palisade"));
        assert_eq!(remembered.file, Path::new("/run/palisade/selinux-sys-fs-bpf-palisade"));
    }
}
