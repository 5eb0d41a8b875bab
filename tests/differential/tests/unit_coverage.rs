//! What the generated sets exercise: an agreement between evaluators says nothing of a feature that no set has, or that never decides.
//!
//! A feature counts where a rule that has it is among those that decide an act, by the naive evaluator; of a modifier each of the two ways
//! that it can come out counts on its own. The list of features is written out, so that a generator that loses one fails by its name.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, net::IpAddr};

use palisade_differential::corpus::{Random, act, path_near, rules, seed};
use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Effect, Family, Modifiers};
use palisade_policy::ir::{DestinationMatch, Matcher, PathMatch, PathRule, Preset, Rule, WorkloadRules};

use palisade_policy_compiler::naive::{Act, Object, deciding, evaluate};

/// How often each feature decided.
type Seen = BTreeMap<String, usize>;

const SETS: usize = 1_500;
const ACTS: usize = 80;
/// Of 120,000 acts: what decides less often is covered by accident.
const ENOUGH: usize = 100;

fn path_kind(path: &PathMatch) -> &'static str {
    match path {
        PathMatch::Exact(_) => "exact path",
        PathMatch::Name(_) => "bare name",
        PathMatch::Directory { recursive: true, .. } => "directory and below",
        PathMatch::Directory { recursive: false, .. } => "directory",
        PathMatch::Pattern(_) => "pattern",
        PathMatch::Any => "any path",
    }
}

/// What of the rule matters to the act: names without the family and the action.
fn features(rule: &Rule, act: &Act<'_>) -> Vec<String> {
    let is = |modifier: Modifiers| act.modifiers.0 & modifier.0 != 0;
    let met = |name: &str, met: bool| format!("{name} {}", if met { "met" } else { "not met" });
    let mut found = vec![format!("{:?}", rule.action)];
    match (rule.sources.is_empty(), rule.source_directories.is_empty()) {
        (true, true) => found.push("any source".into()),
        (false, _) if rule.sources.iter().any(|source| Some(source.as_bytes()) == act.executable) => {
            found.push("source".into());
        }
        _ => found.push("source directory".into()),
    }
    match &rule.matcher {
        Matcher::Process(path) | Matcher::File(path) => {
            found.push(path_kind(&path.path).into());
            let PathRule { owner_only, read_only, pts, allowed_arguments, .. } = path;
            found.extend(owner_only.then(|| met("ownerOnly", is(Modifiers::OWNER))));
            found.extend(read_only.then(|| met("readOnly", !is(Modifiers::WRITE))));
            found.extend((*pts == Some(false)).then(|| met("pts: false", !is(Modifiers::TTY))));
            found.extend((*pts == Some(true)).then(|| "pts: true".to_owned()));
            let listed = act.arguments.iter().filter(|argument| allowed_arguments.contains(**argument)).count();
            let arguments = match (allowed_arguments.is_empty(), act.arguments.len()) {
                (true, _) => None,
                (false, 0) => Some("allowedArgs, none given".to_owned()),
                (false, given) => Some(met("allowedArgs", given == listed)),
            };
            found.extend(arguments);
        }
        Matcher::Ptrace(path) => found.push(path_kind(path).into()),
        Matcher::Socket(socket) => {
            found.push("socket".into());
            found.extend((socket.pts == Some(false)).then(|| met("pts: false", !is(Modifiers::TTY))));
        }
        Matcher::Destination(DestinationMatch { cidr, ports, protocol }) => {
            found.push(match cidr {
                None => "any address".into(),
                Some((IpAddr::V4(_), bits)) => format!("IPv4 {}", if *bits == 32 { "address" } else { "network" }),
                Some((IpAddr::V6(_), bits)) => format!("IPv6 {}", if *bits == 128 { "address" } else { "network" }),
            });
            found.push(match ports {
                None => "any port".into(),
                Some((low, high)) => if low == high { "port" } else { "ports" }.into(),
            });
            found.push(protocol.map_or_else(|| "any transport".into(), |protocol| format!("{protocol:?}")));
        }
        Matcher::Dns(dns) => {
            let Object::Domain(name) = act.object else { panic!("{act:?}") };
            let is_itself = name.trim_end_matches('.').eq_ignore_ascii_case(&dns.domain);
            found.push(if is_itself { "the domain" } else { "below the domain" }.into());
        }
        Matcher::Syscall(_) => {
            let Object::Syscall { compat, .. } = act.object else { panic!("{act:?}") };
            found.push(if compat { "32-bit entry" } else { "64-bit entry" }.into());
        }
        Matcher::Preset(preset) => found.push(preset.name().into()),
        Matcher::Capability(_) => {}
        Matcher::Device(_) => panic!("devices are generated nowhere"),
    }
    found
}

fn note(rules: &WorkloadRules, act: &Act<'_>, seen: &mut Seen) {
    let mut count = |feature: String| *seen.entry(format!("{:?}: {feature}", act.family)).or_default() += 1;
    for rule in deciding(rules, act) {
        features(rule, act).into_iter().for_each(&mut count);
    }
    let expected = evaluate(rules, act);
    if expected.by_posture {
        count(if expected.effect == Effect::Block { "posture block" } else { "posture audit" }.into());
    }
    count(format!("{:?}", expected.effect));
    let ranks: Vec<Action> = deciding(rules, act).iter().map(|rule| rule.action).collect();
    if ranks.iter().any(|action| *action != ranks[0]) {
        count("a tie of two actions".into());
    }
}

/// Every feature that a set must have exercised.
fn wanted() -> Vec<String> {
    const ACTIONS: [&str; 3] = ["Allow", "Audit", "Block"];
    const SOURCES: [&str; 3] = ["any source", "source", "source directory"];
    const PATHS: [&str; 6] = ["exact path", "bare name", "directory", "directory and below", "pattern", "any path"];
    const POSTURES: [&str; 2] = ["posture block", "posture audit"];
    const TERMINALS: [&str; 2] = ["pts: false met", "pts: false not met"];
    const FILES: [&str; 3] = ["ownerOnly met", "ownerOnly not met", "pts: true"];
    const EFFECTS: [&str; 2] = ["Permit", "Audit"];
    const TIE: &str = "a tie of two actions";
    let everywhere: Vec<&str> = [&ACTIONS[..], &SOURCES, &EFFECTS, &[TIE]].concat();
    let presets = Preset::ALL.map(Preset::name);
    let of: [(Family, Vec<&str>); 9] = [
        (
            Family::Process,
            [
                &PATHS[..],
                &POSTURES,
                &TERMINALS,
                &FILES,
                &["allowedArgs met", "allowedArgs not met", "allowedArgs, none given", "Block"],
            ]
            .concat(),
        ),
        (
            Family::File,
            [&PATHS[..], &POSTURES, &TERMINALS, &FILES, &["readOnly met", "readOnly not met", "Block"]].concat(),
        ),
        (Family::Ptrace, [&PATHS[..], &POSTURES, &["Block"]].concat()),
        (Family::Socket, [&POSTURES[..], &TERMINALS, &["socket", "Block"]].concat()),
        (
            Family::Connect,
            [
                &POSTURES[..],
                &TERMINALS,
                &["socket", "any address", "IPv4 address", "IPv4 network", "IPv6 address", "IPv6 network", "any port"],
                &["port", "ports", "any transport", "Tcp", "Udp", "Sctp", "Block"],
            ]
            .concat(),
        ),
        (Family::Dns, [&POSTURES[..], &["the domain", "below the domain", "Block"]].concat()),
        (Family::Capability, [&POSTURES[..], &["Block"]].concat()),
        (Family::Syscall, vec!["32-bit entry", "64-bit entry"]),
        (Family::Preset, [&presets[..], &["Block"]].concat()),
    ];
    assert_eq!(of.len(), Family::ALL.len(), "each family");
    let features = of
        .iter()
        .flat_map(|(family, own)| everywhere.iter().chain(own).map(move |feature| format!("{family:?}: {feature}")));
    features.collect()
}

#[test]
fn unit_generated_sets_exercise_each_family_action_source_path_and_modifier_to_a_decision() {
    let mut random = Random::new(seed());
    let mut seen = Seen::default();
    let mut postures = [0_usize; 2];
    for _ in 0..SETS {
        let count = 1 + random.below(12);
        let rules = rules(&mut random, count);
        postures[usize::from(rules.postures.file == Posture::Block)] += 1;
        for _ in 0..ACTS {
            let path = path_near(&mut random, &rules);
            note(&rules, &act(&mut random, &rules, &path), &mut seen);
        }
    }
    seen.iter().for_each(|(feature, count)| println!("{count:>7} {feature}"));
    let missed: Vec<String> =
        wanted().into_iter().filter(|feature| seen.get(feature).is_none_or(|count| *count < ENOUGH)).collect();
    assert!(missed.is_empty(), "decided fewer than {ENOUGH} acts: {missed:?}");
    assert!(postures.iter().all(|sets| *sets > SETS / 3), "{postures:?}");
}

#[test]
fn unit_naive_evaluator_uses_nothing_of_the_compiler_and_of_the_walkers_only_types() {
    let source = include_str!("../../../actors/policy-compiler/src/naive.rs");
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<&str> = code.collect();
    for line in &code {
        for shared in ["crate::", "super::", "specificity(", ".matches(", ".is_by(", "canonical::", "literal_prefix"] {
            assert!(!line.contains(shared), "{line}");
        }
    }
    let text = code.join(" ");
    let of_the_abi = text.split("use palisade_kernel_abi::blob::").nth(1).and_then(|rest| rest.split(';').next());
    assert_eq!(of_the_abi, Some("{Effect, Endpoint, Family, Modifiers}"));
    assert_eq!(text.matches("palisade_kernel_abi").count(), 1);
    assert_eq!(text.matches("palisade_policy").count(), 1, "the rules' own types");
}
