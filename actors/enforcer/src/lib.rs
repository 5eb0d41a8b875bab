//! Holds workloads to their policies: one [`Enforcer`] for each container, and the [`Roster`] that starts and stops them.
//!
//! One enforcer:
//! - *Owns*: one slot: its membership in the kernel, the policy in force for it, the open admission of its container.
//! - *Hears*: [`PolicySetChanged`](palisade_protocol::PolicySetChanged), [`WorkloadStarted`](palisade_protocol::WorkloadStarted),
//!   [`SetVisibility`](palisade_protocol::SetVisibility), its admission.
//! - *Says*: [`CompilePolicy`](palisade_protocol::CompilePolicy), [`PolicyAnnounced`](palisade_protocol::PolicyAnnounced) before and
//!   [`PolicyInstalled`](palisade_protocol::PolicyInstalled) after an installation, the host's
//!   [`DevicesJudged`](palisade_protocol::DevicesJudged), [`ConditionReported`](palisade_protocol::ConditionReported).
//! - *Bounds*: one open question to the compiler (an older one is taken back), one installation, one retry of each kind at a time; the
//!   newest set replaces what waits.
//! - *On restart*: what stands in the kernel stands on, and the condition says so; it admits its slot again (harmless), hears the newest
//!   set again from the roster and installs it. An admission that was open is refused: the container's start fails closed.
//! - *On overload*: sets coalesce to the newest.
//!
//! The roster:
//! - *Owns*: which enforcer has which slot, the newest set; that a slot is released only while it has no enforcer.
//! - *Hears*: [`WorkloadAppeared`](palisade_protocol::WorkloadAppeared), [`WorkloadStarted`](palisade_protocol::WorkloadStarted),
//!   [`WorkloadGone`](palisade_protocol::WorkloadGone), [`PolicySetChanged`](palisade_protocol::PolicySetChanged),
//!   [`SetVisibility`](palisade_protocol::SetVisibility).
//! - *Says*: all of these on to its enforcers; [`WorkloadGone`](palisade_protocol::WorkloadGone) once a slot is released.
//! - *Bounds*: as many enforcers as there are slots; for each slot one start, stop or release on its way and one workload that
//!   waits for it; a release that fails is tried again, ever more slowly.
//! - *On restart*: it shares its fate with the enforcers, with the actor of the workloads, which tells all anew in the same slots, and
//!   with the keeper, which tells its set anew. It stops the enforcers of before and releases nothing that is not told gone.
//! - *On overload*: the sender waits; sets and starts wait for their enforcer, the newest of each.
#![forbid(unsafe_code)]

pub mod actor;
mod error;
pub mod roster;
pub mod slots;
pub mod state;
pub mod unheld;
pub mod unknown;

pub use actor::{Enforcer, Wiring};
pub use error::EnforcementFailed;
pub use roster::Roster;

#[cfg(test)]
mod roster_tests;
#[cfg(test)]
mod tests;
