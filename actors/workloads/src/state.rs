//! Containers to workloads to slots: the pure part.
//!
//! Invariant: a container has at most one slot, a slot at most one container; a slot that became free is handed out again only after
//! [`GRACE`], oldest first, since records of its last tasks are still on their way. What is told twice (the runtime tells everything
//! anew after a reconnection) changes nothing, unless it is told differently (other labels): then the workload appears anew with the slot
//! that it has. What ran and is not told again by `Synchronized` is gone; what waits in its hook is no task of the runtime yet, and stays.
//! A container that runs while no slot is free is remembered, and gets the first that is.
//!
//! Decision: a container keeps its slot over a restart of its actor ([`State::restarted`]), because the kernel goes on holding it by
//! that slot: numbers given anew would put each container under the policy of another until its own is compiled. It keeps it over a
//! restart of the process, too ([`State::taking_over`]): records that the kernel wrote before, and goes on writing until the container is
//! admitted again, would be told of whoever has their slot by then.
//! For the same reason a slot rests on over a restart of the process: the kernel knows when it was released.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId, Slot, Workload, WorkloadKind};
use palisade_world::{BootNanos, Container, LeftBehind, Membership};

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
    /// Time went by: slots that rested may be free.
    Passed,
}

/// What the state asks its shell to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A workload has a slot. `awaited`: the container waits for its policy. Said again where its labels changed.
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
    /// A workload ended. Said again after a restart for slots that rest, in case it was lost.
    Gone {
        /// Which.
        slot: Slot,
    },
    /// There is no slot for the container: its admission is refused; if it runs already, it runs without policy until one is free.
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
    cgroup: CgroupId,
    running: bool,
    /// The connection at which it was last told.
    connection: u64,
    /// Said since the last restart.
    said: bool,
}

/// All containers of the node.
#[derive(Debug)]
pub struct State {
    bound: u32,
    next: u32,
    resting: VecDeque<(BootNanos, Slot)>,
    /// Slots that an earlier process gave, until their containers are told.
    left: BTreeMap<CgroupId, Slot>,
    /// All slots that an earlier process gave: they come back by resting, not by their number.
    given_before: BTreeSet<Slot>,
    containers: BTreeMap<ContainerId, Entry>,
    /// Containers that run without a slot. As many as the adapter follows at most (8,192), less the slots.
    unheld: BTreeMap<ContainerId, (Container, u64)>,
    connection: u64,
    synchronized: bool,
    /// It was, at some connection.
    was_synchronized: bool,
    /// A fact that was on its way at a restart may be lost: ends are said once more.
    ends_unsure: bool,
}

impl State {
    /// No containers; slots 1 to `bound` (slot 0 is the host).
    #[must_use]
    pub fn new(bound: u32) -> Self {
        Self {
            bound,
            next: 1,
            resting: VecDeque::new(),
            left: BTreeMap::new(),
            given_before: BTreeSet::new(),
            containers: BTreeMap::new(),
            unheld: BTreeMap::new(),
            connection: 0,
            synchronized: false,
            was_synchronized: false,
            ends_unsure: false,
        }
    }

    /// What an earlier process left in the kernel: a cgroup that lives keeps its slot; one that was released rests on, and all others from
    /// now on.
    #[must_use]
    pub fn taking_over(mut self, now: BootNanos, left: impl IntoIterator<Item = LeftBehind>) -> Self {
        for LeftBehind { slot, cgroup, released } in
            left.into_iter().filter(|left| (1..=self.bound).contains(&left.slot.0))
        {
            if cgroup.is_none() && released.is_some_and(|released| rested(now, released)) {
                continue;
            }
            let is_new = self.given_before.insert(slot);
            match cgroup {
                // A container's, or one below it.
                Some(cgroup) => {
                    self.left.insert(cgroup, slot);
                }
                None if is_new => self.resting.push_back((released.unwrap_or(now), slot)),
                None => {}
            }
        }
        self.resting.make_contiguous().sort();
        self
    }

    /// The workloads now, by slot.
    #[must_use]
    pub fn workloads(&self) -> Vec<(Slot, Arc<Workload>)> {
        let mut all: Vec<_> = self.containers.values().map(|entry| (entry.slot, Arc::clone(&entry.workload))).collect();
        all.sort_by_key(|(slot, _)| *slot);
        all
    }

    /// How many containers run without policy, for want of a slot.
    #[must_use]
    pub fn unheld(&self) -> usize {
        self.unheld.len()
    }

    /// How many there can be with one.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.bound
    }

    /// Whether the runtime has told all that runs.
    #[must_use]
    pub fn synchronized(&self) -> bool {
        self.synchronized
    }

    /// Whether it has at any time.
    #[must_use]
    pub fn was_synchronized(&self) -> bool {
        self.was_synchronized
    }

    /// How many containers have a slot.
    #[must_use]
    pub fn held(&self) -> usize {
        self.containers.len()
    }

    /// The actor was built anew, and its port with it: each container keeps its slot, and is said again once it is told again.
    pub fn restarted(&mut self) {
        self.containers.values_mut().for_each(|entry| entry.said = false);
        self.ends_unsure = true;
        self.disconnected();
    }

    fn disconnected(&mut self) {
        self.connection += 1;
        self.synchronized = false;
    }

    /// One step; effects are appended to `out` in the order in which they are to be said.
    pub fn step(&mut self, now: BootNanos, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Starting(container) => self.starting(now, container, out),
            Input::Started(container) => self.started(now, container, out),
            Input::Stopped(id) => self.stopped(now, &id, out),
            Input::Synchronized => {
                self.synchronized = true;
                self.was_synchronized = true;
                if std::mem::take(&mut self.ends_unsure) {
                    out.extend(self.resting.iter().map(|(_, slot)| Effect::Gone { slot: *slot }));
                }
                for id in self.not_told_again() {
                    self.stopped(now, &id, out);
                }
                // Whose they were is no container any more.
                let left: BTreeSet<Slot> = std::mem::take(&mut self.left).into_values().collect();
                self.resting.extend(left.into_iter().map(|slot| (now, slot)));
            }
            Input::Disconnected => self.disconnected(),
            Input::Passed => {}
        }
        self.hold_unheld(now, out);
    }

    fn not_told_again(&self) -> Vec<ContainerId> {
        // A hook that waited at the port of before was refused with it.
        let ended = |e: &Entry| e.connection != self.connection && (e.running || !e.said);
        let held = self.containers.iter().filter(|(_, e)| ended(e));
        let unheld = self.unheld.iter().filter(|(_, (_, connection))| *connection != self.connection);
        held.map(|(id, _)| id).chain(unheld.map(|(id, _)| id)).cloned().collect()
    }

    fn starting(&mut self, now: BootNanos, container: Container, out: &mut Vec<Effect>) {
        // The same id starts again before its end was told: the old one is over.
        self.stopped(now, &container.id, out);
        match self.take_slot(now, container.cgroup) {
            Some(slot) => self.appear(slot, container, true, out),
            None => out.push(self.refusal(container.id)),
        }
    }

    fn started(&mut self, now: BootNanos, container: Container, out: &mut Vec<Effect>) {
        let connection = self.connection;
        if self.containers.get(&container.id).is_some_and(|entry| entry.cgroup != container.cgroup) {
            // The kernel knows a container by its cgroup: this is another run of it, and the end of the one before was missed.
            self.stopped(now, &container.id, out);
        }
        let Some(entry) = self.containers.get_mut(&container.id) else {
            match self.take_slot(now, container.cgroup) {
                Some(slot) => self.appear(slot, container, false, out),
                None => self.let_run(container, out),
            }
            return;
        };
        entry.connection = connection;
        let slot = entry.slot;
        if !entry.said || *entry.workload != workload_of(&container) {
            self.appear(slot, container, false, out);
        } else if !std::mem::replace(&mut entry.running, true) {
            out.push(Effect::Running { slot, pid: container.pid });
        }
    }

    fn stopped(&mut self, now: BootNanos, id: &ContainerId, out: &mut Vec<Effect>) {
        self.unheld.remove(id);
        if let Some(entry) = self.containers.remove(id) {
            self.resting.push_back((now, entry.slot));
            out.push(Effect::Gone { slot: entry.slot });
        }
    }

    /// The container has this slot from now on.
    fn appear(&mut self, slot: Slot, container: Container, awaited: bool, out: &mut Vec<Effect>) {
        // Told again just when a slot had rested: it must not get a second one for having waited.
        self.unheld.remove(&container.id);
        let workload = Arc::new(workload_of(&container));
        let entry = Entry {
            slot,
            workload: Arc::clone(&workload),
            cgroup: container.cgroup,
            running: !awaited,
            connection: self.connection,
            said: true,
        };
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

    fn let_run(&mut self, container: Container, out: &mut Vec<Effect>) {
        let id = container.id.clone();
        // Said once, not at each connection.
        if self.unheld.insert(id.clone(), (container, self.connection)).is_none() {
            out.push(self.refusal(id));
        }
    }

    fn hold_unheld(&mut self, now: BootNanos, out: &mut Vec<Effect>) {
        while let Some(cgroup) = self.unheld.first_key_value().map(|(_, (container, _))| container.cgroup)
            && let Some(slot) = self.take_slot(now, cgroup)
        {
            let Some((_, (container, connection))) = self.unheld.pop_first() else { return };
            let id = container.id.clone();
            self.appear(slot, container, false, out);
            if let Some(entry) = self.containers.get_mut(&id) {
                entry.connection = connection;
            }
        }
    }

    fn refusal(&self, container: ContainerId) -> Effect {
        Effect::Refused { container, reason: SlotsExhausted { bound: self.bound } }
    }

    fn take_slot(&mut self, now: BootNanos, cgroup: CgroupId) -> Option<Slot> {
        if let Some(slot) = self.left.remove(&cgroup) {
            self.left.retain(|_, of| *of != slot);
            return Some(slot);
        }
        if self.resting.front().is_some_and(|(freed, _)| rested(now, *freed)) {
            return self.resting.pop_front().map(|(_, slot)| slot);
        }
        while self.given_before.contains(&Slot(self.next)) {
            self.next += 1;
        }
        (self.next <= self.bound).then(|| {
            let slot = Slot(self.next);
            self.next += 1;
            slot
        })
    }
}

fn rested(now: BootNanos, freed: BootNanos) -> bool {
    now.0.saturating_sub(freed.0) >= u64::try_from(GRACE.as_nanos()).unwrap_or(u64::MAX)
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
