//! A capture of sysdig or Falco as a trace.
//!
//! What is read: [`blocks`], [`start`], [`event`]; format 1 of the second generation of events, which sysdig writes since 2019. Older events and lists of
//! processes are counted and said, for no capture of them was at hand to hold a reader to.
//!
//! Invariant: see [`super`]: what an event does not tell is left empty. In particular a file has the name that the program gave, made whole with a
//! directory that the capture told of, and marked as the caller's; no name is looked up.
//!
//! Clock: a trace's is the time since the machine's boot. Where a capture does not say when that was, its first event is one second after it.
//!
//! A capture is read twice: what a container is called stands behind its first acts, for the capturing program had to ask somebody.
//!
//! A file that is cut or damaged is read to its last whole block, and what it lacks says so.

mod blocks;
mod calls;
mod event;
mod identity;
mod start;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Seek, Write},
};

use palisade_domain::{Slot, Visibility, VisibilityClass};
use palisade_kernel_abi::record::{
    Body, Exec, Exit, FileChange, Fork, Header as RecordHeader, Open, Phase, Ptrace, Text, VERSION,
};
use palisade_wire::trace::{Fact, Header, Process as Listed, What};

use self::{
    blocks::{Blocks, Ending},
    calls::{Act, Calls, Outcome},
    event::{Event, kind},
    identity::{Identity, Process},
    start::{Machine, Thread},
};
use super::{
    ImportError, Imported,
    writing::{Writing, path, text},
};

/// Boot time of the first event where the capture does not tell: some time must have passed before it.
const BEGIN_NS: u64 = 1_000_000_000;
/// Reasons, the most frequent ones, that are told.
const TOLD_REASONS: usize = 24;
/// Block types of events: whether flags (4 bytes) come before the event, and whether its lengths are large.
const EVENTS: [(u32, bool, bool); 4] =
    [(0x216, false, false), (0x217, true, false), (0x221, false, true), (0x222, true, true)];
/// Events without a number of parameters.
const OLDER_EVENTS: [u32; 3] = [0x204, 0x208, 0x8010_abcd];
const CPU: usize = 2;
const FLAGS: usize = 4;
/// What ends a container runtime's own part in a container is that it executes something else than itself.
const ITSELF: &[u8] = b"/proc/self/";
const DAMAGED: &str = "events with fewer parameters than their type has";

const LACKS: [&str; 6] = [
    "decisions and policies: a replay has no alerts, and a rehearsal is by the policies that it is given",
    "the files behind names: links are not followed, and a name is the one that the program gave",
    "starts of the processes that were there before it began",
    "real users: it has the effective one, and after a set-uid program the one from before it, if its version does not tell",
    "owners of files and terminals: rules with ownerOnly or pts cannot be rehearsed",
    "containers that a process was put into without executing anything there",
];

/// Reads a capture, writes a trace.
///
/// # Errors
/// See [`ImportError`].
pub fn import<W: Write>(mut from: impl BufRead + Seek, to: W) -> Result<(W, Imported), ImportError> {
    let begin = from.stream_position()?;
    let mut importing = Importing::new(to);
    let mut blocks = Blocks::open(&mut from).map_err(refused)?;
    while let Some((kind, content)) = blocks.next_block()? {
        importing.container(kind, content);
    }
    drop(blocks);
    from.seek(io::SeekFrom::Start(begin))?;
    let mut blocks = Blocks::open(&mut from).map_err(refused)?;
    loop {
        let at = blocks.at();
        let Some((kind, content)) = blocks.next_block()? else { break };
        importing.block(at, kind, content)?;
    }
    importing.end(&blocks)
}

fn refused(error: io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::InvalidData => ImportError::NoCapture(error.to_string()),
        _ => ImportError::Io(error),
    }
}

/// The event of a block of such; none in it where it is damaged, none at all where it is another block.
fn event_of(kind: u32, content: &[u8]) -> Option<Option<Event<'_>>> {
    let (_, has_flags, is_large) = EVENTS.iter().find(|(events, ..)| *events == kind)?;
    let before = CPU + if *has_flags { FLAGS } else { 0 };
    Some(content.get(before..).and_then(|bytes| Event::read(bytes, *is_large)))
}

struct Importing<W: Write> {
    to: Option<W>,
    writing: Option<Writing<W>>,
    machine: Machine,
    /// Wall clock less boot time.
    offset: u64,
    identity: Identity,
    calls: Calls,
    /// Processes that are told when the trace begins.
    listed: Vec<Listed>,
    /// Blocks of types that are not read, by type.
    unread: BTreeMap<u32, u64>,
    older_events: u64,
    older_lists: u64,
    /// Times that the capturing program was too slow and began to leave events out.
    drops: u64,
    done: Imported,
}

impl<W: Write> Importing<W> {
    fn new(to: W) -> Self {
        Self {
            to: Some(to),
            writing: None,
            machine: Machine::default(),
            offset: 0,
            identity: Identity::default(),
            calls: Calls::default(),
            listed: Vec::new(),
            unread: BTreeMap::new(),
            older_events: 0,
            older_lists: 0,
            drops: 0,
            done: Imported::default(),
        }
    }

    /// The block that begins at byte `at` of the uncompressed file.
    fn block(&mut self, at: u64, kind: u32, content: &[u8]) -> Result<(), ImportError> {
        let place = || format!("byte {at}");
        if let Some(event) = event_of(kind, content) {
            match event {
                Some(event) => self.event(&event)?,
                None => self.done.skip_at(&place(), "a damaged event"),
            }
        } else if kind == start::MACHINE {
            match Machine::read(content) {
                Some(machine) if self.writing.is_none() => self.machine = machine,
                Some(_) => {}
                None => self.done.skip_at(&place(), "a damaged description of the machine"),
            }
        } else if kind == start::PROCESSES {
            for thread in start::processes(content) {
                match thread {
                    Some(thread) => self.thread(&thread)?,
                    None => self.done.skip_at(&place(), "a damaged list of processes"),
                }
            }
        } else if kind == start::DESCRIPTORS {
            match start::directories(content) {
                Some((tid, directories)) => {
                    let pid = self.identity.pid(tid);
                    directories.iter().for_each(|(descriptor, name)| self.calls.is_open(pid, *descriptor, name));
                }
                None => self.done.skip_at(&place(), "a damaged list of descriptors"),
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
                cwd: thread.cwd.to_vec(),
                slot,
                phase: if slot == Slot::HOST { Phase::None } else { Phase::Workload },
                own_pid: thread.own_pid,
                executable: executable.to_vec(),
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
        if self.writing.is_some() {
            return Ok(());
        }
        self.listed.push(listed);
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
            program: "imported from a capture of sysdig or Falco".into(),
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
        if matches!(event.kind, kind::CONTAINER_JSON | kind::CONTAINER_JSON_LARGE) {
            return Ok(());
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
            kind::DROP_BEGIN | kind::DROP_END => {
                self.drops += u64::from(event.kind == kind::DROP_BEGIN);
                Ok(())
            }
            entered if entered % 2 == 0 => {
                if !self.calls.entered(event, tid, pid) {
                    self.done.skip(&event::name(event.kind));
                }
                Ok(())
            }
            _ => self.returned(event, tid, pid),
        }
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
                palisade_kernel_abi::record::NetworkOperation::Socket => Body::Socket(*network),
                palisade_kernel_abi::record::NetworkOperation::Bind => Body::Bind(*network),
                _ => Body::Connect(*network),
            },
            Act::Trace { request, of } => return self.trace(event, tid, pid, *request, *of),
        };
        self.record(event, tid, pid, body)
    }

    fn trace(&mut self, event: &Event<'_>, tid: u32, pid: u32, request: u32, of: u32) -> Result<(), ImportError> {
        let slot = self.identity.known(pid).slot;
        let target_tid = if of == 0 { Some(tid) } else { self.identity.by_own_pid(slot, of) };
        let Some(target_tid) = target_tid else {
            self.done.skip("ptrace of a process that nobody told of");
            return Ok(());
        };
        let target_tgid = self.identity.pid(target_tid);
        let target = self.identity.known(target_tgid);
        let ptrace = Ptrace {
            target_exe: path(&target.executable, false),
            request,
            target_tgid,
            target_tid,
            target_slot: target.slot.0,
            target_start_ns: target.start_ns,
        };
        self.record(event, tid, pid, Body::Ptrace(ptrace))
    }

    /// The new process tells itself what there is to know of it: its parent's event has its number in the parent's own namespace only.
    fn fork(&mut self, event: &Event<'_>, tid: u32) -> Result<(), ImportError> {
        let (Some(result), Some(pid), Some(parent_tid)) = (event.signed(0), event.pid(4), event.pid(5)) else {
            self.done.skip(DAMAGED);
            return Ok(());
        };
        match result {
            0 if pid != tid => {
                self.identity.put_thread(tid, pid);
                self.done.skip("threads that were made");
                return Ok(());
            }
            0 => {}
            1.. => return Ok(()),
            _ => {
                self.done.skip("forks that failed");
                return Ok(());
            }
        }
        let parent_pid = self.identity.pid(parent_tid);
        let parent = self.identity.known(parent_pid);
        let slot = event.bytes(14).map_or(parent.slot, |cgroups| self.identity.slot_of(cgroups));
        let phase = match (slot, parent.phase) {
            (Slot::HOST, _) => Phase::None,
            (_, Phase::Workload) if parent.slot == slot => Phase::Workload,
            _ => Phase::Runtime,
        };
        let child = Process {
            start_ns: event.unix_ns.saturating_sub(self.offset),
            parent: parent_pid,
            parent_start_ns: parent.start_ns,
            uid: event.u32(16).unwrap_or(parent.uid),
            gid: event.u32(17).unwrap_or(parent.gid),
            comm: event.text(13).map_or(parent.comm, identity::comm),
            slot,
            phase,
            own_pid: event.pid(19).unwrap_or_default(),
            ..parent
        };
        let fork = Fork {
            child_tgid: pid,
            child_tid: tid,
            child_start_ns: child.start_ns,
            child_own_tgid: child.own_pid,
            child_pid_ns: 0,
        };
        self.identity.put(pid, child);
        self.record(event, parent_tid, parent_pid, Body::Fork(fork))
    }

    fn exec(&mut self, event: &Event<'_>, tid: u32, pid_of_thread: u32) -> Result<(), ImportError> {
        let mut process = self.identity.known(pid_of_thread);
        let asked = self.calls.executed(event, tid, pid_of_thread, &process);
        match event.signed(0) {
            Some(0) => {}
            result => {
                self.done.skip(if result.is_some() { "executions that failed" } else { DAMAGED });
                return Ok(());
            }
        }
        let (Some(first), Some(others), Some(pid)) = (event.text(1), event.bytes(2), event.pid(4)) else {
            self.done.skip(DAMAGED);
            return Ok(());
        };
        // Version by version: the file itself, what was asked for, and what the program is told that it is.
        let told = event.text(27).filter(|path| path.starts_with(b"/"));
        let is_itself = asked.starts_with(ITSELF);
        let executable = match told {
            Some(told) => told.to_vec(),
            None if asked == b"/proc/self/exe" => process.executable.clone(),
            None if asked.is_empty() => absolute(first).to_vec(),
            None => asked,
        };
        let slot = event.bytes(14).map_or(process.slot, |cgroups| self.identity.slot_of(cgroups));
        process.phase = match slot {
            Slot::HOST => Phase::None,
            _ if is_itself && process.phase != Phase::Workload => Phase::Runtime,
            _ => Phase::Workload,
        };
        process.slot = slot;
        process.uid = event.u32(26).filter(|uid| *uid != u32::MAX).unwrap_or(process.uid);
        process.comm = event.text(13).map_or(process.comm, identity::comm);
        process.cwd = event.text(6).filter(|cwd| !cwd.is_empty()).map_or(process.cwd, <[u8]>::to_vec);
        process.executable.clone_from(&executable);
        if process.parent == 0 {
            process.parent = event.pid(5).map(|parent| self.identity.pid(parent)).unwrap_or_default();
            process.parent_start_ns = self.identity.process(process.parent).map_or(0, |parent| parent.start_ns);
        }
        let cwd = process.cwd.clone();
        self.identity.put(pid, process);
        let arguments = [first, b"\0", others].concat();
        let argument_count = arguments.split_inclusive(|byte| *byte == 0).count();
        let unreadable = executable.is_empty();
        let exec = Exec {
            path: Text { unreadable, ..path(&executable, told.is_none()) },
            cwd: path(&cwd, false),
            argument_bytes: text(&arguments),
            argument_count: u32::try_from(argument_count).unwrap_or(u32::MAX),
            tty: 0,
        };
        self.record(event, pid, pid, Body::Exec(exec))
    }

    fn exit(&mut self, event: &Event<'_>, tid: u32, pid: u32) -> Result<(), ImportError> {
        self.calls.thread_ended(tid);
        if !self.identity.ended(tid) {
            self.done.skip("threads that ended");
            return Ok(());
        }
        match event.result(0) {
            Some(status) => self.record(event, tid, pid, Body::Exit(Exit { status }))?,
            None => self.done.skip(DAMAGED),
        }
        self.calls.ended(pid);
        self.identity.remove(pid);
        Ok(())
    }

    /// What the capturing program was told of a container.
    fn container(&mut self, kind: u32, content: &[u8]) {
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

    fn record(&mut self, event: &Event<'_>, tid: u32, pid: u32, body: Body<'_>) -> Result<(), ImportError> {
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
                self.done.skip("longer than a record");
            }
        }
        Ok(())
    }

    fn end(mut self, blocks: &Blocks<'_>) -> Result<(W, Imported), ImportError> {
        let Some(writing) = self.writing.take() else {
            let older = if self.older_events > 0 { ", but for those of before 2019, which are not read" } else { "" };
            return Err(ImportError::NoCapture(format!("there is no event in it{older}")));
        };
        self.done.workloads = self.identity.workloads();
        self.done.lacks = LACKS.map(str::to_owned).to_vec();
        let lacks = self.lacks(blocks.ending());
        self.done.lacks.extend(lacks);
        Ok((writing.finish()?, self.done))
    }

    /// What this one lacks.
    fn lacks(&self, ending: Ending) -> Vec<String> {
        let mut lacks = Vec::new();
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                lacks.push(format!("{number} {what}"));
            }
        };
        count(self.drops, "times the capturing program left events out, of which it does not tell how many");
        count(self.calls.relative(), "directories of relative names: those were opened before, or inherited");
        count(self.identity.unfit() + self.calls.unfit(), "entries that the tables of an import have no room for");
        count(self.older_events, "events of before 2019");
        count(self.older_lists, "lists of processes of before 2019: who was there when it began is not known");
        for (kind, number) in &self.unread {
            count(*number, &format!("blocks of the type {kind:#x}, which is not known"));
        }
        if self.machine.booted_ns == 0 {
            lacks.push("when the machine was booted: times since then are made up, times of day are not".into());
        }
        match ending {
            Ending::Whole => {}
            Ending::Cut(at) => lacks.push(format!("what is behind byte {at}: it ends within a block")),
            Ending::Damaged(at) => lacks.push(format!("what is behind byte {at}: it is damaged there")),
        }
        let mut reasons: Vec<_> = self.done.reasons.iter().collect();
        reasons.sort_by_key(|(name, number)| (std::cmp::Reverse(**number), (*name).clone()));
        let told: Vec<String> =
            reasons.iter().take(TOLD_REASONS).map(|(name, number)| format!("{name} {number}")).collect();
        if !told.is_empty() {
            let rest = reasons.len().saturating_sub(TOLD_REASONS);
            let rest = if rest > 0 { format!(", {rest} more sorts") } else { String::new() };
            lacks.push(format!("{} events that become no record: {}{rest}", self.done.skipped, told.join(", ")));
        }
        lacks
    }
}

/// A name that begins at the root, or nothing.
fn absolute(name: &[u8]) -> &[u8] {
    if name.starts_with(b"/") { name } else { b"" }
}
