//! `palisade record`: a trace of the running node into a file of the caller.
//!
//! The node writes nothing: it sends the trace as it makes it, and this writes it. A file that is there already is not overwritten unless
//! that is asked for, and what was received before anything failed is a trace that can be read. Who interrupts it gets a whole trace: the
//! node is asked to end it.
//!
//! Decision: a rotation is one answer of the node with one trace behind the other, and not a question for each file, because what comes
//! between two questions would be in no file, or in both.

mod files;
mod writing;

use std::{
    cell::Cell,
    io::{self, IsTerminal as _},
    path::Path,
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use hyper::body::Bytes;
use palisade_domain::Workload;
use palisade_wire::trace::is_called;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};

use self::{
    files::{Files, written},
    writing::Writing,
};
use super::{Outcome, complain, is_standard_stream, logs::percent_encoded};
use crate::{admin_client, arguments::RecordArguments};

/// How long the end of a trace may take: what is there of it is sent within a second or two.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long what came may take to be written after somebody said twice not to wait for it.
const ABANDONED_WITHIN: Duration = Duration::from_secs(1);

/// How a recording came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The node ended it, by its time or its size.
    ByNode,
    /// Somebody interrupted it, and it is whole.
    ByUser,
    /// Somebody did so twice.
    Abandoned,
}

/// Records until the duration is over, the size is reached, Ctrl-C, or the node stops; exit status 0 when the files are whole traces.
///
/// # Errors
/// No node answers, it refuses, or the file cannot be written.
pub fn run(arguments: &RecordArguments) -> Outcome {
    if is_standard_stream(&arguments.out) && arguments.rotate.is_none() && io::stdout().is_terminal() {
        bail!("a trace is no text: pipe it, or name a file with --out (`palisade record --help`)");
    }
    let runtime = super::runtime()?;
    let outcome = runtime.block_on(recorded(arguments));
    // A disk that does not answer is waited for no longer than somebody wants.
    runtime.shutdown_background();
    outcome
}

async fn recorded(arguments: &RecordArguments) -> Outcome {
    // One listener from before the first file to after the last: whoever interrupts anything between is heard.
    let mut interrupts = Interrupts::new().context("signals")?;
    let writing = Writing::start(Files::create(arguments)?);
    recorded_by(arguments, writing, &mut interrupts).await
}

async fn recorded_by(arguments: &RecordArguments, writing: Writing, interrupts: &mut Interrupts) -> Outcome {
    let socket = &arguments.admin_socket;
    let unknown = unknown(socket, &arguments.workloads).await;
    for name in unknown.iter().flatten() {
        complain(&format!("no workload is called {name} now: `palisade top` names them"));
    }
    let take = async |part: &Bytes| writing.take(part).await;
    let outcome = received(socket, &route(arguments), interrupts, take).await;
    let done = match outcome {
        Ok(Ended::Abandoned) => timeout(ABANDONED_WITHIN, writing.end()).await.ok().and_then(Result::ok),
        Ok(Ended::ByUser) => unless_interrupted(writing.end(), interrupts, true).await,
        Ok(Ended::ByNode) | Err(_) => unless_interrupted(writing.end(), interrupts, false).await,
    };
    let Some((last, all)) = done else {
        complain("what came last is not written: what is there is read by `palisade trace info`");
        return Ok(ExitCode::FAILURE);
    };
    if last.passing.bytes > 0 {
        complain(&written(&last.shown, &last.passing, is_standard_stream(&arguments.out)));
    }
    all?;
    match outcome? {
        Ended::Abandoned if last.passing.bytes == 0 => bail!("interrupted before anything came; see `palisade doctor`"),
        Ended::ByNode | Ended::ByUser if !last.passing.is_whole => {
            bail!("the node ended before its trace did: see its log, and `palisade doctor`")
        }
        Ended::Abandoned => Ok(ExitCode::FAILURE),
        Ended::ByNode | Ended::ByUser => nothing_came(arguments, last.records, unknown).await,
    }
}

/// Whether a trace with nothing in it is what was asked for: not if no workload has such a name.
async fn nothing_came(arguments: &RecordArguments, records: u64, unknown: Option<Vec<String>>) -> Outcome {
    let names = &arguments.workloads;
    if records > 0 || names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    complain(&format!("nothing came of {}: `palisade top` names the workloads", names.join(", ")));
    // One may have come meanwhile; of a node that is gone by now it is what it said before.
    let unknown = self::unknown(&arguments.admin_socket, names).await.or(unknown);
    let is_any_known = unknown.is_none_or(|unknown| unknown.len() < names.len());
    Ok(if is_any_known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names that no workload has now; none where the node does not say.
async fn unknown(socket: &Path, names: &[String]) -> Option<Vec<String>> {
    if names.is_empty() {
        return Some(Vec::new());
    }
    Some(unknown_of(&admin_client::document(socket, "/v1/workloads").await.ok()?, names))
}

fn unknown_of(answer: &serde_json::Value, names: &[String]) -> Vec<String> {
    let rows = answer["workloads"].as_array().into_iter().flatten();
    let known: Vec<(palisade_domain::Slot, Workload)> = rows
        .filter_map(|row| {
            let slot = u32::try_from(row["slot"].as_u64()?).ok()?;
            Some((palisade_domain::Slot(slot), serde_json::from_value(row["workload"].clone()).ok()?))
        })
        .collect();
    // The host is always there, whether it has a policy or not.
    let is_known =
        |name: &&String| *name == "host" || known.iter().any(|(slot, workload)| is_called(*slot, workload, name));
    names.iter().filter(|name| !is_known(name)).cloned().collect()
}

/// The last minutes, and nothing after them.
fn is_past_alone(arguments: &RecordArguments) -> bool {
    arguments.last.is_some() && arguments.duration.is_none() && !arguments.follow
}

/// Waits for what may wait for a disk; none where somebody did not want to: by one interrupt more, if there was one before.
async fn unless_interrupted<T>(mut work: JoinHandle<T>, interrupts: &mut Interrupts, mut asked: bool) -> Option<T> {
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done.ok(),
            () = interrupts.next() => {
                if asked {
                    return None;
                }
            }
        }
        complain("what came is being written still; Ctrl-C once more leaves it as it is");
        asked = true;
    }
}

/// Hands over what comes, until it ends or somebody interrupts it.
async fn received(
    socket: &Path,
    route: &str,
    interrupts: &mut Interrupts,
    take: impl AsyncFnMut(&Bytes) -> anyhow::Result<bool>,
) -> anyhow::Result<Ended> {
    let id: Cell<Option<String>> = Cell::new(None);
    let begun = |headers: &hyper::HeaderMap| {
        id.set(headers.get("palisade-recording").and_then(|id| id.to_str().ok()).map(str::to_owned));
    };
    let mut received = pin!(admin_client::post_stream(socket, route, begun, take));
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        ended = &mut received => {
            ended?;
            return why_over(socket, id.take()).await.map_or(Ok(Ended::ByNode), |why| bail!("the node ended it: {why}"));
        }
    }
    let Some(id) = id.take() else { return Ok(Ended::Abandoned) };
    complain("ending the trace; Ctrl-C once more leaves it as it is");
    let route = format!("/v1/record/end?id={id}");
    let ending = async {
        // A trace that has ended by now ends the stream, too: what is asked for is there.
        let (asked, ended) = tokio::join!(admin_client::post(socket, &route), &mut received);
        ended.and(asked.map(|_| ()))
    };
    tokio::select! {
        biased;
        () = interrupts.next() => Ok(Ended::Abandoned),
        ended = timeout(END_WITHIN, ending) => match ended {
            Ok(ended) => ended.map(|()| Ended::ByUser),
            Err(_) => bail!("the node does not end its trace within {} s: see its log, and `palisade doctor`", END_WITHIN.as_secs()),
        },
    }
}

/// Why the node ended it, where that is neither its time nor its size; a node that has stopped says nothing.
async fn why_over(socket: &Path, id: Option<String>) -> Option<String> {
    let answer = admin_client::post(socket, &format!("/v1/record/end?id={}", id?)).await.ok()?;
    answer["why"].as_str().map(str::to_owned)
}

/// Whatever asks a command to end.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// What the node is asked: the past that comes first, and how long from now on.
fn route(arguments: &RecordArguments) -> String {
    let seconds = |duration: Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let mut route = format!("/v1/record?last={}", arguments.last.map_or(0, seconds));
    if let Some(duration) = arguments.duration {
        route += &format!("&duration={}", seconds(duration));
    } else if is_past_alone(arguments) {
        // The past alone.
        route += "&duration=0";
    }
    if let Some(bytes) = arguments.max_size {
        route += &format!("&limit_bytes={bytes}");
    }
    if arguments.rotate.is_some() {
        route += "&in_parts=true";
    }
    if arguments.keep_arguments {
        route += "&arguments=true";
    }
    if !arguments.workloads.is_empty() {
        let names: Vec<String> = arguments.workloads.iter().map(|name| percent_encoded(name)).collect();
        route += &format!("&workload={}", names.join(","));
    }
    route
}

#[cfg(test)]
mod tests;
