//! What is compiled once, and what is forgotten.

use std::{sync::Arc, time::Duration};

use palisade_domain::{Action, Posture};
use palisade_policy::ir::{Postures, WorkloadRules};
use palisade_protocol::CompilePolicy;
use palisade_world::BootNanos;

use super::{exact, file, pattern, rule, workload};
use crate::state::{Bounds, Counts, State};

const NOW: BootNanos = BootNanos(1);

fn command(rules: WorkloadRules) -> CompilePolicy {
    CompilePolicy { rules: Arc::new(rules) }
}

fn one(path: &str) -> CompilePolicy {
    command(workload(vec![rule(Action::Block, file(exact(path)), &[])]))
}

fn unhurried() -> impl FnMut() -> bool {
    || false
}

#[test]
fn unit_compiler_shares_a_blob_between_rules_that_differ_only_in_words() {
    let mut state = State::default();
    let first = state.step(NOW, &one("/bin/x"), &mut unhurried()).unwrap();
    let mut other = rule(Action::Block, file(exact("/bin/x")), &[]);
    other.message = Some("another".into());
    other.severity = Some(9);
    let second = state.step(NOW, &command(workload(vec![other])), &mut unhurried()).unwrap();
    assert!(Arc::ptr_eq(&first.blob, &second.blob));
    assert_eq!(second.rules[0].severity, Some(9), "alerts name the asker's own rule");
    assert_eq!(state.counts(), Counts { compiled: 1, reused: 1, refused: 0 });
}

#[test]
fn unit_compiler_answers_equal_workloads_with_the_very_same_policy() {
    let mut state = State::default();
    let shared = Arc::new(rule(Action::Block, file(exact("/bin/x")), &[]));
    let rules = || WorkloadRules { rules: vec![Arc::clone(&shared)], ..WorkloadRules::default() };
    let same = command(rules());
    let first = state.step(NOW, &same, &mut unhurried()).unwrap();
    for other in [&same, &command(rules())] {
        assert!(Arc::ptr_eq(&first, &state.step(NOW, other, &mut unhurried()).unwrap()));
    }
    assert_eq!(state.counts(), Counts { compiled: 1, reused: 2, refused: 0 });
    let known = Arc::downgrade(&first);
    drop(first);
    assert!(known.upgrade().is_none(), "an answer is kept alive by those who asked");
    let (one, other) = (
        state.step(NOW, &same, &mut unhurried()).unwrap().rules.clone(),
        state.step(NOW, &same, &mut unhurried()).unwrap(),
    );
    assert_eq!(one[..], [shared]);
    assert!(Arc::ptr_eq(&one, &other.rules), "who keeps the rules without the answer shares them all the same");
}

#[test]
fn unit_compiler_knows_the_very_same_rules_again_and_lets_go_of_them_after_some_others() {
    let mut state = State::default();
    let shared = Arc::new(rule(Action::Allow, file(exact("/bin/x")), &[]));
    let same = |posture| WorkloadRules {
        rules: vec![Arc::clone(&shared)],
        postures: Postures { file: posture, ..Postures::default() },
        ..WorkloadRules::default()
    };
    let first = state.step(NOW, &command(same(Posture::Audit)), &mut unhurried()).unwrap();
    let known = Arc::strong_count(&shared);
    let second = state.step(NOW, &command(same(Posture::Audit)), &mut unhurried()).unwrap();
    assert_eq!(first, second);
    drop(second);
    assert_eq!(Arc::strong_count(&shared), known, "one set is kept for both");
    let other = state.step(NOW, &command(same(Posture::Block)), &mut unhurried()).unwrap();
    assert_ne!(first.id, other.id, "the same rules under another posture are another policy");
    drop((first, other));
    assert!(Arc::strong_count(&shared) > 1, "while they are recent they are held, so that their addresses mean them");
    (0..8).for_each(|n| drop(state.step(NOW, &one(&format!("/bin/{n}")), &mut unhurried()).unwrap()));
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn unit_compiler_forgets_blobs_that_nobody_holds_and_no_others() {
    let mut state = State::new(Bounds { kept_bytes: 0, ..Bounds::default() });
    let held = state.step(NOW, &one("/bin/held"), &mut unhurried()).unwrap();
    drop(state.step(NOW, &one("/bin/dropped"), &mut unhurried()).unwrap());
    let again = state.step(NOW, &one("/bin/held"), &mut unhurried()).unwrap();
    assert!(Arc::ptr_eq(&held.blob, &again.blob));
    state.step(NOW, &one("/bin/dropped"), &mut unhurried()).unwrap();
    assert_eq!(state.counts(), Counts { compiled: 3, reused: 1, refused: 0 });
}

#[test]
fn unit_compiler_keeps_the_most_recent_blobs_within_its_bytes() {
    let one_blob = State::default().step(NOW, &one("/bin/0"), &mut unhurried()).unwrap().blob.as_bytes().len();
    let mut state = State::new(Bounds { kept_bytes: 2 * one_blob, entries: 5, ..Bounds::default() });
    for path in ["/bin/0", "/bin/1", "/bin/0", "/bin/2", "/bin/0", "/bin/1"] {
        state.step(NOW, &one(path), &mut unhurried()).unwrap();
    }
    // /bin/1 went when /bin/2 came, for /bin/0 was used after it.
    assert_eq!(state.counts(), Counts { compiled: 4, reused: 2, refused: 0 });
}

#[test]
fn unit_compiler_bounds_its_entries_even_when_all_are_held() {
    let mut state = State::new(Bounds { entries: 3, kept_bytes: 0, ..Bounds::default() });
    let held: Vec<_> = (0..5).map(|n| state.step(NOW, &one(&format!("/bin/{n}")), &mut unhurried()).unwrap()).collect();
    for n in [4, 3, 2, 0] {
        let again = state.step(NOW, &one(&format!("/bin/{n}")), &mut unhurried()).unwrap();
        assert_eq!(Arc::ptr_eq(&again.blob, &held[n].blob), n > 1, "/bin/{n}");
        assert_eq!(again.id, held[n].id);
    }
}

#[test]
fn unit_compiler_remembers_a_refusal_for_good_but_retries_one_for_want_of_time() {
    let bounds = Bounds { retry_after: Duration::from_secs(30), ..Bounds::default() };
    let mut state = State::new(bounds);
    let asked = one("/bin/slow");
    let mut looks = 0;
    let refused = state
        .step(NOW, &asked, &mut || {
            looks += 1;
            true
        })
        .unwrap_err();
    assert!(refused.reason.contains("time"), "{refused}");
    assert!(looks > 0);
    // In the meantime no attempt is made: a budget that would do is not even looked at.
    let soon = BootNanos(NOW.0 + 29_000_000_000);
    assert_eq!(state.step(soon, &asked, &mut || panic!("an attempt")), Err(refused));
    let then = BootNanos(NOW.0 + 30_000_000_000);
    assert!(state.step(then, &asked, &mut unhurried()).is_ok());

    let broken = command(workload(vec![rule(Action::Block, file(pattern("/a[")), &[])]));
    let refused = state.step(NOW, &broken, &mut unhurried()).unwrap_err();
    assert_eq!(state.step(BootNanos(u64::MAX), &broken, &mut || panic!("an attempt")), Err(refused));
    assert_eq!(state.counts(), Counts { compiled: 1, reused: 0, refused: 4 });
}
