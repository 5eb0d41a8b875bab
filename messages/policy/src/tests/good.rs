//! Good documents of every kind, and what they lower to.

use palisade_domain::{Action, PolicyKind};

use super::{KUBEARMOR, PALISADE, fixture, fixtures, messages, policies, rules};
use crate::{
    Policy, PolicyFile, PolicySelector,
    ir::{DestinationMatch, Matcher, PathMatch, PathRule, Transport},
};

fn good(name: &str) -> Vec<std::sync::Arc<Policy>> {
    let file = PolicyFile::parse(name, &fixture(&format!("good/{name}")));
    assert_eq!(file.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new(), "{name}");
    file.policies
}

#[test]
fn unit_policy_file_takes_every_good_document_without_a_word() {
    for name in fixtures("good") {
        assert!(!good(&name).is_empty(), "{name}");
    }
}

/// Diagnostics of `fixtures/kubearmor/*` are those of `fixtures/kubearmor.expected`, in full: warnings, and what nothing holds.
#[test]
fn unit_policy_file_takes_kubearmors_policies_as_people_write_them_and_says_what_of_them_nothing_holds() {
    let (mut said, mut policies) = (Vec::new(), 0);
    for name in fixtures("kubearmor") {
        let file = PolicyFile::parse(&name, &fixture(&format!("kubearmor/{name}")));
        assert!(file.is_sound(), "{:?}", file.diagnostics);
        said.extend(file.diagnostics.iter().map(ToString::to_string));
        policies += file.policies.len();
    }
    assert!(policies >= 34, "{policies}");
    if std::env::var_os("PALISADE_BLESS").is_some() {
        let table = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kubearmor.expected");
        std::fs::write(table, said.join("\n") + "\n").unwrap();
    }
    let expected = String::from_utf8(fixture("kubearmor.expected")).unwrap();
    assert_eq!(said, expected.lines().collect::<Vec<_>>());
}

#[test]
fn unit_policy_file_takes_the_idioms_of_kubearmor() {
    let policies = good("kubearmor-idioms.yaml");
    assert_eq!(policies.len(), 11);
    let of = |name: &str| policies.iter().find(|policy| policy.reference.name == name).unwrap();
    let lenient = &of("least-permissive-lenient").rules;
    assert_eq!(
        lenient.iter().map(|rule| rule.action).collect::<Vec<_>>(),
        [Action::Allow, Action::Block, Action::Allow, Action::Allow]
    );
    assert_eq!(of("one-container-of-the-pod").rules[0].action, Action::Block, "a spec without an action blocks");
    assert_eq!(of("block-one-executable").reference.to_string(), "KubeArmorPolicy/multiubuntu/block-one-executable");
    assert_eq!(of("block-on-a-host").reference.to_string(), "KubeArmorHostPolicy/block-on-a-host");
}

#[test]
fn unit_policy_file_lowers_every_list_of_kubearmor_in_document_order() {
    let policies = good("all-features.yaml");
    let rules = &policies[0].rules;
    let places: Vec<&str> = rules.iter().map(|rule| rule.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "process.matchPaths[0]",
            "process.matchPaths[1]",
            "process.matchDirectories[0]",
            "process.matchDirectories[1]",
            "process.matchPatterns[0]",
            "file.matchPaths[0]",
            "file.matchDirectories[0]",
            "file.matchPatterns[0]",
            "network.matchProtocols[0]",
            "network.matchProtocols[0]",
            "network.matchProtocols[0]",
            "network.matchProtocols[1]",
        ]
    );
    let path = |path, owner_only, read_only| PathRule { owner_only, read_only, ..PathRule::of(path) };
    let directory = |directory: &str, recursive| PathMatch::Directory { directory: directory.to_owned(), recursive };
    let expected = [
        Matcher::Process(path(PathMatch::Exact("/usr/bin/sleep".to_owned()), true, false)),
        Matcher::Process(path(PathMatch::Name("apt".to_owned()), false, false)),
        Matcher::Process(path(directory("/", false), false, false)),
        Matcher::Process(path(directory("/sbin/", true), true, false)),
        Matcher::Process(path(PathMatch::Pattern("/usr/{bin,sbin}/[a-f]*".to_owned()), true, false)),
        Matcher::File(path(PathMatch::Exact("/etc/shadow".to_owned()), true, true)),
        Matcher::File(path(directory("/etc/", true), true, true)),
        Matcher::File(path(PathMatch::Pattern("/home/**/*.key".to_owned()), true, true)),
    ];
    assert_eq!(rules.iter().take(8).map(|rule| rule.matcher.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(rules[0].sources, ["/bin/bash".to_owned(), "/bin/sh".to_owned()].into());
    assert!(rules[5].sources.is_empty());
    let names: Vec<String> = rules[8..].iter().map(|rule| socket_name(&rule.matcher)).collect();
    assert_eq!(names, ["tcp", "udp", "icmp", "all"]);
}

fn socket_name(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Socket(socket) => socket.name.clone(),
        other => panic!("no socket: {other:?}"),
    }
}

#[test]
fn unit_policy_file_lowers_destinations_and_ptrace_of_palisade() {
    let policies = good("all-features.yaml");
    let rules = &policies[2].rules;
    assert_eq!(rules[0].sources, ["/bin/sh".to_owned()].into(), "our own kind has sources for patterns");
    let destinations: Vec<(&str, DestinationMatch)> = rules
        .iter()
        .filter_map(|rule| match &rule.matcher {
            Matcher::Destination(destination) => Some((rule.place.as_str(), destination.clone())),
            _ => None,
        })
        .collect();
    let of = |cidr: Option<(&str, u8)>, ports, protocol| DestinationMatch {
        cidr: cidr.map(|(address, bits)| (address.parse().unwrap(), bits)),
        ports,
        protocol,
    };
    let mapped = Some(("192.168.0.0", 16));
    let expected = [
        ("network.destinations[0]", of(Some(("10.0.0.0", 8)), Some((5000, 5000)), Some(Transport::Tcp))),
        ("network.destinations[1]", of(Some(("fd00::", 8)), Some((8000, 8010)), Some(Transport::Udp))),
        ("network.destinations[2]", of(mapped, Some((80, 80)), None)),
        ("network.destinations[2]", of(mapped, Some((443, 443)), None)),
        ("network.destinations[2]", of(mapped, Some((8000, 8010)), None)),
        ("network.destinations[3]", of(None, Some((53, 53)), Some(Transport::Sctp))),
        ("network.destinations[4]", of(None, None, Some(Transport::Udp))),
    ];
    assert_eq!(destinations, expected);
    let ptrace = &rules[rules.len() - 2..];
    assert_eq!(ptrace[0].matcher, Matcher::Ptrace(PathMatch::Exact("/usr/sbin/nginx".to_owned())));
    assert_eq!((ptrace[0].action, ptrace[1].action), (Action::Allow, Action::Block));
    assert_eq!(ptrace[1].matcher, Matcher::Ptrace(PathMatch::Any));
    assert_eq!(ptrace[1].place, "ptrace.match[1]");
}

#[test]
fn unit_policy_file_reads_json_lists_and_anchors() {
    assert_eq!(good("json.json")[0].rules.len(), 1);
    let kinds: Vec<PolicyKind> = good("kubectl-list.yaml").iter().map(|policy| policy.reference.kind).collect();
    assert_eq!(kinds, [PolicyKind::KubeArmorPolicy, PolicyKind::KubeArmorHostPolicy]);
    let shared = &good("anchors.yaml")[0].rules;
    assert_eq!(shared[0].sources, shared[1].sources);
    assert_eq!(shared[0].sources.len(), 2);
}

#[test]
fn unit_policy_file_defaults_the_namespace_of_namespaced_kinds_only() {
    let policies = good("all-features.yaml");
    assert_eq!(policies[0].reference.namespace, "shop");
    assert_eq!(policies[1].reference.namespace, "");
    assert_eq!(policies[2].reference.namespace, "default");
    assert!(matches!(policies[1].selector, PolicySelector::Hosts(_)));
}

#[test]
fn unit_policy_file_warns_without_refusing() {
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {name: p, namespace: shop}\n\
                spec:\n  nodeSelector: {matchLabels: {kubernetes.io/hostname: \"*\"}}\n";
    let file = PolicyFile::parse("f", text.as_bytes());
    assert!(file.is_sound());
    assert_eq!(file.policies.len(), 1);
    assert_eq!(
        file.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "f:3:32: warning: `metadata.namespace`, policies of this kind have no namespace, it is ignored, remove it",
            "f:5:3: warning: the policy has no rules, it has no effect, add a family such as `process:`",
        ]
    );
    let wildcard = messages(&format!("{KUBEARMOR}  process: {{matchPaths: [{{path: /bin/*}}]}}\n"));
    assert_eq!(
        wildcard,
        ["test.yaml:6:33: warning: `process.matchPaths[0].path` has a wildcard, `*` and `?` are ordinary characters \
          in a path, write it below `matchPatterns`"]
    );
}

#[test]
fn unit_policy_file_warns_of_wildcards_wherever_they_are_ordinary_characters() {
    let table = [
        ("file: {matchDirectories: [{dir: /home/*/}]}", "write `/home/*/**` below `matchPatterns`"),
        ("process: {matchPaths: [{execname: 'python*'}]}", "write `/**/python*` below `matchPatterns`"),
        ("file: {matchPaths: [{path: /a?}]}", "write it below `matchPatterns`"),
        (
            "file: {matchPaths: [{path: /a, fromSource: [{path: /bin/*}]}]}",
            "name each executable in an item of its own",
        ),
    ];
    for (family, instead) in table {
        let messages = messages(&format!("{KUBEARMOR}  {family}\n"));
        let [message] = messages.as_slice() else { panic!("{family}: {messages:?}") };
        assert!(message.contains(": warning: `") && message.ends_with(instead), "{message}");
    }
}

#[test]
fn unit_policy_file_takes_paths_up_to_the_kernels_bound() {
    let longest = format!("{}/ab", format!("/{}", "a".repeat(99)).repeat(40)) + &format!("/{}", "b".repeat(91));
    assert_eq!(longest.len(), crate::MAX_PATH_BYTES);
    let rules = rules(&format!("{KUBEARMOR}  process: {{matchPaths: [{{path: {longest}}}]}}\n"));
    assert_eq!(rules.len(), 1);
}

#[test]
fn unit_policy_file_takes_null_for_absent() {
    let text =
        format!("{KUBEARMOR}  process:\n  file: ~\n  network: null\n  tags:\n  message:\n  ptrace:\n  capabilities:\n");
    assert_eq!(
        messages(&text),
        ["test.yaml:5:3: warning: the policy has no rules, it has no effect, add a family such as `process:`"]
    );
}

#[test]
fn unit_policy_file_takes_every_pattern_sign() {
    for pattern in
        ["/**", "**/x", "/a/[!a-z]?", "/a/[^]]", "/a/[]-]", "/a\\*b", "/{a,{b,c}}/x", "/a,b", "/[a\\]b]", "/ä/*"]
    {
        let text = format!("{PALISADE}  file: {{matchPatterns: [{{pattern: '{pattern}'}}]}}\n");
        assert_eq!(policies(&text).len(), 1, "{pattern}");
    }
}
