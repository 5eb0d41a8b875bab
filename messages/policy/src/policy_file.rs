//! One file of policy documents, read alone.
//!
//! Invariant: reading a file depends on nothing but its name and bytes, and never fails as a whole: what is good is kept,
//! what is not is reported. Whether a file with a refused document is put in force in part or not at all is the caller's
//! decision ([`PolicyFile::is_sound`]).

use std::sync::Arc;

use palisade_domain::PolicyKind;

use crate::{
    diagnostic::{Diagnostic, Position, Problems, quoted},
    draft::RuleBudget,
    fields::{self, Fields},
    namespace::{self, Namespace},
    policy::{self, Policy},
    suggest,
    yaml::{self, MAX_DOCUMENTS, Node},
};

const KUBEARMOR: &str = "security.kubearmor.com/v1";
pub(crate) const PALISADE: &str = "palisade.dev/v1alpha1";

/// The kinds that are held, with their `apiVersion`.
const KINDS: [(&str, &str, PolicyKind); 5] = [
    (KUBEARMOR, "KubeArmorPolicy", PolicyKind::KubeArmorPolicy),
    (KUBEARMOR, "KubeArmorClusterPolicy", PolicyKind::KubeArmorClusterPolicy),
    (KUBEARMOR, "KubeArmorHostPolicy", PolicyKind::KubeArmorHostPolicy),
    (KUBEARMOR, "KubeArmorNetworkPolicy", PolicyKind::KubeArmorNetworkPolicy),
    (PALISADE, "PalisadePolicy", PolicyKind::PalisadePolicy),
];

/// Policy kinds of other versions of this product, of KubeArmor, Kubernetes and Cilium, by group and kind.
const LATER_KINDS: [(&str, &str); 7] = [
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy.networking.k8s.io", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"),
    ("policy.networking.k8s.io", "ClusterNetworkPolicy"),
    ("cilium.io", "CiliumNetworkPolicy"),
    ("cilium.io", "CiliumClusterwideNetworkPolicy"),
    ("operator.kubearmor.com", "KubeArmorConfig"),
];

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// The name that it was read under.
    pub name: Arc<str>,
    /// Its good policies, in order.
    pub policies: Vec<Arc<Policy>>,
    /// Its good namespaces, in order.
    pub namespaces: Vec<Arc<Namespace>>,
    /// What is wrong, in order of line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// What the rules of its documents take in memory, in bytes, inherited text included, and nearly: those who hold many files bound it.
    pub rule_bytes: usize,
}

impl PolicyFile {
    /// Reads a file. Every document that is not good has at least one diagnostic that refuses it.
    #[must_use]
    pub fn parse(name: &str, bytes: &[u8]) -> Self {
        let name: Arc<str> = Arc::from(name);
        let mut problems = Problems::new(&name);
        let mut file =
            Self { name, policies: Vec::new(), namespaces: Vec::new(), diagnostics: Vec::new(), rule_bytes: 0 };
        let mut budget = RuleBudget::default();
        for_each_document(bytes, &mut problems, |document, problems| {
            file.take(&document, &mut budget, problems);
        });
        file.diagnostics = problems.into_diagnostics();
        file.rule_bytes = budget.bytes();
        file
    }

    /// One object that stands in a larger document, with diagnostics of its own.
    pub(crate) fn inline(node: &Node, file: &Arc<str>) -> Self {
        let mut problems = Problems::new(file);
        let (policies, namespaces) = (Vec::new(), Vec::new());
        let mut file = Self { name: Arc::clone(file), policies, namespaces, diagnostics: Vec::new(), rule_bytes: 0 };
        file.take(node, &mut RuleBudget::default(), &mut problems);
        file.diagnostics = problems.into_diagnostics();
        file
    }

    /// Takes what is good of one object: a policy, a namespace, or those of a `List`.
    fn take(&mut self, node: &Node, budget: &mut RuleBudget, problems: &mut Problems) {
        let file = Arc::clone(&self.name);
        for object in object(node, &file, budget, problems) {
            match object {
                Object::Policy(policy) => self.policies.push(Arc::new(policy)),
                Object::Namespace(namespace) => self.namespaces.push(Arc::new(namespace)),
            }
        }
    }

    /// Whether no document was refused.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.diagnostics.iter().any(|diagnostic| diagnostic.severity.refuses())
    }
}

/// Hands each non-empty document of a file to `read`; only those of one part exist at a time.
pub(crate) fn for_each_document(bytes: &[u8], problems: &mut Problems, mut read: impl FnMut(Node, &mut Problems)) {
    let Some(text) = yaml::text(bytes, problems) else { return };
    let (mut documents, mut file_nodes) = (0, 0);
    for part in yaml::parts(text) {
        if documents >= MAX_DOCUMENTS {
            let why = format!("at most {MAX_DOCUMENTS} are read from a file");
            problems.error(part.start(), "the file has too many documents", why, "split it into several files");
            return;
        }
        let of_part = part.documents(&mut file_nodes, problems);
        // An empty part counts as well, for it costs a parser.
        documents += of_part.len().max(1);
        of_part.into_iter().filter(|document| !document.is_null()).for_each(|document| read(document, problems));
    }
}

/// What a document may be.
enum Object {
    Policy(Policy),
    Namespace(Namespace),
}

/// One object, or those of a `List`.
fn object(node: &Node, file: &Arc<str>, budget: &mut RuleBudget, problems: &mut Problems) -> Vec<Object> {
    let Some(mut document) = Fields::of(node, "", problems) else { return Vec::new() };
    let version_node = document.require("apiVersion", &format!("write `apiVersion: {KUBEARMOR}`"), problems);
    let kind_node = document.require("kind", "write `kind: KubeArmorPolicy`", problems);
    let version = version_node.and_then(|node| fields::text(node, "apiVersion", problems));
    let kind = kind_node.and_then(|node| fields::text(node, "kind", problems));
    let (Some(version), Some(kind)) = (version, kind) else { return Vec::new() };
    if (version, kind) == ("v1", "List") {
        return list(&mut document, file, budget, problems);
    }
    let before = problems.refusals();
    if (version, kind) == ("v1", "Namespace") {
        let namespace = namespace::read(&mut document, file, problems);
        document.close(problems);
        return namespace.filter(|_| problems.refusals() == before).map(Object::Namespace).into_iter().collect();
    }
    let known = KINDS.iter().find(|(known_version, known_kind, _)| (*known_version, *known_kind) == (version, kind));
    let Some((_, _, known)) = known else {
        let at = |node: Option<&Node>| node.map_or(document.at, |node| node.at);
        unknown_kind(version, at(version_node), kind, at(kind_node), problems);
        return Vec::new();
    };
    let policy = policy::read(*known, &mut document, file, budget, problems);
    document.close(problems);
    policy.filter(|_| problems.refusals() == before).map(Object::Policy).into_iter().collect()
}

/// What `kubectl get -o yaml` prints: a `List` of objects.
fn list(document: &mut Fields<'_>, file: &Arc<str>, budget: &mut RuleBudget, problems: &mut Problems) -> Vec<Object> {
    let Some(items) = document.require("items", "write the objects below `items:`", problems) else {
        return Vec::new();
    };
    let items = fields::list(items, "items", problems);
    let (lists, objects): (Vec<&Node>, Vec<&Node>) = items.iter().partition(|item| is_list(item));
    for list in lists {
        problems.error(list.at, "a `List` in a `List`", "lists are not nested", "move its items up");
    }
    objects.into_iter().flat_map(|item| object(item, file, budget, problems)).collect()
}

fn is_list(node: &Node) -> bool {
    let yaml::Value::Mapping(entries) = &node.value else { return false };
    let list = |node: &Node| matches!(&node.value, yaml::Value::Scalar { text, .. } if text == "List");
    entries.iter().any(|(key, node)| key.text == "kind" && list(node))
}

fn unknown_kind(version: &str, version_at: Position, kind: &str, kind_at: Position, problems: &mut Problems) {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if LATER_KINDS.contains(&(group, kind)) {
        let held = KINDS.map(|(_, kind, _)| kind);
        let instead = format!("write one of {}, or take the document out", fields::listed(&held));
        problems.unsupported(kind_at, &format!("kind {} of {}", quoted(kind), quoted(version)), instead);
        return;
    }
    if let Some((right, ..)) = KINDS.iter().find(|(_, known, _)| *known == kind) {
        let what = format!("`apiVersion` is {}", quoted(version));
        problems.error(version_at, what, format!("`{kind}` is of `{right}`"), format!("write `apiVersion: {right}`"));
        return;
    }
    if (version, kind) == (PALISADE, "PolicyTest") {
        let instead = "run it by `palisade policy test`, and keep it out of the policy directory";
        problems.error(kind_at, "kind `PolicyTest`", "it tests policies and is none", instead);
        return;
    }
    let ours = group == "security.kubearmor.com" || group == "palisade.dev";
    let near = suggest::nearest(kind, KINDS.iter().map(|(_, kind, _)| *kind)).filter(|_| ours);
    let instead = near.map_or_else(
        || "take the document out of the policy files".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let what = format!("kind {} of {}", quoted(kind), quoted(version));
    problems.error(kind_at, what, "it is no policy that is known here", instead);
}
