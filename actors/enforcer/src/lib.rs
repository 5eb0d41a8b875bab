//! Holds one workload to its policy.
#![forbid(unsafe_code)]
