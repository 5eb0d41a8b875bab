//! Benchmarks, printed as one table with ratios.
#![forbid(unsafe_code)]
