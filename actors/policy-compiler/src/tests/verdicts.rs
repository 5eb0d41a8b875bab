//! The documented verdicts, one by one.

use palisade_domain::{
    Action::{self, Allow, Audit, Block},
    Posture,
};
use palisade_kernel_abi::blob::{Decision, Effect, Endpoint, Family, Modifiers, SizeClass, SourceId};
use palisade_policy::ir::{
    DestinationMatch, Matcher, PathMatch, PathRule, Postures, Rule, SocketMatch, SocketShape, Transport, WorkloadRules,
};
use palisade_protocol::CompiledPolicy;

use super::{compile, directory, exact, file, pattern, rule, workload};

fn policy(rules: Vec<Rule>) -> CompiledPolicy {
    compile(&workload(rules)).unwrap()
}

fn decide(policy: &CompiledPolicy, family: Family, path: &str, source: &str, modifiers: Modifiers) -> Decision {
    let blob = &policy.blob;
    blob.decide(family, blob.path_accept(path.as_bytes()), blob.source_id(source.as_bytes()), modifiers)
}

fn open(policy: &CompiledPolicy, path: &str) -> Effect {
    decide(policy, Family::File, path, "", Modifiers::NONE).effect
}

fn with(path: &str, owner_only: bool, read_only: bool) -> Matcher {
    Matcher::File(PathRule { owner_only, read_only, ..PathRule::of(exact(path)) })
}

#[test]
fn unit_verdict_of_no_rules_permits_and_fits_the_smallest_class() {
    let policy = policy(Vec::new());
    assert_eq!(policy.blob.size_class(), SizeClass::K16);
    for family in Family::ALL {
        assert_eq!(decide(&policy, family, "/bin/sh", "/bin/sh", Modifiers::WRITE), Decision::PERMIT);
    }
}

/// No other path is or ends with a component of nothing.
#[test]
fn unit_verdict_of_globs_that_may_be_the_root_is_of_the_root_too() {
    for glob in ["/", "/*", "**/*", "/**", "/**/*", "**/**/*", "**/{*,x}", "**/{,a}", "/{,x}", "**"] {
        let policy = policy(vec![rule(Block, file(pattern(glob)), &[])]);
        assert_eq!(open(&policy, "/"), Effect::Block, "{glob}");
    }
    for glob in ["/?", "/a", "/*/*", "/a/**", "/*a", "/***/"] {
        let policy = policy(vec![rule(Block, file(pattern(glob)), &[])]);
        assert_eq!(open(&policy, "/"), Effect::Permit, "{glob}");
    }
}

#[test]
fn unit_verdict_goes_by_source_then_exact_then_name_then_longest_prefix() {
    let ladder = [
        (rule(Block, file(pattern("/u*/bin/sh")), &[]), Effect::Block),
        (rule(Allow, file(directory("/usr/", true)), &[]), Effect::Permit),
        (rule(Block, file(pattern("/usr/b*/sh")), &[]), Effect::Block),
        (rule(Audit, file(directory("/usr/bin/", false)), &[]), Effect::Audit),
        (rule(Block, file(PathMatch::Name("sh".into())), &[]), Effect::Block),
        (rule(Allow, file(exact("/usr/bin/sh")), &[]), Effect::Permit),
        (rule(Block, file(directory("/", true)), &["/bin/init"]), Effect::Block),
        (rule(Allow, file(exact("/usr/bin/sh")), &["/bin/init"]), Effect::Permit),
    ];
    for height in 1..=ladder.len() {
        let rules = ladder.iter().take(height).map(|(rule, _)| rule.clone()).collect();
        let decision = decide(&policy(rules), Family::File, "/usr/bin/sh", "/bin/init", Modifiers::NONE);
        assert_eq!(decision.effect, ladder[height - 1].1, "step {height}");
    }
}

#[test]
fn unit_verdict_of_a_source_rule_holds_for_its_source_only() {
    let policy = policy(vec![rule(Block, file(exact("/etc/x")), &["/bin/a", "/bin/b"])]);
    for (source, effect) in
        [("/bin/a", Effect::Block), ("/bin/b", Effect::Block), ("/bin/c", Effect::Permit), ("", Effect::Permit)]
    {
        assert_eq!(decide(&policy, Family::File, "/etc/x", source, Modifiers::NONE).effect, effect, "{source}");
    }
    // Both sources are named by the same rules: one column.
    assert_eq!(policy.blob.source_id(b"/bin/a"), policy.blob.source_id(b"/bin/b"));
    assert_eq!(policy.blob.source_id(b"/bin/c"), SourceId::NONE);
}

/// Only then are writes looked at that no open was judged for.
#[test]
fn unit_verdict_denies_writing_alone_by_read_only_and_by_an_allow_list_of_reading() {
    let denies = |posture, rules: Vec<Rule>| {
        let postures = Postures { file: posture, ..Postures::default() };
        compile(&WorkloadRules { postures, ..workload(rules) }).unwrap().blob.denies_writing_alone()
    };
    let one = |action, owner, read_only| vec![rule(action, with("/a", owner, read_only), &[])];
    for (posture, rules, expected) in [
        (Posture::Block, Vec::new(), false),
        (Posture::Block, one(Block, false, false), false),
        (Posture::Block, one(Block, true, false), false),
        (Posture::Audit, one(Block, false, true), true),
        (Posture::Audit, one(Block, true, true), true),
        (Posture::Audit, one(Audit, false, true), false),
        (Posture::Block, one(Allow, false, true), true),
        (Posture::Audit, one(Allow, false, true), false),
        (Posture::Block, vec![rule(Block, with("/a", false, true), &["/bin/b"])], true),
    ] {
        assert_eq!(denies(posture, rules.clone()), expected, "{posture:?} {rules:?}");
    }
}

#[test]
fn unit_verdict_on_a_tie_is_the_harsher_one() {
    for (actions, effect) in
        [(vec![Allow, Audit, Block], Effect::Block), (vec![Allow, Audit], Effect::Audit), (vec![Allow], Effect::Permit)]
    {
        let policy = policy(actions.into_iter().map(|action| rule(action, file(exact("/a")), &[])).collect());
        assert_eq!(open(&policy, "/a"), effect);
    }
}

#[test]
fn unit_verdict_of_modifiers_is_as_documented() {
    let all =
        [(false, false), (true, false), (false, true), (true, true)].map(|(owner, write)| Modifiers::new(owner, write));
    let effects = |action: Action, owner_only, read_only| {
        let policy = policy(vec![rule(action, with("/a", owner_only, read_only), &[])]);
        all.map(|modifiers| decide(&policy, Family::File, "/a", "", modifiers))
    };
    let plain = |effects: [Effect; 4]| effects.map(|effect| Decision { effect, rule: Some(0), ..Decision::PERMIT });
    use Effect::{Audit as A, Block as B, Permit as P};
    // Order: others read, owner reads, others write, owner writes.
    assert_eq!(effects(Block, false, true), plain([P, P, B, B]));
    assert_eq!(effects(Block, true, false), plain([B, P, B, P]));
    assert_eq!(effects(Block, true, true), plain([B, P, B, B]));
    assert_eq!(effects(Audit, true, true), plain([A, P, A, A]));
    let posture = Decision { effect: A, by_posture: true, ..Decision::PERMIT };
    let allowed = Decision { effect: P, rule: Some(0), ..Decision::PERMIT };
    assert_eq!(effects(Allow, false, true), [allowed, allowed, posture, posture]);
    assert_eq!(effects(Allow, true, true), [posture, allowed, posture, posture]);
}

#[test]
fn unit_verdict_of_an_unmet_modifier_does_not_fall_to_a_weaker_rule() {
    let policy =
        policy(vec![rule(Allow, with("/d/a", true, false), &[]), rule(Allow, file(directory("/d/", true)), &[])]);
    let decision = decide(&policy, Family::File, "/d/a", "", Modifiers::NONE);
    assert_eq!(decision, Decision { effect: Effect::Audit, by_posture: true, ..Decision::PERMIT });
    assert_eq!(open(&policy, "/d/b"), Effect::Permit);
}

#[test]
fn unit_verdict_by_posture_holds_only_in_the_families_of_an_allow() {
    let rules = vec![rule(Allow, file(exact("/a")), &[]), rule(Audit, Matcher::Ptrace(PathMatch::Any), &[])];
    let postures =
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, ..Postures::default() };
    let policy = compile(&WorkloadRules { postures, ..workload(rules) }).unwrap();
    let of = |family| decide(&policy, family, "/b", "", Modifiers::NONE);
    assert_eq!(of(Family::File), Decision { effect: Effect::Block, by_posture: true, ..Decision::PERMIT });
    assert_eq!(of(Family::Process), Decision::PERMIT);
    assert_eq!(of(Family::Ptrace).effect, Effect::Audit);
}

#[test]
fn unit_verdict_of_a_directory_covers_itself_and_what_is_in_it() {
    let policy = policy(vec![
        rule(Block, file(directory("/etc/bin/", true)), &[]),
        rule(Block, file(directory("/opt/", false)), &[]),
        rule(Audit, file(directory("/", false)), &[]),
    ]);
    for (path, effect) in [
        ("/etc/bin", Effect::Block),
        ("/etc/bin/a/b", Effect::Block),
        ("/etc/binary", Effect::Permit),
        ("/etc/bi", Effect::Permit),
        ("/opt", Effect::Block),
        ("/opt/a", Effect::Block),
        ("/opt/a/b", Effect::Permit),
        ("/", Effect::Audit),
        ("/root", Effect::Audit),
    ] {
        assert_eq!(open(&policy, path), effect, "{path}");
    }
}

fn connect(policy: &CompiledPolicy, address: &str, port: u16, kind: u8, protocol: u8) -> Decision {
    let destination = Some((address.parse().unwrap(), port));
    network(policy, Family::Connect, Endpoint { domain: 2, kind, protocol, destination })
}

fn network(policy: &CompiledPolicy, family: Family, endpoint: Endpoint) -> Decision {
    let accept = policy.blob.network_accept(endpoint.encode().as_ref());
    policy.blob.decide(family, accept, SourceId::NONE, Modifiers::NONE)
}

fn to(cidr: &str, prefix: u8, ports: Option<(u16, u16)>, protocol: Option<Transport>) -> Matcher {
    Matcher::Destination(DestinationMatch { cidr: Some((cidr.parse().unwrap(), prefix)), ports, protocol })
}

#[test]
fn unit_verdict_of_a_destination_stands_every_spelling_of_its_address() {
    let policy = policy(vec![rule(Block, to("127.0.0.0", 8, Some((5000, 5000)), Some(Transport::Tcp)), &[])]);
    for address in ["127.0.0.1", "127.255.255.254", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0"] {
        assert_eq!(connect(&policy, address, 5000, 1, 6).effect, Effect::Block, "{address}");
    }
    for (address, port, kind, protocol) in
        [("127.0.0.1", 5001, 1, 6), ("127.0.0.1", 5000, 2, 17), ("128.0.0.1", 5000, 1, 6), ("::1", 5000, 1, 6)]
    {
        assert_eq!(connect(&policy, address, port, kind, protocol).effect, Effect::Permit, "{address} {port} {kind}");
    }
}

#[test]
fn unit_verdict_of_port_ranges_is_exact_at_every_port() {
    for (first, last) in
        [(0, 0), (80, 80), (79, 81), (1, 65535), (0, 65535), (255, 256), (4095, 4097), (0x1234, 0xfedc)]
    {
        let policy = policy(vec![rule(Block, to("10.0.0.0", 8, Some((first, last)), None), &[])]);
        for port in 0..=u16::MAX {
            let effect = if (first..=last).contains(&port) { Effect::Block } else { Effect::Permit };
            assert_eq!(connect(&policy, "10.1.2.3", port, 1, 6).effect, effect, "{first}-{last}: {port}");
        }
    }
}

#[test]
fn unit_verdict_of_prefixes_is_exact_at_every_length() {
    for prefix in 0..=32u8 {
        let policy = policy(vec![rule(Block, to("10.85.170.85", prefix, None, None), &[])]);
        let network = 0x0a55_aa55u32;
        for bit in 0..32u8 {
            let address = std::net::Ipv4Addr::from_bits(network ^ 1 << (31 - bit)).to_string();
            let effect = if bit >= prefix { Effect::Block } else { Effect::Permit };
            assert_eq!(connect(&policy, &address, 1, 1, 6).effect, effect, "/{prefix} with bit {bit} flipped");
        }
    }
}

#[test]
fn unit_verdict_of_a_longer_prefix_wins_over_a_port_and_a_destination_over_a_socket() {
    let policy = policy(vec![
        rule(Allow, to("10.1.0.0", 16, None, None), &[]),
        rule(Block, to("10.0.0.0", 8, Some((80, 80)), Some(Transport::Tcp)), &[]),
        rule(Audit, to("10.0.0.0", 8, Some((80, 90)), None), &[]),
        rule(Block, socket(Some(2), Some(2), Some(17)), &[]),
        rule(Allow, Matcher::Destination(DestinationMatch { cidr: None, ports: Some((53, 53)), protocol: None }), &[]),
    ]);
    assert_eq!(connect(&policy, "10.1.0.1", 80, 1, 6).effect, Effect::Permit);
    assert_eq!(connect(&policy, "10.2.0.1", 80, 1, 6).effect, Effect::Block);
    assert_eq!(connect(&policy, "10.2.0.1", 81, 1, 6).effect, Effect::Audit);
    assert_eq!(connect(&policy, "10.2.0.1", 9, 2, 17).effect, Effect::Block, "by the socket");
    assert_eq!(connect(&policy, "10.2.0.1", 53, 2, 17).effect, Effect::Permit, "a destination goes first");
    assert!(connect(&policy, "11.0.0.1", 9, 1, 6).by_posture, "an Allow makes the allow-list");
}

fn socket(domain: Option<u8>, kind: Option<u8>, protocol: Option<u8>) -> Matcher {
    Matcher::Socket(SocketMatch {
        name: "test".into(),
        any_of: vec![SocketShape { domain, kind, protocol }],
        pts: None,
    })
}

#[test]
fn unit_verdict_of_a_socket_counts_at_creation_and_connect_and_a_destination_only_at_connect() {
    let raw = Endpoint { domain: 2, kind: 3, protocol: 1, destination: None };
    let stream = Endpoint { kind: 1, protocol: 0, ..raw };
    let blocked = policy(vec![rule(Block, socket(None, Some(3), None), &[])]);
    assert_eq!(network(&blocked, Family::Socket, raw).effect, Effect::Block);
    assert_eq!(network(&blocked, Family::Socket, stream).effect, Effect::Permit);
    assert_eq!(connect(&blocked, "10.0.0.1", 0, 3, 1).effect, Effect::Block);

    let destinations = policy(vec![rule(Allow, to("10.0.0.0", 8, None, None), &[])]);
    assert_eq!(network(&destinations, Family::Socket, raw), Decision::PERMIT);
    assert!(connect(&destinations, "11.0.0.1", 1, 1, 6).by_posture);
    let unix = Endpoint { domain: 1, kind: 1, protocol: 0, destination: None };
    assert!(network(&destinations, Family::Connect, unix).by_posture, "no destination rule names it");

    let sockets = policy(vec![rule(Allow, socket(Some(2), Some(1), None), &[])]);
    assert!(network(&sockets, Family::Socket, raw).by_posture);
    assert_eq!(network(&sockets, Family::Socket, stream).effect, Effect::Permit);
    assert_eq!(connect(&sockets, "10.0.0.1", 80, 1, 6).effect, Effect::Permit);
}

#[test]
fn unit_verdict_of_1_000_addresses_stays_a_small_table() {
    let address = |n: u32| std::net::Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761)).to_string();
    let rules = (0..1000).map(|n| rule(Block, to(&address(n), 32, Some((443, 443)), None), &[])).collect();
    let policy = policy(rules);
    for n in 0..1000 {
        assert_eq!(connect(&policy, &address(n), 443, 1, 6).effect, Effect::Block);
    }
    assert_eq!(connect(&policy, &address(1000), 443, 1, 6).effect, Effect::Permit);
    assert!(policy.blob.size_class() <= SizeClass::M1, "{:?}", policy.blob);
}
