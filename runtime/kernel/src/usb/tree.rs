//! The kernel's USB devices as sysfs shows them: every name and number of it is here.
//!
//! Invariant: nothing here decides. A file that goes away while it is read (the device was pulled out) is an error like any other.
//!
//! Decision: what a device is comes from its raw descriptors (`descriptors`), not from the directories of its interfaces: a device that is
//! not authorized has none of them, and it is judged before it is.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use palisade_domain::{DeviceClass, UsbDevice};

/// A device descriptor, and configurations of at most 64 KiB each; nobody has more than some kilobytes.
const DESCRIPTORS_BYTES: u64 = 1 << 18;
const DEVICE_DESCRIPTOR_BYTES: usize = 18;
const INTERFACE_DESCRIPTOR: u8 = 4;
const INTERFACE_DESCRIPTOR_BYTES: usize = 9;

/// A device that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    pub name: String,
    pub number: u32,
    pub authorized: bool,
}

/// The files.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    sysfs: PathBuf,
}

impl Tree {
    pub fn new(sysfs: &Path) -> Self {
        Self { sysfs: sysfs.to_path_buf() }
    }

    fn devices_directory(&self) -> PathBuf {
        self.sysfs.join("bus/usb/devices")
    }

    /// Whether the kernel has USB.
    pub fn is_there(&self) -> bool {
        self.devices_directory().exists()
    }

    fn parameter_file(&self) -> PathBuf {
        self.sysfs.join("module/usbcore/parameters/authorized_default")
    }

    fn file(&self, device: &str, file: &str) -> PathBuf {
        self.devices_directory().join(device).join(file)
    }

    /// What the root hub of a controller that comes authorizes: as `usbcore.authorized_default` says it.
    pub fn parameter(&self) -> io::Result<i32> {
        read_number(&self.parameter_file())
    }

    pub fn set_parameter(&self, value: i32) -> io::Result<()> {
        write(&self.parameter_file(), &value.to_string())
    }

    /// The root hubs: `usb1`.
    pub fn hubs(&self) -> io::Result<Vec<String>> {
        let names = self.names()?;
        Ok(names.into_iter().filter(|name| is_hub(name)).collect())
    }

    /// What a root hub authorizes by itself: 0 nothing, 1 everything, 2 what is wired to the board.
    pub fn default_of(&self, hub: &str) -> io::Result<i32> {
        read_number(&self.file(hub, "authorized_default"))
    }

    pub fn set_default(&self, hub: &str, value: i32) -> io::Result<()> {
        write(&self.file(hub, "authorized_default"), &value.to_string())
    }

    /// Everything that is plugged in, root hubs apart. What goes away meanwhile is not among them.
    pub fn devices(&self) -> io::Result<Vec<Present>> {
        let names = self.names()?.into_iter().filter(|name| !is_hub(name) && !name.contains(':'));
        Ok(names.filter_map(|name| self.present(&name)).collect())
    }

    /// Whether and how it is there now.
    pub fn present(&self, name: &str) -> Option<Present> {
        let number = read_number(&self.file(name, "devnum")).ok()?;
        let authorized = read_number(&self.file(name, "authorized")).ok()? != 0;
        Some(Present { name: name.to_owned(), number: u32::try_from(number).ok()?, authorized })
    }

    /// What the device says that it is.
    pub fn read(&self, present: &Present) -> io::Result<UsbDevice> {
        let path = self.file(&present.name, "descriptors");
        let mut descriptors = Vec::new();
        fs::File::open(&path)?.take(DESCRIPTORS_BYTES).read_to_end(&mut descriptors)?;
        let parsed = parse(&descriptors).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: they do not read", path.display()))
        })?;
        let (vendor, product, classes) = parsed;
        Ok(UsbDevice { name: present.name.clone(), number: present.number, vendor, product, classes })
    }

    /// May take as long as its driver.
    pub fn authorize(&self, name: &str, authorized: bool) -> io::Result<()> {
        write(&self.file(name, "authorized"), if authorized { "1" } else { "0" })
    }

    /// Whether the firmware says that its port leads to no socket.
    pub fn is_hardwired(&self, name: &str) -> bool {
        fs::read_to_string(self.file(name, "port/connect_type")).is_ok_and(|text| text.trim() == "hardwired")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.devices_directory())?;
        // The kernel's own names are ASCII.
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

fn is_hub(name: &str) -> bool {
    name.strip_prefix("usb").is_some_and(|bus| !bus.is_empty() && bus.bytes().all(|byte| byte.is_ascii_digit()))
}

fn read_number(path: &Path) -> io::Result<i32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text:?}", path.display())))
}

/// In place: a file of sysfs is neither made nor replaced.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).map_err(named)?;
    file.write_all(value.as_bytes()).map_err(named)
}

/// Vendor, product and classes: of the device unless its class is 0, and of each interface of each configuration and setting.
fn parse(descriptors: &[u8]) -> Option<(u16, u16, Vec<DeviceClass>)> {
    let (device, mut rest) = descriptors.split_at_checked(DEVICE_DESCRIPTOR_BYTES)?;
    let word = |at: usize| u16::from_le_bytes([device[at], device[at + 1]]);
    let class_at =
        |bytes: &[u8], at: usize| DeviceClass { class: bytes[at], sub_class: bytes[at + 1], protocol: bytes[at + 2] };
    let mut classes = vec![class_at(device, 4)];
    while let [length, kind, ..] = *rest {
        let (descriptor, after) = rest.split_at_checked(usize::from(length).max(2))?;
        if kind == INTERFACE_DESCRIPTOR {
            if descriptor.len() < INTERFACE_DESCRIPTOR_BYTES {
                return None;
            }
            classes.push(class_at(descriptor, 5));
        }
        rest = after;
    }
    classes.retain(|class| class.class != 0);
    classes.sort_unstable();
    classes.dedup();
    rest.is_empty().then_some((word(8), word(10), classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(class: [u8; 3]) -> Vec<u8> {
        let [class, sub, protocol] = class;
        vec![18, 1, 0, 2, class, sub, protocol, 64, 0x27, 0x06, 1, 0, 0, 0, 1, 2, 3, 1]
    }

    fn interface(class: [u8; 3]) -> [u8; 9] {
        let [class, sub, protocol] = class;
        [9, 4, 0, 0, 1, class, sub, protocol, 0]
    }

    #[test]
    fn unit_usb_reads_what_a_device_and_each_of_its_interfaces_say() {
        let configuration = [9, 2, 41, 0, 2, 1, 0, 0x80, 50];
        let endpoint = [7, 5, 0x81, 3, 8, 0, 10];
        let all = [
            &device([0, 0, 0])[..],
            &configuration,
            &interface([3, 1, 1]),
            &endpoint,
            &interface([8, 6, 0x50]),
            &interface([3, 1, 1]),
        ]
        .concat();
        let (vendor, product, classes) = parse(&all).expect("sound");
        assert_eq!((vendor, product), (0x0627, 1));
        let class = |[class, sub_class, protocol]: [u8; 3]| DeviceClass { class, sub_class, protocol };
        assert_eq!(classes, [[3, 1, 1], [8, 6, 0x50]].map(class), "class 0 sends to the interfaces");
        let hub = [&device([9, 0, 1])[..], &configuration, &interface([9, 0, 0])].concat();
        assert_eq!(parse(&hub).expect("sound").2, [[9, 0, 0], [9, 0, 1]].map(class));
    }

    #[test]
    fn unit_usb_takes_no_descriptors_that_end_before_they_should() {
        let whole = [&device([0, 0, 0])[..], &interface([3, 1, 1])].concat();
        assert!(parse(&whole).is_some());
        for cut in (0..18).chain(19..27) {
            assert!(parse(&whole[..cut]).is_none(), "{cut} bytes");
        }
        let mut short = whole;
        short[18] = 5;
        assert!(parse(&short[..23]).is_none(), "an interface that is too short to have a class");
        assert!(parse(&[&device([3, 0, 0])[..], &[0, 4]].concat()).is_none(), "a length of nothing ends");
    }
}
