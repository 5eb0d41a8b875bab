//! The shell over a runtime that is played from a list.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Handler};
use async_trait::async_trait;
use palisade_domain::{CgroupId, ContainerId, UnixNanos};
use palisade_protocol::{Condition, ConditionReported, WorkloadAppeared, WorkloadGone, WorkloadNamed, WorkloadStarted};
use palisade_supervision::{ChildSpec, Context, Here, Kept, Overflow, Supervisor};
use palisade_world::{BootNanos, Clock, Container, ContainerChange, Containers, ContainersError};

use crate::{Wiring, Workloads, state::State};

/// What the runtime tells, and how often it fails after that.
struct Played(VecDeque<ContainerChange>, usize);

#[async_trait(?Send)]
impl Containers for Played {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        match self.0.pop_front() {
            Some(change) => Ok(change),
            None if self.1 > 0 => {
                self.1 -= 1;
                let reason = format!("{} more", self.1);
                Err(ContainersError::Unreachable { address: "c.sock".into(), reason })
            }
            None => std::future::pending().await,
        }
    }
}

struct Noon;

impl Clock for Noon {
    fn boot(&self) -> BootNanos {
        BootNanos(0)
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(0)
    }
}

type Said = Arc<Mutex<Vec<String>>>;

/// Everybody who is told, and writes it down.
struct Others(Said);

impl Others {
    fn note(&self, what: String) {
        self.0.lock().expect("no panic").push(what);
    }
}

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<WorkloadAppeared> for Others {
    type Result = ();

    fn handle(&mut self, message: WorkloadAppeared, _: &mut Self::Context) {
        self.note(format!("appeared {}", message.membership.slot));
    }
}

impl Handler<WorkloadStarted> for Others {
    type Result = ();

    fn handle(&mut self, _: WorkloadStarted, _: &mut Self::Context) {}
}

impl Handler<WorkloadGone> for Others {
    type Result = ();

    fn handle(&mut self, _: WorkloadGone, _: &mut Self::Context) {}
}

impl Handler<WorkloadNamed> for Others {
    type Result = ();

    fn handle(&mut self, _: WorkloadNamed, _: &mut Self::Context) {}
}

impl Handler<ConditionReported> for Others {
    type Result = ();

    fn handle(&mut self, message: ConditionReported, _: &mut Self::Context) {
        let state = match message.condition {
            Some(Condition::Good) => "good".to_owned(),
            Some(Condition::Pending(_)) => "pending".to_owned(),
            Some(Condition::Degraded(reason)) => reason,
            other => format!("{other:?}"),
        };
        self.note(format!("{}: {state}", message.name));
    }
}

fn started(id: &str) -> ContainerChange {
    ContainerChange::Started(Container {
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
    })
}

/// What is said by a node of two slots of these changes.
fn said_of(changes: Vec<ContainerChange>) -> Vec<String> {
    said_until_away(changes, 0)
}

/// The same of a runtime that then fails so often.
fn said_until_away(changes: Vec<ContainerChange>, failures: usize) -> Vec<String> {
    let said = Said::default();
    let changes = Mutex::new(VecDeque::from(changes));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut node = Supervisor::new("node");
        let book = Arc::clone(&said);
        let others = node.add(ChildSpec::new("others", move |_| Others(Arc::clone(&book))).place(Here::place()));
        let wiring = Wiring {
            appeared: others.outbox(Overflow::Block),
            started: others.outbox(Overflow::Block),
            gone: others.outbox(Overflow::Block),
            named: vec![others.outbox(Overflow::Block)],
            placed: Vec::new(),
            conditions: others.outbox(Overflow::Refuse),
            clock: Arc::new(Noon),
        };
        let slots = Kept::new(State::new(2));
        let workloads = ChildSpec::new("workloads", move |_| {
            let played = Played(std::mem::take(&mut *changes.lock().expect("no panic")), failures);
            Workloads::new(Box::new(played), wiring.clone(), slots.clone())
        });
        let tree = node.child(workloads.place(Here::place())).start(|_| {}).await.expect("it starts");
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.stop().await;
    });
    Arc::into_inner(said).expect("the tree is over").into_inner().expect("no panic")
}

#[test]
fn unit_workloads_node_is_not_ready_before_what_ran_is_under_policy() {
    let said = said_of(vec![started("a"), ContainerChange::Synchronized, started("b")]);
    assert_eq!(
        said,
        [
            "containers: pending",
            "slot 1: pending",
            "appeared 1",
            "containers: good",
            // It came without a hook, and the enforcer speaks for it: readiness does not flap with each start.
            "appeared 2",
        ]
    );
}

#[test]
fn unit_workloads_node_says_how_many_run_without_policy() {
    let changes = vec![
        started("a"),
        started("b"),
        started("c"),
        ContainerChange::Synchronized,
        started("d"),
        ContainerChange::Stopped(ContainerId("c".into())),
        ContainerChange::Stopped(ContainerId("d".into())),
    ];
    let said = said_of(changes);
    let conditions: Vec<&String> = said.iter().filter(|line| line.starts_with("containers: ")).collect();
    let without = |count| {
        format!(
            "containers: {count} containers run without policy: this node holds at most 2 workloads (--max-workloads)"
        )
    };
    assert_eq!(conditions, ["containers: pending", &without(1), &without(2), &without(1), "containers: good"]);
}

#[test]
fn unit_workloads_node_works_on_without_its_runtime_and_says_since_when() {
    let said = said_until_away(vec![started("a"), ContainerChange::Synchronized], 2);
    let away: Vec<&String> = said.iter().filter(|line| line.contains("more")).collect();
    assert_eq!(away.len(), 2, "once a failure: {said:?}");
    for (line, left) in away.iter().zip([1, 0]) {
        let expected = format!(
            "container runtime at c.sock: {left} more, since 1970-01-01T00:00:00Z: 1 containers are held as they were"
        );
        assert!(line.contains(&expected), "{line}");
        assert!(!line.contains("Failed"), "what runs is held: {line}");
    }
    assert!(!said.iter().any(|line| line.starts_with("gone")));
    let never = said_until_away(Vec::new(), 1);
    assert!(never.iter().any(|line| line.contains("Failed")), "it was never there: {never:?}");
}

#[test]
fn unit_workloads_node_says_what_following_the_runtime_lacks_until_it_lacks_nothing() {
    let limited = |words: &str| ContainerChange::Limited(Some(words.to_owned()));
    let changes = vec![
        limited("no hooks"),
        ContainerChange::Synchronized,
        limited("no hooks: gone"),
        started("a"),
        ContainerChange::Limited(None),
        started("b"),
    ];
    let said = said_of(changes);
    let conditions: Vec<&String> = said.iter().filter(|line| line.starts_with("containers: ")).collect();
    assert_eq!(
        conditions,
        ["containers: pending", "containers: no hooks", "containers: no hooks: gone", "containers: good"]
    );
    assert!(said.contains(&"appeared 1".to_owned()) && said.contains(&"appeared 2".to_owned()), "{said:?}");
}
