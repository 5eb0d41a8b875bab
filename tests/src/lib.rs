//! Scenario rings and the tests of the workspace itself.
//!
//! `run.sh` runs the rings (`rings/*.sh`), each of which says what it needs; `vm/` is the guest of the VM ring, `bench/` the
//! benchmarks. This crate holds what no other crate can: `tests/layers.rs` reads the workspace and holds it to its own rules.
#![forbid(unsafe_code)]
