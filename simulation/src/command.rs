//! `palisade simulate`.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use crate::{
    campaign::{Failure, shortest_prefix, twice},
    faults::Faults,
    injector::points,
    journal::say,
    random::Random,
    run::Request,
};

/// Run simulated nodes through faults, and hold what comes out against what truly happened.
#[derive(Debug, Clone, Args)]
pub struct SimulateArguments {
    /// Of all chance: the same seed is the same run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub nodes: u16,
    /// Virtual minutes of workload.
    #[arg(long, default_value_t = 0.5, value_parser = minutes)]
    pub minutes: f64,
    /// What may go wrong: all, none, or some of crash, power, disk, kernel, loss, runtime, clock, panics, stalls, order by commas.
    #[arg(long, default_value = "all")]
    pub faults: Faults,
    /// Run so many seeds in place of one, drawn from the given one.
    #[arg(long, value_name = "COUNT")]
    pub random: Option<u32>,
    /// End workload and faults at this virtual time, milliseconds: a prefix of the run.
    #[arg(long, value_name = "MILLISECONDS")]
    pub stop_at_ms: Option<u64>,
    /// Print every event.
    #[arg(long)]
    pub aloud: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 24.0 * 60.0 => Ok(minutes),
        _ => Err("a number of minutes up to a day".to_owned()),
    }
}

/// Runs it, and prints what came of it. Exit status 1 where a seed fails.
#[must_use]
pub fn run(arguments: &SimulateArguments) -> ExitCode {
    if !points::PRESENT {
        say("marked points of actors are not in this build: actors panic in calls of ports only");
    }
    let mut random = Random::stream(arguments.seed, "seeds");
    let seeds: Vec<u64> = match arguments.random {
        None => vec![arguments.seed],
        Some(count) => (0..count).map(|_| random.below(1 << 32)).collect(),
    };
    let failed = seeds.iter().filter(|seed| !passes(arguments, **seed)).count();
    if seeds.len() > 1 {
        say(&format!("{} seeds, {failed} failed", seeds.len()));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(arguments: &SimulateArguments, seed: u64) -> bool {
    let request = Request {
        seed,
        nodes: usize::from(arguments.nodes),
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        faults: arguments.faults.clone(),
        stop_at: arguments.stop_at_ms.map(Duration::from_millis),
        mutation: None,
        aloud: arguments.aloud,
    };
    let verdict = twice(&request);
    let journal = &verdict.outcome.journal;
    let counts: Vec<String> = journal.counts().iter().map(|(word, count)| format!("{word} {count}")).collect();
    let idle = if verdict.outcome.is_idle() { "; it tested nothing" } else { "" };
    say(&format!(
        "seed {seed}: hash {}, {} events in {:.1} virtual seconds{idle}",
        journal.hash(),
        journal.events(),
        verdict.outcome.lasted.as_secs_f64()
    ));
    if arguments.random.is_none() {
        say(&format!("  {}", counts.join(", ")));
    }
    let Some(failure) = verdict.failure else { return true };
    let mut stop_at = arguments.stop_at_ms;
    match &failure {
        Failure::NotRepeated { hashes: [first, second] } => {
            say(&format!("FAILED: two runs of it differ: {first} and {second}"));
        }
        Failure::Violated(violation) => {
            if !arguments.aloud {
                journal.lines().for_each(say);
            }
            verdict.outcome.violations.iter().for_each(|violation| say(&format!("FAILED: {violation}")));
            let prefix = shortest_prefix(&request, violation);
            stop_at = u64::try_from(prefix.as_millis()).ok();
            say(&format!("the shortest prefix that fails ends at {} ms", prefix.as_millis()));
        }
    }
    say(&format!("again by: {}", command(arguments, seed, stop_at)));
    false
}

/// What to type to see the same.
fn command(arguments: &SimulateArguments, seed: u64, stop_at_ms: Option<u64>) -> String {
    let SimulateArguments { nodes, minutes, faults, .. } = arguments;
    let stop_at = stop_at_ms.map_or_else(String::new, |ms| format!(" --stop-at-ms {ms}"));
    let program = if points::PRESENT {
        "cargo run -p palisade-simulation --features fault-points --"
    } else {
        "palisade simulate"
    };
    format!("{program} --seed {seed} --nodes {nodes} --minutes {minutes} --faults {faults}{stop_at}")
}
