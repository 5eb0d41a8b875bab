//! `palisade record`: a trace of the running node into a file of the caller.
//!
//! The node writes nothing: it sends the trace as it makes it, and this writes it. A file that is there already is not overwritten unless
//! that is asked for, and what was received before anything failed is a trace that can be read. Who interrupts it gets a whole trace: the
//! node is asked to end it.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use palisade_wire::trace::Passing;
use palisade_world::Clock as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{
    Outcome, complain, is_standard_stream,
    logs::percent_encoded,
    new_file::{NewFile, may_be_replaced},
};
use crate::{admin_client, arguments::RecordArguments, clock::MachineClock, render};

/// Seconds of the file before that the next one of a rotation begins with: more than a recording is behind.
const OVERLAP: Duration = Duration::from_secs(5);
/// A rotation's smallest file: what was so at its beginning takes tens of kilobytes.
const MIN_ROTATED_BYTES: u64 = 16 << 10;
/// How long the end of a trace may take: what is there of it is sent within a second or two.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How a file came to its end.
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
    let to_stdout = is_standard_stream(&arguments.out);
    if to_stdout && arguments.rotate.is_some() {
        bail!("--rotate needs files: standard output is one stream (`palisade record --help`)");
    }
    if to_stdout && io::stdout().is_terminal() {
        bail!("a trace is no text: pipe it, or name a file with --out (`palisade record --help`)");
    }
    let began = MachineClock.boot().0;
    let left = || {
        let gone = Duration::from_nanos(MachineClock.boot().0.saturating_sub(began));
        arguments.duration.map(|duration| duration.saturating_sub(gone))
    };
    check_rotation(arguments)?;
    let mut last = arguments.last;
    loop {
        let ended = record(arguments, &route(arguments, last, left()))?;
        let is_over = left().is_some_and(|left| left.is_zero()) || is_past_alone(arguments);
        match (arguments.rotate, ended) {
            (Some(keep), Ended::ByNode) if !is_over => {
                rotate(&arguments.out, keep).with_context(|| arguments.out.display().to_string())?;
            }
            (_, Ended::Abandoned) => return Ok(ExitCode::FAILURE),
            _ => return Ok(ExitCode::SUCCESS),
        }
        last = Some(OVERLAP);
    }
}

/// The last minutes, and nothing after them.
fn is_past_alone(arguments: &RecordArguments) -> bool {
    arguments.last.is_some() && arguments.duration.is_none() && !arguments.follow
}

/// One file.
fn record(arguments: &RecordArguments, route: &str) -> anyhow::Result<Ended> {
    let to_stdout = is_standard_stream(&arguments.out);
    let mut file = if to_stdout { None } else { Some(NewFile::create(&arguments.out, arguments.force)?) };
    let shown =
        if to_stdout { "standard output".into() } else { render::printable(&arguments.out.display().to_string()) };
    let mut passing = Passing::default();
    let mut take = |part: &[u8]| {
        let written = match &mut file {
            Some(file) => file.write_all(part),
            None => io::stdout().write_all(part).and_then(|()| io::stdout().flush()),
        };
        written.with_context(|| format!("{shown}: what was written so far is read by `palisade trace info`"))?;
        passing.pass(part);
        Ok(true)
    };
    let outcome = super::runtime()?.block_on(received(&arguments.admin_socket, route, &mut take));
    let mut kept = None;
    match file {
        // Nothing is in it: a file that is no trace is of no use to anybody.
        Some(file) if passing.bytes == 0 => file.discard(),
        Some(file) if passing.is_whole => file.finish().with_context(|| shown.clone())?,
        Some(file) => kept = Some(render::printable(&file.keep().display().to_string())),
        None => {}
    }
    // A trace that broke off takes nobody's place.
    let shown = kept.unwrap_or(shown);
    if passing.bytes > 0 {
        complain(&written(&shown, &passing, to_stdout));
        if passing.records == 0 && !arguments.workloads.is_empty() {
            complain(&format!(
                "nothing came of {}: `palisade top` names the workloads",
                arguments.workloads.join(", ")
            ));
        }
    }
    match outcome? {
        Ended::Abandoned if passing.bytes == 0 => bail!("interrupted before anything came; see `palisade doctor`"),
        Ended::ByNode | Ended::ByUser if !passing.is_whole => {
            bail!("the node ended before its trace did: see its log, and `palisade doctor`")
        }
        ended => Ok(ended),
    }
}

/// What was written, in words.
fn written(shown: &str, passing: &Passing, to_stdout: bool) -> String {
    let seconds = passing.times.map_or(0, |(first, last)| last.saturating_sub(first)) as f64 / 1e9;
    let whole = if passing.is_whole { "a whole trace" } else { "no whole trace: it is read to its last whole block" };
    let look = if to_stdout { String::new() } else { format!(". Look by: palisade trace info {shown}") };
    format!("{shown}: {} records of {seconds:.1} s in {} bytes, {whole}{look}", passing.records, passing.bytes)
}

/// Hands over what comes, until it ends or somebody interrupts it.
async fn received(
    socket: &Path,
    route: &str,
    take: &mut dyn FnMut(&[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<Ended> {
    let mut interrupts = Interrupts::new().context("signals")?;
    let id: Cell<Option<String>> = Cell::new(None);
    let begun = |headers: &hyper::HeaderMap| {
        id.set(headers.get("palisade-recording").and_then(|id| id.to_str().ok()).map(str::to_owned));
    };
    let mut received = pin!(admin_client::post_stream(socket, route, begun, take));
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        ended = &mut received => return ended.map(|()| Ended::ByNode),
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

/// What a rotation would write over, and whether its files hold anything.
fn check_rotation(arguments: &RecordArguments) -> anyhow::Result<()> {
    let Some(keep) = arguments.rotate else { return Ok(()) };
    if arguments.max_size.is_some_and(|bytes| bytes < MIN_ROTATED_BYTES) {
        bail!(
            "--rotate with less than --max-size 16K: each file repeats what was so at its beginning and the last seconds"
        );
    }
    (1..=keep).try_for_each(|number| may_be_replaced(&numbered(&arguments.out, number), arguments.force).map(drop))
}

fn numbered(out: &Path, number: u32) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// FILE becomes FILE.1, which becomes FILE.2, up to so many.
fn rotate(out: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| numbered(out, number);
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(out, numbered(1))
}

/// What the node is asked: the past that comes first, and how long from now on.
fn route(arguments: &RecordArguments, last: Option<Duration>, duration: Option<Duration>) -> String {
    let seconds = |duration: Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let mut route = format!("/v1/record?last={}", last.map_or(0, seconds));
    if let Some(duration) = duration {
        route += &format!("&duration={}", seconds(duration));
    } else if is_past_alone(arguments) {
        // The past alone.
        route += "&duration=0";
    }
    if let Some(bytes) = arguments.max_size {
        route += &format!("&limit_bytes={bytes}");
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
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Command, Palisade};

    fn asked(line: &[&str]) -> String {
        let line = ["palisade", "record", "--out", "t"].iter().chain(line);
        let Command::Record(arguments) = Palisade::parse_from(line).command else { panic!("record") };
        route(&arguments, arguments.last, arguments.duration)
    }

    #[test]
    fn unit_record_asks_for_what_it_is_told() {
        assert_eq!(asked(&[]), "/v1/record?last=0");
        assert_eq!(asked(&["--last", "5m"]), "/v1/record?last=300&duration=0", "the past alone ends at once");
        assert_eq!(asked(&["--last", "5m", "--follow"]), "/v1/record?last=300", "and goes on");
        assert_eq!(asked(&["--last", "5m", "--duration", "90s"]), "/v1/record?last=300&duration=90");
        let all = ["--workload", "shop/a b", "--workload", "db", "--max-size", "10M", "--keep-arguments"];
        assert_eq!(asked(&all), "/v1/record?last=0&limit_bytes=10485760&arguments=true&workload=shop%2Fa%20b,db");
    }

    #[test]
    fn unit_record_keeps_as_many_full_files_as_it_is_told_the_newest_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        for content in ["a", "b", "c"] {
            std::fs::write(&out, content).expect("written");
            rotate(&out, 2).expect("rotated");
        }
        let of = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
        assert_eq!((of("t"), of("t.1"), of("t.2"), of("t.3")), (None, Some("c".into()), Some("b".into()), None));
    }

    #[test]
    fn unit_record_rotates_over_no_file_unasked() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        let of = |force: bool| {
            let line =
                ["palisade", "record", "--max-size", "10M", "--rotate", "3", "--out", out.to_str().expect("text")];
            let line = line.into_iter().chain(force.then_some("--force"));
            let Command::Record(arguments) = Palisade::parse_from(line).command else { panic!("record") };
            check_rotation(&arguments).map_err(|error| error.to_string())
        };
        assert_eq!(of(false), Ok(()));
        std::fs::write(numbered(&out, 4), "of nobody").expect("written");
        assert_eq!(of(false), Ok(()), "the fourth is none of it");
        std::fs::write(numbered(&out, 3), "good").expect("written");
        assert!(of(false).is_err_and(|said| said.contains("t.3 is there already")), "{:?}", of(false));
        assert_eq!(of(true), Ok(()));
        std::fs::create_dir(numbered(&out, 1)).expect("made");
        assert!(of(true).is_err_and(|said| said.contains("no file")), "{:?}", of(true));
    }

    #[test]
    fn unit_record_refuses_files_that_hold_less_than_they_overlap() {
        let line = ["palisade", "record", "--out", "/nonesuch/t", "--rotate", "3", "--max-size", "4K"];
        let Command::Record(arguments) = Palisade::parse_from(line).command else { panic!("record") };
        let said = check_rotation(&arguments).expect_err("small").to_string();
        assert!(said.contains("--max-size"), "{said}");
    }
}
