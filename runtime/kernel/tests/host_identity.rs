//! Host ring: whose a task is, and whether it is the container runtime's code or the workload's. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    ptr,
};

use aya::maps::{Array, HashMap as BpfHash, Map, MapData};
use palisade_domain::Action;
use palisade_kernel::{
    cgroup::CgroupPrograms,
    objects::{self, Constant, LoadedObject, PinRoot},
    observation::Limits,
    probes::Probes,
    records::DEFAULT_RING_BYTES,
};
use palisade_kernel_abi::record::{Kind, Phase, Record};
use palisade_policy::ir::{DestinationMatch, DnsMatch, Matcher, PathMatch};
use probe_bed::{ALL_KINDS, Bed, Child, Directory, Records, SLOT, c, calls, namespace, path_of, rule, start};

/// What watches a bed; detached with it.
struct Watch {
    _identity: LoadedObject,
    _probes: Probes,
    records: Records,
}

impl Watch {
    /// (slot, phase) of whoever opened the file.
    fn opener(&mut self, file: &Path) -> (u32, Phase) {
        let all = self.records.all();
        let opens: Vec<&Record<'_>> =
            all.iter().filter(|r| r.kind() == Kind::Open && path_of(r) == file.to_str().unwrap()).collect();
        let [open] = opens.as_slice() else { panic!("{}: {opens:?}", file.display()) };
        (open.header.slot, open.header.phase)
    }
}

/// A bed whose identities are kept, under a policy that has nothing on what these tests do.
fn held(name: &str) -> (Bed, Watch) {
    let mut bed = Bed::new(name);
    let btf = palisade_kernel::KernelTypes::shared().unwrap();
    let pins = PinRoot::create(&bed.pins).unwrap();
    let host = [Constant::Word("pal_host_mnt_ns", namespace("mnt"))];
    let identity =
        objects::load_and_attach("identity", palisade_bpf::IDENTITY, objects::IDENTITY, &btf, &pins, &host).unwrap();
    assert!(identity.refused.is_empty(), "{:?}", identity.refused);
    // Makes the maps that policies go to; nothing of it is attached.
    objects::load("lsm_file", palisade_bpf::LSM_FILE, &btf, &pins, &[]).unwrap();
    let probes = Probes::attach(&bed.pins, Limits::NONE).unwrap();
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    bed.install(1, &probe_bed::blob(vec![rule(Action::Block, Matcher::Ptrace(PathMatch::Exact("/nothing".into())))]));
    (bed, Watch { _identity: identity, _probes: probes, records })
}

/// Another workload's cgroup; nothing is recorded of it.
struct Neighbour(PathBuf);

const NEIGHBOUR: u32 = 2;

impl Neighbour {
    fn of(bed: &Bed) -> Self {
        let path = bed.cgroup.with_extension("neighbour");
        fs::create_dir(&path).unwrap();
        Self::admit(bed, path)
    }

    fn admit(bed: &Bed, path: PathBuf) -> Self {
        let data = MapData::from_pin(bed.pins.join("cgroup_slots")).unwrap();
        let mut slots: BpfHash<MapData, u64, u32> = Map::from_map_data(data).unwrap().try_into().unwrap();
        slots.insert(fs::metadata(&path).unwrap().ino(), NEIGHBOUR, 0).unwrap();
        Self(path)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// A child that this process, from outside, puts into the cgroup before it acts.
fn moved_in(bed: &Bed, act: impl FnOnce() -> i32) -> Child {
    let (mut moved, mover) = std::io::pipe().unwrap();
    let child = start(|| if moved.read_exact(&mut [0]).is_ok() { act() } else { 255 });
    fs::write(bed.cgroup.join("cgroup.procs"), child.pid.to_string()).unwrap();
    { mover }.write_all(b"x").unwrap();
    child
}

fn open(path: &CString) -> i32 {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    i32::from(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) } < 0)
}

/// Executes `cat FILE` by a descriptor.
fn cat(cat: &File, path: &CString) -> i32 {
    let (arguments, environment) = ([c"cat".as_ptr(), path.as_ptr(), ptr::null()], [ptr::null::<libc::c_char>()]);
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        libc::dup2(null, 1);
        let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
        libc::syscall(libc::SYS_execveat, cat.as_raw_fd(), c"".as_ptr(), arguments, environment, libc::AT_EMPTY_PATH);
    }
    254
}

#[test]
fn host_identity_the_runtimes_phase_ends_with_the_first_exec_inside_the_container_of_whatever_file() {
    let (bed, mut watch) = held("phase");
    let directory = Directory::new("phase");
    let [before, outside, inside, child] =
        ["before", "outside", "inside", "child"].map(|name| directory.file(name, "x"));
    let [before_, outside_, inside_, child_] = [&before, &outside, &inside, &child].map(|path| c(path));
    // A file of the host's mounts, as /proc/self/exe is to a runtime's process in the container.
    let program = File::open("/bin/cat").unwrap();
    let runtime = moved_in(&bed, || {
        let opened = open(&before_);
        let again = start(|| cat(&program, &outside_)).code();
        // SAFETY: a system call on numbers.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        let forked = start(|| open(&child_)).code();
        if (opened, again, unshared, forked) == (0, 0, 0, 0) { cat(&program, &inside_) } else { 253 }
    });
    assert_eq!(runtime.code(), 0);
    assert_eq!(watch.opener(&before), (SLOT, Phase::Runtime));
    assert_eq!(
        watch.opener(&outside),
        (SLOT, Phase::Runtime),
        "runc executes itself again before it joins the container"
    );
    assert_eq!(watch.opener(&child), (SLOT, Phase::Runtime));
    assert_eq!(watch.opener(&inside), (SLOT, Phase::Workload), "the host's file runs for the container there");
}

#[test]
fn host_identity_a_child_of_whom_nothing_could_be_kept_is_in_the_runtimes_phase_where_its_parent_is() {
    let (bed, mut watch) = held("unkept");
    let directory = Directory::new("unkept");
    let files = ["runtime", "workload"].map(|name| directory.file(name, "x"));
    let [of_runtime, of_workload] = files.each_ref().map(|file| c(file));
    let tasks = c(&bed.pins.join("tasks"));
    // As Linux 6.1 gives nothing to keep it in while another program, preempted on the CPU, is busy with any task's.
    let bear = |file: &CString| {
        let (mut forgotten, mut parent) = std::io::pipe().unwrap();
        let child = start(|| if forgotten.read_exact(&mut [0]).is_ok() { open(file) } else { 255 });
        let deleted = calls::forget_process(&tasks, child.pid);
        parent.write_all(b"x").unwrap();
        if deleted == 0 { child.code() } else { 252 }
    };
    // In mounts of its own, as the first process of a container is.
    let runtime = moved_in(&bed, || calls::unshare(libc::CLONE_NEWNS) + start(|| bear(&of_runtime)).code());
    assert_eq!(runtime.code(), 0);
    assert_eq!(bed.start(|| bear(&of_workload)).code(), 0);
    assert_eq!(watch.opener(&files[0]), (SLOT, Phase::Runtime));
    assert_eq!(watch.opener(&files[1]), (SLOT, Phase::Workload));
}

#[test]
fn host_identity_the_runtimes_phase_outlives_an_exec_in_the_movers_own_mounts() {
    let (bed, mut watch) = held("nested");
    let directory = Directory::new("nested");
    let file = directory.file("file", "x");
    let (path, program) = (c(&file), File::open("/bin/cat").unwrap());
    // A runtime that does not live in the host's mounts: it and what it starts share others.
    let nested = std::thread::scope(|scope| {
        let runtime = scope.spawn(|| {
            // SAFETY: changes only the calling thread.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) }, 0);
            moved_in(&bed, || cat(&program, &path)).code()
        });
        runtime.join().unwrap()
    });
    assert_eq!(nested, 0);
    assert_eq!(watch.opener(&file), (SLOT, Phase::Runtime));
}

#[test]
fn host_identity_no_thread_leaves_when_its_process_moves_itself() {
    let (bed, mut watch) = held("threads");
    let neighbour = Neighbour::of(&bed);
    let directory = Directory::new("threads");
    let [by_leader, by_thread, by_newborn] = ["leader", "thread", "newborn"].map(|name| directory.file(name, "x"));
    let [leader, thread, newborn] = [&by_leader, &by_thread, &by_newborn].map(|path| c(path));
    let procs = neighbour.0.join("cgroup.procs");
    let leaver = bed.start(|| {
        let (mut left, leaving) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || i32::from(left.read_exact(&mut [0]).is_err()) + open(&thread));
        fs::write(&procs, "0").unwrap();
        { leaving }.write_all(b"x").unwrap();
        let waited = waiting.join().unwrap();
        waited + open(&leader) + std::thread::spawn(move || open(&newborn)).join().unwrap()
    });
    assert_eq!(leaver.code(), 0);
    for file in [by_leader, by_thread, by_newborn] {
        assert_eq!(watch.opener(&file), (SLOT, Phase::Workload), "{}", file.display());
    }
}

#[test]
fn host_identity_an_outside_mover_takes_all_threads_of_a_process() {
    let (bed, mut watch) = held("moved");
    let directory = Directory::new("moved");
    let (by_leader, by_thread) = (directory.file("leader", "x"), directory.file("thread", "x"));
    let (leader, thread) = (c(&by_leader), c(&by_thread));
    let (mut moved, mover) = std::io::pipe().unwrap();
    let child = start(|| {
        let (mut woken, waking) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || i32::from(woken.read_exact(&mut [0]).is_err()) + open(&thread));
        moved.read_exact(&mut [0]).unwrap();
        { waking }.write_all(b"x").unwrap();
        waiting.join().unwrap() + open(&leader)
    });
    fs::write(bed.cgroup.join("cgroup.procs"), child.pid.to_string()).unwrap();
    { mover }.write_all(b"x").unwrap();
    assert_eq!(child.code(), 0);
    assert_eq!(watch.opener(&by_leader), (SLOT, Phase::Runtime));
    assert_eq!(watch.opener(&by_thread), (SLOT, Phase::Runtime), "it was not named, and is of the same process");
}

#[test]
fn host_identity_a_cgroup_that_is_admitted_later_does_not_take_in_who_left_before() {
    let (bed, mut watch) = held("later");
    let directory = Directory::new("later");
    let file = directory.file("file", "x");
    let path = c(&file);
    let place = bed.cgroup.with_extension("neighbour");
    fs::create_dir(&place).unwrap();
    let (mut admitted, admission) = std::io::pipe().unwrap();
    let (mut left, leaving) = std::io::pipe().unwrap();
    let procs = place.join("cgroup.procs");
    let leaver = bed.start(|| {
        fs::write(&procs, "0").unwrap();
        { leaving }.write_all(b"x").unwrap();
        admitted.read_exact(&mut [0]).unwrap();
        open(&path)
    });
    left.read_exact(&mut [0]).unwrap();
    fs::remove_dir(&place).unwrap_err();
    let neighbour = Neighbour::admit(&bed, place);
    { admission }.write_all(b"x").unwrap();
    assert_eq!(leaver.code(), 0);
    assert_eq!(watch.opener(&file), (SLOT, Phase::Workload));
    drop(neighbour);
}

/// connect(2) by a worker of io_uring; 0 or errno.
fn connect_by_worker(socket: i32, address: &libc::sockaddr_in) -> i32 {
    const QUEUES: i64 = 0;
    const COMPLETIONS: i64 = 0x800_0000;
    const ENTRIES: i64 = 0x1000_0000;
    const CONNECT: u64 = 16;
    const BY_WORKER: u64 = 1 << 4;
    const WAIT: u32 = 1;
    let mut parameters = [0_u32; 30];
    // SAFETY: the kernel's own layout of the maps that it gives, each of one page; only this thread uses them.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr());
        assert!(ring >= 0, "{}", std::io::Error::last_os_error());
        let fd = i32::try_from(ring).unwrap();
        let map = |offset| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(ptr::null_mut(), 4096, access, libc::MAP_SHARED, fd, offset);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>()
        };
        let (queue, completions, entries) = (map(QUEUES), map(COMPLETIONS), map(ENTRIES));
        let [tail, array, done] = [11, 16, 25].map(|at| parameters[at] as usize);
        let entry = entries.cast::<u64>();
        entry.write(CONNECT | BY_WORKER << 8 | u64::from(socket.cast_unsigned()) << 32);
        entry.add(1).write(size_of::<libc::sockaddr_in>() as u64);
        entry.add(2).write(ptr::from_ref(address) as u64);
        queue.add(array).cast::<u32>().write_volatile(0);
        queue.add(tail).cast::<u32>().write_volatile(1);
        assert_eq!(libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, WAIT, ptr::null::<u8>(), 0), 1);
        -completions.add(done + 8).cast::<i32>().read_volatile()
    }
}

#[test]
fn host_identity_a_worker_of_io_uring_is_what_its_process_is_also_where_that_has_left() {
    let (mut bed, _watch) = held("worker");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = DestinationMatch { cidr: None, ports: Some((port, port)), protocol: None };
    bed.install(2, &probe_bed::blob(vec![rule(Action::Block, Matcher::Destination(to))]));
    let programs = CgroupPrograms::load(palisade_bpf::CGROUP, &bed.pins).unwrap();
    programs.renew(u32::MAX).unwrap();
    if !programs.keeps_identity() {
        println!("skipped: cgroup programs have no task storage here");
        return;
    }
    // SAFETY: all zero is a value of it.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    let outside = bed.cgroup.parent().unwrap().join("cgroup.procs");
    // SAFETY: a system call on numbers.
    let socket = || unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    assert_eq!(start(|| connect_by_worker(socket(), &address)).code(), 0, "it works at all");
    assert_eq!(bed.start(|| connect_by_worker(socket(), &address)).code(), libc::EPERM);
    let leaver = bed.start(|| {
        fs::write(&outside, "0").unwrap();
        connect_by_worker(socket(), &address)
    });
    assert_eq!(leaver.code(), libc::EPERM);
}

/// A question for `blocked.example`.
const QUESTION: &[u8] = b"\x124\x01\0\0\x01\0\0\0\0\0\0\x07blocked\x07example\0\0\x01\0\x01";

/// Asks over this socket; 0 or errno.
fn ask(socket: &UdpSocket, server: std::net::SocketAddr) -> i32 {
    socket.send_to(QUESTION, server).err().map_or(0, |error| error.raw_os_error().unwrap_or(254))
}

#[test]
fn host_identity_questions_are_the_workloads_in_child_cgroups_and_once_the_asker_has_left() {
    let (mut bed, _watch) = held("asker");
    let server = UdpSocket::bind("127.53.53.9:53").expect("port 53 is free");
    let to = server.local_addr().unwrap();
    bed.install(
        2,
        &probe_bed::blob(vec![rule(Action::Block, Matcher::Dns(DnsMatch { domain: "blocked.example".into() }))]),
    );
    let programs = CgroupPrograms::load(palisade_bpf::CGROUP, &bed.pins).unwrap();
    programs.renew(u32::MAX).unwrap();
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(bed.start(|| ask(&socket(), to)).code(), libc::EPERM);
    assert_eq!(start(|| ask(&socket(), to)).code(), 0, "nobody else's");
    let (inner, outside) = (bed.cgroup.join("inner"), bed.cgroup.parent().unwrap().join("cgroup.procs"));
    fs::create_dir(&inner).unwrap();
    let in_child_cgroup = || {
        fs::write(inner.join("cgroup.procs"), "0").unwrap();
        ask(&socket(), to)
    };
    assert_eq!(bed.start(in_child_cgroup).code(), libc::EPERM);
    let left_with_socket = || {
        let made_inside = socket();
        fs::write(&outside, "0").unwrap();
        ask(&made_inside, to)
    };
    assert_eq!(bed.start(left_with_socket).code(), libc::EPERM);
    if programs.keeps_identity() {
        let left_without = || {
            fs::write(&outside, "0").unwrap();
            ask(&socket(), to)
        };
        assert_eq!(bed.start(left_without).code(), libc::EPERM);
    }
    let (own, beyond) = (bed.cgroup.join("cgroup.procs"), inner.join("cgroup.procs"));
    let come_back_with_socket = || {
        fs::write(&outside, "0").unwrap();
        let made_outside = socket();
        fs::write(&own, "0").unwrap();
        ask(&made_outside, to)
    };
    assert_eq!(bed.start(come_back_with_socket).code(), libc::EPERM, "a datagram is its sender's");
    let map = |name: &str| Map::from_map_data(MapData::from_pin(bed.pins.join(name)).unwrap()).unwrap();
    let mut registered: BpfHash<MapData, u64, u32> = map("cgroup_slots").try_into().unwrap();
    // One of too many that the workload has made: it is not in the table, which has room.
    registered.remove(&fs::metadata(&inner).unwrap().ino()).unwrap();
    let streams = TcpListener::bind(to).unwrap();
    let child = bed.start(|| {
        fs::write(&beyond, "0").unwrap();
        let mut stream = TcpStream::connect(to).unwrap();
        fs::write(&own, "0").unwrap();
        stream.write_all(&[&[0, QUESTION.len() as u8], QUESTION].concat()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        0
    });
    let (mut accepted, _) = streams.accept().unwrap();
    accepted.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    assert!(
        !matches!(accepted.read(&mut [0; 64]), Ok(1..)),
        "a stream is its maker's, whose cgroup is below the workload's"
    );
    assert_eq!(child.code(), 0);
    // The table was full when the cgroup was made: whoever misses asks above.
    let mut attendance: Array<MapData, [u64; 7]> = map("attendance").try_into().unwrap();
    let mut words = attendance.get(&0, 0).unwrap();
    words[6] = 1;
    attendance.set(0, words, 0).unwrap();
    let passed = socket();
    assert_eq!(bed.start(in_child_cgroup).code(), libc::EPERM);
    assert_eq!(start(|| ask(&passed, to)).code(), 0, "nor are there others above the host's");
    for _ in 0..100 {
        if fs::remove_dir(&inner).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
