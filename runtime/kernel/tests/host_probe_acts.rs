//! Host ring: what the probes say of acts on files, sockets, processes, credentials and the kernel, by the real system calls of both
//! entries, also where they fail. Needs root, Linux 6.1 and x86-64.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};

use palisade_kernel::{observation::Limits, probes::Probes, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::record::{
    Body, CallNumber, CredentialsOperation, DnsOperation, FileOperation, IoUringOperation, Kind, ModuleOperation,
    MountOperation, NamespaceOperation, Network, NetworkOperation, ProcessAccessOperation, Record, Text, kind_bit,
};
use probe_bed::{
    ALL_KINDS, Bed, Directory, Records, c, calls, namespace,
    raw::{Ring, bytes, call, call_32, low, text},
    start,
};

const AT_FDCWD: i64 = -100;

fn observed_kinds(name: &str, kinds: u64) -> (Bed, Probes, Records) {
    let mut bed = Bed::new(name);
    let probes = Probes::attach(&bed.pins, Limits::NONE).expect("the object loads");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(kinds);
    (bed, probes, records)
}

fn observed(name: &str) -> (Bed, Probes, Records) {
    observed_kinds(name, ALL_KINDS)
}

fn of_child<'a>(records: &[Record<'a>], kind: Kind, pid: i32) -> Vec<Record<'a>> {
    let of_it = |r: &&Record<'a>| r.kind() == kind && i64::from(r.header.tgid) == i64::from(pid);
    let mut all: Vec<_> = records.iter().filter(of_it).copied().collect();
    // Each CPU has a ring of its own.
    all.sort_by_key(|record| record.header.boot_ns);
    all
}

fn said(text: Text<'_>) -> String {
    String::from_utf8_lossy(text.bytes).into_owned()
}

/// (operation, path, base, new path, new base, result)
type Change = (FileOperation, String, String, String, String, i32);

fn changes(records: &[Record<'_>], pid: i32) -> Vec<Change> {
    of_child(records, Kind::FileChange, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::FileChange(act) => Some((
                act.operation,
                said(act.path),
                said(act.base),
                said(act.new_path),
                said(act.new_base),
                if act.operation == FileOperation::Create { act.result.min(0) } else { act.result },
            )),
            _ => None,
        })
        .collect()
}

#[test]
fn host_probe_file_changes_tell_names_as_given_and_where_they_start() {
    let (bed, _probes, mut records) = observed("changes");
    let directory = Directory::new("changes");
    let here = directory.0.to_str().unwrap().to_owned();
    let root = c(&directory.0);
    let child = bed.start(|| {
        let at = i64::from(calls::open(&root, libc::O_PATH | libc::O_DIRECTORY));
        if std::env::set_current_dir(&directory.0).is_err() {
            return 251;
        }
        let file = i64::from(calls::open(c"file", libc::O_CREAT | libc::O_RDWR));
        let results = [
            call(83, [text(c"d"), 0o700, 0, 0, 0, 0]),
            call(258, [at, text(c"e"), 0o711, 0, 0, 0]),
            call(133, [text(c"pipe"), 0o010_600, 0, 0, 0, 0]),
            call(88, [text(c"to/nowhere"), text(c"s"), 0, 0, 0, 0]),
            call(265, [AT_FDCWD, text(c"file"), at, text(c"l"), 0, 0]),
            call(316, [at, text(c"l"), AT_FDCWD, text(c"d/moved"), 1, 0]),
            call(90, [text(c"file"), 0o640, 0, 0, 0, 0]),
            call(91, [file, 0o600, 0, 0, 0, 0]),
            call(260, [at, text(c"file"), 1, -1, 0, 0]),
            call(93, [file, 2, 3, 0, 0, 0]),
            call(76, [text(c"file"), 5, 0, 0, 0, 0]),
            call(77, [file, 7, 0, 0, 0, 0]),
            call(87, [text(c"pipe"), 0, 0, 0, 0, 0]),
            call(263, [at, text(c"e"), 0x200, 0, 0, 0]),
        ];
        let failed = call(87, [text(c"/no/such/file"), 0, 0, 0, 0, 0]);
        i32::from(results.iter().any(|result| *result != 0) || failed != -2)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let (none, file) = (String::new(), format!("{here}/file"));
    let relative =
        |operation, path: &str| -> Change { (operation, path.into(), here.clone(), none.clone(), none.clone(), 0) };
    let whole = |operation| -> Change { (operation, file.clone(), none.clone(), none.clone(), none.clone(), 0) };
    let to = |operation, path: &str, base: &str, new: &str| -> Change {
        (operation, path.into(), base.into(), new.into(), here.clone(), 0)
    };
    let expected = [
        whole(FileOperation::Create),
        relative(FileOperation::Mkdir, "d"),
        relative(FileOperation::Mkdir, "e"),
        relative(FileOperation::Mknod, "pipe"),
        to(FileOperation::Symlink, "to/nowhere", "", "s"),
        to(FileOperation::Link, "file", &here, "l"),
        to(FileOperation::Rename, "l", &here, "d/moved"),
        relative(FileOperation::Chmod, "file"),
        whole(FileOperation::Chmod),
        relative(FileOperation::Chown, "file"),
        whole(FileOperation::Chown),
        relative(FileOperation::Truncate, "file"),
        whole(FileOperation::Truncate),
        relative(FileOperation::Unlink, "pipe"),
        relative(FileOperation::Rmdir, "e"),
        (FileOperation::Unlink, "/no/such/file".into(), none.clone(), none.clone(), none.clone(), -libc::ENOENT),
    ];
    assert_eq!(changes(&all, pid), expected);
    let told: Vec<_> =
        of_child(&all, Kind::FileChange, pid).iter().map(|record| record.header.call.map(|call| call.number)).collect();
    let calls = [83, 258, 133, 88, 265, 316, 90, 91, 260, 93, 76, 77, 87, 263, 87];
    assert_eq!(told, [None].into_iter().chain(calls.map(Some)).collect::<Vec<_>>(), "which of those that do the same");
    let numbers: Vec<_> = of_child(&all, Kind::FileChange, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::FileChange(act) => Some((act.mode, act.uid, act.gid, act.size, act.flags, act.path.user)),
            _ => None,
        })
        .collect();
    let unset = u32::MAX;
    assert_eq!(numbers[1], (0o700, unset, unset, 0, 0, true));
    assert_eq!(numbers[6], (0, unset, unset, 0, 1, true), "RENAME_NOREPLACE");
    assert_eq!(numbers[9], (0, 1, unset, 0, 0, true));
    assert_eq!(numbers[10], (0, 2, 3, 0, 0, false));
    assert_eq!((numbers[11].3, numbers[12].3), (5, 7));
    records.verify();
}

#[test]
fn host_probe_an_object_that_an_empty_name_leaves_to_a_descriptor_is_by_the_callers_word() {
    const AT_EMPTY_PATH: i64 = 0x1000;
    let (bed, _probes, mut records) = observed("empty");
    let directory = Directory::new("empty");
    let file = c(&directory.file("file", "x"));
    let child = bed.start(|| {
        let at = i64::from(calls::open(&file, libc::O_PATH));
        let empty = call(260, [at, text(c""), 1, -1, AT_EMPTY_PATH, 0]);
        let unreadable = call(260, [at, 8, 1, -1, AT_EMPTY_PATH, 0]);
        i32::from(empty != 0 || unreadable != -i64::from(libc::EFAULT))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let paths: Vec<_> = of_child(&all, Kind::FileChange, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::FileChange(act) => Some((said(act.path), act.path.user, act.path.unreadable)),
            _ => None,
        })
        .collect();
    let whole = directory.0.join("file").to_str().unwrap().to_owned();
    assert_eq!(paths, [(whole, true, false), (String::new(), true, true)]);
    records.verify();
}

#[test]
fn host_probe_acts_by_the_32_bit_entry_are_seen_with_its_own_numbers() {
    let (bed, _probes, mut records) = observed("entry32");
    let directory = Directory::new("entry32");
    let name = |name: &str| c(&directory.0.join(name));
    let (made, moved) = (name("made"), name("moved"));
    let child = bed.start(|| {
        let [made, moved] = [&made, &moved].map(|name| low(name.to_bytes_with_nul()));
        let results = [
            call_32(39, [made, 0o700, 0, 0, 0]),
            call_32(38, [made, moved, 0, 0, 0]),
            call_32(182, [moved, 0xffff, 9, 0, 0]),
            call_32(40, [moved, 0, 0, 0, 0]),
        ];
        let failed = [call_32(10, [moved, 0, 0, 0, 0]), call_32(37, [99_999_999, 0, 0, 0, 0])];
        // socketcall: socket(AF_INET, SOCK_DGRAM, 0), then bind to 127.0.0.1 by a pointer to three words
        let socket = low(&[2_u32, 2, 0].map(u32::to_ne_bytes).concat());
        let socket = call_32(102, [1, socket, 0, 0, 0]);
        let mut address = [0_u8; 16];
        address[..8].copy_from_slice(&[2, 0, 0, 0, 127, 0, 0, 1]);
        let words = low(&[socket.unsigned_abs(), low(&address), 16].map(u32::to_ne_bytes).concat());
        let bound = call_32(102, [2, words, 0, 0, 0]);
        i32::from(results.iter().any(|result| *result != 0) || failed != [-libc::ENOENT, -libc::ESRCH] || bound != 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let seen: Vec<_> = changes(&all, pid).into_iter().map(|change| (change.0, change.1, change.3, change.5)).collect();
    let path = |name: &str| directory.0.join(name).to_str().unwrap().to_owned();
    let expected = [
        (FileOperation::Mkdir, path("made"), String::new(), 0),
        (FileOperation::Rename, path("made"), path("moved"), 0),
        (FileOperation::Chown, path("moved"), String::new(), 0),
        (FileOperation::Rmdir, path("moved"), String::new(), 0),
        (FileOperation::Unlink, path("moved"), String::new(), -libc::ENOENT),
    ];
    assert_eq!(seen, expected);
    let owners: Vec<_> = of_child(&all, Kind::FileChange, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::FileChange(act) if act.operation == FileOperation::Chown => Some((act.uid, act.gid)),
            _ => None,
        })
        .collect();
    assert_eq!(owners, [(u32::MAX, 9)], "16 bits of ones leave the owner");
    let told: Vec<_> = of_child(&all, Kind::FileChange, pid).iter().filter_map(|record| record.header.call).collect();
    assert_eq!(told, [39, 38, 182, 40, 10].map(|number| CallNumber { number, is_compat: true }));
    let signals = of_child(&all, Kind::Signal, pid);
    assert!(
        matches!(signals[..], [Record { body: Body::Signal(s), .. }] if (s.asked, s.result) == (99_999_999, -libc::ESRCH)),
        "{signals:?}"
    );
    let binds = networks(&all, Kind::Bind, pid);
    assert!(
        matches!(binds[..], [Network { operation: NetworkOperation::Bind, result: 0, destination: Some((address, port)), .. }]
            if address == IpAddr::V4(Ipv4Addr::LOCALHOST) && port != 0),
        "{binds:?}"
    );
    records.verify();
}

fn networks(records: &[Record<'_>], kind: Kind, pid: i32) -> Vec<Network> {
    of_child(records, kind, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::Bind(network) | Body::Accept(network) | Body::Send(network) => Some(network),
            _ => None,
        })
        .collect()
}

/// `struct sockaddr_in`.
fn name_v4(address: Ipv4Addr, port: u16) -> [u8; 16] {
    let mut name = [0; 16];
    name[..2].copy_from_slice(&2_u16.to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    name[4..8].copy_from_slice(&address.octets());
    name
}

#[test]
fn host_probe_sockets_tell_their_own_address_their_peers_and_where_datagrams_go() {
    let (bed, _probes, mut records) = observed("listen");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().port();
    let child = bed.start(|| {
        let local = |port| name_v4(Ipv4Addr::LOCALHOST, port);
        let tcp = i64::from(calls::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        let refused = call(49, [tcp, bytes(&local(port)), 16, 0, 0, 0]);
        let made = call(49, [tcp, bytes(&local(0)), 16, 0, 0, 0]) | call(50, [tcp, 5, 0, 0, 0, 0]);
        let mut name = [0_u8; 16];
        let length = 16_u32;
        call(51, [tcp, name.as_mut_ptr().addr() as i64, (&raw const length).addr() as i64, 0, 0, 0]);
        let own = u16::from_be_bytes([name[2], name[3]]);
        let client = calls::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        calls::connect(client, &local(own));
        let peer = call(288, [tcp, 0, 0, 0, 0, 0]);
        let udp = calls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let sent = calls::send_to(udp, &local(to));
        i32::from(refused != -i64::from(libc::EADDRINUSE) || made != 0 || peer < 0 || sent != 1)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let binds: Vec<_> = networks(&all, Kind::Bind, pid)
        .iter()
        .map(|act| (act.operation, act.user, act.result, act.destination.map(|(address, _)| address)))
        .collect();
    assert_eq!(
        binds,
        [
            (NetworkOperation::Bind, true, -libc::EADDRINUSE, Some(local)),
            (NetworkOperation::Bind, false, 0, Some(local)),
            (NetworkOperation::Listen, false, 0, Some(local)),
        ]
    );
    assert_eq!(networks(&all, Kind::Bind, pid)[0].destination, Some((local, port)));
    let accepts = networks(&all, Kind::Accept, pid);
    assert!(
        matches!(accepts[..], [Network { operation: NetworkOperation::Accept, user: false, destination: Some((peer, port)), .. }]
            if peer == local && port != 0),
        "{accepts:?}"
    );
    let sends = networks(&all, Kind::Send, pid);
    assert!(
        matches!(sends[..], [Network { operation: NetworkOperation::Send, user: true, result: 1, destination, .. }]
            if destination == Some((local, to))),
        "{sends:?}"
    );
    records.verify();
}

/// A call's number as the kernel reads it, which takes only the lower half of the register.
const fn in_disguise(number: i64) -> i64 {
    number | 0x5555 << 32
}

#[test]
fn host_probe_a_number_with_more_than_the_kernel_reads_of_it_hides_no_call() {
    let (bed, _probes, mut records) = observed_kinds("disguise", ALL_KINDS | kind_bit(Kind::Syscall));
    let directory = Directory::new("disguise");
    let file = c(&directory.file("file", "x"));
    let child = bed.start(|| {
        let opened = call(in_disguise(257), [AT_FDCWD, text(&file), 0, 0, 0, 0]);
        let socket = call(in_disguise(41), [2, 2, 0, 0, 0, 0]);
        let signalled = call(in_disguise(62), [0, 0, 0, 0, 0, 0]);
        let removed = call(in_disguise(87), [text(&file), 0, 0, 0, 0, 0]);
        i32::from(opened < 0 || socket < 0 || signalled != 0 || removed != 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0, "the kernel does them");
    let all = records.all();
    let opened = |record: &Record<'_>| matches!(record.body, Body::Open(open) if open.path.bytes == file.as_bytes());
    assert!(of_child(&all, Kind::Open, pid).iter().any(opened));
    assert_eq!(of_child(&all, Kind::Socket, pid).len(), 1);
    assert!(changes(&all, pid).iter().any(|change| change.0 == FileOperation::Unlink));
    let numbers: Vec<_> = of_child(&all, Kind::Syscall, pid)
        .iter()
        .filter_map(|record| if let Body::Syscall(act) = record.body { Some(act.number) } else { None })
        .collect();
    assert!([257, 41, 62, 87].iter().all(|number| numbers.contains(number)), "{numbers:?}");
    records.verify();
}

#[test]
fn host_probe_x32_calls_are_seen_with_their_own_numbers_and_layouts() {
    const X32: i64 = 0x4000_0000;
    let (bed, _probes, mut records) = observed_kinds("x32", ALL_KINDS | kind_bit(Kind::Syscall));
    let port = 5353;
    let child = bed.start(|| {
        let udp = i64::from(calls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0));
        // struct msghdr of x32: name, its length, vector, its length, control, its length, flags; all of 32 bits
        let name = low(&name_v4(Ipv4Addr::LOCALHOST, port));
        let message = low(&[name, 16, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat());
        let sent = call(X32 | 518, [udp, i64::from(message), 0, 0, 0, 0]);
        let parent = call(X32 | 110, [0; 6]);
        // A kernel without x32 has no such calls, and its tracepoints tell of them all the same.
        let absent = -i64::from(libc::ENOSYS);
        i32::from((sent == absent) != (parent == absent))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let sends = networks(&all, Kind::Send, pid);
    let to = Some((IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    assert!(matches!(sends[..], [Network { user: true, destination, .. }] if destination == to), "{sends:?}");
    let calls: Vec<_> = of_child(&all, Kind::Syscall, pid)
        .iter()
        .filter_map(|record| if let Body::Syscall(act) = record.body { Some((act.number, act.x32)) } else { None })
        .collect();
    assert!(calls.contains(&(518, true)) && calls.contains(&(110, true)), "{calls:?}");
    records.verify();
}

#[test]
fn host_probe_credentials_tell_what_was_before_and_what_is_after() {
    let (bed, _probes, mut records) = observed("credentials");
    let child = bed.start(|| {
        let first = call(117, [1234, 0, 0, 0, 0, 0]); // setresuid
        let second = call(119, [55, 66, 77, 0, 0, 0]); // setresgid
        let all = call(105, [4321, 0, 0, 0, 0, 0]); // setuid of root: all four, and the capabilities are gone
        let refused = call(105, [1, 0, 0, 0, 0, 0]);
        i32::from(first | second | all != 0 || refused != -i64::from(libc::EPERM))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let acts: Vec<_> = of_child(&all, Kind::Credentials, pid)
        .iter()
        .filter_map(|record| if let Body::Credentials(act) = record.body { Some(act) } else { None })
        .collect();
    let [first, second, third, refused] = acts[..] else { panic!("{acts:?}") };
    assert_eq!((first.operation, first.before, first.result), (CredentialsOperation::Setresuid, None, 0));
    assert_eq!((first.after.uid, first.after.euid, first.after.suid), (1234, 0, 0));
    assert_ne!(first.after.effective, 0);
    assert_eq!(
        (second.before, second.after.gid, second.after.egid, second.after.sgid),
        (Some(first.after), 55, 66, 77)
    );
    assert_eq!(third.before, Some(second.after));
    assert_eq!((third.after.uid, third.after.euid, third.after.suid, third.after.fsuid), (4321, 4321, 4321, 4321));
    assert_eq!((third.after.effective, third.after.permitted), (0, 0));
    assert_eq!((refused.result, refused.before), (-libc::EPERM, Some(third.after)));
    assert_eq!(refused.after, third.after);
    records.verify();
}

#[test]
fn host_probe_signals_tell_each_target_and_those_of_the_kernel_are_none() {
    let (bed, _probes, mut records) = observed("signals");
    let child = bed.start(|| {
        let inner = start(calls::pause);
        let target = inner.pid;
        let sent = calls::kill(target, libc::SIGTERM);
        // Its end sends SIGCHLD here, which nobody sent.
        let ended = inner.wait();
        let missing = call(234, [1, 99_999_999, 9, 0, 0, 0]);
        i32::from(sent != 0 || ended != libc::SIGTERM || missing != -i64::from(libc::ESRCH))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let forks = of_child(&all, Kind::Fork, pid);
    let [Record { body: Body::Fork(fork), .. }] = forks[..] else { panic!("{forks:?}") };
    let acts: Vec<_> = of_child(&all, Kind::Signal, pid)
        .iter()
        .filter_map(|record| if let Body::Signal(act) = record.body { Some(act) } else { None })
        .collect();
    let [sent, missing] = acts[..] else { panic!("{acts:?}") };
    assert_eq!((sent.signal, sent.result, sent.target_tgid), (15, 0, fork.child_tgid));
    assert_eq!((sent.target_start_ns, sent.target_slot), (fork.child_start_ns, probe_bed::SLOT));
    assert_eq!((missing.signal, missing.result, missing.target_tgid), (9, -libc::ESRCH, 0));
    assert!(all.iter().all(|record| !matches!(record.body, Body::Signal(act) if act.signal == 17)), "SIGCHLD");
    records.verify();
}

#[test]
fn host_probe_memory_of_another_process_is_seen_with_the_process() {
    let (bed, _probes, mut records) = observed("memory");
    let child = bed.start(|| {
        let word = 7_u64;
        let inner = start(calls::pause);
        let mut read = 0_u64;
        let local = [(&raw mut read).addr(), 8];
        let remote = [(&raw const word).addr(), 8];
        let vector = |pair: &[usize; 2]| pair.as_ptr().addr() as i64;
        let result = call(310, [i64::from(inner.pid), vector(&local), 1, vector(&remote), 1, 0]);
        calls::kill(inner.pid, libc::SIGKILL);
        inner.wait();
        i32::from(result != 8)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let acts = of_child(&all, Kind::ProcessAccess, pid);
    let [Record { body: Body::ProcessAccess(act), .. }] = acts[..] else { panic!("{acts:?}") };
    assert_eq!((act.operation, act.result, act.target_slot), (ProcessAccessOperation::Read, 8, probe_bed::SLOT));
    let exe = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(Path::new(&said(act.target_exe)), exe);
    records.verify();
}

#[test]
fn host_probe_mounts_roots_and_namespaces_are_seen() {
    let (bed, _probes, mut records) = observed("views");
    let directory = Directory::new("views");
    let place = c(&directory.0);
    let child = bed.start(|| {
        let unshared = calls::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS);
        calls::make_mounts_private();
        let mounted = calls::mount_tmpfs(&place);
        let unmounted = call(166, [text(&place), 2, 0, 0, 0, 0]);
        let rooted = call(161, [text(&place), 0, 0, 0, 0, 0]);
        let refused = call(308, [-1, 0, 0, 0, 0, 0]);
        i32::from(unshared != 0 || mounted != 0 || unmounted != 0 || rooted != 0 || refused != -i64::from(libc::EBADF))
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let here = directory.0.to_str().unwrap().to_owned();
    let mounts: Vec<_> = of_child(&all, Kind::Mount, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::Mount(act) => Some((
                act.operation,
                said(act.source),
                said(act.target),
                said(act.filesystem),
                act.flags,
                act.target.user,
            )),
            _ => None,
        })
        .collect();
    let none = String::new();
    let private = u64::from((libc::MS_REC | libc::MS_PRIVATE) as u32);
    let expected = [
        (MountOperation::Mount, none.clone(), "/".to_owned(), none.clone(), private, true),
        (MountOperation::Mount, "bed".to_owned(), here.clone(), "tmpfs".to_owned(), 0, true),
        (MountOperation::Umount, none.clone(), here.clone(), none.clone(), 2, true),
        (MountOperation::Chroot, none.clone(), "/".to_owned(), none.clone(), 0, false),
    ];
    // How a new root is named depends on where the climb ends: at it, or at the mount's own root.
    let mut mounts = mounts;
    let root = mounts.pop().unwrap();
    assert!((root.0, root.5) == (MountOperation::Chroot, false) && (root.2 == "/" || root.2 == here), "{root:?}");
    assert_eq!(mounts, expected[..3]);
    let namespaces: Vec<_> = of_child(&all, Kind::Namespace, pid)
        .iter()
        .filter_map(|record| if let Body::Namespace(act) = record.body { Some(act) } else { None })
        .collect();
    let [unshared, refused] = namespaces[..] else { panic!("{namespaces:?}") };
    let asked = u64::from((libc::CLONE_NEWNS | libc::CLONE_NEWUTS).unsigned_abs());
    assert_eq!((unshared.operation, unshared.flags, unshared.result), (NamespaceOperation::Unshare, asked, 0));
    assert_ne!((unshared.mnt, unshared.uts), (namespace("mnt"), namespace("uts")));
    assert_eq!(
        (unshared.net, unshared.user, unshared.cgroup),
        (namespace("net"), namespace("user"), namespace("cgroup"))
    );
    assert_eq!(
        (refused.operation, refused.result, refused.mnt),
        (NamespaceOperation::Setns, -libc::EBADF, unshared.mnt)
    );
    records.verify();
}

#[test]
fn host_probe_modules_bpf_and_files_without_a_name_are_seen() {
    let (bed, _probes, mut records) = observed("kernel");
    let directory = Directory::new("kernel");
    let no_module = c(&directory.file("no.ko", "this is no module"));
    // On the heap, which is there already: a probe does not wait for a page of the program's file.
    let name = std::ffi::CString::from(c"no_such_module");
    let child = bed.start(|| {
        let file = i64::from(calls::open(&no_module, libc::O_RDONLY));
        let finit = call(313, [file, text(c""), 1, 0, 0, 0]);
        let delete = call(176, [text(&name), 0x800, 0, 0, 0, 0]);
        // BPF_MAP_CREATE: type, key, value, entries, flags, inner, node, name
        let mut attributes = [0_u8; 64];
        for (at, word) in [2_u32, 4, 8, 1].into_iter().enumerate() {
            attributes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        attributes[28..36].copy_from_slice(b"spy_map1");
        let map = call(321, [0, bytes(&attributes), 64, 0, 0, 0]);
        attributes[..4].copy_from_slice(&12_345_u32.to_ne_bytes());
        let refused = call(321, [0, bytes(&attributes), 64, 0, 0, 0]);
        let memfd = call(319, [text(c"secret"), 1, 0, 0, 0, 0]);
        i32::from(finit >= 0 || delete >= 0 || map < 0 || refused >= 0 || memfd < 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let modules: Vec<_> = of_child(&all, Kind::Module, pid)
        .iter()
        .filter_map(|record| match record.body {
            Body::Module(act) => Some((act.operation, said(act.name), said(act.path), act.flags, act.result < 0)),
            _ => None,
        })
        .collect();
    let path = directory.0.join("no.ko").to_str().unwrap().to_owned();
    let expected = [
        (ModuleOperation::Finit, String::new(), path, 1, true),
        (ModuleOperation::Delete, "no_such_module".to_owned(), String::new(), 0x800, true),
    ];
    assert_eq!(modules, expected);
    let bpf: Vec<_> = of_child(&all, Kind::Bpf, pid)
        .iter()
        .filter_map(|record| if let Body::Bpf(act) = record.body { Some(act) } else { None })
        .collect();
    let [made, refused] = bpf[..] else { panic!("{bpf:?}") };
    assert_eq!((said(made.name).as_str(), made.command, made.object_type, made.user), ("spy_map1", 0, 2, false));
    assert_ne!(made.object_id, 0);
    assert_eq!((refused.object_type, refused.user, refused.object_id, refused.result < 0), (12_345, true, 0, true));
    let memfds = of_child(&all, Kind::Memfd, pid);
    assert!(
        matches!(memfds[..], [Record { body: Body::Memfd(act), .. }]
            if (act.name.bytes, act.name.user, act.flags) == (b"memfd:secret".as_slice(), false, 1)),
        "{memfds:?}"
    );
    records.verify();
}

#[test]
fn host_probe_rings_and_their_requests_are_seen_with_the_kernels_copy_of_names() {
    let (bed, _probes, mut records) = observed("ring");
    let directory = Directory::new("ring");
    let place = c(&directory.0);
    directory.file("inside", "x");
    let child = bed.start(|| {
        let at = calls::open(&place, libc::O_RDONLY | libc::O_DIRECTORY);
        let Ok(mut ring) = Ring::set_up() else { return 77 };
        let mut request = [0_u8; 64];
        request[0] = 18; // IORING_OP_OPENAT
        request[4..8].copy_from_slice(&at.to_ne_bytes());
        request[16..24].copy_from_slice(&text(c"inside").to_ne_bytes());
        i32::from(ring.submit(&request) != 1)
    });
    let pid = child.pid;
    let code = child.code();
    if code == 77 {
        println!("skipped: this kernel refuses io_uring");
        return;
    }
    assert_eq!(code, 0);
    let all = records.all();
    let acts: Vec<_> = of_child(&all, Kind::IoUring, pid)
        .iter()
        .filter_map(|record| if let Body::IoUring(act) = record.body { Some(act) } else { None })
        .collect();
    let [setup, submit] = acts[..] else { panic!("{acts:?}") };
    assert!(setup.operation == IoUringOperation::Setup && setup.result >= 0, "{setup:?}");
    assert_eq!((submit.operation, submit.opcode), (IoUringOperation::Submit, 18));
    assert_eq!((said(submit.path).as_str(), submit.path.user), ("inside", false));
    assert_eq!(said(submit.file), directory.0.to_str().unwrap());
    records.verify();
}

/// A DNS message with one question, and for an answer one compressed A record.
fn message(name: &[&str], answer: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, if answer.is_some() { 0x81 } else { 1 }, if answer.is_some() { 0x83 } else { 0 }];
    bytes.extend([0, 1, 0, u8::from(answer.is_some()), 0, 0, 0, 0]);
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    if let Some(address) = answer {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
    }
    bytes
}

#[test]
fn host_probe_dns_questions_and_answers_are_read_from_the_packets_of_udp_and_tcp() {
    const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 53);
    let (bed, _probes, mut records) = observed("dns");
    let udp = UdpSocket::bind((SERVER, 53)).unwrap();
    let tcp = TcpListener::bind((SERVER, 53)).unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = ["WWW", "example", "com"];
    let child = bed.start(|| {
        let ask = || -> std::io::Result<()> {
            let mut heard = [0; 512];
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            socket.send_to(&message(&name, None), (SERVER, 53))?;
            socket.recv(&mut heard)?;
            let mut stream = std::net::TcpStream::connect((SERVER, 53))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let question = message(&["tcp", "test"], None);
            let length = u16::try_from(question.len()).map_err(std::io::Error::other)?.to_be_bytes();
            stream.write_all(&[&length[..], &question].concat())?;
            stream.read(&mut heard).map(|_| ())
        };
        i32::from(ask().is_err())
    });
    let pid = child.pid;
    let mut heard = [0; 512];
    let (_, from) = udp.recv_from(&mut heard).unwrap();
    udp.send_to(&message(&name, Some([192, 0, 2, 7])), from).unwrap();
    let (mut stream, _) = tcp.accept().unwrap();
    assert!(stream.read(&mut heard).unwrap() > 12, "a question in one piece");
    let answer = message(&["tcp", "test"], Some([192, 0, 2, 8]));
    stream.write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat()).unwrap();
    assert_eq!(child.code(), 0);
    let all = records.all();
    let mut ordered = all.clone();
    ordered.sort_by_key(|record| record.header.boot_ns);
    let seen: Vec<_> = ordered
        .iter()
        .filter_map(|record| match record.body {
            Body::Dns(dns) => {
                assert_eq!((dns.query_type, dns.id, dns.server), (1, 0x1234, Some((IpAddr::V4(SERVER), 53))));
                assert!(!dns.incomplete && !dns.truncated, "{dns:?}");
                let task = if dns.no_task { 0 } else { i64::from(record.header.tgid) };
                assert_eq!(record.header.slot, probe_bed::SLOT);
                Some((
                    dns.operation,
                    dns.transport,
                    said(dns.name),
                    dns.rcode,
                    dns.addresses().collect::<Vec<_>>(),
                    task,
                ))
            }
            _ => None,
        })
        .collect();
    let child = i64::from(pid);
    let address = |last| vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))];
    let expected = [
        (DnsOperation::Question, 17, "WWW.example.com".to_owned(), 0, vec![], child),
        (DnsOperation::Answer, 17, "WWW.example.com".to_owned(), 3, address(7), 0),
        (DnsOperation::Question, 6, "tcp.test".to_owned(), 0, vec![], child),
        (DnsOperation::Answer, 6, "tcp.test".to_owned(), 3, address(8), 0),
    ];
    assert_eq!(seen, expected);
    records.verify();
}

#[test]
fn host_probe_every_system_call_is_seen_only_where_it_is_asked_for() {
    let (bed, _probes, mut records) = observed_kinds("calls", kind_bit(Kind::Syscall) | kind_bit(Kind::Namespace));
    let child = bed.start(|| {
        let number = call(110, [11, 22, 33, 44, 55, 66]); // getppid takes none, and the registers are told all the same
        let narrow = call_32(64, [7, 0, 0, 0, 0]); // getppid of i386
        let refused = call(308, [-1, 0, 0, 0, 0, 0]);
        i32::from(number != i64::from(narrow) || refused >= 0)
    });
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let acts: Vec<_> = of_child(&all, Kind::Syscall, pid)
        .iter()
        .filter_map(|record| if let Body::Syscall(act) = record.body { Some(act) } else { None })
        .collect();
    let wide: Vec<_> = acts.iter().filter(|act| act.number == 110 && !act.compat).collect();
    assert!(wide.iter().any(|act| act.arguments == [11, 22, 33, 44, 55, 66] && act.result > 0), "{wide:?}");
    assert!(acts.iter().any(|act| act.number == 64 && act.compat && act.arguments[0] == 7), "{acts:?}");
    assert!(acts.iter().any(|act| act.number == 308 && act.result == -i64::from(libc::EBADF)));
    assert_eq!(of_child(&all, Kind::Namespace, pid).len(), 1, "and goes on to its own probe");
    records.verify();
    drop((bed, records));
    let (bed, _probes, mut records) = observed("no-calls");
    let child = bed.start(|| i32::from(call(110, [0; 6]) < 0));
    assert_eq!(child.code(), 0);
    assert!(records.all().iter().all(|record| record.kind() != Kind::Syscall));
}

#[test]
fn host_probe_capabilities_that_a_task_made_use_of_are_seen_where_they_are_asked_for() {
    let (bed, probes, mut records) = observed_kinds("capabilities", kind_bit(Kind::Capability));
    if let Some(refused) = probes.refused().iter().find(|refused| refused.program == "observe_capability") {
        println!("skipped: {refused:?}");
        return;
    }
    // chroot(2), and mmap(2) whose question about the reserve is no use.
    let act = || i32::from(call(161, [text(c"/"), 0, 0, 0, 0, 0]) != 0 || call(9, [0, 4096, 3, 0x22, -1, 0]) < 0);
    let child = bed.start(act);
    let pid = child.pid;
    assert_eq!(child.code(), 0);
    let all = records.all();
    let seen: Vec<_> = of_child(&all, Kind::Capability, pid)
        .iter()
        .filter_map(
            |record| if let Body::Capability(act) = record.body { Some((act.capability, act.result)) } else { None },
        )
        .collect();
    assert!(seen.contains(&(18, 0)), "CAP_SYS_CHROOT: {seen:?}");
    assert!(!seen.contains(&(21, 0)), "CAP_SYS_ADMIN was not made use of: {seen:?}");
    records.verify();
    drop((bed, probes, records));

    let (bed, _probes, mut records) = observed_kinds("no-capabilities", kind_bit(Kind::Namespace));
    assert_eq!(bed.start(act).code(), 0);
    assert!(records.all().iter().all(|record| record.kind() != Kind::Capability));
}
