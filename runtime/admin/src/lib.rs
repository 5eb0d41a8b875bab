//! REST, metrics and the live tree, on a Unix socket and on loopback.
#![forbid(unsafe_code)]
