//! `palisade-bench [SUBJECT...]`: measures the subjects (all of them where none is named) and prints one table.
//!
//! Each row stands beside a baseline that was measured in the same run, for only the ratio travels between machines. The budgets
//! are the project's own; one that is exceeded is marked and does not fail the run: time on a shared machine is no assertion.
//! Build it with `--release`.
#![forbid(unsafe_code)]

mod mailbox;
mod rules;
mod stopwatch;
mod table;
mod walker;

use std::process::ExitCode;

use table::Table;

/// What can be measured: a name for the command line, and how.
type Subject = (&'static str, fn(&mut Table) -> Result<(), Box<dyn std::error::Error>>);

const SUBJECTS: [Subject; 2] = [("walker", walker::measure), ("mailbox", mailbox::measure)];

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !SUBJECTS.iter().any(|(subject, _)| subject == name)) {
        let known: Vec<&str> = SUBJECTS.iter().map(|(name, _)| *name).collect();
        eprintln!("no subject '{unknown}'; there are: {}", known.join(" "));
        return ExitCode::from(2);
    }
    let mut table = Table::default();
    let mut status = ExitCode::SUCCESS;
    for (name, measure) in
        SUBJECTS.iter().filter(|(name, _)| named.is_empty() || named.iter().any(|wanted| wanted == name))
    {
        eprintln!("measuring {name}");
        if let Err(error) = measure(&mut table) {
            eprintln!("{name}: {error}");
            status = ExitCode::FAILURE;
        }
    }
    print!("{table}");
    status
}
