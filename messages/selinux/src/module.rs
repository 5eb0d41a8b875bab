//! The module: the users of the pool, and a constraint for whatever any of them is denied.
//!
//! Invariant: the text depends on its inputs alone, and equal inputs give equal text, so that who has loaded a text need not load it again.
//!
//! Invariant: who is denied anything cannot take another user, neither by an execution nor without one: distributions' policies say so of the
//! domains of containers, and it is not left to them alone.
//!
//! Decision: one constraint for all permissions of a class that the same users are denied, not one for each workload: the kernel goes
//! through all constraints of a class for each decision that its cache does not have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{Lowered, UserNumber};

/// How the constraint begins that keeps users. Each policy has these permissions, or nothing could be executed in a context.
const KEEPS: &str = "(constrain (process (dyntransition transition)) (or (eq u1 u2) ";

/// The last category that policies have.
pub const MAX_CATEGORY: u16 = 1023;

/// The levels that tasks of our users may have: those of the distribution's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels {
    /// The last category of the sensitivity `s0`; `None`: the policy has none.
    pub last_category: Option<u16>,
}

impl Levels {
    fn high(self) -> String {
        match self.last_category {
            None => "(s0)".to_owned(),
            Some(0) => "(s0 (c0))".to_owned(),
            Some(last) => format!("(s0 (range c0 c{last}))"),
        }
    }
}

/// The module's text.
#[must_use]
pub fn module<'a>(levels: Levels, denied: impl IntoIterator<Item = (UserNumber, &'a Lowered)>) -> String {
    let mut text = String::from("; Made by Palisade of the policies in force.\n");
    for user in UserNumber::all() {
        users(&mut text, user, &levels.high());
    }
    let mut of_permission: BTreeMap<(&str, &str), BTreeSet<UserNumber>> = BTreeMap::new();
    let mut kept: BTreeSet<UserNumber> = BTreeSet::new();
    for (user, lowered) in denied {
        kept.extend((!lowered.is_empty()).then_some(user));
        for permission in lowered.denied() {
            of_permission.entry(permission).or_default().insert(user);
        }
    }
    let mut of_users: BTreeMap<(&str, &BTreeSet<UserNumber>), Vec<&str>> = BTreeMap::new();
    for ((class, permission), users) in &of_permission {
        of_users.entry((class, users)).or_default().push(permission);
    }
    for ((class, users), permissions) in of_users {
        constraint(&mut text, class, &permissions.join(" "), users);
    }
    if !kept.is_empty() {
        let _ = writeln!(text, "{KEEPS}(neq u1 ({}))))", names(&kept));
    }
    text
}

fn names(users: &BTreeSet<UserNumber>) -> String {
    users.iter().map(UserNumber::to_string).collect::<Vec<_>>().join(" ")
}

/// What a module's constraints deny each user: [`module`] read again, so that who comes later knows what is in force. `None` where a
/// constraint is none that this version writes.
#[must_use]
pub fn denied_by(module: &str) -> Option<BTreeMap<UserNumber, Lowered>> {
    let mut all: BTreeMap<UserNumber, Lowered> = BTreeMap::new();
    let lines = module.lines().filter(|line| !line.starts_with(KEEPS));
    for constraint in lines.filter_map(|line| line.strip_prefix("(constrain (")) {
        let (what, users) = constraint.strip_suffix(")))")?.split_once(")) (neq u1 (")?;
        let (class, permissions) = what.split_once(" (")?;
        for user in users.split(' ') {
            let lowered = all.entry(UserNumber::of_name(user)?).or_default();
            if !permissions.split(' ').all(|permission| lowered.restore(class, permission)) {
                return None;
            }
        }
    }
    Some(all)
}

/// A text takes whatever is written to it, so that there is no error to tell.
fn users(text: &mut String, user: UserNumber, high: &str) {
    let _ = writeln!(text, "(user {user})\n(userrole {user} system_r)");
    let _ = writeln!(text, "(userlevel {user} (s0))\n(userrange {user} ((s0) {high}))");
}

fn constraint(text: &mut String, class: &str, permissions: &str, users: &BTreeSet<UserNumber>) {
    let _ = writeln!(text, "(constrain ({class} ({permissions})) (neq u1 ({})))", names(users));
}
