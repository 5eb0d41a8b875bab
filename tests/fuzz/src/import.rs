//! What other tools wrote: captures of sysdig and logs of KubeArmor.

use std::io::Cursor;

use palisade_simulation::import::{self, ImportError, Imported};
use palisade_wire::trace::{Ending, TraceReader};

/// What a capture begins with: the section's header.
const SECTION: [u8; 28] = *b"\n\r\r\n\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\x02\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0";
/// The machine, its processes, their descriptors, and the forms of events.
const TYPES: [u32; 7] = [0x201, 0x215, 0x218, 0x216, 0x217, 0x221, 0x222];

/// Reads the bytes as a capture, as logs, and as the blocks of a capture whose frames hold.
///
/// # Panics
/// Where what comes of it is no whole trace of as many records as it says.
pub fn import(bytes: &[u8]) {
    check(import::scap::import(Cursor::new(bytes), Vec::new()));
    check(import::kubearmor::import(bytes, Vec::new()));
    check(import::scap::import(Cursor::new(framed(bytes)), Vec::new()));
}

/// Each block's type and length are of three bytes before its content.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut capture = SECTION.to_vec();
    while let Some(([kind, low, high], rest)) = bytes.split_first_chunk() {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        let padding = content.len().next_multiple_of(4) - content.len();
        let total = u32::try_from(content.len() + padding + 12).unwrap_or_default().to_le_bytes();
        let kind = TYPES[usize::from(*kind) % TYPES.len()].to_le_bytes();
        capture.extend([&kind[..], &total, content, &[0; 3][..padding], &total].concat());
        bytes = rest;
    }
    capture
}

fn check(made: Result<(Vec<u8>, Imported), ImportError>) {
    let Ok((trace, done)) = made else { return };
    let mut reader = TraceReader::open(&trace[..]).expect("what an import writes is a trace");
    while reader.next_part().expect("bytes in memory can be read").is_some() {}
    assert_eq!((reader.report().ending, reader.report().records), (Ending::Whole, done.records));
}
