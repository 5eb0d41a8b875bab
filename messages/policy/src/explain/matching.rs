//! Whether a rule is about what is done, apart from who does it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palisade_domain::{DeviceClass, Family};

use crate::{
    ir::{DestinationMatch, Matcher, PathMatch, Preset, SocketMatch, Transport},
    policy_test::DeviceAct,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(super) fn domain_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// What is asked about.
pub(super) enum Object<'a> {
    Exec(&'a str),
    Open(&'a str),
    Trace(&'a str),
    Socket { domain: u8, kind: u8, protocol: u8 },
    Connection { address: IpAddr, port: u16, kind: u8, protocol: u8 },
    Domain(&'a str),
    Capability(u8),
    Syscall { number: Option<u16>, number32: Option<u16>, path: Option<&'a str> },
    Preset(Preset),
    Device(&'a DeviceAct),
}

impl Object<'_> {
    pub(super) fn family(&self) -> Family {
        match self {
            Self::Exec(_) => Family::Process,
            Self::Open(_) => Family::File,
            Self::Trace(_) => Family::Ptrace,
            Self::Socket { .. } | Self::Connection { .. } => Family::Network,
            Self::Domain(_) => Family::Dns,
            Self::Capability(_) => Family::Capabilities,
            Self::Syscall { .. } => Family::Syscalls,
            Self::Preset(_) => Family::Presets,
            Self::Device(_) => Family::Device,
        }
    }
}

/// Whether the rule has a say in such questions at all.
pub(super) fn counts(matcher: &Matcher, object: &Object<'_>) -> bool {
    match object {
        // A destination has no say in the making of a socket.
        Object::Socket { .. } => matches!(matcher, Matcher::Socket(_)),
        _ => matcher.family() == object.family(),
    }
}

pub(super) fn is_about(matcher: &Matcher, object: &Object<'_>) -> bool {
    match (matcher, object) {
        (Matcher::Process(rule), Object::Exec(path)) | (Matcher::File(rule), Object::Open(path)) => {
            rule.path.matches(path.as_bytes())
        }
        (Matcher::Ptrace(target), Object::Trace(path)) => target.matches(path.as_bytes()),
        (Matcher::Socket(socket), Object::Socket { domain, kind, protocol }) => {
            is_shape(socket, *domain, *kind, *protocol)
        }
        (Matcher::Socket(socket), Object::Connection { address, kind, protocol, .. }) => {
            is_shape(socket, domain_of(reached(*address)), *kind, *protocol)
        }
        (Matcher::Destination(destination), Object::Connection { address, port, kind, protocol }) => {
            is_destination(destination, reached(*address), *port, *kind, *protocol)
        }
        (Matcher::Dns(dns), Object::Domain(name)) => {
            name.strip_suffix(dns.domain.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }
        (Matcher::Capability(capability), Object::Capability(number)) => capability.number == *number,
        (Matcher::Syscall(call), Object::Syscall { number, number32, path }) => {
            let is_call = match (number, number32) {
                (Some(number), _) => call.numbers.contains(number),
                (None, Some(number)) => call.numbers32.contains(number),
                (None, None) => false,
            };
            let on_path = |wanted: &PathMatch| path.is_some_and(|path| wanted.matches(path.as_bytes()));
            is_call && call.path.as_ref().is_none_or(on_path)
        }
        (Matcher::Preset(preset), Object::Preset(act)) => preset == act,
        (Matcher::Device(wanted), Object::Device(device)) => {
            let DeviceAct { class, sub_class, protocol, level } = **device;
            wanted.is_about(DeviceClass { class, sub_class, protocol }, level)
        }
        _ => false,
    }
}

/// Where a connection really goes: a mapped address is IPv4's, and the unspecified one is loopback.
fn reached(address: IpAddr) -> IpAddr {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    }
}

fn is_shape(socket: &SocketMatch, domain: u8, kind: u8, protocol: u8) -> bool {
    let is = |wanted: Option<u8>, found: u8| wanted.is_none_or(|wanted| wanted == found);
    socket.any_of.iter().any(|shape| is(shape.domain, domain) && is(shape.kind, kind) && is(shape.protocol, protocol))
}

fn is_destination(destination: &DestinationMatch, address: IpAddr, port: u16, kind: u8, protocol: u8) -> bool {
    let transport = match destination.protocol {
        None => true,
        Some(Transport::Tcp) => kind == 1 && [0, 6].contains(&protocol),
        Some(Transport::Udp) => kind == 2 && [0, 17].contains(&protocol),
        Some(Transport::Sctp) => [1, 5].contains(&kind) && protocol == 132,
    };
    let in_range = destination.cidr.is_none_or(|(network, bits)| contains(network, bits, address));
    transport && in_range && destination.ports.is_none_or(|(low, high)| (low..=high).contains(&port))
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            // The address alone is itself; as a network it is all addresses.
            let network = if bits == 32 { reached(IpAddr::V4(network)) } else { IpAddr::V4(network) };
            let IpAddr::V4(network) = network else { return false };
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let network = if bits == 128 { reached(IpAddr::V6(network)) } else { IpAddr::V6(network) };
            let IpAddr::V6(network) = network else { return false };
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V4(_)) if bits >= 96 => {
            network.to_ipv4_mapped().is_some_and(|network| contains(IpAddr::V4(network), bits - 96, address))
        }
        _ => false,
    }
}
