//! Traces as commands are given them: a file, `-` or a pipe; whole, or only a time and some workloads of it.
//!
//! A file with its index is sought: blocks that cannot hold what is asked for are not read. Whatever cannot be sought (a pipe, a trace that
//! was broken off) is read from its beginning, to the same effect.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use anyhow::Context as _;
use palisade_domain::{Slot, Workload};
use palisade_simulation::editing::Parts;
use palisade_wire::trace::{
    Batches, Fact, Header, MAX_HELD, Part, Report, TraceReader, What,
    frame::BlockKind,
    index::Entry,
    is_called,
    seek::{self, Sought, Wanted},
};

use super::is_standard_stream;
use crate::arguments::Moment;

/// Of a file, of what is sought in it, or of a pipe.
type Reader = TraceReader<Box<dyn Read>>;

/// Bytes of memory of facts that are read before the first record to find it: a start snapshot, twice as much as is held of a trace.
const MAX_AHEAD: u64 = 2 * MAX_HELD as u64;

/// What of a trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The first moment.
    pub from: Option<Moment>,
    /// The last one.
    pub until: Option<Moment>,
    /// Names of workloads; empty: all.
    pub workloads: &'a [String],
}

impl Asked<'_> {
    fn is_all(&self) -> bool {
        self.from.is_none() && self.until.is_none() && self.workloads.is_empty()
    }
}

/// A trace that is being read.
pub struct TraceInput {
    reader: Reader,
    /// Read already, to find the first record.
    ahead: VecDeque<Part>,
    /// The first moment that is asked for, `CLOCK_BOOTTIME` nanoseconds.
    pub from_ns: u64,
    /// The last one.
    pub until_ns: u64,
    /// Of each name that is asked for, whether a workload is called so.
    names: Vec<(String, bool)>,
    known: BTreeSet<String>,
}

impl TraceInput {
    /// Opens it.
    ///
    /// # Errors
    /// With the file's name.
    pub fn open(path: &Path, asked: Asked<'_>) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        let (reader, begins) = if is_standard_stream(path) {
            (TraceReader::open(Box::new(BufReader::new(io::stdin())) as Box<dyn Read>).with_context(shown)?, None)
        } else {
            let file = File::open(path).map_err(|error| no_file(&error)).with_context(shown)?;
            opened(file, asked).with_context(shown)?
        };
        let names = asked.workloads.iter().map(|name| (name.clone(), false)).collect();
        let (ahead, known) = (VecDeque::new(), BTreeSet::new());
        let mut input = Self { reader, ahead, from_ns: 0, until_ns: u64::MAX, names, known };
        let needs_beginning = asked.from.is_some() || asked.until.is_some();
        let begins = match begins {
            None if needs_beginning => input.look_ahead().with_context(shown)?,
            begins => begins.unwrap_or_default(),
        };
        let at = |moment: Moment| begins.boot_ns(moment, input.reader.header());
        let (from_ns, until_ns) = (asked.from.map_or(0, at), asked.until.map_or(u64::MAX, at));
        (input.from_ns, input.until_ns) = (from_ns, until_ns);
        anyhow::ensure!(
            from_ns <= until_ns,
            "{}: --from is later than --until: nothing is between them",
            path.display()
        );
        Ok(input)
    }

    /// Where it begins; what was read for that is given out later.
    fn look_ahead(&mut self) -> io::Result<Beginning> {
        let mut begins = Beginning::default();
        while let Some(part) = self.reader.next_part()? {
            begins.hear(&part);
            self.ahead.push_back(part);
            if begins.first_ns.is_some() {
                break;
            }
            if self.reader.report().memory > MAX_AHEAD {
                return Err(io::Error::other(format!(
                    "facts of {MAX_AHEAD} bytes of memory stand before its first record: without an index, a time of it cannot be found"
                )));
            }
        }
        Ok(begins)
    }

    fn hear(&mut self, facts: &[Fact]) {
        /// Workloads that a complaint names.
        const NAMED: usize = 20;
        if self.names.is_empty() {
            return;
        }
        for (slot, workload) in facts.iter().filter_map(named) {
            for (name, is_there) in &mut self.names {
                *is_there |= is_called(slot, workload, name);
            }
            if self.known.len() < NAMED {
                self.known.insert(if slot == Slot::HOST { "host".into() } else { called(workload) });
            }
        }
    }

    /// What is missing of what was asked for, a line each; whole after the last part.
    pub fn complaints(&self) -> Vec<String> {
        let known = self.known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let unknown = self.names.iter().filter(|(_, is_there)| !is_there);
        let unknown = unknown.map(|(name, _)| format!("no workload is called {name}; there are: {known}"));
        self.report().complaints().into_iter().chain(unknown).collect()
    }
}

impl Parts for TraceInput {
    fn header(&self) -> &Header {
        self.reader.header()
    }

    fn next_part(&mut self) -> io::Result<Option<Part>> {
        let part = match self.ahead.pop_front() {
            Some(part) => Some(part),
            None => self.reader.next_part()?,
        };
        if let Some(Part::Facts(facts)) = &part {
            self.hear(facts);
        }
        Ok(part)
    }

    fn report(&self) -> &Report {
        self.reader.report()
    }
}

/// Opens a trace, all of it.
///
/// # Errors
/// With the file's name.
pub fn open(path: &Path) -> anyhow::Result<TraceInput> {
    TraceInput::open(path, Asked::default())
}

fn no_file(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}: name a trace of `palisade record`, or - for standard input")
}

/// Namespace, name and container.
pub fn called(workload: &Workload) -> String {
    format!("{}/{}/{}", workload.namespace, workload.name, workload.container)
}

fn named(fact: &Fact) -> Option<(Slot, &Workload)> {
    match &fact.what {
        What::WorkloadNamed(slot, workload) => Some((*slot, workload)),
        _ => None,
    }
}

/// By what times of a trace are told.
#[derive(Debug, Clone, Copy, Default)]
struct Beginning {
    /// Earliest time of the first records.
    first_ns: Option<u64>,
    /// What lines are given their wall clock by, as the first fact says it. A clock that was set later moves no time here.
    unix_minus_boot_ns: Option<u64>,
}

impl Beginning {
    fn hear(&mut self, part: &Part) {
        match part {
            Part::Records(batches) => self.first_ns = self.first_ns.or(first_ns(batches)),
            Part::Facts(facts) => {
                let clock = |fact: &Fact| if let What::Clock(offset) = fact.what { Some(offset) } else { None };
                self.unix_minus_boot_ns = self.unix_minus_boot_ns.or_else(|| facts.iter().find_map(clock));
            }
            Part::Checkpoint(_) => {}
        }
    }

    /// A time of a trace in the records' clock.
    fn boot_ns(&self, moment: Moment, header: &Header) -> u64 {
        match moment {
            Moment::After(after) => {
                let first = self.first_ns.unwrap_or(header.boot_ns);
                first.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
            }
            Moment::At(unix_ns) => {
                let of_header = header.unix_ns.saturating_sub(header.boot_ns);
                unix_ns.saturating_sub(self.unix_minus_boot_ns.unwrap_or(of_header))
            }
        }
    }
}

/// A reader of what is asked for, and where the trace begins if its index tells it.
fn opened(mut file: File, asked: Asked<'_>) -> anyhow::Result<(Reader, Option<Beginning>)> {
    anyhow::ensure!(!file.metadata()?.is_dir(), "it is a directory: name a trace of `palisade record`");
    let whole = |file: File| TraceReader::open(Box::new(BufReader::new(file)) as Box<dyn Read>);
    // A pipe has no place to be sought, nor to be gone back to.
    if asked.is_all() || file.stream_position().is_err() {
        return Ok((whole(file)?, None));
    }
    let Some(index) = seek::index_of(&mut file)? else { return Ok((whole(file)?, None)) };
    let (slots, mut begins, header) = by_facts(&file, &index, asked.workloads)?;
    begins.first_ns = index.iter().find(|entry| entry.kind == BlockKind::Records).map(|entry| entry.first_ns);
    let at = |moment: Moment| begins.boot_ns(moment, &header);
    let wanted = Wanted { from_ns: asked.from.map_or(0, at), until_ns: asked.until.map_or(u64::MAX, at), slots };
    let sought = Sought::new(file, &index, &wanted)?;
    Ok((TraceReader::open(Box::new(BufReader::new(sought)) as Box<dyn Read>)?.sought(), Some(begins)))
}

/// The slots that workloads of these names ever have, and the clock and the header: by the facts alone, no record is read.
fn by_facts(
    file: &File,
    index: &[Entry],
    names: &[String],
) -> anyhow::Result<(Option<BTreeSet<Slot>>, Beginning, Header)> {
    // What no record can be.
    let nothing = Wanted { from_ns: u64::MAX, until_ns: 0, slots: None };
    let mut reader = TraceReader::open(BufReader::new(Sought::new(file, index, &nothing)?))?.sought();
    let (mut slots, mut begins) = (BTreeSet::new(), Beginning::default());
    while let Some(part) = reader.next_part()? {
        begins.hear(&part);
        let Part::Facts(facts) = part else { continue };
        let of = |(slot, workload): &(Slot, &Workload)| names.iter().any(|name| is_called(*slot, workload, name));
        slots.extend(facts.iter().filter_map(named).filter(of).map(|(slot, _)| slot));
    }
    Ok(((!names.is_empty()).then_some(slots), begins, reader.header().clone()))
}

/// Earliest time of records.
pub fn first_ns(batches: &Batches) -> Option<u64> {
    palisade_kernel_abi::record::slices(batches.bytes())
        .map(|record| palisade_kernel_abi::record::slot_and_time(record).1)
        .min()
}

#[cfg(test)]
mod tests {
    use palisade_kernel_abi::record::{Body, Exit, Header as RecordHeader, Record, RecordWriter};
    use palisade_wire::trace::{Block, Process, TraceWriter};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn workload(slot: u32) -> Fact {
        let name = format!("w{slot}");
        let (namespace, container) = ("shop".to_owned(), "main".to_owned());
        let workload = Workload {
            kind: palisade_domain::WorkloadKind::Container,
            name,
            namespace,
            container,
            container_id: Some(palisade_domain::ContainerId(slot.to_string())),
            image: String::new(),
            labels: std::collections::BTreeMap::new(),
        };
        Fact { boot_ns: 0, what: What::WorkloadNamed(Slot(slot), workload.into()) }
    }

    fn header() -> Header {
        Header {
            little_endian: cfg!(target_endian = "little"),
            record_version: palisade_kernel_abi::record::VERSION,
            unix_ns: 1_000 * SECOND,
            ..Header::default()
        }
    }

    /// 100 blocks, one a second, of five workloads in turn; a checkpoint before each tenth.
    fn long(path: &Path) {
        let mut writer = TraceWriter::begin(File::create(path).expect("made"), &header()).expect("begun");
        writer.facts(&(1..=5).map(workload).collect::<Vec<_>>()).expect("written");
        for second in 0..100_u64 {
            if second % 10 == 0 {
                let process = Fact { boot_ns: second * SECOND, what: What::Process(Process::default()) };
                writer.block(&Block::checkpoint(&[process]).expect("small")).expect("written");
            }
            let slot = u32::try_from(1 + second % 5).expect("small");
            let header = RecordHeader { slot, boot_ns: second * SECOND, ..RecordHeader::default() };
            let mut records = RecordWriter::default();
            records.write(&Record { header, body: Body::Exit(Exit { status: 0 }), decision: None }).expect("fits");
            let mut block = Batches::new();
            block.push(records.bytes(), |_| true);
            writer.records(&block).expect("written");
        }
        writer.finish().expect("finished");
    }

    /// Seconds of the records that are given out, and blocks that were read.
    fn read(input: &mut TraceInput) -> (Vec<u64>, u64) {
        let mut seconds = Vec::new();
        while let Some(part) = input.next_part().expect("bytes") {
            let Part::Records(batches) = part else { continue };
            seconds.extend(first_ns(&batches).map(|ns| ns / SECOND));
        }
        (seconds, input.report().blocks)
    }

    #[test]
    fn unit_trace_input_reads_of_a_file_only_the_blocks_of_the_time_and_the_workload() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        long(&path);
        let after = |seconds| Some(Moment::After(std::time::Duration::from_secs(seconds)));
        let (all, blocks) = read(&mut open(&path).expect("a trace"));
        assert_eq!((all.len(), blocks), (100, 1 + 1 + 10 + 100 + 1));
        let asked = Asked { from: after(53), until: after(55), workloads: &[] };
        let mut input = TraceInput::open(&path, asked).expect("a trace");
        assert_eq!((input.from_ns, input.until_ns), (53 * SECOND, 55 * SECOND));
        assert_eq!(read(&mut input), ((50..=55).collect(), 1 + 1 + 1 + 6 + 1), "from the checkpoint at 50 on");
        assert!(input.complaints().is_empty());
        let at = Asked { from: Some(Moment::At(1_097 * SECOND)), ..Asked::default() };
        assert_eq!(read(&mut TraceInput::open(&path, at).expect("a trace")).0, (90..100).collect::<Vec<_>>());
        let names = ["shop/w3".to_owned()];
        let of_one = Asked { from: after(80), until: None, workloads: &names };
        let mut input = TraceInput::open(&path, of_one).expect("a trace");
        assert_eq!(read(&mut input).0, [80, 81, 82, 87, 92, 97]);
        assert!(input.complaints().is_empty());
    }

    #[test]
    fn unit_trace_input_that_cannot_be_sought_is_read_from_its_beginning() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        long(&path);
        let bytes = std::fs::read(&path).expect("written");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
        let after = |seconds| Some(Moment::After(std::time::Duration::from_secs(seconds)));
        let asked = Asked { from: after(53), until: after(55), workloads: &[] };
        let mut input = TraceInput::open(&path, asked).expect("a trace");
        assert_eq!((input.from_ns, input.until_ns), (53 * SECOND, 55 * SECOND));
        assert_eq!(read(&mut input).0.len(), 100, "who reads it leaves out what is not asked for");
        assert_eq!(input.complaints().len(), 1, "its index is cut");
    }

    #[test]
    fn unit_trace_input_looks_for_the_first_record_behind_a_bounded_number_of_facts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        let mut writer = TraceWriter::begin(File::create(&path).expect("made"), &header()).expect("begun");
        let arguments = vec![String::new(); 100_000];
        for pid in 0..40 {
            let process = Process { pid, arguments: arguments.clone(), ..Process::default() };
            writer.facts(&[Fact { boot_ns: 1, what: What::Process(process) }]).expect("written");
        }
        drop(writer);
        let after = Some(Moment::After(std::time::Duration::from_secs(1)));
        let asked = Asked { from: after, ..Asked::default() };
        let error = format!("{:#}", TraceInput::open(&path, asked).err().expect("too many"));
        assert!(error.contains("stand before its first record"), "{error}");
        assert!(TraceInput::open(&path, Asked::default()).is_ok(), "all of it can be read");
    }

    #[test]
    fn unit_trace_input_names_what_is_wrong_with_what_is_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t");
        long(&path);
        let after = |seconds| Some(Moment::After(std::time::Duration::from_secs(seconds)));
        let backwards = Asked { from: after(2), until: after(1), workloads: &[] };
        let error = TraceInput::open(&path, backwards).err().expect("backwards").to_string();
        assert!(error.contains("--from is later than --until"), "{error}");
        let names = ["shop/w9".to_owned()];
        let mut input = TraceInput::open(&path, Asked { workloads: &names, ..Asked::default() }).expect("a trace");
        assert_eq!(read(&mut input).0, [0; 0]);
        let [complaint] = &input.complaints()[..] else { panic!("one") };
        assert!(complaint.contains("no workload is called shop/w9; there are: shop/w1/main, "), "{complaint}");
        let of = |path: &Path| format!("{:#}", open(path).err().expect("none"));
        assert!(of(directory.path()).contains("a directory"), "{}", of(directory.path()));
        assert!(of(Path::new("/nonesuch")).contains("palisade record"));
    }
}
