//! The simulated kernel held to the real one: `tests/host_conformance/`. Not in `simulation/`, which knows no adapter, nor in
//! `runtime/kernel`, which knows no simulation.
#![forbid(unsafe_code)]
