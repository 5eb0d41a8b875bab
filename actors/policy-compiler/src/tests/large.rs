//! Large sets: they compile, in the comb form, and mean what the rules say.

use palisade_differential::corpus::{Random, seed};
use palisade_domain::Action;
use palisade_kernel_abi::blob::{Automaton, Family, Form, Modifiers, SizeClass, SourceId};
use palisade_policy::ir::{PathMatch, Rule, WorkloadRules};

use super::{compile, directory, exact, file, pattern, rule, workload};
use crate::naive::{Act, Object, evaluate};

fn stem(random: &mut Random, number: usize) -> String {
    format!("/srv-{}/{}/entry-{number}", random.below(4), random.pick(&["www", "data", "cache"]))
}

/// One rule of the form, and a path that it matches.
fn of_form(random: &mut Random, form: &str, number: usize) -> (PathMatch, String) {
    let stem = stem(random, number);
    match form {
        "names" => (PathMatch::Name(format!("name-{number}")), format!("{stem}/name-{number}")),
        "directories" => (directory(&format!("{stem}/"), true), format!("{stem}/below/x")),
        "patterns" => (pattern(&format!("{stem}/*.conf")), format!("{stem}/x.conf")),
        _ => (exact(&stem), stem),
    }
}

fn check(rules: &WorkloadRules, paths: &[String]) -> SizeClass {
    let policy = compile(rules).unwrap();
    let blob = &policy.blob;
    assert_eq!(blob.head().automaton[Automaton::Path as usize].form, Form::Comb as u32);
    for path in paths {
        let object = Object::Path(path.as_bytes());
        let (family, modifiers) = (Family::File, Modifiers::NONE);
        let expected = evaluate(rules, &Act { family, object, executable: None, modifiers, arguments: &[] });
        let decision = blob.decide(family, blob.path_accept(path.as_bytes()), SourceId::NONE, modifiers);
        assert_eq!((decision.effect, decision.rule.is_some()), (expected.effect, !expected.rules.is_empty()), "{path}");
    }
    blob.size_class()
}

#[test]
fn unit_compiler_takes_a_thousand_names_beside_a_thousand_directories_patterns_and_paths() {
    let mut random = Random::new(seed());
    let (mut rules, mut paths): (Vec<Rule>, Vec<String>) = (Vec::new(), Vec::new());
    for number in 0..1_000 {
        for form in ["exact", "names", "directories", "patterns"] {
            let (path_match, path) = of_form(&mut random, form, number);
            let action = random.pick(&[Action::Allow, Action::Audit, Action::Block]);
            rules.push(rule(action, file(path_match), &[]));
            if number % 50 == 0 {
                // What matches, what nearly does, and a name below a directory that is named too.
                paths.extend([path.clone(), format!("{path}x"), format!("{path}/name-{number}")]);
            }
        }
    }
    let class = check(&workload(rules), &paths);
    assert!(class <= SizeClass::M8);
}
