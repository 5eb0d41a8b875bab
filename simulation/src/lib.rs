//! Production's actors in a world that one seed makes: the same tree, the same supervision, other adapters behind the ports.
//!
//! Invariant: nothing here decides by a clock, a thread, an address or a hash map's order: what happens is a function of the seed, the
//! faults asked for and the code. A run twice is the same run.
//! Invariant: the crate touches actors, ports and messages, never another adapter: what it proves of the actors holds for whatever stands behind
//! the ports, as far as the conformance tests hold the simulated ports to the real ones.
//!
//! ```text
//!   workload ──► world ◄── injector        generators and faults, from the seed
//!                │  ▲
//!      ports     ▼  │                      kernel, disk, containers, clocks, places
//!         production's tree of actors
//!                │
//!              events ──► journal (hash, counts), checkers
//! ```
//!
//! Parts: [`run`] is one run of a seed; [`campaign`] runs many, each twice, and finds the shortest prefix of one that fails;
//! [`command`] is `palisade simulate`.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod checkers;
pub mod command;
pub mod coverage;
pub mod deed;
pub mod editing;
pub mod event;
pub mod faults;
pub mod import;
mod injector;
pub mod journal;
mod link_faults;
mod panic_watch;
pub mod random;
pub mod rehearsal;
pub mod replay;
pub mod run;
pub mod workload;
pub mod world;
