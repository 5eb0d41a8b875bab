//! What compiling and walking cost: `cargo run --release -p palisade-policy-compiler --example compile_cost`.
//!
//! Rules are made from the machine's own file names under `/usr` (most exact paths, some directories, some patterns), with a
//! fixed seed. Memory is the growth of the process's peak resident set, so that every size runs in its own process.

mod measuring;

use std::{
    io::Write as _,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_kernel_abi::blob::{Family, Modifiers, SourceId};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};

use measuring::{Random, peak_kib};

const FILES: usize = 40_000;

fn main() {
    let mut out = std::io::stdout().lock();
    match std::env::args().nth(1).as_deref() {
        Some("refused") => writeln!(out, "{}", refused()).expect("stdout"),
        Some(count) => {
            let line = measure(count.parse().expect("a number of rules"));
            writeln!(out, "{line}").expect("stdout");
        }
        None => {
            writeln!(out, "rules  build ms  states  words  class  walk ns/path  peak MiB").expect("stdout");
            for count in ["10", "100", "300", "1000", "refused"] {
                let itself = std::env::current_exe().expect("this program's path");
                let line = Command::new(itself).arg(count).output().expect("this program").stdout;
                out.write_all(&line).expect("stdout");
            }
            writeln!(out, "{}", fleet()).expect("stdout");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn measure(count: usize) -> String {
    let files = files();
    let mut random = Random(7);
    let rules = rules(&mut random, &files, count);
    let before = peak_kib();
    let limits = AutomatonLimits::default();
    let start = now();
    let policy = compile(&rules, &limits, &mut || false).expect("within the bounds");
    let built = start.elapsed();
    let peak = peak_kib() - before;
    let blob = &policy.blob;
    let states: u32 = blob.head().automaton.iter().map(|automaton| automaton.words / automaton.stride()).sum();
    let paths: Vec<&String> = (0..10_000).map(|_| &files[random.below(files.len())]).collect();
    let walk = per_path(&paths, |path| {
        let accept = blob.path_accept(path.as_bytes());
        u64::from(blob.decide(Family::File, accept, SourceId::NONE, Modifiers::NONE).rule.is_some())
    });
    format!(
        "{count:5} {:9.1} {states:7} {:6} {:?} {:13.0} {:9.1}",
        built.as_secs_f64() * 1e3,
        blob.words().len(),
        blob.size_class(),
        walk.as_nanos(),
        peak as f64 / 1024.0
    )
}

/// The best of some rounds, after one to warm up.
fn per_path(paths: &[&String], mut walk: impl FnMut(&String) -> u64) -> Duration {
    let mut round = || {
        let start = now();
        let sum: u64 = paths.iter().map(|path| walk(path)).sum();
        std::hint::black_box(sum);
        start.elapsed() / paths.len() as u32
    };
    round();
    (0..20).map(|_| round()).min().unwrap_or_default()
}

/// 1,000 policies of 3 rules over 110 workloads, all different.
fn fleet() -> String {
    let files = files();
    let mut random = Random(11);
    let workloads: Vec<WorkloadRules> = (0..110).map(|_| rules(&mut random, &files, 27)).collect();
    let limits = AutomatonLimits::default();
    let start = now();
    let words: usize = workloads
        .iter()
        .map(|rules| compile(rules, &limits, &mut || false).expect("within the bounds").blob.words().len())
        .sum();
    format!(
        "110 different workloads of 27 rules: {:.1} ms, {} KiB of words together",
        start.elapsed().as_secs_f64() * 1e3,
        words / 256
    )
}

/// 200 patterns of which no automaton of bearable size exists.
fn refused() -> String {
    let patterns = (0..200).map(|n| (PathMatch::Pattern(format!("/**/x{n}/**/y{n}")), Action::Audit));
    let rules = WorkloadRules { rules: patterns.map(rule).map(Arc::new).collect(), ..WorkloadRules::default() };
    let before = peak_kib();
    let start = now();
    let error = compile(&rules, &AutomatonLimits::default(), &mut || false).expect_err("beyond every bound");
    let (took, peak) = (start.elapsed(), peak_kib() - before);
    format!("{:.1} ms and {:.1} MiB to refuse: {error}", took.as_secs_f64() * 1e3, peak as f64 / 1024.0)
}

fn files() -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![Path::new("/usr").to_path_buf()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.extend(entry.path().to_str().map(str::to_owned)),
                _ => {}
            }
        }
        if files.len() >= FILES {
            break;
        }
    }
    files
}

fn rules(random: &mut Random, files: &[String], count: usize) -> WorkloadRules {
    let actions = [Action::Allow, Action::Audit, Action::Block];
    let rules = (0..count).map(|_| (path_match(random, files), actions[random.below(3)]));
    WorkloadRules { rules: rules.map(rule).map(Arc::new).collect(), ..WorkloadRules::default() }
}

fn rule((path, action): (PathMatch, Action)) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "bench".into(), name: "bench".into() };
    Rule {
        policy: Arc::new(policy),
        place: "file".into(),
        matcher: Matcher::File(PathRule::of(path)),
        sources: Default::default(),
        source_directories: Default::default(),
        action,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}

/// Seven of ten are exact paths, two directories, one a pattern.
fn path_match(random: &mut Random, files: &[String]) -> PathMatch {
    let file = &files[random.below(files.len())];
    let components: Vec<&str> = file[1..].split('/').collect();
    let last = components.len() - 1;
    match random.below(10) {
        0..7 => PathMatch::Exact(file.clone()),
        7 | 8 => {
            let depth = last.saturating_sub(random.below(2)).max(1);
            PathMatch::Directory {
                directory: format!("/{}/", components[..depth].join("/")),
                recursive: random.below(2) == 0,
            }
        }
        _ => PathMatch::Pattern(pattern(random, &components, last)),
    }
}

fn pattern(random: &mut Random, components: &[&str], last: usize) -> String {
    let extension = components[last].rsplit_once('.').map_or("so", |(_, extension)| extension);
    let mut components: Vec<String> =
        components.iter().map(|component| component.replace(['[', ']', '{', '}', '*', '?', '\\'], "?")).collect();
    match random.below(5) {
        0 if last > 1 => components[1 + random.below(last - 1)] = "*".into(),
        1 => components[last] = format!("*.{extension}"),
        2 if last > 2 => drop(components.splice(2..last, ["**".to_owned()])),
        3 => components[last] = format!("{}*", components[last].chars().take(4).collect::<String>()),
        _ => {
            components.truncate((last / 2).max(2).min(last));
            components.extend(["**".to_owned(), format!("*.{extension}")]);
        }
    }
    format!("/{}", components.join("/"))
}
