//! AppArmor's denials as records, like those of the kernel programs: the act is walked by the blob of the container's policy once more, so that
//! the record names rule and generation.
//!
//! Limits: the audit record has the task's number, and everything else of the task is read from `/proc` after the act: of one that has ended
//! only number and name are known. What a task was denied under a profile that was replaced before its record was read is named by the new one.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, MutexGuard, PoisonError},
};

use palisade_apparmor::{Line, LineError, Subject};
use palisade_kernel_abi::{
    blob::{Decision, Family},
    record::{
        self, Body, Capability, DecisionTaken, Exec, FailReason, FileChange, FileOperation, Network, NetworkOperation,
        Open, Outcome, Ptrace, Record, RecordWriter, STRING_MAX, Script, Text, Tier,
    },
};
use palisade_world::{Loss, RecordBatch, RecordSource, RecordSourceError};

use super::profiles::{Held, Profiles};
use crate::{
    audit::{Account, AuditEvents, AuditLosses, Heard, PRODUCER},
    fanotify::{Doer, doing},
};

/// `PTRACE_ATTACH`: which request it was, the line does not say.
const PTRACE_ATTACH: u32 = 16;

/// What one reading takes off the socket at most, whatever it is: who makes many records that are none of ours must not keep the reader here.
const HEARD_MAX: u32 = 4 * RecordBatch::MAX_RECORDS;

/// The stream.
#[derive(Debug)]
pub struct AppArmorRecords {
    events: AuditEvents,
    losses: Option<AuditLosses>,
    profiles: Arc<Profiles>,
    proc: OwnedFd,
    tick_nanos: u64,
    writer: RecordWriter,
}

impl AppArmorRecords {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the kernel's audit cannot be heard.
    pub fn open(profiles: Arc<Profiles>) -> io::Result<Self> {
        Ok(Self {
            events: AuditEvents::open()?,
            losses: Some(AuditLosses::open()?),
            profiles,
            proc: doing::proc_directory()?,
            tick_nanos: doing::tick_nanos(),
            writer: RecordWriter::new(Vec::with_capacity(record::MAX_LEN)),
        })
    }
}

fn account(profiles: &Profiles) -> MutexGuard<'_, Account> {
    profiles.account.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RecordSource for AppArmorRecords {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        self.read_at_most(HEARD_MAX, batch)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        match self.losses.as_mut().map(AuditLosses::ask) {
            Some(Ok(Some(dropped))) => account(&self.profiles).set_dropped(dropped),
            Some(Ok(None)) | None => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "how many denials the kernel's audit drops is not known");
                self.losses = None;
            }
        }
        Ok(account(&self.profiles).loss())
    }
}

impl AppArmorRecords {
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
                Some(Heard::Lost) => account(&self.profiles).count_lost(),
                Some(Heard::Record(text)) => {
                    let line = Line::parse(text);
                    self.take(line, batch);
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, line: Result<Line, LineError>, batch: &mut RecordBatch) {
        match line {
            Ok(line) => self.write(&line, batch),
            // Of an act that no policy is about, as a change of profile, nothing is owed: it is no record that was lost.
            Err(LineError::Other | LineError::Foreign | LineError::Unknown(_)) => {}
            Err(error) => {
                if account(&self.profiles).count_malformed() {
                    tracing::warn!(%error, "an audit record of a profile of ours does not read");
                }
            }
        }
    }

    fn write(&mut self, line: &Line, batch: &mut RecordBatch) {
        // Of a container that was released long ago, or of another node's.
        let Some(held) = self.profiles.find(&line.profile) else { return };
        let doer = Doer { slot: held.slot.0, cgroup: held.cgroup, tid: line.pid, phase: record::Phase::Workload };
        let (mut exe, mut cwd) = ([0; STRING_MAX], [0; STRING_MAX]);
        let executable = doing::link(self.proc.as_fd(), line.pid, "exe", &mut exe);
        let tty = doing::terminal(self.proc.as_fd(), line.pid);
        let decision = held.blob.as_ref().map_or(Decision::PERMIT, |blob| line.judge(blob, executable, tty != 0));
        let taken = taken(line, &held, decision);
        let cwd = doing::link(self.proc.as_fd(), line.pid, "cwd", &mut cwd);
        let cwd = cwd.map_or(Text { unreadable: true, ..Text::default() }, text);
        let body = body(line, cwd, tty);
        let mut account = account(&self.profiles);
        let header = doing::header(self.proc.as_fd(), &doer, PRODUCER, account.number(), self.tick_nanos);
        let header = if header.tgid == 0 { of_ended(header, line) } else { header };
        self.writer.clear();
        match self.writer.write(&Record { header, body, decision: Some(taken) }) {
            Ok(_) => {
                batch.bytes.extend_from_slice(self.writer.bytes());
                batch.records += 1;
            }
            // Its number is taken already.
            Err(error) => {
                if account.uncount() {
                    tracing::warn!(?error, "a denial by AppArmor has no record");
                }
            }
        }
    }
}

fn taken(line: &Line, held: &Held, decision: Decision) -> DecisionTaken {
    DecisionTaken {
        policy: held.number,
        generation: held.generation.0,
        word: decision.to_word().unwrap_or(decision.effect as u32),
        tier: Tier::AppArmor,
        outcome: if line.denied { Outcome::Denied } else { Outcome::Observed },
        fail_reason: FailReason::None,
        family: match line.family() {
            Family::Process => record::Family::Process,
            Family::Socket => record::Family::Socket,
            Family::Ptrace => record::Family::Ptrace,
            Family::Capability => record::Family::Capability,
            _ => record::Family::File,
        },
    }
}

/// What the line alone says of a task that has ended.
fn of_ended(header: record::Header, line: &Line) -> record::Header {
    let mut comm = [0; 16];
    comm.iter_mut().zip(&line.comm).for_each(|(to, byte)| *to = *byte);
    record::Header { tgid: line.pid, comm, ..header }
}

fn body<'a>(line: &'a Line, cwd: Text<'a>, tty: u32) -> Body<'a> {
    let result = |errno: i32| if line.denied { -errno } else { 0 };
    let unread = Text { unreadable: true, ..Text::default() };
    match &line.subject {
        Subject::File { path, executes: true, .. } => {
            // The hook is asked once, for the file that execve names: of an interpreter there is no line, and whether this file is a
            // script the line does not say.
            let script = Script::Untold;
            Body::Exec(Exec { path: text(path), cwd, argument_bytes: unread, argument_count: 0, tty, script })
        }
        Subject::File { path, writes, .. } => match change(&line.operation) {
            Some(operation) => Body::FileChange(FileChange {
                operation,
                path: text(path),
                uid: u32::MAX,
                gid: u32::MAX,
                result: result(libc::EACCES),
                ..FileChange::default()
            }),
            None => {
                let flags = if *writes { libc::O_WRONLY } else { libc::O_RDONLY };
                Body::Open(Open { path: text(path), flags: flags.unsigned_abs(), result: result(libc::EACCES) })
            }
        },
        Subject::Socket { domain, kind, protocol } => Body::Socket(Network {
            operation: NetworkOperation::Socket,
            domain: *domain,
            socket_type: *kind,
            protocol: *protocol,
            destination: None,
            user: false,
            result: result(libc::EACCES),
        }),
        Subject::Capability(number) => {
            Body::Capability(Capability { capability: u32::from(*number), result: result(libc::EPERM) })
        }
        Subject::Trace(_) => Body::Ptrace(Ptrace { target_exe: unread, request: PTRACE_ATTACH, ..Ptrace::default() }),
    }
}

/// The change that AppArmor's word for an operation means; `None` is an open.
fn change(operation: &str) -> Option<FileOperation> {
    Some(match operation {
        "mknod" => FileOperation::Mknod,
        "unlink" => FileOperation::Unlink,
        "rmdir" => FileOperation::Rmdir,
        "rename_src" | "rename_dest" => FileOperation::Rename,
        "link" => FileOperation::Link,
        "symlink" => FileOperation::Symlink,
        "mkdir" => FileOperation::Mkdir,
        "chmod" => FileOperation::Chmod,
        "chown" => FileOperation::Chown,
        "truncate" | "file_truncate" => FileOperation::Truncate,
        _ => return None,
    })
}

/// A path keeps its end.
fn text(bytes: &[u8]) -> Text<'_> {
    let start = bytes.len().saturating_sub(STRING_MAX);
    Text { bytes: &bytes[start..], cut: start > 0, ..Text::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::forged;

    fn records(events: AuditEvents) -> AppArmorRecords {
        AppArmorRecords {
            events,
            losses: None,
            profiles: Arc::new(Profiles::without_apparmor()),
            proc: doing::proc_directory().unwrap(),
            tick_nanos: doing::tick_nanos(),
            writer: RecordWriter::new(Vec::with_capacity(record::MAX_LEN)),
        }
    }

    #[test]
    fn unit_apparmor_reader_leaves_the_rest_of_many_that_are_none_of_ours_to_its_next_turn() {
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
        let leaves = "apparmor=\"DENIED\" operation=\"change_profile\" profile=\"palisade-c1\" name=\"unconfined\" pid=7 comm=\"sh\"";
        records.take(Line::parse(leaves.as_bytes()), &mut batch);
        assert_eq!(records.loss().unwrap().counts.values().sum::<u64>(), 0);
        let without_pid = leaves.replace("change_profile", "capable").replace("pid=7", "capability=1");
        records.take(Line::parse(without_pid.as_bytes()), &mut batch);
        assert_eq!(records.loss().unwrap().counts.values().sum::<u64>(), 1);
        assert_eq!(batch.records, 0);
    }
}
