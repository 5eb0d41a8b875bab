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

use crate::layers::accept_of_preset;

/// Decides the act. A source that is not stated is an executable that no rule names; devices are in no blob, so that it permits them.
#[must_use]
pub fn decide(policy: &CompiledPolicy, act: &Act) -> Decision {
    let blob = &policy.blob;
    let source = |path: &Option<String>| path.as_ref().map_or(SourceId::NONE, |path| blob.source_id(path.as_bytes()));
    let by_path = |family, path: &str, from: &Option<String>, modifiers| {
        blob.decide(family, blob.path_accept(path.as_bytes()), source(from), modifiers)
    };
    let by_endpoint = |family, endpoint: Endpoint, from: &Option<String>, tty| {
        let accept = blob.network_accept(endpoint.encode().as_ref());
        blob.decide(family, accept, source(from), Modifiers::NONE.at_terminal(tty))
    };
    let by_number = |family, accept: AcceptId, from| blob.decide(family, accept, source(from), Modifiers::NONE);
    let undecided = || Decision::from_word(0);
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
        Act::Preset(act) => by_number(Family::Preset, accept_of_preset(act.preset), &None),
        Act::Device(_) => undecided(),
        Act::Exec(exec) => {
            let modifiers = Modifiers::new(exec.uid == exec.owner, false).at_terminal(exec.tty);
            let decision = by_path(Family::Process, &exec.path, &exec.source, modifiers);
            decision.settled(blob.arguments_meet(decision.arguments, exec.args.iter().skip(1).map(String::as_bytes)))
        }
        Act::Open(open) => {
            let modifiers = Modifiers::new(open.uid == open.owner, open.write).at_terminal(open.tty);
            by_path(Family::File, &open.path, &open.source, modifiers)
        }
        Act::Ptrace(ptrace) => by_path(Family::Ptrace, &ptrace.target, &ptrace.source, Modifiers::NONE),
        Act::Socket(socket) => {
            let endpoint =
                Endpoint { domain: socket.domain, kind: socket.kind, protocol: socket.protocol, destination: None };
            by_endpoint(Family::Socket, endpoint, &socket.source, socket.tty)
        }
        Act::Connect(connect) => {
            let domain = if connect.address.is_ipv4() { AF_INET } else { AF_INET6 };
            let socket = Endpoint { domain, kind: connect.kind, protocol: connect.protocol, destination: None };
            let destination = Some((connect.address, connect.port));
            let creation = by_endpoint(Family::Socket, socket, &connect.source, connect.tty);
            let connection =
                by_endpoint(Family::Connect, Endpoint { destination, ..socket }, &connect.source, connect.tty);
            let is_decided = creation.effect == Effect::Block || creation.effect > connection.effect;
            if is_decided { creation } else { connection }
        }
    }
}
