//! Processes that are made, execute, trace each other and end.
//!
//! Limit: in a container, whom another process calls by a number of the container's own PID namespace is known with his first event only: who is
//! traced before he ever ran is counted, and no record.

use std::io::Write;

use palisade_domain::Slot;
use palisade_kernel_abi::record::{Body, Exec, Exit, Fork, Phase, Ptrace, Script, Text};

use super::{
    DAMAGED,
    event::Event,
    identity::{self, Process},
    importing::Importing,
};
use crate::import::{
    ImportError,
    writing::{path, text},
};

impl<W: Write> Importing<W> {
    pub(super) fn trace(
        &mut self,
        event: &Event<'_>,
        tid: u32,
        pid: u32,
        request: u32,
        of: u32,
    ) -> Result<(), ImportError> {
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
    pub(super) fn fork(&mut self, event: &Event<'_>, tid: u32) -> Result<(), ImportError> {
        let (Some(result), Some(pid), Some(parent_tid)) = (event.signed(0), event.pid(4), event.pid(5)) else {
            self.damaged(DAMAGED);
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

    pub(super) fn exec(&mut self, event: &Event<'_>, tid: u32, pid_of_thread: u32) -> Result<(), ImportError> {
        let mut process = self.identity.known(pid_of_thread);
        let asked = self.calls.executed(tid, pid_of_thread, &process);
        match event.signed(0) {
            Some(0) => {}
            Some(_) => {
                self.done.skip("executions that failed");
                return Ok(());
            }
            None => {
                self.damaged(DAMAGED);
                return Ok(());
            }
        }
        let (Some(first), Some(others), Some(pid)) = (event.text(1), event.bytes(2), event.pid(4)) else {
            self.damaged(DAMAGED);
            return Ok(());
        };
        // Version by version: the file itself, what was asked for, and what the program is told that it is.
        let told = event.text(27).filter(|path| path.starts_with(b"/"));
        // The file itself is a script's interpreter; a name that leads to it may be a link.
        let is_itself = told.is_some_and(|told| told == asked.path);
        let executable = match told {
            Some(told) => told.to_vec(),
            None if asked.path == b"/proc/self/exe" => process.executable.clone(),
            None if asked.path.is_empty() => absolute(first).to_vec(),
            None => asked.path,
        };
        let slot = event.bytes(14).map_or(process.slot, |cgroups| self.identity.slot_of(cgroups));
        process.phase = match slot {
            Slot::HOST => Phase::None,
            // Its part ends when it executes something else.
            _ if asked.is_itself && process.phase != Phase::Workload => Phase::Runtime,
            _ => Phase::Workload,
        };
        process.slot = slot;
        process.uid = event.u32(26).filter(|uid| *uid != u32::MAX).unwrap_or(process.uid);
        process.comm = event.text(13).map_or(process.comm, identity::comm);
        process.cwd = event.text(6).filter(|cwd| !cwd.is_empty()).map_or(process.cwd, identity::kept);
        process.executable = identity::kept(&executable);
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
            script: if is_itself { Script::None } else { Script::Untold },
        };
        self.record(event, pid, pid, Body::Exec(exec))
    }

    pub(super) fn exit(&mut self, event: &Event<'_>, tid: u32, pid: u32) -> Result<(), ImportError> {
        self.calls.thread_ended(tid);
        if !self.identity.ended(tid) {
            self.done.skip("threads that ended");
            return Ok(());
        }
        match event.result(0) {
            Some(status) => self.record(event, tid, pid, Body::Exit(Exit { status }))?,
            None => self.damaged(DAMAGED),
        }
        self.calls.ended(pid);
        self.identity.remove(pid);
        Ok(())
    }
}

/// A name that begins at the root, or nothing.
#[must_use]
pub fn absolute(name: &[u8]) -> &[u8] {
    if name.starts_with(b"/") { name } else { b"" }
}
