//! Production's actors in a world that one seed makes: the same tree, the same supervision, other adapters behind the ports.
//!
//! Invariant: nothing here decides by a clock, a thread, an address or a hash map's order: what happens is a function of the seed, the
//! faults asked for and the code. A run twice is the same run.
//! Invariant: the crate touches actors, ports and messages, never another adapter: what it proves of the actors holds for whatever stands behind
//! the ports, as far as the conformance tests hold the simulated ports to the real ones.
#![forbid(unsafe_code)]

pub mod editing;
pub mod import;
pub mod rehearsal;
pub mod replay;
