//! Twins of the C headers in bpf/include, and the checked decoding of what the kernel wrote.

pub mod blob;
pub mod record;
