//! Hook and server against each other and against peers that do not keep to the protocol.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::spawn_blocking,
};

use super::{Call, Failure, HookError, MAX_CONCURRENT, Server, Signal, run};
use crate::roster::Key;

const STATE: &str = r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":12,"bundle":"/run/io.containerd.runtime.v2.task/ns/c1"}"#;

/// Who runs the test: the server lets only root in, and the tests need no root.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

struct Bed {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("hook.sock"), _directory: directory }
    }

    async fn serve(&self) -> Server {
        Server::bind(&self.path, own_uid()).await.unwrap()
    }

    async fn ask(&self) -> Result<(), HookError> {
        let path = self.path.clone();
        spawn_blocking(move || run(STATE.as_bytes(), &path, Duration::from_secs(5))).await.unwrap()
    }

    /// Says `bytes` to the server and hears it to the end.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        hear(&mut stream).await
    }
}

async fn hear(stream: &mut UnixStream) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

async fn call(server: &mut Server) -> Call {
    match server.signal().await {
        Some(Signal::Call(call)) => call,
        other => panic!("no call: {other:?}"),
    }
}

async fn abandoned(server: &mut Server) -> (Key, u32) {
    match server.signal().await {
        Some(Signal::Abandoned(key, pid)) => (key, pid),
        other => panic!("not abandoned: {other:?}"),
    }
}

fn c1() -> (Key, u32) {
    (Key { namespace: "ns".into(), id: "c1".into() }, 12)
}

#[tokio::test]
async fn unit_hook_is_admitted_or_refused_by_the_nodes_word() {
    let bed = Bed::new();
    let mut server = bed.serve().await;
    let (asked, ()) = tokio::join!(bed.ask(), async {
        let call = call(&mut server).await;
        assert_eq!((call.request.namespace.as_str(), call.request.id.as_str(), call.request.pid), ("ns", "c1", 12));
        call.answer.send(Ok(())).unwrap();
    });
    asked.unwrap();
    let (asked, ()) =
        tokio::join!(bed.ask(), async { call(&mut server).await.answer.send(Err("not now".into())).unwrap() });
    assert_eq!(asked.unwrap_err().to_string(), "container c1 is refused: not now");
    assert_eq!(abandoned(&mut server).await, c1(), "only the refused is abandoned");
}

#[tokio::test]
async fn unit_hook_that_goes_away_is_abandoned() {
    let bed = Bed::new();
    let mut server = bed.serve().await;
    let mut stream = UnixStream::connect(&bed.path).await.unwrap();
    let line = b"{\"version\":1,\"namespace\":\"ns\",\"id\":\"c1\",\"pid\":12,\"bundle\":\"/b\"}\n";
    stream.write_all(line).await.unwrap();
    let call = call(&mut server).await;
    drop(stream);
    assert_eq!(abandoned(&mut server).await, c1());
    assert!(call.answer.send(Ok(())).is_err(), "nobody waits any more");
}

#[tokio::test]
async fn unit_hook_server_refuses_what_is_no_question_and_serves_on() {
    let bed = Bed::new();
    let mut server = bed.serve().await;
    assert!(bed.say(b"GET / HTTP/1.1\r\n\r\n").await.contains("cannot be read"));
    assert!(bed.say(b"\n").await.contains("cannot be read"));
    assert!(bed.say(&[b'x'; 33 * 1024]).await.contains("longer than 32768 bytes"));
    let mut silent = UnixStream::connect(&bed.path).await.unwrap();
    assert!(hear(&mut silent).await.contains("no question within 2 s"));
    let (asked, ()) = tokio::join!(bed.ask(), async { call(&mut server).await.answer.send(Ok(())).unwrap() });
    asked.unwrap();
}

#[tokio::test]
async fn unit_hook_server_refuses_other_users() {
    let bed = Bed::new();
    let _server = Server::bind(&bed.path, own_uid() + 1).await.unwrap();
    let refused = bed.ask().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("not uid {}", own_uid())), "{refused}");
}

#[tokio::test]
async fn unit_hook_server_lets_those_too_many_wait_and_serves_them() {
    let bed = Bed::new();
    let mut server = bed.serve().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONCURRENT {
        silent.push(UnixStream::connect(&bed.path).await.unwrap());
    }
    let mut asking = std::pin::pin!(bed.ask());
    tokio::select! {
        signal = server.signal() => panic!("served beyond the bound: {signal:?}"),
        asked = &mut asking => panic!("answered while no slot is free: {asked:?}"),
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    // The silent have two seconds to ask; then it is the waiting one's turn.
    let (asked, ()) = tokio::join!(asking, async { call(&mut server).await.answer.send(Ok(())).unwrap() });
    asked.unwrap();
}

#[tokio::test]
async fn unit_hook_socket_replaces_one_left_behind_and_no_other() {
    let bed = Bed::new();
    drop(UnixListener::bind(&bed.path).unwrap());
    let server = bed.serve().await;
    let busy = Server::bind(&bed.path, own_uid()).await.unwrap_err();
    assert_eq!(busy.kind(), io::ErrorKind::AddrInUse);
    drop(server);
    assert!(!bed.path.exists(), "gone with its server");
    fs::write(&bed.path, "a file of somebody's").unwrap();
    assert!(Server::bind(&bed.path, own_uid()).await.is_err());
    assert_eq!(fs::read_to_string(&bed.path).unwrap(), "a file of somebody's");
}

#[tokio::test]
async fn unit_hook_socket_of_a_successor_is_left_alone() {
    let bed = Bed::new();
    let first = bed.serve().await;
    fs::remove_file(&bed.path).unwrap();
    let _second = bed.serve().await;
    drop(first);
    assert!(bed.path.exists());
}

/// A node that answers `said`, whatever it is asked.
async fn answered(said: &'static [u8]) -> HookError {
    let bed = Bed::new();
    let listener = UnixListener::bind(&bed.path).unwrap();
    let (asked, ()) = tokio::join!(bed.ask(), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Hung up on when the answer is too long.
        stream.write_all(said).await.ok();
    });
    asked.unwrap_err()
}

#[tokio::test]
async fn unit_hook_takes_only_the_word_admitted_for_an_answer() {
    static LONG: [u8; 8192] = [b' '; 8192];
    let answers: [&'static [u8]; 6] =
        [b"", b"{\"admitted\":true}", b"true\n", b"{\"admitted\":\"true\"}\n", b"{}\n", &LONG];
    for said in answers {
        let error = answered(said).await;
        assert!(matches!(error, HookError::NoAnswer { .. }), "{said:?}: {error}");
    }
    assert!(matches!(answered(b"{\"admitted\":false}\n").await, HookError::Refused { .. }));
}

#[test]
fn unit_hook_fails_closed_and_opens_only_for_a_node_that_is_away() {
    let nowhere = run(STATE.as_bytes(), Path::new("/nowhere/hook.sock"), Duration::from_secs(1));
    assert!(matches!(nowhere, Err(HookError::Unreachable { .. })), "{nowhere:?}");
    assert!(Failure::Open.permits(&nowhere) && !Failure::Closed.permits(&nowhere));
    let no_state = run(&b"{}"[..], Path::new("/nowhere/hook.sock"), Duration::from_secs(1));
    assert!(matches!(no_state, Err(HookError::State(_))));
    assert!(!Failure::Open.permits(&no_state), "a hook that is set up wrongly is no absent node");
    let refused = Err(HookError::Refused { id: "c1".into(), reason: String::new() });
    assert!(!Failure::Open.permits(&refused) && Failure::Closed.permits(&Ok(())));
}

#[tokio::test]
async fn unit_hook_waits_no_longer_than_it_was_told() {
    let bed = Bed::new();
    // Connections wait in the backlog, and nobody takes them.
    let _listener = UnixListener::bind(&bed.path).unwrap();
    let path = bed.path.clone();
    let asked = spawn_blocking(move || run(STATE.as_bytes(), &path, Duration::from_millis(100))).await.unwrap();
    assert!(matches!(asked, Err(HookError::TimedOut { .. })));
}

#[tokio::test]
async fn unit_hook_outlasts_a_node_that_restarts() {
    let bed = Bed::new();
    drop(UnixListener::bind(&bed.path).unwrap());
    let (asked, ()) = tokio::join!(bed.ask(), async {
        // The socket of the node before is there, and nobody serves it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut server = bed.serve().await;
        call(&mut server).await.answer.send(Ok(())).unwrap();
        // Answered is not heard: the server lives until it is.
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    asked.unwrap();
}

#[tokio::test]
async fn unit_hook_that_was_abandoned_is_told_even_if_nobody_listened_at_the_time() {
    let bed = Bed::new();
    let mut server = bed.serve().await;
    let line = b"{\"version\":1,\"namespace\":\"ns\",\"id\":\"c1\",\"pid\":12,\"bundle\":\"/b\"}\n";
    let ask = async || {
        let mut stream = UnixStream::connect(&bed.path).await.unwrap();
        stream.write_all(line).await.unwrap();
        stream
    };
    let settle = || tokio::time::sleep(Duration::from_millis(300));
    // Some come and go, then as many as are served at a time ask: there is no room left for the word that they went, too.
    for _ in 0..MAX_CONCURRENT / 2 {
        drop(ask().await);
    }
    settle().await;
    let mut waiting = Vec::new();
    for _ in 0..MAX_CONCURRENT {
        waiting.push(ask().await);
    }
    settle().await;
    drop(waiting);
    settle().await;
    let (mut calls, mut ends) = (0, 0);
    while let Ok(signal) = tokio::time::timeout(Duration::from_secs(1), server.signal()).await {
        match signal.unwrap() {
            Signal::Call(_) => calls += 1,
            Signal::Abandoned(..) => ends += 1,
        }
    }
    assert_eq!((calls, ends), (MAX_CONCURRENT * 3 / 2, MAX_CONCURRENT * 3 / 2));
}
