//! KubeArmor's logs as a trace.
//!
//! Invariant: nothing is made up: what a log does not tell is left empty in the record, and what all of them together lack is said
//! ([`Imported::lacks`]). A line that is no log, or of an operation that no record stands for, is counted and named by number; what of these
//! may have told of an act is in the trace as lost.
//!
//! What KubeArmor was told to see, its logs do not tell: of each workload a class of acts counts as seen from the first log of it on (an alert is
//! none: a policy makes it, whatever is to be seen). Processes never do, for tracing is of them and is not in the logs; executions are known by
//! the records of them, among which those of alerts are told apart by their producer ([`OF_POLICIES`]).
//!
//! A process is its host process id, for logs tell no start: one id that is used again is taken for the same process.

mod log;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Read as _, Write},
    sync::Arc,
};

use palisade_domain::{Slot, Visibility, VisibilityClass};
use palisade_kernel_abi::record::{Body, Header as RecordHeader, Phase, VERSION};
use palisade_wire::trace::{Fact, Header, Loss, Process, What};

use self::log::{Log, wrapped};
use super::{IMPORTED, ImportError, Imported, OF_POLICIES, writing::Writing};

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Processes of which it is known what they execute; of further ones it is told with each log.
const MAX_ACTING: usize = 65_536;
/// Containers that are told apart.
const MAX_CONTAINERS: usize = 65_536;
/// Boot time of the first log: some time must have passed before it.
const BEGIN_NS: u64 = 1_000_000_000;

/// What such a trace has not, whatever is in the logs.
const LACKS: [&str; 9] = [
    "what KubeArmor was told to see: a class of acts counts as seen of a workload from the first log of it on",
    "numbers of records: whether logs were lost, it does not tell",
    "acts that KubeArmor does not log: forks, exits, and what its visibility left out",
    "executions that failed: a record of one is of one that happened",
    "starts of processes: a process id that was used again is taken for the same process",
    "arguments as they were given: they are split at spaces",
    "scripts: whether an execution is of one, or of its interpreter, it does not tell",
    "owners of files and terminals: rules with ownerOnly or pts cannot be rehearsed",
    "policies: a replay has no alerts, and a rehearsal is by the policies that it is given",
];

/// Reads logs, writes a trace.
///
/// # Errors
/// See [`ImportError`].
pub fn import<W: Write>(mut from: impl BufRead, to: W) -> Result<(W, Imported), ImportError> {
    let mut importing = Importing::<W> { to: Some(to), ..Importing::default() };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
            skip_line(&mut from)?;
            importing.lose(number, "it is longer than a mebibyte");
        } else if !line.trim_ascii().is_empty() {
            importing.line(number, &line)?;
        }
    }
    importing.end()
}

/// To the end of a line, of which nothing is kept.
fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = from.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (length, is_over) = end.map_or((bytes.len(), bytes.is_empty()), |at| (at + 1, true));
        from.consume(length);
        if is_over {
            return Ok(());
        }
    }
}

struct Importing<W: Write> {
    to: Option<W>,
    writing: Option<Writing<W>>,
    /// Wall clock less boot time.
    offset: u64,
    slots: BTreeMap<String, Slot>,
    told: BTreeSet<Slot>,
    /// What a log has shown to be seen of each slot.
    seen: BTreeMap<Slot, Visibility>,
    /// What each process was last said to execute.
    acting: BTreeMap<u32, String>,
    /// Alerts among the lines: their decisions are not in the trace.
    alerts: u64,
    /// Results whose words are none of the known errors.
    unnamed_results: u64,
    /// Boot time of the latest record.
    last_ns: u64,
    done: Imported,
}

impl<W: Write> Default for Importing<W> {
    fn default() -> Self {
        Self {
            to: None,
            writing: None,
            offset: 0,
            slots: BTreeMap::new(),
            told: BTreeSet::new(),
            seen: BTreeMap::new(),
            acting: BTreeMap::new(),
            alerts: 0,
            unnamed_results: 0,
            last_ns: BEGIN_NS,
            done: Imported::default(),
        }
    }
}

impl<W: Write> Importing<W> {
    fn skip(&mut self, number: u64, why: &str) {
        self.done.skip_at(&format!("line {number}"), why);
    }

    /// The same of a line that may have told of an act: the trace says that it lacks it.
    fn lose(&mut self, number: u64, why: &str) {
        self.done.unread += 1;
        self.skip(number, why);
    }

    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), ImportError> {
        let Ok(log) = serde_json::from_slice::<Log>(line) else {
            self.lose(number, "it is no JSON object of a log");
            return Ok(());
        };
        if log.timestamp == 0 || log.operation.is_empty() {
            self.lose(number, "it has no Timestamp or no Operation");
            return Ok(());
        }
        let arguments = log.arguments();
        let act = match log.act(&arguments) {
            Ok(act) => act,
            Err(why) => {
                self.skip(number, &why);
                return Ok(());
            }
        };
        self.alerts += u64::from(!log.policy_name.is_empty());
        self.unnamed_results += u64::from(log.result().is_none());
        self.record(number, &log, act)
    }

    fn record(&mut self, number: u64, log: &Log, body: Body<'_>) -> Result<(), ImportError> {
        if self.writing.is_none() {
            self.begin(log)?;
        }
        let Some(slot) = self.slot(log)? else {
            self.lose(number, "of more containers than are told apart");
            return Ok(());
        };
        self.sees(slot, log)?;
        self.acting(log)?;
        let boot_ns = log.unix_ns().saturating_sub(self.offset);
        self.last_ns = self.last_ns.max(boot_ns);
        let header = RecordHeader {
            producer: if log.policy_name.is_empty() { 0 } else { OF_POLICIES },
            slot: slot.0,
            boot_ns,
            tgid: wrapped(log.host_pid),
            tid: wrapped(log.host_pid),
            parent_tgid: wrapped(log.host_ppid),
            uid: wrapped(log.uid),
            phase: if slot == Slot::HOST { Phase::None } else { Phase::Workload },
            ..RecordHeader::default()
        };
        if let Some(writing) = &mut self.writing {
            if writing.record(header, body)? {
                self.done.records += 1;
            } else {
                self.lose(number, "longer than a record");
            }
        }
        Ok(())
    }

    fn fact(&mut self, log: &Log, what: What) -> Result<(), ImportError> {
        let boot_ns = log.unix_ns().saturating_sub(self.offset);
        if let Some(writing) = &mut self.writing {
            writing.facts(&[Fact { boot_ns, what }])?;
        }
        Ok(())
    }

    fn begin(&mut self, log: &Log) -> Result<(), ImportError> {
        let Some(to) = self.to.take() else { return Ok(()) };
        let unix_ns = log.unix_ns();
        self.offset = unix_ns.saturating_sub(BEGIN_NS);
        let header = Header {
            node: log.host_name.clone(),
            cluster: log.cluster_name.clone(),
            boot_ns: BEGIN_NS,
            unix_ns,
            little_endian: cfg!(target_endian = "little"),
            record_version: VERSION,
            visibility: Visibility::NONE,
            program: format!("{IMPORTED}logs of KubeArmor"),
            ..Header::default()
        };
        let mut writing = Writing::begin(to, &header)?;
        writing.facts(&[Fact { boot_ns: BEGIN_NS, what: What::SnapshotEnd }])?;
        self.writing = Some(writing);
        Ok(())
    }

    /// The workload's slot, where there is room for one more; a new one is told before its first record.
    fn slot(&mut self, log: &Log) -> Result<Option<Slot>, ImportError> {
        let slot = match self.slots.get(&log.container_id) {
            _ if log.container_id.is_empty() => Slot::HOST,
            Some(slot) => *slot,
            None if self.slots.len() >= MAX_CONTAINERS => return Ok(None),
            None => {
                let slot = Slot(u32::try_from(self.slots.len()).unwrap_or_default() + 1);
                self.slots.insert(log.container_id.clone(), slot);
                slot
            }
        };
        if self.told.insert(slot) {
            self.done.workloads += 1;
            self.fact(log, What::WorkloadNamed(slot, Arc::new(log.workload())))?;
        }
        Ok(Some(slot))
    }

    /// What this log shows to be seen of its workload.
    fn sees(&mut self, slot: Slot, log: &Log) -> Result<(), ImportError> {
        let class = match log.operation.as_str() {
            "File" => VisibilityClass::File,
            "Network" => VisibilityClass::Network,
            _ => return Ok(()),
        };
        let seen = self.seen.get(&slot).copied().unwrap_or(Visibility::NONE);
        if !log.policy_name.is_empty() || seen.has(class) {
            return Ok(());
        }
        let seen = seen.with(class);
        self.seen.insert(slot, seen);
        self.fact(log, What::Visible(slot, seen))
    }

    /// What acts, which each log of a file or a connection tells of its process: as a process that was there before.
    fn acting(&mut self, log: &Log) -> Result<(), ImportError> {
        let executable = log.source.split_whitespace().next().unwrap_or_default();
        let is_own = log.operation != "Process" && executable.starts_with('/');
        let pid = wrapped(log.host_pid);
        if !is_own || self.acting.get(&pid).is_some_and(|known| known == executable) {
            return Ok(());
        }
        let process = Process {
            pid,
            parent: Some((wrapped(log.host_ppid), 0)),
            uid: wrapped(log.uid),
            executable: executable.to_owned(),
            ..Process::default()
        };
        self.fact(log, What::Process(process))?;
        if self.acting.len() < MAX_ACTING {
            self.acting.insert(pid, executable.to_owned());
        }
        Ok(())
    }

    fn end(mut self) -> Result<(W, Imported), ImportError> {
        let Some(mut writing) = self.writing else {
            let named = self.done.named.join("; ");
            return Err(ImportError::NoLog(if named.is_empty() { "it has no line".into() } else { named }));
        };
        self.done.lacks.extend(LACKS.map(str::to_owned));
        if self.alerts > 0 {
            let decisions = format!("the decisions of {} alerts: a policy's name is no rule of a blob", self.alerts);
            self.done.lacks.push(decisions);
        }
        if self.unnamed_results > 0 {
            let results = format!("{} results that have no number: they are told as EACCES", self.unnamed_results);
            self.done.lacks.push(results);
        }
        if self.done.unread > 0 {
            let loss = Loss { malformed: self.done.unread, ..Loss::default() };
            writing.facts(&[Fact { boot_ns: self.last_ns, what: What::Loss(loss) }])?;
        }
        Ok((writing.finish()?, self.done))
    }
}
