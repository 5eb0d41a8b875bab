//! Over real sockets, with raw bytes: what a client can send is not only what a client library would.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::mpsc,
};

use crate::{
    AdminAddress, AdminError, AdminView, AlertLines, Document, Metric, MetricKind, Token, ViewError, exposition, serve,
};

struct Sample;

#[async_trait]
impl AdminView for Sample {
    async fn document(&self, which: Document) -> Result<serde_json::Value, ViewError> {
        match which {
            Document::Tree => Ok(json!({ "name": "node" })),
            _ => Err(ViewError { actor: "workloads", reason: "mailbox closed".into() }),
        }
    }

    async fn readiness(&self) -> Result<(bool, serde_json::Value), ViewError> {
        Ok((false, json!({ "policies": "pending" })))
    }

    async fn metrics(&self) -> Result<Vec<Metric>, ViewError> {
        Ok(vec![Metric::single("alerts", "Alerts raised.", MetricKind::Counter, 3)])
    }

    async fn alerts(&self, recent: usize, _follow: bool) -> Result<AlertLines, ViewError> {
        let (lines, stream) = mpsc::channel(8);
        for number in 0..recent.min(2) {
            lines.send(Arc::from(format!("{{\"n\":{number}}}\n"))).await.expect("room for two");
        }
        Ok(stream)
    }
}

async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // To the end; or, where the server still waits for the body that it was promised, to what it says before that.
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(2), read).await;
    assert!(
        ended.is_ok() || answer.starts_with(b"HTTP/1.1 413"),
        "no end after {:?}",
        String::from_utf8_lossy(&answer)
    );
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

struct Bed {
    root: tempfile::TempDir,
    server: crate::AdminServer,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let token = Token::at(&root.path().join("token")).expect("made");
        let address = AdminAddress {
            socket: root.path().join("admin.sock"),
            loopback: Some(("127.0.0.1:0".parse().expect("an address"), token)),
        };
        let server = serve(address, Arc::new(Sample)).expect("serves");
        Self { root, server }
    }

    async fn unix(&self, request: &str) -> String {
        exchange(UnixStream::connect(self.root.path().join("admin.sock")).await.expect("listens"), request).await
    }

    async fn tcp(&self, request: &str) -> String {
        exchange(TcpStream::connect(self.server.loopback.expect("bound")).await.expect("listens"), request).await
    }
}

#[actix_rt::test]
async fn unit_admin_shows_documents_and_says_who_did_not_answer() {
    let bed = Bed::new();
    let tree = bed.unix(&get("/v1/tree", "")).await;
    assert!(tree.starts_with("HTTP/1.1 200") && tree.ends_with(r#"{"name":"node"}"#), "{tree}");
    let workloads = bed.unix(&get("/v1/workloads", "")).await;
    assert!(
        workloads.starts_with("HTTP/1.1 503") && workloads.contains("workloads did not answer: mailbox closed"),
        "{workloads}"
    );
    let ready = bed.unix(&get("/readyz", "")).await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("pending"), "{ready}");
    let alerts = bed.unix(&get("/v1/alerts?recent=2", "")).await;
    assert!(alerts.contains("{\"n\":0}\n") && alerts.contains("{\"n\":1}\n"), "{alerts}");
    bed.server.stop().await;
    assert!(!bed.root.path().join("admin.sock").exists());
}

#[actix_rt::test]
async fn unit_admin_loopback_answers_only_to_the_token() {
    let bed = Bed::new();
    let token = std::fs::read_to_string(bed.root.path().join("token")).expect("there");
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n"] {
        let answer = bed.tcp(&get("/healthz", headers)).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("Authorization: Bearer TOKEN"), "{answer}");
    }
    let answer = bed.tcp(&get("/healthz", &format!("Authorization: Bearer {token}\r\n"))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_survives_bad_requests_with_a_clear_answer() {
    let bed = Bed::new();
    let cases = [
        (get("/nothing", ""), "404", "there is nothing at /nothing"),
        ("DELETE /v1/tree HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), "405", "only GET"),
        (get("/v1/alerts?recent=-1", ""), "400", "recent=100"),
        (get("/v1/alerts?colour=red", ""), "400", "colour"),
        (
            "POST /v1/tree HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".into(),
            "413",
            "no route takes a body",
        ),
        (
            "POST /v1/tree HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n".into(),
            "413",
            "no route takes a body",
        ),
        ("\u{0}\u{1}garbage\r\n\r\n".into(), "400", ""),
    ];
    for (request, status, text) in cases {
        let answer = bed.unix(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{request:?}: {answer}");
    }
    assert!(bed.unix(&get("/healthz", "")).await.starts_with("HTTP/1.1 200"), "still there");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_socket_is_private_and_replaces_only_a_dead_one() {
    let bed = Bed::new();
    let path = bed.root.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let second =
        serve(AdminAddress { socket: path.clone(), loopback: None }, Arc::new(Sample)).expect_err("it is taken");
    assert!(second.to_string().contains("another node answers there"), "{second}");
    bed.server.stop().await;
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody serves"));
    let third = serve(AdminAddress { socket: path, loopback: None }, Arc::new(Sample)).expect("replaced");
    third.stop().await;
}

#[test]
fn unit_admin_refuses_an_address_that_is_not_loopback() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let token = Token::at(&root.path().join("token")).expect("made");
    let address = AdminAddress {
        socket: root.path().join("admin.sock"),
        loopback: Some(("0.0.0.0:0".parse().expect("an address"), token)),
    };
    assert!(matches!(serve(address, Arc::new(Sample)), Err(AdminError::NotLoopback(_))));
}

#[test]
fn unit_admin_token_is_made_once_private_and_never_weak() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("token");
    let made = Token::at(&path).expect("made");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).expect("there");
    assert!(
        Token::at(&path).expect("read").admits(Some(&format!("Bearer {text}")))
            && made.admits(Some(&format!("Bearer {text}")))
    );
    std::fs::write(&path, "short").expect("written");
    assert!(Token::at(&path).is_err());
}

#[test]
fn unit_admin_metrics_escape_hostile_label_values() {
    let metric = Metric {
        name: "records_lost",
        help: "Records lost.",
        kind: MetricKind::Counter,
        samples: vec![(vec![("kind", "a\"b\\c\nd".into())], 1)],
    };
    let text = exposition(vec![metric]).expect("formatted");
    assert!(text.contains(r#"palisade_records_lost_total{kind="a\"b\\c\nd"} 1"#), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
