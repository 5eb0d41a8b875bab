//! SELinux constraints in CIL, lowered from the blobs that decide for workloads; and what SELinux says of a denial.
//!
//! ```text
//!   blob ──► Blob::mildest ──► lowered: class and permission denied whoever acts; what is unsaid, and why
//!   number of each workload's user, and what was lowered of it ──► module: users and constraints, one text
//!   audit record of the kernel ──► line ──► an act, which is walked by the blob again for its rule
//! ```
//!
//! SELinux takes rights away by constraints alone, and a constraint can tell a task by the *user* of its context
//! (`palisade_7_u:system_r:container_t:s0:c1,c2`). So a workload's user names its rules, while type, role, level and the labels of files stay
//! those of the distribution's policy, and a rule is one statement: `(constrain (capability (chown)) (neq u1 palisade_7_u))`. All users of
//! the pool are declared in each module, rules or none: a label is valid before there is any rule for it, and after.
//!
//! A constraint denies exactly what the blob blocks *whoever acts*: SELinux does not see the acting executable, paths, arguments, ports or
//! names. What depends on them is named ([`Unsaid`]) and left to the other tiers.
//!
//! Decisions:
//! - Users and not types: a type of ours for each workload would need all the rules that the distribution's has, and its files' labels.
//! - No rule on files, not even one on all of them from `/`: what has no path (memfd, pipes) has the same classes as what has one, and is
//!   asked about at each use. To relabel what a path names is not ours to do.
//! - Audit is not said: `auditallow` goes by types, which many workloads share. Probes see what is audited.
//!
//! Limits:
//! - A domain that is permissive alone, and a permissive system, deny nothing; such records say so ([`Line::denied`]).
//! - A `dontaudit` of the distribution's for a type keeps silent about our denials of the same permission, too.
//! - Distributions let a task make files only as its own user (`u1 == u2` for `create`): the label of a container's mounts needs the same user
//!   as its process, as `seLinuxOptions.user` of a pod gives both.
#![forbid(unsafe_code)]

mod classes;
mod line;
mod lowered;
mod module;
mod sockets;
mod unsaid;

#[cfg(test)]
mod tests;

pub use classes::Classes;
pub use line::{Line, LineError, Subject};
pub use lowered::{FAMILIES, Lowered};
pub use module::{Levels, MAX_CATEGORY, denied_by, module};
pub use sockets::SocketClass;
pub use unsaid::Unsaid;

use std::fmt;

/// How many users the pool has: so many workloads with rules of their own a node can hold by SELinux.
pub const USERS: u8 = 128;

/// The number of a user of ours: `palisade_7_u`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserNumber(u8);

impl UserNumber {
    /// Of the pool.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < USERS { Some(Self(number)) } else { None }
    }

    /// All of the pool.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..USERS).map(Self)
    }

    /// By its name: there is one way to write each, `palisade_07_u` is no user of the module.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("palisade_")?.strip_suffix("_u")?;
        digits.parse().ok().and_then(Self::new).filter(|number| number.0.to_string() == digits)
    }

    /// Of the user of a whole context, if it is one of ours; a user alone is no context.
    #[must_use]
    pub fn of_context(context: &str) -> Option<Self> {
        let (user, _) = context.split_once(':')?;
        Self::of_name(user)
    }
}

/// The level of a whole context, by which containers of one user may be told apart; empty where the policy has none.
#[must_use]
pub fn level_of(context: &str) -> &str {
    context.splitn(4, ':').nth(3).unwrap_or_default()
}

impl fmt::Display for UserNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "palisade_{}_u", self.0)
    }
}
