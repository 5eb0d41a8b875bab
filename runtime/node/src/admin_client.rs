//! Asking the running node over its admin socket.
//!
//! Invariant: a node that does not answer is waited for [`WITHIN`], not for ever; only a stream of alerts that has begun may be silent.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// Most bytes of an answer that is read whole: a tree of 4,096 workloads is about 3 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Longest wait for an answer to begin, and for a document to end: the node itself gives its actors two seconds.
const WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at whether anybody still reads a stream that is silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks for a document.
///
/// # Errors
/// In words that say what to do next.
pub async fn document(socket: &Path, route: &str) -> anyhow::Result<serde_json::Value> {
    document_of(socket, Method::GET, route).await
}

async fn document_of(socket: &Path, method: Method, route: &str) -> anyhow::Result<serde_json::Value> {
    let answer = async {
        let mut response = ask(socket, method, route).await?;
        let text = whole(&mut response).await?;
        let value: serde_json::Value = serde_json::from_slice(&text).context("the answer is not JSON")?;
        // A node that is not ready says so with 503 and a whole document.
        ensure!(response.status().is_success() || value.get("error").is_none(), refusal(response.status(), &value));
        Ok(value)
    };
    timeout(WITHIN, answer).await.unwrap_or_else(|_| Err(silent(socket)))
}

/// As [`stream`], by POST: what makes the node do something. `begun` hears the head of the answer, and nothing more is read while `part`
/// waits.
///
/// # Errors
/// As [`stream`].
pub async fn post_stream(
    socket: &Path,
    route: &str,
    begun: impl FnOnce(&HeaderMap),
    part: impl AsyncFnMut(&Bytes) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    stream_of(socket, Method::POST, route, begun, part).await
}

/// As [`document`], by POST: what makes the node do something.
///
/// # Errors
/// As [`document`].
pub async fn post(socket: &Path, route: &str) -> anyhow::Result<serde_json::Value> {
    document_of(socket, Method::POST, route).await
}

/// Asks for a stream, and hands each part of it to `part` as it comes, until the stream ends or `part` says `false`. While nothing
/// comes, an empty part is handed over each [`SILENCE`], so that it can say so, too.
///
/// # Errors
/// In words that say what to do next, or what `part` said.
pub async fn stream(
    socket: &Path,
    route: &str,
    mut part: impl FnMut(&[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    stream_of(socket, Method::GET, route, |_| (), async |bytes: &Bytes| part(bytes)).await
}

async fn stream_of(
    socket: &Path,
    method: Method,
    route: &str,
    begun: impl FnOnce(&HeaderMap),
    mut part: impl AsyncFnMut(&Bytes) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut response = timeout(WITHIN, ask(socket, method, route)).await.unwrap_or_else(|_| Err(silent(socket)))?;
    if !response.status().is_success() {
        let text = timeout(WITHIN, whole(&mut response)).await.unwrap_or_else(|_| Err(silent(socket)))?;
        bail!(refusal(response.status(), &serde_json::from_slice(&text).unwrap_or_default()));
    }
    begun(response.headers());
    loop {
        let frame = match timeout(SILENCE, response.frame()).await {
            Ok(Some(frame)) => {
                frame.context("the node's answer broke off: it stopped, or was killed; see `palisade doctor`")?
            }
            Ok(None) => return Ok(()),
            Err(_) => Frame::data(Bytes::new()),
        };
        if let Some(bytes) = frame.data_ref()
            && !part(bytes).await?
        {
            return Ok(());
        }
    }
}

async fn ask(socket: &Path, method: Method, route: &str) -> anyhow::Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("the node's answer")?;
    // It ends with the connection, or with the runtime of the one command that asks.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(route).header("host", "palisade");
    let request = request.body(Empty::<Bytes>::new()).context("request")?;
    sender.send_request(request).await.context("the node's answer")
}

async fn whole(response: &mut Response<Incoming>) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    while let Some(frame) = response.frame().await {
        if let Some(part) = frame.context("the node's answer broke off")?.data_ref() {
            ensure!(text.len() + part.len() <= MAX_ANSWER_BYTES, "the answer is larger than {MAX_ANSWER_BYTES} bytes");
            text.extend_from_slice(part);
        }
    }
    Ok(text)
}

fn refusal(status: StatusCode, answer: &serde_json::Value) -> String {
    format!("{status}: {}", answer["error"].as_str().unwrap_or("no reason given"))
}

fn silent(socket: &Path) -> anyhow::Error {
    anyhow!(
        "the node at {} does not answer within {} s: see its log, and `palisade doctor`",
        socket.display(),
        WITHIN.as_secs()
    )
}

/// Why nobody answers, and what to type next.
fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!(
                "no node serves {socket}: start one with `palisade node`, name its socket with --admin-socket, or see `palisade doctor`"
            )
        }
        io::ErrorKind::ConnectionRefused => {
            anyhow!("the node that served {socket} has ended: start one with `palisade node`, or see `palisade doctor`")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("{socket} is private to the node's user: run this as root (`sudo palisade ...`)")
        }
        _ => anyhow!("the node's socket {socket}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A node that says `answer` to whatever it is asked, once.
    async fn answered(answer: &'static str, route: &str) -> (anyhow::Result<()>, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let mut heard = String::new();
        let (asked, ()) = tokio::join!(
            stream(&socket, route, |part| {
                heard.push_str(&String::from_utf8_lossy(part));
                Ok(true)
            }),
            async {
                let (mut peer, _) = listener.accept().await.expect("asked");
                let mut question = [0; 512];
                assert_ne!(peer.read(&mut question).await.expect("a question"), 0);
                peer.write_all(answer.as_bytes()).await.expect("heard");
            }
        );
        (asked, heard)
    }

    #[tokio::test]
    async fn unit_admin_client_takes_no_refusal_for_an_empty_stream() {
        let body = r#"{"error":"alerts did not answer: mailbox closed"}"#;
        let refused = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 49\r\n\r\n\
                       {\"error\":\"alerts did not answer: mailbox closed\"}";
        assert!(refused.ends_with(body) && body.len() == 49);
        let (asked, heard) = answered(refused, "/v1/alerts").await;
        let error = asked.expect_err("refused").to_string();
        assert!(error.contains("503") && error.contains("alerts did not answer"), "{error}");
        assert_eq!(heard, "");
    }

    #[tokio::test(start_paused = true)]
    async fn unit_admin_client_asks_while_a_stream_is_silent_whether_anybody_reads_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let mut asked = 0;
        let (ended, _open) = tokio::join!(
            stream(&socket, "/v1/alerts", |part| {
                assert!(part.is_empty());
                asked += 1;
                Ok(asked < 3)
            }),
            async {
                let (mut peer, _) = listener.accept().await.expect("asked");
                peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await.expect("heard");
                peer
            }
        );
        ended.expect("in good order");
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn unit_admin_client_says_that_an_answer_broke_off() {
        let (asked, heard) = answered("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}\n", "/v1/alerts").await;
        assert!(asked.expect_err("cut").to_string().contains("broke off"));
        assert_eq!(heard, "{}\n");
    }

    #[tokio::test]
    async fn unit_admin_client_names_what_to_do_about_a_node_that_is_not_there() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("admin.sock");
        let missing = document(&socket, "/readyz").await.expect_err("nobody").to_string();
        assert!(missing.contains("palisade node") && missing.contains("--admin-socket"), "{missing}");
        drop(UnixListener::bind(&socket).expect("a socket that nobody serves"));
        let ended = document(&socket, "/readyz").await.expect_err("nobody").to_string();
        assert!(ended.contains("has ended"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn unit_admin_client_waits_for_a_node_that_hangs_no_longer_than_it_says() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("admin.sock");
        let _silent = UnixListener::bind(&socket).expect("taken, never served");
        let error = document(&socket, "/readyz").await.expect_err("silence").to_string();
        assert!(error.contains("within 10 s"), "{error}");
    }
}
