//! The records of a real capture beside what sysdig itself reads from it (`tests/fixtures/captures/record.sh`): the same acts, by the same
//! processes in the same containers, with the same results and names.

use std::{collections::BTreeMap, io::Cursor};

use palisade_domain::{Slot, Workload};
use palisade_kernel_abi::record::{Body, Kind, Record, RecordReader};
use palisade_wire::trace::{Part, TraceReader, What};

use super::*;

const CAPTURE: &[u8] = include_bytes!("../../../../tests/fixtures/captures/container.scap");
const OF_SYSDIG: &str = include_str!("../../../../tests/fixtures/captures/container.sysdig.txt");

/// One act, as either of both tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    unix_ns: u64,
    kind: Kind,
    pid: u32,
    /// The first digits of its id; `host`.
    container: String,
    /// Of a call that has one.
    result: Option<i32>,
    /// Where either of both knows the whole of it.
    name: Option<String>,
}

const FORKS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

fn fields(line: &str) -> [&str; 8] {
    line.split('|').collect::<Vec<_>>().try_into().expect("a line of eight fields")
}

/// Of a line in which a new thread tells of itself that it is one: it and its process. sysdig takes it for a process where it was heard
/// of before the one that made it.
fn thread(line: &str) -> Option<(u32, u32)> {
    let [_, name, _, tid, _, result, of, _] = fields(line);
    let (tid, of) = (tid.parse().ok()?, of.parse().ok()?);
    (FORKS.contains(&name) && result == "0" && tid != of).then_some((tid, of))
}

fn of_sysdig(line: &str, threads: &BTreeMap<u32, u32>) -> Option<Told> {
    let [time, name, pid, tid, container, result, _, path] = fields(line);
    let (pid, tid): (u32, u32) = (pid.parse().ok()?, tid.parse().ok()?);
    let (pid, result): (u32, Option<i32>) = (threads.get(&tid).copied().unwrap_or(pid), result.parse().ok());
    let kind = match name {
        "open" | "openat" | "openat2" | "creat" => Kind::Open,
        "connect" => Kind::Connect,
        "socket" => Kind::Socket,
        "bind" => Kind::Bind,
        "execve" => Kind::Exec,
        "ptrace" => Kind::Ptrace,
        // The child's own event, and not of a thread.
        "procexit" if pid == tid => Kind::Exit,
        name if FORKS.contains(&name) && result == Some(0) && pid == tid => Kind::Fork,
        name if FORKS.contains(&name) || name == "procexit" => return None,
        _ => Kind::FileChange,
    };
    let has_result = matches!(kind, Kind::Open | Kind::Connect | Kind::Bind | Kind::Socket | Kind::FileChange);
    Some(Told {
        unix_ns: time.parse().expect("a time"),
        kind,
        pid,
        container: container.into(),
        result: result.filter(|_| has_result).map(|result| if kind == Kind::Socket { result.min(0) } else { result }),
        name: Some(path.to_owned()).filter(|path| path.starts_with('/')),
    })
}

fn of_record(record: &Record<'_>, offset: u64, containers: &BTreeMap<u32, Workload>) -> Told {
    let mut pid = record.header.tgid;
    let (result, name) = match record.body {
        Body::Open(open) => (Some(open.result), Some(open.path.bytes)),
        Body::Connect(network) | Body::Bind(network) | Body::Socket(network) => (Some(network.result), None),
        Body::FileChange(change) => (Some(change.result), Some(change.path.bytes)),
        Body::Fork(fork) => {
            pid = fork.child_tgid;
            (None, None)
        }
        _ => (None, None),
    };
    let container = containers.get(&record.header.slot).and_then(|workload| workload.container_id.clone());
    Told {
        unix_ns: record.header.boot_ns + offset,
        kind: record.kind(),
        pid,
        container: container.map_or_else(|| "host".to_owned(), |id| id.0[..12].to_owned()),
        result,
        name: name.map(|name| String::from_utf8_lossy(name).into_owned()),
    }
}

/// The trace's records, as told; and who the slots are.
fn ours() -> Vec<Told> {
    let (trace, _) = import(Cursor::new(CAPTURE), Vec::new()).expect("imported");
    let mut reader = TraceReader::open(&trace[..]).expect("a trace");
    let offset = reader.header().unix_ns - reader.header().boot_ns;
    let (mut containers, mut told) = (BTreeMap::new(), Vec::new());
    while let Some(part) = reader.next_part().expect("bytes") {
        match part {
            Part::Facts(facts) => {
                for fact in facts {
                    if let What::WorkloadNamed(Slot(slot), workload) = fact.what {
                        containers.insert(slot, (*workload).clone());
                    }
                }
            }
            Part::Checkpoint(_) => {}
            Part::Records(batches) => {
                let records = RecordReader::new(batches.bytes()).map(|record| record.expect("a record"));
                told.extend(records.map(|record| of_record(&record, offset, &containers)));
            }
        }
    }
    told
}

/// As sysdig writes it: `.`, `..` and doubled slashes are worked out by their letters.
fn worked_out(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[test]
fn unit_capture_becomes_the_acts_that_sysdig_reads_from_it() {
    let threads = OF_SYSDIG.lines().filter_map(thread).collect();
    let sysdigs = OF_SYSDIG.lines().filter_map(|line| of_sysdig(line, &threads));
    let (mut ours, mut sysdigs) = (ours(), sysdigs.collect::<Vec<_>>());
    ours.sort();
    sysdigs.sort();
    let key = |told: &Told| (told.unix_ns, told.kind, told.pid, told.result);
    let (keys, expected): (Vec<_>, Vec<_>) = (ours.iter().map(key).collect(), sysdigs.iter().map(key).collect());
    for (own, sysdig) in keys.iter().zip(&expected) {
        assert_eq!(own, sysdig);
    }
    assert_eq!(keys.len(), expected.len());
    let mut names = 0;
    for (own, sysdig) in ours.iter().zip(&sysdigs) {
        // A fork's record is its parent's, and what sysdig tells is its child's.
        assert!(own.container == sysdig.container || own.kind == Kind::Fork, "{own:?} {sysdig:?}");
        if let (Some(name), Some(expected)) = (own.name.as_ref().filter(|name| name.starts_with('/')), &sysdig.name) {
            names += 1;
            assert_eq!(&worked_out(name), expected, "{own:?}");
        }
    }
    assert!(names > 500, "{names} names were compared");
}
