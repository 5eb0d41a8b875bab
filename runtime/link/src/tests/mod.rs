//! Whole nodes over a simulated network, and two over real sockets.

mod bed;
mod messages;
mod real;
mod trust;
