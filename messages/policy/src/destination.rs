//! `network.destinations` of a PalisadePolicy: networks, ports, transports.
//!
//! Decision: a network with host bits set (`10.0.0.1/8`) is refused and not masked, for the writer meant either the host or
//! the network. An IPv4-mapped IPv6 network becomes the IPv4 network, because that is how the kernel's traffic is matched.
//! A list of ports becomes a rule for each range, all with the item's place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::{Draft, Item},
    fields::{self, Fields},
    ir::{DestinationMatch, Matcher, Transport},
    yaml::{Node, Value},
};

/// Most port ranges of one item.
pub const MAX_PORT_RANGES: usize = 64;

/// Lowers the destinations of the family.
pub(crate) fn read(family: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.items(family, "destinations", outer, |item, draft| {
        let instead = "remove it; `cidr`, `ports` and `protocol` are held";
        item.fields.refuse_unsupported(&["fqdn", "labels", "direction"], instead, draft.problems);
        let before = draft.problems.refusals();
        let sources = draft.sources(item);
        let destinations = destinations(item, draft.problems);
        if draft.problems.refusals() == before {
            for destination in destinations {
                draft.push(item, Matcher::Destination(destination), sources.clone());
            }
        }
    });
}

fn destinations(item: &mut Item<'_>, problems: &mut Problems) -> Vec<DestinationMatch> {
    let fields = &mut item.fields;
    let cidr_place = fields.place_of("cidr");
    let (cidr, ports, protocol) = (fields.get("cidr"), fields.get("ports"), fields.get("protocol"));
    let later = ["fqdn", "labels", "direction"];
    if cidr.is_none() && ports.is_none() && protocol.is_none() && !later.iter().any(|name| fields.has(name)) {
        let what = format!("{} names no destination", quoted(&fields.place));
        let instead = "write `cidr`, `ports` or `protocol`; `cidr: 0.0.0.0/0` and `cidr: ::/0` are all addresses";
        problems.error(fields.at, what, "an item without any would match everything by accident", instead);
        return Vec::new();
    }
    let cidr = cidr.and_then(|node| network(node, &cidr_place, problems));
    let transport = protocol.and_then(|node| transport(node, &fields.place_of("protocol"), problems));
    let ranges = match ports {
        Some(node) => port_ranges(node, &fields.place_of("ports"), problems).into_iter().map(Some).collect(),
        None => vec![None],
    };
    ranges.into_iter().map(|ports| DestinationMatch { cidr, ports, protocol: transport }).collect()
}

pub(crate) fn transport(node: &Node, place: &str, problems: &mut Problems) -> Option<Transport> {
    let written = fields::text(node, place, problems)?;
    match written.to_ascii_lowercase().as_str() {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "sctp" => Some(Transport::Sctp),
        _ => {
            let what = format!("{} is {}", quoted(place), quoted(written));
            let instead = "write `TCP`, `UDP` or `SCTP`, one an item, or leave it out for all";
            problems.error(node.at, what, "a destination has a transport with ports", instead);
            None
        }
    }
}

pub(crate) fn network(node: &Node, place: &str, problems: &mut Problems) -> Option<(IpAddr, u8)> {
    let written = fields::text(node, place, problems)?;
    match parse_network(written) {
        Ok(network) => Some(network),
        Err((why, instead)) => {
            problems.error(node.at, format!("{} is {}", quoted(place), quoted(written)), why, instead);
            None
        }
    }
}

/// The network, or why it is none and what to write.
fn parse_network(written: &str) -> Result<(IpAddr, u8), (&'static str, String)> {
    let Some((address, bits)) = written.split_once('/') else {
        let instead = match written.parse::<IpAddr>() {
            Ok(address) => format!("write `{address}/{}` for this one address", width(address)),
            Err(_) => "write a network such as `10.0.0.0/8` or `fd00::/8`".to_owned(),
        };
        return Err(("a network is an address, `/` and a prefix length", instead));
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err((
            "what is before `/` is no IP address",
            "write a network such as `10.0.0.0/8` or `fd00::/8`".into(),
        ));
    };
    let widest = width(address);
    let is_number = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = bits.parse::<u8>().ok().filter(|bits| is_number && *bits <= widest) else {
        let instead = format!("write a length from 0 to {widest}");
        return Err(("the prefix length is out of range", instead));
    };
    let masked = masked(address, bits);
    if masked != address {
        let instead = format!("write `{masked}/{bits}` for the network, `{address}/{widest}` for the address");
        return Err(("it has bits set after the prefix", instead));
    }
    Ok(match address {
        IpAddr::V6(v6) if bits >= 96 => v6.to_ipv4_mapped().map_or((address, bits), |v4| (IpAddr::V4(v4), bits - 96)),
        _ => (address, bits),
    })
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// A port, a range, or a list of them.
fn port_ranges(node: &Node, place: &str, problems: &mut Problems) -> Vec<(u16, u16)> {
    let Value::Sequence(items) = &node.value else {
        return port_range(node, place, problems).into_iter().collect();
    };
    if items.is_empty() || items.len() > MAX_PORT_RANGES {
        let what = format!("{} has {} items", quoted(place), items.len());
        let why = format!("from 1 to {MAX_PORT_RANGES} are taken");
        problems.error(node.at, what, why, "leave `ports` out for all ports, or use ranges such as \"8000-8010\"");
        return Vec::new();
    }
    let range = |(index, item)| port_range(item, &format!("{place}[{index}]"), problems);
    items.iter().enumerate().filter_map(range).collect()
}

fn port_range(node: &Node, place: &str, problems: &mut Problems) -> Option<(u16, u16)> {
    let Value::Scalar { text, .. } = &node.value else {
        fields::wrong_kind(node, place, "a port", "write a number, or a range such as \"8000-8010\"", problems);
        return None;
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high => return Some((low, high)),
        (Some(low), Some(high)) => {
            let what = format!("{} is {}", quoted(place), quoted(text));
            problems.error(node.at, what, "the range runs backwards", format!("write \"{high}-{low}\""));
        }
        _ => {
            let what = format!("{} is {}", quoted(place), quoted(text));
            let instead = match text.contains(',') {
                true => format!("write a list: {}", quoted(&format!("[{text}]"))),
                false => "write a number, or a range such as \"8000-8010\"".to_owned(),
            };
            problems.error(node.at, what, "a port is a number from 1 to 65535", instead);
        }
    }
    None
}

fn port(text: &str) -> Option<u16> {
    let text = text.trim();
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}
