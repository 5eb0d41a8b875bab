//! Over real sockets, with raw bytes: what a client can send is not only what a client library would.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::mpsc,
};

use crate::{
    AdminAddress, AdminError, AdminView, AlertLines, Document, Exposition, LineFilter, Metric, MetricKind,
    RecordingBegun, RecordingRequest, Token, ViewError, exposition,
    nodes::{AllAlerts, AllLine, AllLines, NodeAnswer, NodeMark},
    serve,
};

/// Escapes, an end of an event, a label's end, C1, bidi: what a workload may call itself.
const HOSTILE: &str = "\u{1b}[2J\r\n\r\nevent: tree\ndata: {}\n\n\u{9b}31m\u{7f}\u{202e}\"} 1\u{2028}%n\\";

#[derive(Default)]
struct Sample {
    followers: Mutex<Vec<mpsc::Sender<Arc<str>>>>,
}

#[async_trait]
impl AdminView for Sample {
    async fn document(&self, which: Document) -> Result<serde_json::Value, ViewError> {
        match which {
            Document::TreeOfAll => Ok(json!({ "of": "all" })),
            Document::Tree => Ok(json!({
                "name": "node", "children": [{ "name": "probe", "children": [], "last_error": HOSTILE }],
            })),
            _ => Err(ViewError { actor: "workloads", reason: "mailbox closed".into() }),
        }
    }

    async fn readiness(&self) -> Result<(bool, serde_json::Value), ViewError> {
        Ok((false, json!({ "policies": { "state": "pending", "reason": "not read yet" } })))
    }

    async fn metrics(&self) -> Vec<Metric> {
        vec![Metric::single("alerts", "Alerts raised.", MetricKind::Counter, 3)]
    }

    async fn alerts(&self, filter: LineFilter, recent: usize, follow: bool) -> Result<AlertLines, ViewError> {
        let (lines, stream) = mpsc::channel(8);
        if follow {
            self.followers.lock().expect("no panic").push(lines.clone());
        }
        let recent = if filter == LineFilter::System { 0 } else { recent.min(2) };
        for number in 0..recent {
            let line = format!("{{\"n\":{number},\"verdict\":\"{}\"}}\n", ["denied", "killed"][number % 2]);
            lines.send(Arc::from(line)).await.expect("room for two");
        }
        Ok(stream)
    }

    async fn alerts_of_all(&self, recent: usize) -> Result<AllAlerts, ViewError> {
        let link = |node: &str, state: &str| NodeMark {
            link: NodeAnswer { node: node.into(), state: state.into(), ..NodeAnswer::default() },
            omitted: 0,
            note: None,
        };
        let marks = vec![link("a", "here"), link("b", "out")];
        let lines = ["denied", "killed", "denied"].iter().enumerate();
        let lines: Vec<String> = lines.map(|(n, verdict)| format!("{{\"n\":{n},\"verdict\":\"{verdict}\"}}")).collect();
        Ok(AllAlerts { marks, lines: lines[lines.len() - recent.min(3)..].to_vec() })
    }

    async fn follow_all(&self, recent: usize) -> Result<AllLines, ViewError> {
        let AllAlerts { marks, lines } = self.alerts_of_all(recent).await?;
        let marks = marks.into_iter().map(|mark| AllLine::Mark(Box::new(mark)));
        let lines = lines.into_iter().map(|line| AllLine::Alert(Arc::from(line)));
        let late = NodeMark { note: Some("out".into()), ..NodeMark::default() };
        Ok(Box::pin(futures_util::stream::iter(marks.chain(lines).chain([AllLine::Mark(Box::new(late))]))))
    }

    async fn processes(&self, workload: &str) -> Result<serde_json::Value, ViewError> {
        Ok(json!({ "of": workload, "executable": if workload == "hostile" { HOSTILE } else { "" } }))
    }

    async fn record(&self, request: RecordingRequest) -> Result<RecordingBegun, ViewError> {
        let (chunks, trace) = mpsc::channel(2);
        for chunk in [format!("{request:?}"), ";the end".to_owned()] {
            chunks.send(Arc::from(chunk.as_bytes())).await.expect("room for two");
        }
        Ok(RecordingBegun { id: 7, trace })
    }

    async fn end_recording(&self, id: u64) -> Result<bool, ViewError> {
        Ok(id == 7)
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
    view: Arc<Sample>,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let token = Token::at(&root.path().join("token")).expect("made");
        let address = AdminAddress {
            socket: root.path().join("admin.sock"),
            loopback: Some(("127.0.0.1:0".parse().expect("an address"), token)),
        };
        let view = Arc::new(Sample::default());
        let server = serve(address, Arc::clone(&view) as Arc<dyn AdminView>).expect("serves");
        Self { root, server, view }
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
    assert!(tree.starts_with("HTTP/1.1 200") && tree.ends_with(r#""name":"node"}"#), "{tree}");
    let workloads = bed.unix(&get("/v1/workloads", "")).await;
    assert!(
        workloads.starts_with("HTTP/1.1 503") && workloads.contains("workloads did not answer: mailbox closed"),
        "{workloads}"
    );
    let ready = bed.unix(&get("/readyz", "")).await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("pending"), "{ready}");
    let processes = bed.unix(&get("/v1/processes?workload=shop%2Fweb", "")).await;
    assert!(processes.starts_with("HTTP/1.1 200") && processes.ends_with(r#""of":"shop/web"}"#), "{processes}");
    let logs = bed.unix(&get("/v1/alerts?recent=2&filter=system", "")).await;
    assert!(logs.starts_with("HTTP/1.1 200") && !logs.contains("\"n\""), "{logs}");
    let alerts = bed.unix(&get("/v1/alerts?recent=2", "")).await;
    assert!(alerts.contains("{\"n\":0,") && alerts.contains("{\"n\":1,"), "{alerts}");
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
async fn unit_admin_lets_no_name_write_to_the_terminal_of_who_asks_nor_begin_an_event() {
    let bed = Bed::new();
    let document = bed.unix(&get("/v1/processes?workload=hostile", "")).await;
    let body = document.split_once("\r\n\r\n").expect("head and body").1;
    assert!(body.chars().all(|c| (' '..='~').contains(&c)), "{body:?}");
    assert_eq!(body_of(&document)["executable"], HOSTILE, "and still the same");
    let echo = bed.unix(&get("/v1/\u{9b}2J", "")).await;
    assert!(!echo.contains('\u{9b}'), "{echo:?}");
    let mut listener = UnixStream::connect(bed.root.path().join("admin.sock")).await.expect("listens");
    listener.write_all(get("/v1/tree/events", "").as_bytes()).await.expect("sent");
    let mut heard = Vec::new();
    while !heard.windows(3).any(|end| end == b"}\n\n") {
        assert_ne!(listener.read_buf(&mut heard).await.expect("answered"), 0);
    }
    let heard = String::from_utf8(heard).expect("text");
    assert_eq!((heard.matches("\nevent: ").count(), heard.matches("\ndata: ").count()), (1, 1), "{heard:?}");
    assert!(heard.chars().all(|c| matches!(c, '\r' | '\n' | ' '..='~')), "{heard:?}");
    bed.server.stop().await;
}

/// A page that a browser was led to by a name that means 127.0.0.1 (DNS rebinding) can send what it likes, but has no token.
#[actix_rt::test]
async fn unit_admin_loopback_tells_a_rebound_or_smuggled_request_nothing() {
    let bed = Bed::new();
    let token = std::fs::read_to_string(bed.root.path().join("token")).expect("there");
    let rebound =
        "GET /v1/tree HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n";
    let answer = bed.tcp(rebound).await;
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("probe") && !answer.contains(&token), "{answer}");
    // One request whose end two readers see in two places: the second one must not be served.
    let admitted = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    let inner = format!("GET /v1/tree HTTP/1.1\r\n{admitted}\r\n");
    let outer = |headers: &str| format!("POST /healthz HTTP/1.1\r\n{admitted}{headers}\r\n");
    let both = outer(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", inner.len() + 5));
    let twice = outer(&format!("Content-Length: 0\r\nContent-Length: {}\r\n", inner.len()));
    let signed = outer(&format!("Content-Length: +{}\r\n", inner.len()));
    for smuggled in [format!("{both}0\r\n\r\n{inner}"), twice + &inner, signed + &inner] {
        let answer = bed.tcp(&smuggled).await;
        assert!(!answer.contains("probe") && answer.matches("HTTP/1.1 ").count() <= 1, "{smuggled:?}: {answer}");
    }
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_survives_bad_requests_with_a_clear_answer() {
    let bed = Bed::new();
    let cases = [
        (get("/nothing", ""), "404", "there is nothing at /nothing"),
        ("DELETE /v1/tree HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), "405", "only GET"),
        (get("/v1/alerts?recent=-1", ""), "400", "recent=100"),
        (get("/v1/alerts?filter=policies", ""), "400", "policy"),
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
    let second = serve(AdminAddress { socket: path.clone(), loopback: None }, Arc::new(Sample::default()))
        .expect_err("it is taken");
    assert!(second.to_string().contains("another node answers there"), "{second}");
    bed.server.stop().await;
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody serves"));
    let third = serve(AdminAddress { socket: path, loopback: None }, Arc::new(Sample::default())).expect("replaced");
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
    assert!(matches!(serve(address, Arc::new(Sample::default())), Err(AdminError::NotLoopback(_))));
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
    for wrong in ["short", &"x".repeat(31), &format!("{} {}", "x".repeat(20), "y".repeat(20)), &"é".repeat(40)] {
        std::fs::write(&path, wrong).expect("written");
        assert!(Token::at(&path).is_err(), "{wrong}");
    }
    assert_eq!(std::fs::read_dir(root.path()).expect("there").count(), 1, "nothing is left beside it");
}

#[test]
fn unit_admin_token_that_others_could_use_is_refused_with_what_to_do() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("token");
    Token::at(&path).expect("made");
    for mode in [0o644, 0o640, 0o602] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
        let refused = Token::at(&path).expect_err("others may use it").to_string();
        assert!(refused.contains("chmod 600") && refused.contains(&format!("{mode:04o}")), "{refused}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("ours");
    Token::at(&path).expect("read only is well");
    assert!(Token::at(root.path()).is_err(), "a directory");
    let fifo = root.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg("-m600").arg(&fifo).status().expect("coreutils").success());
    let refused = Token::at(&fifo).expect_err("nobody writes to it, and nobody waits").to_string();
    assert!(refused.contains("not a regular file"), "{refused}");
}

#[test]
fn unit_admin_token_is_never_written_where_a_link_leads() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let (path, elsewhere) = (root.path().join("token"), root.path().join("elsewhere"));
    std::os::unix::fs::symlink(&elsewhere, &path).expect("made");
    Token::at(&path).expect_err("the link's end is not there");
    assert!(!elsewhere.exists());
}

#[test]
fn unit_admin_metrics_escape_hostile_label_values() {
    let metric = Metric {
        name: "records_lost",
        help: "Records lost.",
        kind: MetricKind::Counter,
        samples: vec![(vec![("kind", "a\"b\\c\nd".into())], 1), (vec![("kind", HOSTILE.into())], 2)],
    };
    let text = exposition(vec![metric], Exposition::OpenMetrics).expect("formatted");
    assert!(text.contains(r#"palisade_records_lost_total{kind="a\"b\\c\nd"} 1"#), "{text}");
    assert!(text.ends_with("# EOF\n"));
    assert!(text.chars().all(|c| matches!(c, '\n' | ' '..='~')), "{text:?}");
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "no sample of its own: {text}");
}

#[test]
fn unit_admin_metrics_describe_counters_by_the_name_that_each_format_wants() {
    let metrics = || {
        let single = |name, kind| Metric::single(name, "Help.", kind, 1);
        vec![single("alerts", MetricKind::Counter), single("processes", MetricKind::Gauge)]
    };
    let text = exposition(metrics(), Exposition::Text).expect("formatted");
    let wanted = "# HELP palisade_alerts_total Help.\n# TYPE palisade_alerts_total counter\npalisade_alerts_total{} 1\n\
                  # HELP palisade_processes Help.\n# TYPE palisade_processes gauge\npalisade_processes{} 1\n";
    assert_eq!(text, wanted);
    let open = exposition(metrics(), Exposition::OpenMetrics).expect("formatted");
    assert!(open.contains("# TYPE palisade_alerts counter\npalisade_alerts_total{} 1\n"), "{open}");
}

#[actix_rt::test]
async fn unit_admin_metrics_come_in_the_format_that_is_accepted() {
    let bed = Bed::new();
    let plain = bed.unix(&get("/metrics", "")).await;
    assert!(plain.contains("text/plain; version=0.0.4") && plain.ends_with("palisade_alerts_total{} 3\n"), "{plain}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let open = bed.unix(&get("/metrics", accept)).await;
    assert!(open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"), "{open}");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_sees_at_once_that_a_follower_of_alerts_went_away() {
    let bed = Bed::new();
    let mut follower = UnixStream::connect(bed.root.path().join("admin.sock")).await.expect("listens");
    follower.write_all(get("/v1/alerts?recent=1&follow=true", "").as_bytes()).await.expect("sent");
    let mut answer = [0; 512];
    assert!(follower.read(&mut answer).await.expect("answered") > 0);
    let lines = bed.view.followers.lock().expect("no panic").pop().expect("it follows");
    assert!(!lines.is_closed());
    drop(follower);
    // No alert comes meanwhile.
    tokio::time::timeout(Duration::from_secs(2), lines.closed()).await.expect("its connection is free again");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_socket_takes_connections_before_it_serves_and_is_removed_by_its_owner_alone() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("admin.sock");
    let bound = AdminAddress { socket: path.clone(), loopback: None }.bind().expect("free");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let early = UnixStream::connect(&path).await.expect("waits");
    let server = bound.serve(Arc::new(Sample::default())).expect("serves");
    assert!(exchange(early, &get("/healthz", "")).await.starts_with("HTTP/1.1 200"));
    std::fs::remove_file(&path).expect("by hand");
    let second = AdminAddress { socket: path.clone(), loopback: None }.bind().expect("free");
    server.stop().await;
    assert!(path.exists(), "it is the second's");
    drop(second);
    assert_eq!(std::fs::read_dir(root.path()).expect("there").count(), 0);
}

#[actix_rt::test]
async fn unit_admin_socket_is_bound_over_what_a_node_of_the_same_process_id_left() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("admin.sock");
    let unseen = root.path().join(format!("admin.sock.{}", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&unseen).expect("as a node that was killed before it put it in place"));
    AdminAddress { socket: path, loopback: None }.bind().expect("free");
    assert!(!unseen.exists());
}

fn body_of(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("head and body");
    serde_json::from_str(body).expect("JSON")
}

/// The schema of an answer, in a document of its own.
fn schema_of(openapi: &serde_json::Value, route: &str, status: &str) -> serde_json::Value {
    let schema = &openapi["paths"][route]["get"]["responses"][status]["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{route} {status} has no schema");
    json!({ "allOf": [schema], "components": openapi["components"] })
}

#[actix_rt::test]
async fn unit_admin_openapi_states_every_route_and_the_answers_are_as_stated() {
    let bed = Bed::new();
    let openapi = body_of(&bed.unix(&get("/v1/openapi.json", "")).await);
    assert!(openapi["openapi"].as_str().expect("a version").starts_with("3.1"), "{}", openapi["openapi"]);
    let stated: Vec<&String> = openapi["paths"].as_object().expect("paths").keys().collect();
    let mut served = crate::routes::ROUTES.to_vec();
    served.sort_unstable();
    assert_eq!(stated, served);
    for (route, status) in [("/healthz", "200"), ("/readyz", "503"), ("/v1/workloads", "503"), ("/v1/alerts", "400")] {
        let path = if route == "/v1/alerts" { "/v1/alerts?colour=red" } else { route };
        let answer = bed.unix(&get(path, "")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let validator = jsonschema::validator_for(&schema_of(&openapi, route, status)).expect("a schema");
        let body = body_of(&answer);
        if let Err(error) = validator.validate(&body) {
            panic!("{route}: {error}: {body}");
        }
        assert!(!validator.is_valid(&json!({ "something": "else" })), "{route}: the schema takes anything");
    }
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_record_is_asked_by_post_alone_and_streams_the_trace() {
    let bed = Bed::new();
    let post = |path: &str| get(path, "").replacen("GET", "POST", 1);
    let answer = bed.unix(&post("/v1/record?last=300&duration=60&arguments=true&workload=shop/web,db")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/vnd.palisade.trace"), "{answer}");
    assert!(
        answer.contains(r#"workloads: ["shop/web", "db"], last_seconds: 300, duration_seconds: Some(60)"#),
        "{answer}"
    );
    assert!(answer.contains("arguments: true") && answer.contains(";the end"), "{answer}");
    assert!(answer.to_lowercase().contains("palisade-recording: 7"), "{answer}");
    for (id, ended) in [(7, r#"{"ended":true}"#), (8, r#"{"ended":false}"#)] {
        let answer = bed.unix(&post(&format!("/v1/record/end?id={id}"))).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(ended), "{answer}");
    }
    let refused = bed.unix(&get("/v1/record/end?id=7", "")).await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("only POST"), "{refused}");
    let refused = bed.unix(&get("/v1/record", "")).await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("only POST"), "{refused}");
    let wrong = bed.unix(&post("/v1/record?last=soon")).await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("/v1/record?last=300"), "{wrong}");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_alerts_are_filtered_before_they_leave_the_node() {
    let bed = Bed::new();
    let denied = bed.unix(&get("/v1/alerts?recent=5&verdict=denied", "")).await;
    assert!(denied.contains("\"n\":0") && !denied.contains("\"n\":1"), "{denied}");
    let limited = bed.unix(&get("/v1/alerts?recent=5&limit=1", "")).await;
    assert!(limited.contains("\"n\":0") && !limited.contains("\"n\":1"), "{limited}");
    let last = bed.unix(&get("/v1/alerts?recent=1&verdict=*e*", "")).await;
    assert!(!last.contains("\"n\":0") && last.contains("\"n\":1"), "the last of those that match: {last}");
    let ended = bed.unix(&get("/v1/alerts?recent=5&limit=2&follow=true", "")).await;
    assert!(ended.contains("\"n\":1"), "a limit ends what is followed: {ended}");
    let refused = bed.unix(&get(&format!("/v1/alerts?pod={}", "x".repeat(2000)), "")).await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("longer than 1024 bytes"), "{refused}");
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_tells_of_all_nodes_and_marks_each_before_the_alerts() {
    let bed = Bed::new();
    let tree = bed.unix(&get("/v1/tree?nodes=all", "")).await;
    assert!(tree.starts_with("HTTP/1.1 200") && tree.ends_with(r#"{"of":"all"}"#), "{tree}");
    let lines = |answer: &str| -> Vec<serde_json::Value> {
        let (_, body) = answer.split_once("\r\n\r\n").expect("head and body");
        body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let all = lines(&bed.unix(&get("/v1/alerts?nodes=all&recent=2", "")).await);
    let shown: Vec<&serde_json::Value> =
        all.iter().map(|line| line.pointer("/link/state").unwrap_or(&line["n"])).collect();
    assert_eq!(shown, [&json!("here"), &json!("out"), &json!(1), &json!(2)]);
    let denied = lines(&bed.unix(&get("/v1/alerts?nodes=all&recent=1&verdict=denied", "")).await);
    assert_eq!((denied.len(), &denied[2]["n"]), (3, &json!(2)), "marks are told whatever is filtered");
    // While one follows, marks come among the alerts; neither filters nor the limit count them.
    let shown = |lines: &[serde_json::Value]| -> Vec<String> {
        let word = |line: &serde_json::Value| {
            line.get("note").unwrap_or(line.pointer("/link/state").unwrap_or(&line["n"])).to_string()
        };
        lines.iter().map(word).collect()
    };
    let chunked = |answer: &str| -> Vec<serde_json::Value> {
        answer.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(serde_json::Value::is_object).collect()
    };
    let followed = chunked(&bed.unix(&get("/v1/alerts?nodes=all&follow=true&verdict=denied", "")).await);
    assert_eq!(shown(&followed), ["\"here\"", "\"out\"", "0", "2", "\"out\""]);
    let limited = chunked(&bed.unix(&get("/v1/alerts?nodes=all&follow=true&limit=1", "")).await);
    assert_eq!(shown(&limited), ["\"here\"", "\"out\"", "0"]);
    for wrong in ["nodes=all&follow=true&filter=all", "nodes=all&filter=system", "nodes=some"] {
        let answer = bed.unix(&get(&format!("/v1/alerts?{wrong}"), "")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{wrong}: {answer}");
    }
    bed.server.stop().await;
}

#[actix_rt::test]
async fn unit_admin_tree_events_begin_with_the_tree_and_are_for_a_bounded_number_of_listeners() {
    let bed = Bed::new();
    let mut listeners = Vec::new();
    for _ in 0..crate::tree_events::LISTENERS {
        let mut listener = UnixStream::connect(bed.root.path().join("admin.sock")).await.expect("listens");
        listener.write_all(get("/v1/tree/events", "").as_bytes()).await.expect("sent");
        let mut answer = [0; 2048];
        let mut heard = String::new();
        while !heard.contains("event: tree\ndata: {\"") {
            let bytes = listener.read(&mut answer).await.expect("answered");
            assert_ne!(bytes, 0, "{heard}");
            heard += &String::from_utf8_lossy(&answer[..bytes]);
        }
        assert!(heard.contains("text/event-stream"), "{heard}");
        listeners.push(listener);
    }
    let refused = bed.unix(&get("/v1/tree/events", "")).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("listen already"), "{refused}");
    drop(listeners);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut again = UnixStream::connect(bed.root.path().join("admin.sock")).await.expect("listens");
    again.write_all(get("/v1/tree/events", "").as_bytes()).await.expect("sent");
    let mut answer = [0; 16];
    again.read_exact(&mut answer).await.expect("answered");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    drop(again);
    bed.server.stop().await;
}
