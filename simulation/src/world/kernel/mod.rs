//! The simulated kernel: processes whose deeds are judged by the slots' blobs, and the records of them.
//!
//! Invariant: a deed is judged by one policy, read at once; an installation is one store. What is here outlives a node's process, and
//! goes with the machine's power.

mod enforcement;
mod judge;
mod records;
mod rings;
mod slots;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use palisade_domain::{CgroupId, ContainerId, Slot};
use palisade_kernel_abi::{
    blob::{Blob, Decision, Effect, Family},
    record::{
        Body, Capability, DecisionTaken, Dns, DnsOperation, Exec, Exit, FailReason, Family as TableOf, Fork, Kind,
        Network, NetworkOperation, Open, Outcome, Ptrace, Record, Text, Tier, kind_bit,
    },
};
use palisade_protocol::ProcessListed;
use palisade_world::{Clock as _, LossReason};

pub use enforcement::SimEnforcement;
pub use records::SimRecords;

use self::{
    judge::judge,
    rings::Rings,
    slots::{InForce, Slots},
    tasks::{Task, Tasks},
};
use super::{clock::SimClock, mutation::Mutation};
use crate::{
    deed::Deed,
    event::{Acted, Event, RecordKey, SECOND_NS, Standing, Teller, lock},
    random::Random,
};

/// Linux `O_WRONLY`.
const O_WRONLY: u32 = 1;
/// Linux `EACCES`.
const EACCES: i32 = 13;
/// Observations of one workload in a second past which they are suppressed.
const OBSERVATIONS_A_SECOND: u32 = 40;
/// Equal observations are folded within this time.
const FOLD_NS: u64 = SECOND_NS;

/// Faults of the kernel, as they are at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelFaults {
    /// Calls of the enforcement port that are refused.
    pub refused_percent: u64,
    /// Calls of it that panic, of ten thousand.
    pub panics_permyriad: u64,
    /// Readings of the rings that fail, of ten thousand.
    pub broken_reads_permyriad: u64,
}

/// What the kernel holds.
pub struct State {
    slots: Slots,
    tasks: Tasks,
    /// Cgroups that there are. One that is gone may still be admitted: the maps know only its number.
    living: BTreeSet<CgroupId>,
    rings: Rings,
    /// Faults now.
    pub faults: KernelFaults,
    mutation: Option<Mutation>,
    /// The policy before the one in force, for the mutation that judges by halves.
    half: BTreeMap<Slot, Option<Arc<Blob>>>,
    random: Random,
    /// Numbers records within a millisecond.
    written: u64,
    observed: BTreeMap<Slot, Observed>,
}

/// What bounds the observations of one slot.
#[derive(Debug, Default)]
struct Observed {
    second: u64,
    count: u32,
    last: Option<(u64, String)>,
}

/// See the module.
#[derive(Clone)]
pub struct Kernel {
    state: Arc<Mutex<State>>,
    teller: Teller,
    clock: SimClock,
}

impl Kernel {
    /// A machine of two CPUs.
    #[must_use]
    pub fn new(
        teller: Teller,
        clock: SimClock,
        mut random: Random,
        ring_bytes: usize,
        mutation: Option<Mutation>,
    ) -> Self {
        let mut rings = Rings::new(2, ring_bytes, random.child("rings"));
        rings.silently_lost_one_in = (mutation == Some(Mutation::LosesSilently)).then_some(20);
        let state = State {
            slots: Slots::default(),
            tasks: Tasks::default(),
            living: BTreeSet::new(),
            rings,
            faults: KernelFaults::default(),
            mutation,
            half: BTreeMap::new(),
            random,
            written: 0,
            observed: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), teller, clock }
    }

    /// Changes what goes wrong.
    pub fn disturb(&self, change: impl FnOnce(&mut KernelFaults)) {
        change(&mut lock(&self.state).faults);
    }

    /// How many bytes a ring holds, and how often records change places.
    pub fn set_rings(&self, bytes: usize, swapped_percent: u64) {
        let mut state = lock(&self.state);
        state.rings.resize(bytes);
        state.rings.swapped_percent = swapped_percent;
    }

    /// The first process of a container.
    pub fn start_init(&self, container: &ContainerId, cgroup: CgroupId, executable: &str, namespace: u32) -> u32 {
        let mut state = lock(&self.state);
        state.living.insert(cgroup);
        let pid = state.tasks.next_pid();
        let start_ns = self.clock.boot().0;
        state.tasks.insert(Task {
            container: container.clone(),
            cgroup,
            pid,
            start_ns,
            parent: (1, 0),
            executable: executable.to_owned(),
            uid: 0,
            namespace,
        });
        pid
    }

    /// A child of a process, which is what its parent is until it executes something; `None` where the parent is over.
    pub fn fork(&self, parent: u32, uid: u32) -> Option<u32> {
        let mut state = lock(&self.state);
        let before = state.tasks.get(parent)?.clone();
        let pid = state.tasks.next_pid();
        let start_ns = self.clock.boot().0;
        let fork = Fork {
            child_tgid: pid,
            child_tid: pid,
            child_start_ns: start_ns,
            child_own_tgid: pid,
            child_pid_ns: before.namespace,
        };
        self.observe(&mut state, &before, Body::Fork(fork));
        state.tasks.insert(Task { pid, start_ns, parent: (parent, before.start_ns), uid, ..before });
        Some(pid)
    }

    /// A process is over.
    pub fn exit(&self, pid: u32) {
        let mut state = lock(&self.state);
        if let Some(task) = state.tasks.remove(pid) {
            self.observe(&mut state, &task, Body::Exit(Exit { status: 0 }));
        }
    }

    /// All processes of a cgroup are over, and it is removed.
    pub fn kill(&self, cgroup: CgroupId) {
        let pids = lock(&self.state).tasks.of(cgroup);
        pids.into_iter().for_each(|pid| self.exit(pid));
        let mut state = lock(&self.state);
        state.living.remove(&cgroup);
        state.slots.cgroup_gone(cgroup);
    }

    /// As `/proc` lists them.
    #[must_use]
    pub fn listed(&self) -> Vec<ProcessListed> {
        lock(&self.state).tasks.listed()
    }

    /// What is held for a cgroup now.
    #[must_use]
    pub fn standing(&self, cgroup: CgroupId) -> Standing {
        let state = lock(&self.state);
        let Some(slot) = state.slots.of_cgroup(cgroup) else { return Standing::NoSlot };
        match state.slots.get(slot).map(|entry| &entry.in_force) {
            Some(in_force) if in_force.installed => Standing::InForce(slot, in_force.generation),
            _ => Standing::NothingInstalled(slot),
        }
    }

    /// Which kinds of records are shown of a cgroup's slot.
    #[must_use]
    pub fn shown(&self, cgroup: CgroupId) -> Option<u64> {
        let state = lock(&self.state);
        state.slots.of_cgroup(cgroup).and_then(|slot| state.slots.get(slot)).map(|entry| entry.visible)
    }

    /// Slots that are somebody's, with their cgroups.
    #[must_use]
    pub fn held(&self) -> Vec<(Slot, CgroupId)> {
        lock(&self.state).slots.held()
    }

    /// Records that wait in the rings.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.state).rings.waiting()
    }

    /// The machine lost its power.
    pub fn lose_power(&self) {
        let decided = {
            let mut state = lock(&self.state);
            state.slots = Slots::default();
            state.half.clear();
            state.living.clear();
            state.tasks.clear();
            state.rings.vanish()
        };
        self.teller.tell(&Event::RingsGone { decided });
    }

    /// A process does something; `None` where it is over.
    pub fn act(&self, pid: u32, deed: &Deed) -> Option<bool> {
        let (acted, permitted) = {
            let mut state = lock(&self.state);
            let task = state.tasks.get(pid)?.clone();
            self.judged(&mut state, &task, deed)
        };
        self.teller.tell(&Event::Acted(Box::new(acted)));
        Some(permitted)
    }

    fn judged(&self, state: &mut State, task: &Task, deed: &Deed) -> (Acted, bool) {
        let slot = state.slots.of_cgroup(task.cgroup);
        let in_force = slot.and_then(|slot| state.slots.get(slot)).map(|entry| entry.in_force.clone());
        let in_force = in_force.unwrap_or_default();
        let policy = state.policy_for(slot, &in_force, deed);
        let by_policy = policy.map(|policy| judge(&policy, deed, &task.executable));
        // Something was installed, and selects nothing: all is permitted by it.
        let decision = by_policy.or(in_force.installed.then_some(Decision::PERMIT));
        let effect = decision.map_or(Effect::Permit, |decision| decision.effect);
        let permitted = effect != Effect::Block;
        let record = decision
            .filter(|decision| decision.effect != Effect::Permit)
            .map(|decision| self.decided(state, task, slot.unwrap_or(Slot::HOST), &in_force, decision, deed));
        if permitted {
            self.done(state, task, deed);
        }
        let acted = Acted {
            container: task.container.clone(),
            executable: task.executable.clone(),
            deed: deed.clone(),
            slot,
            decision,
            permitted,
            generation: in_force.generation,
            record,
        };
        (acted, permitted)
    }

    /// Writes the record of a decision; its key.
    fn decided(
        &self,
        state: &mut State,
        task: &Task,
        slot: Slot,
        in_force: &InForce,
        decision: Decision,
        deed: &Deed,
    ) -> RecordKey {
        let outcome = if decision.effect == Effect::Block { Outcome::Denied } else { Outcome::Observed };
        let named = Decision { rule: decision.rule.map(|rule| rule + 1), ..decision };
        let told = if state.mutation == Some(Mutation::NamesAnotherRule) { named } else { decision };
        let family = TableOf::from_code(deed.family() as u8).unwrap_or(TableOf::Process);
        let taken = DecisionTaken {
            policy: in_force.number,
            generation: in_force.generation,
            word: told.to_word().unwrap_or_default(),
            tier: Tier::BpfLsm,
            outcome,
            fail_reason: FailReason::None,
            family,
        };
        let result = if outcome == Outcome::Denied { -EACCES } else { 0 };
        let boot_ns = self.stamp(state);
        let key = self.key(boot_ns);
        let arguments = arguments_of(task, deed);
        let body = body_of(deed, &arguments, result);
        let mut record = Record { header: task.header(slot.0, boot_ns), body, decision: Some(taken) };
        let cpu = state.rings.any_cpu();
        if !state.rings.write(cpu, &mut record, Some(key)) {
            self.teller.tell(&Event::RecordLost { record: Some(key), reason: LossReason::RingFull });
        }
        key
    }

    /// What a permitted deed changes, and who sees it.
    fn done(&self, state: &mut State, task: &Task, deed: &Deed) {
        let arguments = arguments_of(task, deed);
        let seen = task.clone();
        if let Deed::Exec { path, .. } = deed
            && let Some(task) = state.tasks.get_mut(task.pid)
        {
            task.executable.clone_from(path);
        }
        self.observe(state, &seen, body_of(deed, &arguments, 0));
    }

    /// Writes a record without decision, if its kind is seen of the slot.
    fn observe(&self, state: &mut State, task: &Task, body: Body<'_>) {
        let Some(slot) = state.slots.of_cgroup(task.cgroup) else { return };
        let boot_ns = self.stamp(state);
        let mut record = Record { header: task.header(slot.0, boot_ns), body, decision: None };
        let kind = record.kind();
        if state.slots.get(slot).is_none_or(|entry| entry.visible & kind_bit(kind) == 0) {
            return;
        }
        let cpu = state.rings.any_cpu();
        let kept_back = match kind {
            // Chains are made of these.
            Kind::Exec | Kind::Fork | Kind::Exit => None,
            _ => state.observed.entry(slot).or_default().keeps_back(boot_ns, &format!("{body:?}")),
        };
        if let Some(reason) = kept_back {
            state.rings.keep_back(cpu, kind, reason);
            self.teller.tell(&Event::RecordLost { record: None, reason });
        } else if !state.rings.write(cpu, &mut record, None) {
            self.teller.tell(&Event::RecordLost { record: None, reason: LossReason::RingFull });
        }
    }

    /// Boot time of the next record: no two of a run have the same within a second.
    fn stamp(&self, state: &mut State) -> u64 {
        state.written += 1;
        let now = self.clock.boot().0;
        now - now % 1_000_000 + state.written % 1_000_000
    }

    fn key(&self, boot_ns: u64) -> RecordKey {
        // Both clocks differ by whole seconds and by when the machine started.
        (boot_ns + self.clock.unix().0 - self.clock.boot().0) % SECOND_NS
    }
}

impl State {
    /// By what a deed is judged.
    fn policy_for(&self, slot: Option<Slot>, in_force: &InForce, deed: &Deed) -> Option<Arc<Blob>> {
        let halves = self.mutation == Some(Mutation::JudgesByHalves) && deed.family() != Family::Process;
        match slot.filter(|_| halves).and_then(|slot| self.half.get(&slot)) {
            Some(Some(before)) => Some(Arc::clone(before)),
            _ => in_force.policy.clone(),
        }
    }
}

impl Observed {
    fn keeps_back(&mut self, boot_ns: u64, what: &str) -> Option<LossReason> {
        if self.last.as_ref().is_some_and(|(since, last)| last == what && boot_ns.saturating_sub(*since) < FOLD_NS) {
            return Some(LossReason::Folded);
        }
        let second = boot_ns / SECOND_NS;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        if self.count > OBSERVATIONS_A_SECOND {
            return Some(LossReason::Suppressed);
        }
        self.last = Some((boot_ns, what.to_owned()));
        None
    }
}

/// `argv`, each ended by NUL.
fn arguments_of(task: &Task, deed: &Deed) -> Vec<u8> {
    let Deed::Exec { path, arguments, .. } = deed else { return Vec::new() };
    debug_assert!(task.pid > 0, "a process has a number");
    std::iter::once(path).chain(arguments).flat_map(|argument| argument.bytes().chain([0])).collect()
}

fn text(bytes: &[u8]) -> Text<'_> {
    Text { bytes, ..Text::default() }
}

fn body_of<'a>(deed: &'a Deed, arguments: &'a [u8], result: i32) -> Body<'a> {
    let network = |operation, domain, socket_type, protocol, destination| Network {
        operation,
        domain,
        socket_type,
        protocol,
        destination,
        user: false,
        result: 0,
    };
    match deed {
        Deed::Exec { path, arguments: given, .. } => Body::Exec(Exec {
            path: text(path.as_bytes()),
            cwd: text(b"/"),
            argument_bytes: text(arguments),
            argument_count: u32::try_from(given.len() + 1).unwrap_or(u32::MAX),
            tty: 0,
        }),
        Deed::Open { path, write, .. } => {
            Body::Open(Open { path: text(path.as_bytes()), flags: if *write { O_WRONLY } else { 0 }, result })
        }
        Deed::Socket { domain, kind, protocol } => {
            Body::Socket(network(NetworkOperation::Socket, *domain, *kind, *protocol, None))
        }
        Deed::Connect { address, port, kind, protocol } => {
            let domain = deed.endpoint().map_or(0, |endpoint| endpoint.domain);
            Body::Connect(network(NetworkOperation::Connect, domain, *kind, *protocol, Some((*address, *port))))
        }
        Deed::Ptrace { target } => {
            Body::Ptrace(Ptrace { target_exe: text(target.as_bytes()), request: 16, ..Ptrace::default() })
        }
        Deed::Capability(number) => Body::Capability(Capability { capability: u32::from(*number), result }),
        Deed::Dns(name) => Body::Dns(Dns {
            operation: DnsOperation::Question,
            name: text(name.as_bytes()),
            address_bytes: Text::default(),
            transport: 17,
            rcode: 0,
            query_type: 1,
            id: 1,
            answers: 0,
            truncated: false,
            incomplete: false,
            no_task: false,
            server: Some(([10, 96, 0, 10].into(), 53)),
        }),
    }
}
