//! A cgroup of its own, a pin root of its own, and children that act inside: for the probe, cgroup and kill rings.
//!
//! Children are forks of the test that act by bare system calls and end by `_exit`: nothing of the test harness runs in them.
//! Everything a bed makes has its name and goes with it. Root is needed; where it is missing the tests fail.
#![allow(dead_code, reason = "each ring uses a part of the bed")]

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aya::maps::{Array, ArrayOfMaps, HashMap as BpfHash, Map, MapData};
use palisade_domain::{Action, PolicyKind, PolicyRef, Posture};
use palisade_kernel::{
    layout::PolicyNumber,
    records::{KernelRecords, SequenceCheck},
};
use palisade_kernel_abi::{
    blob::{Blob, HEAD_BYTES, SizeClass},
    record::{Body, Family, Record, RecordReader},
};
use palisade_policy::ir::{Matcher, Postures, Rule, WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::{RecordBatch, RecordSource};

pub mod calls;
#[cfg(target_arch = "x86_64")]
pub mod raw;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The slot that every bed's cgroup is admitted to; each bed has its own maps.
pub const SLOT: u32 = 1;
/// All kinds of record.
pub const ALL_KINDS: u64 = !(1 << 23);
/// Bytes of a map value of the smallest class.
const K16: usize = HEAD_BYTES + (4 << 12);
/// Of the next one.
const K128: usize = HEAD_BYTES + (4 << 15);

pub struct Bed {
    pub pins: PathBuf,
    pub cgroup: PathBuf,
    visibility: u64,
    installed: u64,
    policies: u32,
    flags: u32,
}

impl Bed {
    /// Names and the cgroup; maps come with the first object that is loaded below [`Bed::pins`].
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("palisade-test-{name}-{}-{number}", std::process::id());
        let pins = PathBuf::from("/sys/fs/bpf").join(&name);
        let cgroup = unified().join(&name);
        fs::create_dir_all(&pins).expect("root, and a BPF file system at /sys/fs/bpf");
        fs::create_dir_all(&cgroup).expect("root, and the unified cgroup hierarchy");
        Self { pins, cgroup, visibility: 0, installed: 0, policies: 0, flags: 0 }
    }

    pub fn cgroup_id(&self) -> u64 {
        fs::metadata(&self.cgroup).expect("the cgroup is there").ino()
    }

    /// The cgroup's members belong to [`SLOT`] from now on, and these kinds of record are wanted.
    pub fn admit(&mut self, visibility: u64) {
        self.visibility = visibility;
        self.write_slot();
        let mut slots: BpfHash<MapData, u64, u32> = self.map("cgroup_slots").try_into().expect("a hash");
        slots.insert(self.cgroup_id(), SLOT, 0).expect("there is room");
    }

    /// Puts a policy in force: the blob into a fresh inner array, then its number into the slot.
    pub fn install(&mut self, generation: u32, blob: &Blob) {
        match blob.size_class() {
            SizeClass::K16 => self.install_in::<K16>("blobs_16k", blob),
            SizeClass::K128 => self.install_in::<K128>("blobs_128k", blob),
            other => panic!("the bed knows the smaller classes: {other:?}"),
        }
        let number = PolicyNumber::new(blob.size_class(), self.policies, blob.head().families);
        self.policies += 1;
        self.installed = u64::from(generation) << 32 | u64::from(number.0);
        self.write_slot();
    }

    fn install_in<const BYTES: usize>(&self, outer: &str, blob: &Blob) {
        let bytes: Box<[u8; BYTES]> = Box::<[u8]>::from(blob.as_bytes()).try_into().expect("a map value of the class");
        let parameters = aya_obj::Map::new_from_params(2, 4, u32::try_from(BYTES).expect("fits"), 1, 0);
        let data = MapData::create(parameters, "blob", None).expect("an array");
        let mut array: Array<MapData, [u8; BYTES]> = Map::Array(data).try_into().expect("an array");
        array.set(0, *bytes, 0).expect("it takes the blob");
        let mut outer: ArrayOfMaps<MapData, Array<MapData, [u8; BYTES]>> =
            self.map(outer).try_into().expect("an array of maps");
        outer.set(self.policies, &array, 0).expect("there is room");
    }

    /// What cannot be judged is refused from now on.
    pub fn refuse_on_failure(&mut self) {
        self.flags = palisade_kernel::layout::SLOT_FAIL_BLOCK;
        self.write_slot();
    }

    /// An AppArmor profile denies and tells uses of capabilities from now on.
    pub fn bind_by_profile(&mut self) {
        self.flags = palisade_kernel::layout::SLOT_BOUND_BY_PROFILE;
        self.write_slot();
    }

    fn write_slot(&self) {
        let mut value = [0_u8; 32];
        value[..8].copy_from_slice(&self.installed.to_ne_bytes());
        value[8..12].copy_from_slice(&1_u32.to_ne_bytes());
        value[12..16].copy_from_slice(&self.flags.to_ne_bytes());
        value[16..24].copy_from_slice(&self.visibility.to_ne_bytes());
        let mut slots: Array<MapData, [u8; 32]> = self.map("slots").try_into().expect("an array");
        slots.set(SLOT, value, 0).expect("it is a slot");
        // Only the first word is written again: the limits stand.
        let mut observation: Array<MapData, [u64; 6]> = self.map("observation").try_into().expect("an array");
        let mut words = observation.get(&0, 0).expect("one place");
        words[0] = self.visibility;
        observation.set(0, words, 0).expect("one place");
    }

    fn map(&self, name: &str) -> Map {
        let data = MapData::from_pin(self.pins.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Map::from_map_data(data).expect("a known kind")
    }

    pub fn records(&self, ring_bytes: u32) -> Records {
        Records::new(KernelRecords::open(&self.pins, ring_bytes).expect("the rings open"))
    }

    /// Starts a child that joins the cgroup and acts.
    pub fn start(&self, act: impl FnOnce() -> i32) -> Child {
        let procs = OpenOptions::new().write(true).open(self.cgroup.join("cgroup.procs")).expect("the cgroup is there");
        start(|| if (&procs).write_all(b"0").is_ok() { act() } else { 255 })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _gone = remove_tree(&self.pins);
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// bpffs lists pins as files without a type that `remove_dir_all` would know.
fn remove_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { remove_tree(&path)? } else { fs::remove_file(path)? }
    }
    fs::remove_dir(directory)
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup2 is mounted");
    PathBuf::from(line.split(' ').nth(1).expect("a mount point"))
}

/// A forked child of the test.
pub struct Child {
    pub pid: i32,
}

impl Child {
    /// As wait(2) gives it.
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is writable and lives over the call; the number is of a child that nobody else waits for, since
        // `self` is consumed.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid, "{}", io::Error::last_os_error());
        status
    }

    /// Its exit code; panics when it was killed.
    pub fn code(self) -> i32 {
        let status = self.wait();
        assert!(libc::WIFEXITED(status), "killed: status {status:#x}");
        libc::WEXITSTATUS(status)
    }
}

/// Starts a child that acts where the test is.
pub fn start(act: impl FnOnce() -> i32) -> Child {
    // SAFETY: the child has this thread alone. glibc makes its allocator usable in it; locks of std that another thread may hold
    // are not taken, for the children neither print nor use the environment. It leaves by `_exit`, also when it panics, so that
    // neither the harness nor a destructor of the test runs twice.
    match unsafe { libc::fork() } {
        0 => {
            let code = catch_unwind(AssertUnwindSafe(act)).unwrap_or(252);
            // SAFETY: takes a number and does not return; the child shares nothing that would need an end in order.
            unsafe { libc::_exit(code) }
        }
        pid => {
            assert!(pid > 0, "{}", io::Error::last_os_error());
            Child { pid }
        }
    }
}

/// The errno of a call that gave a negative result, 0 otherwise: a child's exit code.
pub fn errno_of(result: impl Into<i64>) -> i32 {
    if result.into() >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(254) }
}

/// The records of a bed, kept as bytes.
pub struct Records {
    pub source: KernelRecords,
    pub check: SequenceCheck,
    batch: RecordBatch,
    kept: Vec<u8>,
}

impl Records {
    fn new(source: KernelRecords) -> Self {
        Self { source, check: SequenceCheck::default(), batch: RecordBatch::default(), kept: Vec::new() }
    }

    /// Moves what is there.
    pub fn drain(&mut self) {
        loop {
            let more = self.source.read(&mut self.batch).expect("the rings can be read");
            for record in RecordReader::new(&self.batch.bytes) {
                self.check.delivered(&record.expect("the kernel writes good records").header);
            }
            self.kept.extend_from_slice(&self.batch.bytes);
            if !more {
                return;
            }
        }
    }

    /// All records so far.
    pub fn all(&mut self) -> Vec<Record<'_>> {
        self.drain();
        RecordReader::new(&self.kept).map(|record| record.expect("checked when it came")).collect()
    }

    /// The sum holds once the programs rest: they do when the children are gone and the cgroup is empty.
    pub fn verify(&mut self) {
        for _ in 0..50 {
            self.drain();
            let loss = self.source.loss().expect("the counters can be read");
            if self.check.verify(&loss).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let loss = self.source.loss().expect("the counters can be read");
        self.check.verify(&loss).expect("produced = delivered + lost");
    }
}

/// What is behind a path of the `Text`.
pub fn path_of(record: &Record<'_>) -> String {
    let text = match &record.body {
        Body::Exec(exec) => exec.path,
        Body::Open(open) => open.path,
        Body::Ptrace(ptrace) => ptrace.target_exe,
        other => panic!("{other:?} has no path"),
    };
    String::from_utf8_lossy(text.bytes).into_owned()
}

/// Compiles rules to a blob; what they leave to the posture is audited.
pub fn blob(rules: Vec<Rule>) -> Arc<Blob> {
    blob_with(rules, Posture::Audit)
}

/// Compiles rules to a blob.
pub fn blob_with(rules: Vec<Rule>, posture: Posture) -> Arc<Blob> {
    let postures = Postures { file: posture, network: posture, capabilities: posture, ..Postures::default() };
    let rules =
        WorkloadRules { rules: rules.into_iter().map(Arc::new).collect(), postures, ..WorkloadRules::default() };
    compile(&rules, &AutomatonLimits::default(), &mut || false).expect("it compiles").blob
}

pub fn rule(action: Action, matcher: Matcher) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "default".into(), name: "bed".into() };
    Rule {
        policy: Arc::new(policy),
        place: "bed".into(),
        matcher,
        sources: Default::default(),
        source_directories: Default::default(),
        action,
        severity: None,
        tags: Vec::new(),
        message: None,
    }
}

/// Decisions of the records, by the tier and outcome that they name.
pub fn decisions(
    records: &[Record<'_>],
) -> HashMap<(Family, palisade_kernel_abi::record::Tier, palisade_kernel_abi::record::Outcome), usize> {
    let mut counts = HashMap::default();
    for decision in records.iter().filter_map(|record| record.decision) {
        *counts.entry((decision.family, decision.tier, decision.outcome)).or_default() += 1;
    }
    counts
}

/// A directory of the test's own, gone with it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("palisade-test-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory takes it");
        Self(path.canonicalize().expect("it is there"))
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("it can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Inode number of a namespace of this process.
pub fn namespace(kind: &str) -> u32 {
    let inode =
        File::open(format!("/proc/self/ns/{kind}")).and_then(|file| file.metadata()).expect("/proc is mounted").ino();
    u32::try_from(inode).expect("namespace numbers are 32 bits")
}

/// A path as system calls take it.
pub fn c(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL in it")
}
