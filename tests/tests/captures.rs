//! A real capture of sysdig replays to its golden output (tests/fixtures/captures/record.sh, which records it anew and writes the golden file).
//!
//! A line that differs is a change of what an import makes of a capture, or of what a node says of the same acts.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read is a failed test, and the panic names the place"
)]

mod rehearsed;

use std::{fs, io::Cursor, path::Path};

use palisade_policy::PolicySet;
use palisade_simulation::{
    import::{Imported, scap},
    replay::{Options, Output, Replay},
};
use palisade_wire::trace::TraceReader;
use serde_json::Value;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures").join(name)).unwrap()
}

fn imported() -> (Vec<u8>, Imported) {
    scap::import(Cursor::new(fixture("container.scap")), Vec::new()).unwrap()
}

fn replayed(trace: &[u8]) -> String {
    let mut reader = TraceReader::open(trace).unwrap();
    let options = Options { output: Output::Events, workloads: vec!["shop/web-0".into()], ..Options::default() };
    let mut replay = Replay::new(reader.header(), options);
    let mut out = Vec::new();
    while let Some(part) = reader.next_part().unwrap() {
        replay.part(&part, &mut out);
    }
    replay.end(&mut out);
    assert_eq!(replay.notes(), [""; 0]);
    String::from_utf8(out).unwrap()
}

#[test]
fn unit_imported_capture_replays_to_its_golden_events() {
    let (trace, _) = imported();
    // Of the container's user: the rest is the runtime's, and three times as much.
    let of_user = |line: &&str| line.contains("\"uid\":33,\"parentProcessName\"");
    let lines: String = replayed(&trace).lines().filter(of_user).flat_map(|line| [line, "\n"]).collect();
    let golden = String::from_utf8(fixture("container.events.jsonl")).unwrap();
    for (number, (line, golden)) in lines.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, golden, "container.events.jsonl:{}", number + 1);
    }
    assert_eq!(lines, golden, "another number of lines");
}

#[test]
fn unit_imported_capture_has_the_acts_that_the_container_was_made_to_do() {
    let (trace, _) = imported();
    let lines: Vec<Value> = replayed(&trace).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_there = |operation: &str, resource: &str, result: &str| {
        lines.iter().any(|line| {
            let is_labelled = line["workload"]["namespace"] == "shop" && line["workload"]["container"] == "web";
            is_labelled
                && line["uid"] == 33
                && line["subject"]["operation"] == operation
                && line["subject"]["resource"] == resource
                && line["result"] == result
        })
    };
    // What tests/fixtures/captures/guest.sh asks of the container's shell.
    for (operation, resource, result) in [
        ("open", "/etc/passwd", "Passed"),
        ("open", "/etc/shadow", "Permission denied"),
        ("mkdir", "/tmp/a", "Passed"),
        ("open", "/tmp/a/one", "Passed"),
        ("link", "/tmp/a/one", "Passed"),
        ("rename", "/tmp/two", "Passed"),
        ("chmod", "/tmp/three", "Passed"),
        ("unlink", "/tmp/a/one", "Passed"),
        ("rmdir", "/tmp/a", "Passed"),
        ("connect", "tcp 127.0.0.1:9", "Connection refused"),
        ("connect", "tcp 10.9.8.7:4444", "Connection refused"),
        ("bind", "udp 0.0.0.0:0", "Passed"),
        ("connect", "udp 127.0.0.1:53", "Passed"),
        ("exec", "/bin/traced", "Passed"),
    ] {
        assert!(is_there(operation, resource, result), "{operation} {resource} {result}");
    }
    // By the number that the traced process has on the host, where the container's are small.
    let traced = |request: &str| {
        let is_it = |line: &&Value| {
            let data = line["data"].as_str().unwrap_or_default();
            line["subject"]["operation"] == "ptrace" && data.contains(&format!("request={request} "))
        };
        let line = lines.iter().find(is_it).unwrap();
        let resource = line["subject"]["resource"].as_str().unwrap();
        let pid = resource.strip_prefix("pid ").unwrap().strip_suffix(" (/bin/traced)").unwrap();
        (pid.parse::<u64>().unwrap(), line["hostPid"].as_u64().unwrap())
    };
    let ((asked_for, asking), (seized, by)) = (traced("PTRACE_TRACEME"), traced("PTRACE_SEIZE"));
    assert_eq!(asked_for, asking);
    assert!(seized > by && by < asking, "{seized} {by} {asking}");
}

#[test]
fn unit_imported_capture_can_be_rehearsed_by_the_labels_of_its_container() {
    let (trace, _) = imported();
    let policy = b"apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: { name: no-passwd, namespace: shop }
spec:
  selector: { matchLabels: { app: shop } }
  file: { matchPaths: [{ path: /etc/passwd }] }
  action: Block
";
    let set = PolicySet::parse([("no-passwd.yaml", &policy[..])]).unwrap();
    let report = rehearsed::rehearsed(set, &trace);
    // Which file a caller's path led to, a capture does not tell.
    assert_eq!((report.workloads.len(), report.denials()), (1, 0), "{:?}", report.denied);
    assert!(report.undecidable.iter().any(|row| row.count > 0 && row.missing.contains("as the caller gave it")));
}

#[test]
fn unit_imported_capture_says_what_it_lacks() {
    let lacks = imported().1.lacks.join("\n");
    for said in ["links are not followed", "decisions and policies", "events that become no record", "mount "] {
        assert!(lacks.contains(said), "{lacks}");
    }
}
