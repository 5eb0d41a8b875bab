//! The state alone: readings in, sets out.

use palisade_domain::Generation;
use palisade_protocol::Condition;
use palisade_world::{PolicyFile, PolicyReading};

use crate::state::State;

fn policy(name: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n  process: {{matchPaths: [{{path: {path}}}]}}\n  action: Block\n"
    )
}

fn reading(files: &[(&str, &str)]) -> PolicyReading {
    let file = |(name, text): &(&str, &str)| PolicyFile { name: (*name).into(), content: text.as_bytes().to_vec() };
    PolicyReading { files: files.iter().map(file).collect() }
}

fn generation(state: &State) -> Option<Generation> {
    state.in_force().map(|changed| changed.generation)
}

#[test]
fn unit_policy_keeper_gives_a_generation_for_each_set_that_differs() {
    let mut state = State::default();
    assert!(state.read(reading(&[])).changed.is_some(), "no policies is a set as well");
    assert!(state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))])).changed.is_some());
    let commented = format!("# why\n{}", policy("one", "/bin/x"));
    state.read(reading(&[("a.yaml", &commented)]));
    assert!(state.read(reading(&[("a.yaml", &commented)])).changed.is_none());
    let changed = state.read(reading(&[("a.yaml", &policy("one", "/bin/y"))])).changed.expect("it differs");
    assert_eq!(changed.set.len(), 1);
}

#[test]
fn unit_policy_keeper_keeps_the_last_good_version_of_a_broken_file_and_says_so() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", &policy("two", "/bin/y"))]));
    let good = generation(&state);
    let outcome = state.read(reading(&[("a.yaml", &policy("one", "relative")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(outcome.changed.is_none());
    assert_eq!(generation(&state), good);
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert!(outcome.news.iter().any(|found| found.to_string().starts_with("a.yaml:")), "{:?}", outcome.news);
    assert!(matches!(state.condition(), Condition::Degraded(reason) if reason.contains("a.yaml")));
    let again = state.read(reading(&[("a.yaml", &policy("one", "relative")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(again.news.is_empty(), "said once");
    let mended = state.read(reading(&[("a.yaml", &policy("one", "/bin/z")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(mended.changed.is_some());
    assert_eq!(state.condition(), Condition::Good);
}

#[test]
fn unit_policy_keeper_new_file_that_is_broken_takes_nothing_else_down() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", ": {")]));
    assert_eq!(state.status().policies.len(), 1);
    assert!(state.status().held_back.is_empty(), "it never had a good version");
    assert!(matches!(state.condition(), Condition::Degraded(_)));
}

#[test]
fn unit_policy_keeper_removed_file_takes_its_policies_away_even_if_it_was_broken() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    state.read(reading(&[("a.yaml", "broken: [")]));
    assert_eq!(state.status().policies.len(), 1);
    let changed = state.read(reading(&[])).changed.expect("it is gone");
    assert!(changed.set.is_empty());
}

#[test]
fn unit_policy_keeper_unreadable_directory_keeps_what_is_in_force() {
    let mut state = State::default();
    assert!(state.unreadable("gone".into()));
    assert!(matches!(state.condition(), Condition::Failed(_)), "nothing was ever in force");
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    state.unreadable("gone".into());
    assert!(matches!(state.condition(), Condition::Degraded(reason) if reason.contains("stays in force")));
    assert_eq!(state.status().policies.len(), 1);
}

#[test]
fn unit_policy_keeper_says_once_that_the_directory_cannot_be_read() {
    let mut state = State::default();
    assert!(state.unreadable("gone".into()));
    assert!(!state.unreadable("gone".into()), "four times a second is no news");
    assert!(state.unreadable("not for you".into()), "another reason is");
    state.read(reading(&[]));
    assert!(state.unreadable("not for you".into()), "it could be read meanwhile");
}
