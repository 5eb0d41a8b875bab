//! `metadata`: a policy's name and namespace. What else Kubernetes keeps there is known and of no account.

use crate::{
    diagnostic::{Problems, quoted},
    fields::{self, Fields},
    yaml::Node,
};

/// The namespace of a namespaced policy that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// `metadata` as far as policies need it.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub name: String,
    /// Empty for kinds without namespaces.
    pub namespace: String,
}

/// What Kubernetes keeps in `metadata` (`ObjectMeta`, meta/v1).
const KEPT_BY_KUBERNETES: [&str; 13] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads `metadata`; nothing if there is no usable name.
pub(crate) fn read(document: &mut Fields<'_>, namespaced: bool, problems: &mut Problems) -> Option<Metadata> {
    let node = document.require("metadata", "write `metadata: {name: my-policy}`", problems)?;
    let mut fields = Fields::of(node, "metadata", problems)?;
    let name = fields
        .require("name", "write `name: my-policy`", problems)
        .and_then(|node| dns_name(node, "metadata.name", 253, true, problems));
    let namespace = match (fields.get("namespace"), namespaced) {
        (None, true) => Some(DEFAULT_NAMESPACE.to_owned()),
        (None, false) => Some(String::new()),
        (Some(node), true) => dns_name(node, "metadata.namespace", 63, false, problems),
        (Some(node), false) => {
            let why = "policies of this kind have no namespace, it is ignored";
            problems.warning(node.at, "`metadata.namespace`", why, "remove it");
            Some(String::new())
        }
    };
    skip_what_kubernetes_keeps(&mut fields);
    fields.close(problems);
    Some(Metadata { name: name?, namespace: namespace? })
}

/// Asks for what Kubernetes keeps in `metadata`, so that it is not unknown.
pub(crate) fn skip_what_kubernetes_keeps(fields: &mut Fields<'_>) {
    for name in KEPT_BY_KUBERNETES {
        fields.get(name);
    }
}

/// The name of a namespace.
pub(crate) fn namespace_name(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    dns_name(node, place, 63, false, problems)
}

/// A DNS-1123 label, or a name of several with dots between them: what Kubernetes takes.
fn dns_name(node: &Node, place: &str, max: usize, dots: bool, problems: &mut Problems) -> Option<String> {
    let name = fields::text(node, place, problems)?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(inner);
    let well_formed = if dots { name.split('.').all(label) } else { label(name) };
    if well_formed && name.len() <= max {
        return Some(name.to_owned());
    }
    let signs = if dots { "lower-case letters, digits, `-` and `.`" } else { "lower-case letters, digits and `-`" };
    let why = format!("a name has {signs}, letters or digits at both ends, and at most {max} bytes");
    let cleaned: String = name.to_lowercase().replace(['_', ' '], "-");
    let instead =
        if cleaned != name && cleaned.split('.').all(label) && (dots || label(&cleaned)) && cleaned.len() <= max {
            format!("write {}", quoted(&cleaned))
        } else {
            "write a name such as `deny-shadow`".to_owned()
        };
    problems.error(node.at, format!("{} is {}", quoted(place), quoted(name)), why, instead);
    None
}
