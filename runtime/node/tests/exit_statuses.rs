//! Exit statuses that scripts rely on, of the binary itself: where nothing can be printed, and where nothing was done.
#![forbid(unsafe_code)]

use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    process::{Command, Output, Stdio},
};

use palisade_wire::trace::{Fact, Header, TraceWriter, What};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");
const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/traces/web.paltrace");

fn palisade(arguments: &[&str], out: Stdio) -> Output {
    let mut command = Command::new(PALISADE);
    command.args(arguments).env("NO_COLOR", "1").stdout(out).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn unit_commands_whose_output_has_no_room_say_so_and_answer_with_no_status_that_means_another_thing() {
    let directory = tempfile::tempdir().expect("a directory");
    let policy = directory.path().join("p.yaml");
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: default}\n\
        spec: {selector: {}, file: {matchPaths: [{path: /nonesuch}]}, action: Block}\n";
    std::fs::write(&policy, text).expect("written");
    let policy = policy.display().to_string();
    let simulate = ["simulate", "--seed", "1", "--nodes", "1", "--minutes", "0.05", "--faults", "none"];
    for (arguments, status) in [
        (&["rehearse", "--policy", &policy, TRACE][..], 2),
        (&["trace", "info", TRACE], 1),
        (&["replay", TRACE], 1),
        (&simulate, 1),
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("there");
        let output = palisade(arguments, full.into());
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("standard output"), "{arguments:?}: {}", said(&output));
    }
}

/// Serves one recording: this trace; and the node's other answers.
fn serve(socket: &std::path::Path, trace: Vec<u8>) {
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.expect("asked");
            let mut question = [0; 1024];
            let length = peer.read(&mut question).expect("a question");
            let question = String::from_utf8_lossy(&question[..length]).into_owned();
            let (head, body) = if question.starts_with("POST /v1/record?") {
                ("Palisade-Recording: 3\r\n", trace.clone())
            } else if question.starts_with("POST /v1/record/end") {
                ("", br#"{"ended":false}"#.to_vec())
            } else {
                ("", br#"{"workloads":[]}"#.to_vec())
            };
            let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len());
            // Who has gone has heard enough.
            let _ = peer.write_all(&[head.as_bytes(), &body].concat());
        }
    });
}

#[test]
fn unit_record_is_a_success_only_where_a_whole_trace_with_what_was_asked_for_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |name: &str, trace: Vec<u8>, more: &[&str], out: Stdio| {
        let (socket, file) = (directory.path().join(format!("{name}.sock")), directory.path().join(name));
        serve(&socket, trace);
        let file = if more.contains(&"-") { String::new() } else { file.display().to_string() };
        let socket = socket.display().to_string();
        let mut line = vec!["record", "--duration", "1s", "--admin-socket", &socket];
        line.extend(if file.is_empty() { vec![] } else { vec!["--out", file.as_str()] });
        line.extend(more);
        let output = palisade(&line, out);
        (output.status.code(), said(&output))
    };
    let whole = std::fs::read(TRACE).expect("a trace");
    let mut writer = TraceWriter::begin(Vec::new(), &Header::default()).expect("begun");
    writer.facts(&[Fact { boot_ns: 1, what: What::Clock(1) }]).expect("written");
    let empty = writer.finish().expect("finished");
    let good = of("good", whole.clone(), &[], Stdio::piped());
    assert!(good.0 == Some(0) && good.1.contains("a whole trace"), "{good:?}");
    assert_eq!(std::fs::read(directory.path().join("good")).expect("written"), whole);
    let cut = of("cut", whole[..whole.len() - 9].to_vec(), &[], Stdio::piped());
    assert!(cut.0 == Some(1) && cut.1.contains("no whole trace"), "{cut:?}");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("there");
    let full = of("full", whole, &["--out", "-"], full.into());
    assert!(full.0 == Some(1) && full.1.contains("no whole trace"), "its last bytes are nowhere: {full:?}");
    assert_eq!(of("quiet", empty.clone(), &[], Stdio::piped()).0, Some(0), "nobody did anything");
    let nobody = of("nobody", empty, &["--workload", "nosuch"], Stdio::piped());
    assert!(nobody.0 == Some(1) && nobody.1.contains("no workload is called nosuch"), "{nobody:?}");
}

/// Two plain logs of one container, as a node of KubeArmor writes them.
const LOGS: &str = r#"{"timestamp":1731000001,"hostName":"n","containerID":"abc","namespaceName":"shop","podName":"web","containerName":"web","hostPPid":1,"hostPid":9,"source":"/bin/cat","operation":"File","resource":"/srv/a","data":"syscall=SYS_OPENAT fd=-100 flags=O_RDONLY","result":"Passed"}
{"timestamp":1731000002,"hostName":"n","containerID":"abc","namespaceName":"shop","podName":"web","containerName":"web","hostPPid":1,"hostPid":9,"source":"/bin/cat","operation":"Process","resource":"/bin/cat","data":"syscall=SYS_EXECVE","result":"Passed"}
"#;

#[test]
fn unit_trace_import_of_a_log_that_is_readable_in_part_makes_a_trace_and_is_no_success() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p, namespace: shop}\n\
        spec: {selector: {}, file: {matchPaths: [{path: /nonesuch}]}, action: Block}\n";
    std::fs::write(path("p.yaml"), text).expect("written");
    let imported = |name: &str, logs: &[u8]| {
        let (source, out) = (path(&format!("{name}.log")), path(&format!("{name}.paltrace")));
        std::fs::write(&source, logs).expect("written");
        let made = palisade(&["trace", "import", &source, "--out", &out], Stdio::piped());
        let rehearsed = palisade(&["rehearse", "--policy", &path("p.yaml"), &out], Stdio::piped());
        (made.status.code(), said(&made), rehearsed.status.code(), said(&rehearsed))
    };
    let good = imported("good", LOGS.as_bytes());
    assert!(good.0 == Some(0) && !good.1.contains("cannot be read"), "{good:?}");
    assert!(good.2 == Some(0) && !good.3.contains("not complete"), "{good:?}");
    let cut = &LOGS.as_bytes()[..LOGS.len() - 9];
    for (name, count, logs) in [
        ("text", 2, format!("hello\n{LOGS}\u{0}\u{1}\n").into_bytes()),
        ("cut", 1, cut.to_vec()),
        ("long", 1, format!("{}\n{LOGS}", "x".repeat(2 << 20)).into_bytes()),
        ("bytes", 1, [b"\xff\xfe{}\n", LOGS.as_bytes()].concat()),
    ] {
        let (status, said, rehearsed, why) = imported(name, &logs);
        assert_eq!((status, rehearsed), (Some(1), Some(3)), "{name}: {said}\n{why}");
        assert!(said.contains(&format!("{name}.log: {count} lines cannot be read")), "{said}");
        assert!(why.contains(&format!("{count}  records are missing")) && why.contains("not complete"), "{why}");
        let told = palisade(&["trace", "info", &path(&format!("{name}.paltrace"))], Stdio::piped());
        assert!(self::said(&told).contains(&format!("{count} not readable")), "{}", self::said(&told));
    }
    let none = imported("none", b"hello\nworld\n");
    assert!(none.0 == Some(1) && !std::path::Path::new(&path("none.paltrace")).exists(), "{none:?}");
}

#[test]
fn unit_simulate_that_does_nothing_is_no_success() {
    let none = palisade(&["simulate", "--random", "0"], Stdio::piped());
    assert_eq!(none.status.code(), Some(64), "{}", said(&none));
    let late = palisade(&["simulate", "--random", "3", "--nodes", "1", "--within", "0"], Stdio::piped());
    assert!(late.status.code() == Some(1) && said(&late).contains("no seed was run"), "{}", said(&late));
    let short = palisade(&["simulate", "--seed", "1", "--nodes", "1", "--stop-at-ms", "1"], Stdio::piped());
    assert!(short.status.code() == Some(1) && said(&short).contains("tested nothing"), "{}", said(&short));
}
