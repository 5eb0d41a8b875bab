//! What hook and node say to each other: one line of JSON each way, each of bounded length.
//!
//! ```text
//! hook: {"version":1,"namespace":"k8s.io","id":"4f…","pid":4711,"bundle":"/run/containerd/…/k8s.io/4f…"}
//! node: {"admitted":true}   or   {"admitted":false,"reason":"…"}
//! ```
//! JSON, not a binary frame, because it happens once for each container and is read by people with `socat` when it matters.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::oci::{State, StateError, is_id};

/// The only version there is. A node refuses others by number; hook and node are one binary, so they differ only during an upgrade.
pub(crate) const VERSION: u32 = 1;

/// Most bytes of a question, its newline included: an id (containerd: 76), a namespace (76) and a path (4,096), escaped at worst sixfold.
pub(crate) const MAX_REQUEST_BYTES: u64 = 32 * 1024;

/// Most bytes of an answer, its newline included.
pub(crate) const MAX_ANSWER_BYTES: u64 = 4 * 1024;

/// Most bytes of a reason; what is longer is cut and marked, for it is text for people.
const MAX_REASON_BYTES: usize = 512;

/// The hook's question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub version: u32,
    /// containerd's namespace.
    pub namespace: String,
    pub id: String,
    /// Init, in the host's PID namespace.
    pub pid: u32,
    pub bundle: PathBuf,
}

impl Request {
    pub(crate) fn of(state: &State) -> Result<Self, StateError> {
        Ok(Self {
            version: VERSION,
            namespace: state.runtime_namespace()?.to_owned(),
            id: state.id.clone(),
            pid: state.pid,
            bundle: state.bundle.clone(),
        })
    }

    pub(crate) fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads a question; the error is what the hook is told.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        if !line.ends_with(b"\n") {
            return Err(format!("the question ends early or is longer than {MAX_REQUEST_BYTES} bytes"));
        }
        let request: Self =
            serde_json::from_slice(line).map_err(|error| format!("the question cannot be read: {error}"))?;
        match request {
            Self { version, .. } if version != VERSION => {
                Err(format!("this node speaks version {VERSION} of the hook's protocol, not {version}"))
            }
            Self { pid: 0, .. } => Err("the question names no process".to_owned()),
            Self { id, .. } if !is_id(&id) => Err("the question names no container: that is no id".to_owned()),
            request => Ok(request),
        }
    }
}

/// The node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub admitted: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Answer {
    pub(crate) fn of(outcome: Result<(), String>) -> Self {
        match outcome {
            Ok(()) => Self { admitted: true, reason: String::new() },
            Err(reason) => Self { admitted: false, reason: cut(reason) },
        }
    }

    pub(crate) fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads an answer; the error says what is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        if !line.ends_with(b"\n") {
            return Err(format!("its answer ends early or is longer than {MAX_ANSWER_BYTES} bytes"));
        }
        serde_json::from_slice(line).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("strings, numbers and a path from UTF-8 JSON always serialise");
    line.push(b'\n');
    line
}

fn cut(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        let end = (0..=MAX_REASON_BYTES).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
        reason.push_str(" [cut]");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request { version: 1, namespace: "default".into(), id: "c1".into(), pid: 7, bundle: "/b/default/c1".into() }
    }

    #[test]
    fn unit_hook_messages_survive_the_wire() {
        assert_eq!(Request::parse(&request().to_line()), Ok(request()));
        for outcome in [Ok(()), Err("no \"policy\"\nyet".to_owned())] {
            let answer = Answer::of(outcome);
            let line = answer.to_line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            assert_eq!(Answer::parse(&line), Ok(answer));
        }
    }

    #[test]
    fn unit_hook_questions_that_are_none_are_refused_with_the_reason() {
        let said = |line: &[u8]| Request::parse(line).unwrap_err();
        assert!(said(b"").contains("ends early"));
        assert!(said(br#"{"version":1"#).contains("ends early"));
        assert!(said(b"{}\n").contains("missing field"));
        assert!(said(b"\xff\xfe\n").contains("cannot be read"));
        let text = String::from_utf8(request().to_line()).unwrap();
        assert!(said(text.replace("\"version\":1", "\"version\":2").as_bytes()).contains("version 1"));
        assert!(said(text.replace("\"pid\":7", "\"pid\":0").as_bytes()).contains("no process"));
        assert!(said(text.replace("\"pid\":7", "\"pid\":-7").as_bytes()).contains("cannot be read"));
        let id = format!("\"id\":{:?}", request().id);
        assert!(said(text.replace(&id, "\"id\":\"../..\"").as_bytes()).contains("no id"));
        assert!(said(text.replace("\"pid\":7", "\"pid\":7,\"more\":1").as_bytes()).contains("unknown field"));
    }

    #[test]
    fn unit_hook_reasons_are_cut_on_a_character_and_marked() {
        let answer = Answer::of(Err("é".repeat(MAX_REASON_BYTES)));
        assert!(answer.reason.ends_with("é [cut]") && answer.reason.len() <= MAX_REASON_BYTES + 6);
        assert!((answer.to_line().len() as u64) < MAX_ANSWER_BYTES);
    }
}
