//! Scenario rings and the tests of the workspace itself.
#![forbid(unsafe_code)]
