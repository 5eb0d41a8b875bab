//! What SELinux says of an act, from the text of an audit record of the kernel (type 1400), and the blob's word about the same act: so an
//! alert names the rule that the constraint was lowered from.
//!
//! ```text
//! audit(1700000000.123:45): avc:  denied  { chown } for  pid=77 comm="sh" capability=0  scontext=palisade_7_u:system_r:container_t:s0
//!     tcontext=palisade_7_u:system_r:container_t:s0 tclass=capability permissive=0
//! ```
//!
//! Invariant: a line is untrusted text (`comm` is a workload's) of a bounded length; a field that does not read as its kind makes it an error,
//! never another act.
//!
//! Limits: of a socket the record has the class alone, of tracing not whom, of memory not how it was asked for.

use palisade_audit::{Fields, MAX_RECORD_BYTES};
use palisade_domain::CAPABILITIES;
use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Family, Modifiers, Preset, SourceId};

use crate::{SocketClass, UserNumber, level_of};

/// Why a line says nothing about an act of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Another subsystem's.
    #[error("not about an access")]
    Other,
    /// Of a user that is not ours.
    #[error("of a user that is not ours")]
    Foreign,
    /// It lacks a field, or one does not read.
    #[error("the field {0} is missing or wrong")]
    Field(&'static str),
    /// Longer than any record.
    #[error("{0} bytes are more than a record has")]
    TooLong(usize),
    /// About a permission that no constraint of ours is about: the distribution's policy denies it.
    #[error("about {class}, which no constraint of ours is about")]
    Unknown {
        /// The class.
        class: String,
    },
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// It was denied: neither granted, nor only told of by a system or a domain that is permissive.
    pub denied: bool,
    /// Whose.
    pub user: UserNumber,
    /// At which level: runtimes give each pod one of its own.
    pub level: String,
    /// The acting task, in the host's numbers.
    pub pid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// The class that was asked about.
    pub class: &'static str,
    /// The permission.
    pub permission: &'static str,
    /// What it is to do.
    pub subject: Subject,
}

/// What an act was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A socket of the class was to be made.
    Socket(SocketClass),
    /// `CAP_*`.
    Capability(u8),
    /// Another process was to be traced.
    Trace,
    /// Memory was to become executable.
    Memory,
}

impl Line {
    /// Reads the text of a record.
    ///
    /// # Errors
    /// Where it is not about an act of a task with a user of ours, or does not read.
    pub fn parse(text: &[u8]) -> Result<Self, LineError> {
        if text.len() > MAX_RECORD_BYTES {
            return Err(LineError::TooLong(text.len()));
        }
        let (denied, asked, rest) = head(text).ok_or(LineError::Other)?;
        let fields = Fields(rest);
        let context = fields.word("scontext").ok_or(LineError::Field("scontext"))?;
        let user = UserNumber::of_context(context).ok_or(LineError::Foreign)?;
        let class = fields.word("tclass").ok_or(LineError::Field("tclass"))?;
        let (class, permission, subject) = subject(fields, class, asked)?;
        let pid = fields.number("pid").ok_or(LineError::Field("pid"))?;
        let comm = fields.text("comm").ok_or(LineError::Field("comm"))?;
        // Kernels before 3.13 do not write it, and have no domains that are permissive alone.
        let permissive = fields.number("permissive").unwrap_or(0) != 0;
        let level = level_of(context).to_owned();
        Ok(Self { denied: denied && !permissive, user, level, pid, comm, class, permission, subject })
    }

    /// The family that decides it.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.subject {
            Subject::Socket(_) => Family::Socket,
            Subject::Capability(_) => Family::Capability,
            Subject::Trace => Family::Ptrace,
            Subject::Memory => Family::Preset,
        }
    }

    /// What the blob says of the act by this executable. Of a socket its class is known, and of a class that is denied every socket is blocked;
    /// of tracing the same is true of whom it was about.
    #[must_use]
    pub fn judge(&self, blob: &Blob, executable: Option<&[u8]>, extended_sockets: bool) -> Decision {
        let source = executable.map_or(SourceId::NONE, |path| blob.source_id(path));
        let accepts = match self.subject {
            Subject::Socket(class) => {
                let example = class.example(extended_sockets);
                example.map_or(AcceptId::default(), |socket| blob.network_accept(socket.encode().as_ref())).into()
            }
            Subject::Capability(number) => AcceptId::of_capability(number).into(),
            Subject::Trace => blob.path_accept(b"/"),
            Subject::Memory => AcceptId::of_preset(Preset::AnonMapExec).into(),
        };
        blob.decide(self.family(), accepts, source, Modifiers::NONE).settled(false)
    }
}

/// Whether it is a denial, the permissions in braces, and what follows them.
fn head(text: &[u8]) -> Option<(bool, &str, &[u8])> {
    let said = palisade_audit::said(text).strip_prefix(b"avc:  ")?;
    let (denied, rest) = match (said.strip_prefix(b"denied  { "), said.strip_prefix(b"granted  { ")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return None,
    };
    let end = rest.iter().position(|byte| *byte == b'}')?;
    Some((denied, std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
}

fn subject(fields: Fields<'_>, class: &str, asked: &str) -> Result<(&'static str, &'static str, Subject), LineError> {
    let asks = |permission: &str| asked.split_ascii_whitespace().any(|asked| asked == permission);
    if let Some(class) = ["capability", "capability2", "cap_userns", "cap2_userns"].into_iter().find(|of| *of == class)
    {
        let number = fields.number("capability").and_then(|number| u8::try_from(number).ok());
        let number = number.ok_or(LineError::Field("capability"))?;
        let permission = CAPABILITIES.get(usize::from(number)).ok_or(LineError::Field("capability"))?;
        return Ok((class, permission, Subject::Capability(number)));
    }
    if let Some(socket) = SocketClass::of(class).filter(|_| asks("create")) {
        return Ok((socket.name(), "create", Subject::Socket(socket)));
    }
    let others = [
        ("process", "ptrace", Subject::Trace),
        ("process", "execmem", Subject::Memory),
        ("process", "execstack", Subject::Memory),
        ("process", "execheap", Subject::Memory),
        ("file", "execmod", Subject::Memory),
    ];
    let found = others.into_iter().find(|(of, permission, _)| *of == class && asks(permission));
    found.ok_or_else(|| LineError::Unknown { class: class.to_owned() })
}
