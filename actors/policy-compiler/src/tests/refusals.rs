//! What must be refused, quickly and with numbers.

use palisade_domain::Action;
use palisade_kernel_abi::blob::{Automaton, Family};
use palisade_policy::ir::{DestinationMatch, Matcher, PathMatch, Rule, WorkloadRules};

use super::{compile, exact, file, pattern, rule, workload};
use crate::{
    CompileError, TooLarge,
    arguments::ArgumentSets,
    automaton::{AutomatonLimits, Exhausted, SetInterner},
    decisions::{Classes, ClassesError, Table},
    verdict::Standing,
};

/// `/**/x<n>/**/y<n>`: 2^n states, for it must be remembered which `x` came by.
fn blow_up(count: usize) -> Vec<Rule> {
    let action = |n: usize| if n.is_multiple_of(2) { Action::Allow } else { Action::Block };
    (0..count).map(|n| rule(action(n), file(pattern(&format!("/**/x{n}/**/y{n}"))), &[])).collect()
}

fn small() -> AutomatonLimits {
    AutomatonLimits { nodes: 1 << 14, states: 1 << 12, set_members: 1 << 18, transitions: 1 << 18 }
}

#[test]
fn unit_compiler_refuses_a_blow_up_with_numbers_and_the_worst_patterns() {
    let rules = workload(blow_up(200));
    let Err(error) = crate::compile(&rules, &small(), &mut || false) else { panic!("200 of them cannot fit") };
    let text = error.to_string();
    let CompileError::TooLarge { what: TooLarge::Automaton { automaton: Automaton::Path, exhausted }, worst } = error
    else {
        panic!("{text}")
    };
    assert!(matches!(
        exhausted,
        Exhausted::SetMembers { .. } | Exhausted::Transitions { .. } | Exhausted::States { .. }
    ));
    assert!(!worst.is_empty() && worst.iter().all(|place| place.contains("/**/x")), "{text}");
    println!("{text}");
}

#[test]
fn unit_compiler_ends_soon_after_its_time_is_up() {
    let rules = workload(blow_up(200));
    // One look for each pattern, the others at the states that they make.
    let mut looks = 0;
    let limits = AutomatonLimits { states: usize::MAX, set_members: usize::MAX, transitions: usize::MAX, ..small() };
    let mut budget = || {
        looks += 1;
        looks > 220
    };
    let error = crate::compile(&rules, &limits, &mut budget).unwrap_err();
    assert!(matches!(&error, CompileError::TooLarge { what, .. } if what.is_for_want_of_time()), "{error}");
    assert_eq!(looks, 221, "the first look that says so ends the build");
}

/// Refuses at each of the looks of a build in turn; what was said, and how many looks there are.
fn refused_at_each_look(rules: &WorkloadRules) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let mut looks = 0;
        let mut budget = || {
            looks += 1;
            looks > said.len()
        };
        match crate::compile(rules, &AutomatonLimits::default(), &mut budget) {
            Ok(_) => return said,
            Err(error) => said.push(error.to_string()),
        }
    }
}

#[test]
fn unit_compiler_names_rules_at_whatever_moment_its_time_is_up() {
    let path = |n: usize| rule(Action::Block, file(exact(&format!("/usr/bin/{n}"))), &[]);
    let from = |n: usize| rule(Action::Block, file(exact(&format!("/etc/{n}"))), &[&format!("/usr/sbin/{n}")]);
    let peer = |n: usize| {
        let cidr = Some((format!("10.0.0.{n}").parse().unwrap(), 32));
        rule(Action::Block, Matcher::Destination(DestinationMatch { cidr, ports: None, protocol: None }), &[])
    };
    for (shape, rules) in [
        ("paths", (0..3).map(path).collect()),
        ("destinations", (0..3).map(peer).collect()),
        ("sources", (0..3).map(from).collect()),
        ("all of them", (0..3).flat_map(|n| [path(n), from(n), peer(n)]).collect::<Vec<Rule>>()),
    ] {
        let said = refused_at_each_look(&workload(rules));
        assert!(said.len() > 3, "{shape}: {said:?}");
        for text in said {
            assert!(text.contains("the time for one build was up"), "{shape}: {text}");
            assert!(text.contains("the rules that cost most: PalisadePolicy/test/test"), "{shape}: {text}");
            assert!(!text.contains(" of 1 "), "{shape}: {text}");
        }
    }
}

#[test]
fn unit_compiler_blames_the_paths_where_their_time_is_up_as_the_destinations_begin() {
    let peer = Matcher::Destination(DestinationMatch { cidr: None, ports: Some((80, 80)), protocol: None });
    let rules = [rule(Action::Block, file(exact("/usr/bin/x")), &[]), rule(Action::Block, peer, &[])];
    let said = refused_at_each_look(&workload(rules.to_vec()));
    let begun: Vec<&String> =
        said.iter().filter(|text| text.contains("Network automaton: ") && text.contains(" 0 states")).collect();
    assert!(!begun.is_empty() && begun.iter().all(|text| text.contains("`/usr/bin/x`")), "{said:#?}");
}

#[test]
fn unit_compiler_looks_at_its_time_more_often_the_more_there_is_to_decide() {
    // Twenty sets of about two hundred rules, each with a source of its own: 160,000 decisions a set.
    const RULES: u32 = 200;
    let standing = |n: u32| Standing::of(&rule(Action::Block, file(exact("/a")), &["/source"]), vec![n + 1]);
    let standings: Vec<Standing> = (0..RULES).map(standing).collect();
    let table = Table {
        family: Family::File,
        rules_of_tag: (0..RULES).map(|n| vec![n]).collect(),
        posture: None,
        modifiers: 4,
        is_decided: true,
        has_sources: true,
    };
    let mut sets = SetInterner::default();
    sets.intern(&[]);
    for first in 0..20 {
        sets.intern(&(first..RULES).collect::<Vec<_>>());
    }
    let decide = |bound: usize| {
        let mut looks = 0;
        let mut arguments = ArgumentSets::default();
        let classes = Classes::of(&sets, std::slice::from_ref(&table), &standings, &mut arguments, &mut || {
            looks += 1;
            looks > bound
        });
        (classes.map(|classes| classes.count()), looks)
    };
    assert_eq!(decide(usize::MAX), (Ok(21), 3));
    assert_eq!(decide(1), (Err(ClassesError::Time { done: 8 }), 2));
}

#[test]
fn unit_compiler_refuses_each_bound_by_name() {
    let names = |count: usize| {
        workload((0..count).map(|n| rule(Action::Block, file(exact(&format!("/bin/{n}/x"))), &[])).collect())
    };
    let exhausted = |limits: AutomatonLimits| match crate::compile(&names(100), &limits, &mut || false) {
        Err(CompileError::TooLarge { what: TooLarge::Automaton { exhausted, .. }, .. }) => exhausted,
        other => panic!("{other:?}"),
    };
    let limits = AutomatonLimits::default();
    assert_eq!(exhausted(AutomatonLimits { nodes: 50, ..limits }), Exhausted::Nodes { limit: 50 });
    assert_eq!(exhausted(AutomatonLimits { states: 50, ..limits }), Exhausted::States { limit: 50 });
    let of_members = exhausted(AutomatonLimits { set_members: 50, ..limits });
    assert!(matches!(of_members, Exhausted::SetMembers { limit: 50, .. }), "{of_members:?}");
    let of_transitions = exhausted(AutomatonLimits { transitions: 500, ..limits });
    assert!(matches!(of_transitions, Exhausted::Transitions { limit: 500, .. }), "{of_transitions:?}");
}

#[test]
fn unit_compiler_refuses_decision_tables_that_do_not_fit() {
    // 1,500 paths x 1,500 sources.
    let rules =
        (0..1500).map(|n| rule(Action::Block, file(exact(&format!("/bin/{n}"))), &[&format!("/source/{n}")])).collect();
    let Err(CompileError::TooLarge { what: TooLarge::Words { cells, accepts, sources, .. }, worst }) =
        compile(&workload(rules))
    else {
        panic!("2,250,000 cells cannot fit")
    };
    // One more row: of what is denied below /bin, by each source.
    assert_eq!((cells, accepts, sources), (1502 * 1501, 1502, 1501));
    assert_eq!(worst.len(), 5);
    assert!(worst[0].ends_with(" process.matchPaths[0] `/bin/0`"), "{worst:?}");
}

#[test]
fn unit_compiler_names_the_rules_with_most_sources_where_the_tables_do_not_fit() {
    let sources: Vec<String> = (0..1500).map(|n| format!("/source/{n}")).collect();
    let mut rules: Vec<Rule> =
        (0..1500).map(|n| rule(Action::Block, file(exact(&format!("/bin/{n}"))), &[&sources[n]])).collect();
    let all: Vec<&str> = sources.iter().map(String::as_str).collect();
    rules.push(rule(Action::Block, file(pattern("/usr/**")), &all));
    let text = compile(&workload(rules)).unwrap_err().to_string();
    assert!(
        text.contains("the rules that cost most: PalisadePolicy/test/test process.matchPaths[0] `/usr/**`"),
        "{text}"
    );
}

#[test]
fn unit_compiler_refuses_automata_that_do_not_fit_and_names_the_rules_in_most_states() {
    // Which of 40 letters were the last three must be remembered: each state has an edge of its own for each of them.
    let letters = ('a'..='z').chain('0'..='9').chain('A'..='D');
    let windows = letters.map(|letter| rule(Action::Block, file(pattern(&format!("/*{letter}??"))), &[]));
    let short = (0..20).map(|n| rule(Action::Block, file(exact(&format!("/short-{n}"))), &[]));
    let rules = workload(short.chain(windows).collect());
    let error = compile(&rules).unwrap_err();
    let text = error.to_string();
    let CompileError::TooLarge { what: TooLarge::Words { rows, cells, .. }, worst } = error else { panic!("{text}") };
    assert!(rows > cells, "{text}");
    assert!(worst.len() == 5 && worst.iter().all(|place| place.contains("??")), "{text}");
}

#[test]
fn unit_compiler_refuses_rules_that_can_match_nothing_and_says_where() {
    let destination = |cidr: Option<(&str, u8)>, ports| {
        Matcher::Destination(DestinationMatch {
            cidr: cidr.map(|(address, prefix)| (address.parse().unwrap(), prefix)),
            ports,
            protocol: None,
        })
    };
    for (matcher, words) in [
        (file(pattern("/a[")), "`/a[`: the `[` at byte 2 is not closed"),
        (file(exact("/a\0b")), "NUL"),
        (file(PathMatch::Name("n".repeat(5000))), "5000 bytes"),
        (destination(Some(("10.0.0.0", 33)), None), "33 bits"),
        (destination(None, Some((90, 80))), "90-80"),
    ] {
        let text = compile(&workload(vec![rule(Action::Block, matcher, &[])])).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("PalisadePolicy/test/test process.matchPaths[0]"), "{text}");
    }
    let text = compile(&workload(vec![rule(Action::Block, file(exact("/a")), &["/b\0"])])).unwrap_err().to_string();
    assert!(text.contains("NUL") && text.contains("matchPaths[0]"), "{text}");
}
