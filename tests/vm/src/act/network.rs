//! Acts on the network.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, connect as connect_socket, ipproto, socket};

use super::{IMPOSSIBLE, Outcome, errno_of};

/// An echo over loopback, in emulation.
const ECHO_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn bind(address: SocketAddr) -> Outcome {
    let bound = TcpListener::bind(address);
    Outcome { errno: errno_of(&bound), effect: bound.is_ok() && TcpStream::connect(address).is_ok() }
}

pub(super) fn connect(address: SocketAddr) -> Outcome {
    let connected = TcpStream::connect(address);
    let errno = errno_of(&connected);
    let effect = connected.is_ok_and(|mut stream| matches!(stream.read(&mut [0]), Ok(1)));
    Outcome { errno, effect }
}

/// A question for the name's address, and whether it came back.
pub(super) fn ask(server: SocketAddr, name: &str) -> Outcome {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return IMPOSSIBLE };
    let sent = socket.send_to(&message, server);
    let waits = sent.is_ok() && socket.set_read_timeout(Some(ECHO_PATIENCE)).is_ok();
    Outcome { errno: errno_of(&sent), effect: waits && socket.recv(&mut [0; 512]).is_ok() }
}

pub(super) fn make_socket(name: &str) -> Outcome {
    let made = open_socket(name);
    Outcome { errno: errno_of(&made), effect: made.is_ok() }
}

/// socket(2) of a kind: `unix-stream`, `unix-dgram`, `inet-dgram`, `raw` (ICMP) or `packet`; two of them connected to this host, too.
pub(crate) fn open_socket(name: &str) -> io::Result<()> {
    match name {
        "unix-stream" => UnixStream::pair().map(drop),
        "unix-dgram" => UnixDatagram::unbound().map(drop),
        "inet-dgram" => UdpSocket::bind(("127.0.0.1", 0)).map(drop),
        "raw" => Ok(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).map(drop)?),
        "inet-dgram-connected" => UdpSocket::bind(("127.0.0.1", 0))?.connect(("127.0.0.1", 9)),
        "raw-connected" => {
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
            Ok(connect_socket(&raw, &SocketAddr::from(([127, 0, 0, 1], 0)))?)
        }
        "packet" => Ok(socket(AddressFamily::PACKET, SocketType::RAW, None).map(drop)?),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
