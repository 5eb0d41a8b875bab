//! The binary palisade: configuration, wiring, signals, command line.
#![forbid(unsafe_code)]
