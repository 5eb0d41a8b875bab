//! The node's configuration file.

use palisade_policy::settings;

/// Shapes of every kind: what is read is looked up among them.
const NAMES: &[&str] = &["policy-dir", "host-label", "visibility", "max-workloads", "host-policy", "runtime"];

/// Reads the bytes as a configuration. What is read is known; what is wrong has a place, and no control character in its words.
///
/// # Panics
/// Where it does not.
pub fn settings(bytes: &[u8]) {
    let (found, problems) = settings::read("fuzz.yaml", bytes, NAMES);
    for setting in &found {
        assert!(NAMES.contains(&setting.name.as_str()), "{} is not known", setting.name);
    }
    for problem in &problems {
        let text = problem.to_string();
        assert!(text.starts_with("fuzz.yaml:"), "no place: {text:?}");
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'),
            "a control character went through: {text:?}"
        );
    }
    assert_eq!(settings::read("fuzz.yaml", bytes, NAMES).0, found, "the same bytes are the same settings");
}
