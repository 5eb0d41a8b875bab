//! The files of a recording: one, or one after the other.
//!
//! The node sends whole traces behind each other; each is a file. One is brought to its place when the first bytes of the next one
//! come, so that the last one stays where it was asked for.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use palisade_wire::trace::Passing;

use super::super::{
    complain, is_standard_stream,
    new_file::{NewFile, may_be_replaced},
};
use crate::{arguments::RecordArguments, render};

/// A rotation's smallest file: what was so at its beginning takes tens of kilobytes.
const MIN_ROTATED_BYTES: u64 = 16 << 10;

/// See the module. Whoever calls it waits for the disk: [`Writing`](super::writing::Writing) does.
pub struct Files {
    out: PathBuf,
    /// Write over what is there.
    force: bool,
    /// Full files that are kept.
    rotate: Option<u32>,
    /// None: standard output, or none since it was closed.
    file: Option<NewFile>,
    /// Of the trace that comes.
    passing: Passing,
    /// Records of those before it.
    records: u64,
}

/// What is left of a recording.
pub struct Last {
    /// Where it is whole and to be brought to the disk.
    pub whole: Option<NewFile>,
    /// Of the last trace.
    pub passing: Passing,
    /// Records of all traces.
    pub records: u64,
    /// Where the last one is, for people.
    pub shown: String,
}

impl Files {
    /// The first file.
    ///
    /// # Errors
    /// Something is there that is not to be written over, or it cannot be made.
    pub fn create(arguments: &RecordArguments) -> anyhow::Result<Self> {
        check_rotation(arguments)?;
        let RecordArguments { out, force, rotate, .. } = arguments;
        let file = if is_standard_stream(out) { None } else { Some(NewFile::create(out, *force)?) };
        Ok(Self { out: out.clone(), force: *force, rotate: *rotate, file, passing: Passing::default(), records: 0 })
    }

    fn shown(&self) -> String {
        if is_standard_stream(&self.out) {
            return "standard output".to_owned();
        }
        render::printable(&self.out.display().to_string())
    }

    /// These came.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn take(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            if let (true, Some(keep)) = (self.passing.is_whole, self.rotate) {
                self.turn(keep)?;
            }
            let passed = self.passing.pass_trace(bytes);
            let (of_this, rest) = bytes.split_at(passed);
            let written = match &mut self.file {
                Some(file) => file.write_all(of_this),
                None => io::stdout().write_all(of_this).and_then(|()| io::stdout().flush()),
            };
            if let Err(error) = written {
                // Its end came, and is not where it belongs.
                self.passing.is_whole = false;
                let shown = self.shown();
                return Err(error)
                    .with_context(|| format!("{shown}: what was written so far is read by `palisade trace info`"));
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Full: FILE becomes FILE.1, and another one begins.
    fn turn(&mut self, keep: u32) -> anyhow::Result<()> {
        let out = &self.out;
        if let Some(file) = self.file.take() {
            file.finish().and_then(|()| rotate(out, keep)).with_context(|| self.shown())?;
        }
        self.records += self.passing.records;
        let first = numbered(out, 1);
        complain(&written(&render::printable(&first.display().to_string()), &self.passing, false));
        self.passing = Passing::default();
        self.file = Some(NewFile::create(out, self.force)?);
        Ok(())
    }

    /// Nothing more comes: what is no trace is taken away, and one that broke off takes nobody's place.
    pub fn close(mut self) -> Last {
        let mut shown = self.shown();
        let mut whole = None;
        match self.file.take() {
            Some(file) if self.passing.bytes == 0 => file.discard(),
            Some(file) if self.passing.is_whole => whole = Some(file),
            Some(file) => shown = render::printable(&file.keep().display().to_string()),
            None => {}
        }
        let records = self.records + self.passing.records;
        Last { whole, passing: self.passing, records, shown }
    }
}

/// What was written, in words.
pub fn written(shown: &str, passing: &Passing, to_stdout: bool) -> String {
    let seconds = passing.times.map_or(0, |(first, last)| last.saturating_sub(first)) as f64 / 1e9;
    let whole = if passing.is_whole { "a whole trace" } else { "no whole trace: it is read to its last whole block" };
    let look = if to_stdout { String::new() } else { format!(". Look by: palisade trace info {shown}") };
    format!("{shown}: {} records of {seconds:.1} s in {} bytes, {whole}{look}", passing.records, passing.bytes)
}

/// What a rotation would write over, and whether its files hold anything.
fn check_rotation(arguments: &RecordArguments) -> anyhow::Result<()> {
    let Some(keep) = arguments.rotate else { return Ok(()) };
    if is_standard_stream(&arguments.out) {
        bail!("--rotate needs files: standard output is one stream (`palisade record --help`)");
    }
    if arguments.max_size.is_some_and(|bytes| bytes < MIN_ROTATED_BYTES) {
        bail!("--rotate with less than --max-size 16K: each file repeats what was so at its beginning");
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use palisade_wire::trace::{Fact, Header, TraceWriter, What};

    use super::*;
    use crate::arguments::{Command, Palisade};

    fn arguments(line: &[&str]) -> RecordArguments {
        let Command::Record(arguments) = Palisade::parse_from(["palisade", "record"].iter().chain(line)).command else {
            panic!("record")
        };
        arguments
    }

    /// A trace whose bytes are its own.
    fn trace(number: u64) -> Vec<u8> {
        let mut writer = TraceWriter::begin(Vec::new(), &Header::default()).expect("begun");
        writer.facts(&[Fact { boot_ns: number, what: What::Clock(number) }]).expect("written");
        writer.finish().expect("finished")
    }

    #[test]
    fn unit_record_keeps_as_many_full_files_as_it_is_told_the_newest_first_however_the_bytes_come() {
        let traces: Vec<Vec<u8>> = (0..4).map(trace).collect();
        for piece in [1, 100, usize::MAX] {
            let directory = tempfile::tempdir().expect("a directory");
            let out = directory.path().join("t");
            let shown = out.display().to_string();
            let arguments = arguments(&["--out", &shown, "--max-size", "16K", "--rotate", "2"]);
            let mut files = Files::create(&arguments).expect("made");
            let stream = traces.concat();
            stream.chunks(piece.min(stream.len())).for_each(|part| files.take(part).expect("written"));
            let last = files.close();
            assert!(last.passing.is_whole);
            last.whole.expect("a file").finish().expect("on the disk");
            let of = |name: &str| std::fs::read(directory.path().join(name)).ok();
            let expected = [Some(traces[3].clone()), Some(traces[2].clone()), Some(traces[1].clone()), None];
            assert_eq!(["t", "t.1", "t.2", "t.3"].map(of), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn unit_record_that_breaks_off_keeps_the_files_before_and_what_came_of_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        let arguments = arguments(&["--out", &out.display().to_string(), "--max-size", "16K", "--rotate", "2"]);
        let mut files = Files::create(&arguments).expect("made");
        let cut = trace(2).len() - 1;
        files.take(&trace(1)).expect("written");
        files.take(&trace(2)[..cut]).expect("written");
        let last = files.close();
        assert!(last.whole.is_none() && !last.passing.is_whole);
        let of = |name: &str| std::fs::read(directory.path().join(name)).ok();
        assert_eq!((of("t"), of("t.1")), (Some(trace(2)[..cut].to_vec()), Some(trace(1))));
        std::fs::remove_file(&out).expect("there");
        std::fs::remove_file(numbered(&out, 1)).expect("there");
        drop(Files::create(&arguments).expect("made").close());
        assert_eq!(of("t"), None, "a file that is no trace is of no use to anybody");
    }

    #[test]
    fn unit_record_rotates_over_no_file_unasked() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("t");
        let of = |force: bool| {
            let shown = out.display().to_string();
            let mut line = vec!["--max-size", "10M", "--rotate", "3", "--out", shown.as_str()];
            line.extend(force.then_some("--force"));
            check_rotation(&arguments(&line)).map_err(|error| error.to_string())
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
    fn unit_record_refuses_to_rotate_what_is_no_file_or_too_small() {
        for (line, says) in [
            (["--out", "/nonesuch/t", "--rotate", "3", "--max-size", "4K"], "--max-size"),
            (["--out", "-", "--rotate", "3", "--max-size", "4M"], "standard output"),
        ] {
            let said = check_rotation(&arguments(&line)).expect_err("refused").to_string();
            assert!(said.contains(says), "{said}");
        }
    }
}
