//! Workloads as they come and go.

use actix::Message;
use palisade_domain::{Slot, Workload};
use palisade_world::{Admission, Membership};

/// A workload has a slot. Where `admission` is given, it starts when the admission is answered: with its policy in force.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct WorkloadAppeared {
    /// Who.
    pub workload: std::sync::Arc<Workload>,
    /// Its place in the kernel.
    pub membership: Membership,
    /// The container waits for this.
    pub admission: Option<Admission>,
}

/// Whose records carry this slot from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WorkloadNamed {
    /// Its place in the kernel.
    pub slot: Slot,
    /// Who.
    pub workload: std::sync::Arc<Workload>,
}

/// Where a workload's processes and files are, as far as it is known when it appears.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WorkloadPlaced {
    /// Its place.
    pub membership: Membership,
}

/// A workload that appeared before it ran now runs: its mount table can be learnt.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WorkloadStarted {
    /// Which.
    pub slot: Slot,
    /// Its init process in the host's PID namespace.
    pub pid: u32,
}

/// A workload ended; its slot is given to another only after a grace period.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct WorkloadGone {
    /// Which.
    pub slot: Slot,
}

/// All workloads now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "WorkloadTable")]
pub struct WorkloadsOf;

/// Answer to [`WorkloadsOf`], by slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadTable {
    /// Slot and workload.
    pub workloads: Vec<(Slot, std::sync::Arc<Workload>)>,
    /// The container runtime has told all that ran.
    pub synchronized: bool,
    /// Containers that run without policy, for no slot was free.
    pub unheld: usize,
}

/// A process that ran before the probes did, so that chains of alerts reach back to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessListed {
    /// Process id in the host's PID namespace.
    pub pid: u32,
    /// Start, hundredths of a second since boot, as `/proc/PID/stat` gives it.
    pub start_ticks: u64,
    /// Parent's id and start.
    pub parent: Option<(u32, u64)>,
    /// Real uid.
    pub uid: u32,
    /// Executable as `/proc/PID/exe` names it; empty for kernel threads.
    pub executable: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Its number in its own PID namespace; 0 where not known.
    pub own_pid: u32,
    /// Inode number of that namespace; 0 where not known.
    pub pid_namespace: u32,
}

/// The living processes of a workload.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LiveProcesses")]
pub struct ProcessesOf {
    /// Whose.
    pub slot: Slot,
}

/// Answer to [`ProcessesOf`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveProcesses {
    /// By process id.
    pub processes: Vec<LiveProcess>,
    /// There are more than are told.
    pub more: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveProcess {
    /// Process id in the host's PID namespace.
    pub pid: u32,
    /// Start, hundredths of a second since boot.
    pub start_ticks: u64,
    /// The process that forked it, which may be over.
    pub parent_pid: Option<u32>,
    /// Its number in its own PID namespace, where known.
    pub own_pid: Option<u32>,
    /// Real uid.
    pub uid: u32,
    /// The user's name, where known.
    pub username: Option<String>,
    /// Executable path as the workload saw it; empty where it is not known.
    pub executable: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// They are not all of them.
    pub arguments_cut: bool,
}
