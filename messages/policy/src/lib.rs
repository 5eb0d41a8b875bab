//! Policy documents of every kind, their validation, and the one rule IR that they lower to.
#![forbid(unsafe_code)]

pub mod ir;
