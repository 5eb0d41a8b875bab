//! The loaded decision core: identity and LSM programs, the learner, and the maps that they read.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use palisade_domain::{Generation, Slot};
use palisade_world::{Absence, Capability, CapabilityState, Gap, KernelMatrix, KernelMemory};

use crate::{
    KernelTypes,
    attendance::{self, Attendance, Counted},
    cgroups::Cgroups,
    fmod_ret::{self, Modifying},
    kernel_types,
    layout::{self, Counter, PolicyNumber},
    members::Members,
    mount_table::{LearnError, Learnt, MountTable},
    objects::{self, Constant, LoadedObject, MapSizes, ObjectError, ObjectSpec, PinRoot, Refusal},
    observation::ObservationMap,
    policy_pool::{PolicyPool, SharedPool},
    slots::SlotTable,
    sys::MapFd,
};

/// Sizes of the shared maps whose layout programs and this process must agree on.
const SHARED: &[(&str, MapSizes)] = &[
    ("cgroup_slots", MapSizes { key: 8, value: 4, entries: layout::CGROUPS }),
    ("cgroups_made", MapSizes { key: 4, value: 4, entries: layout::SLOTS }),
    ("slots", MapSizes { key: 4, value: size_of::<layout::Slot>() as u32, entries: layout::SLOTS }),
    ("mounts", MapSizes { key: 4, value: size_of::<layout::Mounts>() as u32, entries: layout::MOUNT_BUCKETS }),
    ("attendance", MapSizes { key: 4, value: size_of::<layout::Attendance>() as u32, entries: 1 }),
    ("observation", MapSizes { key: 4, value: size_of::<layout::Observation>() as u32, entries: 1 }),
    ("idle_families", MapSizes { key: 4, value: 4, entries: 1 }),
    // Of fewer entries, CPUs of high numbers would find none.
    ("scratch", MapSizes { key: 4, value: layout::SCRATCH_BYTES, entries: layout::SCRATCH_SLOTS }),
    ("tasks", MapSizes { key: 4, value: size_of::<layout::Task>() as u32, entries: 0 }),
    (
        "permitted_connections",
        MapSizes { key: 8, value: size_of::<layout::Permitted>() as u32, entries: layout::PERMITTED_CONNECTIONS },
    ),
    ("guarded", MapSizes { key: size_of::<layout::Guarded>() as u32, value: 8, entries: layout::GUARDED }),
    ("asked_executions", MapSizes { key: 4, value: size_of::<layout::Asked>() as u32, entries: 0 }),
    ("asked_ever", MapSizes { key: 4, value: 4, entries: 1 }),
];

/// What is loaded.
#[derive(Debug)]
pub(crate) struct Programs {
    pub slots: SlotTable,
    pub cgroups: Cgroups,
    pub members: Members,
    pub pool: SharedPool,
    mount_table: Arc<MountTable>,
    attendance: Attendance,
    counters: MapFd,
    pins: PinRoot,
    modifying: Vec<Modifying>,
    /// Keeps programs loaded and maps open.
    _objects: Vec<LoadedObject>,
}

impl Programs {
    /// Loads what the kernel takes. The error within is why it takes nothing at all, for it does not even describe its own types, or refuses
    /// what all other programs know the acting workload by.
    pub fn load(
        root: &Path,
        matrix: &KernelMatrix,
        refused: &mut Vec<Refusal>,
    ) -> Result<Result<Self, String>, ObjectError> {
        let btf = match KernelTypes::shared() {
            Ok(btf) => btf,
            Err(error) => return Ok(Err(format!("BTF of the kernel: {}", objects::chain(&error)))),
        };
        let pins = PinRoot::create(root)?;
        check_layouts(&pins)?;
        // A version that does not know of it may have put policies in force since it was written; the pool says it anew.
        if pins.map("idle_families").exists() {
            let path = pins.map("idle_families");
            let awake = pins.open("idle_families")?.update(&[0; 4], &[0; 4]);
            awake.map_err(|source| ObjectError::Pins { path, source })?;
        }
        let mut constants = constants(matrix);
        let mut objects = Vec::new();
        let identity =
            objects::load_and_attach("identity", palisade_bpf::IDENTITY, objects::IDENTITY, &btf, &pins, &constants);
        match identity {
            Ok(identity) => objects.push(identity),
            Err(error) => {
                pins.remove_other_links(&[])?;
                return Ok(Err(objects::chain(&error)));
            }
        }
        // A version before that map may have executions waiting now.
        let may_wait = pins.map("asked_executions").exists() && !pins.map("asked_ever").exists();
        let arguments = load_arguments(&btf, &pins, &constants, matrix);
        if may_wait && arguments.is_ok() {
            let said = pins.open("asked_ever")?.update(&0_u32.to_ne_bytes(), &1_u32.to_ne_bytes());
            said.map_err(|source| ObjectError::Pins { path: pins.map("asked_ever"), source })?;
        }
        let judged = arguments.as_ref().is_ok_and(|object| !refuses(object, "judge_arguments"));
        constants.push(Constant::Word("pal_arguments_judged", u32::from(judged)));
        match arguments {
            Ok(arguments) => objects.push(arguments),
            Err(error) => refused.extend(objects::refuse_all(objects::ARGUMENTS, &error)),
        }
        // The outer maps of the blobs are made by the object whether or not its hooks can be attached.
        let decisions = load_decisions(&btf, &pins, &constants, matrix)?;
        objects.extend(decisions.objects);
        pins.remove_other_links(&attached(&objects))?;
        let (mount_table, refusal) = MountTable::open(&btf, &pins)?;
        refused.extend(objects.iter().flat_map(|object| object.refused.iter().cloned()).chain(refusal));
        let slots = open_slots(&pins)?;
        let named: Vec<PolicyNumber> = (0..layout::SLOTS).map(|slot| slots.installed(Slot(slot)).1).collect();
        Ok(Ok(Self {
            cgroups: Cgroups::new(pins.open("cgroup_slots")?, pins.open("cgroups_made")?),
            members: Members::new(pins.open("tasks")?),
            pool: SharedPool::new(PolicyPool::open(&pins, named.into_iter())?),
            mount_table: Arc::new(mount_table),
            attendance: open_attendance(&pins)?,
            counters: pins.open("counters")?,
            slots,
            pins,
            modifying: decisions.modifying,
            _objects: objects,
        }))
    }

    /// Takes the slot's policy away and makes void what tasks kept of it.
    pub fn clear(&self, slot: Slot) {
        let (_, before) = self.slots.installed(slot);
        self.slots.install(slot, Generation(0), PolicyNumber::NONE);
        self.slots.end_incarnation(slot);
        self.slots.set_flags(slot, 0, u32::MAX);
        self.slots.set_visibility(slot, 0);
        self.pool.release(before);
    }

    /// Forgets the slot and its cgroups and mounts. When this was outlives the process: records of who had it may still be unread.
    /// `among_containers`: what of its cgroups is still there is in a place of containers.
    pub fn release(&self, slot: Slot, among_containers: bool) -> io::Result<()> {
        self.clear(slot);
        self.slots.set_released(slot, attendance::now().0);
        self.mount_table.forget(slot);
        self.cgroups.forget(slot, among_containers)
    }

    /// A sign of life of this node.
    pub fn attend(&self, span: Option<Duration>) {
        self.attendance.beat(attendance::now(), span, self.counted());
    }

    /// What happened since the last sign of life that was given.
    pub fn absence(&self) -> Option<Absence> {
        self.attendance.absence(attendance::now(), self.counted())
    }

    fn counted(&self) -> Counted {
        let counts = self.counters();
        let of = |counter| counts.get(&counter).copied().unwrap_or_default();
        Counted { decided: of(Counter::Decided), denied: of(Counter::Denied), lapsed: of(Counter::Lapsed) }
    }

    /// Puts one slot's policy in force for another as well.
    pub fn inherit_policy(&self, from: Slot, to: Slot) {
        let (generation, number) = self.slots.installed(from);
        let (_, before) = self.slots.installed(to);
        self.pool.lock().share(number);
        self.slots.install(to, generation, number);
        self.pool.release(before);
    }

    /// Moves what is in force for a slot to another one, cgroups included. Paths are named by the climb alone from then on.
    pub fn relocate(&self, from: Slot, to: Slot) -> io::Result<()> {
        self.inherit_policy(from, to);
        for cgroup in self.cgroups.of_slot(from)? {
            self.cgroups.assign(cgroup, to)?;
        }
        self.cgroups.count_anew(from)?;
        self.clear(from);
        self.mount_table.forget(from);
        Ok(())
    }

    /// Learns the mount table anew. Until it is complete paths are named by the climb alone.
    pub fn learn(&self, slot: Slot, pid: u32) -> Result<Learnt, LearnError> {
        self.slots.set_flags(slot, 0, layout::SLOT_MOUNTS_LEARNT);
        self.mount_table.forget(slot);
        let learnt = MountTable::learn(&self.mount_table, slot, pid)?;
        self.slots.set_flags(slot, layout::SLOT_MOUNTS_LEARNT, 0);
        Ok(learnt)
    }

    /// Acts that were not judged lately.
    pub fn skipped(&self) -> Vec<Gap> {
        self.modifying.iter().filter_map(Modifying::skipped).collect()
    }

    /// What the programs counted.
    pub fn counters(&self) -> BTreeMap<Counter, u64> {
        let mut value = vec![0; self.counters.value_bytes()];
        let mut counts = BTreeMap::new();
        for counter in Counter::ALL {
            if self.counters.lookup(&(counter as u32).to_ne_bytes(), &mut value).is_ok_and(|found| found) {
                let by_cpu = value.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
                counts.insert(counter, by_cpu.fold(0, u64::wrapping_add));
            }
        }
        counts
    }

    /// Memory as the kernel accounts it: blobs, and every map that is pinned.
    pub fn memory(&self) -> KernelMemory {
        let pinned = fs::read_dir(self.pins.path()).into_iter().flatten().flatten();
        let maps = pinned.filter_map(|entry| MapFd::open(&entry.path()).and_then(|map| map.memory()).ok()).sum();
        let pool = self.pool.lock();
        KernelMemory { blobs: pool.memory(), blob_count: pool.count(), maps }
    }
}

/// Refuses pins whose layout is another version's.
pub(crate) fn check_layouts(pins: &PinRoot) -> Result<(), ObjectError> {
    SHARED.iter().try_for_each(|(name, sizes)| pins.check(name, *sizes))
}

fn refuses(object: &LoadedObject, program: &str) -> bool {
    object.refused.iter().any(|refusal| refusal.program == program)
}

/// Programs whose links this version has pinned.
fn attached(objects: &[LoadedObject]) -> Vec<&'static str> {
    objects.iter().flat_map(|object| object.attached.iter().copied()).collect()
}

/// Where programs on hooks see the old image, they ask for its arguments; elsewhere the object does so itself.
fn load_arguments(
    btf: &KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
    matrix: &KernelMatrix,
) -> Result<LoadedObject, ObjectError> {
    let hooks = matrix.judges_on_hooks();
    let late = !hooks && !matrix.has(Capability::PrepareExec);
    let specs = if hooks || late { objects::ARGUMENTS } else { objects::ARGUMENTS_ALONE };
    let constants = [constants, &[Constant::Word("pal_decides_late", u32::from(late))]].concat();
    objects::load_and_attach("arguments", palisade_bpf::ARGUMENTS, specs, btf, pins, &constants)
}

fn open_slots(pins: &PinRoot) -> Result<SlotTable, ObjectError> {
    let (slots, observation) = (pins.map("slots"), pins.map("observation"));
    let observation =
        ObservationMap::open(&observation).map_err(|source| ObjectError::Pins { path: observation, source })?;
    SlotTable::open(&slots, observation).map_err(|source| ObjectError::Pins { path: slots, source })
}

fn open_attendance(pins: &PinRoot) -> Result<Attendance, ObjectError> {
    let path = pins.map("attendance");
    Attendance::open(&path).map_err(|source| ObjectError::Pins { path, source })
}

/// The decisions on hooks, as they are attached.
#[derive(Debug, Default)]
struct Decisions {
    objects: Vec<LoadedObject>,
    modifying: Vec<Modifying>,
}

/// Loads the LSM objects: as BPF LSM programs, else as programs before the hooks' functions. Where neither takes effect they are not
/// attached: they would never run, or let acts by.
fn load_decisions(
    btf: &KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
    matrix: &KernelMatrix,
) -> Result<Decisions, ObjectError> {
    if matrix.has(Capability::BpfLsm) {
        // One after the other as long as maps are made, which the next one finds by their pins.
        let load = |spec: &'static ObjectSpec| {
            Ok((objects::load(spec.name, spec.bytes, btf, pins, constants)?, spec.programs))
        };
        let made = objects::LSM.iter().map(load).collect::<Result<Vec<_>, ObjectError>>()?;
        let objects = objects::at_once(made, |(object, programs)| objects::attach_all(object, programs, btf, pins));
        return Ok(Decisions { objects, modifying: Vec::new() });
    }
    if matrix.has(Capability::ModifyReturn) {
        let mut decisions = Decisions::default();
        let made = objects::LSM.iter().map(|spec| fmod_ret::load(spec, btf, pins, constants));
        let made = made.collect::<Result<Vec<_>, _>>()?;
        for (object, modifying) in objects::at_once(made, |made| made.attach(btf, pins)) {
            decisions.objects.push(object);
            decisions.modifying.extend(modifying);
        }
        return Ok(decisions);
    }
    // One of them makes the maps, and the others would make no more.
    let [first, ..] = &objects::LSM;
    let object = objects::load(first.name, first.bytes, btf, pins, constants)?;
    let reason = without_hooks(matrix);
    let refused = objects::LSM.iter().flat_map(|spec| objects::refuse_all(spec.programs, &reason)).collect();
    Ok(Decisions { objects: vec![LoadedObject { object, attached: Vec::new(), refused }], modifying: Vec::new() })
}

/// Why programs on hooks hold nothing.
pub(crate) fn without_hooks(matrix: &KernelMatrix) -> String {
    let missing = |capability| match matrix.capabilities.get(&capability) {
        Some(CapabilityState::Missing(reason)) => reason.as_str(),
        _ => "it was not tried",
    };
    format!("BPF LSM: {}; fmod_ret: {}", missing(Capability::BpfLsm), missing(Capability::ModifyReturn))
}

/// What the programs must know of this machine before they are loaded.
pub(crate) fn constants(matrix: &KernelMatrix) -> Vec<Constant> {
    let available = |capability| matrix.capabilities.get(&capability) == Some(&CapabilityState::Available);
    let cgroup_reports = available(Capability::CgroupConnect) && available(Capability::CgroupSocket);
    vec![
        Constant::Word("pal_cgroup_reports", u32::from(cgroup_reports)),
        Constant::Word("pal_host_mnt_ns", host_mount_namespace()),
        rename_lock(),
    ]
}

/// By which a climb knows that no name changed meanwhile.
pub(crate) fn rename_lock() -> Constant {
    Constant::Long("pal_rename_lock", kernel_types::symbols().rename_lock.unwrap_or(0))
}

/// Inode number (32 bits in the kernel) of the host's mount namespace: that of process 1 or, where its links may not be read,
/// our own, for a node runs in the host's. 0 where neither can be had: then no namespace is the host's.
pub(crate) fn host_mount_namespace() -> u32 {
    let of = |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).ok();
    of("1").or_else(|| of("self")).and_then(|metadata| u32::try_from(metadata.ino()).ok()).unwrap_or(0)
}

/// Address of what frees files, by which scripts are found (`bpf/include/script.h`).
///
/// # Errors
/// The kernel does not show it.
pub(crate) fn file_release() -> Result<u64, String> {
    kernel_types::symbols().file_release.ok_or_else(|| {
        "/proc/kallsyms does not show the address of ____fput (kernel.kptr_restrict, CAP_SYSLOG, CONFIG_KALLSYMS)"
            .to_owned()
    })
}
