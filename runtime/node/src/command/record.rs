//! `palisade record`: a trace of the running node into a file of the caller.
//!
//! The node writes nothing: it sends the trace as it makes it, and this writes it. A file that is there already is not overwritten unless
//! that is asked for, and what was received before anything failed is a trace that can be read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use palisade_world::Clock as _;

use super::{Outcome, logs::percent_encoded};
use crate::{admin_client, arguments::RecordArguments, clock::MachineClock, render};

/// Seconds of the file before that the next one of a rotation begins with: more than a recording is behind.
const OVERLAP: Duration = Duration::from_secs(5);

/// Records until the duration is over, the size is reached, Ctrl-C, or the node stops; exit status 0 when the files are traces.
///
/// # Errors
/// No node answers, it refuses, or the file cannot be written.
pub fn run(arguments: &RecordArguments) -> Outcome {
    let began = MachineClock.boot().0;
    let left = || {
        let gone = Duration::from_nanos(MachineClock.boot().0.saturating_sub(began));
        arguments.duration.map(|duration| duration.saturating_sub(gone))
    };
    let mut last = arguments.last;
    loop {
        let is_whole = record(arguments, &route(arguments, last, left()))?;
        let is_over =
            left().is_some_and(|left| left.is_zero()) || (arguments.duration.is_none() && arguments.last.is_some());
        match arguments.rotate {
            Some(keep) if is_whole && !is_over => {
                rotate(&arguments.out, keep).with_context(|| arguments.out.display().to_string())?;
            }
            _ => return Ok(ExitCode::SUCCESS),
        }
        last = Some(OVERLAP);
    }
}

/// One file; whether it is a whole trace, and not interrupted.
fn record(arguments: &RecordArguments, route: &str) -> anyhow::Result<bool> {
    let mut file = create(&arguments.out, arguments.force)?;
    let shown = render::printable(&arguments.out.display().to_string());
    let mut written = 0_u64;
    let outcome = super::runtime()?.block_on(async {
        let received = admin_client::post_stream(&arguments.admin_socket, route, |part| {
            file.write_all(part)
                .with_context(|| format!("{shown}: `palisade trace info {shown}` tells what is whole"))?;
            written += part.len() as u64;
            Ok(true)
        });
        tokio::select! {
            biased;
            // What is received so far stays: it is read to its last whole block.
            signal = tokio::signal::ctrl_c() => signal.map(|()| false).context("Ctrl-C"),
            received = received => received.map(|()| true),
        }
    });
    file.flush().and_then(|()| file.sync_all()).with_context(|| shown.clone())?;
    match outcome {
        Ok(is_whole) => {
            let why = if is_whole { "" } else { "; it was interrupted, and is read to its last whole block" };
            eprintln!("{shown}: {written} bytes{why}. Look by: palisade trace info {shown}");
            Ok(is_whole)
        }
        Err(error) => {
            if written == 0 {
                // Nothing is in it: a file that is no trace is of no use to anybody.
                let _ = std::fs::remove_file(&arguments.out);
            }
            Err(error)
        }
    }
}

/// FILE becomes FILE.1, which becomes FILE.2, up to so many.
fn rotate(out: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(out, numbered(1))
}

/// For its owner only: what a workload does is in it.
fn create(path: &Path, force: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    match options.open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already: name another file, or overwrite it with --force", path.display())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// What the node is asked: the past that comes first, and how long from now on.
fn route(arguments: &RecordArguments, last: Option<Duration>, duration: Option<Duration>) -> String {
    let seconds = |duration: Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let mut route = format!("/v1/record?last={}", last.map_or(0, seconds));
    if let Some(duration) = duration {
        route += &format!("&duration={}", seconds(duration));
    } else if last.is_some() && arguments.rotate.is_none() {
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
    fn unit_record_overwrites_no_file_unasked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        drop(create(&path, false).expect("made"));
        let error = create(&path, false).expect_err("there").to_string();
        assert!(error.contains("--force"), "{error}");
        create(&path, true).expect("overwritten");
    }
}
