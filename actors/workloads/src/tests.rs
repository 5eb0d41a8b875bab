//! The state alone: no runtime, no clock.

use std::{collections::BTreeMap, path::PathBuf};

use palisade_domain::{CgroupId, ContainerId, Slot};
use palisade_world::{BootNanos, Container, LeftBehind};
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

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
fn unit_workloads_container_keeps_its_slot_over_a_restart_of_the_process_and_none_gets_a_fresh_one_of_before() {
    let left =
        |slot, cgroup: Option<u64>| LeftBehind { slot: Slot(slot), cgroup: cgroup.map(CgroupId), released: None };
    let found = [left(1, None), left(3, Some(70)), left(3, Some(7)), left(4, Some(8)), left(9, Some(9))];
    let mut state = State::new(5).taking_over(BootNanos(0), found);
    let other = Container { cgroup: CgroupId(99), ..container("other") };
    assert_eq!(slots(&step(&mut state, 1, Input::Starting(other))), [("awaited", 2)], "1 rests, 3 and 4 are others'");
    assert_eq!(slots(&step(&mut state, 1, Input::Started(container("a")))), [("appeared", 3), ("running", 3)]);
    let past = Container { cgroup: CgroupId(9), ..container("past the bound") };
    assert_eq!(slots(&step(&mut state, 1, Input::Started(past))), [("appeared", 5), ("running", 5)]);
    let late = |id, cgroup| Container { cgroup: CgroupId(cgroup), ..container(id) };
    assert_eq!(slots(&step(&mut state, 2, Input::Started(late("late", 100)))), [("refused", 0)]);
    assert_eq!(slots(&step(&mut state, 2, Input::Synchronized)), []);
    assert_eq!(slots(&step(&mut state, 10, Input::Passed)), [("appeared", 1), ("running", 1)], "1 has rested");
    assert_eq!(slots(&step(&mut state, 11, Input::Started(late("later", 101)))), [("refused", 0)], "4 rests since 2");
    assert_eq!(slots(&step(&mut state, 12, Input::Passed)), [("appeared", 4), ("running", 4)]);
}

#[test]
fn unit_workloads_slot_that_rests_rests_on_over_a_restart_of_the_process() {
    let at = |seconds: u64| BootNanos(seconds * 1_000_000_000);
    let left = |slot, released| LeftBehind { slot: Slot(slot), cgroup: None, released: Some(at(released)) };
    let mut state = State::new(3).taking_over(at(20), [left(1, 15), left(2, 9), left(3, 12)]);
    assert_eq!(slots(&step(&mut state, 20, Input::Starting(container("a")))), [("awaited", 2)], "2 has rested");
    assert_eq!(slots(&step(&mut state, 21, Input::Starting(container("b")))), [("refused", 0)]);
    assert_eq!(slots(&step(&mut state, 22, Input::Starting(container("b")))), [("awaited", 3)], "released at 12");
    assert_eq!(slots(&step(&mut state, 24, Input::Starting(container("c")))), [("refused", 0)]);
    assert_eq!(slots(&step(&mut state, 25, Input::Starting(container("c")))), [("awaited", 1)]);
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

#[test]
fn unit_workloads_container_keeps_its_slot_over_a_restart_and_is_said_again() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Started(container("a")));
    step(&mut state, 0, Input::Started(container("b")));
    step(&mut state, 0, Input::Started(container("c")));
    step(&mut state, 1, Input::Stopped(ContainerId("a".into())));
    state.restarted();
    assert!(!state.synchronized());
    // Told in another order, and one ended meanwhile: the kernel holds c by slot 3 all the while.
    assert_eq!(slots(&step(&mut state, 2, Input::Started(container("c")))), [("appeared", 3), ("running", 3)]);
    assert_eq!(slots(&step(&mut state, 2, Input::Started(container("d")))), [("appeared", 4), ("running", 4)]);
    let ends = step(&mut state, 2, Input::Synchronized);
    assert_eq!(slots(&ends), [("gone", 1), ("gone", 2)], "1 once more: who heard of it may have crashed since");
    assert_eq!(slots(&step(&mut state, 3, Input::Synchronized)), []);
}

#[test]
fn unit_workloads_container_that_waits_in_its_hook_does_not_outlast_its_port() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Starting(container("a")));
    state.restarted();
    assert_eq!(slots(&step(&mut state, 1, Input::Synchronized)), [("gone", 1)], "its hook was refused with the port");
}

#[test]
fn unit_workloads_container_that_waited_for_a_slot_gets_one_and_no_more() {
    let mut state = State::new(2);
    step(&mut state, 0, Input::Started(container("a")));
    step(&mut state, 0, Input::Started(container("b")));
    step(&mut state, 0, Input::Started(container("c")));
    step(&mut state, 1, Input::Stopped(ContainerId("a".into())));
    step(&mut state, 1, Input::Stopped(ContainerId("b".into())));
    let told_again = step(&mut state, 1 + GRACE.as_secs(), Input::Started(container("c")));
    assert_eq!(slots(&told_again), [("appeared", 1), ("running", 1)]);
    assert_eq!(state.unheld(), 0);
}

#[test]
fn unit_workloads_container_in_another_cgroup_is_another_run_of_it() {
    let mut state = State::new(4);
    step(&mut state, 0, Input::Started(container("a")));
    step(&mut state, 1, Input::Disconnected);
    let again = Container { cgroup: CgroupId(8), ..container("a") };
    let effects = step(&mut state, 2, Input::Started(again));
    assert_eq!(slots(&effects), [("gone", 1), ("appeared", 2), ("running", 2)]);
}

proptest! {
    /// Whatever is told in whatever order: no slot is two containers', what is said adds up to what is known, and nothing is lost
    /// over restarts and reconnections.
    #[test]
    fn unit_workloads_gives_each_slot_to_one_container_at_a_time(acts in prop::collection::vec((0..7u8, 0..5u8), 0..200)) {
        let mut state = State::new(3);
        let mut said: BTreeMap<Slot, ContainerId> = BTreeMap::new();
        for (now, (act, which)) in acts.into_iter().enumerate() {
            let of = container(&which.to_string());
            let id = of.id.clone();
            let input = match act {
                0 => Input::Starting(of),
                1 | 2 => Input::Started(of),
                3 => Input::Stopped(id),
                4 => Input::Disconnected,
                5 => Input::Passed,
                _ => Input::Synchronized,
            };
            if act == 4 && which == 0 {
                state.restarted();
            }
            for effect in step(&mut state, now as u64, input) {
                match effect {
                    Effect::Appeared { workload, membership, .. } => {
                        let id = workload.container_id.clone().expect("a container");
                        let before = said.insert(membership.slot, id.clone());
                        prop_assert!(before.is_none_or(|before| before == id), "slot {} is another's", membership.slot);
                    }
                    Effect::Gone { slot } => drop(said.remove(&slot)),
                    Effect::Running { slot, .. } => prop_assert!(said.contains_key(&slot)),
                    Effect::Refused { .. } => {}
                }
            }
            let known: Vec<_> = state.workloads().into_iter().map(|(slot, w)| (slot, w.container_id.clone())).collect();
            let told: Vec<_> = said.iter().map(|(slot, id)| (*slot, Some(id.clone()))).collect();
            prop_assert_eq!(known, told);
        }
    }
}
