//! Host ring: destinations and sockets are refused on a workload's cgroup, and nothing of the act happens. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use palisade_domain::Action;
use palisade_kernel::{cgroup::CgroupPrograms, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::blob::{self, Decision, Effect};
use palisade_kernel_abi::record::{Body, FailReason, Family, NetworkOperation, Outcome, Tier};
use palisade_policy::ir::{DestinationMatch, Matcher, Rule, SocketMatch, SocketShape, Transport};
use probe_bed::{Bed, Records, SLOT, blob as compiled, calls, errno_of, rule, start};

/// A bed that holds its cgroup to the rules.
fn held(name: &str, rules: Vec<Rule>) -> (Bed, CgroupPrograms, Records) {
    let mut bed = Bed::new(name);
    let programs = CgroupPrograms::load(palisade_bpf::CGROUP, &bed.pins).expect("the programs load");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(9, &compiled(rules));
    programs.renew(u32::MAX).expect("the root takes links");
    (bed, programs, records)
}

fn to(action: Action, cidr: Option<(&str, u8)>, ports: Option<(u16, u16)>, protocol: Option<Transport>) -> Rule {
    let cidr = cidr.map(|(address, prefix)| (address.parse().unwrap(), prefix));
    rule(action, Matcher::Destination(DestinationMatch { cidr, ports, protocol }))
}

fn tcp_server(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nobody came: the effect is absent, not only the call refused.
fn accepted(listener: &TcpListener) -> usize {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A socket address as system calls take it.
fn raw(address: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![0; if address.is_ipv4() { 16 } else { 28 }];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => {
            bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
            bytes[4..8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            bytes[..2].copy_from_slice(&10_u16.to_ne_bytes());
            bytes[8..24].copy_from_slice(&v6.octets());
        }
    }
    bytes
}

/// connect(2) over a new socket of the address's own domain; 0 or errno.
fn connect(kind: i32, address: SocketAddr) -> i32 {
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = calls::socket(domain, kind, 0);
    let result = errno_of(calls::connect(socket, &raw(address)));
    calls::close(socket);
    result
}

/// sendto(2) over a new datagram socket; 0 or errno.
fn send(address: SocketAddr) -> i32 {
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = calls::socket(domain, libc::SOCK_DGRAM, 0);
    errno_of(i64::try_from(calls::send_to(socket, &raw(address))).unwrap_or(-1))
}

const TCP: i32 = libc::SOCK_STREAM;

#[test]
fn host_cgroup_denied_connect_is_refused_inside_and_only_inside() {
    let (listener, denied) = tcp_server("127.0.0.1:0");
    let (other, permitted) = tcp_server("127.0.0.1:0");
    let port = denied.port();
    let (bed, _programs, mut records) =
        held("connect", vec![to(Action::Block, None, Some((port, port)), Some(Transport::Tcp))]);
    let inside = bed.start(|| connect(TCP, denied));
    let pid = inside.pid;
    assert_eq!(inside.code(), libc::EPERM);
    assert_eq!(bed.start(|| connect(TCP, permitted)).code(), 0);
    assert_eq!((accepted(&listener), accepted(&other)), (0, 1));
    assert_eq!(start(|| connect(TCP, denied)).code(), 0, "no other cgroup is held");
    assert_eq!(accepted(&listener), 1);
    let all = records.all();
    let [record] = all.as_slice() else { panic!("{all:?}") };
    let Body::Connect(network) = record.body else { panic!("{record:?}") };
    assert_eq!((network.operation, network.destination), (NetworkOperation::Connect, Some((denied.ip(), port))));
    assert_eq!((network.domain, network.socket_type, network.protocol, network.user), (2, 1, 6, false));
    let decision = record.decision.unwrap();
    assert_eq!((decision.tier, decision.outcome, decision.family), (Tier::CgroupBpf, Outcome::Denied, Family::Connect));
    assert_eq!((decision.generation, decision.fail_reason), (9, FailReason::None));
    let word = Decision::from_word(decision.word);
    assert_eq!((word.effect, word.rule, word.by_posture), (Effect::Block, Some(0), false));
    assert_eq!((i64::from(record.header.tgid), record.header.slot), (i64::from(pid), SLOT));
    assert_eq!(record.header.cgroup_id, bed.cgroup_id());
    records.verify();
}

/// Takes a new socket's destination away; 0 or errno.
fn disconnect(domain: i32, kind: i32) -> i32 {
    let socket = calls::socket(domain, kind, 0);
    errno_of(calls::connect(socket, &[0; 16]))
}

#[test]
fn host_cgroup_taking_a_destination_away_is_no_connection() {
    let (bed, _programs, mut records) = held("unspec", vec![to(Action::Block, None, None, None)]);
    for domain in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            assert_eq!(bed.start(|| disconnect(domain, kind)).code(), 0, "domain {domain}, type {kind}");
        }
    }
    assert_eq!(bed.start(|| connect(libc::SOCK_DGRAM, "127.0.0.1:9".parse().unwrap())).code(), libc::EPERM);
    assert_eq!(records.all().len(), 1, "and is not reported");
    records.verify();
}

#[test]
fn host_cgroup_ipv6_mapped_and_unspecified_addresses_do_not_get_round_a_rule() {
    let (v4, of_v4) = tcp_server("127.0.0.1:0");
    let (v6, of_v6) = tcp_server("[::1]:0");
    let rules = vec![
        to(Action::Block, Some(("127.0.0.0", 8)), Some((of_v4.port(), of_v4.port())), None),
        to(Action::Block, Some(("::1", 128)), Some((of_v6.port(), of_v6.port())), None),
    ];
    let (bed, _programs, mut records) = held("v6", rules);
    let mapped = SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), of_v4.port());
    let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), of_v4.port());
    let unspecified_v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), of_v6.port());
    for address in [of_v4, of_v6, mapped, unspecified, unspecified_v6] {
        assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM, "{address}");
    }
    assert_eq!((accepted(&v4), accepted(&v6)), (0, 0));
    for address in [of_v4, of_v6, mapped, unspecified, unspecified_v6] {
        assert_eq!(start(|| connect(TCP, address)).code(), 0, "{address} from outside");
    }
    assert_eq!((accepted(&v4), accepted(&v6)), (3, 2));
    assert_eq!(records.all().len(), 5);
    records.verify();
}

#[test]
fn host_cgroup_decides_by_the_last_bit_of_the_address_and_of_the_port() {
    let servers: Vec<_> = ["127.7.7.2:0", "127.7.7.3:0", "127.7.7.130:0"].map(tcp_server).into();
    let rules = vec![to(Action::Block, Some(("127.7.7.2", 32)), None, None)];
    let (bed, _programs, _records) = held("last", rules);
    let results: Vec<_> = servers.iter().map(|(_, address)| bed.start(|| connect(TCP, *address)).code()).collect();
    assert_eq!(results, [libc::EPERM, 0, 0]);
    let (low, of_low) = tcp_server("127.0.0.1:21000");
    let (high, of_high) = tcp_server("127.0.0.1:21001");
    let (bed, _programs, _records) = held("last", vec![to(Action::Block, None, Some((21001, 21001)), None)]);
    assert_eq!(bed.start(|| connect(TCP, of_low)).code(), 0);
    assert_eq!(bed.start(|| connect(TCP, of_high)).code(), libc::EPERM);
    assert_eq!((accepted(&low), accepted(&high)), (1, 0));
    let v6: SocketAddr = "[::1]:21001".parse().unwrap();
    let (bed, _programs, _records) = held("last", vec![to(Action::Block, Some(("::2", 127)), None, None)]);
    assert_eq!(bed.start(|| connect(libc::SOCK_DGRAM, v6)).code(), 0, "::1 is not in ::2/127");
    let inside: SocketAddr = "[::3]:21001".parse().unwrap();
    assert_eq!(bed.start(|| connect(libc::SOCK_DGRAM, inside)).code(), libc::EPERM, "::3 is");
}

#[test]
fn host_cgroup_datagrams_to_a_denied_destination_do_not_leave() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let receiver_v6 = UdpSocket::bind("[::1]:0").unwrap();
    let (to_v4, to_v6) = (receiver.local_addr().unwrap(), receiver_v6.local_addr().unwrap());
    let rules = [to_v4, to_v6].map(|a| to(Action::Block, None, Some((a.port(), a.port())), Some(Transport::Udp)));
    let (bed, _programs, mut records) = held("udp", rules.into());
    for address in [to_v4, to_v6] {
        assert_eq!(bed.start(|| send(address)).code(), libc::EPERM, "{address}");
        assert_eq!(bed.start(|| connect(libc::SOCK_DGRAM, address)).code(), libc::EPERM, "{address}");
    }
    for socket in [&receiver, &receiver_v6] {
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(start(|| send(to_v4)).code(), 0);
    assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 1);
    let operations: Vec<_> = records
        .all()
        .iter()
        .map(|record| match record.body {
            Body::Connect(network) => network.operation,
            other => panic!("{other:?}"),
        })
        .collect();
    let (send, connect) = (NetworkOperation::Send, NetworkOperation::Connect);
    assert_eq!(operations.iter().filter(|o| **o == send).count(), 2);
    assert_eq!(operations.iter().filter(|o| **o == connect).count(), 2);
    records.verify();
}

fn socket(domain: i32, kind: i32, protocol: i32) -> i32 {
    errno_of(calls::socket(domain, kind, protocol))
}

#[test]
fn host_cgroup_denied_sockets_are_not_made() {
    let shape = SocketShape { domain: None, kind: Some(3), protocol: None };
    let raw = Matcher::Socket(SocketMatch { name: "raw".into(), any_of: vec![shape], pts: None });
    let (bed, _programs, mut records) = held("socket", vec![rule(Action::Block, raw)]);
    assert_eq!(bed.start(|| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)).code(), libc::EPERM);
    assert_eq!(
        bed.start(|| socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMPV6)).code(),
        libc::EPERM
    );
    assert_eq!(bed.start(|| socket(libc::AF_INET, libc::SOCK_DGRAM, 0)).code(), 0);
    assert_eq!(start(|| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)).code(), 0);
    let all = records.all();
    let mut seen: Vec<_> = all
        .iter()
        .map(|record| match record.body {
            Body::Socket(network) => (network.domain, network.socket_type, network.protocol, network.destination),
            other => panic!("{other:?}"),
        })
        .collect();
    // The two processes may have run on different CPUs, whose rings are read one after the other.
    seen.sort_unstable();
    assert_eq!(seen, [(2, 3, 1, None), (10, 3, 58, None)]);
    assert!(all.iter().all(|r| r.decision.is_some_and(|d| d.family == Family::Socket && d.outcome == Outcome::Denied)));
    records.verify();
}

/// From a terminal of the child's own.
fn at_terminal(act: impl FnOnce() -> i32) -> i32 {
    if calls::take_terminal() == 0 { 253 } else { act() }
}

#[test]
fn host_cgroup_rules_that_spare_who_has_no_terminal_block_who_has_one() {
    let shape = SocketShape { domain: None, kind: Some(3), protocol: None };
    let raw = Matcher::Socket(SocketMatch { name: "raw".into(), any_of: vec![shape], pts: Some(false) });
    let (bed, _programs, mut records) = held("pts", vec![rule(Action::Block, raw)]);
    let act = || socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    assert_eq!(bed.start(act).code(), 0);
    assert_eq!(bed.start(|| at_terminal(act)).code(), libc::EPERM);
    // A session of its own has none, wherever it was started.
    let without = || {
        // SAFETY: takes nothing; the child leads no process group.
        unsafe { libc::setsid() };
        act()
    };
    assert_eq!(bed.start(|| at_terminal(|| start(without).code())).code(), 0);
    let all = records.all();
    let [record] = all.as_slice() else { panic!("{all:?}") };
    assert!(record.decision.is_some_and(|d| d.outcome == Outcome::Denied && d.family == Family::Socket));
    records.verify();
}

#[test]
fn host_cgroup_audited_connect_happens_and_is_observed() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let (bed, _programs, mut records) = held("audit", vec![to(Action::Audit, Some(("127.0.0.0", 8)), None, None)]);
    assert_eq!(bed.start(|| connect(TCP, address)).code(), 0);
    assert_eq!(accepted(&listener), 1);
    let all = records.all();
    let [record] = all.as_slice() else { panic!("{all:?}") };
    assert!(record.decision.is_some_and(|d| d.outcome == Outcome::Observed && d.tier == Tier::CgroupBpf));
    records.verify();
}

#[test]
fn host_cgroup_rules_with_a_source_hold_for_that_executable_only() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let own = std::env::current_exe().unwrap().canonicalize().unwrap().to_str().unwrap().to_owned();
    for (source, expected) in [(own, libc::EPERM), ("/usr/bin/other".to_owned(), 0)] {
        let block = Rule { sources: BTreeSet::from([source]), ..to(Action::Block, Some(("127.0.0.0", 8)), None, None) };
        let (bed, _programs, _records) = held("source", vec![block]);
        assert_eq!(bed.start(|| connect(TCP, address)).code(), expected);
    }
    assert_eq!(accepted(&listener), 1);
}

#[test]
fn host_cgroup_a_socket_made_inside_is_held_in_child_cgroups_too() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let (bed, _programs, _records) = held("child", vec![to(Action::Block, Some(("127.0.0.0", 8)), None, None)]);
    let inner = bed.cgroup.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let procs = inner.join("cgroup.procs");
    let child = bed.start(|| {
        let socket = calls::socket(libc::AF_INET, TCP, 0);
        if std::fs::write(&procs, "0").is_err() {
            return 254;
        }
        errno_of(calls::connect(socket, &raw(address)))
    });
    // Its slot is known by what the task keeps; where these programs cannot read that, the child cgroup must be registered, as
    // identity.bpf.c sees to, which is not loaded here.
    let expected = if _programs.keeps_identity() { libc::EPERM } else { 0 };
    let code = child.code();
    for _ in 0..100 {
        if std::fs::remove_dir(&inner).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(code, expected);
    assert_eq!(accepted(&listener), usize::from(expected == 0));
}

#[test]
fn host_cgroup_links_hold_without_their_loader_and_are_there_while_their_family_is_decided() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let (bed, programs, _records) = held("pins", vec![to(Action::Block, Some(("127.0.0.0", 8)), None, None)]);
    drop(programs);
    assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM);
    let again = CgroupPrograms::load(palisade_bpf::CGROUP, &bed.pins).unwrap();
    assert_eq!(again.attached().len(), 6);
    again.renew(u32::MAX).expect("attaching again replaces");
    assert_eq!(std::fs::read_dir(bed.pins.join("cgroup")).unwrap().count(), 6);
    assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM);
    let of = |family: blob::Family| 1 << family as u32;
    again.rest(of(blob::Family::Connect));
    assert_eq!(again.attached(), ["judge_connect4", "judge_connect6", "judge_sendmsg4", "judge_sendmsg6"]);
    assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM);
    again.rest(of(blob::Family::Dns) | of(blob::Family::File));
    again.rest(0);
    assert!(again.attached().is_empty(), "resting again is harmless");
    assert_eq!(bed.start(|| connect(TCP, address)).code(), 0);
    assert_eq!(accepted(&listener), 1);
    again.ensure(of(blob::Family::Dns) | of(blob::Family::Socket)).unwrap();
    assert_eq!(again.attached(), ["judge_sock_create", "judge_question"]);
}

#[test]
fn host_cgroup_links_that_this_version_cannot_replace_are_taken_away() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let (bed, programs, _records) = held("abandon", vec![to(Action::Block, Some(("127.0.0.0", 8)), None, None)]);
    drop(programs);
    assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM);
    // An earlier version had a directory for each workload.
    let earlier = bed.pins.join("cgroup_unknown/7");
    std::fs::create_dir_all(&earlier).unwrap();
    std::fs::rename(bed.pins.join("cgroup/judge_connect4"), earlier.join("judge_connect4")).unwrap();
    assert_eq!(bed.start(|| connect(TCP, address)).code(), libc::EPERM);
    CgroupPrograms::abandon(&bed.pins).unwrap();
    CgroupPrograms::abandon(&bed.pins).expect("again is harmless");
    assert_eq!(bed.start(|| connect(TCP, address)).code(), 0);
    assert_eq!(accepted(&listener), 1);
}

#[test]
fn host_cgroup_a_socket_from_elsewhere_is_its_users_and_who_left_is_held() {
    let (listener, address) = tcp_server("127.0.0.1:0");
    let (bed, programs, mut records) = held("elsewhere", vec![to(Action::Block, Some(("127.0.0.0", 8)), None, None)]);
    let passed = calls::socket(libc::AF_INET, TCP, 0);
    assert_eq!(bed.start(|| errno_of(calls::connect(passed, &raw(address)))).code(), libc::EPERM, "made outside");
    assert_eq!(errno_of(calls::connect(passed, &raw(address))), 0, "its maker may");
    calls::close(passed);
    assert_eq!(accepted(&listener), 1);
    if programs.keeps_identity() {
        let outside = bed.cgroup.parent().unwrap().join("cgroup.procs");
        let leaver = bed.start(|| {
            // The first act makes the task known.
            let first = connect(TCP, address);
            if std::fs::write(&outside, "0").is_err() {
                return 254;
            }
            if first == libc::EPERM { connect(TCP, address) } else { 253 }
        });
        assert_eq!(leaver.code(), libc::EPERM);
        assert_eq!(accepted(&listener), 0);
    }
    records.verify();
}

/// This test again, alone, after the shell's commands.
fn again_after(test: &str, commands: &str) {
    let own = std::env::current_exe().unwrap();
    let script = format!("{commands}\nexec \"$0\" --exact {test} --nocapture");
    let status = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .arg(own)
        .env("PALISADE_AGAIN", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} after {commands}");
}

#[test]
fn host_cgroup_without_the_unified_hierarchys_root_the_programs_say_what_is_missing() {
    let test = "host_cgroup_without_the_unified_hierarchys_root_the_programs_say_what_is_missing";
    if std::env::var_os("PALISADE_AGAIN").is_none() {
        let bed = Bed::new("noroot");
        let unmount = "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts | xargs -r -n1 umount -l";
        again_after(test, unmount);
        let part = "mkdir -p /run/palisade-test-cgroup; mount -t cgroup2 none /run/palisade-test-cgroup";
        let inside = format!("echo 0 > {}/cgroup.procs", bed.cgroup.display());
        again_after(
            test,
            &format!(
                "{inside}\n{unmount}\nexec unshare --cgroup sh -ec '{part}; exec \"$0\" --exact {test} --nocapture' \"$0\""
            ),
        );
        let _empty = std::fs::remove_dir("/run/palisade-test-cgroup");
        return;
    }
    let pins = std::path::PathBuf::from(format!("/sys/fs/bpf/palisade-test-noroot-{}", std::process::id()));
    let refused = CgroupPrograms::load(palisade_bpf::CGROUP, &pins).expect_err("there is no root").to_string();
    let _gone = std::fs::remove_dir_all(&pins);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let part = mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let expected = if part { "is not the root of the unified hierarchy" } else { "no cgroup2 file system is mounted" };
    assert!(refused.contains(expected), "{refused}");
}
