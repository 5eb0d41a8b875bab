//! What the kernel authorized by itself before this runtime took that over, kept in a file so that it outlives a crash.
//!
//! Invariant: the file is whole or is not there (it is replaced by a rename), and it is written before anything that it remembers is changed.
//!
//! Decision: below `/run`, as the kernel's own settings last for one boot; the boot's number is in it all the same, for whoever mounts
//! something else there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Memory {
    /// Of `usbcore`, for controllers to come.
    pub parameter: Option<i32>,
    /// By root hub.
    pub hubs: BTreeMap<String, i32>,
    /// Devices that somebody else had not authorized, by place and number: they are nobody's to authorize here.
    pub left: BTreeSet<(String, u32)>,
}

impl Memory {
    /// What is remembered of this boot, if anything is.
    pub fn load(file: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let broken = || {
            let how = "remove it, and write to each /sys/bus/usb/devices/usb*/authorized_default what it shall be";
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is broken: {how}", file.display()))
        };
        let (boot, rest) = text.split_once('\n').ok_or_else(broken)?;
        if boot.strip_prefix("boot ").ok_or_else(broken)? != boot_id()? {
            return Ok(None);
        }
        let mut memory = Self::default();
        rest.lines().try_for_each(|line| memory.take(line)).ok_or_else(broken)?;
        Ok(Some(memory))
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["parameter", value] => self.parameter = Some(value.parse().ok()?),
            ["hub", name, value] => drop(self.hubs.insert(name.to_owned(), value.parse().ok()?)),
            ["left", name, number] => drop(self.left.insert((name.to_owned(), number.parse().ok()?))),
            _ => return None,
        }
        Some(())
    }

    pub fn save(&self, file: &Path) -> io::Result<()> {
        let mut text = format!("boot {}\n", boot_id()?);
        text.extend(self.parameter.map(|value| format!("parameter {value}\n")));
        text.extend(self.hubs.iter().map(|(name, value)| format!("hub {name} {value}\n")));
        text.extend(self.left.iter().map(|(name, number)| format!("left {name} {number}\n")));
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, file)
    }

    /// What the bus of this root hub authorized: a controller that came since was told nothing, so as `usbcore` was told.
    pub fn default_of(&self, hub: &str) -> i32 {
        self.hubs.get(hub).copied().unwrap_or_else(|| self.of_new_hub())
    }

    /// `authorized_default` of the parameter as a hub has it: -1 is 1.
    pub fn of_new_hub(&self) -> i32 {
        match self.parameter {
            Some(0) => 0,
            Some(2) => 2,
            _ => 1,
        }
    }
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_usb_memory_is_read_as_it_was_written_and_not_in_another_boot() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("below/usb");
        assert_eq!(Memory::load(&file).expect("nothing"), None);
        let memory = Memory {
            parameter: Some(-1),
            hubs: BTreeMap::from([("usb1".to_owned(), 1), ("usb12".to_owned(), 2)]),
            left: BTreeSet::from([("1-2.4".to_owned(), 7)]),
        };
        memory.save(&file).expect("a file");
        assert_eq!(Memory::load(&file).expect("a file"), Some(memory.clone()));
        assert_eq!((memory.default_of("usb12"), memory.default_of("usb3")), (2, 1));
        let text = fs::read_to_string(&file).expect("text");
        fs::write(&file, text.replacen(&text[5..13], "00000000", 1)).expect("a file");
        assert_eq!(Memory::load(&file).expect("of another boot"), None);
        for broken in ["", "boot", &format!("{text}hub usb1\n"), &format!("{text}who knows\n")] {
            fs::write(&file, broken).expect("a file");
            assert!(Memory::load(&file).is_err(), "{broken:?}");
        }
    }
}
