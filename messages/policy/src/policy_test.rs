//! `PolicyTest` (`palisade.dev/v1alpha1`): what a set of policies must decide, act by act.
//!
//! Invariant: a test that is accepted can be run: its cases name workloads that it defines, acts that this version decides,
//! and expectations that can hold or not. Files that it names are the caller's to read, relative to the test's own; its
//! inline policies are read here, and their diagnostics kept apart from the test's own, for a test may expect them.

mod act;
mod case;
mod fixture;

use std::sync::Arc;

pub use act::{
    Act, CapabilityAct, ConnectAct, DeviceAct, DnsAct, ExecAct, OpenAct, PresetAct, PtraceAct, SocketAct, SyscallAct,
};
pub use case::{Case, Expected};
pub use fixture::{NamespaceFixture, WorkloadFixture};

use crate::{
    diagnostic::{Diagnostic, Position, Problems, quoted},
    fields::{self, Fields},
    ir::Postures,
    policy_file::{self, PALISADE, PolicyFile},
    yaml::{Node, Value},
};

/// One test document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTest {
    /// What it states.
    pub name: String,
    /// The global postures.
    pub postures: Postures,
    /// Namespaces with labels or annotations.
    pub namespaces: Vec<NamespaceFixture>,
    /// Who acts in the cases; names are unique.
    pub workloads: Vec<WorkloadFixture>,
    /// The policies under test.
    pub policies: Vec<PolicySource>,
    /// What must come of them.
    pub expectation: Expectation,
}

/// Where a policy under test comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// A file, relative to the test's own.
    File {
        /// As it is written.
        path: String,
        /// Where.
        at: Position,
    },
    /// An object in the test itself.
    Inline(PolicyFile),
}

/// What must come of the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// They are accepted, and decide so.
    Cases(Vec<Case>),
    /// They are refused, with a diagnostic that holds the text.
    Refused {
        /// Part of the message.
        message: String,
    },
}

impl PolicyTest {
    /// Reads the one test of a file.
    ///
    /// # Errors
    /// All that is wrong with the test itself. Faults of inline policies are no errors here.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Problems::new(file);
        let mut documents = Vec::new();
        policy_file::for_each_document(bytes, &mut problems, |document, _| {
            // The second is for the message; a file of thousands is not kept.
            if documents.len() < 2 {
                documents.push(document);
            }
        });
        let test = match documents.as_slice() {
            [document] => read(document, file, &mut problems),
            [] if problems.refusals() > 0 => None,
            [] => {
                let what = "the file holds no document";
                problems.error(Position::START, what, "one `PolicyTest` is wanted", "write `kind: PolicyTest`");
                None
            }
            [_, second, ..] => {
                let why = "one `PolicyTest` is wanted";
                problems.error(second.at, "a second document", why, "move it to a file of its own");
                None
            }
        };
        let refused = problems.refusals() > 0;
        test.filter(|_| !refused).ok_or_else(|| problems.into_diagnostics())
    }
}

fn read(node: &Node, file: &str, problems: &mut Problems) -> Option<PolicyTest> {
    let mut document = Fields::of(node, "", problems)?;
    constant(&mut document, "apiVersion", PALISADE, problems);
    constant(&mut document, "kind", "PolicyTest", problems);
    let name = document
        .require("name", "write what the test states: `name: web may not read the shadow file`", problems)
        .and_then(|node| fields::bounded_text(node, "name", 1_024, problems));
    let postures = fixture::postures(&mut document, problems);
    let namespaces = each(&mut document, "namespaces", problems, fixture::namespace);
    let workloads = each(&mut document, "workloads", problems, fixture::workload);
    let names = namespaces.iter().map(|(namespace, at)| (namespace.name.as_str(), *at));
    fixture::refuse_repeated_names("namespace", names, problems);
    let names = workloads.iter().map(|(workload, at)| (workload.name.as_str(), *at));
    fixture::refuse_repeated_names("workload", names, problems);
    let policies = policies(&mut document, file, problems);
    let expectation = expectation(&mut document, &workloads, problems);
    document.close(problems);
    let workloads = workloads.into_iter().map(|(workload, _)| workload).collect();
    let namespaces = namespaces.into_iter().map(|(namespace, _)| namespace).collect();
    Some(PolicyTest { name: name?, postures, namespaces, workloads, policies, expectation: expectation? })
}

/// A field that has one value only.
fn constant(document: &mut Fields<'_>, name: &'static str, value: &str, problems: &mut Problems) {
    let instead = format!("write `{name}: {value}`");
    let Some(node) = document.require(name, &instead, problems) else { return };
    let Some(written) = fields::text(node, name, problems) else { return };
    if written != value {
        problems.error(node.at, format!("`{name}` is {}", quoted(written)), format!("a test has `{value}`"), instead);
    }
}

/// The items of a list of mappings, each with where it stands.
fn each<T>(
    document: &mut Fields<'_>,
    list: &'static str,
    problems: &mut Problems,
    read: impl Fn(&mut Fields<'_>, &mut Problems) -> Option<T>,
) -> Vec<(T, Position)> {
    let Some(node) = document.get(list) else { return Vec::new() };
    let mut items = Vec::new();
    for (index, item) in fields::list(node, list, problems).iter().enumerate() {
        let Some(mut fields) = Fields::of(item, format!("{list}[{index}]"), problems) else { continue };
        let read = read(&mut fields, problems);
        fields.close(problems);
        items.extend(read.map(|read| (read, item.at)));
    }
    items
}

fn policies(document: &mut Fields<'_>, file: &str, problems: &mut Problems) -> Vec<PolicySource> {
    let instead = "write `policies:` with file names or policy objects after `- `";
    let Some(node) = document.require("policies", instead, problems) else { return Vec::new() };
    let items = fields::list(node, "policies", problems).iter().enumerate();
    items.filter_map(|(index, item)| policy(item, index, file, problems)).collect()
}

fn policy(item: &Node, index: usize, file: &str, problems: &mut Problems) -> Option<PolicySource> {
    if matches!(item.value, Value::Mapping(_)) {
        return Some(PolicySource::Inline(PolicyFile::inline(item, &Arc::from(file))));
    }
    let path = fields::text(item, &format!("policies[{index}]"), problems)?;
    Some(PolicySource::File { path: path.to_owned(), at: item.at })
}

fn expectation(
    document: &mut Fields<'_>,
    workloads: &[(WorkloadFixture, Position)],
    problems: &mut Problems,
) -> Option<Expectation> {
    let (expect, has_cases) = (document.get("expect"), document.has("cases"));
    let Some(node) = expect else {
        document.require("cases", "write `cases:`, or `expect: {invalid: \"part of the message\"}`", problems)?;
        let cases = each(document, "cases", problems, |fields, problems| case::read(fields, workloads, problems));
        return Some(Expectation::Cases(cases.into_iter().map(|(case, _)| case).collect()));
    };
    if has_cases {
        document.get("cases");
        problems.error(node.at, "both `expect` and `cases`", "refused policies decide nothing", "remove one of them");
        return None;
    }
    let mut fields = Fields::of(node, "expect", problems)?;
    let message = fields
        .require("invalid", "write `invalid: \"part of the message\"`", problems)
        .and_then(|node| fields::bounded_text(node, "expect.invalid", 1_024, problems));
    fields.close(problems);
    Some(Expectation::Refused { message: message? })
}
