//! Keeps the policy set in force and its generation.
#![forbid(unsafe_code)]
