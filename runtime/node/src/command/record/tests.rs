//! What is asked of a node, and how a recording ends.

use std::{sync::mpsc, thread};

use clap::Parser as _;
use rustix::process::{Signal as Sent, getpid, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::Mutex,
    task::spawn_blocking,
};

use super::{writing::write, *};
use crate::arguments::{Command, Palisade};

/// A signal is heard by every test of the process that listens.
static LISTENING: Mutex<()> = Mutex::const_new(());

fn arguments(line: &[&str]) -> RecordArguments {
    let line = ["palisade", "record"].iter().chain(line);
    let Command::Record(arguments) = Palisade::parse_from(line).command else { panic!("record") };
    arguments
}

fn asked(line: &[&str]) -> String {
    route(&arguments(&[&["--out", "t"], line].concat()))
}

#[test]
fn unit_record_asks_for_what_it_is_told() {
    assert_eq!(asked(&[]), "/v1/record?last=0");
    assert_eq!(asked(&["--last", "5m"]), "/v1/record?last=300&duration=0", "the past alone ends at once");
    assert_eq!(asked(&["--last", "5m", "--follow"]), "/v1/record?last=300", "and goes on");
    assert_eq!(asked(&["--last", "5m", "--duration", "90s"]), "/v1/record?last=300&duration=90");
    let all = ["--workload", "shop/a b", "--workload", "db", "--max-size", "10M", "--keep-arguments"];
    assert_eq!(asked(&all), "/v1/record?last=0&limit_bytes=10485760&arguments=true&workload=shop%2Fa%20b,db");
    let rotated = ["--max-size", "16K", "--rotate", "3"];
    assert_eq!(asked(&rotated), "/v1/record?last=0&limit_bytes=16384&in_parts=true", "one question for all files");
}

/// Serves one recording: these bytes, then, once somebody asks it to end it, or at once, these; and why it ended, to who asks.
async fn node(listener: &UnixListener, bytes: (&str, &str), waits: bool, end: &str) -> Vec<String> {
    let mut questions = Vec::new();
    let (mut stream, _) = listener.accept().await.expect("asked");
    let question = async |peer: &mut tokio::net::UnixStream| {
        let mut question = [0; 512];
        let length = peer.read(&mut question).await.expect("a question");
        String::from_utf8_lossy(&question[..length]).lines().next().unwrap_or_default().to_owned()
    };
    questions.push(question(&mut stream).await);
    let head = "HTTP/1.1 200 OK\r\nPalisade-Recording: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("heard");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk(bytes.0).as_bytes()).await.expect("heard");
    if !waits {
        stream.write_all(format!("{}0\r\n\r\n", chunk(bytes.1)).as_bytes()).await.expect("heard");
    }
    let (mut ender, _) = listener.accept().await.expect("asked");
    questions.push(question(&mut ender).await);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{end}", end.len());
    ender.write_all(answer.as_bytes()).await.expect("heard");
    if waits {
        stream.write_all(format!("{}0\r\n\r\n", chunk(bytes.1)).as_bytes()).await.expect("heard");
    }
    questions
}

#[tokio::test]
async fn unit_record_hears_whoever_interrupts_it_whenever_that_is() {
    let _alone = LISTENING.lock().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (silent, socket) = (directory.path().join("silent.sock"), directory.path().join("admin.sock"));
    let _silent = UnixListener::bind(&silent).expect("bound");
    let listener = UnixListener::bind(&socket).expect("bound");
    let mut interrupts = Interrupts::new().expect("signals");
    // While nobody waits for it: a file is made, or finished.
    kill_process(getpid(), Sent::TERM).expect("sent");
    let mut heard = Vec::new();
    let take = async |part: &Bytes| {
        heard.extend_from_slice(part);
        Ok(true)
    };
    let recording = received(&silent, "/v1/record?last=0", &mut interrupts, take);
    let ended = tokio::time::timeout(Duration::from_secs(5), recording).await.expect("heard");
    assert_eq!(ended.expect("no error"), Ended::Abandoned, "before anything came");
    let take = async |part: &Bytes| {
        if heard.is_empty() && !part.is_empty() {
            kill_process(getpid(), Sent::HUP).expect("sent");
        }
        heard.extend_from_slice(part);
        Ok(true)
    };
    let (ended, questions) = tokio::join!(
        received(&socket, "/v1/record?last=0", &mut interrupts, take),
        node(&listener, ("first", "rest"), true, r#"{"ended":true}"#)
    );
    assert_eq!(ended.expect("no error"), Ended::ByUser);
    assert_eq!(questions, ["POST /v1/record?last=0 HTTP/1.1", "POST /v1/record/end?id=5 HTTP/1.1"]);
    assert_eq!(heard, b"firstrest");
    let mut interrupts = Interrupts::new().expect("signals");
    // A disk that does not answer keeps nobody.
    let (release, held) = mpsc::sync_channel::<()>(0);
    let work = move || held.recv().is_ok();
    let mut kills = pin!(async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            kill_process(getpid(), Sent::TERM).expect("sent");
        }
        std::future::pending::<()>().await;
    });
    let left = tokio::select! {
        left = unless_interrupted(spawn_blocking(work), &mut interrupts, false) => left,
        () = &mut kills => None,
    };
    assert_eq!(left, None);
    drop(release);
    assert_eq!(unless_interrupted(spawn_blocking(|| 7), &mut interrupts, false).await, Some(7));
}

#[tokio::test]
async fn unit_record_hears_whoever_interrupts_it_while_a_write_does_not_end() {
    let _alone = LISTENING.lock().await;
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let mut interrupts = Interrupts::new().expect("signals");
    let [socket_text, out] = [&socket, &directory.path().join("t")].map(|path| path.display().to_string());
    let arguments = arguments(&["--out", &out, "--admin-socket", &socket_text]);
    let files = Files::create(&arguments).expect("made");
    let (release, held) = mpsc::sync_channel::<()>(0);
    // Whoever waits for the write goes on after ten seconds, and is known by that.
    let (left, waits) = mpsc::sync_channel::<()>(1);
    let disk = thread::spawn(move || {
        let is_left = waits.recv_timeout(Duration::from_secs(10)).is_ok();
        drop(release);
        is_left
    });
    let writing = Writing::of(move |parts| {
        let _ = held.recv();
        write(files, parts)
    });
    let parts = writing.parts.downgrade();
    let kills = async {
        // The node sends more than is taken, and nobody takes it.
        while parts.upgrade().is_some_and(|parts| parts.capacity() > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            kill_process(getpid(), Sent::TERM).expect("sent");
        }
        std::future::pending::<()>().await;
    };
    let serves = async {
        let (mut stream, _) = listener.accept().await.expect("asked");
        let head = "HTTP/1.1 200 OK\r\nPalisade-Recording: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("heard");
        stream.write_all("1\r\nx\r\n".repeat(100).as_bytes()).await.expect("heard");
        std::future::pending::<()>().await;
    };
    let recording = tokio::time::timeout(Duration::from_secs(30), recorded_by(&arguments, writing, &mut interrupts));
    let ended = tokio::select! {
        ended = recording => ended.expect("heard"),
        () = kills => panic!("it goes on for ever"),
        () = serves => panic!("it goes on for ever"),
    };
    assert_eq!(format!("{:?}", ended.expect("no error")), format!("{:?}", ExitCode::FAILURE));
    assert!(parts.upgrade().is_none(), "nothing more is given to it");
    left.send(()).expect("heard");
    assert!(disk.join().expect("no panic"), "it waited for the disk");
}

#[tokio::test]
async fn unit_record_says_why_the_node_ended_it() {
    let _alone = LISTENING.lock().await;
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let mut interrupts = Interrupts::new().expect("signals");
    for (end, says) in [
        (r#"{"ended":false,"why":"its reader took nothing for 60 s"}"#, Some("took nothing for 60 s")),
        (r#"{"ended":false}"#, None),
    ] {
        let take = async |_: &Bytes| Ok(true);
        let (ended, _) = tokio::join!(
            received(&socket, "/v1/record?last=0", &mut interrupts, take),
            node(&listener, ("a", "b"), false, end)
        );
        match says {
            Some(says) => assert!(ended.expect_err("said").to_string().contains(says)),
            None => assert_eq!(ended.expect("in good order"), Ended::ByNode),
        }
    }
}

#[test]
fn unit_record_tells_names_that_nobody_has() {
    let workload = serde_json::json!({
        "kind": "container", "name": "web", "namespace": "shop", "container": "main", "container_id": "1", "image": "",
        "labels": {},
    });
    let answer = serde_json::json!({ "workloads": [{ "slot": 0, "workload": { "kind": "host" } }, { "slot": 4, "workload": workload }] });
    let names = ["web", "shop/web", "shop/web/main", "host", "nosuch"].map(str::to_owned);
    assert_eq!(unknown_of(&answer, &names), ["nosuch"]);
}
