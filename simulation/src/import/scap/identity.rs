//! Who acts: threads, processes and containers of a capture, as far as it told of them until now.
//!
//! Invariant: each table is bounded; what does not fit is taken for a process of the host that nobody told of, and counted ([`Identity::unfit`]).
//!
//! A process's container is the one whose id (64 hexadecimal digits) is in the paths of its cgroups, which a capture has with the processes at its
//! beginning and wherever one is made or executes a file: who is put into a container in between is known with its next execution only. The name,
//! the image and the labels come in an event of their own, from what answered the capturing program.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_domain::{ContainerId, Slot, Workload, WorkloadKind};
use palisade_kernel_abi::record::Phase;
use serde::Deserialize;

const MAX_PROCESSES: usize = 65_536;
const MAX_CONTAINERS: usize = 4_096;
/// Bytes of the longest name that is kept: Linux's own bound of a path.
pub const LONGEST_NAME: usize = 4_096;
/// Bytes of what is kept of one container.
const LONGEST_DESCRIPTION: usize = 65_536;
/// Digits of a container's id, and those of them by which events of containers call it.
const ID: usize = 64;
const SHORT_ID: usize = 12;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `CLOCK_BOOTTIME`, nanoseconds; 0 where it was there before.
    pub start_ns: u64,
    pub parent: u32,
    pub parent_start_ns: u64,
    pub uid: u32,
    pub gid: u32,
    pub comm: [u8; 16],
    /// Empty where not known.
    pub cwd: Vec<u8>,
    pub slot: Slot,
    pub phase: Phase,
    /// Its number in its own PID namespace.
    pub own_pid: u32,
    pub executable: Vec<u8>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            start_ns: 0,
            parent: 0,
            parent_start_ns: 0,
            uid: 0,
            gid: 0,
            comm: [0; 16],
            cwd: Vec::new(),
            slot: Slot::HOST,
            phase: Phase::None,
            own_pid: 0,
            executable: Vec::new(),
        }
    }
}

/// A name that is kept; one that is longer than any can be is not known.
#[must_use]
pub fn kept(name: &[u8]) -> Vec<u8> {
    if name.len() > LONGEST_NAME { Vec::new() } else { name.to_vec() }
}

/// The first 16 bytes.
#[must_use]
pub fn comm(bytes: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    comm.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    comm
}

/// What an event of a container tells.
#[derive(Debug, Deserialize)]
pub struct Told {
    container: Description,
}

#[derive(Debug, Deserialize)]
struct Description {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default)]
pub struct Identity {
    processes: BTreeMap<u32, Process>,
    /// Of threads that are not their process's first.
    threads: BTreeMap<u32, u32>,
    /// By the whole id.
    containers: BTreeMap<String, Slot>,
    descriptions: BTreeMap<String, Description>,
    /// Whether the host was told of.
    told: BTreeSet<Slot>,
    unfit: u64,
}

impl Identity {
    /// Processes and containers that no table had room for.
    #[must_use]
    pub const fn unfit(&self) -> u64 {
        self.unfit
    }

    /// Workloads that were told of.
    #[must_use]
    pub fn workloads(&self) -> u64 {
        self.told.len() as u64
    }

    /// The process of a thread; that of an unknown thread has its number.
    #[must_use]
    pub fn pid(&self, tid: u32) -> u32 {
        self.threads.get(&tid).copied().unwrap_or(tid)
    }

    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    pub fn process_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.processes.get_mut(&pid)
    }

    /// A process that nobody told of is kept from its first act on.
    pub fn known(&mut self, pid: u32) -> Process {
        if let Some(process) = self.processes.get(&pid) {
            return process.clone();
        }
        let process = Process::default();
        self.put(pid, process.clone());
        process
    }

    pub fn put(&mut self, pid: u32, process: Process) {
        if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&pid) {
            self.processes.insert(pid, process);
        } else {
            self.unfit += 1;
        }
        self.threads.remove(&pid);
    }

    pub fn put_thread(&mut self, tid: u32, pid: u32) {
        if self.threads.len() < MAX_PROCESSES || self.threads.contains_key(&tid) {
            self.threads.insert(tid, pid);
        } else {
            self.unfit += 1;
        }
    }

    /// A thread ended: whether it was the first of its process.
    pub fn ended(&mut self, tid: u32) -> bool {
        self.threads.remove(&tid).is_none()
    }

    /// The process has no record any more.
    pub fn remove(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Which process of a workload has this number in its own namespace; the host's own is the first namespace.
    #[must_use]
    pub fn by_own_pid(&self, slot: Slot, own_pid: u32) -> Option<u32> {
        if slot == Slot::HOST {
            return Some(own_pid);
        }
        let is_it = |(_, process): &(&u32, &Process)| process.slot == slot && process.own_pid == own_pid;
        self.processes.iter().find(is_it).map(|(pid, _)| *pid)
    }

    /// The slot of who has these cgroups (`cpuset=/a/b`, each ended by NUL).
    pub fn slot_of(&mut self, cgroups: &[u8]) -> Slot {
        let Some(id) = container_of(cgroups) else { return Slot::HOST };
        if let Some(slot) = self.containers.get(id) {
            return *slot;
        }
        if self.containers.len() >= MAX_CONTAINERS {
            self.unfit += 1;
            return Slot::HOST;
        }
        let slot = Slot(u32::try_from(self.containers.len()).unwrap_or_default() + 1);
        self.containers.insert(id.to_owned(), slot);
        slot
    }

    /// Who a slot is, where that was not told yet.
    pub fn untold(&mut self, slot: Slot, node: &str) -> Option<Arc<Workload>> {
        self.told.insert(slot).then(|| Arc::new(self.workload(slot, node)))
    }

    /// What an event of a container tells.
    pub fn describe(&mut self, told: Told) {
        let Told { container } = told;
        let Some(id) = container.id.get(..SHORT_ID).map(str::to_owned) else { return };
        // A search that failed tells of the id only.
        if container.name.is_empty() && container.image.is_empty() {
            return;
        }
        let labels = container.labels.iter().flatten().map(|(key, value)| key.len() + value.len());
        let bytes = container.name.len() + container.image.len() + labels.sum::<usize>();
        let is_full = self.descriptions.len() >= MAX_CONTAINERS && !self.descriptions.contains_key(&id);
        if is_full || bytes > LONGEST_DESCRIPTION {
            self.unfit += 1;
        } else {
            self.descriptions.insert(id, container);
        }
    }

    fn workload(&self, slot: Slot, node: &str) -> Workload {
        let Some((id, _)) = self.containers.iter().find(|(_, own)| **own == slot) else {
            return Workload {
                kind: WorkloadKind::Host,
                name: node.to_owned(),
                namespace: String::new(),
                container: String::new(),
                container_id: None,
                image: String::new(),
                labels: BTreeMap::new(),
            };
        };
        let short = id.get(..SHORT_ID).unwrap_or(id);
        let description = self.descriptions.get(short);
        let labels = description.and_then(|description| description.labels.clone()).unwrap_or_default();
        let name = description.map_or(short, |description| description.name.as_str());
        let label = |key: &str, other: &str| labels.get(key).map_or(other, String::as_str).to_owned();
        Workload {
            kind: WorkloadKind::Container,
            name: label("io.kubernetes.pod.name", name),
            namespace: label("io.kubernetes.pod.namespace", ""),
            container: label("io.kubernetes.container.name", name),
            container_id: Some(ContainerId(id.clone())),
            image: description.map_or_else(String::new, |description| description.image.clone()),
            labels,
        }
    }
}

/// The innermost container that any of the paths names.
fn container_of(cgroups: &[u8]) -> Option<&str> {
    cgroups.split(|byte| *byte == 0).find_map(|path| {
        let words = path.split(|byte| !byte.is_ascii_hexdigit());
        let id = words.rev().find(|word| word.len() == ID)?;
        std::str::from_utf8(id).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_container_of_a_process_is_the_innermost_in_its_cgroups() {
        let (outer, inner) = ("a".repeat(ID), "0f".repeat(ID / 2));
        let docker = format!("cpuset=/\0cpu=/docker/{inner}\0");
        let nested = format!("memory=/kubepods.slice/crio-{outer}.scope/cri-containerd-{inner}.scope\0");
        for cgroups in [docker, nested] {
            assert_eq!(container_of(cgroups.as_bytes()), Some(inner.as_str()));
        }
        for none in ["", "cpu=/system.slice/docker.service\0", "cpu=/a1b2\0"] {
            assert_eq!(container_of(none.as_bytes()), None, "{none}");
        }
    }
}
