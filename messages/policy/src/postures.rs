//! Default postures: the annotations of a namespace over the global configuration.
//!
//! Decision: an annotation with another value than `audit` or `block` is reported and the global posture holds; KubeArmor
//! overwrites the user's annotation instead, and needs the right to update every namespace for it.

use std::collections::BTreeMap;

use palisade_domain::Posture;

use crate::ir::Postures;

/// Annotation of the posture for exec and open.
pub const FILE_ANNOTATION: &str = "kubearmor-file-posture";
/// Annotation of the posture for sockets and destinations.
pub const NETWORK_ANNOTATION: &str = "kubearmor-network-posture";
/// Annotation of the posture for capabilities and ptrace.
pub const CAPABILITIES_ANNOTATION: &str = "kubearmor-capabilities-posture";

/// All of them.
pub(crate) const ANNOTATIONS: [&str; 3] = [FILE_ANNOTATION, NETWORK_ANNOTATION, CAPABILITIES_ANNOTATION];

/// An annotation that names no posture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPosture {
    /// The annotation's key.
    pub annotation: &'static str,
    /// What it says.
    pub value: String,
}

/// The postures of a namespace, and the annotations that could not be read.
#[must_use]
pub fn resolve(annotations: &BTreeMap<String, String>, global: Postures) -> (Postures, Vec<InvalidPosture>) {
    let mut invalid = Vec::new();
    let mut posture = |annotation: &'static str, global: Posture| match annotations.get(annotation) {
        None => global,
        Some(value) => named(value).unwrap_or_else(|| {
            invalid.push(InvalidPosture { annotation, value: value.clone() });
            global
        }),
    };
    let postures = Postures {
        file: posture(FILE_ANNOTATION, global.file),
        network: posture(NETWORK_ANNOTATION, global.network),
        capabilities: posture(CAPABILITIES_ANNOTATION, global.capabilities),
        device: global.device,
    };
    (postures, invalid)
}

/// `audit` or `block`.
pub(crate) fn named(value: &str) -> Option<Posture> {
    match value {
        "audit" => Some(Posture::Audit),
        "block" => Some(Posture::Block),
        _ => None,
    }
}
