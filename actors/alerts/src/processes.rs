//! The process table: who is whose child, and what each executes.
//!
//! Invariant: a process is named by its id and its start, so that a reused id never inherits a chain. An entry stays [`LINGER_NS`] after
//! its exit, since records of its children and of other CPUs come late. Past [`MAX_PROCESSES`] or [`MAX_IMAGE_BYTES`] one that ended, or
//! else the oldest, is forgotten, and counted. No time in a record can keep ended ones for ever: at most twice [`MAX_PROCESSES`] are remembered as ended.
//!
//! Starts are kept in hundredths of a second, as `/proc` gives them: that is what a listing at start and the kernel's nanoseconds share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use palisade_domain::AlertProcess;
use palisade_kernel_abi::record::{Exec, Fork, Header};
use palisade_protocol::ProcessListed;

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

/// What a process executes; shared by those forked from it.
#[derive(Debug, Default)]
struct Image {
    executable: String,
    arguments: Vec<String>,
    arguments_cut: bool,
    /// Its bytes, of all that are kept.
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Image {
    fn new(executable: String, arguments: Vec<String>, arguments_cut: bool, all: &Arc<AtomicUsize>) -> Arc<Self> {
        let bytes = executable.len() + arguments.iter().map(String::len).sum::<usize>();
        all.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(Self { executable, arguments, arguments_cut, bytes, all: Arc::clone(all) })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Process {
    parent: Option<Key>,
    uid: u32,
    image: Arc<Image>,
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
        let image = Image::new(process.executable, arguments, arguments_cut, &self.image_bytes);
        let parent = process.parent.map(|(pid, start_ticks)| Key { pid, start_ticks });
        if !self.known.contains_key(&key) {
            self.insert(key, Process { parent, uid: process.uid, image });
        }
    }

    /// The task of `header` forked.
    pub fn forked(&mut self, header: &Header, fork: Fork) {
        let parent = self.acting(header);
        let image = self.known.get(&parent).map(|process| Arc::clone(&process.image)).unwrap_or_default();
        let key = Key::new(fork.child_tgid, fork.child_start_ns);
        self.insert(key, Process { parent: Some(parent), uid: header.uid, image });
    }

    /// The task of `header` executes a file from now on.
    pub fn executed(&mut self, header: &Header, exec: &Exec<'_>) {
        let key = self.acting(header);
        let arguments = exec.arguments().map(text).collect();
        let image = Image::new(text(exec.path.bytes), arguments, exec.argument_bytes.cut, &self.image_bytes);
        if let Some(process) = self.known.get_mut(&key) {
            process.uid = header.uid;
            process.image = image;
        }
        self.make_room(0);
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

    /// The acting process first, then its ancestors as far as known.
    #[must_use]
    pub fn chain(&self, header: &Header) -> Vec<AlertProcess> {
        let mut key = Key::new(header.tgid, header.task_start_ns);
        let mut chain = Vec::new();
        if !self.known.contains_key(&key) {
            // Never seen before: the record itself is all there is, and its parent may be known.
            chain.push(AlertProcess {
                pid: header.tgid,
                executable: String::new(),
                arguments: vec![text(header.comm_bytes())],
                arguments_cut: true,
                uid: header.uid,
            });
            key = Key::new(header.parent_tgid, header.parent_start_ns);
        }
        while let Some(process) = self.known.get(&key)
            && chain.len() < MAX_CHAIN
        {
            chain.push(AlertProcess {
                pid: key.pid,
                executable: process.image.executable.clone(),
                arguments: process.image.arguments.clone(),
                arguments_cut: process.image.arguments_cut,
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
            self.insert(key, Process { parent, uid: header.uid, image: Arc::default() });
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

/// Kernel bytes as text; what is not UTF-8 is replaced, and JSON escapes the rest.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
