//! User names as a port.

/// Whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PasswdOf {
    /// The host's own `/etc/passwd`.
    Host,
    /// The one of the container whose processes are in this mount namespace.
    MountNamespace(u32),
}

/// A process by which a container's root is found: its id, and its start in hundredths of a second since boot.
pub type PasswdCandidate = (u32, u64);

/// What a reading brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdAnswer {
    /// What was asked for.
    pub of: PasswdOf,
    /// User ids of the initial user namespace, and the names that they have; `None`: there is no such file, none of the processes is
    /// there any more, or it is none that is read.
    pub names: Option<Vec<(u32, String)>>,
}

/// Reads `/etc/passwd` files. Neither call waits for anything: a file may be on a file system that a container serves itself.
pub trait PasswdReader: Send {
    /// Asks for the names; false where too many wait to be read.
    fn ask(&mut self, of: PasswdOf, candidates: &[PasswdCandidate]) -> bool;
    /// The next answer that has come.
    fn answer(&mut self) -> Option<PasswdAnswer>;
}
