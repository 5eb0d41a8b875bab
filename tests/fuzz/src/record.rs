//! Kernel records: the ring's bytes are the kernel's, but a record's strings are a workload's, and a trace is a file.

use palisade_alerts::{compose, state::State};
use palisade_kernel_abi::record::RecordReader;
use palisade_world::RecordBatch;

/// Decodes the bytes as records, and makes alerts of them. No byte is read twice: there are never more records than heads fit.
///
/// # Panics
/// Where the reader does not end, or an alert is not one line of JSON.
pub fn record(bytes: &[u8]) {
    let found = RecordReader::new(bytes).take(bytes.len() + 1).count();
    assert!(found <= bytes.len(), "a reader that takes nothing of its bytes does not end");
    let mut state = State::new("node".to_owned());
    let mut alerts = Vec::new();
    state.read(&RecordBatch { bytes: bytes.to_vec(), records: found as u32 }, 0, &mut alerts);
    for alert in &alerts {
        let line = compose::line(alert);
        assert_eq!(line.matches('\n').count(), 1, "an alert is one line: {line:?}");
        assert!(!line.trim_end().contains(char::is_control), "a control character went through: {line:?}");
    }
}
