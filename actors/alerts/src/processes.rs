//! The process table: who is whose child, and what each executes.
//!
//! Invariant: a process is named by its id and its start, so that a reused id never inherits a chain. An entry stays [`LINGER_NS`] after
//! its exit, since records of its children and of other CPUs come late. Past [`MAX_PROCESSES`] or [`MAX_IMAGE_BYTES`] one that ended, or
//! else the oldest, is forgotten, and counted. No time in a record can keep ended ones for ever: at most twice [`MAX_PROCESSES`] are remembered as ended.
//!
//! Starts are kept in hundredths of a second, as `/proc` gives them: that is what a listing at start and the kernel's nanoseconds share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use palisade_domain::{AlertProcess, Slot, text::lossless};
use palisade_kernel_abi::record::{Exec, Fork, Header, Phase, Script};
use palisade_protocol::{LiveProcess, ProcessListed};

/// A full PID space of a default machine, twice: what is beyond is forgotten, oldest first.
pub const MAX_PROCESSES: usize = 65_536;
/// How long an ended process is remembered, in nanoseconds.
pub const LINGER_NS: u64 = 10_000_000_000;
/// Longest chain in an alert.
pub const MAX_CHAIN: usize = 16;

/// Bytes of executables and arguments that are kept in all: some hundreds for each process of a full table. What a workload executes may be
/// as long as a record, 16 KiB, and it chooses.
pub const MAX_IMAGE_BYTES: usize = 64 << 20;
/// Bytes of arguments kept of a listed process, which may have megabytes: each alert carries a whole chain of them.
pub const MAX_ARGUMENT_BYTES: usize = 4096;

/// Bytes that an argument takes beside what it says, its place and its allocation: of arguments of one letter they are most.
const ARGUMENT: usize = size_of::<String>() + 24;

const TICK_NS: u64 = 10_000_000;

/// Names a process for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid: u32,
    start_ticks: u64,
}

impl Key {
    fn new(pid: u32, start_ns: u64) -> Self {
        Self { pid, start_ticks: start_ns / TICK_NS }
    }
}

/// What a process executes, and where from; shared by those forked from it.
#[derive(Debug, Default)]
pub struct Image {
    executable: String,
    /// What it interprets, if it was executed by that, and whether that is only what the caller called it.
    script: Option<(String, bool)>,
    arguments: Vec<String>,
    arguments_cut: bool,
    /// Working directory at the exec; empty where not known.
    cwd: String,
    /// Controlling terminal at the exec, as `st_rdev`; 0: none, or not known.
    tty: u32,
    bytes: Bytes,
}

/// An image's bytes, of all that are kept.
#[derive(Debug, Default)]
struct Bytes {
    count: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Image {
    fn kept(mut self, all: &Arc<AtomicUsize>) -> Arc<Self> {
        let script = self.script.as_ref().map_or(0, |(path, _)| path.len());
        let arguments = self.arguments.iter().map(|argument| ARGUMENT + argument.len()).sum::<usize>();
        let count = self.executable.len() + self.cwd.len() + script + arguments;
        all.fetch_add(count, Ordering::Relaxed);
        self.bytes = Bytes { count, all: Arc::clone(all) };
        Arc::new(self)
    }

    /// The executable; empty where not known.
    #[must_use]
    pub fn executable(&self) -> &str {
        &self.executable
    }

    /// Executable and arguments by spaces: for people, and for what matches KubeArmor's `source`.
    #[must_use]
    pub fn command_line(&self) -> String {
        command_line(&self.executable, self.arguments.iter().skip(1).map(String::as_str))
    }
}

/// A file and the arguments that it is given, by spaces.
pub fn command_line<'a>(file: &str, arguments: impl Iterator<Item = &'a str>) -> String {
    arguments.fold(file.to_owned(), |mut line, argument| {
        line.push(' ');
        line.push_str(argument);
        line
    })
}

/// A process' number in its own PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    pid: u32,
    namespace: u32,
}

impl Number {
    fn new(pid: u32, namespace: u32) -> Option<Self> {
        (pid != 0 && namespace != 0).then_some(Self { pid, namespace })
    }
}

#[derive(Debug)]
struct Process {
    parent: Option<Key>,
    uid: u32,
    /// Whose it was at its last fork or exec; `None` for one that was listed and has done neither.
    slot: Option<Slot>,
    number: Option<Number>,
    /// The first process of the session that entered its container.
    session: Option<Key>,
    image: Arc<Image>,
}

/// What is known of an acting process beside its chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Its number in its own PID namespace.
    pub own_pid: Option<u32>,
    /// Its parent's number there; 0 where the parent is not in it.
    pub own_parent_pid: Option<u32>,
    /// Working directory at its last exec; empty where not known.
    pub cwd: String,
    /// Controlling terminal at its last exec, as `st_rdev`; 0: none, or not known.
    pub tty: u32,
    /// The session that entered the container: host process id and start of its first process, and what that executes.
    pub session: Option<(String, String)>,
}

/// All processes that were seen.
#[derive(Debug, Default)]
pub struct Processes {
    known: BTreeMap<Key, Process>,
    /// In order of arrival; may name some that are gone.
    arrivals: VecDeque<Key>,
    /// In order of exit.
    ended: VecDeque<(u64, Key)>,
    forgotten: u64,
    image_bytes: Arc<AtomicUsize>,
    /// The oldest process that entered each container: its init, or one that came after it where the init was not seen yet.
    inits: BTreeMap<Slot, Key>,
}

impl Processes {
    /// Bytes of executables and arguments that are kept.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.image_bytes.load(Ordering::Relaxed)
    }

    /// How many are known now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many were forgotten for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many ends are remembered, processes that are forgotten already included.
    #[must_use]
    pub fn remembered_ends(&self) -> usize {
        self.ended.len()
    }

    /// A process that ran before.
    pub fn listed(&mut self, process: ProcessListed) {
        let key = Key { pid: process.pid, start_ticks: process.start_ticks };
        let (arguments, arguments_cut) = bounded(process.arguments);
        let image = Image { executable: process.executable, arguments, arguments_cut, ..Image::default() };
        let image = image.kept(&self.image_bytes);
        let parent = process.parent.map(|(pid, start_ticks)| Key { pid, start_ticks });
        let number = Number::new(process.own_pid, process.pid_namespace);
        if !self.known.contains_key(&key) {
            self.insert(key, Process { parent, uid: process.uid, slot: None, number, session: None, image });
        }
    }

    /// A slot is another workload's from now on.
    pub fn vacated(&mut self, slot: Slot) {
        self.inits.remove(&slot);
    }

    /// The task of `header` forked. What the child did already (on a CPU whose ring was read before) stays.
    pub fn forked(&mut self, header: &Header, fork: Fork) {
        let parent = self.acting(header);
        let slot = Slot(header.slot);
        let (image, session) = self.known.get_mut(&parent).map_or_else(Default::default, |process| {
            process.slot = Some(slot);
            (Arc::clone(&process.image), process.session)
        });
        let key = Key::new(fork.child_tgid, fork.child_start_ns);
        let number = Number::new(fork.child_own_tgid, fork.child_pid_ns);
        if let Some(child) = self.known.get_mut(&key) {
            (child.parent, child.number) = (Some(parent), number.or(child.number));
            child.session = child.session.or(session);
            if child.image.executable.is_empty() {
                child.image = image;
            }
            return;
        }
        let child = Process { parent: Some(parent), uid: header.uid, slot: Some(slot), number, session, image };
        self.insert(key, child);
    }

    /// The task of `header` executes a file from now on.
    pub fn executed(&mut self, header: &Header, exec: &Exec<'_>) {
        let key = self.acting(header);
        let image = Image {
            executable: lossless(exec.path.bytes),
            script: match exec.script {
                Script::Interpreted { path, .. } if !path.bytes.is_empty() => Some((lossless(path.bytes), path.user)),
                _ => None,
            },
            arguments: exec.arguments().map(lossless).collect(),
            arguments_cut: exec.argument_bytes.cut,
            cwd: lossless(exec.cwd.bytes),
            tty: exec.tty,
            ..Image::default()
        };
        let image = image.kept(&self.image_bytes);
        let session = self.session_of(header, key);
        if let Some(process) = self.known.get_mut(&key) {
            process.uid = header.uid;
            process.slot = Some(Slot(header.slot));
            process.session = session;
            process.image = image;
        }
        self.make_room(0);
    }

    /// The session that a process which executes something is of: it comes from outside of a container that an older process entered.
    /// Where its parent is not known nothing is said: it may be a child of the container whose parent is gone.
    fn session_of(&mut self, header: &Header, key: Key) -> Option<Key> {
        let slot = Slot(header.slot);
        let process = self.known.get(&key)?;
        let parent = process.parent.and_then(|parent| self.known.get(&parent));
        let from_outside = parent.is_some_and(|parent| parent.slot != Some(slot));
        if slot == Slot::HOST || header.phase != Phase::Workload || process.session.is_some() || !from_outside {
            return process.session;
        }
        let init = self.inits.entry(slot).or_insert(key);
        if key.start_ticks < init.start_ticks {
            *init = key;
        }
        (*init != key).then_some(key)
    }

    /// What the acting process executes, if that is known.
    #[must_use]
    pub fn image(&self, header: &Header) -> Option<Arc<Image>> {
        let process = self.known.get(&Key::new(header.tgid, header.task_start_ns))?;
        (!process.image.executable.is_empty()).then(|| Arc::clone(&process.image))
    }

    /// What the acting process' parent executes, if that is known.
    #[must_use]
    pub fn parent_image(&self, header: &Header) -> Option<Arc<Image>> {
        let process = self.known.get(&Key::new(header.parent_tgid, header.parent_start_ns))?;
        (!process.image.executable.is_empty()).then(|| Arc::clone(&process.image))
    }

    /// See [`Identity`].
    #[must_use]
    pub fn identity(&self, header: &Header) -> Identity {
        let Some(process) = self.known.get(&Key::new(header.tgid, header.task_start_ns)) else {
            return Identity::default();
        };
        let parent = self.known.get(&Key::new(header.parent_tgid, header.parent_start_ns));
        let parent = parent.and_then(|parent| parent.number);
        let own_parent_pid = match (process.number, parent) {
            // The first of its namespace has its parent outside, also where that is not known.
            (Some(Number { pid: 1, .. }), _) => Some(0),
            (Some(own), Some(parent)) => Some(if parent.namespace == own.namespace { parent.pid } else { 0 }),
            _ => None,
        };
        let session = process.session.map(|key| {
            let executable = self.known.get(&key).map(|first| first.image.executable.clone()).unwrap_or_default();
            (format!("{}-{}", key.pid, key.start_ticks), executable)
        });
        Identity {
            own_pid: process.number.map(|number| number.pid),
            own_parent_pid,
            cwd: process.image.cwd.clone(),
            tty: process.image.tty,
            session,
        }
    }

    /// The acting process and its nearest ancestors, by id and start.
    #[must_use]
    pub fn lineage(&self, header: &Header, most: usize) -> Vec<(u32, u64)> {
        let mut key = Some(Key::new(header.tgid, header.task_start_ns));
        let mut lineage = Vec::new();
        // The first process' parent is the kernel's idle task, which has no number.
        while let Some(own) = key.filter(|key| key.pid != 0 && lineage.len() < most) {
            lineage.push((own.pid, own.start_ticks));
            key = match self.known.get(&own) {
                Some(process) => process.parent,
                None if lineage.len() == 1 => Some(Key::new(header.parent_tgid, header.parent_start_ns)),
                None => None,
            };
        }
        lineage
    }

    /// The processes of a slot that live, as far as they forked, executed something or have an ancestor that did so in it; at most `most`.
    /// Ordered by process id.
    #[must_use]
    pub fn of_slot(&self, slot: Slot, most: usize) -> (Vec<LiveProcess>, bool) {
        let ended: BTreeSet<Key> = self.ended.iter().map(|(_, key)| *key).collect();
        let living =
            self.known.iter().filter(|(key, process)| !ended.contains(key) && self.slot_of(process) == Some(slot));
        let mut all: Vec<LiveProcess> = living
            .take(most.saturating_add(1))
            .map(|(key, process)| LiveProcess {
                pid: key.pid,
                start_ticks: key.start_ticks,
                parent_pid: process.parent.map(|parent| parent.pid),
                own_pid: process.number.map(|number| number.pid),
                uid: process.uid,
                username: None,
                executable: process.image.executable.clone(),
                arguments: process.image.arguments.clone(),
                arguments_cut: process.image.arguments_cut,
            })
            .collect();
        let more = all.len() > most;
        all.truncate(most);
        (all, more)
    }

    /// Whose it is: what it was told to be itself, or else its nearest ancestor.
    fn slot_of(&self, process: &Process) -> Option<Slot> {
        let mut process = process;
        for _ in 0..MAX_CHAIN {
            if process.slot.is_some() {
                return process.slot;
            }
            process = self.known.get(&process.parent?)?;
        }
        None
    }

    /// The process of `header` ended; and what ended long ago is forgotten.
    pub fn exited(&mut self, header: &Header) {
        self.ended.push_back((header.boot_ns, Key::new(header.tgid, header.task_start_ns)));
        while let Some((at, key)) = self.ended.front()
            && (header.boot_ns.saturating_sub(*at) > LINGER_NS || self.ended.len() > 2 * MAX_PROCESSES)
        {
            self.known.remove(key);
            self.ended.pop_front();
        }
    }

    /// The same with the arguments of the acting process only: each ancestor's were told by its own exec, and they would be most of a log.
    #[must_use]
    pub fn chain_of_a_log(&self, header: &Header) -> Vec<AlertProcess> {
        self.chain_with(header, false)
    }

    /// The acting process first, then its ancestors as far as known.
    #[must_use]
    pub fn chain(&self, header: &Header) -> Vec<AlertProcess> {
        self.chain_with(header, true)
    }

    fn chain_with(&self, header: &Header, all_arguments: bool) -> Vec<AlertProcess> {
        let mut key = Key::new(header.tgid, header.task_start_ns);
        let mut chain = Vec::new();
        if header.tgid == 0 {
            // Nobody knows which process it was (a DNS packet without one).
            return chain;
        }
        if !self.known.contains_key(&key) {
            // Never seen before: the record itself is all there is, and its parent may be known.
            chain.push(AlertProcess {
                pid: header.tgid,
                executable: String::new(),
                script: None,
                script_from_caller: false,
                arguments: vec![lossless(header.comm_bytes())],
                arguments_cut: true,
                uid: header.uid,
            });
            key = Key::new(header.parent_tgid, header.parent_start_ns);
        }
        while let Some(process) = self.known.get(&key)
            && chain.len() < MAX_CHAIN
        {
            let image = &process.image;
            let with_arguments = all_arguments || chain.is_empty();
            chain.push(AlertProcess {
                pid: key.pid,
                executable: image.executable.clone(),
                script: image.script.as_ref().map(|(path, _)| path.clone()),
                script_from_caller: image.script.as_ref().is_some_and(|(_, from_caller)| *from_caller),
                arguments: if with_arguments { image.arguments.clone() } else { Vec::new() },
                arguments_cut: image.arguments_cut || (!with_arguments && !image.arguments.is_empty()),
                uid: process.uid,
            });
            let Some(parent) = process.parent else { break };
            key = parent;
        }
        chain
    }

    /// The key of the acting process, made known if it was not.
    fn acting(&mut self, header: &Header) -> Key {
        let key = Key::new(header.tgid, header.task_start_ns);
        if !self.known.contains_key(&key) {
            let parent = Some(Key::new(header.parent_tgid, header.parent_start_ns));
            let (slot, image) = (Some(Slot(header.slot)), Arc::default());
            self.insert(key, Process { parent, uid: header.uid, slot, number: None, session: None, image });
        }
        key
    }

    /// Forgets until `more` processes fit.
    fn make_room(&mut self, more: usize) {
        while self.known.len() + more > MAX_PROCESSES || self.image_bytes() > MAX_IMAGE_BYTES {
            // What ended goes first, however short ago: a daemon that lives on is worth more than a shell that is over.
            let ended = self.ended.pop_front().map(|(_, key)| key);
            let Some(oldest) = ended.or_else(|| self.arrivals.pop_front()) else { break };
            self.forgotten += u64::from(self.known.remove(&oldest).is_some());
        }
    }

    fn insert(&mut self, key: Key, process: Process) {
        self.make_room(1);
        self.known.insert(key, process);
        self.arrivals.push_back(key);
        // Those that ended leave their arrival behind; without this the queue would grow with every process that ever was.
        if self.arrivals.len() > 2 * MAX_PROCESSES {
            self.arrivals.retain(|key| self.known.contains_key(key));
        }
    }
}

/// The first arguments, as many as fit, and whether that is not all of them.
fn bounded(arguments: Vec<String>) -> (Vec<String>, bool) {
    let mut room = MAX_ARGUMENT_BYTES;
    let mut kept = Vec::new();
    for mut argument in arguments {
        if argument.len() >= room {
            argument.truncate(argument.floor_char_boundary(room));
            kept.push(argument);
            return (kept, true);
        }
        room -= argument.len() + 1;
        kept.push(argument);
    }
    (kept, false)
}
