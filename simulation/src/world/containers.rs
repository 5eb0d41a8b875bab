//! The container runtime of a simulated machine: what runs, who is told of it, and the hook that waits.
//!
//! Invariant: what is told is told in the order in which it happened, each a while after; a connection begins with all that runs. A
//! connection that goes away takes along what it had not told yet, and refuses the hooks that waited in it. Of a container that was announced
//! and never told to run the end is told, also where it came while there was no connection.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use palisade_domain::{CgroupId, ContainerId};
use palisade_world::{Admission, Container, ContainerChange, Containers, ContainersError};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::mutation::Mutation;
use crate::{event::lock, random::Random};

/// Changes that may wait for one connection; a node has fewer containers.
const WAITING: usize = 4096;

#[derive(Default)]
struct Session {
    changes: VecDeque<(Instant, ContainerChange)>,
}

struct State {
    running: BTreeMap<ContainerId, Container>,
    /// Those that are made, be it that they wait in their hooks.
    made: BTreeSet<ContainerId>,
    /// The connection that there is. Each new one takes the place of the one before.
    session: Option<(u64, Session)>,
    sessions: u64,
    down: bool,
    random: Random,
    mutation: Option<Mutation>,
}

/// See the module.
#[derive(Clone)]
pub struct Runtime {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl Runtime {
    /// Nothing runs.
    #[must_use]
    pub fn new(random: Random, mutation: Option<Mutation>) -> Self {
        let state = State {
            running: BTreeMap::new(),
            made: BTreeSet::new(),
            session: None,
            sessions: 0,
            down: false,
            random,
            mutation,
        };
        Self { state: Arc::new(Mutex::new(state)), news: Arc::default() }
    }

    /// The port, as a node opens it.
    #[must_use]
    pub fn connect(&self) -> SimContainers {
        SimContainers { runtime: self.clone(), session: None, announced: BTreeSet::new() }
    }

    /// The runtime goes away, and takes the connection along.
    pub fn go_down(&self) {
        let mut state = lock(&self.state);
        state.down = true;
        let gone = state.session.take();
        drop(state);
        drop(gone);
        self.news.notify_waiters();
    }

    /// It is there again.
    pub fn come_up(&self) {
        lock(&self.state).down = false;
        self.news.notify_waiters();
    }

    /// The node's process is gone, and the connection with it.
    pub fn disconnect(&self) {
        let gone = lock(&self.state).session.take();
        drop(gone);
    }

    /// A container waits in its hook. The answer; a hook that nobody hears is refused at once.
    pub fn hook(&self, container: &Container) -> oneshot::Receiver<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        lock(&self.state).made.insert(container.id.clone());
        if lock(&self.state).mutation == Some(Mutation::AdmitsByItself) {
            let _ = answer.send(Ok(()));
            return answered;
        }
        self.tell(ContainerChange::Starting(container.clone(), Admission(answer)));
        answered
    }

    /// A container runs.
    pub fn started(&self, container: &Container) {
        {
            let mut state = lock(&self.state);
            state.made.insert(container.id.clone());
            state.running.insert(container.id.clone(), container.clone());
        }
        self.tell(ContainerChange::Started(container.clone()));
    }

    /// Its labels are others. The runtime tells it as one that runs.
    pub fn relabelled(&self, container: &Container) {
        if lock(&self.state).running.contains_key(&container.id) {
            self.started(container);
        }
    }

    /// A container ended.
    pub fn stopped(&self, id: &ContainerId) {
        {
            let mut state = lock(&self.state);
            state.running.remove(id);
            state.made.remove(id);
        }
        self.tell(ContainerChange::Stopped(id.clone()));
    }

    /// The machine lost its power.
    pub fn lose_power(&self) {
        {
            let mut state = lock(&self.state);
            state.running.clear();
            state.made.clear();
        }
        self.disconnect();
    }

    /// What runs, with its cgroup.
    #[must_use]
    pub fn running(&self) -> Vec<(ContainerId, CgroupId)> {
        lock(&self.state).running.values().map(|container| (container.id.clone(), container.cgroup)).collect()
    }

    fn tell(&self, change: ContainerChange) {
        let refused = {
            let mut state = lock(&self.state);
            let delay = state.random.millis(0, 30);
            match &mut state.session {
                Some((_, session)) if session.changes.len() < WAITING => {
                    // Never before what was told first.
                    let after = session.changes.back().map_or_else(Instant::now, |(at, _)| *at);
                    session.changes.push_back((after.max(Instant::now() + delay), change));
                    None
                }
                _ => Some(change),
            }
        };
        // An admission that is dropped is a refusal.
        drop(refused);
        self.news.notify_waiters();
    }
}

/// See [`Runtime::connect`].
pub struct SimContainers {
    runtime: Runtime,
    session: Option<u64>,
    /// Told to wait in their hooks, and neither to run nor to have ended.
    announced: BTreeSet<ContainerId>,
}

enum Next {
    Change(Box<ContainerChange>),
    At(Instant),
    News,
    Gone,
}

impl SimContainers {
    /// Connects, and is told all that runs.
    fn open(&mut self, state: &mut State) {
        state.sessions += 1;
        let now = Instant::now();
        let ended = self.announced.iter().filter(|id| !state.made.contains(*id));
        let ended = ended.cloned().map(ContainerChange::Stopped);
        let all = ended.chain(state.running.values().cloned().map(ContainerChange::Started));
        let changes = all.chain([ContainerChange::Synchronized]).map(|change| (now, change)).collect();
        state.session = Some((state.sessions, Session { changes }));
        self.session = Some(state.sessions);
    }

    fn step(&mut self) -> Next {
        let runtime = self.runtime.clone();
        let mut state = lock(&runtime.state);
        if state.down {
            self.session = None;
            return Next::Gone;
        }
        let Some(own) = self.session else {
            self.open(&mut state);
            return self.take(&mut state);
        };
        if state.session.as_ref().is_none_or(|(number, _)| *number != own) {
            self.session = None;
            return Next::Gone;
        }
        self.take(&mut state)
    }

    fn told(&mut self, change: &ContainerChange) {
        match change {
            ContainerChange::Starting(container, _) => {
                self.announced.insert(container.id.clone());
            }
            ContainerChange::Started(container) => {
                self.announced.remove(&container.id);
            }
            ContainerChange::Stopped(id) => {
                self.announced.remove(id);
            }
            ContainerChange::Synchronized | ContainerChange::Limited(_) => {}
        }
    }

    fn take(&self, state: &mut State) -> Next {
        let Some((_, session)) = &mut state.session else { return Next::Gone };
        match session.changes.front() {
            None => Next::News,
            Some((at, _)) if *at > Instant::now() => Next::At(*at),
            Some(_) => session.changes.pop_front().map_or(Next::News, |(_, change)| Next::Change(Box::new(change))),
        }
    }
}

#[async_trait(?Send)]
impl Containers for SimContainers {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        let news = Arc::clone(&self.runtime.news);
        loop {
            // Registered before the look: news in between wake it.
            let mut notified = std::pin::pin!(news.notified());
            notified.as_mut().enable();
            match self.step() {
                Next::Change(change) => {
                    self.told(&change);
                    return Ok(*change);
                }
                Next::At(at) => {
                    tokio::select! {
                        biased;
                        () = notified => {}
                        () = sleep_until(at) => {}
                    }
                }
                Next::News => notified.await,
                Next::Gone => {
                    let address = "/run/containerd/containerd.sock".to_owned();
                    return Err(ContainersError::Unreachable { address, reason: "injected: it went away".to_owned() });
                }
            }
        }
    }
}

/// A container as the runtime describes it.
#[must_use]
pub fn described(id: &ContainerId, pid: u32, cgroup: CgroupId, workload: &palisade_domain::Workload) -> Container {
    Container {
        id: id.clone(),
        runtime_namespace: "k8s.io".to_owned(),
        pid,
        cgroup,
        cgroup_path: PathBuf::from(format!("/kubepods/{id}")),
        root: None,
        pod: workload.name.clone(),
        namespace: workload.namespace.clone(),
        name: workload.container.clone(),
        image: workload.image.clone(),
        labels: workload.labels.clone(),
    }
}

/// How long a hook waits for its answer.
pub const HOOK_PATIENCE: Duration = Duration::from_secs(15);
