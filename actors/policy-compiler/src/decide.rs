//! What a compiled policy says of a stated act, by the walk that the kernel does: for policy tests and rehearsals.
//!
//! Decision: a stated connection is two acts of one executable, as it is for the kernel: the socket is made, then it connects. A Block of
//! the socket is the answer, for no connection follows it; else the stricter of the two, and the connection's where they are equal: its
//! alert names the destination.

use palisade_kernel_abi::blob::{
    AF_INET, AF_INET6, AcceptId, Decision, Effect, Endpoint, Family, Modifiers, SourceId, domain_path,
};
use palisade_policy::policy_test::Act;
use palisade_protocol::CompiledPolicy;

/// Decides the act. A source that is not stated is an executable that no rule names.
#[must_use]
pub fn decide(policy: &CompiledPolicy, act: &Act) -> Decision {
    let blob = &policy.blob;
    let source = |path: &Option<String>| path.as_ref().map_or(SourceId::NONE, |path| blob.source_id(path.as_bytes()));
    let by_path = |family, path: &str, from: &Option<String>, modifiers| {
        blob.decide(family, blob.path_accept(path.as_bytes()), source(from), modifiers)
    };
    let by_endpoint = |family, endpoint: Endpoint, from: &Option<String>| {
        blob.decide(family, blob.network_accept(endpoint.encode().as_ref()), source(from), Modifiers::NONE)
    };
    let by_number = |family, accept: AcceptId, from| blob.decide(family, accept, source(from), Modifiers::NONE);
    match act {
        Act::Dns(dns) => {
            let accept = blob.name_accept(&domain_path(dns.name.as_bytes()));
            by_number(Family::Dns, accept, &dns.source)
        }
        Act::Capability(capability) => {
            by_number(Family::Capability, AcceptId::of_capability(capability.number), &capability.source)
        }
        Act::Syscall(call) => {
            let compat = || call.number32.map(|number| AcceptId::of_compat_syscall(number.into()));
            let accept = call.number.map(|number| AcceptId::of_syscall(number.into())).or_else(compat);
            by_number(Family::Syscall, accept.unwrap_or_default(), &call.source)
        }
        Act::Exec(exec) => {
            by_path(Family::Process, &exec.path, &exec.source, Modifiers::new(exec.uid == exec.owner, false))
        }
        Act::Open(open) => {
            by_path(Family::File, &open.path, &open.source, Modifiers::new(open.uid == open.owner, open.write))
        }
        Act::Ptrace(ptrace) => by_path(Family::Ptrace, &ptrace.target, &ptrace.source, Modifiers::NONE),
        Act::Socket(socket) => {
            let endpoint =
                Endpoint { domain: socket.domain, kind: socket.kind, protocol: socket.protocol, destination: None };
            by_endpoint(Family::Socket, endpoint, &socket.source)
        }
        Act::Connect(connect) => {
            let domain = if connect.address.is_ipv4() { AF_INET } else { AF_INET6 };
            let socket = Endpoint { domain, kind: connect.kind, protocol: connect.protocol, destination: None };
            let destination = Some((connect.address, connect.port));
            let creation = by_endpoint(Family::Socket, socket, &connect.source);
            let connection = by_endpoint(Family::Connect, Endpoint { destination, ..socket }, &connect.source);
            let is_decided = creation.effect == Effect::Block || creation.effect > connection.effect;
            if is_decided { creation } else { connection }
        }
    }
}
