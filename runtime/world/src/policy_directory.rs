//! The directory that policies come from.

use std::path::PathBuf;

/// One file of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Relative to the directory, as diagnostics show it.
    pub name: String,
    /// Its whole content.
    pub content: Vec<u8>,
}

/// A file that is there and cannot be read. It takes no other file along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableFile {
    /// As a [`PolicyFile`]'s.
    pub name: String,
    /// Why, in words.
    pub reason: String,
}

/// A consistent reading: files in order of their names, none of which changed while it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyReading {
    /// Sorted by name.
    pub files: Vec<PolicyFile>,
    /// Those of which nothing can be said but that they are there: dangling links, files without permission or past their bound.
    pub unreadable: Vec<UnreadableFile>,
}

/// Why the directory as a whole could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyDirectoryError {
    /// The directory cannot be listed.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// More files than a reading may hold, or more in all of them.
    #[error("{path}: {what} is {found}, at most {bound} is read")]
    TooLarge {
        /// Which directory.
        path: PathBuf,
        /// `number of files`, `total size in bytes`.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// The bound.
        bound: u64,
    },
    /// Its file system does not answer.
    #[error("{path}: its file system does not answer (within {} s): see `mount`, and whether its server is there", patience.as_secs())]
    Hangs {
        /// The directory.
        path: PathBuf,
        /// How long it was waited for.
        patience: std::time::Duration,
    },
    /// Files kept changing while they were read.
    #[error("{path}: still changing after {attempts} readings")]
    Unsettled {
        /// The directory.
        path: PathBuf,
        /// How many readings were tried.
        attempts: u32,
    },
}

/// A directory of policy files.
pub trait PolicyDirectory: Send {
    /// Takes a consistent reading. A file that cannot be read is [named in it](PolicyReading::unreadable).
    ///
    /// # Errors
    /// See [`PolicyDirectoryError`]; the caller keeps what it has in force.
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError>;
    /// Whether something changed since the last call (or since the start), cheaply; may say yes too often, never too seldom.
    fn changed(&mut self) -> bool;
    /// Whether nothing changed since the last call of this or of [`PolicyDirectory::changed`]: a file that is being written is not
    /// whole, and a file system's time stamps do not tell apart what changed within a few milliseconds.
    fn settled(&mut self) -> bool;
}

/// Why a last good version is not kept, or not found again.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct LastGoodError {
    /// Where.
    pub path: PathBuf,
    /// What the operating system said, or what is wrong with what was kept.
    pub reason: String,
}

/// Where the last good version of each policy file outlives the process.
pub trait LastGood: Send {
    /// All that were kept, in order of their names, and what could not be found again.
    fn recall(&mut self) -> (Vec<PolicyFile>, Vec<LastGoodError>);
    /// Keeps a version in place of the one before it, if there was one.
    ///
    /// # Errors
    /// What the operating system said; the one before it may be kept or not.
    fn keep(&mut self, file: &PolicyFile) -> Result<(), LastGoodError>;
    /// Forgets a file that is gone; one that was never kept is forgotten already.
    ///
    /// # Errors
    /// What the operating system said.
    fn forget(&mut self, name: &str) -> Result<(), LastGoodError>;
}
