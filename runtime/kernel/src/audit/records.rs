//! Denials as records: the act is walked by the blob of the container's policy once more, so that the record names rule and generation.
//!
//! Limits: the audit record has the task's number, and everything else of the task is read from `/proc` after the act: of one that has ended
//! only number and name are known. What a task was denied under a policy that was replaced before its record was read is named by the new one.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use palisade_kernel_abi::{
    blob::{self, Blob, Decision, Effect},
    record::{self, Body, DecisionTaken, FailReason, Outcome, Record, RecordWriter, STRING_MAX, Text, Tier},
};
use palisade_world::{Loss, RecordBatch, RecordSource, RecordSourceError};

use super::{
    account::Account,
    body,
    events::{AuditEvents, AuditLosses, Heard},
    held::Held,
};
use crate::fanotify::{Doer, doing};

/// What one reading takes off the socket at most, whatever it is: who makes many records that are none of ours must not keep the reader here.
const HEARD_MAX: u32 = 4 * RecordBatch::MAX_RECORDS;

/// An LSM that denies by policies of ours.
pub trait Denials {
    /// What a text of its says.
    type Line;
    /// Why a text does not read.
    type Error: fmt::Display;
    /// Its own.
    const TIER: Tier;

    /// It outlives who reads.
    fn account(&self) -> &Mutex<Account>;

    /// Reads a text; `None` where nothing is owed for it: it is another's, or of an act that no policy is about.
    ///
    /// # Errors
    /// Where it is ours and does not read.
    fn read(&self, text: &[u8]) -> Result<Option<Self::Line>, Self::Error>;

    /// Whose line it is, also a moment after the container was released; `None`: of none of this node's, or not by a policy of ours.
    fn find(&self, line: &Self::Line) -> Option<Held>;

    /// What each LSM tells of an act.
    fn act<'a>(&self, line: &'a Self::Line) -> Act<'a>;

    /// What the policy says of the act by this executable, at a terminal or not.
    fn judge(&self, line: &Self::Line, policy: Option<&Blob>, executable: Option<&[u8]>, tty: bool) -> Decision;

    /// What was done, in words of records.
    fn body<'a>(&self, line: &'a Self::Line, cwd: Text<'a>, tty: u32) -> Body<'a>;
}

/// What is told of an act, whatever it was about.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// It did not happen.
    pub denied: bool,
    /// The acting task, in the host's numbers.
    pub pid: u32,
    /// Its name.
    pub comm: &'a [u8],
    /// The family that decides it.
    pub family: blob::Family,
}

/// One LSM's denials, from the audit stream.
#[derive(Debug)]
pub struct AuditRecords<D> {
    events: AuditEvents,
    losses: Option<AuditLosses>,
    denials: Arc<D>,
    proc: OwnedFd,
    tick_nanos: u64,
    writer: RecordWriter,
}

impl<D: Denials> AuditRecords<D> {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the kernel's audit cannot be heard.
    pub fn open(denials: Arc<D>) -> io::Result<Self> {
        Self::of(AuditEvents::open()?, Some(AuditLosses::open()?), denials)
    }

    pub(crate) fn of(events: AuditEvents, losses: Option<AuditLosses>, denials: Arc<D>) -> io::Result<Self> {
        Ok(Self {
            events,
            losses,
            denials,
            proc: doing::proc_directory()?,
            tick_nanos: doing::tick_nanos(),
            writer: RecordWriter::new(Vec::with_capacity(record::MAX_LEN)),
        })
    }
}

fn account<D: Denials>(denials: &D) -> MutexGuard<'_, Account> {
    denials.account().lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Denials + Send + Sync> RecordSource for AuditRecords<D> {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        self.read_at_most(HEARD_MAX, batch)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        match self.losses.as_mut().map(AuditLosses::ask) {
            Some(Ok(Some(dropped))) => account(&*self.denials).set_dropped(dropped),
            Some(Ok(None)) | None => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "how many denials the kernel's audit drops is not known");
                self.losses = None;
            }
        }
        Ok(account(&*self.denials).loss())
    }
}

impl<D: Denials> AuditRecords<D> {
    fn read_at_most(&mut self, datagrams: u32, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        batch.clear();
        for _ in 0..datagrams {
            if batch.records == RecordBatch::MAX_RECORDS {
                break;
            }
            let heard = self.events.hear();
            match heard.map_err(|source| RecordSourceError { what: "audit socket", source })? {
                None => return Ok(false),
                Some(Heard::Other) => {}
                Some(Heard::Lost) => account(&*self.denials).count_lost(),
                Some(Heard::Record(text)) => {
                    let line = self.denials.read(text);
                    self.take(line, batch);
                }
            }
        }
        Ok(true)
    }

    /// As if the kernel had said it.
    #[cfg(test)]
    pub(crate) fn hear(&mut self, text: &[u8], batch: &mut RecordBatch) {
        let line = self.denials.read(text);
        self.take(line, batch);
    }

    fn take(&mut self, line: Result<Option<D::Line>, D::Error>, batch: &mut RecordBatch) {
        match line {
            Ok(Some(line)) => self.write(&line, batch),
            Ok(None) => {}
            Err(error) => {
                if account(&*self.denials).count_malformed() {
                    tracing::warn!(%error, tier = ?D::TIER, "an audit record of a denial of ours does not read");
                }
            }
        }
    }

    fn write(&mut self, line: &D::Line, batch: &mut RecordBatch) {
        // Of a container that was released long ago, or of another node's.
        let Some(held) = self.denials.find(line) else { return };
        let act = self.denials.act(line);
        let doer = Doer { slot: held.slot.0, cgroup: held.cgroup, tid: act.pid, phase: record::Phase::Workload };
        let (mut exe, mut cwd) = ([0; STRING_MAX], [0; STRING_MAX]);
        let executable = doing::link(self.proc.as_fd(), act.pid, "exe", &mut exe);
        let tty = doing::terminal(self.proc.as_fd(), act.pid);
        let decision = self.denials.judge(line, held.blob.as_deref(), executable, tty != 0);
        let cwd = doing::link(self.proc.as_fd(), act.pid, "cwd", &mut cwd);
        let cwd = cwd.map_or(body::UNREAD, body::path);
        let body = self.denials.body(line, cwd, tty);
        let mut account = account(&*self.denials);
        let (producer, number) = account.number();
        let header = doing::header(self.proc.as_fd(), &doer, producer, number, self.tick_nanos);
        let header = if header.tgid == 0 { of_ended(header, act) } else { header };
        self.writer.clear();
        match self.writer.write(&Record { header, body, decision: Some(taken(D::TIER, act, &held, decision)) }) {
            Ok(_) => {
                batch.bytes.extend_from_slice(self.writer.bytes());
                batch.records += 1;
            }
            // Its number is taken already.
            Err(error) => {
                if account.uncount() {
                    tracing::warn!(?error, tier = ?D::TIER, "a denial has no record");
                }
            }
        }
    }
}

fn taken(tier: Tier, act: Act<'_>, held: &Held, decision: Decision) -> DecisionTaken {
    DecisionTaken {
        policy: held.number,
        generation: held.generation.0,
        word: decision.to_word().unwrap_or(decision.effect as u32),
        tier,
        outcome: match (act.denied, decision.effect) {
            (true, _) => Outcome::Denied,
            (false, Effect::Block) => Outcome::Unenforceable,
            (false, _) => Outcome::Observed,
        },
        fail_reason: FailReason::None,
        family: match act.family {
            blob::Family::Process => record::Family::Process,
            blob::Family::File => record::Family::File,
            blob::Family::Socket => record::Family::Socket,
            blob::Family::Connect => record::Family::Connect,
            blob::Family::Ptrace => record::Family::Ptrace,
            blob::Family::Capability => record::Family::Capability,
            blob::Family::Syscall => record::Family::Syscall,
            blob::Family::Dns => record::Family::Dns,
            blob::Family::Preset => record::Family::Preset,
        },
    }
}

/// What the line alone says of a task that has ended.
fn of_ended(header: record::Header, act: Act<'_>) -> record::Header {
    let mut comm = [0; 16];
    comm.iter_mut().zip(act.comm).for_each(|(to, byte)| *to = *byte);
    record::Header { tgid: act.pid, comm, ..header }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apparmor::Profiles, audit::forged};

    fn records(events: AuditEvents) -> AuditRecords<Profiles> {
        AuditRecords::of(events, None, Arc::new(Profiles::without_apparmor())).unwrap()
    }

    #[test]
    fn unit_audit_reader_leaves_the_rest_of_many_that_are_none_of_ours_to_its_next_turn() {
        let (events, forger) = forged::forgeable();
        let (mut records, mut batch) = (records(events), RecordBatch::default());
        (0..5).for_each(|_| forged::send(&forger, b"not a record of an LSM"));
        assert!(records.read_at_most(3, &mut batch).unwrap(), "two are left");
        assert!(!records.read_at_most(3, &mut batch).unwrap());
        assert_eq!(records.loss().unwrap().produced.values().sum::<u64>(), 0, "none of them was a record of ours");
    }

    #[test]
    fn unit_denied_change_of_profile_is_no_lost_record_and_a_line_that_does_not_read_is() {
        let (mut records, mut batch) = (records(forged::forgeable().0), RecordBatch::default());
        let mut take = |text: &str| {
            records.hear(text.as_bytes(), &mut batch);
            assert_eq!(batch.records, 0);
            records.loss().unwrap().counts.values().sum::<u64>()
        };
        let leaves = "apparmor=\"DENIED\" operation=\"change_profile\" profile=\"palisade-c1\" name=\"unconfined\" pid=7 comm=\"sh\"";
        assert_eq!(take(leaves), 0);
        assert_eq!(take(&leaves.replace("change_profile", "capable").replace("pid=7", "capability=1")), 1);
    }
}
