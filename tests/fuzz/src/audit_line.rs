//! Audit records of the kernel: their names and commands are a workload's.

use palisade_apparmor::{Line, PREFIX, Subject};

/// Reads the bytes as the text of a record.
///
/// # Panics
/// Where a line that is taken is of a profile that is not ours, or names a directory by its slash.
pub fn audit_line(bytes: &[u8]) {
    let Ok(line) = Line::parse(bytes) else { return };
    assert!(line.profile.as_str().starts_with(PREFIX), "of another's profile: {line:?}");
    assert!(line.operation.len() <= bytes.len() && line.comm.len() <= bytes.len(), "longer than the record: {line:?}");
    if let Subject::File { path, .. } = &line.subject {
        assert!(path.len() < 2 || !path.ends_with(b"/") || path.ends_with(b"//"), "a directory by its slash: {line:?}");
    }
}
