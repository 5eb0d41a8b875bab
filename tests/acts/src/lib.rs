//! Cases done for real: processes in a cgroup, a mount namespace and an overlay root of their own, as a container's are, without a container
//! runtime; and the node's own kernel adapter over them as a [`Backend`](palisade_differential::Backend).
//!
//! - [`Place`] is the cgroup and the root, [`Bed`] holds one process for each [`Actor`](palisade_differential::Actor): a loop that does a deed a line
//!   ([`acting`]), so that a thousand acts cost no thousand processes.
//! - [`Held`] puts a case's policy in force and says what became of each act, and which decision was told of it.
//!
//! Invariant: an act is denied only where its call gave `EPERM` or `EACCES`, or who did it was killed; any other failure is the bed's.
//! Invariant: actors start while no policy is in force, and open nothing for themselves after that.
//!
//! Root is needed, and x86-64: the executed files are programs of some instructions ([`program`]), so that nothing else has to be permitted.
#![forbid(unsafe_code)]

pub mod acting;
mod bed;
mod held;
mod pins;
mod place;
pub mod program;

pub use bed::{Bed, Done, Starter};
pub use held::{Held, held_as};
pub use pins::Pins;
pub use place::Place;
