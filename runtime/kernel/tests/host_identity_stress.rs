//! Identity where workloads, or the machine, make it hard: numbers that come again, cgroups within cgroups, more of them than there is room for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kernel_bed;
mod probe_bed;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap as BpfHash, Map, MapData};
use kernel_bed::{Random, cgroups as beds};
use palisade_domain::{Generation, Slot};
use palisade_kernel::{
    fanotify::FailMode,
    objects::{self, Constant, LoadedObject, PinRoot},
    observation::Limits,
    probes::Probes,
    records::DEFAULT_RING_BYTES,
};
use palisade_kernel_abi::record::{Kind, Phase};
use palisade_world::Enforcement as _;
use probe_bed::{ALL_KINDS, Bed, Directory, Records, SLOT, c, namespace, path_of, start};

/// What keeps identities in a bed; detached with it.
struct Watch {
    _identity: LoadedObject,
    _probes: Probes,
    records: Records,
}

fn held(name: &str) -> (Bed, Watch) {
    let mut bed = Bed::new(name);
    let btf = palisade_kernel::KernelTypes::shared().unwrap();
    let pins = PinRoot::create(&bed.pins).unwrap();
    let host = [Constant::Word("pal_host_mnt_ns", namespace("mnt"))];
    let identity =
        objects::load_and_attach("identity", palisade_bpf::IDENTITY, objects::IDENTITY, &btf, &pins, &host).unwrap();
    assert!(identity.refused.is_empty(), "{:?}", identity.refused);
    objects::load("lsm_file", palisade_bpf::LSM_FILE, &btf, &pins, &[]).unwrap();
    let probes = Probes::attach(&bed.pins, Limits::NONE).unwrap();
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    let nothing = palisade_policy::ir::Matcher::Ptrace(palisade_policy::ir::PathMatch::Exact("/nothing".into()));
    bed.install(1, &probe_bed::blob(vec![probe_bed::rule(palisade_domain::Action::Block, nothing)]));
    (bed, Watch { _identity: identity, _probes: probes, records })
}

impl Watch {
    /// (slot, phase) of each opening of the file.
    fn openers(&mut self, file: &Path) -> Vec<(u32, Phase)> {
        let all = self.records.all();
        let opens = all.iter().filter(|r| r.kind() == Kind::Open && path_of(r) == file.to_str().unwrap());
        opens.map(|record| (record.header.slot, record.header.phase)).collect()
    }
}

fn open(path: &std::ffi::CStr) -> i32 {
    // SAFETY: a system call; what its pointer names is owned by this test and outlives it.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    // SAFETY: a system call on a number.
    unsafe { libc::close(fd) };
    i32::from(fd < 0)
}

/// The slots that are registered, by cgroup id.
fn registered(bed: &Bed) -> BpfHash<MapData, u64, u32> {
    let data = MapData::from_pin(bed.pins.join("cgroup_slots")).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn enter(directory: &Path) -> bool {
    fs::write(directory.join("cgroup.procs"), "0").is_ok()
}

#[test]
fn host_identity_of_nested_cgroups_is_their_containers_at_every_depth() {
    let (bed, mut watch) = held("nested-cgroups");
    let files = Directory::new("nested-cgroups");
    let mut below = bed.cgroup.clone();
    let mut made = Vec::new();
    for depth in 0..12 {
        below = below.join(format!("d{depth}"));
        fs::create_dir(&below).unwrap();
        made.push(below.clone());
        let file = files.file(&format!("f{depth}"), "x");
        let (path, place) = (c(&file), below.clone());
        assert_eq!(bed.start(move || if enter(&place) { open(&path) } else { 9 }).code(), 0);
        assert_eq!(watch.openers(&file), [(SLOT, Phase::Workload)], "depth {depth}");
    }
    made.iter().rev().for_each(|place| fs::remove_dir(place).unwrap());
}

#[test]
fn host_identity_stays_through_moves_into_a_child_out_of_the_subtree_and_back() {
    let (bed, mut watch) = held("moves");
    let files = Directory::new("moves");
    let child = bed.cgroup.join("child");
    fs::create_dir(&child).unwrap();
    let outside = bed.cgroup.parent().unwrap().to_path_buf();
    let stations = [&child, &bed.cgroup, &outside, &child, &outside, &bed.cgroup].map(Clone::clone);
    let made: Vec<(PathBuf, PathBuf)> =
        stations.iter().enumerate().map(|(n, to)| (to.clone(), files.file(&format!("f{n}"), "x"))).collect();
    let steps: Vec<_> = made.iter().map(|(to, file)| (to.clone(), c(file))).collect();
    let mover = bed.start(move || steps.iter().map(|(to, path)| if enter(to) { open(path) } else { 9 }).sum());
    assert_eq!(mover.code(), 0);
    for (to, file) in &made {
        assert_eq!(watch.openers(file), [(SLOT, Phase::Workload)], "in {}", to.display());
    }
    fs::remove_dir(&child).unwrap();
}

/// A process of this number, which ends by the exit code of `act`; `None` where the number is taken.
fn start_as(pid: libc::pid_t, act: impl FnOnce() -> i32) -> Option<i32> {
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let arguments = Arguments {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: std::ptr::from_ref(&pid) as u64,
        set_tid_size: 1,
        ..Arguments::default()
    };
    // SAFETY: as fork(2): no stack is given, so that the child runs on a copy of this one; it acts by bare system calls and ends by
    // `_exit`. The arguments live over the call.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    if child == 0 {
        let code = act();
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable and lives over the call.
    (child > 0 && unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid).then(|| libc::WEXITSTATUS(status))
}

#[test]
fn host_identity_is_not_of_a_process_that_had_the_number_before() {
    let (bed, mut watch) = held("pid-reuse");
    let files = Directory::new("pid-reuse");
    let [inside, after, again] = ["inside", "after", "again"].map(|name| files.file(name, "x"));
    let paths = [&inside, &after, &again].map(|file| c(file));
    let cgroup = bed.cgroup.clone();
    for _ in 0..20 {
        let number = bed.start(|| 0);
        let pid = number.pid;
        assert_eq!(number.code(), 0);
        let first = start_as(pid, || if enter(&cgroup) { open(&paths[0]) } else { 9 });
        // The next of this number was never inside, the one after it is.
        let second = start_as(pid, || open(&paths[1]));
        let third = start_as(pid, || if enter(&cgroup) { open(&paths[2]) } else { 9 });
        if (first, second, third) == (Some(0), Some(0), Some(0)) {
            assert_eq!(watch.openers(&inside).last(), Some(&(SLOT, Phase::Workload)));
            assert_eq!(watch.openers(&after), [], "a host's process with a container's number");
            assert_eq!(watch.openers(&again).last(), Some(&(SLOT, Phase::Workload)));
            return;
        }
    }
    panic!("the number was taken by others twenty times");
}

#[test]
fn host_identity_is_not_of_a_cgroup_that_had_the_path_before() {
    let (bed, mut watch) = held("cgroup-reuse");
    let files = Directory::new("cgroup-reuse");
    let place = bed.cgroup.with_extension("again");
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..500 {
        fs::create_dir(&place).unwrap();
        let id = inode(&place);
        ids.insert(id);
        let mut slots = registered(&bed);
        assert!(slots.get(&id, 0).is_err(), "a cgroup that is new is nobody's, whatever number it has");
        slots.insert(id, SLOT, 0).unwrap();
        fs::remove_dir(&place).unwrap();
        assert!(slots.get(&id, 0).is_err(), "what is gone is forgotten at once");
    }
    fs::create_dir(&place).unwrap();
    let file = files.file("file", "x");
    let path = c(&file);
    let host = place.clone();
    assert_eq!(start(move || if enter(&host) { open(&path) } else { 9 }).code(), 0);
    fs::remove_dir(&place).unwrap();
    assert_eq!(watch.openers(&file), []);
    println!("{} of 500 ids were different", ids.len());
}

#[test]
fn host_identity_no_workload_fills_the_table_of_cgroups() {
    const BOUND: usize = 1024;
    let (bed, mut watch) = held("many-cgroups");
    let count = |slot: u32| registered(&bed).iter().filter(|entry| entry.as_ref().unwrap().1 & 0xffff == slot).count();
    let greedy: Vec<PathBuf> = (0..BOUND + 100).map(|n| bed.cgroup.join(format!("g{n}"))).collect();
    greedy.iter().for_each(|place| fs::create_dir(place).unwrap());
    assert_eq!(count(SLOT), BOUND + 1, "its own, and what it may make");
    // Who made it is inside whatever cgroup it goes to.
    let files = Directory::new("many-cgroups");
    let file = files.file("file", "x");
    let (path, unregistered) = (c(&file), greedy[BOUND + 50].clone());
    assert_eq!(bed.start(move || if enter(&unregistered) { open(&path) } else { 9 }).code(), 0);
    assert_eq!(watch.openers(&file), [(SLOT, Phase::Workload)]);
    // Another workload makes its own all the same.
    let other = bed.cgroup.with_extension("other");
    fs::create_dir(&other).unwrap();
    registered(&bed).insert(inode(&other), SLOT + 1, 0).unwrap();
    fs::create_dir(other.join("child")).unwrap();
    assert_eq!(count(SLOT + 1), 2);
    fs::remove_dir(other.join("child")).unwrap();
    fs::remove_dir(&other).unwrap();
    // What is gone makes room again.
    greedy.iter().for_each(|place| fs::remove_dir(place).unwrap());
    assert_eq!(count(SLOT), 1);
    let again: Vec<PathBuf> = (0..10).map(|n| bed.cgroup.join(format!("a{n}"))).collect();
    again.iter().for_each(|place| fs::create_dir(place).unwrap());
    assert_eq!(count(SLOT), 11);
    again.iter().for_each(|place| fs::remove_dir(place).unwrap());
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What is open, by descriptor.
fn descriptors() -> BTreeMap<String, PathBuf> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter_map(|one| Some((one.file_name().into_string().ok()?, fs::read_link(one.path()).ok()?))).collect()
}

/// 300 of them; `PALISADE_CHURN` says how many else (the bench ring: 10,000).
#[test]
fn host_identity_short_containers_leave_nothing_behind() {
    let Some(pins) = kernel_bed::pin_root() else { return };
    let churn: u32 = std::env::var("PALISADE_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let adapter = kernel_bed::adapter(&pins.0, FailMode::Refuse);
    let blob = beds::blob(&mut Random(7));
    let entries = |name: &str| {
        let data = MapData::from_pin(pins.0.join(name)).unwrap();
        match Map::from_map_data(data).unwrap() {
            map @ Map::HashMap(_) if name == "cgroup_slots" => {
                let map: BpfHash<MapData, u64, u32> = map.try_into().unwrap();
                map.keys().count()
            }
            map => {
                let buckets: Array<MapData, [u64; 8]> = map.try_into().unwrap();
                buckets.iter().flat_map(|bucket| bucket.unwrap()).filter(|crossing| *crossing != 0).count()
            }
        }
    };
    let one = |number: u32| {
        let slot = Slot(1 + number % 64);
        let cgroup = beds::Cgroup::new(&format!("churn-{number}"));
        adapter.admit(&cgroup.membership(slot.0)).unwrap();
        adapter.install(slot, Generation(number + 1), Some(&blob)).unwrap();
        let (mut entered, entering) = std::io::pipe().unwrap();
        let place = cgroup.0.clone();
        let (mut told, telling) = std::io::pipe().unwrap();
        let container = start(move || {
            let entered = enter(&place);
            { entering }.write_all(b"x").ok();
            let nested = place.join("nested");
            let made = fs::create_dir(&nested).and_then(|()| fs::remove_dir(&nested)).is_ok();
            i32::from(told.read_exact(&mut [0]).is_err() || !entered || !made)
        });
        entered.read_exact(&mut [0]).unwrap();
        adapter.learn_mounts(slot, container.pid.unsigned_abs()).unwrap();
        { telling }.write_all(b"x").unwrap();
        assert_eq!(container.code(), 0);
        adapter.release(slot).unwrap();
    };
    // The first fill what is filled once.
    (0..100).for_each(one);
    let (memory, files, kernel) = (resident(), descriptors(), adapter.memory());
    (100..100 + churn).for_each(one);
    let (memory_after, files_after, kernel_after) = (resident(), descriptors(), adapter.memory());
    println!(
        "{churn} short containers: resident {} -> {} KiB, descriptors {} -> {}, blobs {} -> {}, maps {} -> {} bytes",
        memory / 1024,
        memory_after / 1024,
        files.len(),
        files_after.len(),
        kernel.blob_count,
        kernel_after.blob_count,
        kernel.maps,
        kernel_after.maps,
    );
    assert_eq!((entries("cgroup_slots"), entries("mounts")), (0, 0), "of no container anything is registered");
    // A handful may be opened once and late; what a container leaves would be there some hundred times.
    let more: Vec<_> = files_after.iter().filter(|(number, _)| !files.contains_key(*number)).collect();
    assert!(more.len() < 8, "{more:?}");
    assert_eq!(kernel_after.blob_count, kernel.blob_count);
    assert!(kernel_after.maps <= kernel.maps + (64 << 10), "{kernel:?} -> {kernel_after:?}");
    assert!(memory_after < memory + (4 << 20), "{memory} -> {memory_after}");
    assert_eq!(fs::read_dir(pins.0.join("cgroup")).unwrap().count(), 0, "no link is left pinned");
}
