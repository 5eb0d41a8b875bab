//! Holding workloads to compiled policies, by the strongest means of the kernel at hand.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use palisade_domain::{CgroupId, Family, Generation, Slot, Tier, Visibility};
use palisade_kernel_abi::blob::Blob;

use crate::BootNanos;

/// One capability of the kernel that a tier stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// `bpf` is an active LSM and a test denial took effect.
    BpfLsm,
    /// A program before a security function (`fmod_ret`) denied in a test, and no other task could interrupt it: the kernel skips one that
    /// was interrupted for whoever runs meanwhile.
    ModifyReturn,
    /// BTF-typed tracepoints attach.
    BtfTracepoints,
    /// Raw tracepoints attach.
    RawTracepoints,
    /// `connect4` and `connect6` programs attach to a cgroup.
    CgroupConnect,
    /// `sock_create` programs attach to a cgroup.
    CgroupSocket,
    /// Egress programs attach to a cgroup and know the packet's own.
    CgroupPacket,
    /// The tracepoint `sched_prepare_exec`: executions while the old image lives (Linux 6.10).
    PrepareExec,
    /// The tracepoint `cap_capable`: capabilities that are used (Linux 6.14).
    CapabilityUse,
    /// Permission events of fanotify.
    FanotifyPermission,
    /// AppArmor is active, takes profiles from this process, and its denials are heard here.
    AppArmor,
    /// SELinux is active, takes a policy from this process, `secilc` is there to compile one, and denials are heard here. Whether it enforces may
    /// change at any time, and is no part of it.
    SeLinux,
    /// `bpf_send_signal` in tracepoints.
    SendSignal,
    /// Task-local storage.
    TaskStorage,
    /// BTF of the kernel itself.
    KernelBtf,
    /// The unified cgroup hierarchy is mounted.
    UnifiedCgroups,
    /// The kernel shows this process where its functions are: scripts are found by one.
    KernelSymbols,
    /// Root hubs of USB take what this process says they may authorize by themselves.
    UsbAuthorization,
}

/// Whether a capability is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapabilityState {
    /// It was tried, and works.
    Available,
    /// It was tried, and does not; why.
    Missing(String),
}

/// What this kernel can do, and which tier holds which family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelMatrix {
    /// `uname -r`.
    pub release: String,
    /// Active LSMs, empty where unknown.
    pub lsms: Vec<String>,
    /// By capability.
    pub capabilities: BTreeMap<Capability, CapabilityState>,
    /// By family: the tier used and what it cannot hold.
    pub families: BTreeMap<Family, HeldFamily>,
}

impl KernelMatrix {
    /// Whether the capability was tried, and works.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.get(&capability) == Some(&CapabilityState::Available)
    }

    /// Whether BPF programs judge where the kernel's LSM hooks are.
    #[must_use]
    pub fn judges_on_hooks(&self) -> bool {
        self.has(Capability::BpfLsm) || self.has(Capability::ModifyReturn)
    }
}

/// How one family is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFamily {
    /// By what means.
    pub tier: Tier,
    /// What of the family this means cannot hold.
    pub gaps: Vec<Gap>,
}

/// Something of the policy language that a tier cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// `readOnly`, `ptrace`: as policies name it.
    pub what: String,
    /// Why not.
    pub reason: String,
}

impl Gap {
    /// All that a file rule is about beside opens, as each rule of the family asks for it: names that come, go and change, and what an
    /// inode says of itself.
    pub const CHANGES: &'static str = "changes of files";
}

/// Who belongs to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The number in the kernel's maps.
    pub slot: Slot,
    /// The unified cgroup; absent for the host.
    pub cgroup: Option<CgroupId>,
    /// Its directory below the unified mount; absent for the host.
    pub cgroup_path: Option<PathBuf>,
    /// A process inside (0: none yet), whose mount table and root are the workload's.
    pub pid: u32,
    /// The root file system on the host before the container pivots into it.
    pub root: Option<PathBuf>,
}

/// A slot that an earlier runtime used, as this one found it: records of it may still be on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind {
    /// Which.
    pub slot: Slot,
    /// Whose it is on; `None`: who had it is gone.
    pub cgroup: Option<CgroupId>,
    /// When it was released; `None`: nobody released it.
    pub released: Option<BootNanos>,
}

/// What an installation holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installed {
    /// What records of its decisions call the policy; 0 where there is none, or records do not tell.
    pub number: u32,
    /// Families that the policy has rules for, and their tiers.
    pub families: BTreeMap<Family, HeldFamily>,
}

/// A directory in which a container runtime makes its containers' cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlace {
    /// The unified cgroup.
    pub cgroup: CgroupId,
    /// Its directory below the unified mount.
    pub path: PathBuf,
    /// There are others beside containers (`system.slice`): only who is named as a container is one.
    pub mixed: bool,
    /// What is below it and is no container: the cgroups of pods and their classes.
    pub below: Vec<CgroupId>,
}

/// What happened between an earlier node's last sign of life and the start of this one. Counts are of all CPUs, and include what
/// the earlier node did not live to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// The last sign of life.
    pub since: BootNanos,
    /// This node's start.
    pub until: BootNanos,
    /// Policy had lapsed since then; `None`: it stood.
    pub lapsed: Option<BootNanos>,
    /// Acts that were judged by a policy.
    pub decided: u64,
    /// Of them, those that were denied.
    pub denied: u64,
    /// Acts that were permitted because policy had lapsed.
    pub passed: u64,
}

/// A program that the kernel did not take, so that less is held or seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedProgram {
    /// Its name.
    pub program: String,
    /// What it needs.
    pub needs: String,
    /// What is lost without it.
    pub without: String,
    /// What the kernel said.
    pub reason: String,
}

/// Kernel memory that policies take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelMemory {
    /// Blobs (each counted once, as large as its size class).
    pub blobs: u64,
    /// How many different blobs.
    pub blob_count: u64,
    /// All other maps together, as the kernel reports them.
    pub maps: u64,
}

/// Why enforcement failed.
#[derive(Debug, thiserror::Error)]
pub enum EnforcementError {
    /// The kernel refused an operation.
    #[error("slot {slot}: {what}: {reason}")]
    Refused {
        /// For whom.
        slot: Slot,
        /// Which operation.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A bound was reached.
    #[error("slot {slot}: {what} is full: {bound} at most")]
    Full {
        /// For whom.
        slot: Slot,
        /// Which map.
        what: &'static str,
        /// The bound.
        bound: u64,
    },
    /// The slot was never admitted, or was released.
    #[error("slot {0} is not admitted")]
    UnknownSlot(Slot),
    /// The fanotify responder is gone or does not answer.
    #[error("slot {slot}: responder: {reason}")]
    Responder {
        /// For whom.
        slot: Slot,
        /// What happened.
        reason: String,
    },
}

/// The kernel as the enforcers see it. Each call is a few system calls (well under a millisecond but for [`Enforcement::learn_mounts`]).
pub trait Enforcement: Send + Sync {
    /// What this kernel can do; fixed for the life of the adapter.
    fn matrix(&self) -> &KernelMatrix;
    /// Slots that an earlier runtime used, as they were when this one began, those that it released included; the host's is none of them.
    fn left_behind(&self) -> Vec<LeftBehind> {
        // A backend that outlives no process leaves nothing.
        Vec::new()
    }
    /// The newest policy set that an earlier runtime put in force for anybody, as far as it still stood when this one began: the next set
    /// has a greater number, for records and what they were decided by tell sets apart by nothing else.
    fn last_generation(&self) -> Generation {
        Generation::default()
    }
    /// Makes the members of the cgroup (now and later, children included) belong to the slot, with no policy yet.
    ///
    /// # Errors
    /// See [`EnforcementError`]; nothing is left half done.
    fn admit(&self, membership: &Membership) -> Result<(), EnforcementError>;
    /// Learns the mount table that the workload's paths are named by, from a process inside; once the container has pivoted.
    ///
    /// # Errors
    /// See [`EnforcementError`]; until it succeeds paths are named by the climb alone.
    fn learn_mounts(&self, slot: Slot, pid: u32) -> Result<(), EnforcementError>;
    /// Whether what [`Enforcement::install`] last said to be held of the slot has changed since: installing again tells it. Asked once a
    /// change, after mounts were learnt.
    fn holds_otherwise(&self, slot: Slot) -> bool {
        // What a backend holds it holds from the admission on.
        let _ = slot;
        false
    }
    /// Whether that may change without anything that this port is told: then [`Enforcement::holds_otherwise`] is worth asking now and then.
    fn holds_later(&self) -> bool {
        false
    }
    /// Puts a policy in force for the slot at once, in each backend; `None` takes the policy away.
    ///
    /// # Errors
    /// See [`EnforcementError`]; the previous policy stays in force.
    fn install(
        &self,
        slot: Slot,
        generation: Generation,
        policy: Option<&Arc<Blob>>,
    ) -> Result<Installed, EnforcementError>;
    /// Which classes of acts are seen of the slot from now on, and which kinds of records (bit n: kind n) beside those of the classes,
    /// because rules are decided by them; an admitted slot has the node's default until this is called. Takes
    /// effect at once and cannot fail: a slot that is not there is left alone, and what this kernel has no probe for is not seen.
    fn set_visibility(&self, slot: Slot, visibility: Visibility, also: u64) {
        // A backend that observes nothing has nothing to set.
        let _ = (slot, visibility, also);
    }
    /// Forgets the slot and all that was made for it.
    ///
    /// # Errors
    /// See [`EnforcementError`]; calling it again is harmless.
    fn release(&self, slot: Slot) -> Result<(), EnforcementError>;
    /// Whoever is made in these places, now or while no node runs, belongs to [`Slot::UNKNOWN`] until it is admitted. Told again it changes
    /// nothing.
    ///
    /// # Errors
    /// See [`EnforcementError`]; places before the one that failed are held.
    fn hold_unknown_in(&self, places: &[ContainerPlace]) -> Result<(), EnforcementError> {
        // A backend that outlives no process holds nobody whom it was not told of.
        let _ = places;
        Ok(())
    }
    /// Gives a sign of life: policy stands for `span` from now on if no other comes; without one, for ever.
    fn attend(&self, span: Option<Duration>) {
        // A backend that outlives no process has nothing that could stand without it.
        let _ = span;
    }
    /// What happened while no node was there; `None`: none was there before.
    fn absence(&self) -> Option<Absence> {
        None
    }
    /// Kernel memory in use now.
    fn memory(&self) -> KernelMemory;
    /// Programs that the kernel did not take; fixed for the life of the adapter.
    fn refused_programs(&self) -> Vec<RefusedProgram> {
        // A backend without programs has none refused.
        Vec::new()
    }
    /// What of the matrix is not in force at this moment, and why; empty in good health. Cheap: asked every second.
    fn impairments(&self) -> Vec<Gap> {
        Vec::new()
    }
}
