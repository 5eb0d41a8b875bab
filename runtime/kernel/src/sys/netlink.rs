//! Netlink sockets that only listen: the kernel's audit, and its events about devices.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// A socket that never waits.
pub(crate) fn socket(protocol: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) has just made it, and nobody else has the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the socket an address, and makes it a member of these groups (bit n: group n + 1).
pub(crate) fn bind(socket: &OwnedFd, groups: u32) -> io::Result<()> {
    // SAFETY: all integers: zero is a value of each.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the address is initialised for the length that is passed, and is read only during the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A datagram, of which the buffer may have the beginning only.
pub(crate) struct Received {
    length: usize,
    /// The sender's address; the kernel's is 0.
    port: u32,
}

impl Received {
    /// What is in the buffer, if the kernel itself sent it.
    pub(crate) fn by_kernel<'a>(&self, buffer: &'a [u8]) -> Option<&'a [u8]> {
        (self.port == 0).then(|| &buffer[..self.length.min(buffer.len())])
    }
}

/// The next datagram that is there; an error where none is.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: all integers: zero is a value of each.
    let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut sender_bytes = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: buffer and address are ours and as long as is said.
    let read = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut sender).cast(),
            &raw mut sender_bytes,
        )
    };
    let length = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // Without a whole address, nobody's word.
    let port = if sender_bytes as usize == size_of::<libc::sockaddr_nl>() { sender.nl_pid } else { u32::MAX };
    Ok(Received { length, port })
}
