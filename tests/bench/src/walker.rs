//! The Rust walker over a blob against what one would take off the shelf: `globset`, and a dense DFA of `regex-automata`.

use std::{hint::black_box, time::Duration};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use palisade_policy::ir::PathMatch;
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use regex_automata::{
    Anchored, Input, MatchKind,
    dfa::{Automaton, StartKind, dense},
    util::syntax,
};

use crate::{
    Measured,
    rules::{Random, glob, path_matches, paths, workload_rules},
    stopwatch::{nanoseconds_each, now, time},
    table::{Row, Table, Unit},
};

const SEED: u64 = 0x5eed_0001;
const PATHS: usize = 4000;
/// A compiler that takes longer has failed.
const COMPILE_WITHIN: Duration = Duration::from_secs(60);
/// Of regex-automata's builder: beyond it, it gives up instead of eating the machine.
const REGEX_BYTES: usize = 512 << 20;

/// Nanoseconds for one path of seven components, and milliseconds to compile, at 10, 100 and 1,000 rules.
///
/// # Errors
/// Where something of it cannot be built; then nothing of it is in the table.
pub fn measure(table: &mut Table) -> Measured {
    for count in [10, 100, 1000] {
        let mut random = Random::from_seed(SEED);
        let matches = path_matches(count, &mut random);
        let paths = paths(PATHS, &matches, &mut random);
        let started = now();
        let mut budget = || started.elapsed() > COMPILE_WITHIN;
        let (compiled, compiling) =
            time(|| compile(&workload_rules(&matches), &AutomatonLimits::default(), &mut budget));
        let blob = compiled?.blob;
        let walker = nanoseconds_each(PATHS, || {
            for path in &paths {
                black_box(blob.path_accept(path.as_bytes()));
            }
        });
        let (globs, _) = time(|| glob_set(&matches));
        let globs = globs?;
        agree(&paths, |path| blob.path_accept(path.as_bytes()) != Default::default(), |path| globs.is_match(path))?;
        let by_globset = nanoseconds_each(PATHS, || {
            for path in &paths {
                black_box(globs.is_match(path));
            }
        });
        add(table, format!("walk of a path, {count} rules"), Unit::Nanoseconds, walker, ("globset", by_globset));
        measure_regex(table, count, &matches, (&paths, &globs), walker, compiling)?;
    }
    Ok(())
}

fn measure_regex(
    table: &mut Table,
    count: usize,
    matches: &[PathMatch],
    (paths, globs): (&[String], &GlobSet),
    walker: f64,
    compiling: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (built, building) = time(|| regex(matches));
    let dfa = match built {
        Ok(dfa) => dfa,
        Err(error) => {
            eprintln!("regex-automata, {count} rules: {error}");
            return Ok(());
        }
    };
    let is_match = |path: &str| {
        let input = Input::new(path).anchored(Anchored::Yes).earliest(true);
        dfa.try_search_fwd(&input).is_ok_and(|found| found.is_some())
    };
    agree(paths, is_match, |path| globs.is_match(path))?;
    let by_regex = nanoseconds_each(PATHS, || {
        for path in paths {
            black_box(is_match(path));
        }
    });
    add(table, format!("walk of a path, {count} rules"), Unit::Nanoseconds, walker, ("regex-automata", by_regex));
    let baseline = ("regex-automata", milliseconds(building));
    add(table, format!("compiling {count} rules"), Unit::Milliseconds, milliseconds(compiling), baseline);
    Ok(())
}

/// A baseline that answers another question is none.
fn agree(paths: &[String], one: impl Fn(&str) -> bool, other: impl Fn(&str) -> bool) -> Result<(), String> {
    match paths.iter().find(|path| one(path) != other(path)) {
        Some(path) => Err(format!("the matchers disagree on {path}: {} and {}", one(path), other(path))),
        None if paths.iter().any(|path| one(path)) => Ok(()),
        None => Err("no path matches any rule: nothing was measured".to_owned()),
    }
}

fn add(table: &mut Table, what: String, unit: Unit, value: f64, (name, baseline): (&str, f64)) {
    table.add(Row { what, value, unit, baseline: Some((name.to_owned(), baseline)), budget: None });
}

fn glob_set(matches: &[PathMatch]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for path in matches {
        set.add(GlobBuilder::new(&glob(path)).literal_separator(true).build()?);
    }
    set.build()
}

/// One DFA that says whether any pattern matches the whole path.
fn regex(matches: &[PathMatch]) -> Result<dense::DFA<Vec<u32>>, Box<dense::BuildError>> {
    let patterns: Vec<String> = matches.iter().map(|path| format!("{}$", expression(&glob(path)))).collect();
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .match_kind(MatchKind::All)
                .dfa_size_limit(Some(REGEX_BYTES))
                .determinize_size_limit(Some(REGEX_BYTES)),
        )
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build_many(&patterns)
        .map_err(Box::new)
}

/// `*` stays inside a component, `**` crosses.
fn expression(glob: &str) -> String {
    let escaped = glob.replace('.', "\\.").replace('-', "\\-");
    escaped.replace("/**/", "/(.*/)?").replace("**", ".*").replace("/*", "/[^/]*")
}
