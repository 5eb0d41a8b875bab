//! What is explained of an act is what the compiled policy decides: for any policy that a document can write, and any act.
//!
//! The explanation reads rules and gives reasons, the blob is walked as the kernel walks it; they share the rules' own specificity and
//! nothing else.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use palisade_domain::{Action, Posture, Workload, WorkloadKind};
use palisade_kernel_abi::blob::Effect;
use palisade_policy::{PolicySet, explain::explain, ir::Postures, policy_test::Act};
use palisade_policy_compiler::{CompileError, automaton::AutomatonLimits, compile, decide};
use proptest::{prelude::*, sample::select, test_runner::Config};

const PATHS: [&str; 7] = ["/a", "/b", "/a/b", "/a/b/c", "/b/a", "/d/b", "/d/e/c"];
const SOURCES: [&str; 3] = ["/s", "/t", "/a/b"];
const ARGUMENTS: [&str; 3] = ["-x", "-y", ""];
const DOMAINS: [&str; 5] = ["c", "b.c", "a.b.c", "d.c", "b.c.shop.svc.cluster.local"];
const CALLS: [&str; 4] = ["ptrace", "umount", "mount", "execve"];
const CAPABILITIES: [&str; 3] = ["net_raw", "cap_bpf", "KILL"];
const RANGES: [&str; 7] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "0.0.0.0/0", "::/0", "fd00::/8", "::ffff:10.0.0.0/104"];
const ADDRESSES: [&str; 6] = ["10.1.1.1", "10.2.0.1", "11.0.0.1", "fd00::1", "::1", "::ffff:10.1.1.1"];
const PRESETS: [&str; 5] = ["filelessExec", "anonMapExec", "protectEnv", "protectProc", "exec"];
const PROTOCOLS: [&str; 7] = ["tcp", "udp", "raw", "all", "stream", "dgram", "icmp"];

/// Which list an item stands in, and its own fields.
fn item() -> impl Strategy<Value = (&'static str, String)> {
    let path = select(&PATHS[..]);
    let flag = || prop_oneof![Just("false"), Just("true")];
    prop_oneof![
        (path.clone(), arguments(), flag(), flag()).prop_map(|(path, arguments, owner, pts)| {
            ("process.matchPaths", format!("path: {path}, allowedArgs: {arguments}, ownerOnly: {owner}, pts: {pts}"))
        }),
        (select(&["a", "b", "c"][..]), arguments(), flag()).prop_map(|(name, arguments, pts)| {
            ("process.matchPaths", format!("execname: {name}, allowedArgs: {arguments}, pts: {pts}"))
        }),
        (path.clone(), flag(), flag()).prop_map(|(path, read, owner)| {
            ("file.matchPaths", format!("path: {path}, readOnly: {read}, ownerOnly: {owner}"))
        }),
        (select(&["/", "/a/", "/a/b/", "/d/"][..]), flag(), flag(), select(&["process", "file"][..])).prop_map(
            |(directory, recursive, pts, family)| {
                let list = if family == "file" { "file.matchDirectories" } else { "process.matchDirectories" };
                (list, format!("dir: {directory}, recursive: {recursive}, pts: {pts}"))
            }
        ),
        (select(&["/a/*", "/**/c", "/{a,d}/**", "/[ab]", "**/b", "/?/b", "/a/**/c", "/d/[!f]/?"][..]), flag())
            .prop_map(|(pattern, read)| ("file.matchPatterns", format!("pattern: {pattern:?}, readOnly: {read}"))),
        (select(&PROTOCOLS[..]), flag())
            .prop_map(|(protocol, pts)| ("network.matchProtocols", format!("protocol: {protocol}, pts: {pts}"))),
        (select(&RANGES[..]), select(&["", ", ports: 80", ", ports: 80-90", ", protocol: UDP"][..]))
            .prop_map(|(range, more)| ("network.destinations", format!("cidr: {range:?}{more}"))),
        select(&DOMAINS[..]).prop_map(|domain| ("network.matchDNSQueries", format!("domain: {domain}"))),
        select(&CAPABILITIES[..]).prop_map(|name| ("capabilities.matchCapabilities", format!("capability: {name}"))),
        proptest::sample::subsequence(&CALLS[..], 1..3)
            .prop_map(|calls| ("syscalls.matchSyscalls", format!("syscall: [{}]", calls.join(", ")))),
        path.prop_map(|path| ("ptrace.match", format!("target: {path}"))),
        Just(("ptrace.match", "message: any".to_owned())),
        select(&PRESETS[..]).prop_map(|name| ("presets", format!("name: {name}"))),
    ]
}

fn arguments() -> impl Strategy<Value = String> {
    let some = proptest::sample::subsequence(&ARGUMENTS[..], 1..3).prop_map(|list| format!("{list:?}"));
    prop_oneof![4 => Just("[]".to_owned()), 1 => some]
}

fn sources() -> impl Strategy<Value = String> {
    proptest::sample::subsequence(&SOURCES[..], 0..3)
        .prop_map(|list| list.iter().map(|source| format!("{{path: {source}}}")).collect::<Vec<_>>().join(", "))
}

/// Items with their sources and actions, as one document.
fn document() -> impl Strategy<Value = String> {
    let action = select(&["Allow", "Audit", "Block"][..]);
    proptest::collection::vec((item(), sources(), action), 1..14).prop_map(|items| {
        let mut lists: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
        let mut presets = Vec::new();
        for ((list, fields), sources, action) in items {
            // Presets are a list of their own, without families and sources; and an Allow of one is warned of.
            let Some((family, list)) = list.split_once('.') else {
                presets.push(format!("{{{fields}, action: {}}}", if action == "Allow" { "Audit" } else { action }));
                continue;
            };
            // System calls audit, whatever is written.
            let action = if family == "syscalls" { "Audit" } else { action };
            let text = format!("{{{fields}, fromSource: [{sources}], action: {action}}}");
            lists.entry(family).or_default().entry(list).or_default().push(text);
        }
        let families: String = lists
            .iter()
            .map(|(family, lists)| {
                let lists: Vec<String> =
                    lists.iter().map(|(list, items)| format!("{list}: [{}]", items.join(", "))).collect();
                format!("  {family}: {{{}}}\n", lists.join(", "))
            })
            .collect();
        format!(
            "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  selector: {{}}\n  presets: [{}]\n{families}",
            presets.join(", ")
        )
    })
}

fn act() -> impl Strategy<Value = String> {
    let source = || {
        proptest::option::of(select(&SOURCES[..])).prop_map(|source| format!("source: {}", source.unwrap_or("null")))
    };
    let path = || select(&PATHS[..]);
    let who = || {
        (source(), 0..2_u32, any::<bool>()).prop_map(|(source, uid, tty)| format!("{source}, uid: {uid}, tty: {tty}"))
    };
    prop_oneof![
        (path(), who(), proptest::collection::vec(select(&ARGUMENTS[..]), 0..3)).prop_map(|(path, who, arguments)| {
            let arguments = [&["name"], arguments.as_slice()].concat();
            format!("exec: {{path: {path}, {who}, args: {arguments:?}}}")
        }),
        (path(), who(), any::<bool>())
            .prop_map(|(path, who, write)| format!("open: {{path: {path}, {who}, write: {write}}}")),
        (
            select(&["inet", "inet6", "unix", "packet"][..]),
            select(&["stream", "dgram", "raw"][..]),
            select(&[0, 6, 17, 1][..]),
            source(),
            any::<bool>()
        )
            .prop_map(|(family, kind, protocol, source, tty)| {
                format!("socket: {{family: {family}, type: {kind}, protocol: {protocol}, {source}, tty: {tty}}}")
            }),
        (select(&ADDRESSES[..]), select(&[80, 85, 443][..]), select(&["tcp", "udp"][..]), source(), any::<bool>())
            .prop_map(|(address, port, protocol, source, tty)| {
                format!("connect: {{address: {address:?}, port: {port}, protocol: {protocol}, {source}, tty: {tty}}}")
            }),
        select(&PRESETS[..]).prop_map(|name| format!("preset: {{name: {name}}}")),
        (path(), source()).prop_map(|(target, source)| format!("ptrace: {{target: {target}, {source}}}")),
        (select(&["a.b.c", "b.c", "x.d.c", "c", "e", "x.b.c.shop.svc.cluster.local", "cluster.local"][..]), source())
            .prop_map(|(name, source)| format!("dns: {{name: {name}, {source}}}")),
        (select(&["net_raw", "bpf", "kill", "chown"][..]), source())
            .prop_map(|(name, source)| format!("capability: {{name: {name}, {source}}}")),
        (select(&CALLS[..]), source()).prop_map(|(name, source)| format!("syscall: {{name: {name}, {source}}}")),
    ]
}

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "pod".into(),
        namespace: "shop".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::new(),
    }
}

fn posture() -> impl Strategy<Value = Posture> {
    prop_oneof![Just(Posture::Audit), Just(Posture::Block)]
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    #[test]
    fn unit_explanations_agree_with_the_compiled_policy(
        document in document(),
        acts in proptest::collection::vec(act(), 1..24),
        (file, network, capabilities) in (posture(), posture(), posture()),
    ) {
        let set = PolicySet::parse([("p.yaml", document.as_bytes())]).unwrap();
        let rules = set.rules_for(&workload(), &BTreeMap::new(), Postures { file, network, capabilities, ..Postures::default() });
        let policy = match compile(&rules, &AutomatonLimits::default(), &mut || false) {
            // Argument sets under several actions on one thing: refused by name, so that there is no answer to agree with.
            Err(CompileError::ArgumentActions { .. }) => return Ok(()),
            compiled => compiled.unwrap(),
        };
        for act in acts {
            let stated = Act::parse("act", &act).unwrap();
            let explanation = explain(&rules, &stated);
            let explained = &explanation.questions[explanation.answer].decision;
            let decision = decide(&policy, &stated);
            let action = match decision.effect {
                Effect::Permit => Action::Allow,
                Effect::Audit => Action::Audit,
                Effect::Block => Action::Block,
            };
            prop_assert_eq!((explained.action, explained.by_posture), (action, decision.by_posture), "{}\n{}", document, act);
            let rule = decision.rule.map(|index| &policy.rules[index as usize]);
            prop_assert_eq!(rule.is_some(), !explained.by.is_empty(), "{}\n{}", document, act);
            if let Some(rule) = rule {
                prop_assert!(explained.by.iter().any(|by| by == rule), "{} names {}\n{}", act, rule.place, document);
            }
        }
    }
}
