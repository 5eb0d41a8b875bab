//! Policy files: what users write, and what an API server would hand over.

use palisade_policy::{MAX_DIAGNOSTICS, PolicyFile, PolicySet, PolicyTest};

/// Reads the bytes as a policy file. Each document is held or refused with a place, and the same every time.
///
/// # Panics
/// Where a diagnostic has no place, or there are more than the bound.
pub fn policy(bytes: &[u8]) {
    let file = PolicyFile::parse("fuzz.yaml", bytes);
    assert!(file.diagnostics.len() <= MAX_DIAGNOSTICS + 1, "{} diagnostics", file.diagnostics.len());
    for diagnostic in &file.diagnostics {
        let text = diagnostic.to_string();
        assert!(text.starts_with("fuzz.yaml:"), "no place: {text:?}");
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'),
            "a control character went through: {text:?}"
        );
    }
    let (set, _) = PolicySet::assemble([&file]);
    let (again, _) = PolicySet::assemble([&PolicyFile::parse("fuzz.yaml", bytes)]);
    assert_eq!(set, again, "the same bytes are the same policies");
}

/// Reads the bytes as a policy test.
///
/// # Panics
/// Where a refusal says nothing.
pub fn policy_test(bytes: &[u8]) {
    if let Err(diagnostics) = PolicyTest::parse("fuzz.yaml", bytes) {
        assert!(!diagnostics.is_empty(), "refused without a word");
    }
}
