//! Compiles a workload's rules to one immutable blob.
#![forbid(unsafe_code)]
