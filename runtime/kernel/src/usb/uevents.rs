//! That something happens to devices, as the kernel tells it: a reason to look, and nothing more.
//!
//! Invariant: only what the kernel itself sent is a reason. Who may send to the group can also wake nobody to harm: a look decides by the tree.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::sys::netlink;

const NETLINK_KOBJECT_UEVENT: libc::c_int = 15;
/// Group 1, the kernel's; udev's own events are in group 2.
const GROUP_KERNEL: u32 = 1;
/// `UEVENT_BUFFER_SIZE` and the event's head.
const EVENT_BYTES: usize = 2048 + 512;

/// The stream of events from now on.
#[derive(Debug)]
pub(super) struct Uevents {
    socket: OwnedFd,
    buffer: Box<[u8; EVENT_BYTES]>,
}

impl Uevents {
    pub fn open() -> io::Result<Self> {
        let socket = netlink::socket(NETLINK_KOBJECT_UEVENT)?;
        netlink::bind(&socket, GROUP_KERNEL)?;
        Ok(Self { socket, buffer: Box::new([0; EVENT_BYTES]) })
    }

    /// Reads all that is there; whether any of it is about USB devices, or some of it was lost.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut about_usb = false;
        loop {
            match netlink::receive(&self.socket, &mut self.buffer[..]) {
                Ok(received) => about_usb |= received.by_kernel(&self.buffer[..]).is_some_and(is_about_usb),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOBUFS) => about_usb = true,
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Ok(about_usb),
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_about_usb(event: &[u8]) -> bool {
    event.split(|byte| *byte == 0).any(|field| field == b"SUBSYSTEM=usb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_usb_is_woken_by_events_of_usb_and_not_by_others() {
        assert!(is_about_usb(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0"));
        assert!(!is_about_usb(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=usbmon\0"));
        assert!(!is_about_usb(b"libudev\0SUBSYSTEM=net"));
    }

    #[test]
    fn unit_usb_hears_nothing_while_nothing_happens() {
        let mut events = Uevents::open().expect("anybody may listen");
        assert!(!events.drain().expect("a socket"));
    }
}
