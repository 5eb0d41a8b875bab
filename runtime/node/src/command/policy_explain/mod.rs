//! `palisade policy explain`: what policies mean for a workload, in words, and which rule decides what it does.
//!
//! Invariant: an answer about an act is the answer of the very blob that a node would install; where the two differ, that is said as the
//! fault of palisade that it is, with status 1. As there, a file with a refused document counts with none of its documents: what a node
//! may still hold is an earlier version of it, which is not here. Everything is printed in an order that does not depend on the order of the files.
//!
//! Exit status: 0; 1 where the rules cannot be compiled or the answers differ; 2 where a file cannot be read; 64 where the act is not one.

mod document;
mod rule_words;
mod words;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::{
    Diagnostic, PolicyFile, PolicySet,
    explain::{Explanation, Selection, explain, selection},
    ir::{Postures, WorkloadRules},
    policy_test::Act,
};
use palisade_protocol::{CompiledPolicy, NotHeld};
use serde_json::json;

use super::{
    Outcome,
    policy::{Kernel, read_all},
    policy_test::{self, compile_as_a_node},
};
use crate::{
    arguments::{ExplainArguments, Output},
    render,
};

/// All that is to be told.
struct Telling {
    workload: Workload,
    global: Postures,
    set: PolicySet,
    rules: Arc<WorkloadRules>,
    not_held: Vec<NotHeld>,
    kernel: Kernel,
    /// Files that are left out with all their documents.
    unsound: Vec<Arc<str>>,
    /// Refusals: of documents of these files, and of ones that an earlier one precedes.
    left_out: Vec<Diagnostic>,
    answer: Option<Answer>,
}

/// An act, explained and decided.
struct Answer {
    explanation: Explanation,
    /// Why the compiled policy cannot be asked, or how it decides otherwise.
    disagreement: Option<String>,
}

/// Prints what the policies mean for the workload, and what decides the act, if one is given.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &ExplainArguments) -> Outcome {
    let act = match act(arguments) {
        Ok(act) => act,
        Err(found) => {
            found.iter().for_each(|found| super::to_stderr(&format!("palisade: {found}")));
            return Ok(ExitCode::from(64));
        }
    };
    let files = match read_all(&arguments.paths) {
        Ok(files) => files,
        Err(error) => {
            super::complain(&error);
            return Ok(ExitCode::from(2));
        }
    };
    let (sound, unsound): (Vec<PolicyFile>, Vec<PolicyFile>) = files.into_iter().partition(PolicyFile::is_sound);
    let (set, duplicates) = PolicySet::assemble(&sound);
    let found = unsound.iter().flat_map(|file| &file.diagnostics).chain(&duplicates);
    let left_out = found.filter(|found| found.severity.refuses()).cloned().collect();
    let unsound = unsound.into_iter().map(|file| file.name).collect();
    let workload = workload(arguments);
    let global = Postures {
        file: arguments.default_file_posture.into(),
        network: arguments.default_network_posture.into(),
        capabilities: arguments.default_capabilities_posture.into(),
        device: arguments.host_default_device_posture.into(),
    };
    let rules = set.rules_for(&workload, &BTreeMap::new(), global);
    let kernel = Kernel::ask(arguments.no_kernel);
    let not_held = kernel.not_held_of(&rules, workload.kind);
    let answer = act.map(|act| answer(&rules, &act));
    let telling = Telling { workload, global, set, rules, not_held, kernel, unsound, left_out, answer };
    let text = match arguments.output {
        output @ (Output::Json | Output::Yaml) => render::document(output, &telling.json()),
        // Paths and labels are the user's text, and may hold what a terminal obeys.
        Output::Text => telling.text().lines().map(|line| format!("{}\n", render::printable(line))).collect(),
    };
    super::print(&text)?;
    let sound = telling.answer.as_ref().is_none_or(|answer| answer.disagreement.is_none());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains, and asks the compiled policy the same.
fn answer(rules: &WorkloadRules, act: &Act) -> Answer {
    let explanation = explain(rules, act);
    let disagreement = match compile_as_a_node(rules) {
        // No blob decides of devices: the same rules, as who authorizes devices takes them, are held to the explanation by tests.
        Ok(_) if matches!(act, Act::Device(_)) => None,
        Err(error) => Some(format!("the rules cannot be compiled, so that a node would not hold them: {error}")),
        Ok(policy) => disagreement(&explanation, &policy, act),
    };
    Answer { explanation, disagreement }
}

/// How the blob decides, if that is not what was explained.
fn disagreement(explanation: &Explanation, policy: &CompiledPolicy, act: &Act) -> Option<String> {
    let decided = &explanation.questions.get(explanation.answer)?.decision;
    let (action, by_posture, rule) = policy_test::decided(policy, act);
    // Of rules that say the same the compiler keeps one.
    let agrees = action == decided.action
        && by_posture == decided.by_posture
        && rule.is_none_or(|rule| decided.by.iter().any(|by| by.place == rule.place && by.policy == rule.policy));
    let named = rule.map(|rule| format!(" by {} {}", rule.policy, rule.place)).unwrap_or_default();
    (!agrees).then(|| {
        format!("the compiled policy decides otherwise: {action:?}{named}. That is a fault of palisade: report it with the policies")
    })
}

fn workload(arguments: &ExplainArguments) -> Workload {
    let (kind, namespace, container) = match arguments.host {
        true => (WorkloadKind::Host, String::new(), String::new()),
        false => (WorkloadKind::Container, arguments.namespace.clone(), arguments.container.clone()),
    };
    Workload {
        kind,
        name: arguments.name.clone(),
        namespace,
        container,
        container_id: None,
        image: String::new(),
        labels: arguments.labels.iter().cloned().collect(),
    }
}

fn named(written: &Option<String>) -> Option<serde_json::Value> {
    written.as_deref().map(named_or_number)
}

/// Numbers as numbers, for the reader tells them from names.
fn named_or_number(written: &str) -> serde_json::Value {
    written.parse::<u64>().map_or_else(|_| json!(written), |number| json!(number))
}

/// The act of the command line, read as a case of a policy test would be.
fn act(arguments: &ExplainArguments) -> Result<Option<Act>, Vec<Diagnostic>> {
    let ExplainArguments { source, uid, owner, tty, .. } = arguments;
    let mut act = if let Some(path) = &arguments.exec {
        let args: Vec<&String> = std::iter::once(path).chain(&arguments.arguments).collect();
        json!({ "exec": { "path": path, "uid": uid, "owner": owner, "tty": tty, "args": args } })
    } else if let Some(path) = &arguments.open {
        json!({ "open": { "path": path, "write": arguments.write, "uid": uid, "owner": owner, "tty": tty } })
    } else if let Some(family) = &arguments.socket {
        let (kind, protocol) = (named(&arguments.socket_type), named(&arguments.protocol));
        json!({ "socket": { "family": named_or_number(family), "type": kind, "protocol": protocol, "tty": tty } })
    } else if let Some(to) = arguments.connect {
        let (address, protocol) = (to.ip().to_string(), named(&arguments.protocol));
        json!({ "connect": { "address": address, "port": to.port(), "protocol": protocol, "tty": tty } })
    } else if let Some(target) = &arguments.ptrace {
        json!({ "ptrace": { "target": target } })
    } else if let Some(name) = &arguments.capability {
        json!({ "capability": { "name": name } })
    } else if let Some(name) = &arguments.dns {
        json!({ "dns": { "name": name } })
    } else if let Some(name) = &arguments.syscall {
        json!({ "syscall": { "name": name, "path": arguments.path } })
    } else if let Some(name) = &arguments.preset {
        json!({ "preset": { "name": name } })
    } else if let Some(device) = &arguments.device {
        let mut parts = device.splitn(3, ':');
        let class = parts.next();
        let (sub_class, protocol) = (parts.next().map(named_or_number), parts.next().map(named_or_number));
        json!({ "device": { "class": class, "subClass": sub_class, "protocol": protocol, "level": arguments.level } })
    } else {
        return Ok(None);
    };
    if let Some(source) = source
        && let Some(fields) = act.as_object_mut().and_then(|act| act.values_mut().next())
    {
        fields["source"] = json!(source);
    }
    Act::parse("the act", &act.to_string()).map(Some)
}

impl Telling {
    /// Each policy of the set with why it is for the workload or is not, in the set's order.
    fn selections(&self) -> impl Iterator<Item = (String, Selection)> {
        self.set.iter().map(|policy| (policy.reference.to_string(), selection(policy, &self.workload)))
    }
}
