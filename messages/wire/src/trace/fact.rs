//! Facts: what is known beside the records, and when it was so.
//!
//! A fact is an array of its kind's number, its time (`CLOCK_BOOTTIME` nanoseconds), and its fields in the order of the type. A kind that
//! this version does not know is refused by its number.

use std::{collections::BTreeMap, sync::Arc};

use palisade_domain::{ContainerId, Family, Generation, Posture, Slot, Tier, Visibility, Workload, WorkloadKind};
use palisade_policy::ir::Postures;

use super::cbor::{CborError, Items, OWNED, Reading};

/// One fact and when it was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// What.
    pub what: What,
}

/// What was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// 1: whose records carry a slot from now on.
    WorkloadNamed(Slot, Arc<Workload>),
    /// 2: the slot's workload ended.
    WorkloadGone(Slot),
    /// 3: which classes of acts are seen of a slot.
    Visible(Slot, Visibility),
    /// 4: a policy set came into force.
    PolicySet(PolicyDocuments),
    /// 5: decisions for this slot may be of this policy from now on.
    PolicyAnnounced(PolicyOfSlot),
    /// 6: it is in force.
    PolicyInstalled(PolicyOfSlot, Held),
    /// 7: a process that lives when the trace begins.
    Process(Process),
    /// 8: where a slot's processes and files are, as far as the node's actors were told.
    Place(Place),
    /// 9: what is to be added to `CLOCK_BOOTTIME` for the wall clock from now on, nanoseconds.
    Clock(u64),
    /// 10: records that are not in the trace.
    Loss(Loss),
    /// 11: all that was so at the beginning has been told.
    SnapshotEnd,
    /// 12: reserved for an object of Kubernetes' API: kept, and of no account in this version.
    KubernetesObject(Vec<u8>),
    /// 13: settings that decide which lines are made: not those of the header any more.
    Settings {
        /// What is seen of a workload of which nobody says it.
        visibility: Visibility,
        /// As [`Header::throttle`](super::Header::throttle).
        throttle: Option<(u32, u32)>,
    },
    /// 14: what users of a workload are called from now on.
    Users(Users),
}

/// Names of users, as an `/etc/passwd` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// Whose.
    pub slot: Slot,
    /// The mount namespace of which records with these names tell; none: the host's own file.
    pub mount_namespace: Option<u32>,
    /// User ids of the initial user namespace and their names; none: no file that can be read.
    pub names: Option<Vec<(u32, String)>>,
}

/// A policy set as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDocuments {
    /// Its number.
    pub generation: Generation,
    /// The global postures.
    pub postures: Postures,
    /// Name and content of each sound file, by name.
    pub documents: Arc<[Document]>,
}

/// Name and content of a file.
pub type Document = (String, Arc<[u8]>);

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyOfSlot {
    /// For whom.
    pub slot: Slot,
    /// Of which set.
    pub generation: Generation,
    /// Content hash of the blob; none where no policy selects the workload.
    pub blob: Option<[u8; 32]>,
}

/// By what means a policy is held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// What records call the policy; 0: nothing.
    pub number: u32,
    /// Families, their tiers, and what of them (what, reason) is not held.
    pub families: BTreeMap<Family, (Tier, Vec<(String, String)>)>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Process id in the host's PID namespace.
    pub pid: u32,
    /// Start, hundredths of a second since boot.
    pub start_ticks: u64,
    /// Parent's id and start.
    pub parent: Option<(u32, u64)>,
    /// Real uid.
    pub uid: u32,
    /// Executable; empty where not known.
    pub executable: String,
    /// Arguments; none where they are redacted.
    pub arguments: Vec<String>,
    /// Its number in its own PID namespace; 0: not known.
    pub own_pid: u32,
    /// Inode number of that namespace; 0: not known.
    pub pid_namespace: u32,
    /// Whose it is; none: not known.
    pub slot: Option<Slot>,
    /// Its terminal when it executed what it does (0: none); none: not known.
    pub tty: Option<u32>,
}

/// Where a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub slot: Slot,
    /// A process inside; 0: none yet.
    pub pid: u32,
    /// Its unified cgroup; 0: none.
    pub cgroup: u64,
    /// The cgroup's directory; empty: none.
    pub cgroup_path: String,
    /// The root's mountpoint on the host; empty: not told.
    pub root: String,
}

/// Records that are not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loss {
    /// Sequence numbers that the recorder did not see, since it began: lost, suppressed or folded in the kernel, or shed before it.
    pub missing: u64,
    /// Records that the recorder saw and this trace has not, since its reader did not keep up.
    pub shed: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// What the kernel counted since its probes were loaded: record kind and reason (`RingFull`, `Folded`) to count.
    pub kernel: Vec<(u16, String, u64)>,
}

type OfFamily = (Family, (Tier, Vec<(String, String)>));

const FAMILIES: [Family; 9] = [
    Family::Process,
    Family::File,
    Family::Network,
    Family::Ptrace,
    Family::Capabilities,
    Family::Syscalls,
    Family::Dns,
    Family::Presets,
    Family::Device,
];
// In the order that they came to be: a trace has their places.
const TIERS: [Tier; 8] = [
    Tier::BpfLsm,
    Tier::CgroupBpf,
    Tier::Fanotify,
    Tier::Kill,
    Tier::Audit,
    Tier::AppArmor,
    Tier::FmodRet,
    Tier::SeLinux,
];
const POSTURES: [Posture; 2] = [Posture::Audit, Posture::Block];
const KINDS: [WorkloadKind; 2] = [WorkloadKind::Container, WorkloadKind::Host];

fn put_one_of<T: PartialEq>(all: &[T], one: &T, out: &mut Items) {
    // Each list has all of them: the tests write each.
    out.number(all.iter().position(|other| other == one).unwrap_or(all.len()) as u64);
}

fn one_of<T: Copy>(all: &[T], reading: &mut Reading<'_>, what: &'static str) -> Result<T, CborError> {
    let at = reading.wanted(what);
    all.get(reading.number::<usize>(what)?).copied().ok_or(at)
}

fn slot(reading: &mut Reading<'_>) -> Result<Slot, CborError> {
    reading.number("a slot").map(Slot)
}

impl Fact {
    pub(super) fn write(&self, out: &mut Items) {
        let begin = |out: &mut Items, kind: u64, fields: usize| {
            out.array(2 + fields);
            out.number(kind);
            out.number(self.boot_ns);
        };
        match &self.what {
            What::WorkloadNamed(slot, workload) => {
                begin(out, 1, 8);
                out.number(slot.0);
                write_workload(workload, out);
            }
            What::WorkloadGone(slot) => {
                begin(out, 2, 1);
                out.number(slot.0);
            }
            What::Visible(slot, visibility) => {
                begin(out, 3, 2);
                out.number(slot.0);
                out.text(&visibility.to_string());
            }
            What::PolicySet(set) => {
                begin(out, 4, 5);
                set.write(out);
            }
            What::PolicyAnnounced(policy) => {
                begin(out, 5, 3);
                policy.write(out);
            }
            What::PolicyInstalled(policy, held) => {
                begin(out, 6, 5);
                policy.write(out);
                held.write(out);
            }
            What::Process(process) => {
                begin(out, 7, 10);
                process.write(out);
            }
            What::Place(place) => {
                begin(out, 8, 5);
                place.write(out);
            }
            What::Clock(unix_minus_boot_ns) => {
                begin(out, 9, 1);
                out.number(*unix_minus_boot_ns);
            }
            What::Loss(loss) => {
                begin(out, 10, 4);
                loss.write(out);
            }
            What::SnapshotEnd => begin(out, 11, 0),
            What::KubernetesObject(bytes) => {
                begin(out, 12, 1);
                out.owned_bytes(bytes);
            }
            What::Settings { visibility, throttle } => {
                begin(out, 13, 2);
                out.text(&visibility.to_string());
                write_throttle(*throttle, out);
            }
            What::Users(users) => {
                begin(out, 14, 3);
                users.write(out);
            }
        }
    }

    pub(super) fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let fields = reading.array("a fact")?;
        let at = reading.wanted("a kind of fact that this version knows");
        let kind: u64 = reading.number("a fact's kind")?;
        let boot_ns = reading.number("a fact's time")?;
        let expected = match kind {
            // The first recorded ones have not its last two fields.
            7 if fields == 2 + 8 => 8,
            7 => 10,
            1 => 8,
            2 | 9 | 12 => 1,
            3 | 13 => 2,
            4 | 6 | 8 => 5,
            5 | 14 => 3,
            10 => 4,
            11 => 0,
            _ => return Err(at),
        };
        if fields != 2 + expected {
            return Err(reading.wanted("the fields of the fact's kind"));
        }
        let what = match kind {
            1 => What::WorkloadNamed(slot(reading)?, Arc::new(read_workload(reading)?)),
            2 => What::WorkloadGone(slot(reading)?),
            3 => {
                let slot = slot(reading)?;
                let at = reading.wanted("classes of visibility");
                What::Visible(slot, reading.text("visibility")?.parse().map_err(|_| at)?)
            }
            4 => What::PolicySet(PolicyDocuments::read(reading)?),
            5 => What::PolicyAnnounced(PolicyOfSlot::read(reading)?),
            6 => What::PolicyInstalled(PolicyOfSlot::read(reading)?, Held::read(reading)?),
            7 => What::Process(Process::read(reading, expected > 8)?),
            8 => What::Place(Place::read(reading)?),
            9 => What::Clock(reading.number("a clock's offset")?),
            10 => What::Loss(Loss::read(reading)?),
            12 => What::KubernetesObject(reading.owned_bytes("an object")?.to_vec()),
            13 => {
                let at = reading.wanted("classes of visibility");
                let visibility = reading.text("visibility")?.parse().map_err(|_| at)?;
                What::Settings { visibility, throttle: read_throttle(reading)? }
            }
            14 => What::Users(Users::read(reading)?),
            _ => What::SnapshotEnd,
        };
        Ok(Self { boot_ns, what })
    }
}

/// The limit of alerts: `[a second, seconds]`, or null.
pub(super) fn write_throttle(throttle: Option<(u32, u32)>, out: &mut Items) {
    match throttle {
        Some((per_second, seconds)) => {
            out.array(2);
            out.number(per_second);
            out.number(seconds);
        }
        None => out.null(),
    }
}

pub(super) fn read_throttle(reading: &mut Reading<'_>) -> Result<Option<(u32, u32)>, CborError> {
    reading.optional(|reading| {
        if reading.array("the limit of alerts")? != 2 {
            return Err(reading.wanted("the limit of alerts"));
        }
        Ok((reading.number("alerts in a second")?, reading.number("seconds")?))
    })
}

fn write_workload(workload: &Workload, out: &mut Items) {
    out.takes(size_of::<Workload>());
    put_one_of(&KINDS, &workload.kind, out);
    for text in [&workload.name, &workload.namespace, &workload.container] {
        out.owned(text);
    }
    match &workload.container_id {
        Some(id) => out.owned(&id.0),
        None => out.null(),
    }
    out.owned(&workload.image);
    out.list::<(String, String)>(workload.labels.len(), 2);
    for (key, value) in &workload.labels {
        out.owned(key);
        out.owned(value);
    }
}

fn read_workload(reading: &mut Reading<'_>) -> Result<Workload, CborError> {
    let text = |reading: &mut Reading<'_>| reading.owned("a workload's text");
    reading.take_memory(size_of::<Workload>(), "a workload")?;
    Ok(Workload {
        kind: one_of(&KINDS, reading, "a kind of workload")?,
        name: text(reading)?,
        namespace: text(reading)?,
        container: text(reading)?,
        container_id: reading.optional(text)?.map(ContainerId),
        image: text(reading)?,
        labels: reading.list("labels", 2, |reading| Ok((text(reading)?, text(reading)?)))?.into_iter().collect(),
    })
}

impl PolicyDocuments {
    /// Bytes of memory that its documents take.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of = |(name, content): &Document| size_of::<Document>() + 2 * OWNED + name.len() + content.len();
        self.documents.iter().map(of).sum()
    }

    fn write(&self, out: &mut Items) {
        out.number(self.generation.0);
        for posture in [self.postures.file, self.postures.network, self.postures.capabilities] {
            put_one_of(&POSTURES, &posture, out);
        }
        out.list::<Document>(self.documents.len(), 2);
        for (name, content) in self.documents.iter() {
            out.owned(name);
            out.owned_bytes(content);
        }
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let generation = Generation(reading.number("a generation")?);
        let posture = |reading: &mut Reading<'_>| one_of(&POSTURES, reading, "a posture");
        let postures = Postures {
            file: posture(reading)?,
            network: posture(reading)?,
            capabilities: posture(reading)?,
            ..Postures::default()
        };
        let document = |reading: &mut Reading<'_>| -> Result<Document, CborError> {
            Ok((reading.owned("a document's name")?, Arc::from(reading.owned_bytes("a document")?)))
        };
        let documents = reading.list("policy documents", 2, document)?;
        Ok(Self { generation, postures, documents: Arc::from(documents) })
    }
}

impl PolicyOfSlot {
    fn write(&self, out: &mut Items) {
        out.number(self.slot.0);
        out.number(self.generation.0);
        match &self.blob {
            Some(digest) => out.bytes(digest),
            None => out.null(),
        }
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let (slot, generation) = (slot(reading)?, Generation(reading.number("a generation")?));
        let digest = |reading: &mut Reading<'_>| {
            let at = reading.wanted("a digest of 32 bytes");
            <[u8; 32]>::try_from(reading.bytes("a digest")?).map_err(|_| at)
        };
        Ok(Self { slot, generation, blob: reading.optional(digest)? })
    }
}

impl Held {
    fn write(&self, out: &mut Items) {
        out.number(self.number);
        out.list::<OfFamily>(self.families.len(), 3);
        for (family, (tier, gaps)) in &self.families {
            put_one_of(&FAMILIES, family, out);
            put_one_of(&TIERS, tier, out);
            out.list::<(String, String)>(gaps.len(), 2);
            for (what, reason) in gaps {
                out.owned(what);
                out.owned(reason);
            }
        }
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let number = reading.number("a policy's number")?;
        let family = |reading: &mut Reading<'_>| -> Result<OfFamily, CborError> {
            let family = one_of(&FAMILIES, reading, "a family")?;
            let tier = one_of(&TIERS, reading, "a tier")?;
            let text = |reading: &mut Reading<'_>| reading.owned("a gap");
            let gaps = reading.list("gaps", 2, |reading| Ok((text(reading)?, text(reading)?)))?;
            Ok((family, (tier, gaps)))
        };
        let families = reading.list("families", 3, family)?.into_iter().collect();
        Ok(Self { number, families })
    }
}

impl Process {
    fn write(&self, out: &mut Items) {
        out.number(self.pid);
        out.number(self.start_ticks);
        match self.parent {
            Some((pid, start_ticks)) => {
                out.array(2);
                out.number(pid);
                out.number(start_ticks);
            }
            None => out.null(),
        }
        out.number(self.uid);
        out.owned(&self.executable);
        out.list::<String>(self.arguments.len(), 1);
        self.arguments.iter().for_each(|argument| out.owned(argument));
        out.number(self.own_pid);
        out.number(self.pid_namespace);
        for number in [self.slot.map(|slot| slot.0), self.tty] {
            match number {
                Some(number) => out.number(number),
                None => out.null(),
            }
        }
    }

    fn read(reading: &mut Reading<'_>, has_place: bool) -> Result<Self, CborError> {
        let (pid, start_ticks) = (reading.number("a process id")?, reading.number("a start")?);
        let parent = reading.optional(|reading| {
            if reading.array("a parent")? != 2 {
                return Err(reading.wanted("a parent's id and start"));
            }
            Ok((reading.number("a process id")?, reading.number("a start")?))
        })?;
        let uid = reading.number("a user id")?;
        let executable = reading.owned("an executable")?;
        let arguments = reading.list("arguments", 1, |reading| reading.owned("an argument"))?;
        Ok(Self {
            pid,
            start_ticks,
            parent,
            uid,
            executable,
            arguments,
            own_pid: reading.number("a process id")?,
            pid_namespace: reading.number("a namespace")?,
            slot: if has_place { reading.optional(slot)? } else { None },
            tty: if has_place { reading.optional(|reading| reading.number("a terminal"))? } else { None },
        })
    }
}

impl Users {
    fn write(&self, out: &mut Items) {
        out.number(self.slot.0);
        match self.mount_namespace {
            Some(inode) => out.number(inode),
            None => out.null(),
        }
        match &self.names {
            Some(names) => {
                out.list::<(u32, String)>(names.len(), 2);
                for (uid, name) in names {
                    out.number(*uid);
                    out.owned(name);
                }
            }
            None => out.null(),
        }
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let slot = slot(reading)?;
        let mount_namespace = reading.optional(|reading| reading.number("a mount namespace"))?;
        let name = |reading: &mut Reading<'_>| Ok((reading.number("a user id")?, reading.owned("a user's name")?));
        let names = reading.optional(|reading| reading.list("names of users", 2, name))?;
        Ok(Self { slot, mount_namespace, names })
    }
}

impl Place {
    fn write(&self, out: &mut Items) {
        out.number(self.slot.0);
        out.number(self.pid);
        out.number(self.cgroup);
        out.owned(&self.cgroup_path);
        out.owned(&self.root);
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        Ok(Self {
            slot: slot(reading)?,
            pid: reading.number("a process id")?,
            cgroup: reading.number("a cgroup")?,
            cgroup_path: reading.owned("a cgroup's path")?,
            root: reading.owned("a root")?,
        })
    }
}

impl Loss {
    fn write(&self, out: &mut Items) {
        out.number(self.missing);
        out.number(self.shed);
        out.number(self.malformed);
        out.list::<(u16, String, u64)>(self.kernel.len(), 3);
        for (kind, reason, count) in &self.kernel {
            out.number(*kind);
            out.owned(reason);
            out.number(*count);
        }
    }

    fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        let (missing, shed) = (reading.number("a count")?, reading.number("a count")?);
        let malformed = reading.number("a count")?;
        let row = |reading: &mut Reading<'_>| {
            Ok((reading.number("a kind")?, reading.owned("a reason")?, reading.number("a count")?))
        };
        let kernel = reading.list("what the kernel lost", 3, row)?;
        Ok(Self { missing, shed, malformed, kernel })
    }
}
