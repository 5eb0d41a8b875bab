//! The actor: does the acts of its command line one after the other and prints the outcome of each (see `palisade_vm::act`).
//!
//! `--hold` as the first argument keeps it running afterwards, until it is killed: a container that others `exec` into.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Read, Write},
    process::ExitCode,
    thread,
};

use palisade_acts::acting::{self, ACTING};
use palisade_vm::{
    act::{AT_TERMINAL, Act, MARK, WAIT, take_terminal},
    judged::{IN_CONTEXT, JUDGED, UNDER, execute_in_context, execute_under, obey},
};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(MARK) => return succeed(&arguments.get(1).map_or(Ok(()), |marker| fs::write(marker, "ran"))),
        Some(AT_TERMINAL) => return at_terminal(arguments.get(1).map_or("", String::as_str)),
        Some(JUDGED) => return succeed(&obey(arguments.get(1).map_or("-", String::as_str))),
        Some(UNDER) => return executed_as(&arguments, execute_under),
        Some(IN_CONTEXT) => return executed_as(&arguments, execute_in_context),
        Some(ACTING) => return succeed(&acting::run(arguments.get(1..).unwrap_or_default())),
        Some(WAIT) => return succeed(&io::stdin().read(&mut [0]).map(drop)),
        _ => {}
    }
    let hold = arguments.first().is_some_and(|first| first == "--hold");
    if hold {
        arguments.remove(0);
    }
    if let Err(error) = perform(&arguments) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if hold {
        // Parking may end by itself.
        loop {
            thread::park();
        }
    }
    ExitCode::SUCCESS
}

/// Comes back only where the label was refused, and says why.
fn executed_as(arguments: &[String], execute: fn(&str, &[String]) -> io::Error) -> ExitCode {
    let label = arguments.get(1).map_or("", String::as_str);
    eprintln!("{label}: {}", execute(label, arguments.get(2..).unwrap_or_default()));
    ExitCode::FAILURE
}

/// Prints the outcome alone.
fn at_terminal(act: &str) -> ExitCode {
    let (Ok(act), Ok(terminal)) = (act.parse::<Act>(), take_terminal()) else { return ExitCode::FAILURE };
    println!("{}", act.perform());
    drop(terminal);
    ExitCode::SUCCESS
}

fn succeed(result: &io::Result<()>) -> ExitCode {
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn perform(acts: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout();
    for act in acts {
        let act: Act = act.parse()?;
        writeln!(out, "{act} {}", act.perform())?;
        out.flush()?;
    }
    Ok(())
}
