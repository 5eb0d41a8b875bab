//! The target `audit_line` as a program of the fuzzer.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| palisade_fuzz::audit_line(bytes));
