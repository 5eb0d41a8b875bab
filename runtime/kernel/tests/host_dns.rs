//! Host ring: questions for names are refused in the packets that carry them, and nothing of them arrives. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    time::Duration,
};

use palisade_domain::{Action, Posture};
use palisade_kernel::{cgroup::CgroupPrograms, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::record::{Body, Dns, FailReason, Family, Outcome, Record, Tier};
use palisade_policy::ir::{DnsMatch, Matcher, Rule};
use probe_bed::{
    Bed, Records, blob_with, calls,
    raw::{Ring, bytes},
    rule, start,
};

/// Addresses of this host alone; port 53 needs root, which these tests have.
const V4: &str = "127.53.53.1:53";
const V6: &str = "[::1]:53";
/// A datagram over loopback is there when the call that sent it is back; a stream's bytes as well, but for the scheduler.
const SOON: Duration = Duration::from_millis(300);

fn held(name: &str, rules: Vec<Rule>, posture: Posture) -> (Bed, CgroupPrograms, Records) {
    let mut bed = Bed::new(name);
    let programs = CgroupPrograms::load(palisade_bpf::CGROUP, &bed.pins).expect("the programs load");
    assert_eq!(programs.without_questions(), None);
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(0);
    bed.install(9, &blob_with(rules, posture));
    programs.renew(u32::MAX).expect("the root takes links");
    (bed, programs, records)
}

fn name(action: Action, domain: &str) -> Rule {
    rule(action, Matcher::Dns(DnsMatch { domain: domain.to_owned() }))
}

fn blocked() -> Vec<Rule> {
    vec![name(Action::Block, "blocked.example")]
}

/// A question for the labels, of type A.
fn query(labels: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label);
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

fn ask(domain: &str) -> Vec<u8> {
    query(&domain.split('.').map(str::as_bytes).collect::<Vec<_>>())
}

/// As TCP carries it.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

fn server(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("port 53 is free");
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// What has arrived.
fn arrived(server: &UdpSocket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = server.recv(&mut buffer) {
        all.push(buffer[..length].to_vec());
    }
    all
}

fn code_of(result: std::io::Result<usize>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(254), |_| 0)
}

/// Sends over a new socket; 0 or errno.
fn send(server: SocketAddr, message: &[u8], connected: bool) -> i32 {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let Ok(socket) = UdpSocket::bind(any) else { return 253 };
    if !connected {
        return code_of(socket.send_to(message, server));
    }
    match socket.connect(server) {
        Ok(()) => code_of(socket.send(message)),
        Err(error) => error.raw_os_error().unwrap_or(254),
    }
}

fn question<'a>(record: &Record<'a>) -> Dns<'a> {
    let Body::Dns(dns) = record.body else { panic!("{record:?}") };
    dns
}

fn said(record: &Record<'_>) -> String {
    String::from_utf8(question(record).name.bytes.to_vec()).unwrap()
}

#[test]
fn host_dns_questions_for_a_blocked_domain_and_below_it_do_not_leave() {
    for address in [V4, V6] {
        let server = server(address);
        let to = server.local_addr().unwrap();
        let (bed, _programs, mut records) = held("dns", blocked(), Posture::Audit);
        let denied = ["blocked.example", "a.blocked.example", "deep.er.blocked.example", "BlOcKeD.eXaMpLe"];
        let permitted = ["example", "notblocked.example", "blocked.example.org", "blocked", "examplee"];
        for connected in [false, true] {
            for domain in denied {
                let message = ask(domain);
                assert_eq!(bed.start(|| send(to, &message, connected)).code(), libc::EPERM, "{domain} at {address}");
            }
            assert!(arrived(&server).is_empty(), "the effect is absent");
            for domain in permitted {
                let message = ask(domain);
                assert_eq!(bed.start(|| send(to, &message, connected)).code(), 0, "{domain} at {address}");
            }
            assert_eq!(arrived(&server).len(), permitted.len());
        }
        let message = ask(denied[0]);
        assert_eq!(start(|| send(to, &message, false)).code(), 0, "no other cgroup is held");
        let all = records.all();
        assert_eq!(all.len(), 2 * denied.len());
        for record in &all {
            let decision = record.decision.unwrap();
            assert_eq!(
                (decision.tier, decision.outcome, decision.family, decision.fail_reason),
                (Tier::CgroupBpf, Outcome::Denied, Family::Dns, FailReason::None)
            );
            let dns = question(record);
            assert_eq!((dns.server, dns.transport), (Some((to.ip(), 53)), 17));
            assert_eq!((dns.query_type, dns.id, dns.no_task), (1, 0x1234, false));
            assert!(denied.contains(&said(record).as_str()), "as it was sent: {}", said(record));
        }
        records.verify();
    }
}

#[test]
fn host_dns_an_allow_list_leaves_the_rest_to_the_posture() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let (bed, _programs, mut records) = held("dnsallow", vec![name(Action::Allow, "good.example")], Posture::Block);
    for (domain, expected) in [("good.example", 0), ("x.good.example", 0), ("other.example", libc::EPERM)] {
        let message = ask(domain);
        assert_eq!(bed.start(|| send(to, &message, false)).code(), expected, "{domain}");
    }
    // A label may hold any byte: one that says "good.example" is not two.
    let odd = query(&[b"good/example"]);
    assert_eq!(bed.start(|| send(to, &odd, false)).code(), libc::EPERM);
    let nul = query(&[b"go\0od", b"example"]);
    assert_eq!(bed.start(|| send(to, &nul, false)).code(), libc::EPERM);
    assert_eq!(arrived(&server).len(), 2);
    assert!(records.all().iter().all(|record| record.decision.is_some_and(|d| d.outcome == Outcome::Denied)));
}

#[test]
fn host_dns_an_audited_name_is_asked_for_and_observed() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let (bed, _programs, mut records) = held("dnsaudit", vec![name(Action::Audit, "seen.example")], Posture::Audit);
    let message = ask("seen.example");
    assert_eq!(bed.start(|| send(to, &message, false)).code(), 0);
    assert_eq!(arrived(&server), [message]);
    let all = records.all();
    let [record] = all.as_slice() else { panic!("{all:?}") };
    assert!(record.decision.is_some_and(|d| d.outcome == Outcome::Observed && d.family == Family::Dns));
}

#[test]
fn host_dns_rules_with_a_source_hold_for_that_executable_only() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let own = std::env::current_exe().unwrap().canonicalize().unwrap().to_str().unwrap().to_owned();
    let message = ask("blocked.example");
    for (source, expected) in [(own, libc::EPERM), ("/usr/bin/other".to_owned(), 0)] {
        let block = Rule { sources: BTreeSet::from([source]), ..name(Action::Block, "blocked.example") };
        let (bed, _programs, _records) = held("dnssource", vec![block], Posture::Audit);
        assert_eq!(bed.start(|| send(to, &message, false)).code(), expected);
    }
    assert_eq!(arrived(&server).len(), 1);
}

/// (what it is, the datagram)
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let label = [b'a'; 63];
    let long: Vec<&[u8]> = std::iter::repeat_n(&label[..], 4).chain([&b"blocked"[..], b"example"]).collect();
    let mut pointer = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    pointer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    let mut reserved = ask("blocked.example");
    reserved[12] = 0x47;
    let mut two = ask("good.example");
    two[5] = 2;
    let mut cut = ask("blocked.example");
    cut.truncate(20);
    vec![
        ("nothing", Vec::new()),
        ("less than a head", vec![0; 11]),
        ("a head alone", vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("a compressed name", pointer),
        ("a label of a reserved kind", reserved),
        ("a name of more than 255 bytes", query(&long)),
        ("two questions", two),
        ("a name that is cut off", cut),
        ("not DNS", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        ("noise", (0..600_u32).map(|i| u8::try_from(i * 7 % 251).unwrap() | 1).collect()),
    ]
}

#[test]
fn host_dns_what_cannot_be_read_takes_the_fail_mode() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let (mut bed, _programs, mut records) = held("dnsodd", blocked(), Posture::Audit);
    let mut told = 0;
    for refuses in [false, true] {
        if refuses {
            bed.refuse_on_failure();
        }
        for (what, message) in unreadable() {
            let expected = if refuses { libc::EPERM } else { 0 };
            let code = bed.start(|| send(to, &message, false)).code();
            assert_eq!((code, arrived(&server).len()), (expected, usize::from(!refuses)), "{what}");
            told += 1;
            let all = records.all();
            assert_eq!(all.len(), told, "{what}");
            let newest = all.iter().max_by_key(|record| record.header.boot_ns).unwrap();
            let decision = newest.decision.unwrap();
            let outcome = if refuses { Outcome::Denied } else { Outcome::Observed };
            assert_eq!((decision.fail_reason, decision.outcome), (FailReason::Unreadable, outcome), "{what}");
        }
    }
}

#[test]
fn host_dns_what_is_no_question_passes_without_a_word() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let (mut bed, _programs, mut records) = held("dnsno", blocked(), Posture::Audit);
    bed.refuse_on_failure();
    let mut answer = ask("blocked.example");
    answer[2] |= 0x80;
    let mut empty = ask("blocked.example");
    empty[5] = 0;
    for message in [answer, empty, query(&[])] {
        assert_eq!(bed.start(|| send(to, &message, false)).code(), 0);
    }
    let elsewhere = UdpSocket::bind("127.53.53.1:5353").unwrap();
    let other = elsewhere.local_addr().unwrap();
    let message = ask("blocked.example");
    assert_eq!(bed.start(|| send(other, &message, false)).code(), 0, "another port is a gap that is stated");
    assert_eq!(arrived(&server).len(), 3);
    assert!(records.all().is_empty());
}

fn stream_server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(V4).expect("port 53 is free");
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Writes the parts one by one, each in a packet of its own, and waits so long that what is refused would have arrived.
fn write_parts(server: SocketAddr, parts: &[Vec<u8>]) -> i32 {
    let Ok(mut stream) = TcpStream::connect(server) else { return 253 };
    if stream.set_nodelay(true).is_err() {
        return 252;
    }
    for part in parts {
        if stream.write_all(part).is_err() {
            return 251;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(2 * SOON);
    0
}

/// What a stream brings before it is silent.
fn read_stream(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What of the parts arrives, and what the records say.
fn over_tcp(bed: &Bed, parts: &[Vec<u8>]) -> Vec<u8> {
    let (listener, address) = stream_server();
    let child = bed.start(|| write_parts(address, parts));
    let read = read_stream(&listener);
    assert_eq!(child.code(), 0);
    read
}

#[test]
fn host_dns_over_tcp_a_blocked_question_never_arrives_and_is_told_once() {
    let (good, bad) = (framed(&ask("good.example")), framed(&ask("a.Blocked.example")));
    let (bed, _programs, mut records) = held("dnstcp", blocked(), Posture::Audit);
    assert_eq!(over_tcp(&bed, &[good.clone(), good.clone()]), [good.clone(), good.clone()].concat());
    assert!(records.all().is_empty());
    assert!(over_tcp(&bed, std::slice::from_ref(&bad)).is_empty());
    {
        let all = records.all();
        let [record] = all.as_slice() else { panic!("the kernel sends it again, the record comes once: {all:?}") };
        let dns = question(record);
        assert_eq!(
            (said(record).as_str(), dns.transport, dns.server),
            ("a.Blocked.example", 6, Some((V4.parse::<SocketAddr>().unwrap().ip(), 53)))
        );
        assert!(record.decision.is_some_and(|d| d.outcome == Outcome::Denied && d.family == Family::Dns));
    }
    // The second question of one packet, and of a stream whose first was permitted.
    assert!(over_tcp(&bed, &[[good.clone(), bad.clone()].concat()]).is_empty());
    assert_eq!(over_tcp(&bed, &[good.clone(), bad.clone()]), good);
    // A message that a later packet goes on with is judged by its beginning; what follows it as well.
    let mut long = ask("good.example");
    long.extend_from_slice(&[0; 100]);
    let long = framed(&long);
    let (head, rest) = long.split_at(60);
    let parts = [head.to_vec(), [rest, bad.as_slice()].concat()];
    assert_eq!(over_tcp(&bed, &parts), head);
    records.verify();
}

#[test]
fn host_dns_over_tcp_a_question_in_pieces_takes_the_fail_mode() {
    let bad = framed(&ask("blocked.example"));
    let pieces: Vec<Vec<u8>> = bad.chunks(1).map(<[u8]>::to_vec).collect();
    for cut in [1, 2, 10, 20] {
        let (head, rest) = bad.split_at(cut);
        let (mut bed, _programs, mut records) = held("dnspieces", blocked(), Posture::Audit);
        bed.refuse_on_failure();
        assert!(over_tcp(&bed, &[head.to_vec(), rest.to_vec()]).is_empty(), "cut at {cut}");
        let all = records.all();
        assert!(
            !all.is_empty() && all.iter().all(|r| r.decision.is_some_and(|d| d.fail_reason == FailReason::Unreadable))
        );
    }
    let (bed, _programs, mut records) = held("dnspieces", blocked(), Posture::Audit);
    assert_eq!(over_tcp(&bed, &pieces), bad, "where the fail mode permits");
    assert!(records.all().iter().any(|r| r.decision.is_some_and(|d| d.fail_reason == FailReason::Unreadable)));
}

/// Sends out of a file's own pages, in which something else stands by the time that the server reads them. 0 or errno.
fn send_pages(server: SocketAddr, transport: u8, file: &File, meant: &[u8]) -> i32 {
    let code = if transport == 6 {
        let Ok(stream) = TcpStream::connect(server) else { return 253 };
        let code = calls::send_file(&stream, file, meant.len());
        let changed = file.write_all_at(meant, 0).is_ok();
        std::thread::sleep(2 * SOON);
        if changed { code } else { 252 }
    } else {
        let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return 251 };
        if socket.connect(server).is_err() {
            return 250;
        }
        calls::send_file(&socket, file, meant.len())
    };
    if file.write_all_at(meant, 0).is_ok() { code } else { 249 }
}

fn file_of(bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!("palisade-dns-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn host_dns_a_question_in_pages_that_can_still_be_written_takes_the_fail_mode() {
    let (sent, meant) = (ask("allowed.example"), ask("blocked.example"));
    for refuses in [false, true] {
        let (mut bed, _programs, mut records) = held("dnspages", blocked(), Posture::Audit);
        if refuses {
            bed.refuse_on_failure();
        }
        let (udp, file) = (server(V4), file_of(&sent));
        let to = udp.local_addr().unwrap();
        let code = bed.start(|| send_pages(to, 17, &file, &meant)).code();
        assert_eq!(code, if refuses { libc::EPERM } else { 0 });
        assert_eq!(arrived(&udp).len(), usize::from(!refuses));
        let (listener, address) = stream_server();
        let (file, meant) = (file_of(&framed(&sent)), framed(&meant));
        assert_eq!(bed.start(|| send_pages(address, 6, &file, &meant)).code(), 0);
        assert_eq!(read_stream(&listener).is_empty(), refuses);
        let all = records.all();
        let outcome = if refuses { Outcome::Denied } else { Outcome::Observed };
        assert_eq!(all.len(), 2, "{all:?}");
        for record in &all {
            let decision = record.decision.unwrap();
            assert_eq!((decision.fail_reason, decision.outcome), (FailReason::Unreadable, outcome));
        }
    }
}

/// As `write_parts`, but for the last byte of the first part, which is sent out of band: whoever reads the stream does not get it.
fn write_with_urgent_byte(server: SocketAddr, first: &[u8], rest: &[u8]) -> i32 {
    let Ok(mut stream) = TcpStream::connect(server) else { return 253 };
    if calls::send_urgent(&stream, first) != 0 {
        return 252;
    }
    std::thread::sleep(Duration::from_millis(20));
    let code = i32::from(stream.write_all(rest).is_err());
    std::thread::sleep(2 * SOON);
    code
}

#[test]
fn host_dns_over_tcp_a_byte_out_of_band_moves_no_question_out_of_sight() {
    let mut first = ask("good.example");
    first.extend_from_slice(&[1; 20]);
    let first = framed(&first);
    let mut second = ask("blocked.example");
    // To who is one byte off, this says that it is an answer.
    second[1] = 0x80;
    let stream = [first, framed(&second)].concat();
    let (head, rest) = stream.split_at(44);
    for refuses in [false, true] {
        let (mut bed, _programs, mut records) = held("dnsurgent", blocked(), Posture::Audit);
        if refuses {
            bed.refuse_on_failure();
        }
        let (listener, address) = stream_server();
        let urgent = [head, &[0]].concat();
        let child = bed.start(|| write_with_urgent_byte(address, &urgent, rest));
        let read = read_stream(&listener);
        assert_eq!(child.code(), 0);
        assert_eq!(read, if refuses { Vec::new() } else { stream.clone() });
        let all = records.all();
        assert!(
            !all.is_empty() && all.iter().all(|r| r.decision.is_some_and(|d| d.fail_reason == FailReason::Unreadable)),
            "{all:?}"
        );
    }
}

#[test]
fn host_dns_sends_by_a_ring_and_its_workers_are_no_way_round() {
    let server = server(V4);
    let to = server.local_addr().unwrap();
    let (bed, _programs, mut records) = held("dnsring", blocked(), Posture::Audit);
    for (domain, arrives) in [("blocked.example", 0), ("good.example", 1)] {
        // In the submitter's own turn, and by a worker.
        for flags in [0, 1 << 4] {
            let message = ask(domain);
            let child = bed.start(|| {
                let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return 253 };
                let Ok(mut ring) = Ring::set_up() else { return 77 };
                if socket.connect(to).is_err() {
                    return 252;
                }
                let mut request = [0_u8; 64];
                request[0] = 26; // IORING_OP_SEND
                request[1] = flags;
                request[4..8].copy_from_slice(&socket.as_raw_fd().to_ne_bytes());
                request[16..24].copy_from_slice(&bytes(&message).to_ne_bytes());
                request[24..28].copy_from_slice(&u32::try_from(message.len()).unwrap().to_ne_bytes());
                i32::from(ring.submit(&request) != 1)
            });
            assert_eq!(child.code(), 0, "77: this kernel refuses io_uring");
            assert_eq!(arrived(&server).len(), arrives, "{domain}");
        }
    }
    let all = records.all();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|record| said(record) == "blocked.example" && !question(record).no_task));
}

#[test]
fn host_dns_an_address_that_maps_ipv4_is_the_same_server() {
    let server = server(V4);
    let IpAddr::V4(v4) = server.local_addr().unwrap().ip() else { panic!("it is of IPv4") };
    let mapped = SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), 53);
    let (bed, _programs, mut records) = held("dnsmapped", blocked(), Posture::Audit);
    let message = ask("blocked.example");
    let child = bed.start(|| match UdpSocket::bind("[::]:0") {
        Ok(socket) => code_of(socket.send_to(&message, mapped)),
        Err(_) => 253,
    });
    assert_eq!(child.code(), libc::EPERM);
    assert!(arrived(&server).is_empty());
    let all = records.all();
    let [record] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(question(record).server, Some((v4.into(), 53)));
}
