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
//! ptrace, use of a capability to capability, a system call to syscall, a question to a DNS server to dns, and what a preset protects
//! from to preset. Of all rules that *count* in the family (a socket rule counts in socket and in connect, a destination rule in connect
//! only), the *candidates* are those whose matcher accepts the object, and which name no source or whose sources the acting executable is
//! one of, or lies in.
//!
//! 1. The candidates of the highest [`Specificity`](palisade_policy::ir::Specificity) *decide*; all others have no say, also
//!    where a deciding rule's modifier is not met. Rules with a source come first; then exact paths (and destinations, capabilities,
//!    presets); then bare names; then directories and patterns (and sockets, domains, system calls) on one scale, the longer literal
//!    prefix (more fixed bits, the longer domain) first.
//! 2. Each deciding rule says one thing. A *modifier* is met or not: `readOnly` by an act that does not write, `ownerOnly` by the file's
//!    owner, `pts: false` by a process without a controlling terminal, `allowedArgs` by an exec that has arguments after the first and
//!    whose every one is listed; several are met together or not at all. *Block* says block, but where it has modifiers and they are met it permits. *Audit*
//!    audits what a Block would block. *Allow* permits, but with modifiers it permits only what meets them, and has nothing to say about
//!    the rest. On system calls a Block is an Audit.
//! 3. If they disagree: block before audit before permit before nothing to say. Among rules that say the same, the lowest in
//!    canonical order is named. A permit by a rule names its rule too, so that it can be explained. Where several rules of one rank ask
//!    for arguments, one of them is named for all: what holds is exact, but which of their lists an argument is missing from is not told.
//! 4. Where no rule decides (no candidate, or nothing said): if any Allow counts in the family, the family is an *allow-list*
//!    and its default posture holds, audit or block, "by posture" and without a rule; otherwise the act is permitted. Process and
//!    file have the file posture, socket, connect and dns the network posture, ptrace and capability the posture of capabilities; syscall
//!    and preset have none and are never allow-lists.
//!
//! A domain matches itself and every name below it, in any case. A system call counts by its number of the entry that it came by, x86-64
//! or i386. Rules on system calls *on a path* are no part of this: what a call is about is told by records only, so that they travel beside
//! the blob ([`CompiledPolicy::observed`](palisade_protocol::CompiledPolicy)), and rules on devices do not come here.
//!
//! A program that connects does two acts: it makes a socket, then connects it. Each is decided alone, so that a Block of a socket holds
//! whatever a destination rule says ([`decide`](decide())).
//!
//! # Which call is which act
//! A path is judged as the workload saw its mounts at its start. *Writes* is the modifier that `readOnly` is about.
//!
//! | call | act | on |
//! |---|---|---|
//! | execve, execveat | process | the file, and each interpreter that the kernel goes on to |
//! | a mapping of a file to be executed (mmap, mprotect: an ELF interpreter, `ld.so PATH`, dlopen) | process, by Block rules alone | the file |
//! | open, openat2, creat, open_by_handle_at, and by io_uring | file; writes where the modes, O_CREAT or O_TRUNC say so | the file |
//! | a descriptor that is received (SCM_RIGHTS, pidfd_getfd) | file; writes where it may be written by | its file |
//! | unlink, rmdir, mkdir, mknod, bind of a Unix socket, symlink | file, writes | that name; of a symbolic link its own, not what it leads to |
//! | rename, link | file, writes | both names, and of a directory what is denied below it and would not be there ([`directories`]): the strictest is the act's |
//! | truncate, ftruncate, chmod, chown, setxattr, removexattr, access lists | file, writes | the file |
//! | write, and a shared writable mapping, through a descriptor that no open of the moment made | file, writes; only what is blocked, and only where some rule denies writing of what may be read | the file |
//! | mount, umount, move_mount, pivot_root | file, writes | the mount point; of a move also where it was, of pivot_root both directories |
//!
//! A mapping is no execution by a posture, or an allow-list of executables would have to name every library; nor by an Audit, or each
//! execution would be told twice; nor by `allowedArgs`, for it has none. A Block of a directory holds for the libraries in it. What a
//! backend has no hook for it says so, by family and rule.
//!
//! Two consequences: an Allow of a socket makes both socket and connect allow-lists, an Allow of a destination only connect. And
//! a Block on a directory with an Allow on one file in it means just that, in whatever order they are written.
//!
//! # From rules to blob
//! [`canonical`]: rules sorted, each content once, hashed → [`automaton`]: one minimal DFA over the paths of process, file and ptrace
//! rules, one over the bare names among them, one each over executables that are sources, endpoints, domain names and arguments →
//! [`decisions`]: accept *classes* (sets of rules with equal decisions) and their tables → [`assemble`]. [`naive`] says the same without
//! any of it, for tests.
//!
//! Nothing is ever cut to fit: what is beyond a bound is a [`CompileError`] with the numbers and the patterns that cost most.
#![forbid(unsafe_code)]

pub mod actor;
pub mod arguments;
pub mod assemble;
pub mod automaton;
pub mod canonical;
mod compile;
mod decide;
pub mod decisions;
pub mod directories;
mod error;
mod layers;
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
