//! What sockets each protocol name stands for, as numbers of `socket(2)`.

use super::{KUBEARMOR, rules};
use crate::ir::{Matcher, SocketShape};

const INET: u8 = 2;
const INET6: u8 = 10;
const UNIX: u8 = 1;
const NETLINK: u8 = 16;
const PACKET: u8 = 17;
const VSOCK: u8 = 40;
const SMC: u8 = 43;

fn shapes(protocol: &str) -> Vec<SocketShape> {
    let rules = rules(&format!("{KUBEARMOR}  network: {{matchProtocols: [{{protocol: \"{protocol}\"}}]}}\n"));
    let all = rules.iter().flat_map(|rule| match &rule.matcher {
        Matcher::Socket(socket) => socket.any_of.clone(),
        other => panic!("no socket: {other:?}"),
    });
    all.collect()
}

fn matches(protocol: &str, (domain, kind, number): (u8, u8, u8)) -> bool {
    let fits = |wanted: Option<u8>, actual| wanted.is_none_or(|wanted| wanted == actual);
    let one =
        |shape: &SocketShape| fits(shape.domain, domain) && fits(shape.kind, kind) && fits(shape.protocol, number);
    shapes(protocol).iter().any(one)
}

#[test]
fn unit_protocol_names_stand_for_their_sockets_and_no_others() {
    /// Family, type, protocol.
    type Socket = (u8, u8, u8);
    let table: [(&str, &[Socket], &[Socket]); 13] = [
        (
            "tcp",
            &[(INET, 1, 0), (INET, 1, 6), (INET6, 1, 0), (INET6, 1, 6), (SMC, 1, 0), (SMC, 1, 1)],
            &[(UNIX, 1, 0), (INET, 2, 0), (INET, 1, 132), (VSOCK, 1, 0)],
        ),
        (
            "udp",
            &[(INET, 2, 0), (INET6, 2, 17), (INET, 2, 136)],
            &[(UNIX, 2, 0), (INET, 1, 0), (INET, 2, 1), (NETLINK, 2, 0)],
        ),
        (
            "raw",
            &[(INET, 3, 1), (INET6, 3, 58), (INET, 3, 255), (PACKET, 3, 3)],
            &[(NETLINK, 3, 0), (INET, 1, 0), (PACKET, 2, 0)],
        ),
        ("icmp", &[(INET, 3, 1), (INET, 2, 1), (INET6, 3, 1)], &[(INET, 3, 58), (UNIX, 2, 1), (INET, 2, 0)]),
        ("icmpv6", &[(INET6, 3, 58), (INET6, 2, 58)], &[(INET, 3, 1), (UNIX, 3, 58)]),
        ("sctp", &[(INET, 1, 132), (INET6, 5, 132), (INET, 5, 0)], &[(INET, 1, 0), (UNIX, 5, 0)]),
        ("dccp", &[(INET, 6, 0), (INET6, 6, 33)], &[(INET, 1, 33), (UNIX, 6, 0)]),
        ("packet", &[(PACKET, 3, 3), (PACKET, 2, 0), (INET, 10, 0)], &[(INET, 3, 1)]),
        ("stream", &[(UNIX, 1, 0), (INET, 1, 6), (VSOCK, 1, 0)], &[(INET, 2, 0)]),
        ("dgram", &[(UNIX, 2, 0), (INET, 2, 17)], &[(INET, 1, 0)]),
        ("rdm", &[(30, 4, 0)], &[(INET, 1, 0)]),
        ("seqpacket", &[(UNIX, 5, 0), (INET, 5, 132)], &[(INET, 1, 0)]),
        ("all", &[(UNIX, 1, 0), (INET, 2, 17), (NETLINK, 3, 9), (PACKET, 3, 3)], &[]),
    ];
    for (name, inside, outside) in table {
        inside.iter().for_each(|socket| assert!(matches(name, *socket), "{name} does not match {socket:?}"));
        outside.iter().for_each(|socket| assert!(!matches(name, *socket), "{name} matches {socket:?}"));
    }
}

#[test]
fn unit_protocol_names_may_be_upper_case_and_in_comma_lists() {
    assert_eq!(shapes("TCP"), shapes("tcp"));
    assert_eq!(shapes("tcp, UDP"), [shapes("tcp"), shapes("udp")].concat());
    assert_eq!(shapes("tcp,TCP"), shapes("tcp"), "a name twice is one rule");
}
