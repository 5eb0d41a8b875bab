//! Host ring: what the probes say of real acts, of children in a cgroup of the test's own. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{MetadataExt, PermissionsExt as _},
    path::Path,
};

use palisade_kernel::{observation::Limits, probes::Probes, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::record::{Body, Exec, Kind, Network, NetworkOperation, Phase, Record, Script};
use palisade_world::{LossReason, RecordSource};
use probe_bed::{ALL_KINDS, Bed, Child, Directory, Records, SLOT, c, calls, errno_of, namespace, path_of, start};

/// A bed with the probes attached and every kind of record wanted.
fn observed(name: &str) -> (Bed, Probes, Records) {
    let mut bed = Bed::new(name);
    let probes = Probes::attach(&bed.pins, Limits::NONE).expect("the object loads");
    // A kernel without modules has no tracepoint for them.
    let is_known = |program: &str| match program {
        "observe_module" => !Path::new("/proc/modules").exists(),
        "observe_capability" => !kernel_tells("btf_trace_cap_capable"),
        _ => false,
    };
    let missing: Vec<_> = probes.refused().iter().filter(|refused| !is_known(refused.program)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    (bed, probes, records)
}

/// Whether a tracepoint is there.
fn kernel_tells(tracepoint: &str) -> bool {
    let types = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    types.windows(tracepoint.len()).any(|name| name == tracepoint.as_bytes())
}

fn of_kind<'a>(records: &[Record<'a>], kind: Kind, pid: i32) -> Vec<Record<'a>> {
    records.iter().filter(|r| r.kind() == kind && i64::from(r.header.tgid) == i64::from(pid)).copied().collect()
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

#[test]
fn host_probe_exec_tells_path_arguments_directory_terminal_and_identity() {
    let (bed, _probes, mut records) = observed("exec");
    let arguments = words(&["renamed", "", "third argument"]);
    let program = CString::new("/bin/true").unwrap();
    let report = Directory::new("exec");
    let terminal_file = report.0.join("terminal");
    let child = bed.start(|| {
        let terminal = calls::take_terminal().to_ne_bytes();
        let said = std::env::set_current_dir("/usr/lib").and_then(|()| fs::write(&terminal_file, terminal));
        let user = calls::become_user(1234, 2345);
        if said.is_ok() && user == 0 { calls::exec(&program, &arguments) } else { 251 }
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

/// An executable file in the folder.
fn script(folder: &Directory, name: &str, text: &str) -> String {
    let path = folder.0.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    real(path.to_str().unwrap())
}

/// The file that was interpreted, how many were, and whether that is only what the caller said.
fn told(exec: &Exec<'_>) -> (String, u32, bool) {
    let Script::Interpreted { path, count } = exec.script else { panic!("{exec:?}") };
    (String::from_utf8_lossy(path.bytes).into_owned(), count, path.user)
}

#[test]
fn host_probe_exec_of_a_script_tells_the_file_and_not_what_the_caller_called_it() {
    let (bed, _probes, mut records) = observed("script");
    let folder = Directory::new("script");
    let run = script(&folder, "run.sh", "#!/bin/sh\nexit 3\n");
    let twice = script(&folder, "twice", &format!("#!{run}\n"));
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&run, &link).unwrap();
    let by = |name: &str, arguments: &[&str]| {
        let (program, arguments) = (CString::new(name).unwrap(), words(arguments));
        let directory = folder.0.clone();
        let child = bed.start(|| match std::env::set_current_dir(&directory) {
            Ok(()) => calls::exec(&program, &arguments),
            Err(_) => 251,
        });
        (child.pid, child.code())
    };
    let (plain, relative, linked) = (by(&run, &["x", "y"]), by("./run.sh", &["x"]), by(link.to_str().unwrap(), &["x"]));
    let (nested, itself) = (by(&twice, &["x"]), by("/bin/true", &["true"]));
    assert_eq!([plain.1, relative.1, linked.1, nested.1, itself.1], [3, 3, 3, 3, 0]);
    let all = records.all();
    for (pid, _) in [plain, relative, linked] {
        let (record, exec) = only_exec(&all, pid);
        assert_eq!((path_of(&record), told(&exec)), (real("/bin/sh"), (run.clone(), 1, false)));
    }
    let (record, exec) = only_exec(&all, nested.0);
    assert_eq!((path_of(&record), told(&exec)), (real("/bin/sh"), (twice, 2, false)));
    assert_eq!(only_exec(&all, itself.0).1.script, Script::None);
    records.verify();
}

#[test]
fn host_probe_exec_of_a_script_that_is_gone_or_of_a_descriptor_tells_the_file() {
    let (bed, _probes, mut records) = observed("script-by-descriptor");
    let folder = Directory::new("script-by-descriptor");
    let run = script(&folder, "run.sh", "#!/bin/sh\nexit 3\n");
    let opened = fs::File::open(&run).unwrap();
    // The interpreter opens /dev/fd/N, which must be there then.
    let child = bed.start(|| calls::exec_descriptor(&opened, &words(&["x"])));
    let pid = child.pid;
    assert_eq!(child.code(), 3);
    let all = records.all();
    assert_eq!(told(&only_exec(&all, pid).1), (run, 1, false));
    records.verify();
}

#[test]
fn host_probe_exec_of_a_task_with_a_ring_tells_what_the_caller_called_the_script() {
    let (bed, _probes, mut records) = observed("script-ring");
    let folder = Directory::new("script-ring");
    let run = script(&folder, "run.sh", "#!/bin/sh\nexit 3\n");
    let (program, arguments, directory) = (c(Path::new("./run.sh")), words(&["x"]), folder.0.clone());
    // Its works are done in the midst of the execution: what was noted before would be freed.
    let child = bed.start(|| {
        let entered = std::env::set_current_dir(&directory).is_ok();
        if entered && calls::use_ring() { calls::exec(&program, &arguments) } else { 77 }
    });
    let pid = child.pid;
    assert_eq!(child.code(), 3, "77: this kernel refuses io_uring");
    let all = records.all();
    assert_eq!(told(&only_exec(&all, pid).1), ("./run.sh".to_owned(), 0, true));
    assert_eq!(real(&run), run);
    records.verify();
}

#[test]
fn host_probe_fork_exec_and_exit_name_the_same_process() {
    let (bed, _probes, mut records) = observed("fork");
    let program = CString::new("/bin/sh").unwrap();
    let arguments = words(&["sh", "-c", "exit 7"]);
    let child = bed.start(|| {
        let inner = start(|| calls::exec(&program, &arguments));
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
        (made.child_own_tgid, made.child_pid_ns),
        (made.child_tgid, namespace("pid")),
        "the test's own namespace"
    );
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
    let killed = bed.start(|| calls::raise(libc::SIGKILL));
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
    let of_many = bed.start(|| calls::exec(&program, &many));
    let of_long = bed.start(|| calls::exec(&program, &long));
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
    let child = bed.start(|| {
        calls::open(&link, libc::O_RDONLY);
        calls::creat(&made);
        calls::open(&missing, libc::O_RDWR);
        let at = calls::open(&parent, libc::O_PATH);
        i32::from(calls::open_below(at, c"made", libc::O_WRONLY) < 0)
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

/// Makes a name below `directory` of so many components, step by step, for no call takes it whole; the child's directory moves.
fn make_deep(directory: &Path, component: &str, components: usize) -> i32 {
    let step = |_| fs::create_dir(component).and_then(|()| std::env::set_current_dir(component));
    let made = std::env::set_current_dir(directory).and_then(|()| (0..components).try_for_each(step));
    i32::from(made.and_then(|()| fs::File::create_new("the-end")).is_err())
}

#[test]
fn host_probe_open_keeps_deep_paths_whole_and_the_end_of_those_too_long() {
    let (bed, _probes, mut records) = observed("deep");
    let directory = Directory::new("deep");
    let (deep, long) = (directory.0.join("deep"), directory.0.join("long"));
    fs::create_dir(&deep).unwrap();
    fs::create_dir(&long).unwrap();
    let wide = "w".repeat(200);
    let child = bed.start(|| make_deep(&deep, "d", 120));
    let too_long = bed.start(|| make_deep(&long, &wide, 60));
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
        places.push(path.clone());
    }
    let file = c(&path.join("inside"));
    let child = bed.start(|| {
        calls::unshare(libc::CLONE_NEWNS);
        calls::make_mounts_private();
        for place in &places {
            if fs::create_dir(place).is_err() {
                return 251;
            }
            let mounted = calls::mount_tmpfs(&c(place));
            if mounted != 0 {
                return errno_of(mounted);
            }
        }
        i32::from(calls::open(&file, libc::O_CREAT | libc::O_RDWR) < 0)
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
    let child = bed.start(|| calls::exec_from_memory(c"unseen", &program));
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

/// `struct sockaddr_in` of 127.0.0.1.
fn name_v4(port: u16) -> [u8; 16] {
    let mut name = [0; 16];
    name[..2].copy_from_slice(&2_u16.to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    name[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    name
}

/// `struct sockaddr_in6`.
fn name_v6(address: Ipv6Addr, port: u16) -> [u8; 28] {
    let mut name = [0; 28];
    name[..2].copy_from_slice(&10_u16.to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    name[8..24].copy_from_slice(&address.octets());
    name
}

#[test]
fn host_probe_connect_tells_the_destination_and_what_came_of_it() {
    let (bed, _probes, mut records) = observed("connect");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let child = bed.start(|| {
        let tcp = || calls::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        calls::connect(tcp(), &name_v4(port));
        calls::connect(tcp(), &name_v4(1));
        let mapped = calls::socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        calls::connect(mapped, &name_v6(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
        let datagrams = calls::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0);
        calls::connect(datagrams, &name_v6(Ipv6Addr::LOCALHOST, 53));
        calls::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0);
        calls::socket(libc::AF_INET, 77, 0);
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
    start(calls::pause)
}

fn kill(child: Child) {
    calls::kill(child.pid, libc::SIGKILL);
    child.wait();
}

#[test]
fn host_probe_ptrace_names_its_target_in_every_pid_namespace() {
    let (bed, _probes, mut records) = observed("ptrace");
    let target = sleeper();
    let target_pid = target.pid;
    let attach = libc::PTRACE_SEIZE;
    let outside = bed.start(|| calls::trace(attach, target_pid));
    // In a new namespace numbers start at 1: the other end of the tree of numbers, one level instead of two or three.
    let inside = bed.start(|| {
        calls::unshare(libc::CLONE_NEWPID);
        let first = start(|| {
            let victims: Vec<Child> = (0..70).map(|_| sleeper()).collect();
            let last = victims[69].pid;
            let result = calls::trace(attach, last);
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

#[cfg(target_arch = "x86_64")]
#[test]
fn host_probe_open_by_the_32_bit_entry_is_seen() {
    let (bed, _probes, mut records) = observed("compat");
    let directory = Directory::new("compat");
    let target = directory.file("by-int-80", "x");
    let path = c(&target);
    let child = bed.start(|| match calls::open_by_32_bit_entry(&path) {
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
    assert_eq!(bed.start(|| i32::from(calls::open(c"/etc/passwd", 0) < 0)).code(), 0);
    let kinds: Vec<_> = records.all().iter().map(Record::kind).collect();
    assert_eq!(kinds, [Kind::Exit]);
    records.verify();
}

#[test]
fn host_probe_full_rings_lose_nothing_without_a_count() {
    let mut bed = Bed::new("overflow");
    let _probes = Probes::attach(&bed.pins, Limits::NONE).expect("the object loads");
    let mut records = bed.records(4096);
    bed.admit(ALL_KINDS);
    let opens = 5000;
    let child = bed.start(|| {
        for _ in 0..opens {
            calls::close(calls::open(c"/etc/passwd", libc::O_RDONLY));
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
