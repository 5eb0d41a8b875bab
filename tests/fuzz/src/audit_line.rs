//! Audit records of the kernel: their names and commands are a workload's.

use palisade_apparmor::{PREFIX, Subject};

/// Reads the bytes as the text of a record of either LSM.
///
/// # Panics
/// Where a line that is taken is of a profile or user that is not ours, is both LSMs', or names a directory by its slash.
pub fn audit_line(bytes: &[u8]) {
    let by_selinux = palisade_selinux::Line::parse(bytes);
    if let Ok(line) = &by_selinux {
        assert!(line.comm.len() <= bytes.len(), "longer than the record: {line:?}");
        let user = format!("scontext={}:", line.user);
        assert!(bytes.windows(user.len()).any(|window| window == user.as_bytes()), "of another's user: {line:?}");
    }
    let Ok(line) = palisade_apparmor::Line::parse(bytes) else { return };
    assert!(by_selinux.is_err(), "both LSMs' act: {line:?}");
    assert!(line.profile.as_str().starts_with(PREFIX), "of another's profile: {line:?}");
    assert!(line.operation.len() <= bytes.len() && line.comm.len() <= bytes.len(), "longer than the record: {line:?}");
    if let Subject::File { path, .. } = &line.subject {
        assert!(path.len() < 2 || !path.ends_with(b"/") || path.ends_with(b"//"), "a directory by its slash: {line:?}");
    }
}
