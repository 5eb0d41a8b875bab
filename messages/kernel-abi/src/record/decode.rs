//! Checked decoding of a batch of records.

use std::{
    mem::{offset_of, size_of},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Body, CallNumber, DecisionTaken, Exec, Exit, FailReason, Family, Fork, Header, Kind, Network, NetworkOperation,
    Open, Outcome, Phase, Ptrace, Record, Script, Text, Tier,
    codec::Act,
    layout::{
        ALIGN, EXEC_SIZE_BEFORE_SCRIPTS, HAS_DECISION, HEAD_SIZE, MAX_LEN, NETWORK_USER, OLDEST_VERSION, RawDecision,
        RawExec, RawExit, RawFork, RawHead, RawNetwork, RawOpen, RawPtrace, RawSpan, SPAN_CUT, SPAN_UNREADABLE,
        SPAN_USER, STRING_MAX, VERSION,
    },
};

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes are left than a record or than its own length says: nothing after it can be read.
    #[error("{have} bytes are left, {need} are needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there must be.
        need: usize,
    },
    /// The length is not that of any record: nothing after it can be read.
    #[error("record length {len} is not a multiple of 8 between {min} and {max}", min = HEAD_SIZE, max = MAX_LEN)]
    Length {
        /// What it says.
        len: u32,
    },
    /// Another version of the header wrote it.
    #[error("record version {version}, this build reads {} to {}", OLDEST_VERSION, VERSION)]
    Version {
        /// What it says.
        version: u16,
    },
    /// No such kind.
    #[error("record kind {kind} is not known")]
    Kind {
        /// What it says.
        kind: u16,
    },
    /// A field's number has no meaning.
    #[error("record field {field} is {value}")]
    Field {
        /// Its C name.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The record is too short for the body of its kind.
    #[error("a record of {len} bytes has no room for the body of kind {kind:?}")]
    Body {
        /// Its kind.
        kind: Kind,
        /// Its length.
        len: usize,
    },
    /// A string does not lie within the record, behind the body.
    #[error("string {field} at {offset}, {len} bytes, is not within the record's strings")]
    Span {
        /// Its C name.
        field: &'static str,
        /// What it says.
        offset: u32,
        /// What it says.
        len: u16,
    },
}

impl RecordError {
    /// Whether the next record cannot be found after this error.
    #[must_use]
    pub const fn ends_batch(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Length { .. })
    }
}

/// Iterates over the records of a batch; ends at its end, or after an error that [`RecordError::ends_batch`].
#[derive(Debug, Clone)]
pub struct RecordReader<'a> {
    rest: &'a [u8],
}

impl<'a> RecordReader<'a> {
    /// Records back to back, as `RecordBatch` holds them.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Length of the record that `bytes` start with, checked against the bounds of the format but not against `bytes`.
    ///
    /// # Errors
    /// [`RecordError::Truncated`] and [`RecordError::Length`].
    pub fn peek_len(bytes: &[u8]) -> Result<usize, RecordError> {
        if bytes.len() < HEAD_SIZE {
            return Err(RecordError::Truncated { have: bytes.len(), need: HEAD_SIZE });
        }
        let len = Fields(bytes).u32(offset_of!(RawHead, len));
        match usize::try_from(len) {
            Ok(n) if (HEAD_SIZE..=MAX_LEN).contains(&n) && n.is_multiple_of(ALIGN) => Ok(n),
            _ => Err(RecordError::Length { len }),
        }
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = Self::peek_len(self.rest).and_then(|len| {
            self.rest.split_at_checked(len).ok_or(RecordError::Truncated { have: self.rest.len(), need: len })
        });
        match split {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(decode(record))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Reads of numbers at offsets that the caller has proved to lie within: the head always, the body after [`body_of`].
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        // A short slice reads as zero instead of panicking; callers prove that it does not happen.
        self.0.get(at..).and_then(|b| b.first_chunk::<N>()).copied().unwrap_or([0; N])
    }
    pub(super) fn u8(self, at: usize) -> u8 {
        self.array::<1>(at)[0]
    }
    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes(self.array(at))
    }
    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes(self.array(at))
    }
    pub(super) fn i32(self, at: usize) -> i32 {
        i32::from_ne_bytes(self.array(at))
    }
    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_ne_bytes(self.array(at))
    }
}

fn coded<T>(field: &'static str, code: u8, from: fn(u8) -> Option<T>) -> Result<T, RecordError> {
    from(code).ok_or(RecordError::Field { field, value: u64::from(code) })
}

fn decode(record: &[u8]) -> Result<Record<'_>, RecordError> {
    let head = Fields(record);
    let version = head.u16(offset_of!(RawHead, version));
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(RecordError::Version { version });
    }
    let code = head.u16(offset_of!(RawHead, kind));
    let kind = Kind::from_code(code).ok_or(RecordError::Kind { kind: code })?;
    Ok(Record { header: header(head)?, body: body(record, kind, version)?, decision: decision(head)? })
}

fn header(head: Fields<'_>) -> Result<Header, RecordError> {
    Ok(Header {
        sequence: head.u64(offset_of!(RawHead, sequence)),
        producer: head.u32(offset_of!(RawHead, producer)),
        slot: head.u32(offset_of!(RawHead, slot)),
        boot_ns: head.u64(offset_of!(RawHead, boot_ns)),
        cgroup_id: head.u64(offset_of!(RawHead, cgroup_id)),
        task_start_ns: head.u64(offset_of!(RawHead, task_start_ns)),
        parent_start_ns: head.u64(offset_of!(RawHead, parent_start_ns)),
        tgid: head.u32(offset_of!(RawHead, tgid)),
        tid: head.u32(offset_of!(RawHead, tid)),
        parent_tgid: head.u32(offset_of!(RawHead, parent_tgid)),
        uid: head.u32(offset_of!(RawHead, uid)),
        euid: head.u32(offset_of!(RawHead, euid)),
        fsuid: head.u32(offset_of!(RawHead, fsuid)),
        gid: head.u32(offset_of!(RawHead, gid)),
        mnt_ns: head.u32(offset_of!(RawHead, mnt_ns)),
        pid_ns: head.u32(offset_of!(RawHead, pid_ns)),
        phase: coded("phase", head.u8(offset_of!(RawHead, phase)), Phase::from_code)?,
        call: CallNumber::from_code(head.u16(offset_of!(RawHead, call))),
        comm: head.array(offset_of!(RawHead, comm)),
    })
}

fn decision(head: Fields<'_>) -> Result<Option<DecisionTaken>, RecordError> {
    let parts = head.u8(offset_of!(RawHead, parts));
    match parts {
        0 => return Ok(None),
        HAS_DECISION => {}
        other => return Err(RecordError::Field { field: "parts", value: u64::from(other) }),
    }
    let at = offset_of!(RawHead, decision);
    Ok(Some(DecisionTaken {
        policy: head.u32(at + offset_of!(RawDecision, policy)),
        generation: head.u32(at + offset_of!(RawDecision, generation)),
        word: head.u32(at + offset_of!(RawDecision, word)),
        tier: coded("tier", head.u8(at + offset_of!(RawDecision, tier)), Tier::from_code)?,
        outcome: coded("outcome", head.u8(at + offset_of!(RawDecision, outcome)), Outcome::from_code)?,
        fail_reason: coded("fail_reason", head.u8(at + offset_of!(RawDecision, fail_reason)), FailReason::from_code)?,
        family: coded("family", head.u8(at + offset_of!(RawDecision, family)), Family::from_code)?,
    }))
}

/// A record whose body was proved to fit: field reads behind the head, and strings behind the body.
#[derive(Clone, Copy)]
pub(super) struct BodyBytes<'a> {
    record: &'a [u8],
    pub(super) fields: Fields<'a>,
    strings_from: usize,
}

fn body_of(record: &[u8], kind: Kind, size: usize) -> Result<BodyBytes<'_>, RecordError> {
    let strings_from = HEAD_SIZE + size;
    if record.len() < strings_from {
        return Err(RecordError::Body { kind, len: record.len() });
    }
    Ok(BodyBytes { record, fields: Fields(record.get(HEAD_SIZE..).unwrap_or_default()), strings_from })
}

impl<'a> BodyBytes<'a> {
    /// A structure of numbers within the body.
    pub(super) fn at(self, offset: usize) -> Self {
        Self { fields: Fields(self.fields.0.get(offset..).unwrap_or_default()), ..self }
    }

    pub(super) fn text(self, field: &'static str, at: usize) -> Result<Text<'a>, RecordError> {
        let offset = self.fields.u32(at + offset_of!(RawSpan, offset));
        let len = self.fields.u16(at + offset_of!(RawSpan, len));
        let flags = self.fields.u16(at + offset_of!(RawSpan, flags));
        if flags & !(SPAN_CUT | SPAN_USER | SPAN_UNREADABLE) != 0 {
            return Err(RecordError::Field { field, value: u64::from(flags) });
        }
        let (cut, user, unreadable) = (flags & SPAN_CUT != 0, flags & SPAN_USER != 0, flags & SPAN_UNREADABLE != 0);
        if len == 0 {
            return Ok(Text { bytes: &[], cut, user, unreadable });
        }
        let outside = RecordError::Span { field, offset, len };
        let (from, count) = (usize::try_from(offset).map_err(|_| outside)?, usize::from(len));
        if from < self.strings_from || count > STRING_MAX || unreadable {
            return Err(outside);
        }
        let bytes = self.record.get(from..).and_then(|b| b.get(..count)).ok_or(outside)?;
        Ok(Text { bytes, cut, user, unreadable })
    }
}

fn body(record: &[u8], kind: Kind, version: u16) -> Result<Body<'_>, RecordError> {
    Ok(match kind {
        Kind::Exec if version < VERSION => {
            Body::Exec(exec(body_of(record, kind, EXEC_SIZE_BEFORE_SCRIPTS)?, Script::Untold)?)
        }
        Kind::Exec => Body::Exec(exec_with_script(body_of(record, kind, size_of::<RawExec>())?)?),
        Kind::Fork => Body::Fork(fork(body_of(record, kind, size_of::<RawFork>())?)),
        Kind::Exit => {
            let b = body_of(record, kind, size_of::<RawExit>())?;
            Body::Exit(Exit { status: b.fields.i32(offset_of!(RawExit, status)) })
        }
        Kind::Open => Body::Open(open(body_of(record, kind, size_of::<RawOpen>())?)?),
        Kind::Socket => Body::Socket(network(body_of(record, kind, size_of::<RawNetwork>())?)?),
        Kind::Connect => Body::Connect(network(body_of(record, kind, size_of::<RawNetwork>())?)?),
        Kind::Ptrace => Body::Ptrace(ptrace(body_of(record, kind, size_of::<RawPtrace>())?)?),
        Kind::Bind => Body::Bind(network(body_of(record, kind, size_of::<RawNetwork>())?)?),
        Kind::Accept => Body::Accept(network(body_of(record, kind, size_of::<RawNetwork>())?)?),
        Kind::Send => Body::Send(network(body_of(record, kind, size_of::<RawNetwork>())?)?),
        Kind::FileChange => Body::FileChange(act(record, kind)?),
        Kind::Mount => Body::Mount(act(record, kind)?),
        Kind::Credentials => Body::Credentials(act(record, kind)?),
        Kind::Signal => Body::Signal(act(record, kind)?),
        Kind::Module => Body::Module(act(record, kind)?),
        Kind::Bpf => Body::Bpf(act(record, kind)?),
        Kind::Namespace => Body::Namespace(act(record, kind)?),
        Kind::Memfd => Body::Memfd(act(record, kind)?),
        Kind::IoUring => Body::IoUring(act(record, kind)?),
        Kind::ProcessAccess => Body::ProcessAccess(act(record, kind)?),
        Kind::Dns => Body::Dns(act(record, kind)?),
        Kind::Capability => Body::Capability(act(record, kind)?),
        Kind::Syscall => Body::Syscall(act(record, kind)?),
        Kind::Folded => Body::Folded(act(record, kind)?),
    })
}

fn act<'a, T: Act<'a>>(record: &'a [u8], kind: Kind) -> Result<T, RecordError> {
    T::read(body_of(record, kind, T::SIZE)?)
}

/// What the span of version 2 says.
fn exec_with_script(b: BodyBytes<'_>) -> Result<Exec<'_>, RecordError> {
    let text = b.text("script", offset_of!(RawExec, script))?;
    let count = b.fields.u32(offset_of!(RawExec, scripts));
    let script = match text {
        Text { unreadable: true, .. } => Script::Untold,
        Text { bytes: [], cut: false, .. } => Script::None,
        path => Script::Interpreted { path, count },
    };
    exec(b, script)
}

fn exec<'a>(b: BodyBytes<'a>, script: Script<'a>) -> Result<Exec<'a>, RecordError> {
    Ok(Exec {
        path: b.text("path", offset_of!(RawExec, path))?,
        cwd: b.text("cwd", offset_of!(RawExec, cwd))?,
        argument_bytes: b.text("arguments", offset_of!(RawExec, arguments))?,
        argument_count: b.fields.u32(offset_of!(RawExec, argument_count)),
        tty: b.fields.u32(offset_of!(RawExec, tty)),
        script,
    })
}

fn fork(b: BodyBytes<'_>) -> Fork {
    Fork {
        child_tgid: b.fields.u32(offset_of!(RawFork, child_tgid)),
        child_tid: b.fields.u32(offset_of!(RawFork, child_tid)),
        child_start_ns: b.fields.u64(offset_of!(RawFork, child_start_ns)),
        child_own_tgid: b.fields.u32(offset_of!(RawFork, child_own_tgid)),
        child_pid_ns: b.fields.u32(offset_of!(RawFork, child_pid_ns)),
    }
}

fn open(b: BodyBytes<'_>) -> Result<Open<'_>, RecordError> {
    Ok(Open {
        path: b.text("path", offset_of!(RawOpen, path))?,
        flags: b.fields.u32(offset_of!(RawOpen, flags)),
        result: b.fields.i32(offset_of!(RawOpen, result)),
    })
}

/// The address of an endpoint of `len` bytes at `at`, which begin with domain, type and protocol.
pub(super) fn endpoint(b: BodyBytes<'_>, at: usize, len: u8) -> Result<Option<(IpAddr, u16)>, RecordError> {
    let at = at + 3;
    let port = u16::from_be_bytes(b.fields.array(at));
    Ok(match len {
        3 => None,
        9 => Some((IpAddr::V4(Ipv4Addr::from(b.fields.array::<4>(at + 2))), port)),
        21 => Some((IpAddr::V6(Ipv6Addr::from(b.fields.array::<16>(at + 2))), port)),
        other => return Err(RecordError::Field { field: "endpoint_len", value: u64::from(other) }),
    })
}

fn network(b: BodyBytes<'_>) -> Result<Network, RecordError> {
    let [domain, socket_type, protocol] = b.fields.array(offset_of!(RawNetwork, endpoint));
    let destination = endpoint(b, offset_of!(RawNetwork, endpoint), b.fields.u8(offset_of!(RawNetwork, endpoint_len)))?;
    let operation = coded("operation", b.fields.u8(offset_of!(RawNetwork, operation)), NetworkOperation::from_code)?;
    let result = b.fields.i32(offset_of!(RawNetwork, result));
    let user = match b.fields.u8(offset_of!(RawNetwork, flags)) {
        0 => false,
        NETWORK_USER => true,
        other => return Err(RecordError::Field { field: "flags", value: u64::from(other) }),
    };
    Ok(Network { operation, domain, socket_type, protocol, destination, user, result })
}

fn ptrace(b: BodyBytes<'_>) -> Result<Ptrace<'_>, RecordError> {
    Ok(Ptrace {
        target_exe: b.text("target_exe", offset_of!(RawPtrace, target_exe))?,
        request: b.fields.u32(offset_of!(RawPtrace, request)),
        target_tgid: b.fields.u32(offset_of!(RawPtrace, target_tgid)),
        target_tid: b.fields.u32(offset_of!(RawPtrace, target_tid)),
        target_slot: b.fields.u32(offset_of!(RawPtrace, target_slot)),
        target_start_ns: b.fields.u64(offset_of!(RawPtrace, target_start_ns)),
    })
}

/// The captured arguments of an exec, in order.
#[derive(Debug, Clone)]
pub struct Arguments<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Arguments<'a> {
    pub(super) const fn new(bytes: &'a [u8], count: u32) -> Self {
        Self { rest: bytes, left: count }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 || self.rest.is_empty() {
            return None;
        }
        self.left -= 1;
        let end = self.rest.iter().position(|b| *b == 0).unwrap_or(self.rest.len());
        let argument = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(argument)
    }
}
