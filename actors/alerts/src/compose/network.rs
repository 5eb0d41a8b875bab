//! Sockets and endpoints in words.

use std::net::IpAddr;

use palisade_domain::{KubeArmorOperation, Operation};
use palisade_kernel_abi::record::{Network, NetworkOperation};

use super::act::Act;
use crate::names;

/// A socket was made.
pub fn socket(network: &Network) -> Act {
    let resource = socket_words(network);
    let mut act = Act::new(Operation::Socket, KubeArmorOperation::Network, resource).called("SOCKET");
    act.resource = format!(
        "domain={} type={} protocol={}",
        names::domain(network.domain),
        names::socket_type(network.socket_type),
        names::protocol(network.domain, network.protocol)
    );
    act.returned(network.result)
}

/// A destination was asked for by connect(2) or with a datagram.
pub fn connect(network: &Network) -> Act {
    let (operation, call) = match network.operation {
        NetworkOperation::Send => (Operation::Send, "SENDTO"),
        _ => (Operation::Connect, "CONNECT"),
    };
    at_endpoint(operation, call, network)
}

/// A socket got an address of its own, or listens at it.
pub fn bind(network: &Network) -> Act {
    match network.operation {
        NetworkOperation::Listen => at_endpoint(Operation::Listen, "LISTEN", network),
        _ => at_endpoint(Operation::Bind, "BIND", network),
    }
}

/// An act at an endpoint.
pub fn at_endpoint(operation: Operation, call: &str, network: &Network) -> Act {
    let mut act = Act::new(operation, KubeArmorOperation::Network, endpoint(network)).called(call);
    let domain = names::domain(network.domain);
    act.resource = match network.destination {
        Some((address, port)) => format!("sa_family={domain} sin_port={port} sin_addr={address}"),
        None => format!("sa_family={domain}"),
    };
    act.with("domain", domain)
        .with("type", names::socket_type(network.socket_type))
        .with("protocol", transport(network))
        .returned(network.result)
}

fn socket_words(network: &Network) -> String {
    format!(
        "{} {} {}",
        names::domain(network.domain),
        names::socket_type(network.socket_type),
        names::protocol(network.domain, network.protocol)
    )
}

/// TCP and UDP are what a stream and a datagram of the Internet are where no protocol is named.
fn transport(network: &Network) -> String {
    let named = match (network.domain, network.protocol, network.socket_type) {
        (2 | 10, 0, 1) => 6,
        (2 | 10, 0, 2) => 17,
        (_, protocol, _) => protocol,
    };
    names::protocol(network.domain, named)
}

/// `tcp 10.0.0.1:5000`.
fn endpoint(network: &Network) -> String {
    let transport = transport(network).to_lowercase();
    match network.destination {
        Some((IpAddr::V4(address), port)) => format!("{transport} {address}:{port}"),
        Some((IpAddr::V6(address), port)) => format!("{transport} [{address}]:{port}"),
        None => socket_words(network),
    }
}
