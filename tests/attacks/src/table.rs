//! What a row of the table is.

use std::fmt;

use palisade_kernel_abi::record::{Outcome, Tier};

use crate::policies::Policy;

/// A set of tiers that a kernel gives together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Programs on LSM hooks.
    BpfLsm,
    /// The same programs before the functions that ask the LSMs.
    FmodRet,
    /// The container's AppArmor profile for programs, files and capabilities, beside what the next has.
    Profile,
    /// Constraints on the SELinux user of the container's context for capabilities, beside what the next has.
    SeLinux,
    /// fanotify for files and programs, cgroup BPF for sockets, a signal for tracing, nothing for capabilities.
    Fanotify,
}

impl Column {
    /// Those that decide, and tell of it.
    #[must_use]
    pub const fn tiers(self) -> &'static [Tier] {
        match self {
            Self::BpfLsm => &[Tier::BpfLsm, Tier::CgroupBpf],
            Self::FmodRet => &[Tier::FmodRet, Tier::CgroupBpf],
            Self::Profile => &[Tier::AppArmor, Tier::Fanotify, Tier::CgroupBpf, Tier::Kill],
            Self::SeLinux => &[Tier::SeLinux, Tier::Fanotify, Tier::CgroupBpf, Tier::Kill],
            Self::Fanotify => &[Tier::Fanotify, Tier::CgroupBpf, Tier::Kill],
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::BpfLsm => "bpf-lsm",
            Self::FmodRet => "fmod-ret",
            Self::Profile => "apparmor",
            Self::SeLinux => "selinux",
            Self::Fanotify => "fanotify",
        })
    }
}

/// What becomes of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused, and told so.
    Denied,
    /// Who attacks is killed at its call, and told so.
    Killed,
    /// What it sends does not arrive, and that is told; the call cannot know.
    Dropped,
    /// It goes through, for the policy does not speak of it: what would.
    Allowed(&'static str),
    /// It goes through although the policy speaks of it: why.
    Unenforceable(&'static str),
}

impl Verdict {
    /// What is told of it, where something is to be.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Denied | Self::Dropped => Some(Outcome::Denied),
            Self::Killed => Some(Outcome::Killed),
            Self::Allowed(_) | Self::Unenforceable(_) => None,
        }
    }

    /// As the table has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Killed => "killed",
            Self::Dropped => "dropped",
            Self::Allowed(_) => "allowed as declared",
            Self::Unenforceable(_) => "unenforceable",
        }
    }

    /// Why it goes through.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Allowed(reason) | Self::Unenforceable(reason) => Some(reason),
            Self::Denied | Self::Killed | Self::Dropped => None,
        }
    }
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Of its class, and which of it.
    pub number: (u8, u8),
    /// As the attacking program knows it (`program/`).
    pub attack: &'static str,
    /// What it is tried under.
    pub policy: Policy,
    /// What programs on hooks make of it, whichever of the two ways they are run.
    pub hooks: Verdict,
    /// What becomes of it under a profile, without such programs.
    pub profile: Verdict,
    /// And under constraints.
    pub selinux: Verdict,
    /// What becomes of it without any of them.
    pub fanotify: Verdict,
    /// Somebody on the host moves the attacker out of its cgroup meanwhile.
    pub is_moved: bool,
    /// Not every kernel can do what it needs, and then there is nothing to hold.
    pub may_be_missing: bool,
}

impl Attack {
    /// What is to become of it.
    #[must_use]
    pub const fn verdict(&self, column: Column) -> Verdict {
        match column {
            Column::BpfLsm | Column::FmodRet => self.hooks,
            Column::Profile => self.profile,
            Column::SeLinux => self.selinux,
            Column::Fanotify => self.fanotify,
        }
    }

    /// `20.1 mmap-shared`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{} {}", self.number.0, self.number.1, self.attack)
    }
}

/// A class of attacks, or some of it, that other tests do for real.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere {
    /// Of the class.
    pub class: u8,
    /// Of what the tests are.
    pub what: &'static str,
    /// Their names.
    pub tests: &'static [&'static str],
}

/// What of a class nobody tries.
#[derive(Debug, Clone, Copy)]
pub struct Untried {
    /// Of the class.
    pub class: u8,
    /// What.
    pub what: &'static str,
    /// Why.
    pub reason: &'static str,
}
