//! Host ring: what the probes say of real acts, of children in a cgroup of the test's own. Needs root and Linux 6.1.
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "children act by bare system calls on values that live over the call"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    ptr,
};

use palisade_kernel::{probes::Probes, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::record::{Body, Exec, Kind, Network, NetworkOperation, Phase, Record};
use palisade_world::{LossReason, RecordSource};
use probe_bed::{ALL_KINDS, Bed, Child, Directory, Records, SLOT, c, errno_of, namespace, path_of, start};

/// A bed with the probes attached and every kind of record wanted.
fn observed(name: &str) -> (Bed, Probes, Records) {
    let mut bed = Bed::new(name);
    let probes = Probes::attach(palisade_bpf::PROBES, &bed.pins).expect("the object loads");
    assert!(probes.refused().is_empty(), "{:?}", probes.refused());
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    (bed, probes, records)
}

fn of_kind<'a>(records: &[Record<'a>], kind: Kind, pid: i32) -> Vec<Record<'a>> {
    records.iter().filter(|r| r.kind() == kind && i64::from(r.header.tgid) == i64::from(pid)).copied().collect()
}

fn exec(program: &CString, arguments: &[CString]) -> i32 {
    let mut pointers: Vec<_> = arguments.iter().map(|a| a.as_ptr()).collect();
    pointers.push(ptr::null());
    let environment = [ptr::null()];
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    errno_of(unsafe { libc::execve(program.as_ptr(), pointers.as_ptr(), environment.as_ptr()) })
}

fn words(all: &[&str]) -> Vec<CString> {
    all.iter().map(|word| CString::new(*word).unwrap()).collect()
}

fn real(path: &str) -> String {
    fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

/// The exec that the child did, with its record.
fn only_exec<'a>(records: &[Record<'a>], child: i32) -> (Record<'a>, Exec<'a>) {
    let execs = of_kind(records, Kind::Exec, child);
    let [record] = execs.as_slice() else { panic!("{execs:?}") };
    let Body::Exec(exec) = record.body else { panic!("{record:?}") };
    (*record, exec)
}

/// Gives the child a terminal of its own as controlling terminal; returns its device number.
fn take_terminal() -> u64 {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        libc::grantpt(master);
        libc::unlockpt(master);
        let mut name = [0; 64];
        libc::ptsname_r(master, name.as_mut_ptr(), name.len());
        libc::setsid();
        let terminal = libc::open(name.as_ptr(), libc::O_RDWR);
        libc::ioctl(terminal, libc::TIOCSCTTY, 0);
        let mut status: libc::stat = std::mem::zeroed();
        libc::fstat(terminal, &raw mut status);
        status.st_rdev
    }
}

#[test]
fn host_probe_exec_tells_path_arguments_directory_terminal_and_identity() {
    let (bed, _probes, mut records) = observed("exec");
    let arguments = words(&["renamed", "", "third argument"]);
    let program = CString::new("/bin/true").unwrap();
    let report = Directory::new("exec");
    let terminal_file = c(&report.0.join("terminal"));
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        libc::chdir(c"/usr/lib".as_ptr());
        let terminal = take_terminal().to_ne_bytes();
        let file = libc::open(terminal_file.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600);
        libc::write(file, terminal.as_ptr().cast(), 8);
        libc::setresgid(2345, 2345, 2345);
        libc::setresuid(1234, 0, 0);
        exec(&program, &arguments)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let cgroup = bed.cgroup_id();
    let all = records.all();
    let (record, exec) = only_exec(&all, pid);
    assert_eq!(path_of(&record), real("/bin/true"));
    assert_eq!(exec.arguments().collect::<Vec<_>>(), [b"renamed".as_slice(), b"", b"third argument"]);
    assert_eq!((exec.argument_count, exec.argument_bytes.cut, exec.argument_bytes.user), (3, false, true));
    assert_eq!(String::from_utf8_lossy(exec.cwd.bytes), real("/usr/lib"));
    let terminal = u64::from_ne_bytes(fs::read(report.0.join("terminal")).unwrap().try_into().unwrap());
    assert_eq!(
        (libc::major(u64::from(exec.tty)), libc::minor(u64::from(exec.tty))),
        (libc::major(terminal), libc::minor(terminal))
    );
    assert_ne!(exec.tty, 0);
    let header = record.header;
    assert_eq!((header.slot, header.cgroup_id, header.phase), (SLOT, cgroup, Phase::Workload));
    assert_eq!(i64::from(header.tid), i64::from(pid));
    assert_eq!(header.parent_tgid, std::process::id());
    assert_eq!((header.uid, header.euid, header.fsuid, header.gid), (1234, 0, 0, 2345));
    assert_eq!((header.mnt_ns, header.pid_ns), (namespace("mnt"), namespace("pid")));
    assert_eq!(header.comm_bytes(), b"true");
    assert!(header.boot_ns > header.task_start_ns && header.task_start_ns > header.parent_start_ns);
    assert_eq!(record.decision, None);
    records.verify();
}

#[test]
fn host_probe_fork_exec_and_exit_name_the_same_process() {
    let (bed, _probes, mut records) = observed("fork");
    let program = CString::new("/bin/sh").unwrap();
    let arguments = words(&["sh", "-c", "exit 7"]);
    let child = bed.start(|| {
        let inner = start(|| exec(&program, &arguments));
        let pid = inner.pid;
        let status = inner.wait();
        if libc::WEXITSTATUS(status) == 7 && pid > 0 { 0 } else { 1 }
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let forks = of_kind(&all, Kind::Fork, pid);
    let [fork] = forks.as_slice() else { panic!("{forks:?}") };
    let Body::Fork(made) = fork.body else { panic!("{fork:?}") };
    let inner = i32::try_from(made.child_tgid).unwrap();
    let (record, _) = only_exec(&all, inner);
    assert_eq!(record.header.task_start_ns, made.child_start_ns);
    assert_eq!(
        (record.header.parent_tgid, record.header.parent_start_ns),
        (fork.header.tgid, fork.header.task_start_ns)
    );
    let exits = of_kind(&all, Kind::Exit, inner);
    assert!(matches!(exits.as_slice(), [Record { body: Body::Exit(exit), .. }] if exit.status == 7 << 8), "{exits:?}");
    records.verify();
}

#[test]
fn host_probe_exit_tells_the_signal_and_comes_once_for_a_process_with_threads() {
    let (bed, _probes, mut records) = observed("exit");
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let killed = bed.start(|| unsafe { libc::raise(libc::SIGKILL) });
    let threaded = bed.start(|| {
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(|| ())).collect();
        i32::from(threads.into_iter().any(|thread| thread.join().is_err()))
    });
    let pids = (killed.pid, threaded.pid);
    assert_eq!(killed.wait(), libc::SIGKILL);
    assert_eq!(threaded.code(), 0);
    let all = records.all();
    let of_killed = of_kind(&all, Kind::Exit, pids.0);
    assert!(
        matches!(of_killed.as_slice(), [Record { body: Body::Exit(exit), .. }] if exit.status == libc::SIGKILL),
        "{of_killed:?}"
    );
    assert_eq!(of_kind(&all, Kind::Exit, pids.1).len(), 1);
    assert_eq!(of_kind(&all, Kind::Fork, pids.1).len(), 0, "threads are no processes");
    records.verify();
}

#[test]
fn host_probe_exec_cuts_long_arguments_and_keeps_many_short_ones() {
    let (bed, _probes, mut records) = observed("arguments");
    let program = CString::new("/bin/true").unwrap();
    let many: Vec<CString> = (0..1000).map(|n| CString::new(format!("{n}")).unwrap()).collect();
    let long = words(&["first", &"x".repeat(100_000), "last"]);
    let of_many = bed.start(|| exec(&program, &many));
    let of_long = bed.start(|| exec(&program, &long));
    let pids = (of_many.pid, of_long.pid);
    assert_eq!((of_many.code(), of_long.code()), (0, 0));
    let all = records.all();
    let (_, exec) = only_exec(&all, pids.0);
    assert_eq!((exec.argument_count, exec.argument_bytes.cut), (1000, false));
    let got: Vec<_> = exec.arguments().map(<[u8]>::to_vec).collect();
    assert_eq!(got, many.iter().map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>());
    let (_, exec) = only_exec(&all, pids.1);
    assert_eq!((exec.argument_count, exec.argument_bytes.cut, exec.argument_bytes.bytes.len()), (3, true, 4096));
    assert_eq!(exec.arguments().next(), Some(b"first".as_slice()));
    records.verify();
}

fn open_of<'a>(records: &[Record<'a>], child: i32, end: &str) -> Record<'a> {
    let opens = of_kind(records, Kind::Open, child);
    let found: Vec<_> = opens.iter().filter(|r| path_of(r).ends_with(end)).collect();
    let [record] = found.as_slice() else { panic!("{end}: {opens:?}") };
    **record
}

#[test]
fn host_probe_open_names_the_file_behind_the_descriptor_by_every_call() {
    let (bed, _probes, mut records) = observed("open");
    let directory = Directory::new("open");
    let target = directory.file("target", "x");
    std::os::unix::fs::symlink(&target, directory.0.join("link")).unwrap();
    let (link, made, missing) =
        (c(&directory.0.join("link")), c(&directory.0.join("made")), c(&directory.0.join("missing")));
    let parent = c(&directory.0);
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        libc::open(link.as_ptr(), libc::O_RDONLY);
        libc::creat(made.as_ptr(), 0o600);
        libc::open(missing.as_ptr(), libc::O_RDWR);
        let at = libc::open(parent.as_ptr(), libc::O_PATH);
        let how: [u64; 3] = [libc::O_WRONLY as u64, 0, 0];
        let opened = libc::syscall(libc::SYS_openat2, at, c"made".as_ptr(), how.as_ptr(), 24_usize);
        i32::from(opened < 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let read = open_of(&all, pid, "/target");
    assert_eq!(path_of(&read), target.to_str().unwrap());
    let opens = of_kind(&all, Kind::Open, pid);
    let seen: Vec<_> = opens
        .iter()
        .filter_map(|r| match r.body {
            Body::Open(open) => Some((path_of(r), open.flags, open.result.min(0), open.path.user)),
            _ => None,
        })
        .filter(|seen| seen.0.ends_with("/made") || seen.0.ends_with("/missing"))
        .collect();
    let (made, missing) =
        (directory.0.join("made").display().to_string(), directory.0.join("missing").display().to_string());
    let creat = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
    let expected = [
        (made.clone(), creat, 0, false),
        (missing, libc::O_RDWR.cast_unsigned(), -libc::ENOENT, true),
        (made, libc::O_WRONLY.cast_unsigned(), 0, false),
    ];
    assert_eq!(seen, expected);
    records.verify();
}

/// A name below `directory` of so many components, opened step by step; returns the descriptor of the file at its end.
unsafe fn make_deep(directory: &CString, component: &CString, components: usize) -> i32 {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    unsafe {
        let mut at = libc::open(directory.as_ptr(), libc::O_DIRECTORY);
        for _ in 0..components {
            libc::mkdirat(at, component.as_ptr(), 0o700);
            let next = libc::openat(at, component.as_ptr(), libc::O_PATH | libc::O_DIRECTORY);
            libc::close(at);
            at = next;
        }
        libc::openat(at, c"the-end".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600)
    }
}

#[test]
fn host_probe_open_keeps_deep_paths_whole_and_the_end_of_those_too_long() {
    let (bed, _probes, mut records) = observed("deep");
    let directory = Directory::new("deep");
    let (deep, long) = (directory.0.join("deep"), directory.0.join("long"));
    fs::create_dir(&deep).unwrap();
    fs::create_dir(&long).unwrap();
    let short = CString::new("d").unwrap();
    let wide = CString::new("w".repeat(200)).unwrap();
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe { i32::from(make_deep(&c(&deep), &short, 120) < 0) });
    let too_long = bed.start(|| unsafe { i32::from(make_deep(&c(&long), &wide, 60) < 0) });
    let pids = (child.pid, too_long.pid);
    assert_eq!((child.code(), too_long.code()), (0, 0));
    let all = records.all();
    let whole = open_of(&all, pids.0, "/the-end");
    assert_eq!(path_of(&whole), format!("{}{}/the-end", deep.display(), "/d".repeat(120)));
    let Body::Open(open) = open_of(&all, pids.1, "/the-end").body else { unreachable!("filtered by kind") };
    assert!(open.path.cut);
    assert!(open.path.bytes.len() > 3800 && open.path.bytes.len() <= 4096, "{}", open.path.bytes.len());
    let full = format!("{}{}/the-end", long.display(), format!("/{}", "w".repeat(200)).repeat(60));
    assert!(full.as_bytes().ends_with(open.path.bytes));
    records.verify();
}

#[test]
fn host_probe_open_climbs_through_many_mounts() {
    let (bed, _probes, mut records) = observed("mounts");
    let directory = Directory::new("mounts");
    let mut path = directory.0.clone();
    let mut places = Vec::new();
    for level in 0..20 {
        path.push(format!("m{level}"));
        places.push(c(&path));
    }
    let file = c(&path.join("inside"));
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        libc::unshare(libc::CLONE_NEWNS);
        libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null());
        for place in &places {
            libc::mkdir(place.as_ptr(), 0o700);
            let mounted = libc::mount(c"bed".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, ptr::null());
            if mounted != 0 {
                return errno_of(mounted);
            }
        }
        i32::from(libc::open(file.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) < 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let record = open_of(&all, pid, "/inside");
    assert_eq!(path_of(&record), path.join("inside").to_str().unwrap());
    assert_ne!(record.header.mnt_ns, namespace("mnt"));
    records.verify();
}

#[test]
fn host_probe_exec_of_a_memfd_has_the_name_that_proc_shows() {
    let (bed, _probes, mut records) = observed("memfd");
    let program = fs::read("/bin/true").unwrap();
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        let file = libc::memfd_create(c"unseen".as_ptr(), libc::MFD_CLOEXEC);
        libc::write(file, program.as_ptr().cast(), program.len());
        let arguments = [c"unseen".as_ptr(), ptr::null()];
        errno_of(libc::fexecve(file, arguments.as_ptr().cast(), [ptr::null()].as_ptr()))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    assert_eq!(path_of(&only_exec(&records.all(), pid).0), "/memfd:unseen");
    records.verify();
}

fn networks(records: &[Record<'_>], kind: Kind, child: i32) -> Vec<Network> {
    of_kind(records, kind, child)
        .iter()
        .filter_map(|record| match record.body {
            Body::Socket(network) | Body::Connect(network) => Some(network),
            _ => None,
        })
        .collect()
}

unsafe fn connect_v4(socket: i32, port: u16) -> i32 {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    unsafe { libc::connect(socket, (&raw const address).cast(), 16) }
}

unsafe fn connect_v6(socket: i32, address: Ipv6Addr, port: u16) -> i32 {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    name.sin6_family = libc::AF_INET6 as u16;
    name.sin6_port = port.to_be();
    name.sin6_addr.s6_addr = address.octets();
    unsafe { libc::connect(socket, (&raw const name).cast(), 28) }
}

#[test]
fn host_probe_connect_tells_the_destination_and_what_came_of_it() {
    let (bed, _probes, mut records) = observed("connect");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        let tcp = || libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        connect_v4(tcp(), port);
        connect_v4(tcp(), 1);
        let mapped = libc::socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        connect_v6(mapped, Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port);
        let datagrams = libc::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0);
        connect_v6(datagrams, Ipv6Addr::LOCALHOST, 53);
        libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0);
        libc::socket(libc::AF_INET, 77, 0);
        0
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let (v4, v6) = (Some((IpAddr::V4(Ipv4Addr::LOCALHOST), port)), Some((IpAddr::V6(Ipv6Addr::LOCALHOST), 53)));
    let refused = Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 1));
    let tcp = Network {
        operation: NetworkOperation::Connect,
        domain: 2,
        socket_type: 1,
        protocol: 6,
        destination: v4,
        user: false,
        result: 0,
    };
    let expected = [
        tcp,
        Network { destination: refused, user: true, result: -libc::ECONNREFUSED, ..tcp },
        tcp,
        Network { domain: 10, socket_type: 2, protocol: 17, destination: v6, ..tcp },
    ];
    assert_eq!(networks(&all, Kind::Connect, pid), expected);
    let made: Vec<_> = networks(&all, Kind::Socket, pid)
        .iter()
        .map(|n| (n.domain, n.socket_type, n.protocol, n.result.min(0)))
        .collect();
    let bad = -libc::EINVAL;
    assert_eq!(made, [(2, 1, 6, 0), (2, 1, 6, 0), (10, 1, 6, 0), (10, 2, 17, 0), (1, 5, 0, 0), (2, 13, 0, bad)]);
    records.verify();
}

/// A process that waits to be traced; killed by the test.
fn sleeper() -> Child {
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    start(|| unsafe { libc::pause() })
}

fn kill(child: Child) {
    unsafe { libc::kill(child.pid, libc::SIGKILL) };
    child.wait();
}

#[test]
fn host_probe_ptrace_names_its_target_in_every_pid_namespace() {
    let (bed, _probes, mut records) = observed("ptrace");
    let target = sleeper();
    let target_pid = target.pid;
    let attach = libc::PTRACE_SEIZE;
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let outside = bed.start(|| errno_of(unsafe { libc::ptrace(attach, target_pid, 0, 0) }));
    // In a new namespace numbers start at 1: the other end of the tree of numbers, one level instead of two or three.
    let inside = bed.start(|| unsafe {
        libc::unshare(libc::CLONE_NEWPID);
        let first = start(|| {
            let victims: Vec<Child> = (0..70).map(|_| sleeper()).collect();
            let last = victims[69].pid;
            let result = errno_of(libc::ptrace(attach, last, 0, 0));
            victims.into_iter().for_each(kill);
            if last > 64 { result } else { 253 }
        });
        first.code()
    });
    let pids = (outside.pid, inside.pid);
    assert_eq!((outside.code(), inside.code()), (0, 0));
    kill(target);
    let all = records.all();
    let seen = of_kind(&all, Kind::Ptrace, pids.0);
    let [record] = seen.as_slice() else { panic!("{seen:?}") };
    let Body::Ptrace(ptrace) = record.body else { unreachable!("filtered by kind") };
    assert_eq!((ptrace.request, i64::from(ptrace.target_tgid)), (attach, i64::from(target_pid)));
    assert_eq!(ptrace.target_slot, 0);
    assert_eq!(path_of(record), real("/proc/self/exe"));
    let in_namespace: Vec<_> =
        all.iter().filter(|r| r.kind() == Kind::Ptrace && r.header.pid_ns != namespace("pid")).collect();
    let [record] = in_namespace.as_slice() else { panic!("{in_namespace:?}") };
    let Body::Ptrace(ptrace) = record.body else { unreachable!("filtered by kind") };
    // The youngest by its start: records of several CPUs are in no order.
    let forks = all.iter().filter_map(|r| if let Body::Fork(fork) = r.body { Some(fork) } else { None });
    let last = forks.max_by_key(|fork| fork.child_start_ns).unwrap();
    assert_eq!((ptrace.target_tgid, ptrace.target_start_ns), (last.child_tgid, last.child_start_ns));
    assert_eq!((ptrace.target_slot, path_of(record)), (SLOT, real("/proc/self/exe")));
    records.verify();
}

/// Opens by the 32-bit entry, where 5 is open; the path must lie below 4 GiB.
#[cfg(target_arch = "x86_64")]
unsafe fn open_by_32_bit_entry(path: &CString) -> i32 {
    let result: i32;
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    unsafe {
        let low = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        );
        ptr::copy_nonoverlapping(path.as_ptr(), low.cast(), path.as_bytes_with_nul().len());
        // rbx is the compiler's own: the argument goes in by exchange.
        std::arch::asm!(
            "xchg {path:r}, rbx",
            "int 0x80",
            "xchg {path:r}, rbx",
            path = inout(reg) low => _,
            inlateout("eax") 5 => result,
            in("ecx") libc::O_RDONLY,
            in("edx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_probe_open_by_the_32_bit_entry_is_seen() {
    let (bed, _probes, mut records) = observed("compat");
    let directory = Directory::new("compat");
    let target = directory.file("by-int-80", "x");
    let path = c(&target);
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| match unsafe { open_by_32_bit_entry(&path) } {
        descriptor if descriptor >= 0 => 0,
        error => -error,
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0, "is this kernel without the 32-bit entry?");
    assert_eq!(path_of(&open_of(&records.all(), pid, "/by-int-80")), target.to_str().unwrap());
    records.verify();
}

#[test]
fn host_probe_tasks_of_no_workload_and_unwanted_kinds_write_nothing() {
    let (mut bed, _probes, mut records) = observed("filter");
    assert_eq!(start(|| i32::from(fs::metadata("/etc").is_err())).code(), 0);
    assert!(records.all().is_empty());
    assert_eq!(records.source.loss().unwrap().produced.values().sum::<u64>(), 0);
    bed.admit(1 << Kind::Exit.code());
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    assert_eq!(bed.start(|| unsafe { i32::from(libc::open(c"/etc/passwd".as_ptr(), 0) < 0) }).code(), 0);
    let kinds: Vec<_> = records.all().iter().map(Record::kind).collect();
    assert_eq!(kinds, [Kind::Exit]);
    records.verify();
}

#[test]
fn host_probe_full_rings_lose_nothing_without_a_count() {
    let mut bed = Bed::new("overflow");
    let _probes = Probes::attach(palisade_bpf::PROBES, &bed.pins).expect("the object loads");
    let mut records = bed.records(4096);
    bed.admit(ALL_KINDS);
    let opens = 5000;
    // SAFETY: a system call; what its pointers name is owned by this test and outlives it.
    let child = bed.start(|| unsafe {
        for _ in 0..opens {
            libc::close(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY));
        }
        0
    });
    assert_eq!(child.code(), 0);
    records.verify();
    let loss = records.source.loss().unwrap();
    let lost: u64 = loss.counts.values().sum();
    let delivered = u64::try_from(records.all().len()).unwrap();
    let produced: u64 = loss.produced.values().sum();
    assert!(lost > 4000, "a ring of one page holds about 20 opens: {loss:?}");
    assert!(loss.counts.keys().all(|(_, reason)| *reason == LossReason::RingFull), "{loss:?}");
    assert_eq!(produced, delivered + lost);
    assert!(produced > opens);
}

#[test]
fn host_probe_a_second_reader_finds_the_records_of_the_first() {
    let (bed, _probes, first) = observed("restart");
    drop(first);
    let child = bed.start(|| 3);
    let pid = child.pid;
    assert_eq!(child.code(), 3);
    let mut second = bed.records(DEFAULT_RING_BYTES);
    assert_eq!(of_kind(&second.all(), Kind::Exit, pid).len(), 1);
    second.verify();
    assert_eq!(fs::metadata(&bed.pins).unwrap().mode() & libc::S_IFMT, libc::S_IFDIR);
}
