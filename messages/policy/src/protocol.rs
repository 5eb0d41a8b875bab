//! Protocol names and the sockets that they stand for.
//!
//! Numbers are those of `socket(2)` on Linux. Decision: the names of Internet protocols (`tcp`, `udp`, `icmp`, `icmpv6`,
//! `sctp`, `dccp`) mean sockets of `AF_INET` and `AF_INET6` only; that KubeArmor's `tcp` also hits Unix stream sockets is a
//! defect of its map key, not a feature. `raw` is raw IP and packet sockets of type `SOCK_RAW`, not netlink, which is
//! `SOCK_RAW` by accident. The names of socket types (`stream`, `dgram` ...) mean any family. A protocol of 0 is the type's
//! default and listed beside it. What falls back to a protocol or is a variant of it counts as it: `tcp` covers the stream sockets
//! of `AF_SMC`, which speak TCP with every peer that does not speak SMC, and `udp` covers UDP-Lite. `IPPROTO_MPTCP` is 262: its low byte, all that a shape holds, is TCP's on purpose, so that
//! `tcp` covers it.

use crate::{
    diagnostic::{Problems, quoted},
    fields::{self, listed},
    ir::{SocketMatch, SocketShape},
    suggest,
    yaml::Node,
};

pub(crate) const AF_INET: u8 = 2;
const AF_UNIX: u8 = 1;
const AF_INET6: u8 = 10;
const AF_NETLINK: u8 = 16;
const AF_PACKET: u8 = 17;
const AF_SMC: u8 = 43;

const SOCK_STREAM: u8 = 1;
const SOCK_DGRAM: u8 = 2;
const SOCK_RAW: u8 = 3;
const SOCK_RDM: u8 = 4;
const SOCK_SEQPACKET: u8 = 5;
const SOCK_DCCP: u8 = 6;
const SOCK_PACKET: u8 = 10;

pub(crate) const IPPROTO_DEFAULT: u8 = 0;
const IPPROTO_ICMP: u8 = 1;
pub(crate) const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_DCCP: u8 = 33;
const IPPROTO_ICMPV6: u8 = 58;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_UDPLITE: u8 = 136;
/// `SMCPROTO_SMC` and `SMCPROTO_SMC6`: over IPv4 and IPv6.
const SMC_PROTOCOLS: [u8; 2] = [0, 1];

const NAMES: [&str; 13] =
    ["tcp", "udp", "raw", "icmp", "icmpv6", "sctp", "stream", "dgram", "rdm", "seqpacket", "dccp", "packet", "all"];

/// Socket families by the names that tests use.
pub(crate) const FAMILIES: [(&str, u8); 5] =
    [("inet", AF_INET), ("inet6", AF_INET6), ("unix", AF_UNIX), ("netlink", AF_NETLINK), ("packet", AF_PACKET)];

/// Socket types by the names that tests use.
pub(crate) const TYPES: [(&str, u8); 7] = [
    ("stream", SOCK_STREAM),
    ("dgram", SOCK_DGRAM),
    ("raw", SOCK_RAW),
    ("rdm", SOCK_RDM),
    ("seqpacket", SOCK_SEQPACKET),
    ("dccp", SOCK_DCCP),
    ("packet", SOCK_PACKET),
];

/// Protocols by the names that tests use.
pub(crate) const PROTOCOLS: [(&str, u8); 6] = [
    ("tcp", IPPROTO_TCP),
    ("udp", IPPROTO_UDP),
    ("icmp", IPPROTO_ICMP),
    ("icmpv6", IPPROTO_ICMPV6),
    ("sctp", IPPROTO_SCTP),
    ("dccp", IPPROTO_DCCP),
];

/// The type of socket that the protocol is usually spoken over.
pub(crate) fn usual_type(protocol: u8) -> u8 {
    match protocol {
        IPPROTO_UDP => SOCK_DGRAM,
        IPPROTO_ICMP | IPPROTO_ICMPV6 => SOCK_RAW,
        IPPROTO_DCCP => SOCK_DCCP,
        _ => SOCK_STREAM,
    }
}

/// The sockets of a field such as `tcp` or `TCP,udp`: one match for each name, in order, without repetition.
pub(crate) fn sockets(node: &Node, place: &str, problems: &mut Problems) -> Vec<SocketMatch> {
    let Some(written) = fields::text(node, place, problems) else { return Vec::new() };
    let mut matches: Vec<SocketMatch> = Vec::new();
    for name in fields::comma_list(written) {
        match named(name) {
            Some(socket) if matches.contains(&socket) => {}
            Some(socket) => matches.push(socket),
            None => {
                let instead = match suggest::nearest(name, NAMES) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write one of {}, or several with commas", listed(&NAMES)),
                };
                let what = format!("{} names {}", quoted(place), quoted(name));
                problems.error(node.at, what, "it is no known protocol", instead);
            }
        }
    }
    matches
}

/// The sockets of one name, in lower or upper case but not mixed, as KubeArmor's schema has it.
fn named(written: &str) -> Option<SocketMatch> {
    let name = written.to_ascii_lowercase();
    if written != name && written != name.to_ascii_uppercase() {
        return None;
    }
    let any_of = shapes(&name)?;
    Some(SocketMatch { name, any_of, pts: None })
}

fn shapes(name: &str) -> Option<Vec<SocketShape>> {
    Some(match name {
        "tcp" => {
            let mut tcp = of_protocols(SOCK_STREAM, &[IPPROTO_DEFAULT, IPPROTO_TCP]);
            tcp.extend(SMC_PROTOCOLS.map(|protocol| shape(Some(AF_SMC), Some(SOCK_STREAM), Some(protocol))));
            tcp
        }
        "udp" => of_protocols(SOCK_DGRAM, &[IPPROTO_DEFAULT, IPPROTO_UDP, IPPROTO_UDPLITE]),
        // Also the unprivileged ping sockets, which are datagram sockets.
        "icmp" => internet(&[(None, Some(IPPROTO_ICMP))]),
        "icmpv6" => internet(&[(None, Some(IPPROTO_ICMPV6))]),
        "sctp" => internet(&[(None, Some(IPPROTO_SCTP)), (Some(SOCK_SEQPACKET), Some(IPPROTO_DEFAULT))]),
        "dccp" => internet(&[(Some(SOCK_DCCP), None)]),
        "raw" => [AF_INET, AF_INET6, AF_PACKET].map(|domain| shape(Some(domain), Some(SOCK_RAW), None)).to_vec(),
        // SOCK_PACKET is the obsolete way to a packet socket; the kernel turns it into one.
        "packet" => vec![shape(Some(AF_PACKET), None, None), shape(None, Some(SOCK_PACKET), None)],
        "stream" => of_type(SOCK_STREAM),
        "dgram" => of_type(SOCK_DGRAM),
        "rdm" => of_type(SOCK_RDM),
        "seqpacket" => of_type(SOCK_SEQPACKET),
        "all" => vec![shape(None, None, None)],
        _ => return None,
    })
}

fn shape(domain: Option<u8>, kind: Option<u8>, protocol: Option<u8>) -> SocketShape {
    SocketShape { domain, kind, protocol }
}

fn of_type(kind: u8) -> Vec<SocketShape> {
    vec![shape(None, Some(kind), None)]
}

/// Internet sockets of a type, of each of the protocols.
fn of_protocols(kind: u8, protocols: &[u8]) -> Vec<SocketShape> {
    let pairs: Vec<_> = protocols.iter().map(|protocol| (Some(kind), Some(*protocol))).collect();
    internet(&pairs)
}

fn internet(pairs: &[(Option<u8>, Option<u8>)]) -> Vec<SocketShape> {
    let families = [AF_INET, AF_INET6];
    families
        .iter()
        .flat_map(|&domain| pairs.iter().map(move |&(kind, protocol)| shape(Some(domain), kind, protocol)))
        .collect()
}
