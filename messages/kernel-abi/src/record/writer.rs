//! Writing records: the fanotify responder does, and tests do. The kernel's own writer is `bpf/include/emit.h`.

use std::{
    mem::{offset_of, size_of},
    net::IpAddr,
};

use super::{
    Body, CallNumber, DecisionTaken, Exec, Header, Network, Open, Ptrace, Record, Script, Text,
    codec::Act,
    layout::{
        ALIGN, HAS_DECISION, HEAD_SIZE, MAX_LEN, NETWORK_USER, RawDecision, RawExec, RawExit, RawFork, RawHead,
        RawNetwork, RawOpen, RawPtrace, RawSpan, SPAN_CUT, SPAN_UNREADABLE, SPAN_USER, STRING_MAX, VERSION,
    },
};

/// Why a record cannot be written; nothing of it is left in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordWriterError {
    /// A string is longer than the format carries: cut it, and say so in [`Text::cut`].
    #[error("string {field} has {len} bytes, {max} at most", max = STRING_MAX)]
    StringTooLong {
        /// Its C name.
        field: &'static str,
        /// Its length.
        len: usize,
    },
    /// The record is longer than the format carries.
    #[error("record of {len} bytes, {max} at most", max = MAX_LEN)]
    RecordTooLong {
        /// Its length.
        len: usize,
    },
    /// A string that says it could not be read has bytes.
    #[error("string {field} is unreadable and has bytes")]
    UnreadableBytes {
        /// Its C name.
        field: &'static str,
    },
}

/// Appends records to a buffer that keeps its memory between uses.
#[derive(Debug, Default)]
pub struct RecordWriter {
    bytes: Vec<u8>,
}

impl RecordWriter {
    /// Writes behind what `bytes` holds, which must be whole records or nothing.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer itself.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends one record; returns its length in bytes.
    ///
    /// # Errors
    /// See [`RecordWriterError`]; the buffer is then as it was.
    pub fn write(&mut self, record: &Record<'_>) -> Result<usize, RecordWriterError> {
        let start = self.bytes.len();
        let written = self.write_at(start, record);
        if written.is_err() {
            self.bytes.truncate(start);
        }
        written
    }

    fn write_at(&mut self, start: usize, record: &Record<'_>) -> Result<usize, RecordWriterError> {
        self.bytes.resize(start + HEAD_SIZE, 0);
        let body = start + HEAD_SIZE;
        match &record.body {
            Body::Exec(exec) => self.exec(start, body, exec)?,
            Body::Fork(fork) => {
                self.bytes.resize(body + size_of::<RawFork>(), 0);
                self.put(body + offset_of!(RawFork, child_tgid), fork.child_tgid.to_ne_bytes());
                self.put(body + offset_of!(RawFork, child_tid), fork.child_tid.to_ne_bytes());
                self.put(body + offset_of!(RawFork, child_start_ns), fork.child_start_ns.to_ne_bytes());
                self.put(body + offset_of!(RawFork, child_own_tgid), fork.child_own_tgid.to_ne_bytes());
                self.put(body + offset_of!(RawFork, child_pid_ns), fork.child_pid_ns.to_ne_bytes());
            }
            Body::Exit(exit) => {
                self.bytes.resize(body + size_of::<RawExit>(), 0);
                self.put(body + offset_of!(RawExit, status), exit.status.to_ne_bytes());
            }
            Body::Open(open) => self.open(start, body, open)?,
            Body::Socket(network)
            | Body::Connect(network)
            | Body::Bind(network)
            | Body::Accept(network)
            | Body::Send(network) => self.network(body, network),
            Body::Ptrace(ptrace) => self.ptrace(start, body, ptrace)?,
            Body::FileChange(act) => self.act(start, body, act)?,
            Body::Mount(act) => self.act(start, body, act)?,
            Body::Credentials(act) => self.act(start, body, act)?,
            Body::Signal(act) => self.act(start, body, act)?,
            Body::Module(act) => self.act(start, body, act)?,
            Body::Bpf(act) => self.act(start, body, act)?,
            Body::Namespace(act) => self.act(start, body, act)?,
            Body::Memfd(act) => self.act(start, body, act)?,
            Body::IoUring(act) => self.act(start, body, act)?,
            Body::ProcessAccess(act) => self.act(start, body, act)?,
            Body::Dns(act) => self.act(start, body, act)?,
            Body::Capability(act) => self.act(start, body, act)?,
            Body::Syscall(act) => self.act(start, body, act)?,
            Body::Folded(act) => self.act(start, body, act)?,
        }
        let unpadded = self.bytes.len() - start;
        let len = unpadded.next_multiple_of(ALIGN);
        let fits = u32::try_from(len).ok().filter(|_| len <= MAX_LEN);
        let len32 = fits.ok_or(RecordWriterError::RecordTooLong { len })?;
        self.bytes.resize(start + len, 0);
        self.head(start, len32, record);
        Ok(len)
    }

    fn act<'a, T: Act<'a>>(&mut self, start: usize, body: usize, act: &T) -> Result<(), RecordWriterError> {
        self.bytes.resize(body + T::SIZE, 0);
        act.write(self, start, body)
    }

    pub(super) fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&value);
    }

    fn head(&mut self, at: usize, len: u32, record: &Record<'_>) {
        let h: &Header = &record.header;
        self.put(at + offset_of!(RawHead, kind), record.kind().code().to_ne_bytes());
        self.put(at + offset_of!(RawHead, version), VERSION.to_ne_bytes());
        self.put(at + offset_of!(RawHead, len), len.to_ne_bytes());
        self.put(at + offset_of!(RawHead, sequence), h.sequence.to_ne_bytes());
        self.put(at + offset_of!(RawHead, producer), h.producer.to_ne_bytes());
        self.put(at + offset_of!(RawHead, slot), h.slot.to_ne_bytes());
        self.put(at + offset_of!(RawHead, boot_ns), h.boot_ns.to_ne_bytes());
        self.put(at + offset_of!(RawHead, cgroup_id), h.cgroup_id.to_ne_bytes());
        self.put(at + offset_of!(RawHead, task_start_ns), h.task_start_ns.to_ne_bytes());
        self.put(at + offset_of!(RawHead, parent_start_ns), h.parent_start_ns.to_ne_bytes());
        self.put(at + offset_of!(RawHead, tgid), h.tgid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, tid), h.tid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, parent_tgid), h.parent_tgid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, uid), h.uid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, euid), h.euid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, fsuid), h.fsuid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, gid), h.gid.to_ne_bytes());
        self.put(at + offset_of!(RawHead, mnt_ns), h.mnt_ns.to_ne_bytes());
        self.put(at + offset_of!(RawHead, pid_ns), h.pid_ns.to_ne_bytes());
        self.put(at + offset_of!(RawHead, phase), [h.phase.code()]);
        self.put(at + offset_of!(RawHead, call), h.call.map_or(0, CallNumber::code).to_ne_bytes());
        self.put(at + offset_of!(RawHead, comm), h.comm);
        if let Some(decision) = &record.decision {
            self.put(at + offset_of!(RawHead, parts), [HAS_DECISION]);
            self.decision(at + offset_of!(RawHead, decision), decision);
        }
    }

    fn decision(&mut self, at: usize, d: &DecisionTaken) {
        self.put(at + offset_of!(RawDecision, policy), d.policy.to_ne_bytes());
        self.put(at + offset_of!(RawDecision, generation), d.generation.to_ne_bytes());
        self.put(at + offset_of!(RawDecision, word), d.word.to_ne_bytes());
        self.put(at + offset_of!(RawDecision, tier), [d.tier.code()]);
        self.put(at + offset_of!(RawDecision, outcome), [d.outcome.code()]);
        self.put(at + offset_of!(RawDecision, fail_reason), [d.fail_reason.code()]);
        self.put(at + offset_of!(RawDecision, family), [d.family.code()]);
    }

    fn exec(&mut self, start: usize, body: usize, exec: &Exec<'_>) -> Result<(), RecordWriterError> {
        self.bytes.resize(body + size_of::<RawExec>(), 0);
        self.put(body + offset_of!(RawExec, argument_count), exec.argument_count.to_ne_bytes());
        self.put(body + offset_of!(RawExec, tty), exec.tty.to_ne_bytes());
        self.text(start, body + offset_of!(RawExec, path), "path", &exec.path)?;
        self.text(start, body + offset_of!(RawExec, cwd), "cwd", &exec.cwd)?;
        self.text(start, body + offset_of!(RawExec, arguments), "arguments", &exec.argument_bytes)?;
        let (script, count) = match exec.script {
            Script::None => (Text::default(), 0),
            Script::Untold => (Text { unreadable: true, ..Text::default() }, 0),
            Script::Interpreted { path, count } => (path, count),
        };
        self.put(body + offset_of!(RawExec, scripts), count.to_ne_bytes());
        self.text(start, body + offset_of!(RawExec, script), "script", &script)
    }

    fn open(&mut self, start: usize, body: usize, open: &Open<'_>) -> Result<(), RecordWriterError> {
        self.bytes.resize(body + size_of::<RawOpen>(), 0);
        self.put(body + offset_of!(RawOpen, flags), open.flags.to_ne_bytes());
        self.put(body + offset_of!(RawOpen, result), open.result.to_ne_bytes());
        self.text(start, body + offset_of!(RawOpen, path), "path", &open.path)
    }

    /// Puts an address behind an endpoint's first three bytes; returns the endpoint's length.
    pub(super) fn endpoint(&mut self, at: usize, address: Option<(IpAddr, u16)>) -> u8 {
        let Some((address, port)) = address else { return 3 };
        self.put(at + 3, port.to_be_bytes());
        match address {
            IpAddr::V4(v4) => self.put(at + 5, v4.octets()),
            IpAddr::V6(v6) => self.put(at + 5, v6.octets()),
        }
        if address.is_ipv4() { 9 } else { 21 }
    }

    fn network(&mut self, body: usize, network: &Network) {
        self.bytes.resize(body + size_of::<RawNetwork>(), 0);
        let endpoint = body + offset_of!(RawNetwork, endpoint);
        self.put(endpoint, [network.domain, network.socket_type, network.protocol]);
        let len = self.endpoint(endpoint, network.destination);
        self.put(body + offset_of!(RawNetwork, endpoint_len), [len]);
        self.put(body + offset_of!(RawNetwork, operation), [network.operation.code()]);
        self.put(body + offset_of!(RawNetwork, flags), [if network.user { NETWORK_USER } else { 0 }]);
        self.put(body + offset_of!(RawNetwork, result), network.result.to_ne_bytes());
    }

    fn ptrace(&mut self, start: usize, body: usize, ptrace: &Ptrace<'_>) -> Result<(), RecordWriterError> {
        self.bytes.resize(body + size_of::<RawPtrace>(), 0);
        self.put(body + offset_of!(RawPtrace, request), ptrace.request.to_ne_bytes());
        self.put(body + offset_of!(RawPtrace, target_tgid), ptrace.target_tgid.to_ne_bytes());
        self.put(body + offset_of!(RawPtrace, target_tid), ptrace.target_tid.to_ne_bytes());
        self.put(body + offset_of!(RawPtrace, target_slot), ptrace.target_slot.to_ne_bytes());
        self.put(body + offset_of!(RawPtrace, target_start_ns), ptrace.target_start_ns.to_ne_bytes());
        self.text(start, body + offset_of!(RawPtrace, target_exe), "target_exe", &ptrace.target_exe)
    }

    pub(super) fn text(
        &mut self,
        start: usize,
        span: usize,
        field: &'static str,
        text: &Text<'_>,
    ) -> Result<(), RecordWriterError> {
        let too_long = RecordWriterError::StringTooLong { field, len: text.bytes.len() };
        let len = u16::try_from(text.bytes.len()).ok().filter(|n| usize::from(*n) <= STRING_MAX).ok_or(too_long)?;
        if text.unreadable && len != 0 {
            return Err(RecordWriterError::UnreadableBytes { field });
        }
        let at = self.bytes.len() - start;
        let offset =
            if len == 0 { 0 } else { u32::try_from(at).map_err(|_| RecordWriterError::RecordTooLong { len: at })? };
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let flags = flag(text.cut, SPAN_CUT) | flag(text.user, SPAN_USER) | flag(text.unreadable, SPAN_UNREADABLE);
        self.put(span + offset_of!(RawSpan, offset), offset.to_ne_bytes());
        self.put(span + offset_of!(RawSpan, len), len.to_ne_bytes());
        self.put(span + offset_of!(RawSpan, flags), flags.to_ne_bytes());
        self.bytes.extend_from_slice(text.bytes);
        Ok(())
    }
}
