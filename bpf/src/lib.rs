//! The kernel programs, compiled by clang and carried as bytes.
#![forbid(unsafe_code)]
