//! `palisade-bench [SUBJECT...]`: measures the subjects (all of them where none is named) and prints one table.
//!
//! Exit status: 0, 1 where a subject could not be measured, 2 on an unknown subject. A budget that is exceeded is marked in the
//! table and is no failure: time on a shared machine is no assertion. Build it with `--release`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use palisade_bench::{SUBJECTS, table::Table};

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
