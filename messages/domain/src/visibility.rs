//! What of a workload's doings is to be seen.
//!
//! Invariant: a set of classes, never of kinds of records: which kinds a class stands for is the kernel adapter's table. Decisions
//! are reported whatever is visible.
//!
//! The names are `KubeArmor`'s where it has the class (`process`, `file`, `network`, `capabilities`, `dns`), so that annotations that
//! exist mean here what they mean there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A class of acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisibilityClass {
    /// Execution, forks, exits; tracing, signals, access to another process's memory.
    Process,
    /// Opens, changes of names and of what inodes say, files without a name.
    File,
    /// Sockets: creation, destinations, own addresses, accepted connections, datagrams.
    Network,
    /// Capabilities that were made use of; none are seen before Linux 6.14.
    Capabilities,
    /// DNS questions and answers.
    Dns,
    /// User ids, group ids and capability sets that are set.
    Credentials,
    /// What changes the kernel or its views: modules, BPF, mounts, namespaces, `io_uring`.
    Kernel,
    /// Every system call.
    Syscalls,
}

impl VisibilityClass {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::File,
        Self::Network,
        Self::Capabilities,
        Self::Dns,
        Self::Credentials,
        Self::Kernel,
        Self::Syscalls,
    ];

    /// As annotations and arguments name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::File => "file",
            Self::Network => "network",
            Self::Capabilities => "capabilities",
            Self::Dns => "dns",
            Self::Credentials => "credentials",
            Self::Kernel => "kernel",
            Self::Syscalls => "syscalls",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of classes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Visibility(u16);

impl Visibility {
    /// Nothing but decisions.
    pub const NONE: Self = Self(0);

    /// Every class but system calls, whose records are several times all others together: they are asked for by name.
    pub const ALL: Self = Self(!(!0 << VisibilityClass::ALL.len()) & !VisibilityClass::Syscalls.bit());

    /// The set with this class too.
    #[must_use]
    pub const fn with(self, class: VisibilityClass) -> Self {
        Self(self.0 | class.bit())
    }

    /// The classes of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is the class in the set?
    #[must_use]
    pub const fn has(self, class: VisibilityClass) -> bool {
        self.0 & class.bit() != 0
    }

    /// Its classes, in order.
    pub fn classes(self) -> impl Iterator<Item = VisibilityClass> {
        VisibilityClass::ALL.into_iter().filter(move |class| self.has(*class))
    }
}

impl FromIterator<VisibilityClass> for Visibility {
    fn from_iter<I: IntoIterator<Item = VisibilityClass>>(classes: I) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

/// A word that names no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no class of visibility; there are process, file, network, capabilities, dns, credentials, kernel, syscalls, and none and all"
)]
pub struct UnknownVisibility(
    /// The word.
    pub String,
);

/// Names between commas, as in the annotation `kubearmor-visibility`; spaces around them mean nothing. `none` adds nothing, `all`
/// adds [`Visibility::ALL`], and no word at all is nothing, too.
impl FromStr for Visibility {
    type Err = UnknownVisibility;

    fn from_str(text: &str) -> Result<Self, UnknownVisibility> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.into_iter().try_fold(Self::NONE, |seen, word| match word {
            "none" => Ok(seen),
            "all" => Ok(seen.union(Self::ALL)),
            _ => {
                let class = VisibilityClass::ALL.into_iter().find(|class| class.name() == word);
                class.map(|class| seen.with(class)).ok_or_else(|| UnknownVisibility(word.to_owned()))
            }
        })
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        for (n, class) in self.classes().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(class.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Visibility({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_visibility_reads_what_it_writes() {
        for classes in 0..1_u16 << VisibilityClass::ALL.len() {
            let set = Visibility(classes);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!(
            " process ,file,,network".parse::<Visibility>().map(|set| set.to_string()),
            Ok("process,file,network".into())
        );
        assert_eq!(("".parse(), "none".parse()), (Ok(Visibility::NONE), Ok(Visibility::NONE)));
    }

    #[test]
    fn unit_visibility_of_all_has_no_system_calls_and_an_unknown_word_is_refused() {
        let all: Visibility = "all".parse().unwrap_or_default();
        let missing: Vec<_> = VisibilityClass::ALL.into_iter().filter(|class| !all.has(*class)).collect();
        assert_eq!(missing, [VisibilityClass::Syscalls]);
        assert_eq!("process,Files".parse::<Visibility>(), Err(UnknownVisibility("Files".into())));
    }
}
