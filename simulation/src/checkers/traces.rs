//! A trace that was ended is whole; one that the power took apart is read to its last whole block, and says that something is missing.

use std::time::Duration;

use palisade_wire::trace::{OpenError, Part, Report, TraceReader};

use super::Checker;
use crate::event::Event;

/// A torn file whose beginning is not what was written need not be read at all: it may have no header.
const HEADER: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Traces;

fn read(bytes: &[u8]) -> Result<(Vec<Part>, Report), OpenError> {
    let mut reader = TraceReader::open(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part().map_err(OpenError::Io)? {
        parts.push(part);
    }
    Ok((parts, reader.report().clone()))
}

fn whole(bytes: &[u8]) -> Result<(), String> {
    let (_, report) = read(bytes).map_err(|error| format!("a trace that was ended is not read: {error}"))?;
    match report.complaints().as_slice() {
        [] => Ok(()),
        complaints => Err(format!("a trace that was ended says: {complaints:?}")),
    }
}

fn torn(found: &[u8], written: &[u8]) -> Result<(), String> {
    if found == written {
        return Ok(());
    }
    let of_written = read(written).map(|(parts, _)| parts).unwrap_or_default();
    match read(found) {
        Err(error) => match (found.get(..HEADER), written.get(..HEADER)) {
            (Some(found), Some(written)) if found == written => Err(format!("a torn trace is not read: {error}")),
            _ => Ok(()),
        },
        Ok((parts, _)) if !of_written.starts_with(&parts) => {
            Err(format!("a torn trace gives out {} parts that were not written so", parts.len()))
        }
        Ok((_, report)) if report.complaints().is_empty() => Err("a torn trace does not say so".to_owned()),
        Ok(_) => Ok(()),
    }
}

impl Checker for Traces {
    fn name(&self) -> &'static str {
        "traces"
    }

    fn hear(&mut self, _: Duration, _: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::TraceWhole(bytes) => whole(bytes),
            Event::TraceTorn { found, written } => torn(found, written),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_wire::trace::{Fact, Header, TraceWriter, What};

    use super::{torn, whole};

    /// A trace of facts that do not compress away.
    fn written() -> Vec<u8> {
        let header = Header {
            little_endian: cfg!(target_endian = "little"),
            record_version: palisade_kernel_abi::record::VERSION,
            ..Header::default()
        };
        let mut writer = TraceWriter::begin(Vec::new(), &header).expect("begun");
        for number in 0..64 {
            writer.facts(&[Fact { boot_ns: number, what: What::Clock(number * 7919) }]).expect("written");
        }
        writer.finish().expect("ended")
    }

    #[test]
    fn unit_checker_of_traces_passes_any_cut_and_objects_to_a_file_that_hides_one() {
        let written = written();
        assert_eq!(whole(&written), Ok(()));
        for at in (0..written.len()).step_by(97) {
            assert!(whole(&written[..at]).is_err(), "{at}");
            assert_eq!(torn(&written[..at], &written), Ok(()), "{at}");
            let mut zeros = written.clone();
            zeros[at..].fill(0);
            assert_eq!(torn(&zeros, &written), Ok(()), "zeros from {at}");
        }
    }
}
