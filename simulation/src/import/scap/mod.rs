//! A capture of sysdig or Falco as a trace.
//!
//! What is read: [`blocks`], [`start`], [`event`]. Older forms of events (without a number of parameters) and of lists of processes are counted and
//! said, for no capture of them was at hand to hold a reader to.
//!
//! Invariant: see [`super`]: what an event does not tell is left empty. In particular a file has the name that the program gave, made whole with a
//! directory that the capture told of, and marked as the caller's; no name is looked up.
//!
//! Clock: a trace's is the time since the machine's boot. Where a capture does not say when that was, its first event is one second after it.
//!
//! A capture is read twice: what a container is called stands behind its first acts, for the capturing program had to ask somebody.
//!
//! A file that is cut or damaged is read to its last whole block, and what it lacks says so.

mod blocks;
mod calls;
mod event;
#[cfg(test)]
mod held_to_sysdig;
mod identity;
mod importing;
mod lacks;
mod processes;
mod start;
#[cfg(test)]
mod tests;
mod values;

use std::io::{self, BufRead, Seek, Write};

use self::{blocks::Blocks, event::Event, importing::Importing};
use super::{ImportError, Imported};

/// Block types of events: whether flags (4 bytes) come before the event, and whether its lengths are large.
const EVENTS: [(u32, bool, bool); 4] =
    [(0x216, false, false), (0x217, true, false), (0x221, false, true), (0x222, true, true)];
/// Events without a number of parameters.
const OLDER_EVENTS: [u32; 3] = [0x204, 0x208, 0x8010_abcd];
const CPU: usize = 2;
const FLAGS: usize = 4;
const DAMAGED: &str = "events with fewer parameters than their type has";

/// Reads a capture, writes a trace.
///
/// # Errors
/// See [`ImportError`].
pub fn import<W: Write>(mut from: impl BufRead + Seek, to: W) -> Result<(W, Imported), ImportError> {
    let begin = from.stream_position().map_err(|_| {
        ImportError::NoCapture("it is read twice, and a pipe can be read once: it must be a file".into())
    })?;
    let mut importing = Importing::new(to);
    let mut blocks = Blocks::open(&mut from).map_err(refused)?;
    while let Some((kind, content)) = blocks.next_block()? {
        importing.container(kind, content);
    }
    drop(blocks);
    from.seek(io::SeekFrom::Start(begin))?;
    let mut blocks = Blocks::open(&mut from).map_err(refused)?;
    loop {
        let at = blocks.at();
        let Some((kind, content)) = blocks.next_block()? else { break };
        importing.block(at, kind, content)?;
    }
    importing.end(&blocks)
}

fn refused(error: io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::InvalidData => ImportError::NoCapture(error.to_string()),
        _ => ImportError::Io(error),
    }
}

/// The event of a block of such; none in it where it is damaged, none at all where it is another block.
fn event_of(kind: u32, content: &[u8]) -> Option<Option<Event<'_>>> {
    let (_, has_flags, is_large) = EVENTS.iter().find(|(events, ..)| *events == kind)?;
    let before = CPU + if *has_flags { FLAGS } else { 0 };
    Some(content.get(before..).and_then(|bytes| Event::read(bytes, *is_large)))
}
