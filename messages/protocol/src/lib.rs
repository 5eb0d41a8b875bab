//! What actors say to each other: commands, facts, queries.
#![forbid(unsafe_code)]
