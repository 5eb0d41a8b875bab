//! Kernel records: what happened, as the kernel programs and the fanotify responder wrote it (`bpf/include/record.h`).
//!
//! Invariant: decoding never panics, never allocates and never trusts a number: a record is a slice of the batch, its enums are
//! matched and not cast, and each string is a sub-slice whose bounds were checked. A batch that is broken in one record is
//! read on after it as long as that record's length can be believed; otherwise the reader ends with the error.
//!
//! Copying nothing, not deserialising: the alerts actor looks at every record and keeps few.

mod acts;
mod bytes;
mod codec;
mod decode;
mod layout;
mod writer;

#[cfg(test)]
mod tests;

pub use acts::{
    Bpf, Capability, CredentialSet, Credentials, CredentialsOperation, Dns, DnsOperation, FileChange, FileOperation,
    Folded, IoUring, IoUringOperation, Memfd, Module, ModuleOperation, Mount, MountOperation, Namespace,
    NamespaceOperation, ProcessAccess, ProcessAccessOperation, Signal, Syscall,
};
pub use bytes::{body_size, numbering, redact_arguments, slices, slot_and_time};
pub use decode::{Arguments, RecordError, RecordReader};
pub use layout::{
    ALIGN, FieldLayout, HEAD_SIZE, LAYOUTS, MAX_LEN, OLDEST_VERSION, PRODUCER_USER, STRING_MAX, StructLayout, VERSION,
};
pub use writer::{RecordWriter, RecordWriterError};

use std::net::IpAddr;

/// Bit n for kind n, as a slot's visibility holds it.
#[must_use]
pub const fn kind_bit(kind: Kind) -> u64 {
    1 << kind.code()
}

/// Declares an enum of the header with its checked conversion from the number.
macro_rules! coded {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $($(#[$vmeta:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }
        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The value of a number of the header; `None` where it has none.
            #[must_use]
            pub const fn from_code(code: $repr) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
            /// The header's number.
            #[must_use]
            pub const fn code(self) -> $repr {
                self as $repr
            }
        }
    };
}

pub(crate) use coded;

coded! {
    /// `enum pal_record_kind`.
    Kind: u16 {
        /// A file was executed.
        Exec = 1,
        /// A process was made; the record's task is the parent. Threads are not recorded.
        Fork = 2,
        /// The last thread of a process ended.
        Exit = 3,
        /// A file was opened, or opening it failed.
        Open = 4,
        /// A socket was created.
        Socket = 5,
        /// A destination was asked for.
        Connect = 6,
        /// A process was traced.
        Ptrace = 7,
        /// A name in a directory, or what an inode says about itself, changed.
        FileChange = 8,
        /// A socket got an address of its own, or listens at it.
        Bind = 9,
        /// A connection was accepted.
        Accept = 10,
        /// A datagram was sent to an address of its own.
        Send = 11,
        /// The mount table changed, or a root directory.
        Mount = 12,
        /// User or group ids or capabilities were set.
        Credentials = 13,
        /// A signal was sent by a call.
        Signal = 14,
        /// A kernel module, or a kernel, was loaded or taken away.
        Module = 15,
        /// `bpf(2)`.
        Bpf = 16,
        /// A task took new namespaces.
        Namespace = 17,
        /// A file without a name was made.
        Memfd = 18,
        /// A ring was set up, or a request was submitted to one.
        IoUring = 19,
        /// Another process's memory was read or written.
        ProcessAccess = 20,
        /// A DNS question or answer passed.
        Dns = 21,
        /// A capability was asked for.
        Capability = 22,
        /// Any system call.
        Syscall = 23,
        /// How many records equal to one that was sent were not.
        Folded = 24,
    }
}
coded! {
    /// `enum pal_tier`, twin of `palisade_domain::Tier`.
    Tier: u8 {
        /// A BPF LSM program.
        BpfLsm = 0,
        /// A program on the workload's cgroup.
        CgroupBpf = 1,
        /// The fanotify responder.
        Fanotify = 2,
        /// SIGKILL.
        Kill = 3,
        /// Seen only.
        Audit = 4,
        /// An AppArmor profile; written by the node, from the kernel's audit records.
        AppArmor = 5,
        /// A BPF program before the kernel's security function.
        FmodRet = 6,
        /// A constraint of SELinux; written by the node, from the kernel's audit records.
        SeLinux = 7,
    }
}
coded! {
    /// `enum pal_outcome`, twin of `palisade_domain::Verdict`.
    Outcome: u8 {
        /// Refused before it took effect.
        Denied = 0,
        /// The process was killed after the act had begun.
        Killed = 1,
        /// It happened, and was seen.
        Observed = 2,
        /// A rule asked for more than could be held; it happened.
        Unenforceable = 3,
    }
}
coded! {
    /// `enum pal_fail_reason`.
    FailReason: u8 {
        /// The full name was matched.
        None = 0,
        /// A mount crossing that the workload's mount table does not hold.
        UnknownMount = 1,
        /// More bytes than the walk's buffer.
        PathTooLong = 2,
        /// More components than the walk climbs.
        TooDeep = 3,
        /// Every guarded scratch slot was in use.
        NoScratch = 4,
        /// A DNS question, or arguments, longer than is read or of a form that cannot be.
        Unreadable = 5,
        /// No policy decided: the act was against Palisade itself.
        SelfProtection = 6,
    }
}
coded! {
    /// `enum pal_record_phase`.
    #[derive(Default)]
    Phase: u8 {
        /// Not in a container's cgroup.
        #[default]
        None = 0,
        /// The container runtime's own code inside the container's cgroup.
        Runtime = 1,
        /// The container's own code.
        Workload = 2,
    }
}
coded! {
    /// `enum pal_family`: which decision table decided.
    Family: u8 {
        /// Execution.
        Process = 0,
        /// Opening of files.
        File = 1,
        /// Creation of sockets.
        Socket = 2,
        /// Destinations.
        Connect = 3,
        /// Tracing.
        Ptrace = 4,
        /// Use of capabilities.
        Capability = 5,
        /// System calls.
        Syscall = 6,
        /// Questions for names.
        Dns = 7,
        /// Protections by name.
        Preset = 8,
    }
}
coded! {
    /// `enum pal_network_operation`.
    NetworkOperation: u8 {
        /// `socket(2)`.
        Socket = 0,
        /// `connect(2)`.
        Connect = 1,
        /// A datagram with an address of its own.
        Send = 2,
        /// `bind(2)`.
        Bind = 3,
        /// `listen(2)`.
        Listen = 4,
        /// `accept(2)`.
        Accept = 5,
    }
}

/// One record, borrowed from the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who, when, where.
    pub header: Header,
    /// What.
    pub body: Body<'a>,
    /// What was decided about it, if a policy was asked.
    pub decision: Option<DecisionTaken>,
}

impl Record<'_> {
    /// The kind that the body is of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.body {
            Body::Exec(_) => Kind::Exec,
            Body::Fork(_) => Kind::Fork,
            Body::Exit(_) => Kind::Exit,
            Body::Open(_) => Kind::Open,
            Body::Socket(_) => Kind::Socket,
            Body::Connect(_) => Kind::Connect,
            Body::Ptrace(_) => Kind::Ptrace,
            Body::FileChange(_) => Kind::FileChange,
            Body::Bind(_) => Kind::Bind,
            Body::Accept(_) => Kind::Accept,
            Body::Send(_) => Kind::Send,
            Body::Mount(_) => Kind::Mount,
            Body::Credentials(_) => Kind::Credentials,
            Body::Signal(_) => Kind::Signal,
            Body::Module(_) => Kind::Module,
            Body::Bpf(_) => Kind::Bpf,
            Body::Namespace(_) => Kind::Namespace,
            Body::Memfd(_) => Kind::Memfd,
            Body::IoUring(_) => Kind::IoUring,
            Body::ProcessAccess(_) => Kind::ProcessAccess,
            Body::Dns(_) => Kind::Dns,
            Body::Capability(_) => Kind::Capability,
            Body::Syscall(_) => Kind::Syscall,
            Body::Folded(_) => Kind::Folded,
        }
    }
}

/// `struct pal_record_head` without what only the decoder needs. All ids are of the initial namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Number of the record among its producer's, from 0; lost records take numbers too.
    pub sequence: u64,
    /// CPU, or [`PRODUCER_USER`] and up.
    pub producer: u32,
    /// The workload; 0 is the host.
    pub slot: u32,
    /// `CLOCK_BOOTTIME` at the probe, nanoseconds.
    pub boot_ns: u64,
    /// Unified cgroup of the task.
    pub cgroup_id: u64,
    /// Start of the process, boot-time nanoseconds: with `tgid` it names the process for ever.
    pub task_start_ns: u64,
    /// Start of the parent process, boot-time nanoseconds.
    pub parent_start_ns: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent process.
    pub parent_tgid: u32,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// File-system user.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
    /// Inode number of the mount namespace; 0 while the task exits.
    pub mnt_ns: u32,
    /// Inode number of the PID namespace.
    pub pid_ns: u32,
    /// Runtime or workload.
    pub phase: Phase,
    /// Of observed opens, file changes, mounts and modules: by which system call.
    pub call: Option<CallNumber>,
    /// `task->comm`, NUL padded.
    pub comm: [u8; 16],
}

/// A system call by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallNumber {
    /// Of the table that it was made by; below 2^15 - 1.
    pub number: u16,
    /// By the 32-bit table.
    pub is_compat: bool,
}

impl CallNumber {
    const COMPAT: u16 = 0x8000;

    fn from_code(code: u16) -> Option<Self> {
        let number = (code & !Self::COMPAT).checked_sub(1)?;
        Some(Self { number, is_compat: code & Self::COMPAT != 0 })
    }

    fn code(self) -> u16 {
        let number = self.number.wrapping_add(1) & !Self::COMPAT;
        if self.is_compat { number | Self::COMPAT } else { number }
    }
}

impl Header {
    /// `comm` up to its first NUL.
    #[must_use]
    pub fn comm_bytes(&self) -> &[u8] {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(self.comm.len());
        &self.comm[..end]
    }
}

/// `struct pal_record_decision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionTaken {
    /// Number of the blob that decided, as the slot held it.
    pub policy: u32,
    /// Policy set in force, as the slot held it.
    pub generation: u32,
    /// Decision word as the blob holds it (`bpf/include/blob.h`): any number may stand here, decode it with the blob's own function.
    pub word: u32,
    /// By what means.
    pub tier: Tier,
    /// What became of the act.
    pub outcome: Outcome,
    /// Whether the fail mode decided, and why.
    pub fail_reason: FailReason,
    /// Which table decided.
    pub family: Family,
}

/// A string of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Text<'a> {
    /// Its bytes, no NUL at the end; any bytes, not necessarily UTF-8.
    pub bytes: &'a [u8],
    /// Not all of it: a path keeps its end, everything else its beginning.
    pub cut: bool,
    /// Copied from user memory: another thread may have changed it in between.
    pub user: bool,
    /// It was there and could not be read.
    pub unreadable: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// See [`Kind::Exec`].
    Exec(Exec<'a>),
    /// See [`Kind::Fork`].
    Fork(Fork),
    /// See [`Kind::Exit`].
    Exit(Exit),
    /// See [`Kind::Open`].
    Open(Open<'a>),
    /// See [`Kind::Socket`].
    Socket(Network),
    /// See [`Kind::Connect`].
    Connect(Network),
    /// See [`Kind::Ptrace`].
    Ptrace(Ptrace<'a>),
    /// See [`Kind::FileChange`].
    FileChange(FileChange<'a>),
    /// See [`Kind::Bind`].
    Bind(Network),
    /// See [`Kind::Accept`].
    Accept(Network),
    /// See [`Kind::Send`].
    Send(Network),
    /// See [`Kind::Mount`].
    Mount(Mount<'a>),
    /// See [`Kind::Credentials`].
    Credentials(Credentials),
    /// See [`Kind::Signal`].
    Signal(Signal),
    /// See [`Kind::Module`].
    Module(Module<'a>),
    /// See [`Kind::Bpf`].
    Bpf(Bpf<'a>),
    /// See [`Kind::Namespace`].
    Namespace(Namespace),
    /// See [`Kind::Memfd`].
    Memfd(Memfd<'a>),
    /// See [`Kind::IoUring`].
    IoUring(IoUring<'a>),
    /// See [`Kind::ProcessAccess`].
    ProcessAccess(ProcessAccess<'a>),
    /// See [`Kind::Dns`].
    Dns(Dns<'a>),
    /// See [`Kind::Capability`].
    Capability(Capability),
    /// See [`Kind::Syscall`].
    Syscall(Syscall),
    /// See [`Kind::Folded`].
    Folded(Folded),
}

/// `struct pal_record_exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exec<'a> {
    /// The executed file as the task's own root names it; of a script its interpreter.
    pub path: Text<'a>,
    /// Working directory.
    pub cwd: Text<'a>,
    /// Arguments, each ended by NUL (the last may be cut); see [`Exec::arguments`].
    pub argument_bytes: Text<'a>,
    /// How many arguments there were, also those that are cut.
    pub argument_count: u32,
    /// Controlling terminal as `st_rdev`; 0: none.
    pub tty: u32,
    /// What was interpreted.
    pub script: Script<'a>,
}

/// What an exec's record tells of a script, or of whatever else the kernel gave to an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Script<'a> {
    /// There was none: the file was executed itself.
    #[default]
    None,
    /// Whether there was one, the record does not tell.
    Untold,
    /// The path of the execution was the interpreter.
    Interpreted {
        /// The first file: as the kernel found it or, with [`Text::user`], what the caller called it.
        path: Text<'a>,
        /// How many files led to the interpreter, one interpreted by the next; 0: not counted.
        count: u32,
    },
}

impl<'a> Exec<'a> {
    /// The captured arguments, at most `argument_count`; the last may be cut.
    #[must_use]
    pub fn arguments(&self) -> Arguments<'a> {
        Arguments::new(self.argument_bytes.bytes, self.argument_count)
    }
}

/// `struct pal_record_fork`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fork {
    /// The new process.
    pub child_tgid: u32,
    /// Its first thread.
    pub child_tid: u32,
    /// Its start, boot-time nanoseconds.
    pub child_start_ns: u64,
    /// Its number in its own PID namespace, where it never changes; 0: not known.
    pub child_own_tgid: u32,
    /// Inode number of that namespace.
    pub child_pid_ns: u32,
}

/// `struct pal_record_exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// As wait(2) gives it.
    pub status: i32,
}

/// `struct pal_record_open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open<'a> {
    /// The opened file; of a failed open the argument, with [`Text::user`].
    pub path: Text<'a>,
    /// `O_*` as asked for.
    pub flags: u32,
    /// Descriptor, or negative errno.
    pub result: i32,
}

/// `struct pal_record_network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Which call.
    pub operation: NetworkOperation,
    /// `AF_*`.
    pub domain: u8,
    /// `SOCK_*` without flags.
    pub socket_type: u8,
    /// `IPPROTO_*`, low byte.
    pub protocol: u8,
    /// Address (the peer's; for bind and listen the socket's own) and port in host order; absent for other domains and at creation.
    pub destination: Option<(IpAddr, u16)>,
    /// The address was copied from user memory: the call failed, or it is of a send, which no socket keeps.
    pub user: bool,
    /// Of the system call, negative errno; 0 where the program denied it or ran before the act.
    pub result: i32,
}

/// `struct pal_record_ptrace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ptrace<'a> {
    /// The target's executable.
    pub target_exe: Text<'a>,
    /// `PTRACE_*`; with 0 (`PTRACE_TRACEME`) the target is the acting process and the tracer its parent.
    pub request: u32,
    /// Target process.
    pub target_tgid: u32,
    /// Target thread.
    pub target_tid: u32,
    /// The target's workload.
    pub target_slot: u32,
    /// Start of the target process, boot-time nanoseconds.
    pub target_start_ns: u64,
}
