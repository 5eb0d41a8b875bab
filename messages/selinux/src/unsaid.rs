//! What a policy blocks and constraints do not say, each with its reason.

use palisade_kernel_abi::blob::{Family, Preset};

/// One thing that is unsaid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsaid {
    /// `fromSource`.
    Source(Family),
    /// `pts`.
    Terminal(Family),
    /// Files and executables: whatever a rule says of paths.
    Paths(Family),
    /// Tracing of some executables only.
    Targets,
    /// Destinations of connections.
    Destinations,
    /// Names that are asked for.
    Names,
    /// System calls.
    Syscalls,
    /// A preset that no permission is about.
    Preset(Preset),
    /// Executable mappings of memfd and of shared memory, where other executable memory is denied.
    SharedMemory,
    /// Of this class only some sockets are blocked.
    Sockets(&'static str),
    /// The policy in force does not know the permission of the class.
    Permission(&'static str, &'static str),
}

impl Unsaid {
    /// As policies name it.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Source(_) => "fromSource".to_owned(),
            Self::Terminal(_) => "pts".to_owned(),
            Self::Paths(Family::Process) => "process".to_owned(),
            Self::Paths(_) => "file".to_owned(),
            Self::Targets => "ptrace".to_owned(),
            Self::Destinations => "destinations".to_owned(),
            Self::Names => "matchDNSQueries".to_owned(),
            Self::Syscalls => "syscalls".to_owned(),
            Self::Preset(Preset::FilelessExec) => "preset:filelessExec".to_owned(),
            Self::Preset(Preset::AnonMapExec) => "preset:anonMapExec".to_owned(),
            Self::Preset(Preset::ProtectEnv) => "preset:protectEnv".to_owned(),
            Self::Preset(Preset::ProtectProc) => "preset:protectProc".to_owned(),
            Self::Preset(Preset::Exec) => "preset:exec".to_owned(),
            Self::SharedMemory => "executable mappings of memfd and shared memory".to_owned(),
            Self::Sockets(class) => format!("some sockets of the class {class}"),
            Self::Permission(class, permission) => format!("{class}:{permission}"),
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(_) => {
                "a label is a task's, whatever it executes: what only some executables may do is permitted to all"
            }
            Self::Terminal(_) => "no permission of SELinux is about the terminal",
            Self::Paths(_) => {
                "SELinux knows labels and not paths, and what has no path has the same classes as what has one"
            }
            Self::Targets => "a traced process is known by its label, not by its executable",
            Self::Destinations => "addresses are judged by labels of ports and nodes, not by the policy's own",
            Self::Names => "no permission of SELinux is about DNS",
            Self::Syscalls => "no permission of SELinux is about a system call as such",
            Self::Preset(_) => "no permission of SELinux is about it",
            Self::SharedMemory => "SELinux asks there for the right to execute the file, which goes by labels",
            Self::Sockets(_) => "a constraint denies a whole class of sockets, and the policy permits some of this one",
            Self::Permission(..) => "the SELinux policy in force does not know it, so that the kernel never asks",
        }
    }
}
