//! What the VM ring runs in its guest: the suite's means, and the actor that it sends into containers.
//!
//! - `bin/vm_suite.rs` is the suite: a program, not a set of `#[test]` functions, because the guest has no Cargo.
//! - `bin/vm_actor.rs` goes into the containers' image and does what policies forbid and permit ([`act`]).
//! - `bin/vm_apparmor.rs` is the suite of another boot, where AppArmor is the means ([`apparmor`]; [`judged`] are its processes).
//! - `bin/vm_selinux.rs` is that of the boot where SELinux is ([`selinux`]).
//! - [`suite`] holds its tests by subject; [`greeter`] is the server that they connect to.
//! - [`containerd`] drives real containers as a user of `ctr` does.
//!
//! Invariant: a denial counts only when the system call returned an error *and* its effect is absent ([`act::Outcome::is_denied`]).
#![forbid(unsafe_code)]

pub mod act;
pub mod apparmor;
pub mod containerd;
pub mod greeter;
pub mod judged;
pub mod selinux;
pub mod suite;
