//! `palisade trace`: looks at traces, and makes others of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use palisade_domain::{Slot, UnixNanos, Visibility, Workload};
use palisade_kernel_abi::record::{Kind, RecordReader};
use palisade_simulation::{
    editing::{self, EditError, Parts as _, Span},
    import,
};
use palisade_wire::trace::{Header, Loss, Part, Passing, Report, What};
use serde_json::{Value, json};

use super::{
    Outcome, complain, is_standard_stream,
    new_file::open_new,
    trace_input::{self, Asked, TraceInput},
};
use crate::{
    arguments::{ImportedFrom, Moment, Output, TraceCommand},
    render,
};

/// One of the commands.
///
/// # Errors
/// A file cannot be read or written, in words.
pub fn run(command: TraceCommand) -> Outcome {
    match command {
        TraceCommand::Info { trace, output } => info(&trace, output),
        TraceCommand::Cut { trace, from, until, workloads, out } => cut(&trace, from, until, &workloads, &out),
        TraceCommand::Merge { traces, out } => merge(&traces, &out),
        TraceCommand::Redact { trace, out } => redact(&trace, &out),
        TraceCommand::Import { source, from, out } => import(&source, from, &out),
    }
}

/// Says on standard error what a trace lacks; exit status 1 where it lacks something.
pub fn said(path: &Path, complaints: &[String]) -> ExitCode {
    for complaint in complaints {
        complain(&format!("{}: {complaint}", path.display()));
    }
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is counted of a trace: of each sort as much as is shown, whoever made it.
#[derive(Default)]
struct Counted {
    kinds: BTreeMap<String, u64>,
    workloads: BTreeMap<Slot, BTreeSet<String>>,
    /// Bytes of their names.
    name_bytes: usize,
    /// Times that a workload was named for which there was no room.
    more_names: u64,
    records_of: BTreeMap<Slot, u64>,
    /// Records of further slots.
    records_of_more: u64,
    policies: BTreeSet<u32>,
    more_policies: u64,
    /// What was seen of the host, as it changed.
    host_visibilities: Vec<String>,
    decisions: u64,
    loss: Loss,
    first_ns: Option<u64>,
    last_ns: u64,
    bytes: u64,
    checkpoints: u64,
    /// What was seen by default, as it changed.
    visibilities: Vec<String>,
}

/// Changes of visibility that are named.
const MAX_VISIBILITIES: usize = 32;
/// Generations that are named.
const MAX_POLICIES: usize = 256;
/// Bytes of names of workloads, in all.
const MAX_NAMES: usize = 8 << 20;
/// Slots that are told apart: more than the kernel has.
const MAX_SLOTS: usize = 65_536;

/// One more of what changed, where there is room and it is another.
fn changed(visibilities: &mut Vec<String>, visibility: Visibility) {
    let said = visibility.to_string();
    if visibilities.last() != Some(&said) && visibilities.len() < MAX_VISIBILITIES {
        visibilities.push(said);
    }
}

impl Counted {
    fn named(&mut self, slot: Slot, workload: &Workload) {
        let name = trace_input::called(workload);
        if self.workloads.get(&slot).is_some_and(|names| names.contains(&name)) {
            return;
        }
        let is_full = self.workloads.len() >= MAX_SLOTS && !self.workloads.contains_key(&slot);
        if is_full || self.name_bytes + name.len() > MAX_NAMES {
            self.more_names += 1;
            return;
        }
        self.name_bytes += name.len();
        self.workloads.entry(slot).or_default().insert(name);
    }

    fn record_of(&mut self, slot: Slot) {
        let is_full = self.records_of.len() >= MAX_SLOTS && !self.records_of.contains_key(&slot);
        let records = if is_full { &mut self.records_of_more } else { self.records_of.entry(slot).or_default() };
        *records += 1;
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Facts(facts) => {
                for fact in facts {
                    match &fact.what {
                        What::WorkloadNamed(slot, workload) => self.named(*slot, workload),
                        What::PolicySet(set) if self.policies.contains(&set.generation.0) => {}
                        What::PolicySet(_) if self.policies.len() >= MAX_POLICIES => self.more_policies += 1,
                        What::PolicySet(set) => drop(self.policies.insert(set.generation.0)),
                        What::Loss(loss) => self.loss = loss.clone(),
                        What::Settings { visibility, .. } => changed(&mut self.visibilities, *visibility),
                        What::Visible(Slot::HOST, visibility) => changed(&mut self.host_visibilities, *visibility),
                        _ => {}
                    }
                }
            }
            Part::Checkpoint(_) => self.checkpoints += 1,
            Part::Records(batches) => {
                self.bytes += batches.bytes().len() as u64;
                for record in RecordReader::new(batches.bytes()).flatten() {
                    let boot_ns = record.header.boot_ns;
                    self.first_ns = Some(self.first_ns.map_or(boot_ns, |first| first.min(boot_ns)));
                    self.last_ns = self.last_ns.max(boot_ns);
                    *self.kinds.entry(name(record.kind())).or_default() += 1;
                    self.record_of(Slot(record.header.slot));
                    self.decisions += u64::from(record.decision.is_some());
                }
            }
        }
    }

    fn value(&self, header: &Header, report: &Report, size: u64) -> Value {
        let time =
            |boot_ns: u64| UnixNanos(boot_ns.saturating_add(header.unix_ns.saturating_sub(header.boot_ns))).rfc3339();
        let workload = |(slot, names): (&Slot, &BTreeSet<String>)| json!({ "slot": slot.0, "names": names, "records": self.records_of.get(slot).copied().unwrap_or(0) });
        json!({
            "node": header.node, "cluster": header.cluster, "kernel": header.kernel,
            "architecture": header.architecture, "program": header.program, "part": header.part,
            "recordingAskedAt": time(header.boot_ns), "redacted": header.redacted,
            "onlyWorkloads": header.workloads, "visibility": header.visibility.to_string(),
            "laterVisibility": self.visibilities, "hostVisibility": self.host_visibilities,
            "firstRecord": self.first_ns.map(time), "lastRecord": self.first_ns.map(|_| time(self.last_ns)),
            "seconds": self.first_ns.map_or(0, |first| (self.last_ns - first) / 100_000_000) as f64 / 10.0,
            "blocks": report.blocks, "checkpoints": self.checkpoints, "records": report.records, "decisions": self.decisions, "kinds": self.kinds,
            "workloads": self.workloads.iter().map(workload).collect::<Vec<_>>(),
            "moreNamings": self.more_names, "recordsOfMoreSlots": self.records_of_more,
            "generations": self.policies, "moreGenerations": self.more_policies,
            "bytes": size, "bytesOfRecords": self.bytes,
            "bytesARecord": (size * 10).checked_div(report.records).map(|tenths| tenths as f64 / 10.0),
            "lost": {
                "missingNumbers": self.loss.missing, "shed": self.loss.shed, "malformed": self.loss.malformed,
                "byKernel": self.loss.kernel.iter().map(|(kind, reason, count)| json!({
                    "kind": Kind::from_code(*kind).map_or_else(|| kind.to_string(), name), "reason": reason, "count": count,
                })).collect::<Vec<_>>(),
            },
            "complaints": report.complaints(),
        })
    }
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn info(path: &Path, output: Output) -> Outcome {
    let mut reader = trace_input::open(path)?;
    let mut counted = Counted::default();
    while let Some(part) = reader.next_part()? {
        counted.part(&part);
    }
    // What is behind the last whole block is of no record.
    let size = reader.report().bytes;
    let value = counted.value(reader.header(), reader.report(), size);
    let text = match output {
        Output::Text => described(&value),
        output => render::document(output, &value),
    };
    super::print(&text)?;
    Ok(said(path, &reader.complaints()))
}

/// For people: what is nothing is left out.
fn described(value: &Value) -> String {
    let text = |key: &str| match &value[key] {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let mut rows = Vec::new();
    rows.push(format!(
        "node        {} ({}, {}), palisade {}",
        text("node"),
        text("kernel"),
        text("architecture"),
        text("program")
    ));
    if value["part"] != 0 {
        rows.push(format!("part        {} of a recording in files, counted from 0", value["part"]));
    }
    if !value["firstRecord"].is_null() {
        rows.push(format!("time        {} to {} ({} s)", text("firstRecord"), text("lastRecord"), value["seconds"]));
    }
    if value["bytesARecord"].is_null() {
        rows.push("records     none".into());
    } else {
        rows.push(format!(
            "records     {}, {} with a decision; {} bytes each on disk",
            value["records"], value["decisions"], value["bytesARecord"]
        ));
        let kinds = value["kinds"].as_object().into_iter().flatten().map(|(kind, count)| format!("{kind} {count}"));
        rows.push(format!("kinds       {}", kinds.collect::<Vec<_>>().join(", ")));
    }
    for workload in value["workloads"].as_array().into_iter().flatten() {
        let names = workload["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        rows.push(format!(
            "workload    slot {}: {} ({} records)",
            workload["slot"],
            names.join(", then "),
            workload["records"]
        ));
    }
    for (key, what) in
        [("moreNamings", "namings of workloads more"), ("recordsOfMoreSlots", "records of further slots")]
    {
        if value[key] != json!(0) {
            rows.push(format!("            {} {what}: there is no room to tell them apart", value[key]));
        }
    }
    let later = text("laterVisibility");
    let later = if later.is_empty() { later } else { format!(", then {later}") };
    let more = if value["moreGenerations"] == json!(0) { "" } else { " and more" };
    rows.push(format!("policies    generations {}{more}", value["generations"]));
    let of_host = match value["hostVisibility"].as_array() {
        Some(list) if !list.is_empty() => {
            let list: Vec<_> = list.iter().filter_map(Value::as_str).collect();
            format!("; of the host {}", list.join(", then "))
        }
        _ => String::new(),
    };
    rows.push(format!("visibility  {}{later}{of_host}", text("visibility")));
    let redacted = text("redacted");
    rows.push(format!("redacted    {}", if redacted.is_empty() { "nothing" } else { &redacted }));
    let lost = &value["lost"];
    rows.push(format!(
        "not there   {} by their numbers (lost, folded or suppressed), {} shed by this recording, {} not readable",
        lost["missingNumbers"], lost["shed"], lost["malformed"]
    ));
    render::rows(&rows)
}

/// What a command writes its trace to.
struct Out {
    /// None: standard output.
    file: Option<BufWriter<File>>,
    passing: Passing,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None => io::stdout().write(bytes)?,
        };
        self.passing.pass(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.flush(),
            None => io::stdout().flush(),
        }
    }
}

/// For its owner only, and never over the trace that it is made of.
fn create(out: &Path) -> anyhow::Result<Out> {
    let passing = Passing::default();
    if is_standard_stream(out) {
        anyhow::ensure!(!io::stdout().is_terminal(), "a trace is no text: pipe it, or name a file with --out");
        return Ok(Out { file: None, passing });
    }
    let file =
        open_new(out).with_context(|| format!("{}: name a file that is not there yet, with --out", out.display()))?;
    Ok(Out { file: Some(BufWriter::new(file)), passing })
}

/// Whole on the disk, or taken away; says what was written.
fn finished<T>(out: &Path, made: anyhow::Result<(Out, T)>) -> anyhow::Result<T> {
    let done = made.and_then(|(mut writer, what)| {
        let flushed = writer.flush().and_then(|()| match &writer.file {
            Some(file) => file.get_ref().sync_all(),
            None => Ok(()),
        });
        flushed.with_context(|| out.display().to_string())?;
        let Passing { records, bytes, .. } = writer.passing;
        let none = if records == 0 { "; no record is in what was asked for" } else { "" };
        let shown = if is_standard_stream(out) { "standard output".into() } else { out.display().to_string() };
        complain(&format!("{shown}: {records} records in {bytes} bytes{none}"));
        Ok(what)
    });
    if done.is_err() && !is_standard_stream(out) {
        // What is half made is no trace that anybody asked for.
        let _ = std::fs::remove_file(out);
    }
    done
}

fn cut(path: &Path, from: Option<Moment>, until: Option<Moment>, workloads: &[String], out: &Path) -> Outcome {
    let mut input = TraceInput::open(path, Asked { from, until, workloads })?;
    let span = Span { from_ns: input.from_ns, until_ns: input.until_ns, workloads: workloads.to_vec() };
    let made = editing::cut(&mut input, &span, create(out)?);
    let made = made.with_context(|| path.display().to_string()).and_then(|(writer, left_out)| {
        let is_part = from.is_some() || until.is_some() || !workloads.is_empty();
        anyhow::ensure!(
            !is_part || writer.passing.records > 0,
            "{}: no record is in what was asked for: `palisade trace info` tells its times and workloads",
            [vec![path.display().to_string()], input.complaints()].concat().join(": ")
        );
        Ok((writer, left_out))
    });
    let mut complaints = input.complaints();
    match finished(out, made)? {
        0 => {}
        left_out => complaints.push(format!(
            "{left_out} processes are not in the cut's beginning, or without arguments: they are more than a trace keeps"
        )),
    }
    Ok(said(path, &complaints))
}

fn merge(paths: &[PathBuf], out: &Path) -> Outcome {
    let open = |path: &PathBuf| File::open(path).map(BufReader::new).with_context(|| path.display().to_string());
    let files = paths.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    // A fault of one of them is told with its own name.
    let of = |error: EditError| match error {
        EditError::Input { which, why } => {
            let shown = paths.get(which).map(|path| path.display().to_string()).unwrap_or_default();
            anyhow::Error::new(*why).context(shown)
        }
        other => anyhow::Error::new(other).context("palisade trace merge"),
    };
    let reports = finished(out, editing::merge(files, create(out)?).map_err(of))?;
    let lacking =
        paths.iter().zip(&reports).filter(|(path, report)| said(path, &report.complaints()) != ExitCode::SUCCESS);
    Ok(if lacking.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn redact(path: &Path, out: &Path) -> Outcome {
    let shown = || path.display().to_string();
    let from: Box<dyn Read> = if is_standard_stream(path) {
        Box::new(io::stdin())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(shown)?))
    };
    let made = editing::redact(from, create(out)?).with_context(shown);
    let (report, count) = finished(out, made.map(|(writer, report, count)| (writer, (report, count))))?;
    complain(&format!("the arguments of {count} processes are overwritten"));
    Ok(said(path, &report.complaints()))
}

/// The same, if it does not begin as a capture.
fn of_logs<R: BufRead>(mut from: R, source: &Path) -> anyhow::Result<R> {
    let is_capture = import::scap::is_begun_by(from.fill_buf().with_context(|| source.display().to_string())?);
    anyhow::ensure!(
        !is_capture,
        "{}: this is no log: it begins as a capture of sysdig or Falco, or is compressed: a capture is read with --from scap",
        source.display()
    );
    Ok(from)
}

fn import(source: &Path, from: ImportedFrom, out: &Path) -> Outcome {
    anyhow::ensure!(
        !is_standard_stream(source) || from != ImportedFrom::Scap,
        "a capture is read twice: name its file in place of `-` (`palisade trace import --help`)"
    );
    let open = || File::open(source).map(BufReader::new).with_context(|| source.display().to_string());
    let (made, what) = match from {
        ImportedFrom::Kubearmor if is_standard_stream(source) => {
            (import::kubearmor::import(of_logs(BufReader::new(io::stdin()), source)?, create(out)?), "lines")
        }
        ImportedFrom::Kubearmor => (import::kubearmor::import(of_logs(open()?, source)?, create(out)?), "lines"),
        ImportedFrom::Scap => (import::scap::import(open()?, create(out)?), "events"),
    };
    let done = finished(out, made.with_context(|| source.display().to_string()))?;
    let (records, workloads) = (done.records, done.workloads);
    let mut rows = vec![format!("{records} records of {workloads} workloads; {} {what} are none", done.skipped)];
    rows.extend(done.named.iter().map(|line| format!("  {line}")));
    rows.push("such a trace lacks:".into());
    rows.extend(done.lacks.iter().map(|line| format!("  {line}")));
    if is_standard_stream(out) {
        rows.iter().for_each(|row| complain(row));
    } else {
        super::print(&render::rows(&rows))?;
    }
    // Of a log a line of another kind is named, too; of a capture only what is damaged.
    let is_damaged = match from {
        ImportedFrom::Kubearmor => done.unread > 0,
        ImportedFrom::Scap => done.is_cut || !done.named.is_empty(),
    };
    if done.unread > 0 {
        complain(&format!(
            "{}: {} {what} cannot be read: what they told is not in the trace, which says so, and a rehearsal of it is not complete",
            source.display(),
            done.unread
        ));
    }
    Ok(if is_damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use palisade_domain::Generation;
    use palisade_policy::ir::Postures;
    use palisade_wire::trace::{Fact, PolicyDocuments};

    use super::*;

    #[test]
    fn unit_trace_info_tells_of_times_that_no_clock_has() {
        let counted = Counted { first_ns: Some(u64::MAX), last_ns: u64::MAX, ..Counted::default() };
        let header = Header { unix_ns: 2, boot_ns: 1, ..Header::default() };
        let value = counted.value(&header, &Report::default(), 0);
        assert_eq!(value["lastRecord"], UnixNanos(u64::MAX).rfc3339());
        assert!(described(&value).contains("node"));
    }

    #[test]
    fn unit_trace_info_tells_what_is_seen_of_the_host_and_counts_what_it_has_no_room_for() {
        let fact = |what| Fact { boot_ns: 1, what };
        let mut counted = Counted::default();
        let workload = |name: String| {
            let text = String::new();
            std::sync::Arc::new(Workload {
                kind: palisade_domain::WorkloadKind::Container,
                name,
                namespace: text.clone(),
                container: text.clone(),
                container_id: None,
                image: text,
                labels: BTreeMap::new(),
            })
        };
        let named = |number: u32| {
            let name = number.to_string() + &"x".repeat(1 << 20);
            fact(What::WorkloadNamed(Slot(1), workload(name)))
        };
        let set = |generation| {
            let (generation, documents) = (Generation(generation), std::sync::Arc::from([]));
            fact(What::PolicySet(PolicyDocuments { generation, postures: Postures::default(), documents }))
        };
        counted.part(&Part::Facts((0..9).map(named).collect()));
        counted.part(&Part::Facts((0..300).chain(0..300).map(set).collect()));
        let seen = |text: &str| fact(What::Visible(Slot::HOST, text.parse().expect("classes")));
        counted.part(&Part::Facts(vec![seen("process"), seen("process"), seen("process,file")]));
        (0..70_000).for_each(|slot| counted.record_of(Slot(slot)));
        let header = Header { visibility: Visibility::NONE, ..Header::default() };
        let value = counted.value(&header, &Report::default(), 0);
        assert_eq!(value["hostVisibility"], json!(["process", "process,file"]));
        assert_eq!((&value["moreNamings"], &value["recordsOfMoreSlots"]), (&json!(2), &json!(70_000 - 65_536)));
        let (named, more) = (value["generations"].as_array().map(Vec::len), value["moreGenerations"].as_u64());
        assert_eq!((named, more > Some(0)), (Some(256), true));
        let text = described(&value);
        assert!(text.contains("visibility  none; of the host process, then process,file"), "{text}");
        assert!(text.contains("2 namings of workloads more") && text.contains("4464 records of further slots"));
    }

    #[test]
    fn unit_trace_import_of_a_cut_capture_and_a_cut_of_nothing_are_no_success() {
        let directory = tempfile::tempdir().expect("a directory");
        let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/captures/container.scap");
        let bytes = std::fs::read(&capture).expect("a capture");
        let status = |name: &str, bytes: &[u8]| {
            let source = directory.path().join(name);
            std::fs::write(&source, bytes).expect("written");
            let out = directory.path().join(format!("{name}.paltrace"));
            let status = import(&source, ImportedFrom::Scap, &out).expect("imported");
            assert!(open_records(&out) > 0, "what is there is imported");
            format!("{status:?}")
        };
        let said = import(&capture, ImportedFrom::Kubearmor, &directory.path().join("t")).expect_err("no log");
        assert!(said.to_string().contains("--from scap") && !directory.path().join("t").exists(), "{said}");
        assert_eq!(status("whole", &bytes), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(status("cut", &bytes[..bytes.len() * 9 / 10]), format!("{:?}", ExitCode::FAILURE));
        let (trace, none) = (directory.path().join("whole.paltrace"), directory.path().join("none"));
        let late = Some(Moment::After(std::time::Duration::from_secs(86_400)));
        let cuts = [cut(&trace, late, None, &[], &none), cut(&trace, None, None, &["nosuch".to_owned()], &none)];
        for said in cuts.map(|cut| cut.expect_err("nothing is in it").to_string()) {
            assert!(said.contains("no record is in") && !none.exists(), "{said}");
        }
        cut(&trace, None, late, &[], &none).expect("all of it is before");
        let said = import(Path::new("-"), ImportedFrom::Scap, &directory.path().join("t")).expect_err("a pipe");
        assert!(said.to_string().contains("read twice") && !directory.path().join("t").exists(), "{said}");
    }

    #[test]
    fn unit_trace_merge_tells_a_fault_with_the_name_of_the_trace_that_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/captures/container.scap");
        let [good, none, out] = ["good", "none", "out"].map(|name| directory.path().join(name));
        import(&capture, ImportedFrom::Scap, &good).expect("imported");
        std::fs::write(&none, b"nothing").expect("written");
        let said = format!("{:#}", merge(&[good.clone(), none.clone()], &out).expect_err("no trace"));
        assert!(said.starts_with(&none.display().to_string()) && said.contains("this is no trace"), "{said}");
        assert!(!out.exists());
        let bytes = std::fs::read(&good).expect("written");
        std::fs::write(&none, &bytes[..bytes.len() - 1]).expect("written");
        let status = |paths: &[PathBuf], name: &str| {
            format!("{:?}", merge(paths, &directory.path().join(name)).expect("merged"))
        };
        assert_eq!(status(&[good.clone(), none], "of a cut one"), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(status(&[good], "of a good one"), format!("{:?}", ExitCode::SUCCESS));
    }

    fn open_records(path: &Path) -> u64 {
        let mut reader = trace_input::open(path).expect("a trace");
        while reader.next_part().expect("read").is_some() {}
        reader.report().records
    }
}
