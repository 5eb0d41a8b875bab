//! Where alerts go: standard output and files.
#![forbid(unsafe_code)]
