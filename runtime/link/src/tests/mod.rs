//! Whole nodes over a simulated network, and two over real sockets.

pub(crate) mod bed;
mod messages;
mod real;
mod trust;
