//! What the network automaton reads: domain, type, protocol, port in network order, address of 4 or 16 bytes, and each of
//! these bytes as two symbols: 1 + the high nibble, then 1 + the low nibble.
//!
//! Decisions, which the kernel must repeat symbol for symbol:
//! - Nibbles, not bytes: a row has 16 classes at most, whatever the rules (1,000 addresses would take 256 columns a row as
//!   bytes). And no symbol is NUL, so that zero padding moves no state, as in paths.
//! - An IPv4-mapped IPv6 address is written as IPv4 and the domain is then `AF_INET`, because it *is* an IPv4
//!   connection: otherwise a mapped address would pass by every IPv4 rule.
//! - The unspecified address is written as loopback (`0.0.0.0` as `127.0.0.1`, after unmapping; `::` as `::1`), because
//!   connect(2) goes there: otherwise `0.0.0.0` would pass by a rule on `127.0.0.0/8`.
//! - The protocol is the low byte of the number: `IPPROTO_MPTCP` (262) becomes 6, TCP, which it speaks on the wire.
//!
//! A socket's creation has only the first [`SOCKET_SYMBOLS`], and so has a connect of another domain than IPv4 and IPv6.

use std::net::IpAddr;

/// `PAL_ENDPOINT_SOCKET`: what is known when a socket is created.
pub const SOCKET_SYMBOLS: usize = 6;
/// `PAL_ENDPOINT_MAX`.
pub const MAX_SYMBOLS: usize = 42;
/// Linux `AF_INET`.
pub const AF_INET: u8 = 2;
/// Linux `AF_INET6`.
pub const AF_INET6: u8 = 10;

/// One end of a connection, or a socket that has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// `AF_*`. Of the address where there is one.
    pub domain: u8,
    /// `SOCK_*` without flags.
    pub kind: u8,
    /// `IPPROTO_*`; the number's low byte.
    pub protocol: u8,
    /// Destination address and port, in host order; absent at the socket's creation and for other domains.
    pub destination: Option<(IpAddr, u16)>,
}

/// The symbols of an [`Endpoint`]: no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointSymbols {
    symbols: [u8; MAX_SYMBOLS],
    length: usize,
}

impl EndpointSymbols {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.symbols[self.length..self.length + 2].copy_from_slice(&symbols_of(*byte));
            self.length += 2;
        }
    }
}

impl AsRef<[u8]> for EndpointSymbols {
    fn as_ref(&self) -> &[u8] {
        &self.symbols[..self.length]
    }
}

/// How one byte of an endpoint is written.
#[must_use]
pub const fn symbols_of(byte: u8) -> [u8; 2] {
    [1 + (byte >> 4), 1 + (byte & 15)]
}

impl Endpoint {
    /// What the network automaton reads for this endpoint.
    #[must_use]
    pub fn encode(&self) -> EndpointSymbols {
        let mut out = EndpointSymbols { symbols: [0; MAX_SYMBOLS], length: 0 };
        match self.destination.map(|(address, port)| (reached(address), port.to_be_bytes())) {
            None => out.push(&[self.domain, self.kind, self.protocol]),
            Some((IpAddr::V4(v4), port)) => {
                out.push(&[AF_INET, self.kind, self.protocol]);
                out.push(&port);
                out.push(&v4.octets());
            }
            Some((IpAddr::V6(v6), port)) => {
                out.push(&[AF_INET6, self.kind, self.protocol]);
                out.push(&port);
                out.push(&v6.octets());
            }
        }
        out
    }
}

/// Where connect(2) to `address` goes: IPv4 for mapped addresses, loopback for the unspecified one.
#[must_use]
pub fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        other => other,
    }
}
