//! The simulated ports held to the real ones: one test body, two worlds. The kernel's and those of a node's machine are in
//! `tests/` of this crate. Not in `simulation/`, which knows no adapter, nor in an adapter's crate, which knows no simulation.
//!
//! Each port of `runtime/world`, and the bodies that hold it or why there are none (`unit_layers_every_port_is_held_to_the_real_one_or_says_why_not`
//! holds this list complete):
//!
//! | port | held by |
//! |---|---|
//! | `AlertSink` | `simulation/tests/conformance.rs`; what the power's loss leaves: `tests/conformance/tests/host_conformance_ports/lines.rs` |
//! | `Clock` | `tests/conformance/tests/host_conformance_ports/clocks.rs`, and timers, which have no port: both worlds have tokio's |
//! | `Containers` | `runtime/containers/tests/conformance/mod.rs`: beside the containerd of its tests, whose bed it needs |
//! | `Datagrams` | `simulation/tests/conformance_network.rs` |
//! | `Devices` | none: no simulated machine has USB. The real one is held to a tree of files by `runtime/kernel/src/usb/tests.rs` |
//! | `Enforcement` | `tests/conformance/tests/host_conformance/main.rs` |
//! | `LastGood` | `simulation/tests/conformance.rs` |
//! | `Link` | none: the simulation has production's own links, over `Datagrams` and certificates; of the latter `simulation/tests/conformance_credentials.rs` |
//! | `PasswdReader` | `tests/conformance/tests/host_conformance_ports/passwd.rs` |
//! | `PolicyDirectory` | `simulation/tests/conformance.rs` |
//! | `RecordSource` | `tests/conformance/tests/host_conformance/main.rs`: what the beds read and count there |
//! | `Rng` | `tests/conformance/tests/host_conformance_ports/randomness.rs` |
//! | `TraceStore` | `tests/conformance/tests/host_conformance_ports/traces.rs` |
#![forbid(unsafe_code)]
