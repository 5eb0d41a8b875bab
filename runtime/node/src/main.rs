//! The binary `palisade`: command line, configuration, wiring, signals.
//!
//! Exit status: 0 when all is well, 1 when what was asked for did not succeed, 2 when a file cannot be read, 64 on a wrong command line,
//! 70 when a node's thread stalled.
#![forbid(unsafe_code)]

mod admin_client;
mod arguments;
mod clock;
mod command;
mod machine;
mod node;
mod processes;
mod render;

use std::process::ExitCode;

use arguments::{Command, Palisade};
use clap::{Parser as _, error::ErrorKind};

fn main() -> ExitCode {
    let palisade = match Palisade::try_parse() {
        Ok(palisade) => palisade,
        Err(error) => {
            // Help and version are answers, not mistakes. What cannot be printed cannot be complained about either.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(64),
            };
        }
    };
    let outcome = match palisade.command {
        Command::Node(arguments) => command::node::run(*arguments),
        Command::Probe(arguments) => command::probe::run(&arguments),
        Command::Tree(arguments) => command::tree::run(&arguments),
        Command::Logs(arguments) => command::logs::run(&arguments),
        Command::Policy(policy) => command::policy::run(policy),
        Command::Doctor(arguments) => command::doctor::run(&arguments),
        Command::Unload(arguments) => command::unload::run(&arguments),
        Command::Version(arguments) => command::version::run(&arguments),
        Command::Hook(arguments) => command::hook::run(&arguments),
        Command::Responder => command::responder::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("palisade: {}", render::printable(&chain(&error)));
        ExitCode::FAILURE
    })
}

/// An error with its causes in one line; what an error's own words say already is not said again.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.contains(&cause) {
        true => said,
        false if said.is_empty() => cause,
        false => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_main_says_each_cause_of_an_error_once() {
        let io = std::io::Error::other("in use");
        let error = anyhow::Error::from(palisade_admin::AdminError::Socket { path: "/a.sock".into(), source: io });
        assert_eq!(chain(&error.context("start")), "start: admin socket /a.sock: in use");
    }
}
