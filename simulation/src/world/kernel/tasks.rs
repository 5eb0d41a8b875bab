//! Processes of the simulated machine.

use std::collections::BTreeMap;

use palisade_domain::{CgroupId, ContainerId};
use palisade_kernel_abi::record::{Header, Phase};
use palisade_protocol::ProcessListed;

/// `USER_HZ`.
const TICK_NS: u64 = 10_000_000;

/// One process.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its container.
    pub container: ContainerId,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub start_ns: u64,
    /// Who forked it: id and start.
    pub parent: (u32, u64),
    /// What it executes.
    pub executable: String,
    /// Real user.
    pub uid: u32,
    /// Mount and PID namespaces, one number for both.
    pub namespace: u32,
}

impl Task {
    /// The head of a record of it.
    #[must_use]
    pub fn header(&self, slot: u32, boot_ns: u64) -> Header {
        let mut comm = [0; 16];
        let name = self.executable.rsplit('/').next().unwrap_or_default().as_bytes();
        let len = name.len().min(15);
        comm[..len].copy_from_slice(&name[..len]);
        Header {
            slot,
            boot_ns,
            cgroup_id: self.cgroup.0,
            task_start_ns: self.start_ns,
            parent_start_ns: self.parent.1,
            tgid: self.pid,
            tid: self.pid,
            parent_tgid: self.parent.0,
            uid: self.uid,
            euid: self.uid,
            fsuid: self.uid,
            gid: self.uid,
            mnt_ns: self.namespace,
            pid_ns: self.namespace,
            phase: Phase::Workload,
            comm,
            ..Header::default()
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: BTreeMap<u32, Task>,
    last: u32,
}

impl Tasks {
    /// The next process id.
    pub fn next_pid(&mut self) -> u32 {
        self.last += 1;
        1000 + self.last
    }

    /// A process exists.
    pub fn insert(&mut self, task: Task) {
        self.tasks.insert(task.pid, task);
    }

    /// The process, if it lives.
    #[must_use]
    pub fn get(&self, pid: u32) -> Option<&Task> {
        self.tasks.get(&pid)
    }

    /// The process, if it lives.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Task> {
        self.tasks.get_mut(&pid)
    }

    /// It is over.
    pub fn remove(&mut self, pid: u32) -> Option<Task> {
        self.tasks.remove(&pid)
    }

    /// Those of a cgroup.
    #[must_use]
    pub fn of(&self, cgroup: CgroupId) -> Vec<u32> {
        self.tasks.values().filter(|task| task.cgroup == cgroup).map(|task| task.pid).collect()
    }

    /// As `/proc` lists them.
    #[must_use]
    pub fn listed(&self) -> Vec<ProcessListed> {
        let listed = |task: &Task| ProcessListed {
            pid: task.pid,
            start_ticks: task.start_ns / TICK_NS,
            parent: Some((task.parent.0, task.parent.1 / TICK_NS)),
            uid: task.uid,
            executable: task.executable.clone(),
            arguments: vec![task.executable.clone()],
            own_pid: task.pid,
            pid_namespace: task.namespace,
        };
        self.tasks.values().map(listed).collect()
    }

    /// The machine went down.
    pub fn clear(&mut self) {
        self.tasks.clear();
    }
}
