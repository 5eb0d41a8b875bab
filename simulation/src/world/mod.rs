//! What stands behind the ports in a simulation: scheduler, clocks, kernel, disk, containers, network.
//!
//! Invariant: ports keep their contracts, also while they fail. What a port may do by its contract (refuse, fail, lose and count, tell
//! twice) the seed makes it do; what it may not do only a [`mutation`] does, so that a checker is seen to catch it.

pub mod clock;
pub mod configuration;
pub mod containers;
pub mod kernel;
pub mod links;
pub mod machine;
pub mod mutation;
pub mod network;
pub mod place;
pub mod policies;
pub mod scheduler;
pub mod sinks;
pub mod traces;
