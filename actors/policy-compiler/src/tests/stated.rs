//! Stated acts, as policy tests and rehearsals have them.

use palisade_domain::{
    Action::{Allow, Audit, Block},
    Posture,
};
use palisade_kernel_abi::blob::Effect;
use palisade_policy::{
    ir::{
        CapabilityMatch, DestinationMatch, DnsMatch, Matcher, PathMatch, PathRule, Postures, Rule, SocketMatch,
        SocketShape, SourceDirectory, SyscallMatch, WorkloadRules,
    },
    policy_test::{Act, CapabilityAct, ConnectAct, DnsAct, ExecAct, OpenAct, SocketAct, SyscallAct},
};

use super::{compile, exact, rule, workload};
use crate::{CompileError, decide};

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
        let act = ConnectAct {
            address: "10.0.0.1".parse().unwrap(),
            port: 80,
            kind: 1,
            protocol: 6,
            source: None,
            tty: false,
        };
        let decision = decide(&policy, &Act::Connect(act));
        let decided = decision.rule.map(|rule| policy.rules[rule as usize].place.as_str());
        assert_eq!((decision.effect, decided), (effect, place), "{rules:?}");
    }
}

fn process(path: PathMatch, allowed: &[&str]) -> Matcher {
    let allowed_arguments = allowed.iter().map(|text| (*text).to_owned()).collect();
    Matcher::Process(PathRule { allowed_arguments, ..PathRule::of(path) })
}

fn at_terminals(path: &str) -> Matcher {
    Matcher::Process(PathRule { pts: Some(false), ..PathRule::of(exact(path)) })
}

fn exec(path: &str, args: &[&str], tty: bool) -> Act {
    let args = std::iter::once("argv0").chain(args.iter().copied()).map(str::to_owned).collect();
    Act::Exec(ExecAct { path: path.into(), source: None, args, uid: 0, owner: 1, tty })
}

/// What the rules, under blocking postures, do to the act.
fn effect(rules: Vec<Rule>, act: &Act) -> Effect {
    let postures =
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, ..Postures::default() };
    decide(&compile(&WorkloadRules { postures, ..workload(rules) }).unwrap(), act).effect
}

#[test]
fn unit_verdict_of_allowed_arguments_wants_some_after_the_first_and_each_of_them_among_the_listed() {
    let block = || vec![rule(Block, process(exact("/x"), &["-a", "-b", ""]), &[])];
    let allow = || vec![rule(Allow, process(exact("/x"), &["-a"]), &[])];
    for (args, blocked, allowed) in [
        (&[][..], Effect::Block, Effect::Block),
        (&["-a"], Effect::Permit, Effect::Permit),
        (&["-b", "-a", "-b", ""], Effect::Permit, Effect::Block),
        (&["-a", "-c"], Effect::Block, Effect::Block),
        (&["-"], Effect::Block, Effect::Block),
        (&["-ab"], Effect::Block, Effect::Block),
    ] {
        assert_eq!(effect(block(), &exec("/x", args, false)), blocked, "Block but {args:?}");
        assert_eq!(effect(allow(), &exec("/x", args, false)), allowed, "Allow {args:?}");
        assert_eq!(effect(block(), &exec("/y", args, false)), Effect::Permit);
    }
}

#[test]
fn unit_verdict_of_several_argument_lists_of_one_rank_is_exact_or_refused() {
    let of = |action, allowed: &[&str]| rule(action, process(exact("/x"), allowed), &[]);
    let both = |one: Rule, other: Rule, args: &[&str]| effect(vec![one, other], &exec("/x", args, false));
    // Each Allow is an alternative, and no mixture of two is one.
    for (args, wanted) in [(&["a"][..], Effect::Permit), (&["b"], Effect::Permit), (&["a", "b"], Effect::Block)] {
        assert_eq!(both(of(Allow, &["a"]), of(Allow, &["b"]), args), wanted, "{args:?}");
    }
    // Blocks are met together: what is left is what they have in common.
    for (args, wanted) in [(&["a"][..], Effect::Permit), (&["b"], Effect::Block), (&["a", "c"], Effect::Block)] {
        assert_eq!(both(of(Block, &["a", "b"]), of(Block, &["a", "c"]), args), wanted, "{args:?}");
    }
    // A Block with arguments and one without: the one without.
    assert_eq!(both(of(Block, &["a"]), of(Block, &[]), &["a"]), Effect::Block);
    // An Audit of the rest of what a Block leaves out.
    assert_eq!(both(of(Block, &["a"]), of(Audit, &["a", "b"]), &["a"]), Effect::Permit);
    // What one decision cannot hold names both rules.
    let error = compile(&workload(vec![of(Block, &["a", "b"]), of(Audit, &["a"])])).unwrap_err();
    assert!(matches!(error, CompileError::ArgumentActions { .. }) && error.to_string().contains("`/x`"), "{error}");
    let error = compile(&workload(vec![of(Block, &["a"]), of(Audit, &[])])).unwrap_err();
    assert!(matches!(error, CompileError::ArgumentActions { .. }), "{error}");
}

#[test]
fn unit_compiler_refuses_more_argument_sets_than_a_decision_can_name() {
    let rules = |count: usize| {
        let one = |n: usize| rule(Block, process(exact(&format!("/{n}")), &[&format!("-{n}")]), &[]);
        workload((0..count).map(one).collect())
    };
    let policy = compile(&rules(255)).unwrap();
    let act = |args: &[&str]| decide(&policy, &exec("/254", args, false)).effect;
    assert_eq!((act(&["-254"]), act(&["-253"])), (Effect::Permit, Effect::Block));
    let error = compile(&rules(256)).unwrap_err().to_string();
    assert!(error.contains("more than 255 different combinations of allowedArgs"), "{error}");
    let allows = (0..33).map(|n| rule(Allow, process(exact("/x"), &[&format!("-{n}")]), &[]));
    let error = compile(&workload(allows.collect())).unwrap_err().to_string();
    assert!(error.contains("33 rules allow the same executions"), "{error}");
}

#[test]
fn unit_verdict_of_pts_false_is_about_terminals_for_execs_opens_and_sockets() {
    for (action, without, with) in [(Block, Effect::Permit, Effect::Block), (Allow, Effect::Permit, Effect::Block)] {
        let rules = || vec![rule(action, at_terminals("/x"), &[])];
        let said = [false, true].map(|tty| effect(rules(), &exec("/x", &[], tty)));
        assert_eq!(said, [without, with], "{action:?}");
    }
    let Matcher::Socket(tcp) = tcp() else { unreachable!() };
    let rules = || vec![rule(Block, Matcher::Socket(SocketMatch { pts: Some(false), ..tcp.clone() }), &[])];
    let socket = |tty| Act::Socket(SocketAct { domain: 2, kind: 1, protocol: 6, source: None, tty });
    assert_eq!([false, true].map(|tty| effect(rules(), &socket(tty))), [Effect::Permit, Effect::Block]);
    // Ours alone and together with the owner.
    let both = PathRule { owner_only: true, pts: Some(false), ..PathRule::of(exact("/x")) };
    let open = |uid, tty| Act::Open(OpenAct { path: "/x".into(), source: None, write: false, uid, owner: 7, tty });
    for (uid, tty, wanted) in [(7, false, Effect::Permit), (7, true, Effect::Block), (0, false, Effect::Block)] {
        assert_eq!(effect(vec![rule(Block, Matcher::File(both.clone()), &[])], &open(uid, tty)), wanted, "{uid} {tty}");
    }
}

#[test]
fn unit_verdict_of_capabilities_domains_and_calls_goes_by_number_name_and_source() {
    let capability = |number: u8, source: Option<&str>| {
        Act::Capability(CapabilityAct { name: number.to_string(), number, source: source.map(str::to_owned) })
    };
    let net_raw = || Matcher::Capability(CapabilityMatch { name: "net_raw".into(), number: 13 });
    let rules = || vec![rule(Block, net_raw(), &[]), rule(Allow, net_raw(), &["/bin/ping"])];
    assert_eq!(effect(rules(), &capability(13, None)), Effect::Block);
    assert_eq!(effect(rules(), &capability(13, Some("/bin/ping"))), Effect::Permit);
    // The Allow makes it an allow-list.
    assert_eq!(effect(rules(), &capability(21, None)), Effect::Block);
    let dns = |name: &str| Act::Dns(DnsAct { name: name.into(), source: None });
    let domain = |domain: &str| Matcher::Dns(DnsMatch { domain: domain.into() });
    let rules = || vec![rule(Block, domain("a.com"), &[]), rule(Audit, domain("www.a.com"), &[])];
    for (name, wanted) in [
        ("a.com", Effect::Block),
        ("b.a.com", Effect::Block),
        ("www.a.com", Effect::Audit),
        ("x.www.a.com", Effect::Audit),
        ("ba.com", Effect::Permit),
        ("com", Effect::Permit),
    ] {
        assert_eq!(effect(rules(), &dns(name)), wanted, "{name}");
    }
    let call = |number, number32| {
        Act::Syscall(SyscallAct {
            name: "call".into(),
            number,
            number32,
            path: None,
            source: Some("/usr/bin/x".into()),
        })
    };
    let unlink =
        SyscallMatch { names: vec!["unlink".into()], numbers: [87].into(), numbers32: [10].into(), path: None };
    // Asked to block, it audits; the source is a directory.
    let mut from = rule(Block, Matcher::Syscall(unlink), &[]);
    from.source_directories.insert(SourceDirectory { directory: "/usr/".into(), recursive: true });
    for (act, wanted) in [
        (call(Some(87), None), Effect::Audit),
        (call(None, Some(10)), Effect::Audit),
        (call(Some(10), None), Effect::Permit),
        (call(None, Some(87)), Effect::Permit),
    ] {
        assert_eq!(effect(vec![from.clone()], &act), wanted, "{act:?}");
    }
    from.source_directories = [SourceDirectory { directory: "/usr/".into(), recursive: false }].into();
    assert_eq!(effect(vec![from], &call(Some(87), None)), Effect::Permit);
}

#[test]
fn unit_compiled_policy_carries_rules_on_calls_on_a_path_beside_the_blob() {
    let on = |path| {
        let path = Some(exact(path));
        let call = SyscallMatch { names: vec!["unlink".into()], numbers: [87].into(), numbers32: [10].into(), path };
        rule(Audit, Matcher::Syscall(call), &[])
    };
    let policy = compile(&workload(vec![on("/a"), rule(Block, process(exact("/x"), &[]), &[]), on("/b")])).unwrap();
    assert_eq!((policy.rules.len(), policy.observed.len()), (1, 2));
    assert_eq!(policy.blob.head().families, 1, "nothing in the kernel decides them");
}
