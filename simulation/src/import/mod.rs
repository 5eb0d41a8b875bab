//! Traces made of what other tools wrote.
//!
//! KubeArmor's logs are read, one JSON object a line. Captures of sysdig and Falco (scap) are not: none was at hand to test a reader with, and
//! an untested reader of a binary format is a wrong one.

mod kubearmor;
#[cfg(test)]
mod tests;

pub use kubearmor::{ImportError, Imported, import};
