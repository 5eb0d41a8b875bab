//! Policy documents of every kind, their validation, and the one rule IR that they lower to.
//!
//! The journey of a document: bytes → [`PolicyFile`] (bounded YAML trees with positions, read field by field, lowered to
//! [`ir::Rule`]s) → [`PolicySet`] (by kind, namespace and name) → [`ir::WorkloadRules`] of one workload, the compiler's input.
//!
//! Invariant: a document is held whole or refused with a [`Diagnostic`] for each of its faults. No field is ignored in
//! silence: what KubeArmor knows and this version does not hold is [`Severity::Unsupported`], anything else unknown is an
//! error with the nearest known name. Nothing here does I/O, reads a clock or depends on a random seed; every size has a bound.
#![forbid(unsafe_code)]

mod common;
mod destination;
mod diagnostic;
mod draft;
mod fields;
mod file;
mod given_out;
pub mod ir;
mod kubearmor_host_policy;
mod kubearmor_policy;
mod metadata;
mod network;
mod node_selector;
mod palisade_policy;
mod path;
mod path_family;
mod pattern;
mod policy;
mod policy_file;
mod policy_set;
pub mod policy_test;
pub mod postures;
mod process;
mod protocol;
mod ptrace;
mod selector;
pub mod settings;
mod source;
mod specificity;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

pub use common::{MAX_MESSAGE_BYTES, MAX_TAG_BYTES, MAX_TAGS};
pub use destination::MAX_PORT_RANGES;
pub use diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Position, Severity};
pub use draft::{MAX_FILE_RULE_BYTES, MAX_RULES};
pub use metadata::DEFAULT_NAMESPACE;
pub use node_selector::NodeSelector;
pub use path::{MAX_NAME_BYTES, MAX_PATH_BYTES};
pub use pattern::{MAX_ALTERNATIVES, MAX_BRACE_DEPTH, MAX_EXPANDED_BYTES, MAX_PATTERN_BYTES};
pub use policy::{Policy, PolicySelector};
pub use policy_file::PolicyFile;
pub use policy_set::PolicySet;
pub use policy_test::PolicyTest;
pub use selector::{LabelExpression, LabelOperator, Selector};
pub use yaml::{
    MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_FILE_NODES, MAX_KEYS, MAX_NODES, MAX_SIGNS,
};
