//! `palisade rehearse`: what policies would deny of what traces hold.

use std::{path::PathBuf, process::ExitCode};

use palisade_domain::Posture;
use palisade_policy::PolicySet;
use palisade_simulation::rehearsal::{Given, Held, Of, Rehearsal, Report, Said, Unjudged};
use serde_json::json;

use super::{Outcome, complain, policy, trace_input};
use crate::{
    arguments::{Output, RehearseArguments},
    render,
};

/// Exit status where nothing would be denied and something could not be judged.
const UNJUDGED: u8 = 3;

/// Rehearses: exit status 0 where nothing would be denied, 1 where something would, 2 where a policy or a trace cannot be read or a policy
/// does not compile, no policy is given or no workload has a name that is asked for, 3 where nothing would be denied of what could be judged
/// and something could not: it is damaged, lost, undecidable, not seen, or no policy selects any workload. Where standard output cannot be written
/// it is 2 as well.
///
/// # Errors
/// None: each is said here.
pub fn run(arguments: &RehearseArguments) -> Outcome {
    let set = match policies(&arguments.policies) {
        Ok(set) => set,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(problem));
            return Ok(ExitCode::from(2));
        }
    };
    let given = Given {
        file: arguments.default_file_posture.map(Into::into),
        network: arguments.default_network_posture.map(Into::into),
        capabilities: arguments.default_capabilities_posture.map(Into::into),
    };
    let mut rehearsal = Rehearsal::new(set, given, arguments.workloads.clone());
    let (mut complaints, mut unreadable) = (Vec::new(), false);
    for path in &arguments.traces {
        match rehearse(&mut rehearsal, path) {
            Ok(said) => {
                rehearsal.damaged(said.len());
                complaints.extend(said.into_iter().map(|said| format!("{}: {said}", path.display())));
            }
            Err(error) => {
                unreadable = true;
                complaints.push(format!("{error:#}"));
            }
        }
    }
    let report = rehearsal.report();
    complaints
        .extend(report.refused.iter().map(|(workload, why)| format!("{workload}: its policy does not compile: {why}")));
    if report.more_refused > 0 {
        complaints.push(format!("policies of workloads do not compile {} times more", report.more_refused));
    }
    complaints
        .extend(report.unknown_workloads.iter().map(|name| format!("no workload of the traces is called {name}")));
    complaints.iter().for_each(|said| complain(said));
    let text = match arguments.output {
        Output::Text => text(&report),
        output => render::document(output, &json!(report)),
    };
    if let Err(error) = super::print(&text) {
        // Not 1, which says that something would be denied.
        complain(&format!("{error:#}"));
        return Ok(ExitCode::from(2));
    }
    let is_refused = report.has_refused() || !report.unknown_workloads.is_empty();
    Ok(match (unreadable || is_refused, report.denials()) {
        (true, _) => ExitCode::from(2),
        (false, 0) if report.is_complete() => ExitCode::SUCCESS,
        (false, 0) => ExitCode::from(UNJUDGED),
        (false, _) => ExitCode::FAILURE,
    })
}

fn policies(paths: &[PathBuf]) -> Result<PolicySet, Vec<String>> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(policy::read(path).map_err(|reason| vec![reason])?);
    }
    let (set, duplicates) = PolicySet::assemble(&files);
    let found = files.iter().flat_map(|file| &file.diagnostics).chain(&duplicates);
    let refused: Vec<String> = found.filter(|found| found.severity.refuses()).map(ToString::to_string).collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    if set.iter().next().is_none() {
        return Err(vec!["no policy is in what --policy names: there is nothing to rehearse".into()]);
    }
    Ok(set)
}

/// Decides one trace; what it lacks.
fn rehearse(rehearsal: &mut Rehearsal, path: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let mut reader = trace_input::open(path)?;
    rehearsal.whole(&mut reader)?;
    Ok(reader.complaints())
}

fn unjudged(row: &Unjudged) -> String {
    let Unjudged { policy, place, workload, reason, acts } = row;
    match acts {
        0 => format!("          {policy} {place}  {workload}  cannot be judged: {reason}"),
        acts => format!("{acts:>8}  {policy} {place}  {workload}  not judged: {reason}"),
    }
}

fn postures(held: &Held) -> String {
    let of = |family: &str, of: Of| {
        let posture = if of.posture == Posture::Block { "block" } else { "audit" };
        let by = match of.by {
            Said::Given => "given",
            Said::Recorded => "as recorded",
            Said::Default => "as nothing else is said",
        };
        format!("{family} {posture} ({by})")
    };
    let all = [of("file", held.file), of("network", held.network), of("capabilities", held.capabilities)];
    format!("default postures: {}", all.join(", "))
}

fn text(report: &Report) -> String {
    let mut rows = Vec::new();
    for row in &report.denied {
        let process = if row.process.is_empty() { "an unknown process" } else { &row.process };
        rows.push(format!("{:>8}  {} {}  {}  by {process}", row.count, row.policy, row.place, row.workload));
        for example in &row.examples {
            rows.push(format!(
                "          {} pid {} {} {}",
                example.time, example.pid, example.operation, example.resource
            ));
        }
    }
    rows.push(format!(
        "{} acts of {} workloads{} in {} records of {} traces: {} would be denied, {} audited, {} permitted",
        report.acts,
        report.workloads.len(),
        if report.more_workloads > 0 { " and more" } else { "" },
        report.records,
        report.traces,
        report.denials(),
        report.audited,
        report.permitted,
    ));
    for row in &report.undecidable {
        rows.push(format!("{:>8}  cannot be decided: {}", row.count, row.missing));
        rows.push(format!("          ({})", row.advice));
    }
    rows.extend(report.unjudged.iter().map(unjudged));
    if report.more_unjudged > 0 {
        rows.push(format!("{:>8}  rules more cannot be judged", report.more_unjudged));
    }
    // Of no trace nothing can be selected.
    for policy in report.unselected.iter().filter(|_| report.traces > 0) {
        rows.push(format!("          {policy} selects no workload of the traces"));
    }
    if report.of_before > 0 {
        rows.push(format!("{:>8}  repeats of acts from before the traces began are not rehearsed", report.of_before));
    }
    if report.missing_records > 0 {
        rows.push(format!(
            "{:>8}  records are missing in the traces: what they told is not rehearsed",
            report.missing_records
        ));
    }
    if report.damages > 0 {
        rows.push(format!(
            "{:>8}  places of the traces are damaged or missing: what stood there is not rehearsed",
            report.damages
        ));
    }
    rows.extend(report.postures.iter().map(postures));
    if report.has_other_postures {
        rows.push("the traces were recorded under other default postures than those that are given".into());
    }
    if report.workloads.is_empty() {
        rows.push("the policies select no workload of the traces: `palisade trace info` names them".into());
    }
    if report.denials() == 0 && !report.is_complete() {
        rows.push("not complete: nothing would be denied of what could be judged, and not all of it could".into());
    }
    render::rows(&rows)
}
