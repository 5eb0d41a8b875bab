//! Flags and addresses as an event has them.
//!
//! Invariant: what has no meaning here is left out, and nothing is guessed.

use std::net::IpAddr;

/// What `creat` asks for: to write, to make the file, and to empty it.
pub const CREAT: u32 = 0o1101;
/// Flags of a capture, which are the same on every machine, and Linux's of x86.
const OPEN_FLAGS: [(u32, u32); 12] = [
    (1 << 2, 0o100),
    (1 << 3, 0o2000),
    (1 << 4, 0o10_000),
    (1 << 5, 0o200),
    (1 << 6, 0o4000),
    (1 << 7, 0o4_010_000),
    (1 << 8, 0o1000),
    (1 << 9, 0o40_000),
    (1 << 10, 0o200_000),
    (1 << 11, 0o100_000),
    (1 << 12, 0o2_000_000),
    (1 << 13, 0o20_200_000),
];

/// Flags of an open.
#[must_use]
pub fn open_flags(told: u32) -> u32 {
    // Reading is a bit, writing another.
    let access = match told & 3 {
        2 => 1,
        3 => 2,
        _ => 0,
    };
    OPEN_FLAGS.iter().filter(|(bit, _)| told & bit != 0).fold(access, |flags, (_, flag)| flags | flag)
}

/// The second of a socket's two ends: family, source and port, destination and port.
#[must_use]
pub fn peer(tuple: &[u8]) -> Option<(IpAddr, u16)> {
    let (family, ends) = tuple.split_first()?;
    let (_, destination) = ends.split_at_checked(ends.len() / 2)?;
    of_family(*family, destination)
}

/// Family, address and port, which is of this machine's byte order.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let (family, address) = bytes.split_first()?;
    of_family(*family, address)
}

fn of_family(family: u8, bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    let address = match family {
        2 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        10 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some((address, u16::from_le_bytes(port.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_capture_flags_of_an_open_are_those_of_linux() {
        assert_eq!(open_flags(1), 0);
        assert_eq!(open_flags(2 | 1 << 2 | 1 << 8), 0o1101);
        assert_eq!(open_flags(3 | 1 << 12), 0o2_000_002);
        // For a path only: neither reading nor writing.
        assert_eq!(open_flags(1 << 10), 0o200_000);
    }

    #[test]
    fn unit_capture_addresses_are_read_where_they_are_whole() {
        let v4 = [2, 10, 0, 0, 7, 0x51, 0];
        assert_eq!(address(&v4), Some(("10.0.0.7".parse().expect("an address"), 81)));
        let tuple = [&v4[..1], &[0; 6], &v4[1..]].concat();
        assert_eq!(peer(&tuple), address(&v4));
        let v6 = [&[10][..], &[0; 15], &[1], &[53, 0]].concat();
        assert_eq!(address(&v6), Some(("::1".parse().expect("an address"), 53)));
        for broken in [&v4[..6], &v6[..18], &[1, 0, 0, 0, 0, 0, 0], &[2], &[]] {
            assert_eq!(address(broken), None, "{broken:?}");
        }
    }
}
