//! Tests of the documents as users write them: texts in, diagnostics or rules out.

mod broken;
mod explaining;
mod families;
mod good;
mod inheritance;
mod later;
mod policy_set;
mod policy_test;
mod properties;
mod protocols;
mod scopes;
mod selecting;
mod verdict_order;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use palisade_domain::{Workload, WorkloadKind};

use crate::{Policy, PolicyFile, ir::Rule};

/// The start of a KubeArmorPolicy up to its families; what is appended is indented by two.
const KUBEARMOR: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                         metadata: {name: p, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n";

/// The same of a PalisadePolicy.
const PALISADE: &str = "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\n\
                        metadata: {name: p, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n";

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a fixture folder's files, sorted.
fn fixtures(folder: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// The policies of a text that has no diagnostic at all.
fn policies(text: &str) -> Vec<Arc<Policy>> {
    let file = PolicyFile::parse("test.yaml", text.as_bytes());
    let diagnostics: Vec<String> = file.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(diagnostics, Vec::<String>::new(), "in\n{text}");
    file.policies
}

/// The rules of the one policy of a text that has no diagnostic at all.
fn rules(text: &str) -> Vec<Arc<Rule>> {
    let policies = policies(text);
    assert_eq!(policies.len(), 1, "in\n{text}");
    policies[0].rules.clone()
}

/// The diagnostics of a text, as people read them.
fn messages(text: &str) -> Vec<String> {
    PolicyFile::parse("test.yaml", text.as_bytes()).diagnostics.iter().map(ToString::to_string).collect()
}

fn workload(namespace: &str, container: &str, labels: &[(&str, &str)]) -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "pod".to_owned(),
        namespace: namespace.to_owned(),
        container: container.to_owned(),
        container_id: None,
        image: String::new(),
        labels: label_map(labels),
    }
}

fn host(name: &str, labels: &[(&str, &str)]) -> Workload {
    let (namespace, container) = (String::new(), String::new());
    let kind = WorkloadKind::Host;
    Workload { kind, name: name.to_owned(), namespace, container, ..workload("", "", labels) }
}

fn label_map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
