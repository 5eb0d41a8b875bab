//! What 10 to 10,000 rules of each table form cost: `cargo run --release -p palisade-policy-compiler --example form_cost`.
//!
//! A line for each form and size: time, processor time and peak memory of the build, size and class of the blob, and what a decision by path takes, of
//! paths that match a rule (drawn at random, so that large tables are read cold) and of the same few paths over and over (warm). Every
//! size runs in its own process, because memory is the growth of its peak resident set. Instructions are counted by running one size
//! under callgrind: `... form_cost exact 1000 walk` walks 10,000 paths and nothing else after the build.

mod measuring;

use std::{
    io::Write as _,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_kernel_abi::blob::{Blob, Family, Modifiers};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};

use measuring::{Random, peak_kib};

const FORMS: [&str; 6] = ["exact", "names", "directories", "patterns", "sources", "mixed"];
const SIZES: [&str; 4] = ["10", "100", "1000", "10000"];
const PATHS: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    if let [form, count, rest @ ..] = arguments.as_slice() {
        let line = measure(form, count.parse().expect("a number of rules"), !rest.is_empty());
        writeln!(out, "{line}").expect("stdout");
        return;
    }
    writeln!(out, "form         rules  build ms    cpu ms  peak MiB    words class  cold ns  warm ns").expect("stdout");
    for form in FORMS {
        for count in SIZES {
            let itself = std::env::current_exe().expect("this program's path");
            let line = Command::new(itself).args([form, count]).output().expect("this program").stdout;
            out.write_all(&line).expect("stdout");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn measure(form: &str, count: usize, only_walk: bool) -> String {
    let (rules, paths) = rules(form, count);
    let before = peak_kib();
    let (start, cpu_before) = (now(), cpu());
    let policy = match compile(&rules, &AutomatonLimits::default(), &mut || false) {
        Ok(policy) => policy,
        Err(error) => return format!("{form:12} {count:5}  refused after {:.1} ms: {error}", millis(start.elapsed())),
    };
    let (built, on_cpu, peak) = (start.elapsed(), cpu() - cpu_before, peak_kib() - before);
    let blob = &policy.blob;
    if only_walk {
        let decided: usize = paths.iter().filter(|path| is_decided(blob, path)).count();
        return format!("{form:12} {count:5}  {decided} of {} decided by a rule", paths.len());
    }
    assert!(paths.iter().all(|path| is_decided(blob, path)), "every path has its rule");
    let warm: Vec<String> = paths.iter().take(8).cycle().take(PATHS).cloned().collect();
    format!(
        "{form:12} {count:5} {:9.1} {:9.1} {:9.1} {:8} {:5} {:8} {:8}",
        millis(built),
        millis(on_cpu),
        peak as f64 / 1024.0,
        blob.words().len(),
        format!("{:?}", blob.size_class()),
        per_path(blob, &paths).as_nanos(),
        per_path(blob, &warm).as_nanos(),
    )
}

/// What this process ran for: a build's cost on a machine that does other things as well.
fn cpu() -> Duration {
    let statistics = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(statistics.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn is_decided(blob: &Blob, path: &str) -> bool {
    let accept = blob.path_accept(path.as_bytes());
    let source = blob.source_id(b"/usr/bin/tool-5");
    blob.decide(Family::File, accept, source, Modifiers::NONE).rule.is_some()
}

/// The best of some rounds, after one to warm up. The source is known to the kernel by the task, and is not walked for here.
fn per_path(blob: &Blob, paths: &[String]) -> Duration {
    let source = blob.source_id(b"/usr/bin/tool-5");
    let decide = |path: &String| {
        let accept = blob.path_accept(path.as_bytes());
        u64::from(blob.decide(Family::File, accept, source, Modifiers::NONE).rule.is_some())
    };
    let round = || {
        let start = now();
        std::hint::black_box(paths.iter().map(decide).sum::<u64>());
        start.elapsed() / paths.len() as u32
    };
    round();
    (0..20).map(|_| round()).min().unwrap_or_default()
}

const WORDS: [&str; 16] = [
    "usr",
    "lib",
    "share",
    "nginx",
    "conf",
    "cache",
    "python3",
    "site-packages",
    "var",
    "data",
    "worker",
    "logs",
    "tenant",
    "static",
    "internal",
    "assets",
];

/// Five components of about nine bytes, then one of its own.
fn stem(random: &mut Random, number: usize) -> String {
    let components = (0..5).map(|_| format!("/{}-{}", WORDS[random.below(WORDS.len())], random.below(4)));
    format!("{}/entry-{number}", components.collect::<String>())
}

/// Rules of one form that all differ, and paths of which each matches one.
fn rules(form: &str, count: usize) -> (WorkloadRules, Vec<String>) {
    let mut random = Random(7);
    let stems: Vec<String> = (0..count).map(|number| stem(&mut random, number)).collect();
    let of_form = |number: usize, form: &str| match form {
        "names" => PathMatch::Name(format!("name-{number}.so")),
        "directories" => PathMatch::Directory { directory: format!("{}/", stems[number]), recursive: true },
        "patterns" => PathMatch::Pattern(format!("{}/*.conf", stems[number])),
        _ => PathMatch::Exact(format!("{}/file", stems[number])),
    };
    let form_of = |number: usize| match form {
        "mixed" => ["exact", "names", "directories", "patterns"][number % 4],
        form => form,
    };
    let rule = |number: usize| {
        let sources = (form == "sources").then(|| format!("/usr/bin/tool-{}", number % 10));
        let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "bench".into(), name: "bench".into() };
        Arc::new(Rule {
            policy: Arc::new(policy),
            place: format!("file[{number}]"),
            matcher: Matcher::File(PathRule::of(of_form(number, form_of(number)))),
            sources: sources.into_iter().collect(),
            source_directories: Default::default(),
            action: Action::Block,
            severity: None,
            tags: Vec::new(),
            message: None,
        })
    };
    let mut path = || {
        let mut number = random.below(count);
        if form == "sources" {
            number = number / 10 * 10 + 5;
        }
        match form_of(number) {
            "names" => format!("{}/name-{number}.so", stem(&mut random, 0)),
            "directories" => format!("{}/x/file", stems[number]),
            "patterns" => format!("{}/file.conf", stems[number]),
            _ => format!("{}/file", stems[number]),
        }
    };
    let paths = (0..PATHS).map(|_| path()).collect();
    (WorkloadRules { rules: (0..count).map(rule).collect(), ..WorkloadRules::default() }, paths)
}
