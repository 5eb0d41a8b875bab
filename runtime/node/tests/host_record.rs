//! A trace of a whole node: what it replays to is what the node said, and what it holds is what was asked for.
#![forbid(unsafe_code)]

mod node_bed;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use node_bed::{NodeBed, eventually, succeed};
use palisade_kernel_abi::record::{Body, RecordReader};
use palisade_wire::trace::{Ending, Part, TraceReader};
use serde_json::Value;

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

const POLICY: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-secret, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  severity: 6
  file: {matchPaths: [{path: /etc/bin/secret}]}
  process: {matchPaths: [{path: /etc/bin/tool}]}
  action: Block
";

/// Given to a process as an argument, which a trace must not have.
const SECRET: &str = "hunter2-s3cr3t";

/// Until told to stop it reads what it may and what it may not.
const WORKS: &str = "until [ -e /tmp/go ]; do sleep 0.05; done
    /bin/busybox true hunter2-s3cr3t
    n=0; while [ $n -lt 4 ]; do cat /etc/hostname; cat /etc/bin/secret; /etc/bin/tool; n=$((n + 1)); sleep 0.1; done
    touch /tmp/done; sleep 1000";

fn palisade(arguments: &[&str]) -> Output {
    Command::new(PALISADE).args(arguments).env("NO_COLOR", "1").output().expect("it runs")
}

fn lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// With times to the millisecond, since a node reads its two clocks one after the other. A line that was made while a file of users was
/// being read may have no name yet, here or there.
fn comparable(line: &Value) -> Value {
    let mut line = line.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.retain(|name, _| !["updatedTime", "timestamp"].contains(&name.as_str()));
        let rounded = fields["time"].as_u64().expect("a time").div_euclid(10_000_000);
        fields.insert("time".into(), rounded.into());
    }
    line
}

/// Held against each other field by field, so that a failure says which.
fn assert_same(replayed: &[Value], said: &[Value]) {
    assert_eq!(replayed.len(), said.len());
    for (replayed, said) in replayed.iter().zip(said) {
        let (replayed, said) = (replayed.as_object().expect("an object"), said.as_object().expect("an object"));
        let keys = |fields: &serde_json::Map<String, Value>| -> Vec<String> {
            fields.keys().filter(|name| *name != "username").cloned().collect()
        };
        assert_eq!(keys(replayed), keys(said));
        for (name, value) in said {
            let unknown = |name: &Option<&Value>| name.is_none_or(|name| name == "");
            if name == "username" && (unknown(&Some(value)) || unknown(&replayed.get(name))) {
                continue;
            }
            let is_near =
                name == "time" && replayed[name].as_u64().zip(value.as_u64()).is_some_and(|(a, b)| a.abs_diff(b) < 2);
            assert!(is_near || &replayed[name] == value, "{name}: {} is not {value}", replayed[name]);
        }
    }
}

/// Whether the text is anywhere in what the trace's blocks unfold to.
fn tells(path: &str, text: &str) -> bool {
    let bytes = fs::read(path).expect("written");
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    let mut found = format!("{:?}", reader.header()).contains(text);
    while let Some(part) = reader.next_part().expect("bytes") {
        found |= match part {
            Part::Records(batches) => batches.bytes().windows(text.len()).any(|part| part == text.as_bytes()),
            Part::Facts(facts) | Part::Checkpoint(facts) => format!("{facts:?}").contains(text),
        };
    }
    found
}

fn of_the_client(line: &&Value) -> bool {
    line["workload"]["name"] == "client" && line.get("subject").is_some()
}

/// How many records, of how many slots, and how many captured arguments.
fn held(path: &Path) -> (u64, Vec<u32>, usize) {
    let bytes = fs::read(path).expect("written");
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    let (mut slots, mut arguments) = (std::collections::BTreeSet::new(), 0);
    while let Some(part) = reader.next_part().expect("bytes") {
        let Part::Records(batches) = part else { continue };
        for record in RecordReader::new(batches.bytes()) {
            let record = record.expect("it can be read");
            slots.insert(record.header.slot);
            if let Body::Exec(exec) = record.body {
                arguments += exec.arguments().count();
            }
        }
    }
    assert_eq!((reader.report().ending, reader.report().damaged), (Ending::Whole, 0));
    (reader.report().records, slots.into_iter().collect(), arguments)
}

#[test]
fn host_trace_of_a_node_replays_to_the_alerts_that_it_said_and_holds_what_was_asked_for() {
    let mut bed = NodeBed::new(&[("secret.yaml", POLICY)]);
    let kept = bed.path("traces");
    bed.node_arguments =
        ["--visibility", "process,file", "--trace-arguments", "--trace-directory"].map(str::to_owned).into();
    bed.node_arguments.push(kept.display().to_string());
    bed.start_node();
    let client = bed.pod("client", WORKS);
    bed.pod("other", "while :; do cat /etc/hostname; sleep 0.2; done");
    fs::write(client.file("/tmp/go"), "").expect("written");
    eventually("it is done", || client.file("/tmp/done").exists());
    let socket = bed.path("admin.sock").display().to_string();
    let at = |name: &str| bed.path(name).display().to_string();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let record = |out: &str, more: &[&str]| {
        let fixed = ["record", "--admin-socket", &socket, "--last", "5m", "--out", out];
        succeed(Command::new(PALISADE).args(fixed).args(more));
    };
    record(&at("all"), &["--keep-arguments"]);
    record(&at("one"), &["--workload", "example/client"]);

    // The very lines that the node wrote, in order.
    let replayed = palisade(&["replay", &at("all")]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let replayed: Vec<Value> = lines(&replayed.stdout).iter().filter(of_the_client).map(comparable).collect();
    let said: Vec<Value> = bed.alerts().iter().filter(of_the_client).map(comparable).collect();
    assert!(said.len() >= 8, "{said:?}");
    assert_same(&replayed, &said);
    let has_user = |line: &&Value| line["username"] == "root";
    assert!(said.iter().any(|line| has_user(&line)), "{said:?}");
    assert!(replayed.iter().filter(has_user).count() >= 4, "names of users are in the trace");

    let (all, slots, arguments) = held(Path::new(&at("all")));
    assert!(slots.len() >= 2 && arguments > 10, "{slots:?} {arguments}");
    let (one, slots, arguments) = held(Path::new(&at("one")));
    assert!(one > 0 && one < all && slots.len() == 1, "{one} of {all}, {slots:?}");
    assert_eq!(arguments, 0, "nobody asked for them");
    assert!(tells(&at("all"), SECRET), "it was asked for, and is what is looked for");
    assert!(!tells(&at("one"), SECRET));
    let redacted = at("redacted");
    succeed(Command::new(PALISADE).args(["trace", "redact", &at("all"), "--out", &redacted]));
    assert!(!tells(&redacted, SECRET));

    // A part of it, by the index, tells what the whole tells of that time and workload.
    let whole = palisade(&["replay", &at("all"), "--output", "decisions"]).stdout;
    let lines_of =
        |bytes: &[u8]| -> Vec<String> { String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect() };
    let whole = lines_of(&whole);
    let time = |line: &str| -> String {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line["time"].as_str().expect("a time").to_owned()
    };
    let from = time(&whole[2]);
    let part =
        palisade(&["replay", &at("all"), "--output", "decisions", "--from", &from, "--workload", "example/client"]);
    assert!(part.status.success(), "{}", String::from_utf8_lossy(&part.stderr));
    let expected: Vec<String> = whole.iter().filter(|line| time(line) >= from).cloned().collect();
    assert!(expected.len() > 3 && expected.len() < whole.len());
    assert_eq!(lines_of(&part.stdout), expected);
    let nobody = palisade(&["replay", &at("all"), "--workload", "example/nobody"]);
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("example/client/main"));

    // What would have been denied is what was, and a policy that denies nothing of it is told so by the exit status.
    let policies = at("policies");
    let rehearsed = palisade(&["rehearse", "--policy", &policies, "--output", "json", &at("all")]);
    assert_eq!(rehearsed.status.code(), Some(1), "{}", String::from_utf8_lossy(&rehearsed.stderr));
    let report: Value = serde_json::from_slice(&rehearsed.stdout).expect("JSON");
    let denied: u64 =
        report["denied"].as_array().expect("rows").iter().map(|row| row["count"].as_u64().expect("a count")).sum();
    assert_eq!(denied, 8, "{report}");
    fs::write(bed.path("harmless.yaml"), POLICY.replace("/etc/bin/secret", "/a").replace("/etc/bin/tool", "/b"))
        .expect("written");
    let harmless = palisade(&["rehearse", "--policy", &at("harmless.yaml"), "--output", "json", &at("all")]);
    let report: Value = serde_json::from_slice(&harmless.stdout).expect("JSON");
    assert_eq!(report["denied"], serde_json::json!([]));
    // Fanotify's own records do not tell of scripts: executions that it denied cannot be judged by other rules then.
    let is_of_scripts =
        report["undecidable"].as_array().expect("rows").iter().all(|row| row.to_string().contains("script"));
    let by_fanotify =
        bed.alerts().iter().any(|line| line["tier"] == "fanotify" && line["subject"]["operation"] == "exec");
    assert!(is_of_scripts, "{report}");
    assert_eq!(harmless.status.code(), Some(if by_fanotify { 3 } else { 0 }), "{report}");

    // The node kept a trace around the first denial by itself.
    let whole = || fs::read_dir(&kept).into_iter().flatten().flatten().map(|entry| entry.path());
    eventually("a trace is kept", || whole().any(|path| path.extension().is_some_and(|e| e == "paltrace")));
    let path = whole().find(|path| path.extension().is_some_and(|e| e == "paltrace")).expect("kept");
    let replayed = palisade(&["replay", &path.display().to_string()]);
    assert!(lines(&replayed.stdout).iter().any(|line| line["subject"]["resource"] == "/etc/bin/secret"));
    bed.stop_node();
}

#[test]
fn host_recording_that_is_begun_now_ends_with_its_time_or_with_the_node_and_can_be_read() {
    let mut bed = NodeBed::new(&[]);
    bed.node_arguments = vec!["--visibility".into(), "file".into()];
    bed.start_node();
    bed.pod("busy", "while :; do cat /etc/hostname; done");
    let (socket, out) = (bed.path("admin.sock"), bed.path("timed"));
    let mut command = Command::new(PALISADE);
    command.args(["record", "--duration", "2s", "--admin-socket"]).arg(&socket).arg("--out").arg(&out);
    succeed(&mut command);
    let (records, ..) = held(&out);
    assert!(records > 10, "{records}");
    assert!(!command.output().expect("it runs").status.success(), "the file is there already");
    // Whoever interrupts it, or stops the node, gets a whole trace.
    for (name, signal) in [("interrupted", "INT"), ("terminated", "TERM")] {
        let out = bed.path(name);
        let mut command = Command::new(PALISADE);
        command.args(["record", "--last", "1m", "--follow", "--admin-socket"]).arg(&socket).arg("--out").arg(&out);
        let mut recording = command.spawn().expect("it runs");
        eventually("something is received", || fs::metadata(&out).is_ok_and(|about| about.len() > 4096));
        succeed(Command::new("kill").args(["-s", signal, &recording.id().to_string()]));
        assert!(recording.wait().expect("it ends").success(), "{name}");
        let (records, ..) = held(&out);
        assert!(records > 10, "{name}: {records}");
    }
    let piped = Command::new(PALISADE)
        .args(["record", "--duration", "1s", "--out", "-", "--admin-socket"])
        .arg(&socket)
        .output()
        .expect("it runs");
    let reader = TraceReader::open(&piped.stdout[..]).expect("a trace on standard output");
    assert!(piped.status.success() && reader.header().node == "bed");
    // Full files follow each other: no record is between two of them, and none is in both.
    let (rotated, merged) = (bed.path("rotated"), bed.path("merged"));
    let mut command = Command::new(PALISADE);
    command.args(["record", "--duration", "10s", "--max-size", "16K", "--rotate", "9", "--admin-socket"]).arg(&socket);
    succeed(command.arg("--out").arg(&rotated));
    let mut parts: Vec<_> =
        (1..=9).rev().map(|n| bed.path(&format!("rotated.{n}"))).filter(|path| path.exists()).collect();
    parts.push(rotated);
    assert!(parts.len() >= 2, "nothing was rotated");
    let told: Vec<u64> = parts.iter().map(|part| held(part).0).collect();
    assert!(parts.iter().all(|part| fs::metadata(part).expect("there").len() <= 16 << 10));
    succeed(Command::new(PALISADE).args(["trace", "merge"]).args(&parts).arg("--out").arg(&merged));
    let (records, ..) = held(&merged);
    assert!(records == told.iter().sum::<u64>() && told.iter().all(|of_part| *of_part > 0), "{records} of {told:?}");
    // A name that nobody has is said, and its empty trace is no success.
    let nobody = Command::new(PALISADE)
        .args(["record", "--duration", "1s", "--workload", "nosuch", "--admin-socket"])
        .arg(&socket)
        .arg("--out")
        .arg(bed.path("nobody"))
        .output()
        .expect("it runs");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no workload is called nosuch"), "{nobody:?}");
    let stopped = bed.path("stopped");
    let mut command = Command::new(PALISADE);
    let mut recording =
        command.args(["record", "--admin-socket"]).arg(&socket).arg("--out").arg(&stopped).spawn().expect("it runs");
    eventually("something is received", || fs::metadata(&stopped).is_ok_and(|about| about.len() > 4096));
    bed.stop_node();
    assert!(recording.wait().expect("it ends").success(), "a node that stops ends its traces first");
    let (records, ..) = held(&stopped);
    assert!(records > 10, "{records}");
    bed.start_node();
    // A node that is killed leaves what was received, and that is said.
    let cut = bed.path("cut");
    let mut recording = Command::new(PALISADE)
        .args(["record", "--admin-socket"])
        .arg(&socket)
        .arg("--out")
        .arg(&cut)
        .spawn()
        .expect("it runs");
    eventually("something is received", || fs::metadata(&cut).is_ok_and(|about| about.len() > 4096));
    assert!(bed.kill_node(), "the node had ended by itself");
    assert!(!recording.wait().expect("it ends").success());
    let told = palisade(&["trace", "info", &cut.display().to_string()]);
    assert_eq!(told.status.code(), Some(1));
    let why = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(why.contains("whether more was recorded, it does not say"), "{why}");
}

#[test]
fn host_traces_around_alerts_are_kept_of_the_policies_that_were_named_and_stay_within_their_directory() {
    const QUIET: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: quiet, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  severity: 9
  file: {matchPaths: [{path: /etc/hostname}]}
  action: Audit
";
    let mut bed = NodeBed::new(&[("secret.yaml", POLICY), ("quiet.yaml", QUIET)]);
    let kept = bed.path("traces");
    let arguments =
        ["--visibility", "process,file", "--trace-alert-policy", "example/quiet", "--trace-alert-after", "1"];
    bed.node_arguments = arguments.map(str::to_owned).into();
    let more = ["--trace-alert-pause", "3", "--trace-directory-bytes", "40000", "--trace-memory-bytes", "10000"];
    bed.node_arguments.extend(more.map(str::to_owned));
    bed.node_arguments.extend(["--trace-directory".to_owned(), kept.display().to_string()]);
    bed.start_node();
    let names = || -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(&kept).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "paltrace")).collect()
    };
    let client = bed.pod(
        "client",
        "n=0; while [ $n -lt 6 ]; do cat /etc/bin/secret; n=$((n + 1)); sleep 0.5; done
        touch /tmp/done; until [ -e /tmp/go ]; do sleep 0.1; done; while :; do cat /etc/hostname; sleep 0.2; done",
    );
    eventually("it is done", || client.file("/tmp/done").exists());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(names().len(), 0, "an alert of another policy");
    fs::write(client.file("/tmp/go"), "").expect("written");
    eventually("two traces are kept", || names().len() >= 2);
    for path in names() {
        let told = palisade(&["replay", &path.display().to_string()]);
        let is_quiet = |line: &Value| line["rule"]["policyName"] == "quiet";
        assert!(lines(&told.stdout).iter().any(is_quiet), "{}", path.display());
        held(&path);
    }
    // Each is bounded, and the oldest go.
    std::thread::sleep(std::time::Duration::from_secs(10));
    let bytes: u64 = names().iter().map(|path| fs::metadata(path).map_or(0, |about| about.len())).sum();
    assert!(bytes <= 40_000, "{bytes} bytes");
    bed.stop_node();
}
