//! Many policies for many workloads: from their text to being in force in the kernel, and one change for all of them.
//!
//! The way is a node's: files, of which only those with new content are read, the rules of each workload, the compiler, the kernel
//! adapter; without its actors, whose messages are measured apart. What a workload has in force is held, as its enforcer does. Workloads
//! are empty cgroups of this run's own. Needs root and a kernel with BTF.
//!
//! What many workloads cost stands beside what one costs: the ratio says what is done for each of them and what once.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{CgroupId, Generation, Posture, Slot, Workload};
use palisade_kernel::{KernelAdapter, KernelConfig};
use palisade_policy::{PolicyFile, PolicySet, ir::Postures};
use palisade_policy_compiler::state::{Bounds, State};
use palisade_protocol::{CompilePolicy, CompiledPolicy};
use palisade_world::{BootNanos, Enforcement, KernelMemory, Membership};

use crate::{
    Measured,
    fleet::{Documents, POLICIES, Shape, WORKLOADS, workloads},
    probes::Pins,
    stopwatch::time,
    table::{Row, Table, Unit},
};

/// Changes of which the fastest counts.
const ROUNDS: usize = 5;
/// Milliseconds until all are in force.
const ALL_BUDGET_MS: f64 = 1000.0;
/// Milliseconds until a change is in force for all.
const CHANGE_BUDGET_MS: f64 = 50.0;
const POSTURES: Postures =
    Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, device: Posture::Audit };

/// Milliseconds for everything at first, and for one change; and what it takes in kernel memory. Each shape has a node of its own, for
/// the kernel adapter keeps maps that it needs no more.
///
/// # Errors
/// Where the kernel or the compiler refuses something.
pub fn measure(table: &mut Table) -> Measured {
    let spread = Documents::of(Shape::Spread);
    let unequal = unequal(&spread, table)?;
    equal(&spread, unequal, table)?;
    let maps = hard(&Documents::of(Shape::Hard), unequal, table)?;
    let what = "kernel memory of all other maps".to_owned();
    table.add(Row { what, value: kibibytes(maps), unit: Unit::Kibibytes, baseline: None, budget: None });
    Ok(())
}

/// Each policy for one kind of workload, one workload of each.
fn unequal(documents: &Documents, table: &mut Table) -> Result<KernelMemory, Box<dyn std::error::Error>> {
    let mut node = Node::start()?;
    let workloads = workloads(WORKLOADS, WORKLOADS);
    let all = node.put_in_force(documents.files(0), &workloads)?;
    let memory = node.adapter.memory();
    let what = format!("{POLICIES} policies in force for {WORKLOADS} unequal workloads");
    table.add(times(what, all, ("of it compiling", all.compiling), ALL_BUDGET_MS));
    let change = node.change(|changes| documents.files(changes), &workloads)?;
    let what = format!("a change of one policy in force for {WORKLOADS} unequal workloads");
    table.add(times(what, change, ("all of them at first", all.total()), CHANGE_BUDGET_MS));
    Ok(memory)
}

/// Each policy for one kind of workload, all workloads of the first.
fn equal(documents: &Documents, unequal: KernelMemory, table: &mut Table) -> Measured {
    let mut node = Node::start()?;
    let workloads = workloads(WORKLOADS, 1);
    node.put_in_force(documents.files(0), &workloads)?;
    let memory = node.adapter.memory();
    let alone = node.change(|changes| documents.files(changes), &workloads[..1])?;
    let change = node.change(|changes| documents.files(changes), &workloads)?;
    let what = format!("a change of one policy in force for {WORKLOADS} equal workloads");
    table.add(times(what, change, ("for one", alone.total()), CHANGE_BUDGET_MS));
    table.add(blobs("equal workloads", memory, unequal));
    Ok(())
}

/// Every policy for every workload, which are all equal. Gives back what other maps take.
fn hard(documents: &Documents, unequal: KernelMemory, table: &mut Table) -> Result<u64, Box<dyn std::error::Error>> {
    let mut node = Node::start()?;
    let workloads = workloads(WORKLOADS, 1);
    let all = node.put_in_force(documents.files(0), &workloads)?;
    let memory = node.adapter.memory();
    let what = format!("{POLICIES} policies in force for {WORKLOADS} equal workloads that have all of them");
    table.add(times(what, all, ("of it compiling", all.compiling), ALL_BUDGET_MS));
    let alone = node.change(|changes| documents.files(changes), &workloads[..1])?;
    let change = node.change(|changes| documents.files(changes), &workloads)?;
    table.add(times("a change of one policy there".to_owned(), change, ("for one", alone.total()), CHANGE_BUDGET_MS));
    let in_one = node.change(|changes| documents.one_file(changes), &workloads)?;
    let what = "the same with all policies in one file".to_owned();
    table.add(times(what, in_one, ("of it reading", in_one.reading), CHANGE_BUDGET_MS));
    table.add(blobs("equal workloads that have all policies", memory, unequal));
    Ok(memory.maps)
}

fn times(what: String, stages: Stages, (name, baseline): (&str, Duration), budget: f64) -> Row {
    let (value, baseline) = (milliseconds(stages.total()), milliseconds(baseline));
    let unit = Unit::Milliseconds;
    Row { what, value, unit, baseline: Some((name.to_owned(), baseline)), budget: Some(budget) }
}

fn blobs(of: &str, memory: KernelMemory, unequal: KernelMemory) -> Row {
    let baseline = format!("unequal ones, {} blobs", unequal.blob_count);
    Row {
        what: format!("kernel memory of {WORKLOADS} {of}, {} blobs", memory.blob_count),
        value: kibibytes(memory.blobs),
        unit: Unit::Kibibytes,
        baseline: Some((baseline, kibibytes(unequal.blobs))),
        budget: None,
    }
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
    changes: usize,
    /// By name: content and what was read, as the policy keeper has it.
    files: BTreeMap<String, (String, PolicyFile)>,
    /// By slot, as enforcers have it.
    in_force: BTreeMap<Slot, Arc<CompiledPolicy>>,
    _pins: Pins,
    _cgroups: Cgroups,
}

impl Node {
    /// With an empty cgroup for each workload.
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let (pins, cgroups) = (Pins::create()?, Cgroups::create(WORKLOADS)?);
        let config = KernelConfig { pin_root: pins.0.clone(), responder: None, ..KernelConfig::default() };
        let adapter = KernelAdapter::open(config)?;
        for (number, path) in cgroups.0.iter().enumerate() {
            adapter.admit(&membership(number, path)?)?;
        }
        let (compiler, files, in_force) = (State::new(Bounds::default()), BTreeMap::new(), BTreeMap::new());
        Ok(Self { adapter, compiler, generation: 0, changes: 0, files, in_force, _pins: pins, _cgroups: cgroups })
    }

    /// The fastest of some changes, each to another policy than before.
    fn change(
        &mut self,
        files: impl Fn(usize) -> Vec<(String, String)>,
        workloads: &[Workload],
    ) -> Result<Stages, Box<dyn std::error::Error>> {
        // What is not a change: other files or other workloads than before.
        self.put_in_force(files(self.changes), workloads)?;
        let mut fastest: Option<Stages> = None;
        for _ in 0..ROUNDS {
            self.changes += 1;
            let stages = self.put_in_force(files(self.changes), workloads)?;
            if fastest.is_none_or(|fastest| stages.total() < fastest.total()) {
                fastest = Some(stages);
            }
        }
        Ok(fastest.unwrap_or_default())
    }

    /// Files to policy in force for every workload; slot n is workload n.
    fn put_in_force(
        &mut self,
        files: Vec<(String, String)>,
        workloads: &[Workload],
    ) -> Result<Stages, Box<dyn std::error::Error>> {
        let mut stages = Stages::default();
        self.generation += 1;
        let (set, reading) = time(|| self.read(files));
        let set = set?;
        stages.reading = reading;
        for (number, workload) in workloads.iter().enumerate() {
            let compile = || {
                let command = CompilePolicy { rules: set.rules_for(workload, &BTreeMap::new(), POSTURES) };
                self.compiler.step(BootNanos(0), &command, &mut || false)
            };
            let (policy, compiling) = time(compile);
            let policy = policy?;
            let install = || self.adapter.install(slot(number), Generation(self.generation), Some(&policy.blob));
            let (installed, installing) = time(install);
            installed?;
            self.in_force.insert(slot(number), policy);
            stages.compiling += compiling;
            stages.installing += installing;
        }
        Ok(stages)
    }

    fn read(&mut self, files: Vec<(String, String)>) -> Result<PolicySet, String> {
        let mut before = std::mem::take(&mut self.files);
        for (name, text) in files {
            let known = before.remove(&name).filter(|(known, _)| *known == text).map(|(_, file)| file);
            let file = known.unwrap_or_else(|| PolicyFile::parse(&name, text.as_bytes()));
            self.files.insert(name, (text, file));
        }
        let read = || self.files.values().map(|(_, file)| file);
        let (set, duplicates) = PolicySet::assemble(read());
        let diagnostics = read().flat_map(|file| &file.diagnostics).chain(&duplicates);
        let refused: Vec<String> = diagnostics.map(ToString::to_string).collect();
        if refused.is_empty() { Ok(set) } else { Err(refused.join("\n")) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are 110 workloads")]
pub(crate) fn slot(number: usize) -> Slot {
    Slot(number as u32 + 1)
}

pub(crate) fn membership(number: usize, cgroup: &Path) -> io::Result<Membership> {
    Ok(Membership {
        slot: slot(number),
        cgroup: Some(CgroupId(fs::metadata(cgroup)?.ino())),
        // Below the mount point: the last two names of it.
        cgroup_path: cgroup
            .parent()
            .and_then(Path::parent)
            .and_then(|unified| cgroup.strip_prefix(unified).ok())
            .map(|path| Path::new("/").join(path)),
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
pub(crate) struct Cgroups(pub Vec<PathBuf>);

impl Cgroups {
    pub fn create(count: usize) -> io::Result<Self> {
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
