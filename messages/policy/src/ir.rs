//! The one rule IR that every kind of policy document lowers to.
//!
//! Invariant: a [`Rule`] is complete. Inheritance (item, family, spec: nearest wins), defaults and comma lists are resolved
//! before a rule is made, so that whoever reads rules never reads documents. Rules keep the order of their documents, but no
//! decision depends on it: the verdict order is a total order over the rules' own fields (see [`Specificity`]).
//!
//! Paths are bytes in disguise: `String`s of absolute, normalised paths without a trailing slash, except where a type says otherwise.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

pub use palisade_domain::DeviceMatch;
use palisade_domain::{Action, AlertRule, Family, PolicyRef, Posture};

/// What a rule says about one kind of act of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The document that the rule comes from.
    pub policy: Arc<PolicyRef>,
    /// Where in the document: `process.matchPaths[2]`, for messages to people.
    pub place: String,
    /// What the rule is about.
    pub matcher: Matcher,
    /// Executables that must be acting for the rule to apply: absolute paths. Empty, as are `source_directories`: any.
    pub sources: BTreeSet<String>,
    /// Directories of such executables, beside `sources`; only [`Matcher::Syscall`] rules have any.
    pub source_directories: BTreeSet<SourceDirectory>,
    /// What happens.
    pub action: Action,
    /// 1 to 10, absent when unset.
    pub severity: Option<u8>,
    /// Free labels that go into the alert, in document order.
    pub tags: Vec<String>,
    /// Text that goes into the alert.
    pub message: Option<String>,
}

impl Rule {
    /// What alerts say of it.
    #[must_use]
    pub fn told(&self) -> AlertRule {
        AlertRule {
            policy: self.policy.to_string(),
            policy_name: self.policy.name.clone(),
            place: self.place.clone(),
            severity: self.severity,
            tags: self.tags.clone(),
            message: self.message.clone(),
        }
    }
}

/// What a rule is about, by family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// Execution of a file.
    Process(PathRule),
    /// Opening of a file.
    File(PathRule),
    /// Creation of a socket (and every later use of it).
    Socket(SocketMatch),
    /// Connection to a destination.
    Destination(DestinationMatch),
    /// Tracing of a process whose executable is the path.
    Ptrace(PathMatch),
    /// Use of a capability.
    Capability(CapabilityMatch),
    /// System calls. Their rules audit, whatever their document says: KubeArmor's do, and a filter that refuses calls is another means.
    Syscall(SyscallMatch),
    /// A question to a DNS server.
    Dns(DnsMatch),
    /// A protection by name.
    Preset(Preset),
    /// A USB device of a host.
    Device(DeviceMatch),
}

impl Matcher {
    /// The family whose allow-list and posture the rule belongs to. Sockets and destinations are both [`Family::Network`].
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Process(_) => Family::Process,
            Self::File(_) => Family::File,
            Self::Socket(_) | Self::Destination(_) => Family::Network,
            Self::Ptrace(_) => Family::Ptrace,
            Self::Capability(_) => Family::Capabilities,
            Self::Syscall(_) => Family::Syscalls,
            Self::Dns(_) => Family::Dns,
            Self::Preset(_) => Family::Presets,
            Self::Device(_) => Family::Device,
        }
    }
}

/// A path with the modifiers that decide whether the rule bites.
///
/// A rule that matches by path and source *decides*; its modifiers choose the outcome. `Block` with a modifier means "all but
/// that": with `owner_only` the owner is permitted and everybody else blocked, with `read_only` reading is permitted and
/// writing blocked. `Allow` with a modifier permits only that; the rest gets the family's posture. `Audit` audits what `Block` would block.
/// Several modifiers are met together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// Which paths.
    pub path: PathMatch,
    /// Only the file's owner (its uid equals the acting fsuid; root is not exempt).
    pub owner_only: bool,
    /// Only reading. Always false for [`Matcher::Process`].
    pub read_only: bool,
    /// `Some(false)`: only without a controlling terminal. `Some(true)` and `None` change nothing, as in KubeArmor.
    pub pts: Option<bool>,
    /// Only where there are arguments after `argv[0]` and every one is one of these; order and number are not checked, and an execution
    /// without arguments is none of these, as in KubeArmor. Empty: any arguments, or none. Always empty for [`Matcher::File`].
    pub allowed_arguments: BTreeSet<String>,
}

impl PathRule {
    /// A path without modifiers.
    #[must_use]
    pub fn of(path: PathMatch) -> Self {
        Self { path, owner_only: false, read_only: false, pts: None, allowed_arguments: BTreeSet::new() }
    }
}

/// A directory whose executables must be acting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceDirectory {
    /// With leading and trailing slash.
    pub directory: String,
    /// Everything below, not only direct children.
    pub recursive: bool,
}

/// A set of absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// Exactly this absolute path.
    Exact(String),
    /// Any path whose last component is this name (`execname`).
    Name(String),
    /// The directory itself and what is in it: direct children, or everything below. Stored with its trailing slash.
    Directory {
        /// With leading and trailing slash: `/etc/`, or `/`.
        directory: String,
        /// Everything below, not only direct children.
        recursive: bool,
    },
    /// A glob: `*` and `?` and `[...]` stay inside a component, `**` crosses, `{a,b}` alternates, `\` escapes the next byte.
    Pattern(String),
    /// Every path (a ptrace rule without a target).
    Any,
}

/// Which sockets, by the numbers of `socket(2)`. `None` is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketMatch {
    /// As the user wrote it, lower case: `tcp`.
    pub name: String,
    /// Alternatives, any of which matches.
    pub any_of: Vec<SocketShape>,
    /// A modifier: as [`PathRule::pts`].
    pub pts: Option<bool>,
}

/// One combination of `socket(2)` numbers (Linux `AF_*`, `SOCK_*`, `IPPROTO_*`; a protocol of 0 is the kernel's default of the type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketShape {
    /// `AF_*`.
    pub domain: Option<u8>,
    /// `SOCK_*` without flags.
    pub kind: Option<u8>,
    /// `IPPROTO_*`, its low byte: `IPPROTO_MPTCP` (262) is TCP, which it speaks on the wire.
    pub protocol: Option<u8>,
}

/// Which destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationMatch {
    /// Network and prefix length in bits; IPv4-mapped IPv6 addresses are matched as IPv4. `None` is any address of either family.
    pub cidr: Option<(IpAddr, u8)>,
    /// Inclusive port range. `None` is any.
    pub ports: Option<(u16, u16)>,
    /// Transport. `None` is any.
    pub protocol: Option<Transport>,
}

/// Transport protocols that a destination may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// `IPPROTO_TCP` over a stream socket.
    Tcp,
    /// `IPPROTO_UDP` over a datagram socket.
    Udp,
    /// `IPPROTO_SCTP` over a stream or seqpacket socket.
    Sctp,
}

/// Which capability.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityMatch {
    /// Lower case, without `cap_`: `net_raw`.
    pub name: String,
    /// `CAP_*`, 0 to 40.
    pub number: u8,
}

/// Which system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallMatch {
    /// As written, in document order, each once.
    pub names: Vec<String>,
    /// Of the 64-bit table: x86-64, or aarch64.
    pub numbers: BTreeSet<u16>,
    /// Of the 32-bit table, which 64-bit kernels also serve: i386, or arm.
    pub numbers32: BTreeSet<u16>,
    /// Only calls that are about this path. `None`: whatever they are about.
    pub path: Option<PathMatch>,
}

/// Which names are asked for: the domain itself and all that are below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsMatch {
    /// Lower case, without a trailing dot.
    pub domain: String,
}

/// The protections that KubeArmor knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// `filelessExec`: execution of what has no file on a file system of the container (memfd, /dev/shm, /run/shm).
    FilelessExec,
    /// `anonMapExec`: memory that is executable and of no file, or that may be written although it is of one (privately).
    AnonMapExec,
    /// `protectEnv`: reading of another process's environment from /proc.
    ProtectEnv,
    /// `protectProc`: access to another process's directory in /proc.
    ProtectProc,
    /// `exec`: execution from a terminal by a process that entered the running container from outside, or that descends from one.
    Exec,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::FilelessExec, Self::AnonMapExec, Self::ProtectEnv, Self::ProtectProc, Self::Exec];

    /// As policies name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FilelessExec => "filelessExec",
            Self::AnonMapExec => "anonMapExec",
            Self::ProtectEnv => "protectEnv",
            Self::ProtectProc => "protectProc",
            Self::Exec => "exec",
        }
    }
}

/// Something that a document asks for and that nothing holds, on any kernel, in this version. The rest of the document holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unheld {
    /// The document.
    pub policy: Arc<PolicyRef>,
    /// Where in it: `process.matchPaths[2]`, `apparmor`.
    pub place: String,
    /// What of the policy language: `apparmor`, `device`, `syscalls`.
    pub what: String,
    /// Why not.
    pub reason: String,
}

/// All rules of one workload with the postures that hold where no rule does: the input of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadRules {
    /// In document order.
    pub rules: Vec<Arc<Rule>>,
    /// What its policies ask for and nothing holds, in document order. It decides nothing, and is no part of what is compiled.
    pub unheld: Vec<Arc<Unheld>>,
    /// What happens to what no rule of an allow-listed family names.
    pub postures: Postures,
}

/// The default posture of each family. It holds only in families that have an Allow rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postures {
    /// Exec and open (KubeArmor's "file" posture covers both).
    pub file: Posture,
    /// Sockets, destinations and DNS.
    pub network: Posture,
    /// Capabilities, and ptrace, which KubeArmor does not know.
    pub capabilities: Posture,
    /// USB devices of the host; no namespace has a word in it.
    pub device: Posture,
}

impl Default for Postures {
    fn default() -> Self {
        Self { file: Posture::Audit, network: Posture::Audit, capabilities: Posture::Audit, device: Posture::Audit }
    }
}

impl Postures {
    /// The family's; `None` for those that are never allow-lists.
    #[must_use]
    pub fn of(&self, family: Family) -> Option<Posture> {
        match family {
            Family::Process | Family::File => Some(self.file),
            Family::Network | Family::Dns => Some(self.network),
            Family::Capabilities | Family::Ptrace => Some(self.capabilities),
            Family::Device => Some(self.device),
            Family::Syscalls | Family::Presets => None,
        }
    }
}

/// Where a rule stands in the verdict order; greater wins, `Block > Audit > Allow` decides a tie.
///
/// Derived `Ord` is the order: a rule with a (matching) source first; then exact path, then bare name, then directories and
/// patterns on one scale by the length in bytes of their literal prefix. For the network, the more fixed bits of the
/// destination (prefix bits, then a port, then a protocol) or of the socket win, and a destination goes before a socket. For DNS the
/// longer domain wins, for USB devices KubeArmor's own sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    /// The rule names a source.
    pub has_source: bool,
    /// 2 exact path, destination, capability, system call or preset, 1 bare name, 0 directory, pattern, socket, domain or device.
    pub kind: u8,
    /// Bytes of literal prefix, or fixed bits of an endpoint.
    pub length: u32,
}
