//! Attacks on enforcement, done for real, each with what every tier makes of it: the table that CI prints.
//!
//! - [`table`] says what a row is, [`rows`] has them all: 34 classes of attacks, each attack in some variants.
//! - `program/` is what attacks, by raw system calls, in a cgroup, a mount namespace and an overlay of its own ([`Place`]).
//! - [`attempt`] does one attack twice: without a policy, where it must reach what it is after, else it would show nothing; and under the
//!   policy, which comes between its preparation and the act. [`ring`] does them all and prints a line each.
//! - [`race`] is many acts at once.
//!
//! Invariant: an attack is denied only where the call gave `EPERM` or `EACCES`, or who made it was killed, *and* what it was after is as it
//! was, as is seen from outside ([`Place::trace`]).
//! Invariant: a denial of which no record tells, by its tier and of that family, is a failure like an attack that went through.
//! Invariant: a cell of the table is never blank: what a tier cannot hold is said with its reason, and is tried all the same, so that a
//! reason that no longer holds fails.
#![forbid(unsafe_code)]

mod attempt;
mod held;
mod place;
pub mod policies;
pub mod race;
pub mod ring;
pub mod rows;
pub mod table;

pub use attempt::{Came, Told, attempt};
pub use held::Held;
pub use place::{Attacker, Place};

/// Everything that can go wrong beside an attack that went through.
#[derive(Debug)]
pub struct Failed(pub String);

impl std::fmt::Display for Failed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// What workloads are held by.
pub trait Means {
    /// Its name in the table.
    fn column(&self) -> table::Column;
    /// A new workload, without policy.
    ///
    /// # Errors
    /// Of the kernel.
    fn admit(&mut self, place: &Place) -> Result<(), Failed>;
    /// The profile that the workload's runtime starts it under; empty: none.
    fn profile(&self) -> String {
        String::new()
    }
    /// The context of SELinux that it starts it in; empty: none of its own.
    fn context(&self) -> String {
        String::new()
    }
    /// Its first process is there, and has prepared.
    ///
    /// # Errors
    /// Of the kernel.
    fn started(&mut self, pid: u32) -> Result<(), Failed>;
    /// Puts a policy in force.
    ///
    /// # Errors
    /// Of the kernel.
    fn install(&mut self, policy: &palisade_protocol::CompiledPolicy) -> Result<(), Failed>;
    /// What was told of decisions since the policy came; what the kernel tells by and by is waited for until one of them `is_awaited`, or
    /// for as long as is patient enough. Nothing is waited for where nothing is awaited.
    ///
    /// # Errors
    /// Where records cannot be read.
    fn told(&mut self, is_awaited: Option<&dyn Fn(&Told) -> bool>) -> Result<Vec<Told>, Failed>;
    /// Forgets the workload.
    ///
    /// # Errors
    /// Of the kernel.
    fn release(&mut self) -> Result<(), Failed>;
}
