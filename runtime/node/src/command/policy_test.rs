//! `palisade policy test`: policies against stated cases, decided by the very blob that the kernel would get.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use palisade_domain::Action;
use palisade_kernel_abi::blob::{Decision, Effect};
use palisade_policy::{
    Diagnostic, ObservedCall, PolicyFile, PolicySet, PolicyTest,
    ir::{Rule, WorkloadRules},
    policy_test::{Act, Case, Expectation, Expected, PolicySource, SyscallAct, WorkloadFixture},
};
use palisade_policy_compiler::{
    compile, decide,
    state::{Bounds, later},
};
use palisade_protocol::CompiledPolicy;
use palisade_world::Clock as _;
use serde::Serialize;
use serde_json::json;

use super::{Outcome, policy::read_bounded};
use crate::{arguments::Output, clock::MachineClock, render};

/// What a posture's decision is called in expectations.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// How one case went.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    line: u32,
    case: String,
    holds: bool,
    /// What is not as expected.
    differences: Vec<Difference>,
    /// The rule that decided, for people.
    decided_by: String,
}

/// One field that is not as expected.
#[derive(Debug, Serialize)]
struct Difference {
    field: &'static str,
    expected: String,
    actual: String,
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
        Output::Text => report(&verdicts, &unrunnable),
        output => render::document(output, &json!({ "cases": verdicts, "unrunnable": unrunnable })),
    };
    super::print(&text)?;
    Ok(match (unrunnable.is_empty(), failed) {
        (false, _) => ExitCode::from(2),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::FAILURE,
    })
}

fn report(verdicts: &[Verdict], unrunnable: &[String]) -> String {
    let mut lines = Vec::new();
    for verdict in verdicts {
        let mark = if verdict.holds { "ok  " } else { "FAIL" };
        lines.push(format!("{mark} {}:{}: {}", verdict.file, verdict.line, verdict.case));
        let differences = verdict.differences.iter();
        lines.extend(differences.map(|Difference { field, expected, actual }| {
            format!("       {field}: expected {expected}, was {actual}")
        }));
        if !verdict.holds {
            lines.push(format!("       decided by {}", verdict.decided_by));
        }
    }
    lines
        .extend(unrunnable.iter().map(|reason| format!("cannot be run (see `palisade policy test --help`): {reason}")));
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    lines.push(format!("{} cases hold, {failed} do not, {} cannot be run", verdicts.len() - failed, unrunnable.len()));
    // Names and messages are the text of whoever wrote the files, and may hold what a terminal obeys.
    lines.iter().map(|line| render::printable(line) + "\n").collect()
}

fn test(file: &Path) -> Result<Vec<Verdict>, Unrunnable> {
    let name = file.display().to_string();
    let bytes = read_bounded(file).map_err(|error| Unrunnable::Unreadable(format!("{name}: {error}")))?;
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
        Expectation::Cases(cases) => {
            let mut compiled = BTreeMap::new();
            cases.iter().map(|case| run_case(&name, &test, &set, case, &mut compiled)).collect()
        }
    }
}

fn policies(test: &PolicyTest, file: &Path) -> Result<Vec<PolicyFile>, Unrunnable> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let read = |source: &PolicySource| match source {
        PolicySource::Inline(policies) => Ok(policies.clone()),
        PolicySource::File { path, at } => {
            let path = directory.join(path);
            let name = path.display().to_string();
            let bytes = read_bounded(&path).map_err(|error| {
                Unrunnable::Unreadable(format!("{}:{}:{}: {name}: {error}", file.display(), at.line, at.column))
            })?;
            Ok(PolicyFile::parse(&name, &bytes))
        }
    };
    test.policies.iter().map(read).collect()
}

fn refusal(file: &str, test: &str, message: &str, refused: &[Diagnostic]) -> Verdict {
    let found: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let holds = found.iter().any(|found| found.contains(message));
    let actual = if found.is_empty() { "the policies are accepted".to_owned() } else { found.join("; ") };
    let wanted = || Difference { field: "refusal", expected: format!("one with `{message}`"), actual };
    let differences = if holds { Vec::new() } else { vec![wanted()] };
    Verdict { file: file.into(), line: 1, case: test.into(), holds, differences, decided_by: "validation".into() }
}

/// `compiled` holds the policies of the workloads that acted already: each is compiled once, however many cases it has.
fn run_case<'t>(
    file: &str,
    test: &'t PolicyTest,
    set: &PolicySet,
    case: &'t Case,
    compiled: &mut BTreeMap<&'t str, CompiledPolicy>,
) -> Result<Verdict, Unrunnable> {
    let not_compiled = |reason: String| Unrunnable::NotCompiled(format!("{file}:{}: {reason}", case.at.line));
    let policy = match compiled.get(case.workload.as_str()) {
        Some(policy) => policy,
        None => {
            let workload = test.workloads.iter().find(|fixture| fixture.name == case.workload);
            let workload = workload.ok_or_else(|| not_compiled(format!("no workload is called {}", case.workload)))?;
            let policy = compiled_for(workload, test, set).map_err(not_compiled)?;
            compiled.entry(&case.workload).or_insert(policy)
        }
    };
    let (action, by_posture, rule) = decided(policy, &case.act);
    let differences = differences(&case.expect, action, by_posture, rule);
    let decided_by = match (rule, by_posture) {
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

/// What the compiled policy says of an act: by its blob, and by the rules on system calls that no blob decides.
pub(super) fn decided<'p>(policy: &'p CompiledPolicy, act: &Act) -> (Action, bool, Option<&'p Arc<Rule>>) {
    let Decision { effect, by_posture, rule, .. } = decide(policy, act);
    let action = match effect {
        Effect::Permit => Action::Allow,
        Effect::Audit => Action::Audit,
        Effect::Block => Action::Block,
    };
    let rule = rule.and_then(|index| policy.rule(index));
    match observer(policy, act) {
        Some(observer) if rule.is_none_or(|rule| rule.specificity() < observer.specificity()) => {
            (Action::Audit, false, Some(observer))
        }
        _ => (action, by_posture, rule),
    }
}

/// The most specific rule that audits the system call by what it is about.
fn observer<'p>(policy: &'p CompiledPolicy, act: &Act) -> Option<&'p Arc<Rule>> {
    let Act::Syscall(SyscallAct { number, number32, path: Some(path), source, .. }) = act else { return None };
    let executable = source.as_deref().unwrap_or_default().as_bytes();
    let (number, is_compat) = number.map(|number| (number, false)).or(number32.map(|number| (number, true)))?;
    let call = ObservedCall { number, is_compat, path: path.as_bytes(), executable };
    policy.observed.iter().filter(|rule| rule.observes(&call)).max_by_key(|rule| rule.specificity())
}

fn compiled_for(workload: &WorkloadFixture, test: &PolicyTest, set: &PolicySet) -> Result<CompiledPolicy, String> {
    let workload = &workload.workload;
    let namespace = test.namespaces.iter().find(|namespace| namespace.name == workload.namespace);
    let none = BTreeMap::new();
    let annotations = namespace.map_or(&none, |namespace| &namespace.annotations);
    let rules = set.rules_for(workload, annotations, test.postures);
    compile_as_a_node(&rules)
}

/// Within the bounds of a node: what it would refuse is refused here, and why is said.
pub(super) fn compile_as_a_node(rules: &WorkloadRules) -> Result<CompiledPolicy, String> {
    let bounds = Bounds::default();
    let deadline = later(MachineClock.boot(), bounds.build_within);
    compile(rules, &bounds.automaton, &mut || MachineClock.boot() >= deadline).map_err(|error| error.to_string())
}

fn differences(expect: &Expected, action: Action, by_posture: bool, rule: Option<&Arc<Rule>>) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field, expected: String, actual: String| {
        if expected != actual {
            found.push(Difference { field, expected, actual });
        }
    };
    compare("action", format!("{:?}", expect.action), format!("{action:?}"));
    if let Some(policy) = &expect.policy {
        let actual = match rule {
            Some(rule) => rule.policy.name.clone(),
            None if by_posture => DEFAULT_POSTURE.to_owned(),
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
