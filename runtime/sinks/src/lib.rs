//! Where lines go: standard output and files.
//!
//! Invariant: a sink takes whole lines. Around a sink that may block goes [`Queued`]. What is in a file is on its disk a second after it
//! was written, and as long as the disk takes; standard output is whoever's who reads it.
#![forbid(unsafe_code)]

mod file;
mod queued;
mod syncing;

pub use file::{FileBounds, RotatingFile};
pub use queued::{BATCHES, BYTES, Queued};

use std::io::{self, Write as _};

use palisade_world::{AlertSink, AlertSinkError};

/// Writes to standard output.
#[derive(Debug, Default)]
pub struct Stdout;

impl AlertSink for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        let mut out = io::stdout().lock();
        out.write_all(lines)
            .and_then(|()| out.flush())
            .map_err(|source| AlertSinkError { sink: "stdout".into(), source })
    }
}
