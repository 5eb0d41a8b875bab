//! `palisade simulate`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Args;

use crate::{
    campaign::{Failure, Verdict, shortest_prefix, twice},
    coverage::STATES,
    event::lock,
    faults::Faults,
    injector::points,
    journal::{is_unsaid, say},
    random::Random,
    run::Request,
    world::mutation::Mutation,
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
    /// Waits of the workload are so many times as long. Unless told: once, and of more than 8 nodes as many times as keep them all
    /// together as busy as 8.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pace: Option<u32>,
    /// What may go wrong: all, none, or some of crash, power, disk, kernel, loss, runtime, clock, panics, stalls, order,
    /// network, partition, certificates by commas. The last three only between several nodes.
    #[arg(long, default_value = "all")]
    pub faults: Faults,
    /// Run so many seeds in place of one, drawn from the given one.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub random: Option<u32>,
    /// Run the seeds of this file in place of one: a line each, of a seed, nodes, minutes and faults.
    #[arg(long, value_name = "FILE", conflicts_with = "random")]
    pub seeds_from: Option<PathBuf>,
    /// Begin no seed after so many seconds of real time.
    #[arg(long, value_name = "SECONDS")]
    pub within: Option<u64>,
    /// Seeds that run at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// End workload and faults at this virtual time, milliseconds: a prefix of the run.
    #[arg(long, value_name = "MILLISECONDS")]
    pub stop_at_ms: Option<u64>,
    /// Print every event.
    #[arg(long)]
    pub aloud: bool,
    /// Fail where the seeds together do not reach every state.
    #[arg(long)]
    pub reach_all: bool,
    /// Break a port on purpose, to see what a failure looks like: one of the checkers' own tests.
    #[arg(long, value_name = "MUTATION", hide = true)]
    pub broken: Option<Mutation>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 24.0 * 60.0 => Ok(minutes),
        _ => Err("a number of minutes up to a day".to_owned()),
    }
}

/// One seed, as it is typed.
#[derive(Debug, Clone, PartialEq)]
struct Typed {
    seed: u64,
    nodes: u16,
    minutes: f64,
    pace: Option<u32>,
    faults: Faults,
    stop_at_ms: Option<u64>,
    broken: Option<Mutation>,
}

impl Typed {
    fn request(&self, aloud: bool) -> Request {
        Request {
            seed: self.seed,
            nodes: usize::from(self.nodes),
            length: Duration::from_secs_f64(self.minutes * 60.0),
            pace: self.pace,
            faults: self.faults.clone(),
            stop_at: self.stop_at_ms.map(Duration::from_millis),
            mutation: self.broken,
            aloud,
        }
    }

    /// What to type to see the same.
    fn command(&self, stop_at_ms: Option<u64>) -> String {
        let Self { seed, nodes, minutes, pace, faults, broken, .. } = self;
        let pace = pace.map_or_else(String::new, |times| format!(" --pace {times}"));
        let stop_at = stop_at_ms.map_or_else(String::new, |ms| format!(" --stop-at-ms {ms}"));
        let broken = broken.map_or_else(String::new, |mutation| format!(" --broken {mutation}"));
        let program = if points::PRESENT {
            "cargo run -p palisade-simulation --features fault-points --"
        } else {
            "palisade simulate"
        };
        format!("{program} --seed {seed} --nodes {nodes} --minutes {minutes}{pace} --faults {faults}{stop_at}{broken}")
    }
}

/// Runs it, and prints what came of it. Exit status 1 where a seed fails, none is run, one alone or more than few of many tested nothing, or standard
/// output cannot be written; 2 where the file of seeds cannot be read or has none.
#[must_use]
pub fn run(arguments: &SimulateArguments) -> ExitCode {
    if !points::PRESENT {
        say("marked points of actors are not in this build: actors panic in calls of ports only");
    }
    let seeds = match seeds(arguments) {
        Ok(seeds) => seeds,
        Err(why) => {
            say(&format!("palisade: {why}"));
            return ExitCode::from(2);
        }
    };
    let tally = run_all(arguments, &seeds);
    if seeds.len() > 1 {
        say(&format!("{} seeds of {}, {} failed, {} tested nothing", tally.run, seeds.len(), tally.failed, tally.idle));
        tally.tell_coverage();
    }
    let unreached = arguments.reach_all && tally.unreached().next().is_some();
    if unreached {
        say("FAILED: states that no seed reached");
    }
    let idle = tally.idle();
    if let Some(why) = &idle {
        say(&format!("FAILED: {why}"));
    }
    let is_good = tally.failed == 0 && !unreached && idle.is_none() && !is_unsaid();
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seeds(arguments: &SimulateArguments) -> Result<Vec<Typed>, String> {
    let SimulateArguments { seed, nodes, minutes, pace, faults, stop_at_ms, broken, .. } = arguments.clone();
    let one = Typed { seed, nodes, minutes, pace, faults, stop_at_ms, broken };
    if let Some(path) = &arguments.seeds_from {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let seeds = read(&text).map_err(|why| format!("{}:{why}", path.display()))?;
        return if seeds.is_empty() { Err(format!("{}: no seed is in it", path.display())) } else { Ok(seeds) };
    }
    let mut random = Random::stream(seed, "seeds");
    Ok(match arguments.random {
        None => vec![one],
        Some(count) => (0..count).map(|_| Typed { seed: random.below(1 << 32), ..one.clone() }).collect(),
    })
}

/// Lines of `SEED NODES MINUTES FAULTS`; what follows a `#` is for people.
fn read(text: &str) -> Result<Vec<Typed>, String> {
    let mut seeds = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = || format!("{}: not SEED NODES MINUTES FAULTS: {line}", number + 1);
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [seed, nodes, length, faults] = fields.as_slice() else { return Err(wrong()) };
        seeds.push(Typed {
            seed: seed.parse().map_err(|_| wrong())?,
            nodes: nodes.parse().map_err(|_| wrong())?,
            minutes: minutes(length).map_err(|_| wrong())?,
            faults: faults.parse().map_err(|unknown| format!("{}: {unknown}", number + 1))?,
            pace: None,
            stop_at_ms: None,
            broken: None,
        });
    }
    Ok(seeds)
}

/// What came of many.
#[derive(Debug, Default)]
struct Tally {
    run: usize,
    failed: usize,
    idle: usize,
    /// How many seeds reached each state.
    reached: BTreeMap<&'static str, usize>,
}

/// At most one of so many seeds may test nothing.
const IDLE_ONE_IN: usize = 200;

impl Tally {
    /// Why what was run proves nothing, if that is so.
    fn idle(&self) -> Option<String> {
        match (self.run, self.idle) {
            (0, _) => Some("no seed was run".to_owned()),
            (1, 1) => Some("the seed tested nothing: give it more --minutes, or a later --stop-at-ms".to_owned()),
            (run, idle) if idle * IDLE_ONE_IN > run => {
                Some(format!("more than one of {IDLE_ONE_IN} seeds tested nothing"))
            }
            _ => None,
        }
    }

    fn unreached(&self) -> impl Iterator<Item = &'static str> {
        STATES.into_iter().filter(|state| !self.reached.contains_key(state))
    }

    fn tell_coverage(&self) {
        let share = |state: &str| self.reached.get(state).map_or(0, |seeds| seeds * 100 / self.run.max(1));
        let shares: Vec<String> = STATES.iter().map(|state| format!("{state} {} %", share(state))).collect();
        say(&format!("  seeds that reached: {}", shares.join(", ")));
        let never: Vec<&str> = self.unreached().collect();
        say(&format!(
            "{} of {} states were reached{}{}",
            self.reached.len(),
            STATES.len(),
            if never.is_empty() { "" } else { "; none reached: " },
            never.join(", ")
        ));
    }
}

/// Runs the seeds, each on a thread of its own: a run shares nothing with another.
fn run_all(arguments: &SimulateArguments, seeds: &[Typed]) -> Tally {
    let (next, elapsed_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
    let tally = Mutex::new(Tally::default());
    let begun = tokio::time::Instant::now();
    let work = || {
        loop {
            elapsed_ms.store(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let late = arguments.within.is_some_and(|within| elapsed_ms.load(Ordering::Relaxed) >= within * 1000);
            let Some(typed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !late) else { return };
            let verdict = twice(&typed.request(arguments.aloud));
            let mut tally = lock(&tally);
            tally.run += 1;
            tally.idle += usize::from(!verdict.outcome.untested(&typed.faults).is_empty());
            for state in verdict.outcome.coverage.reached() {
                *tally.reached.entry(state).or_default() += 1;
            }
            tally.failed += usize::from(verdict.failure.is_some());
            tell(typed, &verdict, arguments, seeds.len() > 1);
        }
    };
    thread::scope(|scope| {
        for _ in 1..arguments.jobs {
            scope.spawn(work);
        }
        work();
    });
    tally.into_inner().unwrap_or_default()
}

fn tell(typed: &Typed, verdict: &Verdict, arguments: &SimulateArguments, one_of_many: bool) {
    let journal = &verdict.outcome.journal;
    let untested = verdict.outcome.untested(&typed.faults);
    let idle = match untested.as_slice() {
        [] => String::new(),
        untested => format!("; it tested nothing, for it lacks: {}", untested.join(", ")),
    };
    say(&format!(
        "seed {}: hash {}, {} events in {:.1} virtual seconds{idle}",
        typed.seed,
        journal.hash(),
        journal.events(),
        verdict.outcome.lasted.as_secs_f64()
    ));
    if !one_of_many {
        let counts: Vec<String> = journal.counts().iter().map(|(word, count)| format!("{word} {count}")).collect();
        say(&format!("  {}", counts.join(", ")));
        let reached: Vec<&str> = verdict.outcome.coverage.reached().iter().copied().collect();
        say(&format!("  {} of {} states were reached: {}", reached.len(), STATES.len(), reached.join(", ")));
    }
    match &verdict.failure {
        None => {}
        Some(Failure::NotRepeated { hashes: [first, second] }) => {
            say(&format!("FAILED: two runs of it differ: {first} and {second}"));
            say(&format!("again by: {}", typed.command(typed.stop_at_ms)));
        }
        Some(Failure::Violated(violation)) => {
            if !arguments.aloud {
                journal.lines().for_each(say);
            }
            verdict.outcome.violations.iter().for_each(|violation| say(&format!("FAILED: {violation}")));
            let prefix = shortest_prefix(&typed.request(false), violation);
            say(&format!("the shortest prefix that fails ends at {} ms", prefix.as_millis()));
            say(&format!("again by: {}", typed.command(u64::try_from(prefix.as_millis()).ok())));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{SimulateArguments, Tally, Typed, read, seeds};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SimulateArguments,
    }

    #[test]
    fn unit_simulate_that_runs_or_tests_nothing_is_no_success() {
        let of = |run, idle| Tally { run, idle, ..Tally::default() }.idle();
        assert!(of(0, 0).is_some_and(|why| why.contains("no seed was run")), "--within is over before the first");
        assert!(of(1, 1).is_some_and(|why| why.contains("--stop-at-ms")));
        assert_eq!((of(1, 0), of(400, 1)), (None, None));
        assert!(of(100, 1).is_some() && of(400, 3).is_some());
        let refused = Line::try_parse_from(["simulate", "--random", "0"]).expect_err("none").to_string();
        assert!(refused.contains("--random"), "{refused}");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seeds");
        std::fs::write(&path, "# none yet\n").expect("written");
        let line = Line::parse_from(["simulate", "--seeds-from", path.to_str().expect("text")]);
        assert!(seeds(&line.arguments).is_err_and(|why| why.contains("no seed is in it")));
    }

    #[test]
    fn unit_simulate_reads_seeds_with_what_they_are_for() {
        let text = "# found in the first week\n7 4 0.5 all\n\n9 1 0.25 crash,power # slots were numbered anew\n";
        let typed = |seed, nodes, minutes, faults: &str| Typed {
            seed,
            nodes,
            minutes,
            faults: faults.parse().expect("names of faults"),
            pace: None,
            stop_at_ms: None,
            broken: None,
        };
        assert_eq!(read(text), Ok(vec![typed(7, 4, 0.5, "all"), typed(9, 1, 0.25, "crash,power")]));
        assert_eq!(read("7 4 all"), Err("1: not SEED NODES MINUTES FAULTS: 7 4 all".to_owned()));
        assert!(read("\n7 4 0.5 rain").is_err_and(|why| why.starts_with("2: there is no fault 'rain'")));
    }

    #[test]
    fn unit_simulate_names_the_command_that_runs_the_same_again() {
        let typed = &read("9 1 0.25 crash,power").expect("a seed")[0];
        let command = typed.command(Some(1200));
        let told = "--seed 9 --nodes 1 --minutes 0.25 --faults crash,power --stop-at-ms 1200";
        assert!(command.ends_with(told), "{command}");
        let command = Typed { pace: Some(3), ..typed.clone() }.command(None);
        assert!(command.ends_with("--minutes 0.25 --pace 3 --faults crash,power"), "{command}");
    }
}
