//! Asking the running node over its admin socket.

use std::path::Path;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Most bytes of an answer that is read whole: a tree of 4,096 workloads is about 3 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Asks for a document.
///
/// # Errors
/// In words that say what to do next.
pub async fn document(socket: &Path, route: &str) -> anyhow::Result<serde_json::Value> {
    let mut text = Vec::new();
    let status = get(socket, route, |part| {
        if text.len() + part.len() > MAX_ANSWER_BYTES {
            bail!("the answer is larger than {MAX_ANSWER_BYTES} bytes");
        }
        text.extend_from_slice(part);
        Ok(())
    })
    .await?;
    let value: serde_json::Value = serde_json::from_slice(&text).context("the answer is not JSON")?;
    // A node that is not ready says so with 503 and a whole document.
    if !status.is_success() && value.get("error").is_some() {
        bail!("{}: {}", status, value["error"].as_str().unwrap_or("no reason given"));
    }
    Ok(value)
}

/// Asks, and hands each part of the answer to `part` as it comes, until the answer ends.
///
/// # Errors
/// In words that say what to do next, or what `part` said.
pub async fn get(
    socket: &Path,
    route: &str,
    mut part: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<StatusCode> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no node answers at {}: start one with `palisade node`, or name its socket with --admin-socket",
            socket.display()
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("the node's answer")?;
    let connection = tokio::spawn(connection);
    let request = Request::get(route).header("host", "palisade").body(Empty::<Bytes>::new()).context("request")?;
    let mut response = sender.send_request(request).await.context("the node's answer")?;
    while let Some(frame) = response.frame().await {
        if let Some(bytes) = frame.context("the node's answer broke off")?.data_ref() {
            part(bytes)?;
        }
    }
    connection.abort();
    Ok(response.status())
}
