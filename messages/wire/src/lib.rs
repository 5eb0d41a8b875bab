//! What leaves a process as bytes: frames between nodes, and the trace format.
//!
//! Invariant: every decoder is bounded before it allocates, and refuses what it does not know by naming it; a version stands in front of
//! everything. Decision: CBOR (RFC 8949) with integer keys, not a format of our own, because others can then read what we write.
#![forbid(unsafe_code)]

pub mod frame;
pub mod trace;
