//! The state alone: no runtime, no clock.

use std::{collections::BTreeMap, path::PathBuf};

use palisade_domain::{CgroupId, ContainerId, Slot};
use palisade_world::{BootNanos, Container};

use crate::state::{Effect, GRACE, Input, State};

fn container(id: &str) -> Container {
    Container {
        id: ContainerId(id.into()),
        runtime_namespace: "k8s.io".into(),
        pid: 100,
        cgroup: CgroupId(7),
        cgroup_path: PathBuf::from("/x"),
        root: None,
        pod: id.into(),
        namespace: "default".into(),
        name: "main".into(),
        image: "image".into(),
        labels: BTreeMap::new(),
    }
}

fn step(state: &mut State, seconds: u64, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    state.step(BootNanos(seconds * 1_000_000_000), input, &mut out);
    out
}

fn slots(effects: &[Effect]) -> Vec<(&'static str, u32)> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Appeared { membership, awaited, .. } => {
                (if *awaited { "awaited" } else { "appeared" }, membership.slot.0)
            }
            Effect::Running { slot, .. } => ("running", slot.0),
            Effect::Gone { slot } => ("gone", slot.0),
            Effect::Refused { .. } => ("refused", 0),
        })
        .collect()
}

#[test]
fn unit_workloads_admitted_container_runs_once_started() {
    let mut state = State::new(4);
    assert_eq!(slots(&step(&mut state, 0, Input::Starting(container("a")))), [("awaited", 1)]);
    assert_eq!(slots(&step(&mut state, 1, Input::Started(container("a")))), [("running", 1)]);
    assert_eq!(slots(&step(&mut state, 2, Input::Started(container("a")))), [], "told twice");
    assert_eq!(slots(&step(&mut state, 3, Input::Stopped(ContainerId("a".into())))), [("gone", 1)]);
    assert_eq!(slots(&step(&mut state, 3, Input::Stopped(ContainerId("a".into())))), [], "told twice");
}

#[test]
fn unit_workloads_container_from_before_appears_and_runs() {
    let mut state = State::new(4);
    assert_eq!(slots(&step(&mut state, 0, Input::Started(container("a")))), [("appeared", 1), ("running", 1)]);
}

#[test]
fn unit_workloads_slot_rests_before_it_is_given_again() {
    let mut state = State::new(1);
    step(&mut state, 0, Input::Started(container("a")));
    step(&mut state, 5, Input::Stopped(ContainerId("a".into())));
    let early = step(&mut state, 5 + GRACE.as_secs() - 1, Input::Starting(container("b")));
    assert!(matches!(&early[..], [Effect::Refused { reason, .. }] if reason.bound == 1), "{early:?}");
    assert_eq!(slots(&step(&mut state, 5 + GRACE.as_secs(), Input::Starting(container("b")))), [("awaited", 1)]);
}

#[test]
fn unit_workloads_container_not_told_again_after_reconnection_is_gone() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Started(container("a")));
    step(&mut state, 0, Input::Started(container("b")));
    step(&mut state, 0, Input::Synchronized);
    step(&mut state, 1, Input::Disconnected);
    assert!(!state.synchronized());
    assert_eq!(slots(&step(&mut state, 2, Input::Started(container("b")))), []);
    assert_eq!(slots(&step(&mut state, 2, Input::Synchronized)), [("gone", 1)]);
    assert_eq!(state.workloads().iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [Slot(2)]);
}

#[test]
fn unit_workloads_same_id_that_starts_again_gets_a_fresh_slot() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Starting(container("a")));
    assert_eq!(slots(&step(&mut state, 1, Input::Starting(container("a")))), [("gone", 1), ("awaited", 2)]);
}

#[test]
fn unit_workloads_container_that_waits_in_its_hook_outlasts_a_reconnection() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Synchronized);
    step(&mut state, 0, Input::Starting(container("a")));
    step(&mut state, 1, Input::Disconnected);
    assert_eq!(slots(&step(&mut state, 2, Input::Synchronized)), [], "no task of it can be listed yet");
    assert_eq!(slots(&step(&mut state, 3, Input::Started(container("a")))), [("running", 1)]);
    step(&mut state, 4, Input::Disconnected);
    assert_eq!(slots(&step(&mut state, 5, Input::Synchronized)), [("gone", 1)], "its task would be listed");
}

#[test]
fn unit_workloads_container_with_other_labels_appears_anew_with_its_slot() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Started(container("a")));
    let mut relabelled = container("a");
    relabelled.labels.insert("app".into(), "api".into());
    let effects = step(&mut state, 1, Input::Started(relabelled.clone()));
    assert_eq!(slots(&effects), [("appeared", 1), ("running", 1)]);
    assert!(matches!(&effects[0], Effect::Appeared { workload, .. } if workload.labels["app"] == "api"));
    assert_eq!(slots(&step(&mut state, 2, Input::Started(relabelled))), [], "told twice");
}

#[test]
fn unit_workloads_container_that_runs_without_a_slot_gets_the_first_that_is_free() {
    let mut state = State::new(1);
    step(&mut state, 0, Input::Started(container("a")));
    assert_eq!(slots(&step(&mut state, 0, Input::Started(container("b")))), [("refused", 0)]);
    assert_eq!(slots(&step(&mut state, 1, Input::Started(container("b")))), [], "said once");
    assert_eq!(state.unheld(), 1);
    step(&mut state, 2, Input::Stopped(ContainerId("a".into())));
    assert_eq!(slots(&step(&mut state, 2 + GRACE.as_secs() - 1, Input::Passed)), [], "the slot rests");
    assert_eq!(slots(&step(&mut state, 2 + GRACE.as_secs(), Input::Passed)), [("appeared", 1), ("running", 1)]);
    assert_eq!(state.unheld(), 0);
}

#[test]
fn unit_workloads_container_without_a_slot_is_forgotten_when_it_is_over() {
    let mut state = State::new(1);
    step(&mut state, 0, Input::Started(container("a")));
    for id in ["b", "c", "d"] {
        step(&mut state, 0, Input::Started(container(id)));
    }
    step(&mut state, 1, Input::Stopped(ContainerId("b".into())));
    assert_eq!(state.unheld(), 2);
    step(&mut state, 2, Input::Disconnected);
    step(&mut state, 3, Input::Started(container("a")));
    step(&mut state, 3, Input::Started(container("c")));
    step(&mut state, 3, Input::Synchronized);
    assert_eq!(state.unheld(), 1, "d was not told again");
    let refused = step(&mut state, 4, Input::Starting(container("e")));
    assert_eq!(slots(&refused), [("refused", 0)]);
    assert_eq!(state.unheld(), 1, "one that is refused in its hook does not run");
}
