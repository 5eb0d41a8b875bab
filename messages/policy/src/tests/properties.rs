//! What holds for any input. A failing run prints the smallest input that fails, which repeats it without a seed.

use std::collections::BTreeMap;

use palisade_domain::Action;
use proptest::prelude::*;

use super::{fixture, fixtures, policies, workload};
use crate::{
    PolicyFile, PolicyTest,
    ir::{Matcher, PathMatch, Rule},
};

/// Parses, and holds the result to what is true of every result.
fn assert_sane(bytes: &[u8]) {
    let file = PolicyFile::parse("f.yaml", bytes);
    assert_eq!(file, PolicyFile::parse("f.yaml", bytes), "reading twice differs");
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for diagnostic in &file.diagnostics {
        let shown = diagnostic.to_string();
        assert_eq!(shown.lines().count(), 1, "{shown:?}");
        assert!(diagnostic.line >= 1 && diagnostic.line as usize <= lines + 1, "{shown} of {lines} lines");
        assert!(diagnostic.column >= 1, "{shown}");
        let parts = [&diagnostic.what, &diagnostic.why, &diagnostic.instead];
        assert!(parts.iter().all(|part| !part.trim().is_empty()), "{shown}");
    }
    for policy in &file.policies {
        assert!(!policy.reference.name.is_empty());
        policy.rules.iter().for_each(|rule| assert_sound(rule));
    }
    // The other reader of the same trees; what it says is of no account here.
    let _ = PolicyTest::parse("f.yaml", bytes);
}

fn assert_sound(rule: &Rule) {
    assert!(rule.severity.is_none_or(|severity| (1..=10).contains(&severity)));
    assert!(!rule.place.is_empty());
    rule.sources.iter().for_each(|source| assert_absolute(source));
    let directories = rule.source_directories.iter().map(|source| source.directory.as_str());
    directories.for_each(|directory| assert!(directory == "/" || directory.strip_suffix('/').is_some()));
    let _ = rule.specificity();
    let path = match &rule.matcher {
        Matcher::Process(rule) | Matcher::File(rule) => &rule.path,
        Matcher::Ptrace(path) => path,
        Matcher::Socket(socket) => return assert!(!socket.any_of.is_empty()),
        Matcher::Destination(destination) => {
            assert!(destination.ports.is_none_or(|(low, high)| 0 < low && low <= high));
            return;
        }
        Matcher::Capability(capability) => return assert!(capability.number <= 40),
        Matcher::Syscall(syscall) => {
            assert!(!syscall.names.is_empty());
            assert!(syscall.numbers.len() + syscall.numbers32.len() > 0);
            assert!(syscall.numbers.iter().chain(&syscall.numbers32).all(|number| *number < 512));
            assert_eq!(rule.action, Action::Audit, "system calls are audited only");
            let Some(path) = &syscall.path else { return };
            path
        }
        Matcher::Dns(dns) => {
            assert!(!dns.domain.is_empty() && dns.domain == dns.domain.to_ascii_lowercase());
            return assert!(dns.domain.split('.').all(|label| (1..=63).contains(&label.len())));
        }
        Matcher::Preset(_) => return,
        Matcher::Device(device) => return assert!(device.level != Some(0)),
    };
    match path {
        PathMatch::Exact(path) => assert_absolute(path),
        PathMatch::Directory { directory, .. } if directory == "/" => {}
        PathMatch::Directory { directory, .. } => assert_absolute(directory.strip_suffix('/').unwrap()),
        PathMatch::Name(name) => assert!(!name.is_empty() && !name.contains('/')),
        PathMatch::Pattern(_) | PathMatch::Any => {}
    }
}

fn assert_absolute(path: &str) {
    assert!(path.starts_with('/') && !path.ends_with('/') && path.len() <= crate::MAX_PATH_BYTES, "{path:?}");
    assert!(path.split('/').skip(1).all(|component| !matches!(component, "" | "." | "..")), "{path:?}");
}

/// All fixtures, good and broken.
fn corpus() -> Vec<Vec<u8>> {
    let named = |folder: &'static str| fixtures(folder).into_iter().map(move |name| format!("{folder}/{name}"));
    let mut names: Vec<String> = named("good").chain(named("broken")).collect();
    names.push("policy-test.yaml".to_owned());
    names.iter().map(|name| fixture(name)).filter(|bytes| bytes.len() < 3_000).collect()
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A stretch of the text again, somewhere else.
    Repeat(prop::sample::Index, usize, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    let sign = prop::sample::select(b"\n\r\t -:#[]{},&*!|>'\"%@`?~.\\/\0ax09\xc3".to_vec());
    let words =
        prop::sample::select(vec!["---\n", "\n  - ", ": ", "&a ", "*a", "<<: ", "? ", "|\n", "null", "\"", "!!str "]);
    prop_oneof![
        (index(), sign).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (index(), words).prop_map(|(at, word)| Mutation::Insert(at, word.as_bytes().to_vec())),
        (index(), 1..40_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (index(), 1..200_usize, index()).prop_map(|(from, length, to)| Mutation::Repeat(from, length, to)),
    ]
}

fn mutate(mut text: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let room = text.len() + 1;
        match mutation {
            Mutation::Replace(at, byte) if !text.is_empty() => {
                let at = at.index(text.len());
                text[at] = *byte;
            }
            Mutation::Replace(..) => {}
            Mutation::Insert(at, bytes) => drop(text.splice(at.index(room)..at.index(room), bytes.iter().copied())),
            Mutation::Remove(at, length) => {
                let from = at.index(room);
                text.drain(from..(from + length).min(text.len()));
            }
            Mutation::Repeat(from, length, to) => {
                let from = from.index(room);
                let stretch = text[from..(from + length).min(text.len())].to_vec();
                let to = to.index(room);
                text.splice(to..to, stretch);
            }
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unit_policy_file_survives_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        assert_sane(&bytes);
    }

    #[test]
    fn unit_policy_file_survives_random_yaml_signs(text in "[ \n\t:\\-#&*!|>'\"%@`?~a-c0-2{}\\[\\],/.\\\\]{0,200}") {
        assert_sane(text.as_bytes());
    }

    #[test]
    fn unit_policy_file_survives_random_changes_of_documents(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..8),
    ) {
        let corpus = corpus();
        assert_sane(&mutate(corpus[which.index(corpus.len())].clone(), &mutations));
    }

    #[test]
    fn unit_policy_file_takes_any_label_and_selects_by_it(
        labels in prop::collection::btree_map("[a-z./-]{1,12}", "\\PC{0,12}", 0..5),
        others in prop::collection::btree_map("[a-z./-]{1,12}", "\\PC{0,12}", 0..5),
    ) {
        let quoted: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{}: {}", serde_json::to_string(key).unwrap(), serde_json::to_string(value).unwrap()))
            .collect();
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  \
             selector: {{matchLabels: {{{}}}}}\n  process: {{matchPaths: [{{path: /a}}]}}\n",
            quoted.join(", ")
        );
        let policy = &policies(&text)[0];
        let mut selected = workload("shop", "c", &[]);
        selected.labels = others.clone();
        let expected = labels.iter().all(|label| others.iter().any(|other| other == label));
        prop_assert_eq!(policy.selects(&selected), expected);
        selected.labels.extend(labels);
        prop_assert!(policy.selects(&selected));
    }

    #[test]
    fn unit_selector_agrees_with_its_definition(
        on_pod in prop::collection::btree_map("[ab]", "[xy]", 0..3),
        wanted in prop::collection::btree_map("[ab]", "[xy]", 0..2),
        expressions in prop::collection::vec((any::<bool>(), prop::collection::vec(("[abc]", "[xy]"), 1..3)), 0..4),
    ) {
        let has = |key: &String, value: &String| on_pod.get(key) == Some(value);
        let expected = wanted.iter().all(|(key, value)| has(key, value))
            && expressions.iter().all(|(within, values)| *within == values.iter().any(|(key, value)| has(key, value)));
        let map: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let mut listed: Vec<String> = expressions
            .iter()
            .map(|(within, values)| {
                let values: Vec<String> = values.iter().map(|(key, value)| format!("\"{key}={value}\"")).collect();
                let operator = if *within { "In" } else { "NotIn" };
                format!("{{key: label, operator: {operator}, values: [{}]}}", values.join(", "))
            })
            .collect();
        for _ in 0..2 {
            let text = format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  \
                 selector: {{matchLabels: {{{}}}, matchExpressions: [{}]}}\n  process: {{matchPaths: [{{path: /a}}]}}\n",
                map.join(", "),
                listed.join(", ")
            );
            let mut pod = workload("shop", "c", &[]);
            pod.labels = BTreeMap::clone(&on_pod);
            prop_assert_eq!(policies(&text)[0].selects(&pod), expected, "{}", text);
            listed.reverse();
        }
    }
}
