//! Holds workloads to their policies: one [`Enforcer`] for each container, and the [`Roster`] that starts and stops them.
//!
//! One enforcer:
//! - *Owns*: one slot: its membership in the kernel, the policy in force for it, the open admission of its container.
//! - *Hears*: [`PolicySetChanged`](palisade_protocol::PolicySetChanged), [`WorkloadStarted`](palisade_protocol::WorkloadStarted), its admission.
//! - *Says*: [`CompilePolicy`](palisade_protocol::CompilePolicy), [`PolicyInstalled`](palisade_protocol::PolicyInstalled),
//!   [`ConditionReported`](palisade_protocol::ConditionReported).
//! - *Bounds*: one compilation and one installation at a time; the newest set replaces what waits.
//! - *On restart*: what stands in the kernel stands on; it admits its slot again (harmless), hears the newest set again from the roster
//!   and installs it. An admission that was open is refused: the container's start fails closed.
//! - *On overload*: sets coalesce to the newest.
//!
//! The roster:
//! - *Owns*: which enforcer has which slot, the newest set. *Hears*: [`WorkloadAppeared`](palisade_protocol::WorkloadAppeared),
//!   [`WorkloadStarted`](palisade_protocol::WorkloadStarted), [`WorkloadGone`](palisade_protocol::WorkloadGone),
//!   [`PolicySetChanged`](palisade_protocol::PolicySetChanged). *Says*: all of these on to its enforcers. *Bounds*: as many enforcers as there
//!   are slots. *On restart*: it shares its fate with the enforcers and with the actor of the workloads, which tells all anew. *On
//!   overload*: the sender waits.
#![forbid(unsafe_code)]

pub mod actor;
mod error;
pub mod roster;
pub mod state;

pub use actor::{Enforcer, Wiring};
pub use error::EnforcementFailed;
pub use roster::Roster;

#[cfg(test)]
mod roster_tests;
#[cfg(test)]
mod tests;
