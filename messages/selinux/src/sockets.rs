//! Which class the kernel asks about when a socket is created (security/selinux/hooks.c, since Linux 4.11).
//!
//! Invariant: a class is denied only where the blob blocks every socket of it, those included that no kernel makes: what is denied
//! is never more than is blocked.

use std::collections::BTreeMap;

use palisade_kernel_abi::blob::{AcceptId, Automaton, Blob, Effect, Endpoint, Family, Modifiers, State, symbols_of};

use crate::Classes;

const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: u8 = 16;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
const RAW: u8 = 3;
const SEQPACKET: u8 = 5;
const DCCP: u8 = 6;
/// `SOCK_*` that there are.
const KINDS: std::ops::RangeInclusive<u8> = 1..=10;

/// The class of sockets that are not told apart.
const GENERIC: &str = "socket";

/// `AF_*` whose sockets have one class; `true`: only where the policy has extended socket classes.
const OF_DOMAIN: [(u8, &str, bool); 32] = [
    (3, "ax25_socket", true),
    (4, "ipx_socket", true),
    (5, "appletalk_socket", false),
    (6, "netrom_socket", true),
    (8, "atmpvc_socket", true),
    (9, "x25_socket", true),
    (11, "rose_socket", true),
    (12, "decnet_socket", true),
    (15, "key_socket", false),
    (17, "packet_socket", false),
    (20, "atmsvc_socket", true),
    (21, "rds_socket", true),
    (23, "irda_socket", true),
    (24, "pppox_socket", true),
    (26, "llc_socket", true),
    (29, "can_socket", true),
    (30, "tipc_socket", true),
    (31, "bluetooth_socket", true),
    (32, "iucv_socket", true),
    (33, "rxrpc_socket", true),
    (34, "isdn_socket", true),
    (35, "phonet_socket", true),
    (36, "ieee802154_socket", true),
    (37, "caif_socket", true),
    (38, "alg_socket", true),
    (39, "nfc_socket", true),
    (40, "vsock_socket", true),
    (41, "kcm_socket", true),
    (42, "qipcrtr_socket", true),
    (43, "smc_socket", true),
    (44, "xdp_socket", true),
    (45, "mctp_socket", true),
];

/// `NETLINK_*` that have a class of their own.
const OF_NETLINK: [(u8, &str); 16] = [
    (0, "netlink_route_socket"),
    (4, "netlink_tcpdiag_socket"),
    (5, "netlink_nflog_socket"),
    (6, "netlink_xfrm_socket"),
    (7, "netlink_selinux_socket"),
    (8, "netlink_iscsi_socket"),
    (9, "netlink_audit_socket"),
    (10, "netlink_fib_lookup_socket"),
    (11, "netlink_connector_socket"),
    (12, "netlink_netfilter_socket"),
    (14, "netlink_dnrt_socket"),
    (15, "netlink_kobject_uevent_socket"),
    (16, "netlink_generic_socket"),
    (18, "netlink_scsitransport_socket"),
    (20, "netlink_rdma_socket"),
    (21, "netlink_crypto_socket"),
];

/// The class of a socket by domain, type and the low byte of the protocol.
pub(crate) fn class_of(domain: u8, kind: u8, protocol: u8, extended: bool) -> &'static str {
    match domain {
        AF_UNIX => match kind {
            STREAM | SEQPACKET => "unix_stream_socket",
            DATAGRAM | RAW => "unix_dgram_socket",
            _ => GENERIC,
        },
        AF_INET | AF_INET6 => internet_class(kind, protocol, extended),
        AF_NETLINK => OF_NETLINK.iter().find(|(of, _)| *of == protocol).map_or("netlink_socket", |(_, class)| class),
        _ => {
            let own = OF_DOMAIN.iter().find(|(of, _, extends)| *of == domain && (extended || !extends));
            own.map_or(GENERIC, |(_, class, _)| class)
        }
    }
}

fn internet_class(kind: u8, protocol: u8, extended: bool) -> &'static str {
    match (kind, protocol) {
        // TCP by its number or by none; MPTCP's low byte is TCP's.
        (STREAM | SEQPACKET, 0 | 6) => "tcp_socket",
        (STREAM | SEQPACKET, 132) if extended => "sctp_socket",
        (DATAGRAM, 0 | 17) => "udp_socket",
        (DATAGRAM, 1 | 58) if extended => "icmp_socket",
        (DCCP, _) => "dccp_socket",
        _ => "rawip_socket",
    }
}

/// A class of sockets, which is all that a denial tells of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketClass(&'static str);

impl SocketClass {
    /// By its name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::all().find(|class| class.0 == name)
    }

    /// Of a socket, in a policy that has extended socket classes or not.
    #[must_use]
    pub fn of_socket(domain: u8, kind: u8, protocol: u8, extended: bool) -> Self {
        Self(class_of(domain, kind, protocol, extended))
    }

    /// Each of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let alone = ["unix_stream_socket", "unix_dgram_socket", "tcp_socket", "sctp_socket", "udp_socket"];
        let others = ["icmp_socket", "dccp_socket", "rawip_socket", "netlink_socket", GENERIC];
        let known = alone.into_iter().chain(others).chain(OF_DOMAIN.map(|(_, class, _)| class));
        known.chain(OF_NETLINK.map(|(_, class)| class)).map(Self)
    }

    /// As SELinux calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }

    /// A socket of the class, as most that there are: the first by domain, protocol and type. A denial's record has the class alone, and of a
    /// class that is denied every socket is blocked.
    #[must_use]
    pub fn example(self, extended: bool) -> Option<Endpoint> {
        let all = (1..=u8::MAX).flat_map(|domain| (0..=u8::MAX).map(move |protocol| (domain, protocol)));
        let usual_first = || [DATAGRAM, RAW, STREAM].into_iter().chain(KINDS.filter(|kind| *kind > RAW));
        let mut all = all.flat_map(|(domain, protocol)| usual_first().map(move |kind| (domain, kind, protocol)));
        let found = all.find(|(domain, kind, protocol)| class_of(*domain, *kind, *protocol, extended) == self.0)?;
        let (domain, kind, protocol) = found;
        Some(Endpoint { domain, kind, protocol, destination: None })
    }
}

/// What of a class is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OfClass {
    /// What becomes of those that are judged mildest.
    pub mildest: Effect,
    /// And strictest.
    pub strictest: Effect,
    /// Of some it depends on the executable.
    pub by_source: bool,
}

impl OfClass {
    fn and(self, other: Self) -> Self {
        Self {
            mildest: self.mildest.min(other.mildest),
            strictest: self.strictest.max(other.strictest),
            by_source: self.by_source || other.by_source,
        }
    }
}

/// What the blob decides of each class.
pub(crate) fn of_classes(blob: &Blob, classes: &Classes) -> BTreeMap<&'static str, OfClass> {
    let mut walker = Walker { blob, known: BTreeMap::new() };
    let mut all: BTreeMap<&'static str, OfClass> = BTreeMap::new();
    let start = blob.start(Automaton::Network);
    for domain in 0..=u8::MAX {
        let after_domain = walker.after(start, domain);
        for kind in KINDS {
            let after_kind = walker.after(after_domain, kind);
            for (protocol, of_protocol) in (0..=u8::MAX).zip(walker.protocols(after_kind)) {
                let class = class_of(domain, kind, protocol, classes.extended_sockets);
                all.entry(class).and_modify(|of_class| *of_class = of_class.and(of_protocol)).or_insert(of_protocol);
            }
        }
    }
    all
}

struct Walker<'a> {
    blob: &'a Blob,
    /// By where the automaton stands after domain and type.
    known: BTreeMap<State, [OfClass; 256]>,
}

impl Walker<'_> {
    /// Where a byte leads, which the blob reads as two symbols.
    fn after(&self, state: State, byte: u8) -> State {
        symbols_of(byte).into_iter().fold(state, |state, symbol| self.blob.step(Automaton::Network, state, symbol))
    }

    fn protocols(&mut self, state: State) -> [OfClass; 256] {
        if let Some(known) = self.known.get(&state) {
            return *known;
        }
        let of = |protocol: usize| {
            let end = self.after(state, protocol as u8);
            let accept = AcceptId(self.blob.accept_at(Automaton::Network, end));
            let decided = self.blob.mildest(Family::Socket, accept, Modifiers::NONE);
            OfClass { mildest: decided.effect, strictest: decided.strictest, by_source: decided.by_source }
        };
        let protocols = std::array::from_fn(of);
        self.known.insert(state, protocols);
        protocols
    }
}
