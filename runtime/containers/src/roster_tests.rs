//! The roster under every order of hooks, lists and events.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
};

use palisade_domain::{CgroupId, ContainerId};
use palisade_world::{Container, ContainerChange};
use proptest::prelude::*;

use super::{Changes, Entry, Key, MAX_CONTAINERS, Roster};

fn key(namespace: &str, id: &str) -> Key {
    Key { namespace: namespace.into(), id: id.into() }
}

fn entry(roster: &Roster, key: &Key, pid: u32) -> Entry {
    let container = Container {
        id: roster.id_for(key),
        runtime_namespace: key.namespace.clone(),
        pid,
        cgroup: CgroupId(u64::from(pid)),
        cgroup_path: PathBuf::from("/c"),
        root: None,
        pod: key.id.clone(),
        namespace: "default".into(),
        name: key.id.clone(),
        image: "i".into(),
        labels: BTreeMap::new(),
    };
    Entry { container, sandbox: None }
}

/// `+c1:7` for Started with pid 7, `-c1` for Stopped.
fn spell(changes: &mut Changes) -> Vec<String> {
    changes
        .drain(..)
        .map(|change| match change {
            ContainerChange::Started(container) => format!("+{}:{}", container.id, container.pid),
            ContainerChange::Stopped(id) => format!("-{id}"),
            other => panic!("the roster does not tell {other:?}"),
        })
        .collect()
}

#[test]
fn unit_roster_tells_a_start_once() {
    let (mut roster, mut changes, c1) = (Roster::default(), VecDeque::new(), key("default", "c1"));
    for _ in 0..3 {
        let told = entry(&roster, &c1, 7);
        roster.started(c1.clone(), told, &mut changes);
    }
    assert_eq!(spell(&mut changes), ["+c1:7"]);
}

#[test]
fn unit_roster_tells_a_start_announced_by_its_hook_without_asking_again() {
    let (mut roster, mut changes, c1) = (Roster::default(), VecDeque::new(), key("default", "c1"));
    let told = entry(&roster, &c1, 7);
    roster.starting(c1.clone(), told, &mut changes);
    assert!(!roster.resumed(&c1, 8, &mut changes), "another task");
    assert!(roster.resumed(&c1, 7, &mut changes));
    assert!(roster.resumed(&c1, 7, &mut changes));
    roster.ended(&c1, 7, &mut changes);
    roster.ended(&c1, 7, &mut changes);
    assert_eq!(spell(&mut changes), ["+c1:7", "-c1"]);
}

#[test]
fn unit_roster_ends_the_earlier_task_when_a_restarts_hook_overtakes_its_exit() {
    let (mut roster, mut changes, c1) = (Roster::default(), VecDeque::new(), key("default", "c1"));
    let first = entry(&roster, &c1, 7);
    roster.started(c1.clone(), first, &mut changes);
    let second = entry(&roster, &c1, 9);
    roster.starting(c1.clone(), second, &mut changes);
    roster.ended(&c1, 7, &mut changes);
    assert!(roster.resumed(&c1, 9, &mut changes));
    assert_eq!(spell(&mut changes), ["+c1:7", "-c1", "+c1:9"], "the late exit of pid 7 does not stop pid 9");
    roster.ended(&c1, 0, &mut changes);
    assert_eq!(spell(&mut changes), ["-c1"], "an exit without pid ends whatever ran");
}

#[test]
fn unit_roster_forgets_an_abandoned_start_but_no_running_container() {
    let (mut roster, mut changes, c1) = (Roster::default(), VecDeque::new(), key("default", "c1"));
    let told = entry(&roster, &c1, 7);
    roster.starting(c1.clone(), told.clone(), &mut changes);
    roster.abandoned(&c1, 8, &mut changes);
    assert_eq!(spell(&mut changes), Vec::<String>::new());
    roster.abandoned(&c1, 7, &mut changes);
    assert_eq!(spell(&mut changes), ["-c1"]);
    roster.started(c1.clone(), told, &mut changes);
    roster.abandoned(&c1, 7, &mut changes);
    assert_eq!(spell(&mut changes), ["+c1:7"]);
}

#[test]
fn unit_roster_tells_equal_ids_of_two_namespaces_apart() {
    let (mut roster, mut changes) = (Roster::default(), VecDeque::new());
    let (one, two) = (key("default", "c1"), key("k8s.io", "c1"));
    for (key, pid) in [(&one, 7), (&two, 8)] {
        let told = entry(&roster, key, pid);
        roster.started(key.clone(), told, &mut changes);
    }
    roster.removed(&one, &mut changes);
    let again = entry(&roster, &two, 8);
    roster.started(two.clone(), again, &mut changes);
    roster.removed(&two, &mut changes);
    assert_eq!(spell(&mut changes), ["+c1:7", "+k8s.io/c1:8", "-c1", "-k8s.io/c1"]);
}

#[test]
fn unit_roster_at_a_new_connection_tells_all_and_ends_what_is_gone() {
    let (mut roster, mut changes) = (Roster::default(), VecDeque::new());
    let (stays, goes, waits) = (key("default", "stays"), key("default", "goes"), key("default", "waits"));
    for (key, pid) in [(&stays, 1), (&goes, 2)] {
        let told = entry(&roster, key, pid);
        roster.started(key.clone(), told, &mut changes);
    }
    let announced = entry(&roster, &waits, 3);
    roster.starting(waits.clone(), announced, &mut changes);
    changes.clear();
    roster.keep_only(&BTreeSet::from([stays.clone()]), &mut changes);
    let found = entry(&roster, &stays, 1);
    roster.retold(stays, found, &mut changes);
    assert_eq!(spell(&mut changes), ["-goes", "+stays:1"]);
    assert_eq!(roster.announced(), [waits]);
}

#[test]
fn unit_roster_tells_new_labels_of_a_pod_to_all_its_containers() {
    let (mut roster, mut changes) = (Roster::default(), VecDeque::new());
    let (sandbox, inside, other) = (key("k8s.io", "s"), key("k8s.io", "c"), key("default", "c2"));
    for (key, pid, of) in [(&sandbox, 1, None), (&inside, 2, Some("s")), (&other, 3, Some("s"))] {
        let told = Entry { sandbox: of.map(str::to_owned), ..entry(&roster, key, pid) };
        roster.started(key.clone(), told, &mut changes);
    }
    assert_eq!(
        roster.labelled_by(&sandbox),
        [(inside.clone(), 2), (sandbox, 1)],
        "a sandbox of another namespace is another's"
    );
    changes.clear();
    let mut told = entry(&roster, &inside, 2);
    told.container.labels.insert("app".into(), "new".into());
    roster.started(inside, told, &mut changes);
    assert_eq!(spell(&mut changes), ["+c:2"], "a start with other labels is told");
}

#[test]
fn unit_roster_is_bounded() {
    let (mut roster, mut changes) = (Roster::default(), VecDeque::new());
    for n in 0..MAX_CONTAINERS {
        // Ids through `entry` would scan all of them for each: build them plainly.
        let key = key("default", &n.to_string());
        let mut told = entry(&Roster::default(), &key, 1);
        told.container.id = ContainerId(n.to_string());
        assert!(roster.has_room_for(&key));
        roster.starting(key, told, &mut changes);
    }
    assert!(!roster.has_room_for(&key("default", "one more")));
    assert!(roster.has_room_for(&key("default", "0")), "one that is followed may restart");
}

/// Starts and stops as a consumer that trusts the stream sees them.
#[derive(Debug, Clone)]
enum Act {
    Hook(u8, u32),
    Start(u8, u32),
    Exit(u8, u32),
    Abandon(u8, u32),
    Remove(u8),
    Connect(Vec<(u8, u32)>),
}

fn act() -> impl Strategy<Value = Act> {
    let (id, pid) = (0u8..3, 1u32..4);
    prop_oneof![
        (id.clone(), pid.clone()).prop_map(|(id, pid)| Act::Hook(id, pid)),
        (id.clone(), pid.clone()).prop_map(|(id, pid)| Act::Start(id, pid)),
        (id.clone(), 0u32..4).prop_map(|(id, pid)| Act::Exit(id, pid)),
        (id.clone(), pid.clone()).prop_map(|(id, pid)| Act::Abandon(id, pid)),
        id.clone().prop_map(Act::Remove),
        proptest::collection::btree_map(id, pid, 0..3).prop_map(|found| Act::Connect(found.into_iter().collect())),
    ]
}

fn apply(roster: &mut Roster, act: Act, changes: &mut Changes) {
    let named = |id: u8| key("default", &id.to_string());
    match act {
        Act::Hook(id, pid) => {
            let told = entry(roster, &named(id), pid);
            roster.starting(named(id), told, changes);
        }
        Act::Start(id, pid) => {
            if !roster.resumed(&named(id), pid, changes) {
                let told = entry(roster, &named(id), pid);
                roster.started(named(id), told, changes);
            }
        }
        Act::Exit(id, pid) => roster.ended(&named(id), pid, changes),
        Act::Abandon(id, pid) => roster.abandoned(&named(id), pid, changes),
        Act::Remove(id) => roster.removed(&named(id), changes),
        Act::Connect(found) => {
            roster.keep_only(&found.iter().map(|(id, _)| named(*id)).collect(), changes);
            for (id, pid) in found {
                let told = entry(roster, &named(id), pid);
                roster.retold(named(id), told, changes);
            }
        }
    }
}

proptest! {
    #[test]
    fn unit_roster_never_starts_a_second_task_before_the_first_has_stopped(acts in proptest::collection::vec(act(), 0..40)) {
        let (mut roster, mut running) = (Roster::default(), BTreeMap::new());
        for act in acts {
            let mut changes = VecDeque::new();
            let announced = match &act { Act::Hook(id, _) => Some(ContainerId(id.to_string())), _ => None };
            apply(&mut roster, act, &mut changes);
            for change in changes {
                match change {
                    ContainerChange::Started(container) => {
                        let before = running.insert(container.id, container.pid);
                        prop_assert!(before.is_none_or(|pid| pid == 0 || pid == container.pid));
                    }
                    ContainerChange::Stopped(id) => prop_assert!(running.remove(&id).is_some(), "stopped but never told"),
                    _ => unreachable!(),
                }
            }
            if let Some(id) = announced {
                prop_assert!(running.insert(id, 0).is_none(), "announced while an earlier task counts as running");
            }
        }
    }
}
