//! KubeArmor's logs as a trace.
//!
//! Invariant: nothing is made up: what a log does not tell is left empty in the record, and what all of them together lack is said
//! ([`Imported::lacks`]). A line that is no log, or of an operation that no record stands for, is counted and named by number.
//!
//! A process is its host process id, for logs tell no start: one id that is used again is taken for the same process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Read as _, Write},
    net::IpAddr,
    sync::Arc,
};

use palisade_domain::{ContainerId, Slot, Visibility, VisibilityClass, Workload, WorkloadKind};
use palisade_kernel_abi::record::{
    Body, Exec, Header as RecordHeader, Network, NetworkOperation, Open, Phase, VERSION,
};
use palisade_wire::trace::{Fact, Header, Process, What};
use serde::Deserialize;

use super::{
    ImportError, Imported,
    writing::{Writing, path, text},
};

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Processes of which it is known what they execute; of further ones it is told with each log.
const MAX_ACTING: usize = 65_536;
/// Boot time of the first log: some time must have passed before it.
const BEGIN_NS: u64 = 1_000_000_000;

/// What such a trace has not, whatever is in the logs.
const LACKS: [&str; 6] = [
    "numbers of records: whether logs were lost, it does not tell",
    "acts that KubeArmor does not log: forks, exits, and what its visibility left out",
    "starts of processes: a process id that was used again is taken for the same process",
    "arguments as they were given: they are split at spaces",
    "owners of files and terminals: rules with ownerOnly or pts cannot be rehearsed",
    "policies: a replay has no alerts, and a rehearsal is by the policies that it is given",
];

/// The fields that are read, by their names in KubeArmor's feed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Log {
    #[serde(rename = "UpdatedTime")]
    updated_time: String,
    timestamp: u64,
    cluster_name: String,
    host_name: String,
    namespace_name: String,
    pod_name: String,
    labels: String,
    #[serde(rename = "ContainerID")]
    container_id: String,
    container_name: String,
    container_image: String,
    #[serde(rename = "HostPPID")]
    host_ppid: u32,
    #[serde(rename = "HostPID")]
    host_pid: u32,
    #[serde(rename = "UID")]
    uid: u32,
    source: String,
    operation: String,
    resource: String,
    data: String,
    result: String,
    policy_name: String,
}

impl Log {
    /// Nanoseconds since 1970: `UpdatedTime` where it can be read, else whole seconds.
    fn unix_ns(&self) -> u64 {
        let fraction =
            self.updated_time.strip_suffix('Z').and_then(|text| text.split_once('.')).map(|(_, digits)| digits);
        let nanos = fraction.filter(|digits| digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit()));
        let nanos: u64 = nanos.and_then(|digits| format!("{digits:0<9}").parse().ok()).unwrap_or(0);
        self.timestamp.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    fn workload(&self) -> Workload {
        let is_host = self.container_id.is_empty();
        let pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        Workload {
            kind: if is_host { WorkloadKind::Host } else { WorkloadKind::Container },
            name: if is_host { self.host_name.clone() } else { self.pod_name.clone() },
            namespace: self.namespace_name.clone(),
            container: self.container_name.clone(),
            container_id: (!is_host).then(|| ContainerId(self.container_id.clone())),
            image: self.container_image.clone(),
            labels: pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect(),
        }
    }

    /// The word after `key=` in its data, or in its resource.
    fn word(&self, key: &str) -> Option<&str> {
        let words = self.data.split_whitespace().chain(self.resource.split_whitespace());
        words
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    fn failed(&self) -> bool {
        !self.result.is_empty() && self.result != "Passed"
    }
}

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
        if !line.trim_ascii().is_empty() {
            importing.line(number, &line)?;
        }
    }
    importing.end()
}

struct Importing<W: Write> {
    to: Option<W>,
    writing: Option<Writing<W>>,
    /// Wall clock less boot time.
    offset: u64,
    slots: BTreeMap<String, Slot>,
    told: BTreeSet<Slot>,
    /// What each process was last said to execute.
    acting: BTreeMap<u32, String>,
    /// Alerts among the lines: their decisions are not in the trace.
    alerts: u64,
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
            acting: BTreeMap::new(),
            alerts: 0,
            done: Imported::default(),
        }
    }
}

impl<W: Write> Importing<W> {
    fn skip(&mut self, number: u64, why: &str) {
        self.done.skip_at(&format!("line {number}"), why);
    }

    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), ImportError> {
        let Ok(log) = serde_json::from_slice::<Log>(line) else {
            self.skip(number, "it is no JSON object of a log");
            return Ok(());
        };
        if log.timestamp == 0 || log.operation.is_empty() {
            self.skip(number, "it has no Timestamp or no Operation");
            return Ok(());
        }
        self.alerts += u64::from(!log.policy_name.is_empty());
        let (executable, arguments) = split(&log.resource);
        let argument_count = u32::try_from(arguments.iter().filter(|byte| **byte == 0).count()).unwrap_or(u32::MAX);
        let body = match log.operation.as_str() {
            "Process" => Body::Exec(Exec {
                path: path(executable.as_bytes(), false),
                argument_bytes: text(&arguments),
                argument_count,
                ..Exec::default()
            }),
            "File" => Body::Open(Open {
                path: path(log.resource.as_bytes(), log.failed()),
                flags: flags(log.word("flags").unwrap_or_default()),
                result: if log.failed() { -13 } else { 0 },
            }),
            "Network" => match network(&log) {
                Some(network) if network.operation == NetworkOperation::Socket => Body::Socket(network),
                Some(network) => Body::Connect(network),
                None => {
                    self.skip(number, "of a network operation that is neither a socket nor a connection to an address");
                    return Ok(());
                }
            },
            other => {
                self.skip(number, &format!("no record stands for the operation {other:?}"));
                return Ok(());
            }
        };
        self.record(&log, body)
    }

    fn record(&mut self, log: &Log, body: Body<'_>) -> Result<(), ImportError> {
        if self.writing.is_none() {
            self.begin(log)?;
        }
        let slot = self.slot(log)?;
        self.acting(log)?;
        let boot_ns = log.unix_ns().saturating_sub(self.offset);
        let header = RecordHeader {
            slot: slot.0,
            boot_ns,
            tgid: log.host_pid,
            tid: log.host_pid,
            parent_tgid: log.host_ppid,
            uid: log.uid,
            phase: if slot == Slot::HOST { Phase::None } else { Phase::Workload },
            ..RecordHeader::default()
        };
        if let Some(writing) = &mut self.writing {
            if writing.record(header, body)? {
                self.done.records += 1;
            } else {
                self.done.skip("longer than a record");
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
        let seen: Visibility =
            [VisibilityClass::Process, VisibilityClass::File, VisibilityClass::Network].into_iter().collect();
        let header = Header {
            node: log.host_name.clone(),
            cluster: log.cluster_name.clone(),
            boot_ns: BEGIN_NS,
            unix_ns,
            little_endian: cfg!(target_endian = "little"),
            record_version: VERSION,
            visibility: seen,
            program: "imported from logs of KubeArmor".into(),
            ..Header::default()
        };
        let mut writing = Writing::begin(to, &header)?;
        writing.facts(&[Fact { boot_ns: BEGIN_NS, what: What::SnapshotEnd }])?;
        self.writing = Some(writing);
        Ok(())
    }

    /// The workload's slot; a new one is told before its first record.
    fn slot(&mut self, log: &Log) -> Result<Slot, ImportError> {
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX - 1) + 1;
        let slot = if log.container_id.is_empty() {
            Slot::HOST
        } else {
            *self.slots.entry(log.container_id.clone()).or_insert(Slot(next))
        };
        if self.told.insert(slot) {
            self.done.workloads += 1;
            self.fact(log, What::WorkloadNamed(slot, Arc::new(log.workload())))?;
        }
        Ok(slot)
    }

    /// What acts, which each log of a file or a connection tells of its process: as a process that was there before.
    fn acting(&mut self, log: &Log) -> Result<(), ImportError> {
        let executable = log.source.split_whitespace().next().unwrap_or_default();
        let is_own = log.operation != "Process" && executable.starts_with('/');
        if !is_own || self.acting.get(&log.host_pid).is_some_and(|known| known == executable) {
            return Ok(());
        }
        let process = Process {
            pid: log.host_pid,
            parent: Some((log.host_ppid, 0)),
            uid: log.uid,
            executable: executable.to_owned(),
            ..Process::default()
        };
        self.fact(log, What::Process(process))?;
        if self.acting.len() < MAX_ACTING {
            self.acting.insert(log.host_pid, executable.to_owned());
        }
        Ok(())
    }

    fn end(mut self) -> Result<(W, Imported), ImportError> {
        let Some(writing) = self.writing else {
            return Err(ImportError::NoLog(self.done.named.join("; ")));
        };
        self.done.lacks.extend(LACKS.map(str::to_owned));
        if self.alerts > 0 {
            let decisions = format!("the decisions of {} alerts: a policy's name is no rule of a blob", self.alerts);
            self.done.lacks.push(decisions);
        }
        Ok((writing.finish()?, self.done))
    }
}

/// The file and, each ended by NUL, its name and arguments.
fn split(resource: &str) -> (&str, Vec<u8>) {
    let mut words = resource.split_whitespace();
    let executable = words.next().unwrap_or_default();
    let mut arguments = Vec::new();
    for word in std::iter::once(executable).chain(words) {
        arguments.extend_from_slice(word.as_bytes());
        arguments.push(0);
    }
    (executable, arguments)
}

/// `O_RDWR|O_CREAT` in numbers; what is no name of these counts as reading.
fn flags(names: &str) -> u32 {
    names.split('|').fold(0, |flags, name| {
        flags
            | match name {
                "O_WRONLY" => 1,
                "O_RDWR" => 2,
                "O_CREAT" => 0o100,
                "O_TRUNC" => 0o1000,
                "O_APPEND" => 0o2000,
                _ => 0,
            }
    })
}

fn network(log: &Log) -> Option<Network> {
    let text = format!("{} {}", log.resource, log.data).to_uppercase();
    let is_udp = text.contains("UDP") || text.contains("SOCK_DGRAM");
    let address: Option<IpAddr> =
        log.word("remoteip").or_else(|| log.word("sin_addr")).and_then(|text| text.parse().ok());
    let port: Option<u16> = log.word("port").or_else(|| log.word("sin_port")).and_then(|text| text.parse().ok());
    let destination = address.zip(port);
    let is_socket = log.data.contains("SYS_SOCKET") || log.data.contains("socket_create");
    if destination.is_none() && !is_socket {
        return None;
    }
    let is_v6 = address.is_some_and(|address| address.is_ipv6()) || text.contains("AF_INET6");
    Some(Network {
        operation: if destination.is_some() { NetworkOperation::Connect } else { NetworkOperation::Socket },
        domain: if is_v6 { 10 } else { 2 },
        socket_type: if is_udp { 2 } else { 1 },
        protocol: if is_udp { 17 } else { 6 },
        destination,
        user: false,
        result: if log.failed() { -13 } else { 0 },
    })
}
