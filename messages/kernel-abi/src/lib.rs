//! Twins of the C headers in bpf/include, and the checked decoding of what the kernel wrote. The frames of node and fanotify responder are here
//! as well: bytes between two processes, checked the same way, and by the same fuzzer.

pub mod blob;
pub mod record;
pub mod responder;
