//! Supervision from outside, by its public interface. Tests named `unit_` run under a paused clock and, where they say
//! `everywhere`, on arbiter threads as well; those named `host_` need real threads.
#![cfg(test)]

mod chaos;
mod common;
mod mail;
mod restart;
mod tree;
mod watchdog;
