//! Containers to workloads to slots: the pure part.
//!
//! Invariant: a container has at most one slot, a slot at most one container; a slot that became free is handed out again only after
//! [`GRACE`], oldest first, since records of its last tasks are still on their way. What is told twice (the runtime tells everything
//! anew after a reconnection) changes nothing; what is not told again by `Synchronized` is gone.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{ContainerId, Slot, Workload, WorkloadKind};
use palisade_world::{BootNanos, Container, Membership};

use crate::SlotsExhausted;

/// How long a freed slot rests: well above the time that a full ring takes to be read.
pub const GRACE: Duration = Duration::from_secs(10);

/// What the state hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A container waits for its admission.
    Starting(Container),
    /// A container runs.
    Started(Container),
    /// A container ended.
    Stopped(ContainerId),
    /// Everything that runs has been told since the last connection.
    Synchronized,
    /// The connection to the runtime is lost; what is known stays until the next `Synchronized`.
    Disconnected,
}

/// What the state asks its shell to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A workload has a slot. `awaited`: the container waits for its policy.
    Appeared {
        /// Who.
        workload: Arc<Workload>,
        /// Where in the kernel.
        membership: Membership,
        /// Whether its admission is open.
        awaited: bool,
    },
    /// A workload that appeared while starting now runs.
    Running {
        /// Which.
        slot: Slot,
        /// Its init process.
        pid: u32,
    },
    /// A workload ended.
    Gone {
        /// Which.
        slot: Slot,
    },
    /// There is no slot for the container: its admission is refused, and it runs unseen if it runs already.
    Refused {
        /// Which.
        container: ContainerId,
        /// With the bound.
        reason: SlotsExhausted,
    },
}

/// One container that has a slot.
#[derive(Debug, Clone)]
struct Entry {
    slot: Slot,
    workload: Arc<Workload>,
    running: bool,
    /// The connection at which it was last told.
    connection: u64,
}

/// All containers of the node.
#[derive(Debug)]
pub struct State {
    bound: u32,
    next: u32,
    resting: VecDeque<(BootNanos, Slot)>,
    containers: BTreeMap<ContainerId, Entry>,
    connection: u64,
    synchronized: bool,
}

impl State {
    /// No containers; slots 1 to `bound` (slot 0 is the host).
    #[must_use]
    pub fn new(bound: u32) -> Self {
        Self {
            bound,
            next: 1,
            resting: VecDeque::new(),
            containers: BTreeMap::new(),
            connection: 0,
            synchronized: false,
        }
    }

    /// The workloads now, by slot.
    #[must_use]
    pub fn workloads(&self) -> Vec<(Slot, Arc<Workload>)> {
        let mut all: Vec<_> = self.containers.values().map(|entry| (entry.slot, Arc::clone(&entry.workload))).collect();
        all.sort_by_key(|(slot, _)| *slot);
        all
    }

    /// Whether the runtime has told all that runs.
    #[must_use]
    pub fn synchronized(&self) -> bool {
        self.synchronized
    }

    /// One step; effects are appended to `out` in the order in which they are to be said.
    pub fn step(&mut self, now: BootNanos, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Starting(container) => self.tell(now, container, true, out),
            Input::Started(container) => self.tell(now, container, false, out),
            Input::Stopped(id) => {
                if let Some(entry) = self.containers.remove(&id) {
                    self.free(now, entry.slot, out);
                }
            }
            Input::Synchronized => {
                self.synchronized = true;
                let gone: Vec<_> = self
                    .containers
                    .iter()
                    .filter(|(_, e)| e.connection != self.connection)
                    .map(|(id, _)| id.clone())
                    .collect();
                for id in gone {
                    self.step(now, Input::Stopped(id), out);
                }
            }
            Input::Disconnected => {
                self.connection += 1;
                self.synchronized = false;
            }
        }
    }

    fn tell(&mut self, now: BootNanos, container: Container, awaited: bool, out: &mut Vec<Effect>) {
        let connection = self.connection;
        if let Some(entry) = self.containers.get_mut(&container.id) {
            entry.connection = connection;
            if awaited {
                // The same id starts again before its end was told: the old one is over.
                let slot = entry.slot;
                self.containers.remove(&container.id);
                self.free(now, slot, out);
            } else {
                if !std::mem::replace(&mut entry.running, true) {
                    out.push(Effect::Running { slot: entry.slot, pid: container.pid });
                }
                return;
            }
        }
        let Some(slot) = self.take_slot(now) else {
            out.push(Effect::Refused { container: container.id, reason: SlotsExhausted { bound: self.bound } });
            return;
        };
        let workload = Arc::new(workload_of(&container));
        let entry = Entry { slot, workload: Arc::clone(&workload), running: !awaited, connection };
        let membership = Membership {
            slot,
            cgroup: Some(container.cgroup),
            cgroup_path: Some(container.cgroup_path),
            pid: container.pid,
            root: container.root,
        };
        self.containers.insert(container.id, entry);
        out.push(Effect::Appeared { workload, membership, awaited });
        if !awaited {
            out.push(Effect::Running { slot, pid: container.pid });
        }
    }

    fn take_slot(&mut self, now: BootNanos) -> Option<Slot> {
        let rested =
            |freed: BootNanos| now.0.saturating_sub(freed.0) >= u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX);
        if self.resting.front().is_some_and(|(freed, _)| rested(*freed)) {
            return self.resting.pop_front().map(|(_, slot)| slot);
        }
        (self.next <= self.bound).then(|| {
            let slot = Slot(self.next);
            self.next += 1;
            slot
        })
    }

    fn free(&mut self, now: BootNanos, slot: Slot, out: &mut Vec<Effect>) {
        self.resting.push_back((now, slot));
        out.push(Effect::Gone { slot });
    }
}

fn workload_of(container: &Container) -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: container.pod.clone(),
        namespace: container.namespace.clone(),
        container: container.name.clone(),
        container_id: Some(container.id.clone()),
        image: container.image.clone(),
        labels: container.labels.clone(),
    }
}
