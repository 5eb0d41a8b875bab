//! `KubeArmorNetworkPolicy` (`security.kubearmor.com/v1`): packets of hosts, or of workloads of a namespace, by address and port.
//!
//! KubeArmor writes nftables rules of it. What means the same here is lowered to destinations: an `egress` item of address ranges and
//! ports, which decides when a socket connects or sends. The rest is unheld, each with its reason: `ingress`, and items with `iface`, `limit`
//! or `duration`. Differences that are decisions:
//! - a packet that no socket of the workload asked for (ICMP errors, raw packets, forwarded ones) is no connection and not judged;
//! - loopback is never judged, as there: ranges are lowered without 127.0.0.0/8 and ::1, and an Allow comes with an Allow of both. The
//!   host's own other addresses are judged here; nftables sees them on `lo` too;
//! - the most specific rule decides, not the first of the first policy;
//! - a range of IPv4 is about IPv4 (KubeArmor's own generator makes a rule for all of IPv6 beside it);
//! - an egress item for containers without a limit holds here, and does nothing there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palisade_domain::Action;

use crate::{
    common::{Common, Level},
    destination,
    diagnostic::{Problems, quoted},
    draft::{Draft, Item},
    fields::{self, Fields},
    ir::{DestinationMatch, Matcher, Transport},
    node_selector,
    policy::PolicySelector,
    selector, suggest,
    yaml::Node,
};

/// Ports by the names of /etc/services that policies use, and KubeArmor's `dns`.
const SERVICES: [(&str, u16); 27] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("imap2", 143),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("nfs", 2049),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("redis", 6379),
];

type Range = (IpAddr, u8);

const LOOPBACK: [Range; 2] = [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];

/// Lowers a `spec` into the draft.
pub(crate) fn read(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    let common = Common::read(spec, Level::Spec, draft.problems);
    let selector = whom(spec, draft);
    level(spec, draft);
    direction(spec, "ingress", "from", &common, draft, |item, _, _, draft| {
        let reason = "packets that arrive are not judged: the tiers of this version decide what a socket of the workload asks for";
        let instead = "keep the rule in nftables or a Kubernetes NetworkPolicy";
        draft.unheld(item.fields.at, &item.fields.place.clone(), "ingress", reason, instead);
    });
    direction(spec, "egress", "to", &common, draft, egress);
    selector
}

fn whom(spec: &mut Fields<'_>, draft: &mut Draft<'_>) -> PolicySelector {
    if !spec.has("selector") {
        return PolicySelector::Hosts(node_selector::read(spec, draft.problems));
    }
    if let Some(node) = spec.get("nodeSelector") {
        let instead = "write one policy for hosts and one for workloads";
        draft.problems.error(node.at, "both `selector` and `nodeSelector`", "a policy is for one of them", instead);
    }
    // The kind is the cluster's, but its examples say the namespace of their pods in `metadata`.
    PolicySelector::Workloads(selector::read(spec, draft.problems))
}

/// The scope of quotas, which nothing counts.
fn level(spec: &mut Fields<'_>, draft: &mut Draft<'_>) {
    let Some(node) = spec.get("level") else { return };
    let Some(written) = fields::text(node, "spec.level", draft.problems) else { return };
    if !matches!(written, "Pod" | "Policy" | "pod" | "policy") {
        let what = format!("`spec.level` is {}", quoted(written));
        draft.problems.error(node.at, what, "a quota counts by pod or by policy", "write `Pod` or `Policy`");
    }
}

/// Reads the items of a direction; `held` gets each that is sound, with its ranges and ports.
fn direction(
    spec: &mut Fields<'_>,
    name: &'static str,
    peers: &'static str,
    outer: &Common,
    draft: &mut Draft<'_>,
    held: impl Fn(&mut Item<'_>, &[Range], &[Ports], &mut Draft<'_>),
) {
    let Some(node) = spec.get(name) else { return };
    for (index, node) in fields::list(node, name, draft.problems).iter().enumerate() {
        draft.item(node, format!("{name}[{index}]"), outer, |item, draft| {
            let before = draft.problems.refusals();
            let ranges = ranges(item, peers, draft);
            let ports = ports(item, draft);
            let more = interfaces_and_quota(item, draft);
            if draft.problems.refusals() != before {
                return;
            }
            match more {
                Some((what, reason)) if name == "egress" => {
                    let instead = "keep the rule in nftables, or leave the field out";
                    draft.unheld(item.fields.at, &item.fields.place.clone(), what, reason, instead);
                }
                _ => held(item, &ranges, &ports, draft),
            }
        });
    }
}

/// A transport and the ports of it; no transport: any.
type Ports = (Option<Transport>, Option<(u16, u16)>);

fn egress(item: &mut Item<'_>, ranges: &[Range], ports: &[Ports], draft: &mut Draft<'_>) {
    let everywhere = [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];
    let ranges = if ranges.is_empty() { &everywhere[..] } else { ranges };
    let mut judged = Vec::new();
    ranges.iter().for_each(|range| without_loopback(*range, &mut judged));
    if item.common.action == Some(Action::Allow) {
        judged.extend(LOOPBACK);
    }
    for range in judged {
        for (protocol, ports) in ports {
            let destination = DestinationMatch { cidr: Some(range), ports: *ports, protocol: *protocol };
            draft.push(item, Matcher::Destination(destination), Default::default());
        }
    }
}

/// The parts of a range that hold no loopback address: the halves that split it off, at most one for each bit.
fn without_loopback(range: Range, out: &mut Vec<Range>) {
    let (address, bits) = range;
    if LOOPBACK.iter().any(|loopback| bits >= loopback.1 && contains(*loopback, address)) {
        return;
    }
    if !LOOPBACK.iter().any(|loopback| contains(range, loopback.0)) {
        return out.push(range);
    }
    let upper = match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | 1 << (31 - u32::from(bits)))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | 1 << (127 - u32::from(bits)))),
    };
    without_loopback((address, bits + 1), out);
    without_loopback((upper, bits + 1), out);
}

fn contains((network, bits): Range, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn ranges(item: &mut Item<'_>, peers: &'static str, draft: &mut Draft<'_>) -> Vec<Range> {
    let Some(node) = item.fields.get(peers) else { return Vec::new() };
    let place = item.fields.place_of(peers);
    let mut ranges = Vec::new();
    for (index, node) in fields::list(node, &place, draft.problems).iter().enumerate() {
        let Some(mut peer) = Fields::of(node, format!("{place}[{index}]"), draft.problems) else { continue };
        let block = peer.require("ipBlock", "write `ipBlock: {cidr: 10.0.0.0/8}`", draft.problems);
        if let Some(mut block) = block.and_then(|node| Fields::of(node, peer.place_of("ipBlock"), draft.problems)) {
            let cidr = block.require("cidr", "write `cidr: 10.0.0.0/8`", draft.problems);
            ranges.extend(cidr.and_then(|node| destination::network(node, &block.place_of("cidr"), draft.problems)));
            let instead = "write the ranges that remain, each in an item of its own";
            block.refuse_misplaced("except", "KubeArmor's ranges have no exceptions", instead, draft.problems);
            block.close(draft.problems);
        }
        peer.close(draft.problems);
    }
    ranges
}

fn ports(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Vec<Ports> {
    let Some(node) = item.fields.get("ports") else { return vec![(None, None)] };
    let place = item.fields.place_of("ports");
    let mut ports = Vec::new();
    let items = fields::list(node, &place, draft.problems);
    for (index, node) in items.iter().enumerate() {
        let Some(mut fields) = Fields::of(node, format!("{place}[{index}]"), draft.problems) else { continue };
        ports.extend(port_item(&mut fields, draft.problems));
        fields.close(draft.problems);
    }
    if items.is_empty() { vec![(None, None)] } else { ports }
}

fn port_item(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Ports> {
    let place = fields.place_of("protocol");
    // TCP where none is written, as in KubeArmor and Kubernetes.
    let protocol = match fields.get("protocol") {
        Some(node) => destination::transport(node, &place, problems),
        None => Some(Transport::Tcp),
    };
    let place = fields.place_of("port");
    let node = fields.require("port", "write `port: \"443\"` or `port: https`", problems);
    let port = node.and_then(|node| port(node, &place, problems));
    let end = fields
        .get("endPort")
        .map(|node| (node.at, fields::integer(node, &fields.place_of("endPort"), 1, 65_535, problems)));
    let low = port?;
    let high = match end {
        None => low,
        Some((at, high)) => {
            let high = u16::try_from(high?).ok()?;
            if high < low {
                let what = format!("{} is {high}", quoted(&fields.place_of("endPort")));
                problems.error(at, what, format!("it is below the port, {low}"), "write the higher one here");
                return None;
            }
            high
        }
    };
    Some((Some(protocol?), Some((low, high))))
}

/// A number or a service's name.
fn port(node: &Node, place: &str, problems: &mut Problems) -> Option<u16> {
    let written = fields::text(node, place, problems)?;
    let is_number = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    let named = SERVICES.iter().find(|(name, _)| written.eq_ignore_ascii_case(name)).map(|(_, port)| *port);
    let port = if is_number { written.parse().ok().filter(|port| *port != 0) } else { named };
    if port.is_none() {
        let instead = match suggest::nearest(written, SERVICES.iter().map(|(name, _)| *name)) {
            Some(near) if !is_number => format!("did you mean `{near}`?"),
            _ => "write a number from 1 to 65535, or a name such as `https`".to_owned(),
        };
        problems.error(node.at, format!("{} is {}", quoted(place), quoted(written)), "it is no known port", instead);
    }
    port
}

/// Whether the item says more than addresses and ports: what, and why that is not held.
fn interfaces_and_quota(item: &mut Item<'_>, draft: &mut Draft<'_>) -> Option<(&'static str, &'static str)> {
    let mut more = None;
    if let Some(node) = item.fields.get("iface") {
        let place = item.fields.place_of("iface");
        let names = fields::list(node, &place, draft.problems);
        for (index, name) in names.iter().enumerate() {
            fields::text(name, &format!("{place}[{index}]"), draft.problems);
        }
        if !names.is_empty() {
            more = Some((
                "iface",
                "which interface a packet takes is not known when a socket connects: the item is not held",
            ));
        }
    }
    let (limit, duration) = (item.fields.get("limit"), item.fields.get("duration"));
    if let Some(node) = limit {
        quantity(node, &item.fields.place_of("limit"), &["KB", "MB", "GB", "K", "M", "G", ""], "500MB", draft.problems);
    }
    if let Some(node) = duration {
        quantity(node, &item.fields.place_of("duration"), &["h", "m", "s"], "30m", draft.problems);
    }
    if limit.is_some() || duration.is_some() {
        more = Some(("limit", "this version counts no traffic: the item is not held"));
    }
    more
}

/// Digits and one of the units.
fn quantity(node: &Node, place: &str, units: &[&str], example: &str, problems: &mut Problems) {
    let Some(written) = fields::text(node, place, problems) else { return };
    let mut rest = written;
    let mut is_sound = !written.is_empty();
    // A duration may have several parts, as Go's have: `1h30m`.
    while is_sound && !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        is_sound = unit.len() < rest.len() && units.contains(&&unit[..end]);
        rest = &unit[end..];
    }
    if !is_sound {
        let units: Vec<&&str> = units.iter().filter(|unit| !unit.is_empty()).collect();
        let why = format!("a number and one of {} is wanted", fields::listed(units));
        let what = format!("{} is {}", quoted(place), quoted(written));
        problems.error(node.at, what, why, format!("write a quantity such as {}", quoted(example)));
    }
}
