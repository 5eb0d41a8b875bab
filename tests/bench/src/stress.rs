//! A container that opens 200,000 files a second, with everything visible: what it costs, and that each record is accounted for. Beside
//! the same load without a runtime. Needs root and a kernel with BTF.
//!
//! `PALISADE_BENCH_SECONDS` says how long each load lasts (5 where it does not). The cost is the CPU time of the reader, with the account
//! of each sequence number, and what the load itself takes longer, which is the programs in its system calls.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{CgroupId, Slot, Visibility};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    observation::Limits,
    probes::Probes,
    records::{KernelRecords, READ_INTERVAL},
};
use palisade_probe::state::State;
use palisade_world::{Enforcement as _, Loss, LossReason, Membership, RecordBatch, RecordSource as _};

use crate::{
    Measured,
    probes::Pins,
    table::{Row, Table, Unit},
};

/// Opens a second.
const RATE: u64 = 200_000;
/// Bytes of each ring: a node's, with few CPUs.
const RING_BYTES: u32 = 4 << 20;
/// CPU time that may be taken, nanoseconds a second: one CPU.
const BUDGET_NS: f64 = 1e9;
const SLOT: Slot = Slot(1);

/// CPU time of the calling process's first thread, nanoseconds.
///
/// # Errors
/// Where the kernel does not tell.
pub fn cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/self/task/".to_owned() + &std::process::id().to_string() + "/schedstat")?;
    Ok(text.split(' ').next().ok_or("no CPU time")?.parse()?)
}

/// One load: (name, files, limits)
const LOADS: [(&str, usize, Limits); 3] = [
    (
        "one file, as a node is set up",
        1,
        Limits { records_per_second: 5_000, burst: 50_000, fold_window: Duration::from_secs(1) },
    ),
    (
        "10,000 files, as a node is set up",
        10_000,
        Limits { records_per_second: 5_000, burst: 50_000, fold_window: Duration::from_secs(1) },
    ),
    ("10,000 files, each open sent", 10_000, Limits::NONE),
];

/// Each load with and without, for some seconds.
///
/// # Errors
/// Where the kernel refuses the probes, or a record is not accounted for.
pub fn measure(table: &mut Table) -> Measured {
    let seconds: u64 = std::env::var("PALISADE_BENCH_SECONDS").map_or(Ok(5), |text| text.parse())?;
    for (name, files, limits) in LOADS {
        let bed = Bed::create()?;
        let (bare_opens, bare_cpu) = finished(bed.load(files, seconds)?)?;
        let seen = observe(&bed, files, limits, seconds)?;
        let a_second = |ns: u64| ns as f64 / seconds as f64;
        let bare = bare_cpu as f64 / bare_opens as f64;
        let programs = (seen.load_cpu as f64 - bare * seen.opens as f64).max(0.0) / seconds as f64;
        eprintln!(
            "{name}: {} opens in {seconds} s beside {bare_opens} without a runtime; {}",
            seen.opens, seen.account
        );
        let mut add = |what: String, value, baseline: Option<(String, f64)>, budget| {
            table.add(Row { what, value, unit: Unit::Nanoseconds, baseline, budget });
        };
        let baseline = Some(("the load alone".to_owned(), a_second(bare_cpu)));
        add(
            format!("CPU a second for 200,000 opens a second, {name}"),
            programs + a_second(seen.reader_cpu),
            baseline,
            Some(BUDGET_NS),
        );
        add(format!("of it the reader, {name}"), a_second(seen.reader_cpu), None, None);
    }
    Ok(())
}

struct Seen {
    opens: u64,
    load_cpu: u64,
    reader_cpu: u64,
    account: String,
}

fn observe(bed: &Bed, files: usize, limits: Limits, seconds: u64) -> Result<Seen, Box<dyn std::error::Error>> {
    let config = KernelConfig { pin_root: bed.pins.0.clone(), responder: None, ..KernelConfig::default() };
    let adapter = KernelAdapter::open(config)?;
    let probes = Arc::new(Probes::attach(&bed.pins.0, limits)?);
    adapter.admit(&bed.membership()?)?;
    adapter.set_visibility(SLOT, Visibility::ALL, 0);
    let mut records = KernelRecords::open(&bed.pins.0, RING_BYTES)?.swept_by(Arc::clone(&probes), limits.fold_window);
    let (mut state, mut batch) = (State::default(), RecordBatch::default());
    let before = cpu_ns()?;
    let mut child = bed.load(files, seconds)?;
    while child.try_wait()?.is_none() {
        drain(&mut records, &mut state, &mut batch)?;
        records.wait(READ_INTERVAL / 4)?;
    }
    let reader_cpu = cpu_ns()? - before;
    let (opens, load_cpu) = finished(child)?;
    // The load has gone, but its last exit may still be on its way.
    std::thread::sleep(Duration::from_millis(100));
    drain(&mut records, &mut state, &mut batch)?;
    let loss = records.loss()?;
    drain(&mut records, &mut state, &mut batch)?;
    let account = account(&mut state, loss)?;
    adapter.release(SLOT)?;
    Ok(Seen { opens, load_cpu, reader_cpu, account })
}

fn drain(records: &mut KernelRecords, state: &mut State, batch: &mut RecordBatch) -> Measured {
    loop {
        let more = records.read(batch)?;
        if let Some(malformed) = state.read(batch) {
            return Err(malformed.into());
        }
        if !more {
            return Ok(());
        }
    }
}

/// The sums in words.
fn account(state: &mut State, loss: Loss) -> Result<String, Box<dyn std::error::Error>> {
    // The sweep's own records came after the counts were read.
    let produced_then: u64 = loss.produced.values().sum();
    let of = |wanted: fn(LossReason) -> bool| -> u64 {
        loss.counts.iter().filter(|((_, reason), _)| wanted(*reason)).map(|(_, count)| count).sum()
    };
    let lost = of(|reason| !reason.is_intended());
    let (suppressed, folded) =
        (of(|reason| reason == LossReason::Suppressed), of(|reason| reason == LossReason::Folded));
    let delivered = state.account().delivered;
    if produced_then != delivered + lost + suppressed + folded {
        let sums = format!("{delivered} delivered, {lost} lost, {suppressed} suppressed, {folded} folded");
        return Err(format!("{produced_then} produced, but {sums}").into());
    }
    state.losses(loss);
    if state.unexplained() != 0 {
        return Err(format!("{} sequence numbers are not explained", state.unexplained()).into());
    }
    Ok(format!(
        "{produced_then} produced = {delivered} delivered + {lost} lost + {suppressed} suppressed + {folded} folded"
    ))
}

/// What a load printed: opens, CPU nanoseconds.
fn finished(child: Child) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.trim().split_once(' ').ok_or("the load failed")?;
    Ok((numbers.0.parse()?, numbers.1.parse()?))
}

/// A cgroup, a folder of files and pins of this run, gone with it.
struct Bed {
    pins: Pins,
    cgroup: PathBuf,
    folder: PathBuf,
}

impl Bed {
    fn create() -> Result<Self, Box<dyn std::error::Error>> {
        let name = format!("palisade-stress-{}", std::process::id());
        let mounts = fs::read_to_string("/proc/mounts")?;
        let unified = mounts.lines().find_map(|line| line.contains(" cgroup2 ").then(|| line.split(' ').nth(1))?);
        let cgroup = Path::new(unified.ok_or("the unified hierarchy is not mounted")?).join(&name);
        let folder = std::env::temp_dir().join(&name);
        let pins = Pins::create()?;
        fs::create_dir(&cgroup)?;
        fs::create_dir(&folder)?;
        Ok(Self { pins, cgroup, folder })
    }

    fn membership(&self) -> std::io::Result<Membership> {
        Ok(Membership {
            slot: SLOT,
            cgroup: Some(CgroupId(fs::metadata(&self.cgroup)?.ino())),
            cgroup_path: self.cgroup.file_name().map(PathBuf::from),
            pid: 0,
            root: None,
        })
    }

    fn load(&self, files: usize, seconds: u64) -> std::io::Result<Child> {
        Command::new(std::env::current_exe()?.with_file_name("open_load"))
            .args([&self.cgroup, &self.folder])
            .args([files.to_string(), RATE.to_string(), seconds.to_string()])
            .stdout(Stdio::piped())
            .spawn()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for removed in [fs::remove_dir(&self.cgroup), fs::remove_dir_all(&self.folder)] {
            if let Err(error) = removed {
                eprintln!("of the stress bed something stays: {error}");
            }
        }
    }
}
