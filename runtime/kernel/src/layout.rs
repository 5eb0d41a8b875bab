//! Twins of `bpf/include/maps.h`: same fields, same order, same sizes. The header is the truth; a test compares the compiled
//! objects' BTF with these types.

use palisade_kernel_abi::blob::{Family, SizeClass};

/// `PAL_SLOTS`: workloads of a node, the host included.
pub const SLOTS: u32 = 4096;
/// `PAL_POLICIES`: blobs of one size class.
pub const POLICIES: u32 = 4096;
/// `PAL_CGROUPS`.
pub const CGROUPS: u32 = 16384;
/// `PAL_CGROUP_SLOT`.
pub const CGROUP_SLOT: u32 = 0xffff;
/// `PAL_CGROUP_MADE`.
pub const CGROUP_MADE: u32 = 1 << 31;
/// `PAL_CGROUP_MIXED`.
pub const CGROUP_MIXED: u32 = 1 << 30;
/// `PAL_CGROUP_SEEN`.
pub const CGROUP_SEEN: u32 = 1 << 29;
/// `PAL_MOUNT_BUCKETS`.
pub const MOUNT_BUCKETS: u32 = 8192;
/// `PAL_MOUNT_SLOT`.
pub const MOUNT_SLOT: u64 = 0xfff;

/// `PAL_SCRATCH_SLOTS`.
pub const SCRATCH_SLOTS: u32 = 1024;
/// Bytes of `struct pal_scratch`, which is never read here.
pub const SCRATCH_BYTES: u32 = 4472;

/// `PAL_SLOT_MOUNTS_LEARNT`.
pub const SLOT_MOUNTS_LEARNT: u32 = 1;
/// `PAL_SLOT_FAIL_BLOCK`.
pub const SLOT_FAIL_BLOCK: u32 = 2;
/// `PAL_SLOT_BOUND_BY_PROFILE`.
pub const SLOT_BOUND_BY_PROFILE: u32 = 4;
/// `PAL_SLOT_BOUND_BY_USER`.
pub const SLOT_BOUND_BY_USER: u32 = 8;

/// `struct pal_slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Slot {
    /// Generation in the upper half, policy number in the lower.
    pub installed: u64,
    /// Grows when the slot is released.
    pub incarnation: u32,
    /// `SLOT_*`.
    pub flags: u32,
    /// Bit n: records of kind n are wanted.
    pub visibility: u64,
    /// Boot time of its release; 0: it is somebody's, or was never.
    pub released_ns: u64,
}

/// `struct pal_observation`: what holds for all observation, mapped and written word by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Observation {
    /// Bit n: some slot wants records of kind n.
    pub anywhere: u64,
    /// Between a workload's records at its rate, nanoseconds; 0: no limit.
    pub interval_ns: u64,
    /// How far ahead of now a bucket may be, nanoseconds.
    pub tolerance_ns: u64,
    /// Within it equal observations are sent once, nanoseconds; 0: nothing is folded.
    pub fold_window_ns: u64,
    /// Of the digest that tells equal ones.
    pub fold_key: [u64; 2],
}

/// `struct pal_attendance`: the node's sign of life, mapped and written word by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Attendance {
    /// Boot time after which policy lapses, nanoseconds; 0: never.
    pub deadline_ns: u64,
    /// Boot time of the last sign.
    pub beat_ns: u64,
    /// From the last sign to the deadline.
    pub span_ns: u64,
    /// Counted by then.
    pub decided: u64,
    /// Counted by then.
    pub denied: u64,
    /// Counted by then.
    pub lapsed: u64,
    /// Not 0: some cgroup found no room in the table.
    pub unregistered: u64,
}

/// `struct pal_task`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Task {
    /// Unified cgroup that the slot was found by.
    pub cgroup: u64,
    /// The slot.
    pub slot: u32,
    /// Of the slot then.
    pub incarnation: u32,
    /// `enum pal_phase`.
    pub phase: u32,
    /// Source id.
    pub source: u32,
    /// First 8 bytes of the digest of the blob that gave it; 0: none.
    pub source_digest: u64,
    /// Inode number of the mount namespace of who moved the task in.
    pub runtime_mnt_ns: u32,
    /// 1: of a session that came into the running container.
    pub entered: u32,
    /// Since boot, nanoseconds: it was met in the cgroup before it was told how it came there.
    pub found_ns: u64,
}

/// `PAL_PHASE_WORKLOAD`.
pub const PHASE_WORKLOAD: u32 = 2;

impl Task {
    /// As the map has it.
    #[must_use]
    pub fn bytes(self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let words = [self.slot, self.incarnation, self.phase, self.source];
        bytes[..8].copy_from_slice(&self.cgroup.to_ne_bytes());
        for (place, word) in bytes[8..24].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[24..32].copy_from_slice(&self.source_digest.to_ne_bytes());
        bytes[32..36].copy_from_slice(&self.runtime_mnt_ns.to_ne_bytes());
        bytes[36..40].copy_from_slice(&self.entered.to_ne_bytes());
        bytes[40..].copy_from_slice(&self.found_ns.to_ne_bytes());
        bytes
    }

    /// The same back.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        let long = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self {
            cgroup: long(0),
            slot: word(8),
            incarnation: word(12),
            phase: word(16),
            source: word(20),
            source_digest: long(24),
            runtime_mnt_ns: word(32),
            entered: word(36),
            found_ns: long(40),
        }
    }
}

/// `struct pal_asked` (`bpf/include/arguments.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Asked {
    /// Address of the kernel's object of the execution.
    pub execution: u64,
    /// Whose argument sets the words name.
    pub policy: u32,
    /// Words that wait.
    pub count: u32,
    /// The words.
    pub words: [u32; 2],
    /// Arguments that the caller gave.
    pub argc: [u32; 2],
}

/// `struct pal_permitted` (`bpf/include/connection.h`): programs alone write and read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Permitted {
    /// Generation and policy.
    pub decided_by: u64,
    /// Which of the task's executions.
    pub execution: u64,
    /// Where to.
    pub endpoint: [u64; 3],
    /// Circumstances.
    pub modifiers: u64,
}

/// Tasks whose last permitted connection is known (`PAL_PERMITTED_CONNECTIONS`).
pub const PERMITTED_CONNECTIONS: u32 = 1024;

/// `struct pal_guarded` (`bpf/include/guarded.h`): what is Palisade's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Guarded {
    /// What the kernel calls it; what that is depends on the kind.
    pub id: u64,
    /// [`GuardedKind`].
    pub kind: u32,
    /// Of a place its file system, as the kernel keeps device numbers; else 0.
    pub device: u32,
}

/// `PAL_GUARDED_MAX`.
pub const GUARDED: u32 = 16384;

/// `enum pal_guarded_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum GuardedKind {
    /// A map's id.
    Map = 1,
    /// A program's id.
    Program = 2,
    /// A link's id.
    Link = 3,
    /// A process's number.
    Process = 4,
    /// A directory's inode number.
    Place = 5,
    /// A cgroup's id.
    Cgroup = 6,
    /// The node's cgroup; no id.
    Home = 7,
    /// Who is unknown is held off; no id.
    Unknown = 8,
    /// A mount namespace's inode number.
    Mounts = 9,
}

/// `enum pal_guarded_place`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum GuardedPlace {
    /// On the way to the pins.
    Above = 1,
    /// The pins' directory.
    Pins = 2,
    /// What the pins' file system is mounted below.
    Under = 3,
}

impl GuardedKind {
    const ALL: [Self; 9] = [
        Self::Map,
        Self::Program,
        Self::Link,
        Self::Process,
        Self::Place,
        Self::Cgroup,
        Self::Home,
        Self::Unknown,
        Self::Mounts,
    ];

    /// By its number.
    #[must_use]
    pub fn of_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }
}

impl Guarded {
    /// A key of the map.
    #[must_use]
    pub const fn new(kind: GuardedKind, id: u64) -> Self {
        Self { id, kind: kind as u32, device: 0 }
    }

    /// As the map has it.
    #[must_use]
    pub fn bytes(self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        bytes[..8].copy_from_slice(&self.id.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.device.to_ne_bytes());
        bytes
    }

    /// The same back; `None` where it is of another length.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (kind, device) = rest.split_first_chunk()?;
        let device = u32::from_ne_bytes(device.try_into().ok()?);
        Some(Self { id: u64::from_ne_bytes(*id), kind: u32::from_ne_bytes(*kind), device })
    }
}

/// `struct pal_mounts`: a bucket of crossings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Mounts {
    /// Each one word, whose low bits are the slot; 0: free.
    pub crossings: [u64; 8],
}

/// `enum pal_counter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Counter {
    /// No scratch slot was free: the fail mode decided.
    ScratchExhausted = 0,
    /// Identity fell back to the cgroup.
    TaskStorageFull = 1,
    /// A child cgroup was not registered.
    CgroupsFull = 2,
    /// A path by a mount that is not of the workload's table.
    UnknownMount = 3,
    /// A path longer than is judged.
    PathTooLong = 4,
    /// A path deeper than is judged.
    PathTooDeep = 5,
    /// Renames went on during every climb.
    PathMoved = 6,
    /// A slot named a policy that is not there.
    NoBlob = 7,
    /// Tasks that left an enforced cgroup and kept their slot.
    Leavers = 8,
    /// Acts that were judged.
    Decided = 9,
    /// Acts that were denied.
    Denied = 10,
    /// Acts that no policy was asked about, since no node had been there for too long.
    Lapsed = 11,
    /// Something of Palisade's own is not kept from workloads.
    GuardedFull = 12,
}

impl Counter {
    /// In the kernel's order.
    pub const ALL: [Self; 13] = [
        Self::ScratchExhausted,
        Self::TaskStorageFull,
        Self::CgroupsFull,
        Self::UnknownMount,
        Self::PathTooLong,
        Self::PathTooDeep,
        Self::PathMoved,
        Self::NoBlob,
        Self::Leavers,
        Self::Decided,
        Self::Denied,
        Self::Lapsed,
        Self::GuardedFull,
    ];
}

/// Where a blob is and what it decides, as a slot names it: bits 0..2 size class, 3..15 families, 16..31 one more than the
/// index in that class's outer map. 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PolicyNumber(pub u32);

/// A bit for each family, and [`WRITES`].
pub(crate) const ALL_FAMILIES: u32 = ((1 << Family::ALL.len()) - 1) | WRITES;
/// Like a family's bit: the policy denies writing of what it permits to be read (`PAL_FAMILY_WRITES`).
pub(crate) const WRITES: u32 = 1 << 12;

impl PolicyNumber {
    /// No policy.
    pub const NONE: Self = Self(0);

    /// The number of the blob at `index` of its class's outer map.
    #[must_use]
    pub fn new(class: SizeClass, index: u32, families: u32) -> Self {
        Self(class as u32 | (families & ALL_FAMILIES) << 3 | (index + 1) << 16)
    }

    /// The families that it decides: bit n for family n.
    #[must_use]
    pub const fn families(self) -> u32 {
        self.0 >> 3 & ALL_FAMILIES
    }

    /// Its class and index; `None` for no policy.
    #[must_use]
    pub fn place(self) -> Option<(SizeClass, u32)> {
        let index = (self.0 >> 16).checked_sub(1)?;
        Some((*SizeClass::ALL.get((self.0 & 7) as usize)?, index))
    }
}

const _: () = {
    assert!(size_of::<Slot>() == 32);
    assert!(size_of::<Observation>() == 48);
    assert!(size_of::<Attendance>() == 56);
    assert!(palisade_domain::Slot::UNKNOWN.0 == SLOTS - 1);
    assert!(size_of::<Task>() == 48);
    assert!(size_of::<Asked>() == 32);
    assert!(size_of::<Mounts>() == 64);
    assert!(size_of::<Guarded>() == 16);
    assert!(SLOTS as u64 <= MOUNT_SLOT + 1);
};
