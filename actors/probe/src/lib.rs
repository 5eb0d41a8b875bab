//! Reads the kernel's records, accounts for each loss, and tells them as events.
#![forbid(unsafe_code)]
