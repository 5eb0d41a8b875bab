//! Many policies for many workloads: from their text to being in force in the kernel, and one change for all of them.
//!
//! The way is a node's: documents, the rules of each workload, the compiler, the kernel adapter; without its actors, whose
//! messages are measured apart. Workloads are empty cgroups of this run's own. Needs root and a kernel with BTF.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_domain::{CgroupId, Generation, Posture, Slot, Workload, WorkloadKind};
use palisade_kernel::{KernelAdapter, KernelConfig};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::state::{Bounds, State};
use palisade_protocol::CompilePolicy;
use palisade_world::{BootNanos, Enforcement, Membership};

use crate::{
    Measured,
    probes::Pins,
    rules::{Random, glob, path_matches},
    stopwatch::time,
    table::{Row, Table, Unit},
};

const SEED: u64 = 0x5eed_0002;
const POLICIES: usize = 1000;
const WORKLOADS: usize = 110;
/// Rules of one policy.
const RULES: usize = 5;
/// Milliseconds until all are in force.
const ALL_BUDGET_MS: f64 = 1000.0;
/// Milliseconds until a change is in force for all.
const CHANGE_BUDGET_MS: f64 = 50.0;
const POSTURES: Postures = Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block };

/// Milliseconds for everything at first, and for one change; and what it takes in kernel memory.
///
/// # Errors
/// Where the kernel or the compiler refuses something.
pub fn measure(table: &mut Table) -> Measured {
    let pins = Pins::create()?;
    let cgroups = Cgroups::create(WORKLOADS)?;
    let config = KernelConfig { pin_root: pins.0.clone(), responder: None, ..KernelConfig::default() };
    let mut node =
        Node { adapter: KernelAdapter::open(config)?, compiler: State::new(Bounds::default()), generation: 0 };
    for (number, path) in cgroups.0.iter().enumerate() {
        node.adapter.admit(&membership(number, path)?)?;
    }
    let documents = documents();
    let all = node.put_in_force(&documents, &workloads(WORKLOADS))?;
    let unequal = node.adapter.memory();
    // The same policies, and every workload of the first kind.
    node.put_in_force(&documents, &workloads(1))?;
    let equal = node.adapter.memory();
    let changed = format!("{documents}{}", document("extra", 0, &["/etc/extra".to_owned()]));
    let change = node.put_in_force(&changed, &workloads(1))?;
    add_times(table, all, change);
    let baseline = Some((format!("{WORKLOADS} unequal ones, {} blobs", unequal.blob_count), kibibytes(unequal.blobs)));
    let what = format!("kernel memory of {WORKLOADS} equal workloads, {} blobs", equal.blob_count);
    table.add(Row { what, value: kibibytes(equal.blobs), unit: Unit::Kibibytes, baseline, budget: None });
    let what = "kernel memory of all other maps".to_owned();
    table.add(Row { what, value: kibibytes(equal.maps), unit: Unit::Kibibytes, baseline: None, budget: None });
    Ok(())
}

fn add_times(table: &mut Table, all: Stages, change: Stages) {
    table.add(Row {
        what: format!("{POLICIES} policies in force for {WORKLOADS} unequal workloads"),
        value: milliseconds(all.total()),
        unit: Unit::Milliseconds,
        baseline: Some(("of it compiling".to_owned(), milliseconds(all.compiling))),
        budget: Some(ALL_BUDGET_MS),
    });
    table.add(Row {
        what: format!("a change of one policy in force for {WORKLOADS} equal workloads"),
        value: milliseconds(change.total()),
        unit: Unit::Milliseconds,
        baseline: Some(("of it reading the documents".to_owned(), milliseconds(change.reading))),
        budget: Some(CHANGE_BUDGET_MS),
    });
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default)]
struct Stages {
    reading: Duration,
    compiling: Duration,
    installing: Duration,
}

impl Stages {
    fn total(self) -> Duration {
        self.reading + self.compiling + self.installing
    }
}

/// What of a node takes part.
struct Node {
    adapter: KernelAdapter,
    compiler: State,
    generation: u32,
}

impl Node {
    /// Documents to policy in force for every workload; slot n is workload n.
    fn put_in_force(&mut self, documents: &str, workloads: &[Workload]) -> Result<Stages, Box<dyn std::error::Error>> {
        let mut stages = Stages::default();
        self.generation += 1;
        let (set, reading) = time(|| PolicySet::parse([("bench.yaml", documents.as_bytes())]));
        let set =
            set.map_err(|diagnostics| diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        stages.reading = reading;
        for number in 0..WORKLOADS {
            let workload = &workloads[number % workloads.len()];
            let compile = || {
                let command = CompilePolicy { rules: set.rules_for(workload, &BTreeMap::new(), POSTURES) };
                self.compiler.step(BootNanos(0), &command, &mut || false)
            };
            let (policy, compiling) = time(compile);
            let policy = policy?;
            let install = || self.adapter.install(slot(number), Generation(self.generation), Some(&policy.blob));
            let (installed, installing) = time(install);
            installed?;
            stages.compiling += compiling;
            stages.installing += installing;
        }
        Ok(stages)
    }
}

/// All policies, spread over as many kinds of workload as there are workloads.
fn documents() -> String {
    let mut random = Random::from_seed(SEED);
    let policy = |number: usize| {
        let paths: Vec<String> = path_matches(RULES, &mut random).iter().map(glob).collect();
        document(&format!("policy-{number}"), number % WORKLOADS, &paths)
    };
    (0..POLICIES).map(policy).collect()
}

fn document(name: &str, kind: usize, patterns: &[String]) -> String {
    let rules: String = patterns.iter().map(|pattern| format!("    - pattern: \"{pattern}\"\n")).collect();
    format!(
        "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: {name}, namespace: bench }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: kind-{kind} }} }}\n  file:\n    matchPatterns:\n{rules}  action: Block\n"
    )
}

/// One workload of each kind.
fn workloads(kinds: usize) -> Vec<Workload> {
    let workload = |kind: usize| Workload {
        kind: WorkloadKind::Container,
        name: format!("kind-{kind}"),
        namespace: "bench".to_owned(),
        container: "main".to_owned(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".to_owned(), format!("kind-{kind}"))]),
    };
    (0..kinds).map(workload).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "there are 110 workloads")]
fn slot(number: usize) -> Slot {
    Slot(number as u32 + 1)
}

fn membership(number: usize, cgroup: &Path) -> io::Result<Membership> {
    Ok(Membership {
        slot: slot(number),
        cgroup: Some(CgroupId(fs::metadata(cgroup)?.ino())),
        // Nothing is attached to it: what is measured is policy in the maps.
        cgroup_path: None,
        pid: 0,
        root: None,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn kibibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// Empty cgroups of this run; removed when dropped.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn create(count: usize) -> io::Result<Self> {
        let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let unified =
            unified.into_iter().find(|path| path.join("cgroup.procs").exists()).ok_or(io::ErrorKind::NotFound)?;
        let root = unified.join(format!("palisade-bench-{}", std::process::id()));
        let mut made = Self(Vec::new());
        fs::create_dir(&root)?;
        for number in 0..count {
            let path = root.join(number.to_string());
            fs::create_dir(&path)?;
            made.0.push(path);
        }
        Ok(made)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let root = self.0.first().and_then(|path| path.parent()).map(Path::to_path_buf);
        for path in self.0.iter().chain(&root) {
            if let Err(error) = fs::remove_dir(path) {
                eprintln!("{} stays: {error}", path.display());
            }
        }
    }
}
