//! What AppArmor says of an act, from the text of an audit record of the kernel (type 1400, or the same line in its log), and the
//! blob's word about the same act: so an alert names the rule that the profile was lowered from.
//!
//! Invariant: a line is untrusted text (names and `comm` are a workload's) of a bounded length; a field that does not read as its kind makes it an error,
//! never another act.

use palisade_audit::{Fields, MAX_RECORD_BYTES};
use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Endpoint, Family, Modifiers, SourceId};

use crate::ProfileName;

/// Why a line says nothing about an act of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Another subsystem's, or a status of AppArmor's.
    #[error("not about an act")]
    Other,
    /// Of a profile that is not ours.
    #[error("of a profile that is not ours")]
    Foreign,
    /// It lacks a field, or one does not read.
    #[error("the field {0} is missing or wrong")]
    Field(&'static str),
    /// Longer than any record.
    #[error("{0} bytes are more than a record has")]
    TooLong(usize),
    /// An act that no policy of ours is about: another profile's doing.
    #[error("about `{0}`, which no policy decides")]
    Unknown(String),
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// It was denied, and not only told.
    pub denied: bool,
    /// Whose.
    pub profile: ProfileName,
    /// The acting task, in the host's numbers.
    pub pid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// What the kernel calls what was done: `open`, `exec`, `unlink`.
    pub operation: String,
    /// On what.
    pub subject: Subject,
}

/// What an act was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A file.
    File {
        /// As policies name it: a directory without its last slash.
        path: Vec<u8>,
        /// It was to be executed.
        executes: bool,
        /// It, or its name, was to be changed.
        writes: bool,
        /// The acting user owns it.
        is_owner: bool,
    },
    /// A socket.
    Socket {
        /// `AF_*`.
        domain: u8,
        /// `SOCK_*`.
        kind: u8,
        /// `IPPROTO_*`, its low byte.
        protocol: u8,
    },
    /// `CAP_*`.
    Capability(u8),
    /// Tracing of a process that this label confines.
    Trace(Vec<u8>),
}

impl Line {
    /// Reads the text of a record.
    ///
    /// # Errors
    /// Where it is not about an act under a profile of ours, or does not read.
    pub fn parse(text: &[u8]) -> Result<Self, LineError> {
        if text.len() > MAX_RECORD_BYTES {
            return Err(LineError::TooLong(text.len()));
        }
        let fields = Fields(palisade_audit::said(text));
        if !fields.0.starts_with(b"apparmor=") {
            return Err(LineError::Other);
        }
        let denied = match fields.text("apparmor").as_deref() {
            Some(b"DENIED") => true,
            Some(b"AUDIT") => false,
            _ => return Err(LineError::Other),
        };
        let profile = fields.text("profile").and_then(|name| String::from_utf8(name).ok());
        let profile = profile.as_deref().and_then(ProfileName::parse).ok_or(LineError::Foreign)?;
        let operation = fields.text("operation").and_then(|operation| String::from_utf8(operation).ok());
        let operation = operation.ok_or(LineError::Field("operation"))?;
        let subject = subject(fields, &operation)?;
        let pid = fields.number("pid").ok_or(LineError::Field("pid"))?;
        let comm = fields.text("comm").ok_or(LineError::Field("comm"))?;
        Ok(Self { denied, profile, pid, comm, operation, subject })
    }

    /// The family that decides it.
    #[must_use]
    pub fn family(&self) -> Family {
        match &self.subject {
            Subject::File { executes: true, .. } => Family::Process,
            Subject::File { .. } => Family::File,
            Subject::Socket { .. } => Family::Socket,
            Subject::Capability(_) => Family::Capability,
            Subject::Trace(_) => Family::Ptrace,
        }
    }

    /// What the blob says of the act by this executable, at a terminal or not. A traced process is told by its label only: where the blob
    /// blocks tracing of everything, any path says so, and of nothing less was the profile made.
    #[must_use]
    pub fn judge(&self, blob: &Blob, executable: Option<&[u8]>, tty: bool) -> Decision {
        let source = executable.map_or(SourceId::NONE, |path| blob.source_id(path));
        let decide = |accept: palisade_kernel_abi::blob::PathAccepts, modifiers: Modifiers| {
            blob.decide(self.family(), accept, source, modifiers.at_terminal(tty)).settled(false)
        };
        match &self.subject {
            Subject::File { path, writes, is_owner, .. } => {
                decide(blob.path_accept(path), Modifiers::new(*is_owner, *writes))
            }
            Subject::Socket { domain, kind, protocol } => {
                let endpoint = Endpoint { domain: *domain, kind: *kind, protocol: *protocol, destination: None };
                decide(blob.network_accept(endpoint.encode().as_ref()).into(), Modifiers::NONE)
            }
            Subject::Capability(number) => decide(AcceptId::of_capability(*number).into(), Modifiers::NONE),
            Subject::Trace(_) => decide(blob.path_accept(b"/"), Modifiers::NONE),
        }
    }
}

/// What was acted on, as AppArmor's fields say it.
fn subject(fields: Fields<'_>, operation: &str) -> Result<Subject, LineError> {
    if operation == "capable" {
        let number = fields.number("capability").and_then(|number| u8::try_from(number).ok());
        return number.map(Subject::Capability).ok_or(LineError::Field("capability"));
    }
    if operation == "ptrace" {
        return fields.text("peer").map(Subject::Trace).ok_or(LineError::Field("peer"));
    }
    if fields.raw("family").is_some() {
        return socket(fields);
    }
    if fields.raw("ouid").is_some() {
        return file(fields, operation);
    }
    Err(LineError::Unknown(operation.to_owned()))
}

fn file(fields: Fields<'_>, operation: &str) -> Result<Subject, LineError> {
    let name = fields.text("name").ok_or(LineError::Field("name"))?;
    let path = match name.as_slice() {
        [b'/'] => name,
        [directory @ .., b'/'] => directory.to_vec(),
        _ => name,
    };
    let mask = fields.text("denied_mask").or_else(|| fields.text("requested_mask"));
    let mask = mask.ok_or(LineError::Field("denied_mask"))?;
    let user = |key| fields.number(key).ok_or(LineError::Field(key));
    Ok(Subject::File {
        path,
        executes: operation == "exec",
        writes: mask.iter().any(|letter| matches!(letter, b'w' | b'a' | b'c' | b'd' | b'l')),
        is_owner: user("fsuid")? == user("ouid")?,
    })
}

fn socket(fields: Fields<'_>) -> Result<Subject, LineError> {
    let named = |key, names: &[&str]| {
        let value = fields.text(key).and_then(|value| String::from_utf8(value).ok()).ok_or(LineError::Field(key))?;
        let unknown = value.strip_prefix("unknown(").and_then(|rest| rest.strip_suffix(')'));
        let number = match unknown {
            Some(number) => number.parse().ok(),
            None => names.iter().position(|name| *name == value).and_then(|number| u8::try_from(number).ok()),
        };
        number.ok_or(LineError::Field(key))
    };
    Ok(Subject::Socket {
        domain: named("family", &DOMAINS)?,
        kind: named("sock_type", &KINDS)?,
        protocol: fields.number("protocol").ok_or(LineError::Field("protocol"))? as u8,
    })
}

/// `AF_*` in the order of their numbers, as the kernel names them.
const DOMAINS: [&str; 46] = [
    "unspec",
    "unix",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "decnet",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
];

/// `SOCK_*` in the order of their numbers.
const KINDS: [&str; 11] =
    ["unused", "stream", "dgram", "raw", "rdm", "seqpacket", "dccp", "unused", "unused", "unused", "packet"];
