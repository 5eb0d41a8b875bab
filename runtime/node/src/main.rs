//! The binary `palisade`: command line, configuration, wiring, signals.
//!
//! Exit status: 0 when all is well, 1 when what was asked for did not succeed (also where a trace cannot be read), 2 when a configuration,
//! policy or file of seeds cannot be, and of `rehearse` a trace, 3 of `rehearse` where something cannot be judged, 64 on a wrong command line,
//! 70 when a node's thread stalled.
#![forbid(unsafe_code)]

mod admin_client;
mod arguments;
mod command;
mod configuration;
mod log;
mod machine;
mod node;
mod processes;
mod render;
mod yaml;

use std::process::ExitCode;

use arguments::Command;
use clap::error::ErrorKind;
use configuration::command_line::CommandLine;
use palisade_node::clock;

fn main() -> ExitCode {
    let read = CommandLine::read(std::env::args_os().collect());
    let (line, palisade) = match read.and_then(|line| line.palisade().map(|palisade| (line, palisade))) {
        Ok(read) => read,
        Err(error) => {
            // Help and version are answers, not mistakes. What cannot be printed cannot be complained about either.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(64),
            };
        }
    };
    let is_node = matches!(palisade.command, Command::Node(_));
    if !line.file.is_sound() && !matches!(palisade.command, Command::Config(_)) {
        for complaint in line.file.complaints() {
            command::complain(&complaint);
        }
        let path = render::printable(&line.file.path.display().to_string());
        if is_node {
            command::to_stderr(&format!(
                "palisade: the node does not start with this configuration: mend it, and look by `palisade config validate {path}`"
            ));
            return ExitCode::from(2);
        }
        command::to_stderr(&format!("palisade: what is sound of {path} is used: `palisade config validate {path}`"));
    }
    let outcome = match palisade.command {
        Command::Node(arguments) => command::node::run(*arguments, line),
        Command::Probe(arguments) => command::probe::run(&arguments),
        Command::Tree(arguments) => command::tree::run(&arguments),
        Command::Logs(arguments) => command::logs::run(&arguments),
        Command::Nodes(arguments) => command::nodes::run(&arguments),
        Command::Certificate(certificate) => command::certificate::run(&certificate),
        Command::Policy(policy) => command::policy::run(policy),
        Command::Top(arguments) => command::top::run(&arguments),
        Command::Config(config) => command::config::run(&line, &palisade.config, config),
        Command::Completion(arguments) => command::completion::completion(&arguments),
        Command::Man(arguments) => command::completion::man(&arguments),
        Command::Record(arguments) => command::record::run(&arguments),
        Command::Trace(trace) => command::trace::run(trace),
        Command::Replay(arguments) => command::replay::run(&arguments),
        Command::Rehearse(arguments) => command::rehearse::run(&arguments),
        Command::Doctor(arguments) => command::doctor::run(&arguments),
        Command::Unload(arguments) => command::unload::run(&arguments),
        Command::Version(arguments) => command::version::run(&arguments),
        Command::Hook(arguments) => command::hook::run(&arguments),
        Command::Simulate(arguments) => Ok(palisade_simulation::command::run(&arguments)),
        Command::Responder => command::responder::run(),
    };
    outcome.unwrap_or_else(|error| {
        command::complain(&with_next(chain(&error)));
        ExitCode::FAILURE
    })
}

/// Every failure names what to type next; what names nothing of its own names the command that looks for what is wrong.
fn with_next(said: String) -> String {
    if ["palisade ", "--", "sudo"].iter().any(|next| said.contains(next)) {
        said
    } else {
        format!("{said}; `palisade doctor` looks for what is wrong here")
    }
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
        let said = chain(&error.context("start"));
        assert_eq!(said, "start: admin socket /a.sock: in use");
        assert!(with_next(said).ends_with("; `palisade doctor` looks for what is wrong here"));
        assert_eq!(with_next("name another with --pin-root".into()), "name another with --pin-root");
    }
}
