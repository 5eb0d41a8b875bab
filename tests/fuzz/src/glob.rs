//! Globs: what the automaton accepts is what the pattern means.

use std::sync::Arc;

use palisade_kernel_abi::blob::{Effect, Family, Modifiers, SourceId};
use palisade_policy::{
    PolicyFile,
    ir::{Matcher, WorkloadRules},
};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile, naive};

/// The bytes up to the first NUL are a pattern, the rest a path. The compiled pattern and the naive evaluator agree on the path.
///
/// # Panics
/// Where they do not.
pub fn glob(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(pattern), Some(path)) = (parts.next(), parts.next()) else { return };
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    // Only what policy files take: through their own reader, quoted as YAML's double-quoted style wants it.
    if pattern.len() > 64 || path.len() > 256 || path.contains(&0) || pattern.contains(char::is_control) {
        return;
    }
    let quoted = pattern.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\nspec:\n  file: {{matchPatterns: \
         [{{pattern: \"{quoted}\"}}]}}\n"
    );
    let file = PolicyFile::parse("fuzz.yaml", text.as_bytes());
    let Some(rule) = file.policies.iter().flat_map(|policy| &policy.rules).next() else { return };
    let Matcher::File(path_rule) = &rule.matcher else { return };
    let expected = naive::path_matches(&path_rule.path, path);
    let rules = WorkloadRules { rules: vec![Arc::clone(rule)], ..WorkloadRules::default() };
    let Ok(policy) = compile(&rules, &AutomatonLimits::default(), &mut || false) else { return };
    let blob = &policy.blob;
    let decision = blob.decide(Family::File, blob.path_accept(path), SourceId::NONE, Modifiers::NONE);
    assert_eq!(decision.effect == Effect::Block, expected, "{:?} on {:?}", path_rule.path, path);
}
