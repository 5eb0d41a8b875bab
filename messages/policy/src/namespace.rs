//! `Namespace` (`v1`): what the annotations of a namespace say about its workloads.
//!
//! Decision: documents of the policy directory, for a node that has no Kubernetes to ask. What Kubernetes keeps in a namespace besides
//! is known and of no account. An annotation with an unknown value refuses the document, so that the last good one or else the global
//! value holds; KubeArmor overwrites the user's annotation instead. Pods' own annotations (`kubearmor-policy: audited | disabled`) are not here: nothing tells
//! them to a node, so that every workload that a policy selects is held to it.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{Posture, Visibility, VisibilityClass};

use crate::{
    diagnostic::{Position, Problems, quoted},
    fields::{self, Fields, text_map},
    ir::Postures,
    metadata, postures, suggest,
};

/// A namespace as far as policies need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its posture for exec and open; the global one where it has none.
    pub file: Option<Posture>,
    /// Its posture for sockets, destinations and DNS.
    pub network: Option<Posture>,
    /// Its posture for capabilities and ptrace.
    pub capabilities: Option<Posture>,
    /// What of its workloads' doings is to be seen; what the node says where it has none.
    pub visibility: Option<Visibility>,
    /// The file that it was read from.
    pub file_name: Arc<str>,
    /// Where in the file it starts.
    pub at: Position,
}

impl Namespace {
    /// Its postures over the global ones.
    #[must_use]
    pub fn postures(&self, global: Postures) -> Postures {
        Postures {
            file: self.file.unwrap_or(global.file),
            network: self.network.unwrap_or(global.network),
            capabilities: self.capabilities.unwrap_or(global.capabilities),
            device: global.device,
        }
    }
}

/// Annotation of what is to be seen: classes between commas, `none` or `all`.
pub const VISIBILITY_ANNOTATION: &str = "kubearmor-visibility";

/// KubeArmor's class for hashes of what is executed, which no record here carries.
const IMA: &str = "ima";

fn visibility(at: Position, value: &str, problems: &mut Problems) -> Option<Visibility> {
    let (ima, words): (Vec<&str>, Vec<&str>) = fields::comma_list(value).partition(|word| *word == IMA);
    if !ima.is_empty() {
        let what = format!("{} of {}", quoted(IMA), quoted(VISIBILITY_ANNOTATION));
        let why = "no record carries the measurement of a file: its hash is absent from alerts and logs";
        problems.unenforceable(at, &what, why, "leave it out; the other classes are held");
    }
    let visibility = words.join(",").parse::<Visibility>();
    if let Err(unknown) = &visibility {
        let what = format!("{} is {}", quoted(VISIBILITY_ANNOTATION), quoted(value));
        let names = VisibilityClass::ALL.map(VisibilityClass::name);
        let word = unknown.0.as_str();
        let instead = match suggest::nearest(word, names) {
            Some(near) => format!("write `{near}` for {}", quoted(word)),
            None => format!("write `none`, `all`, or some of {}, with commas between them", fields::listed(&names)),
        };
        problems.error(at, what, format!("{} is no class of visibility", quoted(word)), instead);
    }
    visibility.ok()
}

/// Reads a document of the kind; nothing without a usable name.
pub(crate) fn read(document: &mut Fields<'_>, file: &Arc<str>, problems: &mut Problems) -> Option<Namespace> {
    let node = document.require("metadata", "write `metadata: {name: shop}`", problems)?;
    let mut fields = Fields::of(node, "metadata", problems)?;
    let name = fields
        .require("name", "write `name: shop`", problems)
        .and_then(|node| metadata::namespace_name(node, "metadata.name", problems));
    let annotations = fields.get("annotations").map(|node| text_map(node, "metadata.annotations", problems));
    let annotations: BTreeMap<String, (Position, String)> =
        annotations.into_iter().flatten().map(|(key, value)| (key.text, (key.at, value))).collect();
    metadata::skip_what_kubernetes_keeps(&mut fields);
    fields.close(problems);
    // Finalizers and the phase, which are Kubernetes' own.
    document.get("spec");
    document.get("status");
    let mut posture = |annotation: &str| {
        let (at, value) = annotations.get(annotation)?;
        let posture = postures::named(value);
        if posture.is_none() {
            let what = format!("{} is {}", quoted(annotation), quoted(value));
            problems.error(*at, what, "a posture is `audit` or `block`", "write one of them");
        }
        posture
    };
    let (network, capabilities) = (posture(postures::NETWORK_ANNOTATION), posture(postures::CAPABILITIES_ANNOTATION));
    let file_posture = posture(postures::FILE_ANNOTATION);
    let visibility = annotations.get(VISIBILITY_ANNOTATION).and_then(|(at, value)| visibility(*at, value, problems));
    let (file_name, at) = (Arc::clone(file), document.at);
    Some(Namespace { name: name?, file: file_posture, network, capabilities, visibility, file_name, at })
}
