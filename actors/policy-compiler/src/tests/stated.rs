//! Stated acts, as policy tests and rehearsals have them.

use palisade_domain::{
    Action::{Allow, Audit, Block},
    Posture,
};
use palisade_kernel_abi::blob::Effect;
use palisade_policy::{
    ir::{DestinationMatch, Matcher, Postures, Rule, SocketMatch, SocketShape, WorkloadRules},
    policy_test::{Act, ConnectAct},
};

use super::{compile, rule, workload};
use crate::decide;

fn tcp() -> Matcher {
    let shape = |domain, protocol| SocketShape { domain: Some(domain), kind: Some(1), protocol: Some(protocol) };
    Matcher::Socket(SocketMatch {
        name: "tcp".into(),
        any_of: vec![shape(2, 0), shape(2, 6), shape(10, 0), shape(10, 6)],
        pts: None,
    })
}

fn to(address: &str) -> Matcher {
    let cidr = Some((address.parse().unwrap(), 32));
    Matcher::Destination(DestinationMatch { cidr, ports: None, protocol: None })
}

#[test]
fn unit_verdict_of_a_stated_connection_is_that_of_its_socket_first() {
    let socket = |action| Rule { place: "network.matchProtocols[0]".into(), ..rule(action, tcp(), &[]) };
    let peer = |action| Rule { place: "network.destinations[0]".into(), ..rule(action, to("10.0.0.1"), &[]) };
    let elsewhere = Rule { place: "network.destinations[1]".into(), ..rule(Allow, to("10.9.9.9"), &[]) };
    let by_socket = Some("network.matchProtocols[0]");
    let by_peer = Some("network.destinations[0]");
    for (rules, effect, place) in [
        // No socket, no connection, whatever is allowed of its destination.
        (vec![socket(Block), peer(Allow)], Effect::Block, by_socket),
        (vec![socket(Block), peer(Block)], Effect::Block, by_socket),
        (vec![socket(Audit), peer(Block)], Effect::Block, by_peer),
        (vec![socket(Audit), peer(Allow)], Effect::Audit, by_socket),
        (vec![socket(Audit), peer(Audit)], Effect::Audit, by_peer),
        (vec![socket(Allow), peer(Block)], Effect::Block, by_peer),
        (vec![socket(Allow), peer(Allow)], Effect::Permit, by_peer),
        // An Allow of a destination makes only connections an allow-list, not sockets.
        (vec![peer(Allow)], Effect::Permit, by_peer),
        (vec![elsewhere], Effect::Block, None),
    ] {
        let postures = Postures { network: Posture::Block, ..Postures::default() };
        let policy = compile(&WorkloadRules { postures, ..workload(rules.clone()) }).unwrap();
        let act = ConnectAct { address: "10.0.0.1".parse().unwrap(), port: 80, kind: 1, protocol: 6, source: None };
        let decision = decide(&policy, &Act::Connect(act));
        let decided = decision.rule.map(|rule| policy.rules[rule as usize].place.as_str());
        assert_eq!((decision.effect, decided), (effect, place), "{rules:?}");
    }
}
