//! `cost [--write]`: counts the instructions of acts in the guest and holds them to `tests/bench/budget.txt` ([`palisade_bench::costs`]).
//! With `--write` the file is made anew for the guest's kernel.
//!
//! Where a row fails, the guest is booted once more, and each row is the lesser of its two: what one boot draws (seeds of hash tables, places in
//! slabs) adds a hundred instructions to a row of executions now and then, and a program that costs more costs more in both.
//!
//! Exit status: 0, 1 where a cost rose or could not be counted.
#![forbid(unsafe_code)]

use std::{error::Error, fs, path::Path, process::ExitCode};

use palisade_bench::{
    costs::{Cost, Report, budget, costs, lesser, renewed},
    opens::{counts, guest},
};

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref() == Some("--write")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(write: bool) -> Result<bool, Box<dyn Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.txt");
    let (release, mut costs) = counted()?;
    let kernel: String = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let mut text = fs::read_to_string(&file)?;
    if write {
        text = renewed(&text, &kernel, &costs);
        fs::write(&file, &text)?;
    }
    let budget = budget(&text, &kernel)?;
    if !(Report { costs: &costs, budget: &budget }).is_held() {
        costs = lesser(costs, &counted()?.1);
        println!("counted in two boots: each row is the lesser of its two");
    }
    let report = Report { costs: &costs, budget: &budget };
    println!("instructions that Palisade adds, Linux {release}\n{report}");
    Ok(report.is_held())
}

/// The guest's kernel, and what acts cost there: one boot.
fn counted() -> Result<(String, Vec<Cost>), Box<dyn Error>> {
    let said = guest(&["budget"])?;
    let release = said.lines().find_map(|line| line.trim().strip_prefix("kernel: "));
    Ok((release.ok_or("the guest names no kernel")?.to_owned(), costs(&counts(&said))?))
}
