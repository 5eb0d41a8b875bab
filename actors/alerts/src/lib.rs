//! Turns verdicts of the kernel into alerts that tell the truth.
#![forbid(unsafe_code)]
