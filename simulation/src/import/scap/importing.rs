//! What an import knows while it reads, and each event becoming a record, or being counted.

use std::{collections::BTreeMap, io::Write};

use palisade_domain::{Slot, Visibility, VisibilityClass};
use palisade_kernel_abi::record::{Body, FileChange, Header as RecordHeader, NetworkOperation, Open, Phase, VERSION};
use palisade_wire::trace::{Fact, Header, Loss, Process as Listed, What};

use super::{
    DAMAGED, OLDER_EVENTS, blocks,
    calls::{Act, Calls, Outcome},
    event::{self, Event, kind},
    event_of,
    identity::{self, Identity, Process},
    lacks::TOLD_REASONS,
    processes::absolute,
    start::{self, Machine, Thread},
};
use crate::import::{
    IMPORTED, ImportError, Imported,
    writing::{Writing, path},
};

/// Boot time of the first event where the capture does not tell: some time must have passed before it.
const BEGIN_NS: u64 = 1_000_000_000;

/// What is lost is said no more often: each time ends a block.
const LOSS_EVERY_NS: u64 = 10_000_000_000;

/// Bytes of the processes that are told when the trace begins, and of one of them without its texts.
const MAX_LISTED: usize = 64 << 20;
const ENTRY: usize = 128;

/// See the module.
pub struct Importing<W: Write> {
    pub(super) to: Option<W>,
    pub(super) writing: Option<Writing<W>>,
    pub(super) machine: Machine,
    /// Wall clock less boot time.
    pub(super) offset: u64,
    pub(super) identity: Identity,
    pub(super) calls: Calls,
    /// Processes that are told when the trace begins.
    pub(super) listed: Vec<Listed>,
    pub(super) listed_bytes: usize,
    /// Of those that there was no room for.
    pub(super) unlisted: u64,
    /// Blocks of types that are not read, by type.
    pub(super) unread: BTreeMap<u32, u64>,
    pub(super) older_events: u64,
    pub(super) older_lists: u64,
    /// Times that the capturing program was too slow and began to leave events out.
    pub(super) drops: u64,
    /// Blocks, entries and events that are damaged, and events that are longer than a record.
    pub(super) damages: u64,
    /// Where the block that is being read begins.
    at: u64,
    /// It leaves out events now.
    dropping: bool,
    /// Of these times, how many are told, and when they were.
    told_drops: u64,
    told_ns: u64,
    /// Time of the latest event.
    pub(super) last_ns: u64,
    pub(super) done: Imported,
}

impl<W: Write> Importing<W> {
    pub fn new(to: W) -> Self {
        Self {
            to: Some(to),
            writing: None,
            machine: Machine::default(),
            offset: 0,
            identity: Identity::default(),
            calls: Calls::default(),
            listed: Vec::new(),
            listed_bytes: 0,
            unlisted: 0,
            unread: BTreeMap::new(),
            older_events: 0,
            older_lists: 0,
            drops: 0,
            damages: 0,
            at: 0,
            dropping: false,
            told_drops: 0,
            told_ns: 0,
            last_ns: 0,
            done: Imported::default(),
        }
    }

    /// The block that begins at byte `at` of the uncompressed file.
    pub fn block(&mut self, at: u64, kind: u32, content: &[u8]) -> Result<(), ImportError> {
        self.at = at;
        if let Some(event) = event_of(kind, content) {
            match event {
                Some(event) => self.event(&event)?,
                None => self.damaged("a damaged event"),
            }
        } else if kind == start::MACHINE {
            match Machine::read(content) {
                Some(machine) if self.writing.is_none() => self.machine = machine,
                Some(_) => {}
                None => self.damaged("a damaged description of the machine"),
            }
        } else if kind == start::PROCESSES {
            for thread in start::processes(content) {
                match thread {
                    Some(thread) => self.thread(&thread)?,
                    None => self.damaged("a damaged list of processes"),
                }
            }
        } else if kind == start::DESCRIPTORS {
            match start::directories(content) {
                Some((tid, directories)) => {
                    let pid = self.identity.pid(tid);
                    directories.iter().for_each(|(descriptor, name)| self.calls.is_open(pid, *descriptor, name));
                }
                None => self.damaged("a damaged list of descriptors"),
            }
        } else if OLDER_EVENTS.contains(&kind) {
            self.older_events += 1;
        } else if start::OLDER_PROCESSES.contains(&kind) {
            self.older_lists += 1;
        } else if kind != blocks::SECTION && !start::OF_NO_USE.contains(&kind) {
            let is_full = self.unread.len() >= TOLD_REASONS;
            *self.unread.entry(if is_full { 0 } else { kind }).or_default() += 1;
        }
        Ok(())
    }

    /// What is lost of the block that is being read.
    pub(super) fn damaged(&mut self, what: &str) {
        self.damages += 1;
        self.done.skip_at(&format!("byte {}", self.at), what);
    }

    /// A thread that was there when the capture began, or, in one that was put together, when its part did.
    fn thread(&mut self, thread: &Thread<'_>) -> Result<(), ImportError> {
        if thread.tid != thread.pid {
            self.identity.put_thread(thread.tid, thread.pid);
            return Ok(());
        }
        let slot = self.identity.slot_of(thread.cgroups);
        let executable = if thread.executable.is_empty() { absolute(thread.argument) } else { thread.executable };
        self.identity.put(
            thread.pid,
            Process {
                parent: thread.parent,
                uid: thread.uid,
                gid: thread.gid,
                comm: identity::comm(thread.comm),
                cwd: identity::kept(thread.cwd),
                slot,
                phase: if slot == Slot::HOST { Phase::None } else { Phase::Workload },
                own_pid: thread.own_pid,
                executable: identity::kept(executable),
                ..Process::default()
            },
        );
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let others = thread.arguments.split_inclusive(|byte| *byte == 0);
        let others = others.map(|argument| lossy(argument.strip_suffix(b"\0").unwrap_or(argument)));
        let listed = Listed {
            pid: thread.pid,
            parent: (thread.parent != 0).then_some((thread.parent, 0)),
            uid: thread.uid,
            executable: lossy(executable),
            arguments: std::iter::once(lossy(thread.argument))
                .filter(|first| !first.is_empty())
                .chain(others)
                .collect(),
            own_pid: thread.own_pid,
            ..Listed::default()
        };
        self.listed_bytes += listed.executable.len() + listed.arguments.iter().map(String::len).sum::<usize>() + ENTRY;
        if self.listed_bytes > MAX_LISTED {
            self.unlisted += 1;
        } else if self.writing.is_none() {
            self.listed.push(listed);
        }
        Ok(())
    }

    fn begin(&mut self, unix_ns: u64) -> Result<(), ImportError> {
        let Some(to) = self.to.take() else { return Ok(()) };
        let is_told = (1..unix_ns).contains(&self.machine.booted_ns);
        self.offset = if is_told { self.machine.booted_ns } else { unix_ns.saturating_sub(BEGIN_NS) };
        let boot_ns = unix_ns.saturating_sub(self.offset);
        let seen: Visibility =
            [VisibilityClass::Process, VisibilityClass::File, VisibilityClass::Network].into_iter().collect();
        let header = Header {
            node: self.machine.node.clone(),
            boot_ns,
            unix_ns,
            architecture: self.machine.architecture.to_owned(),
            little_endian: cfg!(target_endian = "little"),
            record_version: VERSION,
            visibility: seen,
            program: format!("{IMPORTED}a capture of sysdig or Falco"),
            ..Header::default()
        };
        let mut writing = Writing::begin(to, &header)?;
        let mut facts: Vec<Fact> =
            self.listed.drain(..).map(|process| Fact { boot_ns, what: What::Process(process) }).collect();
        facts.push(Fact { boot_ns, what: What::SnapshotEnd });
        writing.facts(&facts)?;
        self.writing = Some(writing);
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), ImportError> {
        self.begin(event.unix_ns)?;
        self.last_ns = self.last_ns.max(event.unix_ns.saturating_sub(self.offset));
        if matches!(event.kind, kind::CONTAINER_JSON | kind::CONTAINER_JSON_LARGE) {
            return Ok(());
        }
        // Whoever runs when it is told has nothing to do with it, or is nobody.
        if matches!(event.kind, kind::DROP_BEGIN | kind::DROP_END) {
            return self.dropped(event);
        }
        let Ok(tid) = u32::try_from(event.tid) else {
            self.done.skip(&event::name(event.kind));
            return Ok(());
        };
        let pid = self.identity.pid(tid);
        match event.kind {
            kind::PROCESS_EXIT => self.exit(event, tid, pid),
            kind::CLONE | kind::FORK | kind::VFORK | kind::CLONE3 => self.fork(event, tid),
            kind::EXECVE_17 | kind::EXECVE_18 | kind::EXECVE | kind::EXECVEAT => self.exec(event, tid, pid),
            entered if entered % 2 == 0 => {
                if !self.calls.entered(event, tid, pid) {
                    self.done.skip(&event::name(event.kind));
                }
                Ok(())
            }
            _ => self.returned(event, tid, pid),
        }
    }

    fn dropped(&mut self, event: &Event<'_>) -> Result<(), ImportError> {
        // One that ended without having begun began before the capture.
        self.drops += u64::from(event.kind == kind::DROP_BEGIN || !self.dropping);
        self.dropping = event.kind == kind::DROP_BEGIN;
        let boot_ns = event.unix_ns.saturating_sub(self.offset);
        let is_due = self.told_drops == 0 || boot_ns.saturating_sub(self.told_ns) >= LOSS_EVERY_NS;
        if is_due { self.lost(boot_ns, 0) } else { Ok(()) }
    }

    /// Says what is lost by now: of how many events, the capture does not tell, so that each time counts as one; `damaged` beside them.
    pub(super) fn lost(&mut self, boot_ns: u64, damaged: u64) -> Result<(), ImportError> {
        if self.drops == self.told_drops && damaged == 0 {
            return Ok(());
        }
        (self.told_drops, self.told_ns) = (self.drops, boot_ns);
        let loss = Loss { missing: self.drops, malformed: damaged, ..Loss::default() };
        if let Some(writing) = &mut self.writing {
            writing.facts(&[Fact { boot_ns, what: What::Loss(loss) }])?;
        }
        Ok(())
    }

    fn returned(&mut self, event: &Event<'_>, tid: u32, pid: u32) -> Result<(), ImportError> {
        let process = self.identity.known(pid);
        match self.calls.returned(event, tid, pid, &process) {
            Outcome::Act(act) => return self.act(event, tid, pid, &act),
            Outcome::Cwd(cwd) => {
                if let Some(process) = self.identity.process_mut(pid) {
                    process.cwd = cwd;
                }
            }
            Outcome::Uid(uid) => {
                if let Some(process) = self.identity.process_mut(pid) {
                    process.uid = uid;
                }
            }
            Outcome::Followed => {}
            Outcome::Skip(DAMAGED) => self.damaged(DAMAGED),
            Outcome::Skip(reason) => self.done.skip(reason),
            Outcome::Other => self.done.skip(&event::name(event.kind)),
        }
        Ok(())
    }

    fn act(&mut self, event: &Event<'_>, tid: u32, pid: u32, act: &Act) -> Result<(), ImportError> {
        let body = match act {
            Act::Open { path: name, flags, result } => {
                Body::Open(Open { path: path(name, true), flags: *flags, result: *result })
            }
            Act::Change(change) => Body::FileChange(FileChange {
                operation: change.operation,
                path: path(&change.path, true),
                new_path: path(&change.new_path, !change.new_path.is_empty()),
                mode: change.mode,
                uid: u32::MAX,
                gid: u32::MAX,
                flags: change.flags,
                result: change.result,
                ..FileChange::default()
            }),
            Act::Network(network) => match network.operation {
                NetworkOperation::Socket => Body::Socket(*network),
                NetworkOperation::Bind => Body::Bind(*network),
                _ => Body::Connect(*network),
            },
            Act::Trace { request, of } => return self.trace(event, tid, pid, *request, *of),
        };
        self.record(event, tid, pid, body)
    }

    /// What the capturing program was told of a container.
    pub fn container(&mut self, kind: u32, content: &[u8]) {
        let Some(Some(event)) = event_of(kind, content) else { return };
        if !matches!(event.kind, kind::CONTAINER_JSON | kind::CONTAINER_JSON_LARGE) {
            return;
        }
        match event.text(0).map(serde_json::from_slice) {
            Some(Ok(told)) => self.identity.describe(told),
            _ => self.done.skip("descriptions of containers that cannot be read"),
        }
    }

    fn fact(&mut self, unix_ns: u64, what: What) -> Result<(), ImportError> {
        let boot_ns = unix_ns.saturating_sub(self.offset);
        if let Some(writing) = &mut self.writing {
            writing.facts(&[Fact { boot_ns, what }])?;
        }
        Ok(())
    }

    pub(super) fn record(&mut self, event: &Event<'_>, tid: u32, pid: u32, body: Body<'_>) -> Result<(), ImportError> {
        let process = self.identity.known(pid);
        if let Some(workload) = self.identity.untold(process.slot, &self.machine.node) {
            self.fact(event.unix_ns, What::WorkloadNamed(process.slot, workload))?;
        }
        let header = RecordHeader {
            slot: process.slot.0,
            boot_ns: event.unix_ns.saturating_sub(self.offset),
            task_start_ns: process.start_ns,
            parent_start_ns: process.parent_start_ns,
            tgid: pid,
            tid,
            parent_tgid: process.parent,
            uid: process.uid,
            euid: process.uid,
            fsuid: process.uid,
            gid: process.gid,
            phase: process.phase,
            comm: process.comm,
            ..RecordHeader::default()
        };
        if let Some(writing) = &mut self.writing {
            if writing.record(header, body)? {
                self.done.records += 1;
            } else {
                self.damaged("longer than a record");
            }
        }
        Ok(())
    }
}
