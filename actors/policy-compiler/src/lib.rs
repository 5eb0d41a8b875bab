//! Compiles a workload's rules to one immutable, content-addressed blob.
//!
//! - *Owns*: what was compiled, by content ([`state`]).
//! - *Hears*: [`CompilePolicy`](palisade_protocol::CompilePolicy). *Says*: the answer, and nothing else.
//! - *Bounds*: states, set members, transitions and time of one build; the bytes of blobs kept for reuse ([`Bounds`](state::Bounds)).
//! - *On restart*: it compiles again what is asked again; equal rules give equal bytes, so nobody can tell. A panic in a build is no
//!   restart: its rules are refused.
//! - *On overload*: enforcers wait in the mailbox, one request each; past their patience they ask again. A build whose asker
//!   has gone away is not begun.
//!
//! [`compile`] is all of it as a pure function, for validation, simulation and tests.
//!
//! # Verdict semantics
//! One act belongs to one family: exec to process, open to file, a socket's creation to socket, connect to connect, tracing to
//! ptrace. Of all rules that *count* in the family (a socket rule counts in socket and in connect, a destination rule in connect
//! only), the *candidates* are those whose matcher accepts the object, and which name no source or name the acting executable.
//!
//! 1. The candidates of the highest [`Specificity`](palisade_policy::ir::Specificity) *decide*; all others have no say, also
//!    where a deciding rule's modifier is not met. Rules with a source come first; then exact paths (and destinations); then
//!    bare names; then directories and patterns (and sockets) on one scale, the longer literal prefix (more fixed bits) first.
//! 2. Each deciding rule says one thing. *Block* says block, except that with `readOnly` it permits reading, with `ownerOnly` it
//!    permits the file's owner, with both it permits the owner's reading. *Audit* audits what a Block would block. *Allow*
//!    permits, but with a modifier it permits only what meets it, and has nothing to say about the rest.
//! 3. If they disagree: block before audit before permit before nothing to say. Among rules that say the same, the lowest in
//!    canonical order is named. A permit by a rule names its rule too, so that it can be explained.
//! 4. Where no rule decides (no candidate, or nothing said): if any Allow counts in the family, the family is an *allow-list*
//!    and its default posture holds, audit or block, "by posture" and without a rule; otherwise the act is permitted. Process and
//!    file have the file posture, socket and connect the network posture, ptrace the posture of capabilities.
//!
//! A program that connects does two acts: it makes a socket, then connects it. Each is decided alone, so that a Block of a socket holds
//! whatever a destination rule says ([`decide`](decide())).
//!
//! Two consequences: an Allow of a socket makes both socket and connect allow-lists, an Allow of a destination only connect. And
//! a Block on a directory with an Allow on one file in it means just that, in whatever order they are written.
//!
//! # From rules to blob
//! [`canonical`]: rules sorted, each content once, hashed → [`automaton`]: one minimal DFA over the paths of process, file and ptrace
//! rules, one over executables that are sources, one over endpoints → [`decisions`]: accept *classes* (sets of rules with equal
//! decisions) and their tables → [`assemble`]. [`naive`] says the same without any of it, for tests.
//!
//! Nothing is ever cut to fit: what is beyond a bound is a [`CompileError`] with the numbers and the patterns that cost most.
#![forbid(unsafe_code)]

pub mod actor;
pub mod assemble;
pub mod automaton;
pub mod canonical;
mod compile;
mod decide;
pub mod decisions;
mod error;
pub mod naive;
mod network;
mod paths;
mod sources;
pub mod state;
pub mod verdict;

#[cfg(test)]
mod tests;

pub use actor::PolicyCompiler;
pub use compile::{compile, compile_canonical, compiled};
pub use decide::decide;
pub use error::{CompileError, TooLarge};
pub use network::DestinationError;
pub use paths::PathError;
