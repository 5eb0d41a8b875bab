//! Host ring: lines about real acts of real processes, of names that are meant to do harm. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod probe_bed;

use std::{
    ffi::{CString, OsStr},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use palisade_alerts::{compose, state::State};
use palisade_domain::{Line, Operation, text};
use palisade_kernel::{observation::Limits, probes::Probes, records::DEFAULT_RING_BYTES};
use palisade_world::{RecordBatch, RecordSource};
use probe_bed::{ALL_KINDS, Bed, Child, Directory, Records, calls, start};

/// A cursor that moves, a line that ends, text that turns round, and a byte that is no text.
const HOSTILE: &[u8] = b"\x1b[2J\n\xe2\x80\xae\xc2\x9b\xff\"x";

/// All lines about what `act` does.
fn told(name: &str, act: impl FnOnce(&Bed) -> Child) -> Vec<Line> {
    let mut bed = Bed::new(name);
    let probes = Probes::attach(&bed.pins, Limits::NONE).expect("the object loads");
    let mut records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    assert_eq!(act(&bed).code(), 0);
    let lines = lines_of(&mut records);
    drop(probes);
    lines
}

fn lines_of(records: &mut Records) -> Vec<Line> {
    let (mut state, mut batch, mut lines) = (State::new("n1".into()), RecordBatch::default(), Vec::new());
    state.want_logs(true);
    loop {
        let more = records.source.read(&mut batch).unwrap();
        state.read(&batch, 0, &mut lines);
        if !more {
            return lines;
        }
    }
}

fn log(lines: &[Line], operation: Operation, resource: impl Fn(&str) -> bool) -> &palisade_domain::Log {
    let logs = lines.iter().filter_map(|line| if let Line::Log(log) = line { Some(&**log) } else { None });
    let mut found = logs.filter(|log| log.subject.operation == operation && resource(&log.subject.resource));
    found.next().unwrap_or_else(|| panic!("no such log in {lines:?}"))
}

#[test]
fn host_lines_process_of_a_hostile_name_stays_in_its_line_and_can_be_found_again() {
    let directory = Directory::new("hostile");
    let program = directory.0.join(OsStr::from_bytes(HOSTILE));
    fs::copy("/bin/true", &program).unwrap();
    let path = CString::new(program.as_os_str().as_bytes()).unwrap();
    let arguments = [CString::new(HOSTILE).unwrap(), CString::new(HOSTILE.repeat(20)).unwrap()];
    let lines = told("hostile", |bed| bed.start(|| calls::exec(&path, &arguments)));
    let executed = log(&lines, Operation::Exec, |resource| text::bytes(resource) == path.as_bytes());
    assert_eq!(text::bytes(&executed.process_chain[0].arguments[1]), HOSTILE.repeat(20));
    assert!(Path::new(OsStr::from_bytes(&text::bytes(&executed.subject.resource))).exists(), "lossless");
    for line in &lines {
        let shown = compose::line(line);
        assert!(shown.ends_with('\n') && shown.matches('\n').count() == 1, "{shown:?}");
        assert!(!shown.trim_end_matches('\n').chars().any(text::hostile), "{shown:?}");
        assert_eq!(serde_json::from_str::<Line>(&shown).unwrap(), *line);
    }
}

#[test]
fn host_lines_process_has_its_number_in_its_own_namespace() {
    let lines = told("numbers", |bed| {
        bed.start(|| {
            if calls::unshare(libc::CLONE_NEWPID) != 0 {
                return 1;
            }
            // The first process of the namespace, and a child of it.
            start(|| {
                let opened = calls::open(c"/etc/hostname", libc::O_RDONLY);
                let inner = start(|| i32::from(calls::open(c"/etc/hosts", libc::O_RDONLY) < 0)).code();
                i32::from(opened < 0) + inner
            })
            .code()
        })
    });
    let of = |path: &str| {
        let process = log(&lines, Operation::Open, |resource| resource == path).kubearmor.process.clone().unwrap();
        (process.pid, process.ppid)
    };
    assert_eq!(of("/etc/hostname"), (Some(1), Some(0)), "its parent is not in the namespace");
    assert_eq!(of("/etc/hosts"), (Some(2), Some(1)));
}
