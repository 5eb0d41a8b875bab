//! `palisade policy test`: policies against stated cases, decided by the very blob that the kernel would get.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use palisade_domain::Action;
use palisade_kernel_abi::blob::{Decision, Effect, Endpoint, Family, Modifiers, SourceId};
use palisade_policy::{
    Diagnostic, PolicyFile, PolicySet, PolicyTest,
    policy_test::{Act, Case, Expectation, Expected, PolicySource},
};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_protocol::CompiledPolicy;
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use crate::arguments::Output;

/// What a posture's decision is called in expectations.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// How one case went.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    line: u32,
    case: String,
    holds: bool,
    /// What is not as expected: field, expected, actual.
    differences: Vec<(String, String, String)>,
    /// The rule that decided, for people.
    decided_by: String,
}

/// Why a test cannot be run at all.
enum Unrunnable {
    Unreadable(String),
    Wrong(Vec<Diagnostic>),
    NotCompiled(String),
}

/// Runs every test; exit status 0 when all cases hold, 1 when not, 2 when a file cannot be read as a test.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(files: &[PathBuf], output: Output) -> Outcome {
    let mut verdicts = Vec::new();
    let mut unrunnable = Vec::new();
    for file in files {
        match test(file) {
            Ok(cases) => verdicts.extend(cases),
            Err(Unrunnable::Unreadable(reason) | Unrunnable::NotCompiled(reason)) => unrunnable.push(reason),
            Err(Unrunnable::Wrong(found)) => unrunnable.extend(found.iter().map(ToString::to_string)),
        }
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    let text = match output {
        Output::Json => format!("{:#}\n", json!({ "cases": verdicts, "unrunnable": unrunnable })),
        Output::Text => report(&verdicts, &unrunnable),
    };
    super::print(&text)?;
    Ok(match (unrunnable.is_empty(), failed) {
        (false, _) => ExitCode::from(2),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::FAILURE,
    })
}

fn report(verdicts: &[Verdict], unrunnable: &[String]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let mark = if verdict.holds { "ok  " } else { "FAIL" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {}:{}: {}", verdict.file, verdict.line, verdict.case);
        for (field, expected, actual) in &verdict.differences {
            let _ = writeln!(text, "       {field}: expected {expected}, was {actual}");
        }
        if !verdict.holds {
            let _ = writeln!(text, "       decided by {}", verdict.decided_by);
        }
    }
    for reason in unrunnable {
        let _ = writeln!(text, "cannot be run: {reason}");
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    let _ =
        writeln!(text, "{} cases hold, {failed} do not, {} cannot be run", verdicts.len() - failed, unrunnable.len());
    text
}

fn test(file: &Path) -> Result<Vec<Verdict>, Unrunnable> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| Unrunnable::Unreadable(format!("{name}: {error}")))?;
    let test = PolicyTest::parse(&name, &bytes).map_err(Unrunnable::Wrong)?;
    let policies = policies(&test, file)?;
    let (set, duplicates) = PolicySet::assemble(&policies);
    let refused: Vec<Diagnostic> = policies
        .iter()
        .flat_map(|file| file.diagnostics.iter().cloned())
        .chain(duplicates)
        .filter(|found| found.severity.refuses())
        .collect();
    match &test.expectation {
        Expectation::Refused { message } => Ok(vec![refusal(&name, &test.name, message, &refused)]),
        Expectation::Cases(_) if !refused.is_empty() => Err(Unrunnable::Wrong(refused)),
        Expectation::Cases(cases) => cases.iter().map(|case| run_case(&name, &test, &set, case)).collect(),
    }
}

fn policies(test: &PolicyTest, file: &Path) -> Result<Vec<PolicyFile>, Unrunnable> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let read = |source: &PolicySource| match source {
        PolicySource::Inline(policies) => Ok(policies.clone()),
        PolicySource::File { path, at } => {
            let bytes = std::fs::read(directory.join(path)).map_err(|error| {
                Unrunnable::Unreadable(format!("{}:{}:{}: {path}: {error}", file.display(), at.line, at.column))
            })?;
            Ok(PolicyFile::parse(path, &bytes))
        }
    };
    test.policies.iter().map(read).collect()
}

fn refusal(file: &str, test: &str, message: &str, refused: &[Diagnostic]) -> Verdict {
    let found: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let holds = found.iter().any(|found| found.contains(message));
    let actual = if found.is_empty() { "the policies are accepted".to_owned() } else { found.join("; ") };
    let differences =
        if holds { Vec::new() } else { vec![("refusal".into(), format!("one with `{message}`"), actual)] };
    Verdict { file: file.into(), line: 1, case: test.into(), holds, differences, decided_by: "validation".into() }
}

fn run_case(file: &str, test: &PolicyTest, set: &PolicySet, case: &Case) -> Result<Verdict, Unrunnable> {
    let missing =
        || Unrunnable::NotCompiled(format!("{file}:{}: no workload is called {}", case.at.line, case.workload));
    let workload = &test.workloads.iter().find(|fixture| fixture.name == case.workload).ok_or_else(missing)?.workload;
    let annotations = test.namespaces.iter().find(|namespace| namespace.name == workload.namespace);
    let annotations = annotations.map(|namespace| namespace.annotations.clone()).unwrap_or_default();
    let rules = set.rules_for(workload, &annotations, test.postures);
    let compiled = compile(&rules, &AutomatonLimits::default(), &mut || false)
        .map_err(|error| Unrunnable::NotCompiled(format!("{file}:{}: {error}", case.at.line)))?;
    let decision = decide(&compiled, &case.act);
    let rule = decision.rule.and_then(|index| compiled.rules.get(usize::try_from(index).ok()?));
    let differences = differences(&case.expect, decision, rule);
    let decided_by = match (rule, decision.by_posture) {
        (Some(rule), _) => format!("{} {} ({:?})", rule.policy, rule.place, rule.action),
        (None, true) => DEFAULT_POSTURE.to_owned(),
        (None, false) => "no rule".to_owned(),
    };
    Ok(Verdict {
        file: file.into(),
        line: case.at.line,
        case: case.name.clone(),
        holds: differences.is_empty(),
        differences,
        decided_by,
    })
}

/// As the kernel would: the same blob, the same walk.
fn decide(compiled: &CompiledPolicy, act: &Act) -> Decision {
    let blob = &compiled.blob;
    let source = |path: &Option<String>| path.as_ref().map_or(SourceId::NONE, |path| blob.source_id(path.as_bytes()));
    let by_path = |family, path: &str, from: &Option<String>, modifiers| {
        blob.decide(family, blob.path_accept(path.as_bytes()), source(from), modifiers)
    };
    let by_endpoint = |family, endpoint: Endpoint, from: &Option<String>| {
        blob.decide(family, blob.network_accept(endpoint.encode().as_ref()), source(from), Modifiers::NONE)
    };
    match act {
        Act::Exec(exec) => {
            by_path(Family::Process, &exec.path, &exec.source, Modifiers::new(exec.uid == exec.owner, false))
        }
        Act::Open(open) => {
            by_path(Family::File, &open.path, &open.source, Modifiers::new(open.uid == open.owner, open.write))
        }
        Act::Ptrace(ptrace) => by_path(Family::Ptrace, &ptrace.target, &ptrace.source, Modifiers::NONE),
        Act::Socket(socket) => {
            let endpoint =
                Endpoint { domain: socket.domain, kind: socket.kind, protocol: socket.protocol, destination: None };
            by_endpoint(Family::Socket, endpoint, &socket.source)
        }
        Act::Connect(connect) => {
            let domain = if connect.address.is_ipv4() { 2 } else { 10 };
            let destination = Some((connect.address, connect.port));
            by_endpoint(
                Family::Connect,
                Endpoint { domain, kind: connect.kind, protocol: connect.protocol, destination },
                &connect.source,
            )
        }
    }
}

fn differences(
    expect: &Expected,
    decision: Decision,
    rule: Option<&Arc<palisade_policy::ir::Rule>>,
) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut compare = |field: &str, expected: String, actual: String| {
        if expected != actual {
            found.push((field.to_owned(), expected, actual));
        }
    };
    let action = match decision.effect {
        Effect::Permit => Action::Allow,
        Effect::Audit => Action::Audit,
        Effect::Block => Action::Block,
    };
    compare("action", format!("{:?}", expect.action), format!("{action:?}"));
    if let Some(policy) = &expect.policy {
        let actual = match rule {
            Some(rule) => rule.policy.name.clone(),
            None if decision.by_posture => DEFAULT_POSTURE.to_owned(),
            None => "no policy".to_owned(),
        };
        compare("policy", policy.clone(), actual);
    }
    let absent = || "none".to_owned();
    if let Some(severity) = expect.severity {
        compare(
            "severity",
            severity.to_string(),
            rule.and_then(|rule| rule.severity).map_or_else(absent, |s| s.to_string()),
        );
    }
    if let Some(message) = &expect.message {
        compare("message", message.clone(), rule.and_then(|rule| rule.message.clone()).unwrap_or_else(absent));
    }
    if let Some(tags) = &expect.tags {
        compare("tags", tags.join(","), rule.map_or_else(absent, |rule| rule.tags.join(",")));
    }
    found
}
