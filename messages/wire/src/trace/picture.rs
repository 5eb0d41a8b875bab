//! What is so at one moment of a trace: the fold of all facts, and of the records that make and end processes, up to it.
//!
//! Invariant: [`Picture::facts`] tells, as a start snapshot, what a reader would know who read everything before. It is how a trace that
//! begins in the middle (the last minutes, a part that was cut out, the next file of a rotation) begins like any other.
//!
//! Bounds: as many slots as there are (of a trace, what a reader holds: [`MAX_HELD`](super::MAX_HELD)); [`MAX_PROCESSES`] processes with
//! [`MAX_PATH_BYTES`] of executables, past which new ones are left out, and [`MAX_ARGUMENT_BYTES`] of arguments, past which new ones have
//! none: both are counted ([`Picture::left_out`]). Policy sets that a policy in force is of, and the newest: [`MAX_SET_BYTES`] of
//! documents, past which the oldest are forgotten, so that a policy of them has no text.
//!
//! Decision: a process that does not fit loses its arguments first, because its executable is what rules and chains hang on, and because
//! whoever is recorded chooses the arguments: 4,096 processes with as many as a record carries would leave nobody else any room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_domain::{Generation, Slot, Visibility, Workload, text::lossless};
use palisade_kernel_abi::record::{Body, Exec, Header, Record};

use super::{
    cbor::OWNED,
    fact::{Fact, Held, Loss, Place, PolicyDocuments, PolicyOfSlot, Process, Users, What},
};

/// Twice the process ids of a default machine.
pub const MAX_PROCESSES: usize = 65_536;
/// Bytes of executables' paths, as they are told: those of all processes, each its own.
pub const MAX_PATH_BYTES: usize = 16 << 20;
/// The same of arguments.
pub const MAX_ARGUMENT_BYTES: usize = 32 << 20;
/// Policy sets past which those are forgotten that nobody is held to.
const KEPT_SETS: usize = 32;
/// Bytes of their documents.
pub const MAX_SET_BYTES: usize = 32 << 20;
const TICK_NS: u64 = 10_000_000;

type Key = (u32, u64);

#[derive(Debug, Default)]
struct Image {
    executable: String,
    /// Each ended by NUL: a string of its own for each would take many times as much.
    arguments: Box<str>,
    /// What the arguments take as they are told.
    argument_bytes: usize,
    /// Controlling terminal at the exec; none where no exec was seen.
    tty: Option<u32>,
}

impl Image {
    fn new<S: AsRef<str>>(executable: String, arguments: impl Iterator<Item = S>, tty: Option<u32>) -> Self {
        let (mut joined, mut argument_bytes) = (String::new(), 0);
        for argument in arguments {
            joined.push_str(argument.as_ref());
            joined.push('\0');
            argument_bytes += size_of::<String>() + OWNED + argument.as_ref().len();
        }
        Self { executable, arguments: joined.into_boxed_str(), argument_bytes, tty }
    }

    fn path_bytes(&self) -> usize {
        OWNED + self.executable.len()
    }

    fn without_arguments(&self) -> Self {
        Self { executable: self.executable.clone(), tty: self.tty, ..Self::default() }
    }

    fn arguments(&self) -> Vec<String> {
        self.arguments.split_terminator('\0').map(str::to_owned).collect()
    }
}

/// Who acts, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting<'a> {
    /// What it executes.
    pub executable: &'a str,
    /// Its terminal when it executed that; 0: none.
    pub tty: Option<u32>,
    /// Its number in its own PID namespace; 0: not known.
    pub own_pid: u32,
}

#[derive(Debug, Clone)]
struct Known {
    parent: Option<Key>,
    uid: u32,
    own_pid: u32,
    pid_namespace: u32,
    /// Of its last record; none of one that was listed and has made none.
    slot: Option<Slot>,
    image: Arc<Image>,
}

impl Known {
    /// What it executes was told.
    fn is_told(&self) -> bool {
        !self.image.executable.is_empty()
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    workloads: BTreeMap<Slot, Arc<Workload>>,
    visible: BTreeMap<Slot, Visibility>,
    sets: BTreeMap<Generation, PolicyDocuments>,
    announced: BTreeMap<Slot, PolicyOfSlot>,
    installed: BTreeMap<Slot, (PolicyOfSlot, Held)>,
    places: BTreeMap<Slot, Place>,
    /// Of each slot the file that was read last.
    users: BTreeMap<Slot, Users>,
    settings: Option<(Visibility, Option<(u32, u32)>)>,
    processes: BTreeMap<Key, Known>,
    /// Of all processes' executables and arguments.
    path_bytes: usize,
    argument_bytes: usize,
    /// Of those that live, who is not in `processes`, or without arguments, since there was no room.
    lacking: BTreeSet<Key>,
    /// Those that `lacking` has no room for: whether they still live, is not known.
    more_lacking: u64,
    clock: Option<u64>,
    loss: Loss,
}

impl Picture {
    /// One more fact.
    pub fn fact(&mut self, fact: &Fact) {
        match &fact.what {
            What::WorkloadNamed(slot, workload) => self.named(*slot, workload),
            What::WorkloadGone(slot) => self.vacate(*slot),
            What::Visible(slot, visibility) => drop(self.visible.insert(*slot, *visibility)),
            What::PolicySet(set) => {
                self.sets.insert(set.generation, set.clone());
                self.forget_sets();
            }
            What::PolicyAnnounced(policy) => drop(self.announced.insert(policy.slot, *policy)),
            What::PolicyInstalled(policy, held) => {
                if self.announced.get(&policy.slot) == Some(policy) {
                    self.announced.remove(&policy.slot);
                }
                self.installed.insert(policy.slot, (*policy, held.clone()));
            }
            What::Process(process) => self.listed(process),
            What::Settings { visibility, throttle } => self.settings = Some((*visibility, *throttle)),
            What::Users(users) => drop(self.users.insert(users.slot, users.clone())),
            What::Place(place) => drop(self.places.insert(place.slot, place.clone())),
            What::Clock(offset) => self.clock = Some(*offset),
            What::Loss(loss) => self.loss = loss.clone(),
            What::SnapshotEnd | What::KubernetesObject(_) => {}
        }
    }

    fn named(&mut self, slot: Slot, workload: &Arc<Workload>) {
        let is_other = |before: &Arc<Workload>| before.container_id != workload.container_id;
        if self.workloads.get(&slot).is_some_and(is_other) {
            self.vacate(slot);
        }
        self.workloads.insert(slot, Arc::clone(workload));
    }

    fn vacate(&mut self, slot: Slot) {
        self.workloads.remove(&slot);
        self.visible.remove(&slot);
        self.announced.remove(&slot);
        self.installed.remove(&slot);
        self.places.remove(&slot);
        self.users.remove(&slot);
    }

    /// Those that somebody is held to, or is about to be, and the newest.
    fn used_sets(&self) -> BTreeSet<Generation> {
        let held = self.installed.values().map(|(policy, _)| policy);
        let used = self.announced.values().chain(held).map(|policy| policy.generation);
        used.chain(self.sets.keys().next_back().copied()).collect()
    }

    /// Not before there are many: of a snapshot, sets come before who is held to them.
    fn forget_sets(&mut self) {
        let mut bytes: usize = self.sets.values().map(PolicyDocuments::memory).sum();
        if self.sets.len() > KEPT_SETS || bytes > MAX_SET_BYTES {
            let used = self.used_sets();
            self.sets.retain(|generation, _| used.contains(generation));
            bytes = self.sets.values().map(PolicyDocuments::memory).sum();
        }
        while bytes > MAX_SET_BYTES && self.sets.len() > 1 {
            bytes -= self.sets.pop_first().map_or(0, |(_, oldest)| oldest.memory());
        }
    }

    /// What a list does not say is not taken back: whose it is, and the terminal of what it executes still.
    fn listed(&mut self, process: &Process) {
        let before = self.processes.get(&(process.pid, process.start_ticks));
        let same = before.filter(|before| before.image.executable == process.executable);
        let tty = process.tty.or_else(|| same.and_then(|before| before.image.tty));
        let slot = process.slot.or_else(|| before.and_then(|before| before.slot));
        let image = Image::new(process.executable.clone(), process.arguments.iter(), tty);
        let known = Known {
            parent: process.parent,
            uid: process.uid,
            own_pid: process.own_pid,
            pid_namespace: process.pid_namespace,
            slot,
            image: Arc::new(image),
        };
        self.keep((process.pid, process.start_ticks), known);
    }

    /// A checkpoint tells all that live.
    pub fn forget_processes(&mut self) {
        self.processes.clear();
        self.lacking.clear();
        (self.path_bytes, self.argument_bytes, self.more_lacking) = (0, 0, 0);
    }

    /// Living processes that are not known, or without their arguments, since there was no room. Past [`MAX_PROCESSES`] of them also those
    /// that have ended since.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.lacking.len() as u64 + self.more_lacking
    }

    fn lacks(&mut self, key: Key) {
        if self.lacking.len() < MAX_PROCESSES || self.lacking.contains(&key) {
            self.lacking.insert(key);
        } else {
            self.more_lacking += 1;
        }
    }

    fn keep(&mut self, key: Key, mut known: Known) {
        self.forget_process(key);
        let is_full = self.processes.len() >= MAX_PROCESSES;
        if is_full || self.path_bytes + known.image.path_bytes() > MAX_PATH_BYTES {
            self.lacks(key);
            return;
        }
        if self.argument_bytes + known.image.argument_bytes > MAX_ARGUMENT_BYTES {
            self.lacks(key);
            known.image = Arc::new(known.image.without_arguments());
        }
        self.path_bytes += known.image.path_bytes();
        self.argument_bytes += known.image.argument_bytes;
        self.processes.insert(key, known);
    }

    fn forget_process(&mut self, key: Key) {
        self.lacking.remove(&key);
        if let Some(Known { image, .. }) = self.processes.remove(&key) {
            self.path_bytes -= image.path_bytes();
            self.argument_bytes -= image.argument_bytes;
        }
    }

    /// One more record. Those that are no fork, exec or exit change nothing.
    pub fn record(&mut self, record: &Record<'_>) {
        let header = &record.header;
        let own = (header.tgid, header.task_start_ns / TICK_NS);
        match &record.body {
            Body::Fork(fork) => {
                let parent = self.processes.get(&own);
                let known = Known {
                    parent: Some(own),
                    uid: header.uid,
                    own_pid: fork.child_own_tgid,
                    pid_namespace: fork.child_pid_ns,
                    slot: Some(Slot(header.slot)),
                    image: parent.map(|parent| Arc::clone(&parent.image)).unwrap_or_default(),
                };
                let child = (fork.child_tgid, fork.child_start_ns / TICK_NS);
                self.keep(child, known);
                // What is not known of it is not known of who comes from it.
                if self.lacking.contains(&own) {
                    self.lacks(child);
                }
            }
            // An exec that was decided was refused, or is told once more when it is done.
            Body::Exec(exec) if record.decision.is_none() => self.executed(own, header, exec),
            Body::Exit(_) => self.forget_process(own),
            _ => {}
        }
    }

    fn executed(&mut self, own: Key, header: &Header, exec: &Exec<'_>) {
        let arguments = exec.arguments().map(lossless);
        let image = Arc::new(Image::new(lossless(exec.path.bytes), arguments, Some(exec.tty)));
        let parent = (header.parent_tgid, header.parent_start_ns / TICK_NS);
        let before = self.processes.get(&own);
        let known = Known {
            parent: Some(parent),
            uid: header.uid,
            own_pid: before.map_or(0, |before| before.own_pid),
            pid_namespace: before.map_or(0, |before| before.pid_namespace),
            slot: Some(Slot(header.slot)),
            image,
        };
        self.keep(own, known);
    }

    /// The acting process of a record, where it is known what it executes.
    #[must_use]
    pub fn acting(&self, header: &Header) -> Option<Acting<'_>> {
        let known = self.processes.get(&(header.tgid, header.task_start_ns / TICK_NS))?;
        known.is_told().then_some(Acting {
            executable: &known.image.executable,
            tty: known.image.tty,
            own_pid: known.own_pid,
        })
    }

    /// Whether it is known already what this process executes.
    #[must_use]
    pub fn knows(&self, process: &Process) -> bool {
        self.processes.get(&(process.pid, process.start_ticks)).is_some_and(Known::is_told)
    }

    /// What is lost so far.
    #[must_use]
    pub const fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Who has which slot.
    #[must_use]
    pub const fn workloads(&self) -> &BTreeMap<Slot, Arc<Workload>> {
        &self.workloads
    }

    /// All of it as facts of this moment, ended by [`What::SnapshotEnd`]; of these slots only, if some are given, and with what processes
    /// were given as arguments, or without.
    #[must_use]
    pub fn facts(&self, boot_ns: u64, slots: Option<&BTreeSet<Slot>>, arguments: bool) -> Vec<Fact> {
        let of = |slot: &Slot| slots.is_none_or(|slots| slots.contains(slot));
        let mut told: Vec<What> = Vec::new();
        told.extend(self.clock.map(What::Clock));
        told.extend(self.settings.map(|(visibility, throttle)| What::Settings { visibility, throttle }));
        let workloads = self.workloads.iter().filter(|(slot, _)| of(slot));
        told.extend(workloads.map(|(slot, workload)| What::WorkloadNamed(*slot, Arc::clone(workload))));
        told.extend(self.places.values().filter(|place| of(&place.slot)).cloned().map(What::Place));
        told.extend(self.visible.iter().filter(|(slot, _)| of(slot)).map(|(slot, seen)| What::Visible(*slot, *seen)));
        told.extend(self.users.values().filter(|users| of(&users.slot)).cloned().map(What::Users));
        let used = self.used_sets();
        told.extend(self.sets.values().filter(|set| used.contains(&set.generation)).cloned().map(What::PolicySet));
        for (policy, held) in self.installed.values().filter(|(policy, _)| of(&policy.slot)) {
            told.push(What::PolicyAnnounced(*policy));
            told.push(What::PolicyInstalled(*policy, held.clone()));
        }
        told.extend(self.announced.values().filter(|policy| of(&policy.slot)).copied().map(What::PolicyAnnounced));
        told.extend(self.processes_of(slots, arguments).map(What::Process));
        if self.loss != Loss::default() {
            told.push(What::Loss(self.loss.clone()));
        }
        told.push(What::SnapshotEnd);
        told.into_iter().map(|what| Fact { boot_ns, what }).collect()
    }

    /// Of all slots every process; of some the processes that are known to be of them, and those that these come from.
    fn processes_of(&self, slots: Option<&BTreeSet<Slot>>, arguments: bool) -> impl Iterator<Item = Process> {
        let wanted = slots.map(|slots| {
            let is_of = |known: &Known| known.slot.is_some_and(|slot| slots.contains(&slot));
            let own = self.processes.iter().filter(|(_, known)| is_of(known)).map(|(key, _)| *key);
            let mut wanted = BTreeSet::new();
            for key in own {
                let mut next = Some(key);
                while let Some(key) = next.filter(|key| wanted.insert(*key)) {
                    next = self.processes.get(&key).and_then(|known| known.parent);
                }
            }
            wanted
        });
        let told =
            self.processes.iter().filter(move |(key, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(*key)));
        told.map(move |((pid, start_ticks), known)| Process {
            pid: *pid,
            start_ticks: *start_ticks,
            parent: known.parent,
            uid: known.uid,
            executable: known.image.executable.clone(),
            arguments: if arguments { known.image.arguments() } else { Vec::new() },
            own_pid: known.own_pid,
            pid_namespace: known.pid_namespace,
            slot: known.slot,
            tty: known.image.tty,
        })
    }

    /// The processes as facts of this moment, with or without what they were given as arguments: a checkpoint.
    #[must_use]
    pub fn checkpoint(&self, boot_ns: u64, slots: Option<&BTreeSet<Slot>>, arguments: bool) -> Vec<Fact> {
        self.processes_of(slots, arguments).map(|process| Fact { boot_ns, what: What::Process(process) }).collect()
    }
}

/// A checkpoint without the processes that are not of these slots and that none of them come from.
#[must_use]
pub fn checkpoint_of(facts: &[Fact], slots: Option<&BTreeSet<Slot>>, arguments: bool) -> Vec<Fact> {
    let mut picture = Picture::default();
    facts.iter().for_each(|fact| picture.fact(fact));
    picture.checkpoint(facts.first().map_or(0, |fact| fact.boot_ns), slots, arguments)
}

/// Which slots are those of workloads of these names, as facts tell it; all of them where no name is given.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    names: Vec<String>,
    slots: BTreeSet<Slot>,
}

/// Whether a workload is called so: `host`, `NAME`, `NAMESPACE/NAME` or `NAMESPACE/NAME/CONTAINER`.
#[must_use]
pub fn is_called(slot: Slot, workload: &Workload, name: &str) -> bool {
    let pod = format!("{}/{}", workload.namespace, workload.name);
    let whole = format!("{pod}/{}", workload.container);
    (slot == Slot::HOST && name == "host") || [whole.as_str(), &pod, &workload.name].contains(&name)
}

impl Chosen {
    /// By names.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names, slots: BTreeSet::new() }
    }

    /// Hears who has a slot.
    pub fn fact(&mut self, fact: &Fact) {
        if let What::WorkloadNamed(slot, workload) = &fact.what {
            self.named(*slot, workload);
        }
    }

    /// The same of all that a picture knows.
    pub fn picture(&mut self, picture: &Picture) {
        picture.workloads().iter().for_each(|(slot, workload)| self.named(*slot, workload));
    }

    fn named(&mut self, slot: Slot, workload: &Workload) {
        if self.names.iter().any(|name| is_called(slot, workload, name)) {
            self.slots.insert(slot);
        } else {
            self.slots.remove(&slot);
        }
    }

    /// The slots; none: all.
    #[must_use]
    pub fn slots(&self) -> Option<&BTreeSet<Slot>> {
        (!self.names.is_empty()).then_some(&self.slots)
    }

    /// Whether a slot is among them.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.slots().is_none_or(|slots| slots.contains(&slot))
    }

    /// Whether a fact is about one of them, or about none in particular.
    #[must_use]
    pub fn is_about(&self, fact: &Fact) -> bool {
        match &fact.what {
            What::WorkloadNamed(slot, _) | What::WorkloadGone(slot) | What::Visible(slot, _) => self.has(*slot),
            What::PolicyAnnounced(policy) | What::PolicyInstalled(policy, _) => self.has(policy.slot),
            What::Place(place) => self.has(place.slot),
            What::Users(users) => self.has(users.slot),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_domain::{ContainerId, WorkloadKind};
    use palisade_kernel_abi::record::{Exit, Fork, Text};

    use super::*;

    fn workload(name: &str) -> Arc<Workload> {
        Arc::new(Workload {
            kind: WorkloadKind::Container,
            name: name.into(),
            namespace: "default".into(),
            container: name.into(),
            container_id: Some(ContainerId(name.into())),
            image: String::new(),
            labels: BTreeMap::new(),
        })
    }

    fn tell(picture: &mut Picture, what: What) {
        picture.fact(&Fact { boot_ns: 1, what });
    }

    fn record(tgid: u32, slot: u32, body: Body<'_>) -> Record<'_> {
        let header =
            Header { tgid, slot, task_start_ns: u64::from(tgid) * TICK_NS, parent_tgid: 1, ..Header::default() };
        Record { header, body, decision: None }
    }

    #[test]
    fn unit_picture_tells_a_picture_that_tells_the_same() {
        let mut picture = Picture::default();
        tell(&mut picture, What::WorkloadNamed(Slot(4), workload("web")));
        tell(&mut picture, What::WorkloadNamed(Slot(5), workload("db")));
        let documents: Arc<[(String, Arc<[u8]>)]> = Arc::from([]);
        for generation in 1..5 {
            let generation = Generation(generation);
            let set = PolicyDocuments {
                generation,
                postures: palisade_policy::ir::Postures::default(),
                documents: Arc::clone(&documents),
            };
            tell(&mut picture, What::PolicySet(set));
            if generation.0 == 2 {
                let policy = PolicyOfSlot { slot: Slot(4), generation, blob: None };
                tell(&mut picture, What::PolicyAnnounced(policy));
                tell(&mut picture, What::PolicyInstalled(policy, Held { number: 7, ..Held::default() }));
            }
        }
        tell(&mut picture, What::Process(Process { pid: 1, executable: "/sbin/init".into(), ..Process::default() }));
        tell(&mut picture, What::Clock(9));
        let facts = picture.facts(1, None, true);
        let set = |fact: &Fact| if let What::PolicySet(set) = &fact.what { Some(set.generation.0) } else { None };
        assert_eq!(facts.iter().filter_map(set).collect::<Vec<_>>(), [2, 4], "in force, and the newest");
        let mut other = Picture::default();
        facts.iter().for_each(|fact| other.fact(fact));
        assert_eq!(other.facts(1, None, true), facts);
        assert_eq!(facts.last().map(|fact| &fact.what), Some(&What::SnapshotEnd));
        tell(&mut picture, What::WorkloadGone(Slot(4)));
        assert_eq!(picture.workloads().keys().copied().collect::<Vec<_>>(), [Slot(5)]);
    }

    #[test]
    fn unit_picture_follows_processes_and_leaves_arguments_out_where_told() {
        let mut picture = Picture::default();
        let text = |bytes| Text { bytes, ..Text::default() };
        let init = Process { pid: 1, start_ticks: 0, executable: "/init".into(), ..Process::default() };
        tell(&mut picture, What::Process(init));
        let fork = Fork {
            child_tgid: 20,
            child_start_ns: 20 * TICK_NS,
            child_own_tgid: 1,
            child_pid_ns: 8,
            ..Fork::default()
        };
        picture.record(&record(10, 4, Body::Fork(fork)));
        let exec =
            Exec { path: text(b"/bin/sh"), argument_bytes: text(b"sh\0-c\0"), argument_count: 2, ..Exec::default() };
        picture.record(&record(20, 4, Body::Exec(exec)));
        picture.record(&record(30, 5, Body::Exec(exec)));
        let told =
            |slots: Option<&BTreeSet<Slot>>, arguments| picture.processes_of(slots, arguments).collect::<Vec<_>>();
        let pids = |all: Vec<Process>| all.iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(told(None, true)), [1, 20, 30]);
        assert_eq!(pids(told(Some(&[Slot(4)].into()), true)), [1, 20], "with what it comes from");
        let of_four = told(Some(&[Slot(4)].into()), false);
        assert_eq!((of_four[1].executable.as_str(), of_four[1].own_pid, of_four[1].arguments.len()), ("/bin/sh", 1, 0));
        picture.record(&record(20, 4, Body::Exit(Exit { status: 0 })));
        assert_eq!(pids(picture.processes_of(None, true).collect()), [1, 30]);
    }

    #[test]
    fn unit_picture_counts_of_those_that_live_who_is_without_arguments() {
        let mut picture = Picture::default();
        let arguments = vec![String::new(); MAX_ARGUMENT_BYTES / OWNED];
        let large = Process { pid: 20, start_ticks: 20, executable: "/bin/x".into(), arguments, ..Process::default() };
        tell(&mut picture, What::Process(large.clone()));
        tell(&mut picture, What::Process(large.clone()));
        assert_eq!(picture.left_out(), 1, "one that is told twice");
        let fork = Fork { child_tgid: 30, child_start_ns: 30 * TICK_NS, ..Fork::default() };
        picture.record(&record(20, 4, Body::Fork(fork)));
        assert_eq!(picture.left_out(), 2, "with who comes from it");
        let exec = Exec { path: Text { bytes: b"/bin/sh", ..Text::default() }, ..Exec::default() };
        picture.record(&record(30, 4, Body::Exec(exec)));
        assert_eq!(picture.left_out(), 1, "until he executes something else");
        picture.record(&record(20, 4, Body::Exit(Exit { status: 0 })));
        assert_eq!(picture.left_out(), 0);
        tell(&mut picture, What::Process(large));
        picture.forget_processes();
        assert_eq!(picture.left_out(), 0);
    }

    #[test]
    fn unit_picture_keeps_of_a_process_that_is_listed_once_more_what_no_list_tells() {
        let mut picture = Picture::default();
        let exec = Exec { path: Text { bytes: b"/bin/sh", ..Text::default() }, tty: 3, ..Exec::default() };
        picture.record(&record(20, 4, Body::Exec(exec)));
        let listed = |executable: &str| {
            let (pid, start_ticks, executable) = (20, 20, executable.to_owned());
            What::Process(Process { pid, start_ticks, executable, ..Process::default() })
        };
        let known = |picture: &Picture| {
            picture.processes_of(None, true).map(|process| (process.slot, process.tty)).collect::<Vec<_>>()
        };
        tell(&mut picture, listed("/bin/sh"));
        assert_eq!(known(&picture), [(Some(Slot(4)), Some(3))]);
        tell(&mut picture, listed("/bin/other"));
        assert_eq!(known(&picture), [(Some(Slot(4)), None)], "an exec that nobody saw");
    }

    #[test]
    fn unit_chosen_workloads_are_those_of_their_names_while_they_have_a_slot() {
        let mut chosen = Chosen::new(vec!["default/web".into(), "host".into()]);
        let named = |slot, name| Fact { boot_ns: 0, what: What::WorkloadNamed(slot, workload(name)) };
        [named(Slot(0), "node"), named(Slot(4), "web"), named(Slot(5), "db")].iter().for_each(|fact| chosen.fact(fact));
        assert_eq!(chosen.slots(), Some(&[Slot(0), Slot(4)].into()));
        chosen.fact(&named(Slot(4), "db"));
        assert!(!chosen.has(Slot(4)) && chosen.has(Slot(0)) && !chosen.is_about(&named(Slot(5), "db")));
        assert!(Chosen::default().has(Slot(9)));
    }
}
