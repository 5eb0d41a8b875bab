//! What container runtimes and their hooks say: processes of root's, which hand on what users chose.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use palisade_containers::decode;

/// The longest line that a node reads of a hook.
const MAX_QUESTION_BYTES: usize = 32 * 1024;
/// The most that is kept of a container's labels.
const MAX_LABEL_BYTES: usize = 64 << 10;

/// Reads the bytes as a hook's question, as the node's answer, as an OCI state, and as a cgroup's path. What is taken is read again the same.
///
/// # Panics
/// Where it is not, or names what is no id.
pub fn hook(bytes: &[u8]) {
    if let Ok(line) = decode::hook_question(bytes) {
        assert_eq!(decode::hook_question(&line).as_ref(), Ok(&line), "read again it is another");
        assert!(!String::from_utf8_lossy(&line).contains("\"id\":\"..\""), "no container is called so");
    }
    if let Ok(line) = decode::hook_answer(bytes) {
        assert_eq!(decode::hook_answer(&line).as_ref(), Ok(&line), "read again it is another");
    }
    if let Ok(line) = decode::oci_state(bytes)
        && line.len() <= MAX_QUESTION_BYTES
    {
        // What a runtime calls so is refused by the node, in words.
        assert!(decode::hook_question(&line).is_ok_and(|again| again == line) || decode::hook_question(&line).is_err());
    }
    if let Some(id) = decode::cgroup_name(Path::new(OsStr::from_bytes(bytes))) {
        assert!(!id.is_empty() && !id.contains('/'), "{id:?}");
    }
}

/// Reads the bytes as the CRI's status of a container. What is kept of it is within its bound.
///
/// # Panics
/// Where it is not.
pub fn cri_status(bytes: &[u8]) {
    let id = "c".repeat(64);
    for id in [id.as_str(), ""] {
        let Some(container) = decode::cri_status(id, bytes) else { continue };
        let kept: usize = container.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(kept <= MAX_LABEL_BYTES, "{kept} bytes of labels");
        assert_eq!(container.id.0, id);
    }
}
