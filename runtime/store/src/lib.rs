//! The policy directory: a consistent reading of it, and its changes.
#![forbid(unsafe_code)]
