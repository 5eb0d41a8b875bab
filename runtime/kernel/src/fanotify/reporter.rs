//! Records of what was refused and audited.
//!
//! Invariant: every record takes a number *before* it is sent, and the number is in shared memory: what does not arrive is
//! counted as lost, even when this process is killed in between. Sending never waits: a process is waiting for its answer.
//!
//! What is not known here and left out: an exec's arguments (not copied yet), an open's flags and result (not opened yet; a
//! refused open returns `-EPERM`, an audited one is recorded with 0 and may still fail for another reason).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use palisade_kernel_abi::{
    blob::{Decision, Effect, Family},
    record::{
        self, Body, DecisionTaken, Exec, FailReason, Open, Outcome, Record, RecordWriter, STRING_MAX, Script, Text,
        Tier,
    },
};

use super::{
    counters::{Counters, Page, count},
    doing::{self, Doer},
    mounts::ProcName,
    slots::Policy,
    sys,
    tasks::{Phase, Stat},
};

/// An act that is worth a record.
#[derive(Debug)]
pub(super) struct Deed<'a> {
    /// Whose.
    pub slot: u32,
    /// Inode number of the admitted cgroup.
    pub cgroup: u64,
    /// The thread.
    pub tid: u32,
    /// Exec or open.
    pub family: Family,
    /// Whose code.
    pub phase: Phase,
    /// The file.
    pub path: &'a [u8],
}

/// Writes and sends records.
#[derive(Debug)]
pub(super) struct Reporter {
    socket: OwnedFd,
    counters: Counters,
    producer: u32,
    tick_nanos: u64,
    writer: RecordWriter,
}

impl Reporter {
    pub(super) fn new(socket: OwnedFd, counters: Counters, producer: u32) -> Self {
        let tick_nanos = doing::tick_nanos();
        Self { socket, counters, producer, tick_nanos, writer: RecordWriter::new(Vec::with_capacity(record::MAX_LEN)) }
    }

    /// The numbers that the node reads.
    pub(super) fn page(&self) -> &Page {
        self.counters.page()
    }

    /// One act had no name.
    pub(super) fn count_unnamed(&self) {
        count(&self.page().unnamed);
    }

    /// Records an act that the policy refused or audits.
    pub(super) fn report(
        &mut self,
        proc: BorrowedFd<'_>,
        deed: &Deed<'_>,
        policy: &Policy,
        decision: Decision,
        fail_reason: FailReason,
    ) {
        let page = self.counters.page();
        let sequence = page.produced.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let exec = deed.family == Family::Process;
        let lost = if exec { &page.lost_exec } else { &page.lost_open };
        let refused = decision.effect == Effect::Block;
        let mut cwd_buffer = [0; STRING_MAX];
        let body = if exec {
            let cwd = sys::read_link(proc, ProcName::of(deed.tid, "cwd").as_c_str(), &mut cwd_buffer);
            let cwd = cwd.map_or(Text { unreadable: true, ..Text::default() }, text);
            Body::Exec(Exec {
                path: text(deed.path),
                cwd,
                argument_bytes: Text { unreadable: true, ..Text::default() },
                argument_count: 0,
                tty: Stat::read(proc, deed.tid).unwrap_or_default().tty,
                // The event is of the file that was opened, which may be a script or one's interpreter.
                script: Script::Untold,
            })
        } else {
            Body::Open(Open { path: text(deed.path), flags: 0, result: if refused { -libc::EPERM } else { 0 } })
        };
        let taken = DecisionTaken {
            policy: policy.number,
            generation: policy.generation,
            word: decision.to_word().unwrap_or(decision.effect as u32),
            tier: Tier::Fanotify,
            outcome: if refused { Outcome::Denied } else { Outcome::Observed },
            fail_reason,
            family: if exec { record::Family::Process } else { record::Family::File },
        };
        let phase = match deed.phase {
            Phase::Runtime => record::Phase::Runtime,
            Phase::Workload => record::Phase::Workload,
        };
        let doer = Doer { slot: deed.slot, cgroup: deed.cgroup, tid: deed.tid, phase };
        let header = doing::header(proc, &doer, self.producer, sequence, self.tick_nanos);
        self.writer.clear();
        let written = self.writer.write(&Record { header, body, decision: Some(taken) });
        if written.is_err() || sys::send(self.socket.as_fd(), self.writer.bytes()).is_err() {
            count(lost);
        }
    }
}

/// A string of a record; a path keeps its end.
fn text(bytes: &[u8]) -> Text<'_> {
    let start = bytes.len().saturating_sub(STRING_MAX);
    Text { bytes: &bytes[start..], cut: start > 0, ..Text::default() }
}
