//! What 10,000 policies for one workload cost: `cargo run --release -p palisade-policy-compiler --example crowd_cost`.
//!
//! Milliseconds for reading, for the set, for the workload's rules and for the blob, of several shapes; the blob's bytes, or the refusal;
//! and the peak of the process's memory so far, which only grows from row to row.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::{collections::BTreeMap, time::Instant};

use palisade_domain::{Workload, WorkloadKind};
use palisade_policy::{PolicyFile, PolicySet, ir::Postures};
use palisade_policy_compiler::{compile, state::Bounds};

const POLICIES: usize = 10_000;
const IN_A_FILE: usize = 1_000;

/// A policy's families by its number.
type Shape = fn(usize) -> String;

const SHAPES: [(&str, Shape); 6] = [
    ("one path each", |n| format!("process: {{matchPaths: [{{path: /opt/app-{}/bin/tool-{n}}}]}}", n % 97)),
    ("four rules each", |n| {
        format!(
            "process: {{matchPaths: [{{path: /opt/{n}/a}}, {{execname: tool-{n}}}]}}\n  file: {{matchPaths: [{{path: /etc/{n}.conf, \
             readOnly: true}}], matchDirectories: [{{dir: /var/{n}/, recursive: true}}]}}"
        )
    }),
    ("one source each of a hundred", |n| {
        format!("file: {{matchPaths: [{{path: /etc/{n}.conf, fromSource: [{{path: /bin/s{}}}]}}]}}", n % 100)
    }),
    ("one source each of ten thousand", |n| {
        format!("file: {{matchPaths: [{{path: /etc/{n}.conf, fromSource: [{{path: /bin/s{n}}}]}}]}}")
    }),
    ("one domain each", |n| format!("network: {{matchDNSQueries: [{{domain: host-{n}.example.com}}]}}")),
    ("one hard pattern each", |n| format!("file: {{matchPatterns: [{{pattern: \"/**/a{n}*/**/b{n}*\"}}]}}")),
];

fn main() {
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>11} {:>9}  blob",
        "10,000 policies with", "read ms", "set ms", "rules ms", "compile ms", "peak MiB"
    );
    for (name, shape) in SHAPES {
        measure(name, shape);
    }
}

fn measure(name: &str, shape: Shape) {
    let texts: Vec<String> = (0..POLICIES).step_by(IN_A_FILE).map(|start| text(start, shape)).collect();
    let (files, read) = timed(|| {
        let file = |(number, text): (usize, &String)| PolicyFile::parse(&format!("{number:02}.yaml"), text.as_bytes());
        texts.iter().enumerate().map(file).collect::<Vec<PolicyFile>>()
    });
    let ((set, _), assembled) = timed(|| PolicySet::assemble(&files));
    let workload = workload();
    let (rules, selected) = timed(|| set.rules_for(&workload, &BTreeMap::new(), Postures::default()));
    let bounds = Bounds::default();
    let begun = Instant::now();
    let mut spent = || begun.elapsed() > bounds.build_within;
    let (compiled, compiling) = timed(|| compile(&rules, &bounds.automaton, &mut spent));
    let result = match compiled {
        Ok(policy) => format!("{} KiB, {} rules", policy.blob.content().len() / 1024, policy.rules.len()),
        Err(error) => format!("refused: {error}").chars().take(160).collect(),
    };
    println!(
        "{name:<34} {read:>9.1} {assembled:>9.1} {selected:>9.1} {compiling:>11.1} {:>9}  {result}",
        peak_mebibytes()
    );
}

fn text(start: usize, shape: Shape) -> String {
    let document = |number: usize| {
        format!(
            "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p{number}}}\nspec:\n  selector: \
             {{matchLabels: {{app: web}}}}\n  {}\n",
            shape(number)
        )
    };
    (start..start + IN_A_FILE).map(document).collect()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed().as_secs_f64() * 1e3)
}

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "pod".into(),
        namespace: "default".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
    }
}

/// `VmHWM` of this process.
fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
