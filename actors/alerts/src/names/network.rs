//! Sockets, protocols and DNS.

/// `linux/socket.h` (kernel's own, `AF_*`).
#[must_use]
pub fn domain(number: u8) -> String {
    const NAMES: [&str; 46] = [
        "UNSPEC",
        "UNIX",
        "INET",
        "AX25",
        "IPX",
        "APPLETALK",
        "NETROM",
        "BRIDGE",
        "ATMPVC",
        "X25",
        "INET6",
        "ROSE",
        "DECnet",
        "NETBEUI",
        "SECURITY",
        "KEY",
        "NETLINK",
        "PACKET",
        "ASH",
        "ECONET",
        "ATMSVC",
        "RDS",
        "SNA",
        "IRDA",
        "PPPOX",
        "WANPIPE",
        "LLC",
        "IB",
        "MPLS",
        "CAN",
        "TIPC",
        "BLUETOOTH",
        "IUCV",
        "RXRPC",
        "ISDN",
        "PHONET",
        "IEEE802154",
        "CAIF",
        "ALG",
        "NFC",
        "VSOCK",
        "KCM",
        "QIPCRTR",
        "SMC",
        "XDP",
        "MCTP",
    ];
    NAMES.get(usize::from(number)).map_or_else(|| number.to_string(), |name| format!("AF_{name}"))
}

/// `linux/net.h`, `SOCK_*`.
#[must_use]
pub fn socket_type(number: u8) -> String {
    let name = match number {
        1 => "STREAM",
        2 => "DGRAM",
        3 => "RAW",
        4 => "RDM",
        5 => "SEQPACKET",
        6 => "DCCP",
        10 => "PACKET",
        other => return other.to_string(),
    };
    format!("SOCK_{name}")
}

/// `linux/in.h`, `IPPROTO_*`, of Internet sockets; the low byte of MPTCP's 262 is 6, as TCP's.
#[must_use]
pub fn protocol(domain: u8, number: u8) -> String {
    let name = match (domain, number) {
        (2 | 10, 1) => "ICMP",
        (2 | 10, 2) => "IGMP",
        (2 | 10, 4) => "IPIP",
        (2 | 10, 6) => "TCP",
        (2 | 10, 17) => "UDP",
        (2 | 10, 33) => "DCCP",
        (2 | 10, 41) => "IPV6",
        (2 | 10, 47) => "GRE",
        (2 | 10, 50) => "ESP",
        (2 | 10, 51) => "AH",
        (2 | 10, 58) => "ICMPV6",
        (2 | 10, 132) => "SCTP",
        (2 | 10, 136) => "UDPLITE",
        (2 | 10, 255) => "RAW",
        (_, other) => return other.to_string(),
    };
    name.to_owned()
}

/// DNS types by IANA's registry (DNS parameters, resource record types).
#[must_use]
pub fn dns_type(number: u16) -> String {
    let name = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

/// DNS response codes by IANA's registry (DNS parameters, RCODEs).
#[must_use]
pub fn dns_rcode(number: u8) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE",
    ];
    NAMES.get(usize::from(number)).map_or_else(|| number.to_string(), |name| (*name).to_owned())
}
