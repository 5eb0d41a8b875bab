//! The binary palisade: configuration, wiring, signals, command line. What of it is a port's adapter is here, where the
//! conformance ring reaches it.
#![forbid(unsafe_code)]

pub mod clock;
