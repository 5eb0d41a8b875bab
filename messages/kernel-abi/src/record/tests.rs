//! What the decoder promises: every record that the writer writes comes back the same, and no bytes make it panic, allocate
//! without bound or read outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*};

use super::*;

const EXE: Text<'_> = Text { bytes: b"/usr/bin/sleep", cut: false, user: false, unreadable: false };

fn header() -> Header {
    Header {
        sequence: 7,
        producer: 1,
        slot: 3,
        boot_ns: 1 << 40,
        cgroup_id: 4242,
        task_start_ns: 11,
        parent_start_ns: 12,
        tgid: 100,
        tid: 101,
        parent_tgid: 99,
        uid: 1000,
        euid: 1001,
        fsuid: 1002,
        gid: 1003,
        mnt_ns: 0xf000_0001,
        pid_ns: 0xf000_0002,
        phase: Phase::Workload,
        call: Some(CallNumber { number: 257, is_compat: true }),
        comm: *b"sleep\0\0\0\0\0\0\0\0\0\0\0",
    }
}

fn exec() -> Record<'static> {
    let argument_bytes = Text { bytes: b"sleep\x0010\0", cut: false, user: true, unreadable: false };
    let exec = Exec {
        path: EXE,
        cwd: Text { bytes: b"/", ..Text::default() },
        argument_bytes,
        argument_count: 2,
        tty: 0x8801,
        script: Script::Interpreted { path: Text { user: true, ..EXE }, count: 2 },
    };
    Record { header: header(), body: Body::Exec(exec), decision: None }
}

fn denied() -> DecisionTaken {
    DecisionTaken {
        policy: 5,
        generation: 6,
        word: 0x0000_0102,
        tier: Tier::BpfLsm,
        outcome: Outcome::Denied,
        fail_reason: FailReason::None,
        family: Family::Process,
    }
}

fn written(record: &Record<'_>) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    writer.write(record).unwrap();
    writer.into_bytes()
}

fn only(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let mut reader = RecordReader::new(bytes);
    let first = reader.next().unwrap();
    assert!(reader.next().is_none());
    first
}

#[test]
fn unit_record_exec_with_decision_comes_back_as_written() {
    let record = Record { decision: Some(denied()), ..exec() };
    let bytes = written(&record);
    assert_eq!(bytes.len(), (128 + 48 + 14 + 1 + 9 + 14_usize).next_multiple_of(8));
    assert_eq!(only(&bytes), Ok(record));
    let Body::Exec(exec) = record.body else { unreachable!("it was written as an exec") };
    assert_eq!(exec.arguments().collect::<Vec<_>>(), [b"sleep".as_slice(), b"10"]);
    assert_eq!(record.header.comm_bytes(), b"sleep");
}

/// A record without a script as version 1 had it.
fn of_version_1(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = written(record);
    bytes.drain(160..176);
    let len = u32::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&1_u16.to_ne_bytes());
    bytes[4..8].copy_from_slice(&len.to_ne_bytes());
    for span in [128, 136, 144] {
        let offset = u32::from_ne_bytes(*bytes[span..].first_chunk().unwrap());
        bytes[span..span + 4].copy_from_slice(&(offset - 16).to_ne_bytes());
    }
    bytes
}

#[test]
fn unit_record_exec_of_version_1_is_read_and_tells_nothing_of_scripts() {
    let Body::Exec(now) = exec().body else { unreachable!("it is an exec") };
    let without = Record { body: Body::Exec(Exec { script: Script::None, ..now }), ..exec() };
    let mut bytes = of_version_1(&without);
    let untold = Record { body: Body::Exec(Exec { script: Script::Untold, ..now }), ..exec() };
    assert_eq!(only(&bytes), Ok(untold));
    // Strings may begin where version 2 has its script.
    assert_eq!(bytes[128..132], 160_u32.to_ne_bytes());
    assert_eq!(redact_arguments(&mut bytes), Ok(true));
    let Body::Exec(redacted) = only(&bytes).unwrap().body else { unreachable!("it is an exec") };
    assert_eq!((redacted.path, redacted.argument_bytes.bytes), (now.path, &[][..]));
    bytes[2..4].copy_from_slice(&2_u16.to_ne_bytes());
    assert!(only(&bytes).is_err(), "strings of version 2 begin behind its script");
}

#[test]
fn unit_record_exec_tells_a_script_apart_from_none_and_from_silence() {
    for script in [
        Script::None,
        Script::Untold,
        Script::Interpreted { path: EXE, count: 1 },
        Script::Interpreted { path: Text { user: true, ..EXE }, count: 0 },
        Script::Interpreted { path: Text { bytes: b"", cut: true, user: true, unreadable: false }, count: 0 },
    ] {
        let Body::Exec(now) = exec().body else { unreachable!("it is an exec") };
        let record = Record { body: Body::Exec(Exec { script, ..now }), ..exec() };
        assert_eq!(only(&written(&record)), Ok(record));
    }
}

#[test]
fn unit_record_arguments_keep_empty_ones_and_a_cut_tail() {
    let all = |bytes, count| Arguments::new(bytes, count).collect::<Vec<_>>();
    assert_eq!(all(b"a\0\0c\0".as_slice(), 3), [b"a".as_slice(), b"", b"c"]);
    assert_eq!(all(b"a\0bc", 9), [b"a".as_slice(), b"bc"]);
    assert_eq!(all(b"a\0b\0", 1), [b"a".as_slice()]);
    assert!(all(b"", 4).is_empty());
}

#[test]
fn unit_record_reader_goes_on_after_a_record_of_unknown_kind() {
    let mut bytes = written(&exec());
    let len = bytes.len();
    bytes[0] = 99;
    bytes.extend(written(&exec()));
    let read: Vec<_> = RecordReader::new(&bytes).collect();
    assert_eq!(read, [Err(RecordError::Kind { kind: 99 }), Ok(exec())]);
    assert!(len < bytes.len());
}

#[test]
fn unit_record_reader_ends_where_the_length_cannot_be_believed() {
    for len in [0_u32, 8, 120, 127, 129, 16392, u32::MAX] {
        let mut bytes = written(&exec());
        bytes[4..8].copy_from_slice(&len.to_ne_bytes());
        bytes.extend(written(&exec()));
        let read: Vec<_> = RecordReader::new(&bytes).collect();
        assert_eq!(read, [Err(RecordError::Length { len })]);
        assert!(read[0].is_err_and(|e| e.ends_batch()));
    }
}

#[test]
fn unit_record_every_truncation_is_an_error() {
    let bytes = written(&Record { decision: Some(denied()), ..exec() });
    for end in 1..bytes.len() {
        let read: Vec<_> = RecordReader::new(&bytes[..end]).collect();
        assert!(matches!(read.as_slice(), [Err(RecordError::Truncated { .. })]), "{end}: {read:?}");
    }
}

/// (field, offset, bytes that are out of range)
const OUT_OF_RANGE: &[(&str, usize, &[u8])] = &[
    ("version from before", 2, &[0, 0]),
    ("version to come", 2, &[3, 0]),
    ("kind 0", 0, &[0, 0]),
    ("kind 25", 0, &[25, 0]),
    ("phase", 92, &[3]),
    ("parts", 93, &[2]),
    ("parts with an unknown bit", 93, &[0x81]),
    ("tier", 124, &[8]),
    ("outcome", 125, &[4]),
    ("fail_reason", 126, &[7]),
    ("family", 127, &[9]),
    ("path.offset in the head", 128, &[0, 0, 0, 0]),
    ("path.offset in the body", 128, &[159, 0, 0, 0]),
    ("path.offset behind the record", 128, &[255, 255, 0, 0]),
    ("path.offset past 2^31", 128, &[255, 255, 255, 255]),
    ("path.len past the record", 132, &[255, 0]),
    ("path.len past the longest", 132, &[255, 255]),
    ("path.flags", 134, &[8, 0]),
    ("path unreadable with bytes", 134, &[4, 0]),
    ("arguments.offset", 144, &[210, 0, 0, 0]),
    ("script.offset", 160, &[210, 0, 0, 0]),
    ("script.flags", 166, &[16, 0]),
];

#[test]
fn unit_record_each_field_out_of_range_is_refused() {
    let good = written(&Record { decision: Some(denied()), ..exec() });
    assert!(only(&good).is_ok());
    for (field, at, value) in OUT_OF_RANGE {
        let mut bytes = good.clone();
        bytes[*at..at + value.len()].copy_from_slice(value);
        assert!(only(&bytes).is_err(), "{field}");
    }
}

#[test]
fn unit_record_bad_network_fields_are_refused() {
    let network = Network {
        operation: NetworkOperation::Connect,
        domain: 2,
        socket_type: 1,
        protocol: 6,
        destination: Some((IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5000)),
        user: true,
        result: -1,
    };
    let good = written(&Record { header: header(), body: Body::Connect(network), decision: None });
    assert!(only(&good).is_ok());
    for (at, range) in [(128, 6..=255_u8), (129, 0..=2), (129, 4..=8), (129, 10..=20), (129, 22..=255), (130, 2..=255)]
    {
        for value in range {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(matches!(only(&bytes), Err(RecordError::Field { .. })), "{at} {value}");
        }
    }
}

/// (the act, offsets of its enum and flag bytes with the values that they may not have)
fn hostile() -> Vec<(Body<'static>, usize, Vec<u8>)> {
    let no_room = |from: u8| (from..=255).collect::<Vec<_>>();
    vec![
        (Body::FileChange(FileChange::default()), 60, no_room(15)),
        (Body::Mount(Mount::default()), 44, no_room(11)),
        (Body::Credentials(Credentials::default()), 116, no_room(10)),
        (Body::Credentials(Credentials::default()), 117, no_room(2)),
        (Body::Module(Module::default()), 24, no_room(5)),
        (Body::Bpf(Bpf::default()), 20, no_room(2)),
        (Body::Namespace(Namespace::default()), 12, no_room(2)),
        (Body::IoUring(IoUring::default()), 28, no_room(3)),
        (Body::ProcessAccess(ProcessAccess::default()), 36, no_room(2)),
        (Body::Dns(Dns::default()), 16, no_room(2)),
        (Body::Dns(Dns::default()), 26, no_room(8)),
        (Body::Dns(Dns::default()), 19, (0..=255).filter(|len| !matches!(len, 3 | 9 | 21)).collect()),
        (Body::Syscall(Syscall::default()), 60, no_room(4)),
        (Body::Folded(Folded { of_kind: Kind::Open, of_boot_ns: 1, last_ns: 2, repeats: 3 }), 20, no_room(25)),
    ]
}

#[test]
fn unit_record_numbers_without_a_meaning_are_refused_in_every_act() {
    for (body, at, values) in hostile() {
        let good = written(&Record { header: header(), body, decision: None });
        assert_eq!(only(&good).map(|record| record.body), Ok(body));
        for value in values {
            let mut bytes = good.clone();
            bytes[HEAD_SIZE + at] = value;
            assert!(matches!(only(&bytes), Err(RecordError::Field { .. })), "{body:?}: {value} at {at}");
        }
    }
}

#[test]
fn unit_record_dns_addresses_are_whole_and_v4_mapped_ones_are_ipv4() {
    let mut bytes = [0; 32];
    bytes[10..16].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
    bytes[31] = 1;
    let dns = |bytes| Dns { address_bytes: Text { bytes, ..Text::default() }, ..Dns::default() };
    let all: Vec<_> = dns(&bytes).addresses().collect();
    assert_eq!(all, [IpAddr::from([192, 0, 2, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    let odd = written(&Record { header: header(), body: Body::Dns(dns(&bytes[..17])), decision: None });
    assert!(matches!(only(&odd), Err(RecordError::Field { field: "addresses", value: 17 })));
}

#[test]
fn unit_record_with_no_room_for_its_body_is_refused() {
    let exit = Record { header: header(), body: Body::Exit(Exit { status: 256 }), decision: None };
    for kind in (1..=24_u8).filter(|kind| !matches!(kind, 3 | 22)) {
        let mut bytes = written(&exit);
        bytes[0] = kind;
        assert!(matches!(only(&bytes), Err(RecordError::Body { len: 136, .. })), "{kind}");
    }
}

#[test]
fn unit_record_writer_refuses_what_the_format_cannot_carry_and_keeps_what_it_had() {
    let long = vec![b'x'; STRING_MAX + 1];
    let open = Open { path: Text { bytes: &long, ..Text::default() }, flags: 0, result: 3 };
    let mut writer = RecordWriter::default();
    writer.write(&exec()).unwrap();
    let before = writer.bytes().to_vec();
    let refused = writer.write(&Record { header: header(), body: Body::Open(open), decision: None });
    assert_eq!(refused, Err(RecordWriterError::StringTooLong { field: "path", len: STRING_MAX + 1 }));
    let unreadable = Open { path: Text { unreadable: true, ..EXE }, ..open };
    let refused = writer.write(&Record { header: header(), body: Body::Open(unreadable), decision: None });
    assert_eq!(refused, Err(RecordWriterError::UnreadableBytes { field: "path" }));
    assert_eq!(writer.bytes(), before);
}

#[test]
fn unit_record_layout_has_no_holes() {
    for layout in LAYOUTS {
        assert!(layout.fields.windows(2).all(|w| w[0].offset < w[1].offset), "{}", layout.name);
        assert_eq!(layout.fields[0].offset, 0, "{}", layout.name);
    }
    assert_eq!(LAYOUTS[1].fields.last().map(|f| (f.name, f.offset)), Some(("decision", 112)));
}

#[test]
fn unit_record_codes_come_back() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_code(kind.code()), Some(*kind));
    }
    for tier in Tier::ALL {
        assert_eq!(Tier::from_code(tier.code()), Some(*tier));
    }
    assert_eq!((Kind::from_code(0), Kind::from_code(25), Tier::from_code(8)), (None, None, None));
}

/// What a random record is made of, owned.
#[derive(Debug, Clone)]
struct Parts {
    numbers: [u32; 6],
    strings: [Vec<u8>; 3],
    cut: bool,
    kind: usize,
    v6: Option<bool>,
    decided: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    let strings = [vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..STRING_MAX)];
    (any::<[u32; 6]>(), strings, any::<bool>(), 0..Kind::ALL.len(), any::<Option<bool>>(), any::<bool>())
        .prop_map(|(numbers, strings, cut, kind, v6, decided)| Parts { numbers, strings, cut, kind, v6, decided })
}

impl Parts {
    fn text(&self, n: usize) -> Text<'_> {
        Text { bytes: &self.strings[n], cut: self.cut, user: n == 2, unreadable: false }
    }

    fn body(&self) -> Body<'_> {
        let [a, b, c, d, e, f] = self.numbers;
        let address = |v6| match v6 {
            true => IpAddr::V6(Ipv6Addr::from(u128::from(a) << 96 | u128::from(b))),
            false => IpAddr::V4(Ipv4Addr::from(a)),
        };
        let network = Network {
            operation: NetworkOperation::ALL[self.numbers[0] as usize % NetworkOperation::ALL.len()],
            domain: 2,
            socket_type: 1,
            protocol: 6,
            destination: self.v6.map(|v6| (address(v6), 443)),
            user: self.cut,
            result: -13,
        };
        match self.kind {
            0 => Body::Exec(Exec {
                path: self.text(0),
                cwd: self.text(1),
                argument_bytes: self.text(2),
                argument_count: a,
                tty: b,
                script: match c % 3 {
                    0 => Script::None,
                    1 => Script::Untold,
                    // An empty name that is whole is none.
                    _ => Script::Interpreted { path: Text { cut: true, ..self.text(2) }, count: d },
                },
            }),
            1 => Body::Fork(Fork {
                child_tgid: a,
                child_tid: b,
                child_start_ns: u64::from(c) << 20,
                child_own_tgid: b ^ c,
                child_pid_ns: a ^ c,
            }),
            2 => Body::Exit(Exit { status: i32::from_ne_bytes(a.to_ne_bytes()) }),
            3 => Body::Open(Open { path: self.text(0), flags: a, result: -2 }),
            4 => Body::Socket(network),
            5 => Body::Connect(network),
            6 => Body::Ptrace(Ptrace {
                target_exe: self.text(2),
                request: c,
                target_tgid: d,
                target_tid: e,
                target_slot: f,
                target_start_ns: u64::from(a),
            }),
            7 => Body::Bind(network),
            8 => Body::Accept(network),
            9 => Body::Send(network),
            _ => self.act(),
        }
    }

    fn act(&self) -> Body<'_> {
        fn pick<T: Copy>(all: &[T], number: u32) -> T {
            all[number as usize % all.len()]
        }
        let [a, b, c, d, e, f] = self.numbers;
        let [one, two, three] = [0, 1, 2].map(|n| self.text(n));
        let (result, wide) = (i32::from_ne_bytes(f.to_ne_bytes()), u64::from(b) << 32 | u64::from(c));
        match self.kind {
            10 => Body::FileChange(FileChange {
                operation: pick(FileOperation::ALL, a),
                path: one,
                base: two,
                new_path: three,
                new_base: two,
                size: wide,
                mode: c,
                uid: d,
                gid: e,
                flags: f,
                result,
            }),
            11 => Body::Mount(Mount {
                operation: pick(MountOperation::ALL, a),
                source: one,
                target: two,
                filesystem: three,
                base: one,
                flags: wide,
                result,
            }),
            12 => {
                let after = CredentialSet {
                    uid: a,
                    fsgid: b,
                    effective: wide,
                    inheritable: u64::from(d),
                    ..Default::default()
                };
                let before = self.cut.then_some(CredentialSet { euid: c, permitted: wide, ..after });
                Body::Credentials(Credentials { operation: pick(CredentialsOperation::ALL, a), before, after, result })
            }
            13 => Body::Signal(Signal {
                signal: a,
                result,
                asked: -7,
                target_tgid: b,
                target_tid: c,
                target_slot: d,
                target_start_ns: wide,
            }),
            14 => Body::Module(Module {
                operation: pick(ModuleOperation::ALL, a),
                name: one,
                path: three,
                flags: b,
                result,
            }),
            15 => Body::Bpf(Bpf { command: a, name: one, object_type: b, user: self.cut, object_id: c, result }),
            16 => Body::Namespace(Namespace {
                operation: pick(NamespaceOperation::ALL, a),
                flags: wide,
                result,
                mnt: a,
                pid_for_children: b,
                net: c,
                user: d,
                uts: e,
                ipc: f,
                cgroup: a,
                time: b,
            }),
            17 => Body::Memfd(Memfd { name: one, flags: a, result }),
            18 => Body::IoUring(IoUring {
                operation: pick(IoUringOperation::ALL, a),
                opcode: 18,
                path: three,
                file: two,
                flags: b,
                result,
                descriptor: -1,
            }),
            19 => Body::ProcessAccess(ProcessAccess {
                operation: pick(ProcessAccessOperation::ALL, a),
                target_exe: two,
                result: -i64::from(b),
                target_start_ns: wide,
                target_tgid: c,
                target_tid: d,
                target_slot: e,
            }),
            20 => Body::Dns(self.dns()),
            21 => Body::Capability(Capability { capability: a, result }),
            22 => Body::Syscall(Syscall {
                number: a,
                compat: self.cut,
                x32: self.decided,
                result: -i64::from(b),
                arguments: [wide, 1, 2, 3, 4, u64::MAX],
            }),
            _ => Body::Folded(Folded { of_kind: pick(Kind::ALL, a), of_boot_ns: wide, last_ns: wide + 1, repeats: b }),
        }
    }

    fn dns(&self) -> Dns<'_> {
        let [a, b, c, ..] = self.numbers;
        let whole = self.strings[1].len() / 16 * 16;
        let [low, high] = [a as u16, (a >> 16) as u16];
        Dns {
            operation: if self.cut { DnsOperation::Answer } else { DnsOperation::Question },
            name: self.text(0),
            address_bytes: Text { bytes: &self.strings[1][..whole], ..self.text(1) },
            transport: 17,
            rcode: 3,
            query_type: low,
            id: high,
            answers: low,
            truncated: self.decided,
            incomplete: self.cut,
            no_task: b & 1 == 1,
            server: self
                .v6
                .map(|v6| (if v6 { Ipv6Addr::from(u128::from(c)).into() } else { Ipv4Addr::from(c).into() }, 53)),
        }
    }

    fn record(&self) -> Record<'_> {
        let [a, b, ..] = self.numbers;
        let header = Header { sequence: u64::from(a), slot: b, tgid: b, ..header() };
        Record { header, body: self.body(), decision: self.decided.then(denied) }
    }
}

proptest! {
    #[test]
    fn unit_record_any_batch_comes_back_as_written(all in vec(parts(), 0..6)) {
        let mut writer = RecordWriter::default();
        for parts in &all {
            writer.write(&parts.record()).unwrap();
        }
        prop_assert_eq!(writer.bytes().len() % ALIGN, 0);
        let read: Vec<_> = RecordReader::new(writer.bytes()).collect();
        prop_assert_eq!(read, all.iter().map(|p| Ok(p.record())).collect::<Vec<_>>());
    }

    #[test]
    fn unit_record_random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000)) {
        for record in RecordReader::new(&bytes).flatten() {
            touch(&record);
        }
    }

    #[test]
    fn unit_record_changed_bytes_never_panic_and_strings_stay_inside(
        parts in parts(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = written(&parts.record());
        for (at, value) in changes {
            let at = at.index(bytes.len().min(200));
            bytes[at] = value;
        }
        let range = bytes.as_ptr_range();
        for record in RecordReader::new(&bytes).flatten() {
            touch(&record);
            if let Body::Open(open) = record.body && !open.path.bytes.is_empty() {
                let path = open.path.bytes.as_ptr_range();
                prop_assert!(range.start <= path.start && path.end <= range.end);
            }
        }
    }
}

/// Reads everything that a record lends.
fn touch(record: &Record<'_>) {
    let seen = match record.body {
        Body::Exec(exec) => {
            exec.arguments().map(<[u8]>::len).sum::<usize>() + exec.path.bytes.len() + exec.cwd.bytes.len()
        }
        Body::Open(open) => open.path.bytes.len(),
        Body::Ptrace(ptrace) => ptrace.target_exe.bytes.len(),
        Body::FileChange(act) => [act.path, act.base, act.new_path, act.new_base].iter().map(|t| t.bytes.len()).sum(),
        Body::Mount(act) => [act.source, act.target, act.filesystem, act.base].iter().map(|t| t.bytes.len()).sum(),
        Body::Dns(act) => act.addresses().count() + act.name.bytes.len(),
        Body::IoUring(act) => act.path.bytes.len() + act.file.bytes.len(),
        Body::Module(act) => act.path.bytes.len() + act.name.bytes.len(),
        _ => record.header.comm_bytes().len(),
    };
    assert!(seen <= 4 * STRING_MAX);
}
