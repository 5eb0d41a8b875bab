//! One case: who does what, and what must come of it.

use palisade_domain::Action;

use super::{
    act::{self, Act},
    fixture::{WorkloadFixture, optional_text, required_text},
};
use crate::{
    common::{Common, Level},
    diagnostic::{Position, Problems, quoted},
    fields::Fields,
    suggest,
};

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it states.
    pub name: String,
    /// Where it stands.
    pub at: Position,
    /// The name of one of the test's workloads.
    pub workload: String,
    /// What the workload does.
    pub act: Act,
    /// What must come of it.
    pub expect: Expected,
}

/// What a case expects. What is absent is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// `Allow`: nothing forbids it and no alert. `Audit`: permitted, with an alert. `Block`.
    pub action: Action,
    /// The deciding policy's name; `DefaultPosture` where a posture decides.
    pub policy: Option<String>,
    /// The deciding rule's severity.
    pub severity: Option<u8>,
    /// The deciding rule's message.
    pub message: Option<String>,
    /// The deciding rule's tags.
    pub tags: Option<Vec<String>>,
}

pub(super) fn read(
    fields: &mut Fields<'_>,
    workloads: &[(WorkloadFixture, Position)],
    problems: &mut Problems,
) -> Option<Case> {
    let name = required_text(fields, "name", "write what the case states: `name: sleep is blocked`", problems);
    let workload = workload(fields, workloads, problems);
    let act = act::read(fields, problems);
    if let Some(Act::Device(_)) = act {
        let what = format!("{} is about a device", quoted(&fields.place));
        let why = "a test asks the compiled policy, which has no devices: they are authorized, not opened";
        problems.error(fields.at, what, why, "ask `palisade policy explain --device` which rule would");
    }
    let expect = expected(fields, problems);
    Some(Case { name: name?, at: fields.at, workload: workload?, act: act?, expect: expect? })
}

fn workload(
    fields: &mut Fields<'_>,
    workloads: &[(WorkloadFixture, Position)],
    problems: &mut Problems,
) -> Option<String> {
    let node = fields.require("workload", "name one of `workloads`", problems)?;
    let name = crate::fields::text(node, &fields.place_of("workload"), problems)?;
    let mut names = workloads.iter().map(|(workload, _)| workload.name.as_str());
    if names.clone().any(|known| known == name) {
        return Some(name.to_owned());
    }
    let instead = match suggest::nearest(name, names.by_ref()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => "add it to `workloads`".to_owned(),
    };
    problems.error(node.at, format!("workload {}", quoted(name)), "the test does not define it", instead);
    None
}

fn expected(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Expected> {
    let node = fields.require("expect", "write `expect: {action: Block}`", problems)?;
    let mut expect = Fields::of(node, fields.place_of("expect"), problems)?;
    let policy = optional_text(&mut expect, "policy", problems);
    let has_tags = expect.has("tags");
    let common = Common::read(&mut expect, Level::Inner, problems);
    if common.action.is_none() && !expect.has("action") {
        expect.require("action", "write `action: Allow`, `Audit` or `Block`", problems);
    }
    expect.close(problems);
    let tags = has_tags.then_some(common.tags);
    Some(Expected { action: common.action?, policy, severity: common.severity, message: common.message, tags })
}
