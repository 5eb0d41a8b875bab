//! What one changed policy costs before the kernel gets it: `cargo run --release -p palisade-policy-compiler --example change_cost`.
//!
//! 1,000 policies of five rules and 110 workloads in two shapes: *spread*, where each policy selects one of 110 kinds of workload, and
//! *hard*, where all workloads are equal and every policy selects all of them. Documents stand in one file or each in its own. Times are
//! the least of some rounds, in milliseconds.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, Instant},
};

use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::{PolicyFile, PolicySet, ir::Postures};
use palisade_policy_compiler::state::{Bounds, State};
use palisade_protocol::CompilePolicy;
use palisade_world::BootNanos;

const POLICIES: usize = 1000;
const WORKLOADS: usize = 110;
const ROUNDS: usize = 7;

fn main() {
    let mut out = std::io::stdout().lock();
    writeln!(out, "shape             read  select  compile   total").expect("stdout");
    for (name, kinds, files) in [
        ("spread, one file", WORKLOADS, false),
        ("spread, files", WORKLOADS, true),
        ("hard, one file", 1, false),
        ("hard, files", 1, true),
    ] {
        let mut least = [Duration::MAX; 4];
        for _ in 0..ROUNDS {
            let times = change(kinds, files);
            let total = times.iter().sum();
            for (least, time) in least.iter_mut().zip(times.into_iter().chain([total])) {
                *least = time.min(*least);
            }
        }
        let [read, select, compile, total] = least.map(|time| time.as_secs_f64() * 1e3);
        writeln!(out, "{name:16} {read:5.1} {select:7.1} {compile:8.1} {total:7.1}").expect("stdout");
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Reading, selecting and compiling for all workloads, after the first policy has changed.
fn change(kinds: usize, files: bool) -> [Duration; 3] {
    let workloads: Vec<Workload> = (0..WORKLOADS).map(|number| workload(number, number % kinds)).collect();
    let mut compiler = State::new(Bounds::default());
    let mut read: BTreeMap<String, (Vec<u8>, PolicyFile)> = BTreeMap::new();
    let mut held = Vec::new();
    let mut times = [Duration::ZERO; 3];
    for last in ["first", "changed"] {
        let documents: Vec<String> =
            (0..POLICIES).map(|number| document(number, number % kinds, if number == 0 { last } else { "" })).collect();
        let files: Vec<(String, String)> = match files {
            true => documents.into_iter().enumerate().map(|(number, text)| (format!("{number}.yaml"), text)).collect(),
            false => vec![("all.yaml".to_owned(), documents.concat())],
        };
        let started = now();
        for (name, text) in files {
            let before = read.get(&name);
            if before.is_none_or(|(bytes, _)| bytes != text.as_bytes()) {
                let parsed = PolicyFile::parse(&name, text.as_bytes());
                assert!(parsed.is_sound(), "{:?}", parsed.diagnostics);
                read.insert(name, (text.into_bytes(), parsed));
            }
        }
        let (set, _) = PolicySet::assemble(read.values().map(|(_, file)| file));
        let reading = started.elapsed();
        let (mut selecting, mut compiling) = (Duration::ZERO, Duration::ZERO);
        let mut policies = Vec::new();
        for workload in &workloads {
            let started = now();
            let rules = set.rules_for(workload, &BTreeMap::new(), Postures::default());
            let selected = started.elapsed();
            policies
                .push(compiler.step(BootNanos(0), &CompilePolicy { rules }, &mut || false).expect("within the bounds"));
            selecting += selected;
            compiling += started.elapsed() - selected;
        }
        held = policies;
        times = [reading, selecting, compiling];
    }
    drop(held);
    times
}

fn document(number: usize, kind: usize, last: &str) -> String {
    let rules: String =
        (0..5).map(|rule| format!("    - path: /usr/lib/program-{number}/part-{rule}{last}\n")).collect();
    format!(
        "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: policy-{number}, namespace: bench }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: kind-{kind} }} }}\n  file:\n    matchPaths:\n{rules}  action: Block\n"
    )
}

fn workload(number: usize, kind: usize) -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: format!("pod-{number}"),
        namespace: "bench".to_owned(),
        container: "main".to_owned(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([
            ("app".to_owned(), format!("kind-{kind}")),
            ("pod".to_owned(), format!("pod-{number}")),
        ]),
    }
}
