//! The kernel as enforcers see it: [`Enforcement`] by BPF LSM or fmod_ret, cgroup BPF, fanotify, AppArmor and SELinux together.
//!
//! One slot table and one set of blobs serve every BPF program; the fanotify responder has its own copy of each blob. Which
//! means holds which family is fixed at start, by what was tried ([`crate::matrix`]) and by what the kernel then took.
//!
//! Invariants: a slot's policy changes by one store after everything that can fail has succeeded; what a slot names is in its
//! outer map. What an earlier runtime left in force stays in force until its workload is admitted again or its cgroup is gone;
//! of the host, which has none, where it is to be held ([`KernelConfig::holds_host`]).
//!
//! Decision: one lock around the bookkeeping. Each call is a few system calls, and enforcers call one after the other from one
//! arbiter; finer locks would only hide the order in which slots and blobs change.

mod admission;
mod means;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use palisade_domain::{Family, Generation, Slot, Tier, Visibility};
use palisade_kernel_abi::blob::{self, Blob};
use palisade_world::{
    Absence, ContainerPlace, Enforcement, EnforcementError, Gap, HeldFamily, Installed, KernelMatrix, KernelMemory,
    LeftBehind, Membership, RefusedProgram, visibility,
};

use crate::{
    KernelTypes,
    apparmor::{Binding, Profiles, with_profile},
    cgroup::CgroupPrograms,
    cgroups::Cgroups,
    fanotify::{FailMode, Responder, ResponderConfig},
    guard::Guard,
    layout::{self, Counter, PolicyNumber},
    matrix,
    objects::{self, ObjectError, Refusal},
    policy_pool::PoolError,
    programs::Programs,
    pseudo_fs,
    selinux::{self, Base, Users, with_user},
    sys,
    syscalls::SyscallAudit,
    unknown::{self, Unknown},
    writes::WriteHooks,
};

/// How the adapter is set up.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// Where maps and links are pinned: a directory on a BPF file system.
    pub pin_root: PathBuf,
    /// For acts that cannot be judged.
    pub fail_mode: FailMode,
    /// What is seen of a workload when it is admitted, until it is told otherwise.
    pub visibility: Visibility,
    /// The same of the host, from the start on: it is seen whether or not it is to be admitted.
    pub host_visibility: Visibility,
    /// The host itself will be admitted: what an earlier runtime left in force for it stands until then. It has no cgroup that
    /// could be gone; where nobody will ask for it, nobody would ever take its policy away.
    pub holds_host: bool,
    /// Containers that nobody admitted are of [`Slot::UNKNOWN`]; else they are the host's.
    pub holds_unknown: bool,
    /// How the fanotify responder is started where no program on an LSM hook holds files; `None`: without that tier.
    pub responder: Option<ResponderConfig>,
    /// The policy that SELinux constraints of ours are loaded with; `None`: without that tier.
    pub selinux: Option<Base>,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            pin_root: PathBuf::from("/sys/fs/bpf/palisade"),
            fail_mode: FailMode::default(),
            visibility: Visibility::NONE,
            host_visibility: Visibility::NONE,
            holds_host: false,
            holds_unknown: false,
            responder: Some(ResponderConfig::this_binary()),
            selinux: None,
        }
    }
}

/// What is known of an admitted workload.
#[derive(Debug)]
struct Member {
    /// Its cgroup's directory below the unified mount; none of the host and of the unknown.
    cgroup_path: Option<PathBuf>,
    /// What its means cannot hold, beyond the matrix.
    gaps: Vec<Gap>,
    /// Copies of its mounts, so that their dentries' addresses are not given to others.
    held_mounts: Vec<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<Slot, Member>,
    /// Slots that an earlier runtime left in force, not yet admitted again.
    strangers: BTreeSet<Slot>,
    /// All that an earlier runtime used, as they were found.
    left_behind: Vec<LeftBehind>,
    /// The newest generation that an earlier runtime left in a slot.
    last_generation: Generation,
    /// Places of containers.
    unknown: Unknown,
}

/// The adapter.
#[derive(Debug)]
pub struct KernelAdapter {
    config: KernelConfig,
    matrix: KernelMatrix,
    programs: Option<Programs>,
    cgroup_programs: Option<CgroupPrograms>,
    responder: Option<Responder>,
    profiles: Option<Arc<Profiles>>,
    users: Option<Arc<Users>>,
    syscalls: Option<SyscallAudit>,
    writes: Option<WriteHooks>,
    guard: Option<Guard>,
    unified: Option<PathBuf>,
    refused: Vec<Refusal>,
    absence: Option<Absence>,
    state: Mutex<State>,
}

impl KernelAdapter {
    /// Tries what the kernel can do and loads what it takes. What is refused is in [`Self::refused`] and in the matrix.
    ///
    /// # Errors
    /// Only where pins of another version are in the way, pinned maps cannot be read, or a signal that stops the process came meanwhile.
    pub fn open(config: KernelConfig) -> Result<Self, ObjectError> {
        let held = sys::SignalsHeld::new();
        for file_system in [pseudo_fs::BPF, pseudo_fs::TRACE] {
            if let Err(error) = pseudo_fs::ensure(file_system) {
                tracing::warn!(kind = file_system.kind, %error, "cannot be mounted");
            }
        }
        // Held until all is loaded, so that they are read once.
        let _types = KernelTypes::shared();
        let mut matrix = matrix::probe();
        if config.selinux.is_none() {
            matrix::without_selinux(&mut matrix, "it is not asked for: --selinux names no base policy");
        }
        let mut refused = Vec::new();
        held.go_on()?;
        // Before whatever it is to protect.
        let guard = Guard::load(&config.pin_root, &matrix, &mut refused)?;
        // Before the others, which are told whether these report what they deny.
        held.go_on()?;
        let cgroup_programs = means::load_cgroup_programs(&config.pin_root, &mut matrix, &mut refused);
        held.go_on()?;
        let programs = Programs::load(&config.pin_root, &matrix, &mut refused)?;
        let programs = programs.inspect_err(|reason| means::without_programs(reason, &mut refused)).ok();
        matrix::withdraw(&mut matrix, &refused, programs.is_some());
        let cgroup_programs = cgroup_programs.filter(|_| programs.is_some());
        if cgroup_programs.as_ref().is_some_and(|programs| !programs.keeps_identity()) {
            matrix::by_cgroup_alone(&mut matrix);
        }
        held.go_on()?;
        let responder = means::start_responder(&config, &mut matrix);
        let profiles = means::open_profiles(&matrix);
        if programs.is_some() {
            means::attach_kill(&config.pin_root, &mut matrix, &mut refused);
        }
        held.go_on()?;
        let (root, matrix_so_far) = (&config.pin_root, &mut matrix);
        let syscalls = programs.as_ref().and_then(|_| means::load_syscalls(root, matrix_so_far, &mut refused));
        let writes = programs.as_ref().and_then(|_| means::load_writes(root, matrix_so_far, &mut refused));
        // What the other means hold is known now.
        let users = means::open_users(&config, &mut matrix, profiles.is_some());
        let unified = pseudo_fs::unified_cgroups().ok().flatten();
        held.go_on()?;
        let adapter = Self {
            absence: programs.as_ref().and_then(Programs::absence),
            config,
            matrix,
            programs,
            cgroup_programs,
            responder,
            profiles,
            users,
            syscalls,
            writes,
            guard,
            unified,
            refused,
            state: Mutex::default(),
        };
        adapter.take_over();
        adapter.set_visibility(Slot::HOST, adapter.config.host_visibility, 0);
        adapter.renew_network();
        adapter.renew_syscalls();
        adapter.renew_writes();
        adapter.guard.iter().for_each(Guard::tell);
        Ok(adapter)
    }

    /// Whether the kernel took the decision core, and with it the rings that programs write records to.
    #[must_use]
    pub fn has_programs(&self) -> bool {
        self.programs.is_some()
    }

    /// Programs that are not in force, what they need and what is lost.
    #[must_use]
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// The fanotify responder, where it runs: its records and its health.
    #[must_use]
    pub fn responder(&self) -> Option<&Responder> {
        self.responder.as_ref()
    }

    /// The containers' AppArmor profiles, where that is a means: denials under them are told by the kernel's audit.
    #[must_use]
    pub fn profiles(&self) -> Option<Arc<Profiles>> {
        self.profiles.clone()
    }

    /// The containers' SELinux users, where constraints are a means: denials by them are told by the kernel's audit.
    #[must_use]
    pub fn users(&self) -> Option<Arc<Users>> {
        self.users.clone()
    }

    /// Where maps are pinned: for those who read the rings.
    #[must_use]
    pub fn pin_root(&self) -> &Path {
        &self.config.pin_root
    }

    /// What the kernel programs counted, all CPUs together.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<Counter, u64> {
        self.programs.as_ref().map(Programs::counters).unwrap_or_default()
    }

    /// Slots whose policy an earlier runtime left in force and that nobody has admitted since.
    #[must_use]
    pub fn strangers(&self) -> Vec<Slot> {
        self.state().strangers.iter().copied().collect()
    }

    /// The policy that programs find for a slot, and its generation.
    #[must_use]
    pub fn in_force(&self, slot: Slot) -> Option<(Generation, PolicyNumber)> {
        self.programs.as_ref().map(|programs| programs.slots.installed(slot))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the books half changed in a way that matters: each change is one insert.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier runtime left: cgroups that are gone are forgotten, the others' policy stands.
    fn take_over(&self) {
        if let Some(profiles) = &self.profiles
            && let Err(error) = profiles.sweep()
        {
            tracing::warn!(%error, "profiles of containers that are gone stay");
        }
        let Some(programs) = &self.programs else {
            return;
        };
        let living = self.unified.as_deref().and_then(Cgroups::living);
        if living.is_none() {
            tracing::warn!(
                "not all cgroups could be seen: policies of workloads that are gone may stay until they are released"
            );
        }
        let strangers = programs.cgroups.take_over(living.as_ref()).unwrap_or_else(|error| {
            tracing::warn!(%error, "registered cgroups cannot be read");
            BTreeSet::new()
        });
        let last_generation =
            (0..layout::SLOTS).map(|slot| programs.slots.installed(Slot(slot)).0).max().unwrap_or_default();
        let used: Vec<Slot> = (0..layout::SLOTS)
            .map(Slot)
            // One that no policy selected has a generation all the same, and one without is seen.
            .filter(|slot| {
                programs.slots.installed(*slot) != (Generation::default(), PolicyNumber::NONE)
                    || programs.slots.visibility(*slot) != 0
            })
            .collect();
        if !self.config.holds_unknown {
            unknown::forget(programs);
        }
        let stands = |slot: &Slot| match *slot {
            Slot::HOST => self.config.holds_host,
            Slot::UNKNOWN => self.config.holds_unknown,
            slot => strangers.contains(&slot),
        };
        let mut left_behind = programs.cgroups.roots().unwrap_or_default();
        let released = (0..layout::SLOTS).map(Slot).filter_map(|slot| Some((slot, programs.slots.released(slot)?)));
        let released = released.filter(|(slot, _)| !stands(slot));
        left_behind.extend(released.map(|(slot, at)| LeftBehind { slot, cgroup: None, released: Some(at) }));
        for slot in used.into_iter().filter(|slot| !stands(slot)) {
            if slot == Slot::HOST || slot == Slot::UNKNOWN {
                programs.clear(slot);
                continue;
            }
            // It rests from now on, also for a runtime after this one. None of its cgroups is there.
            if let Err(error) = programs.release(slot, false) {
                tracing::warn!(%slot, %error, "what a workload that is gone had in the kernel stays");
            }
            left_behind.push(LeftBehind { slot, cgroup: None, released: None });
        }
        let mut state = self.state();
        state.strangers = strangers;
        left_behind.retain(|left| left.slot != Slot::HOST && left.slot != Slot::UNKNOWN);
        state.left_behind = left_behind;
        state.last_generation = last_generation;
    }

    /// What an earlier version attached is replaced, or taken away where nobody needs it.
    fn renew_network(&self) {
        let (Some(programs), Some(network)) = (&self.programs, &self.cgroup_programs) else { return };
        let decided = programs.pool.lock().decided();
        if let Err(error) = network.renew(decided) {
            tracing::warn!(%error, "rules on networks that an earlier runtime left in force may not be held");
        }
    }

    /// The same of system calls.
    fn renew_syscalls(&self) {
        let (Some(programs), Some(syscalls)) = (&self.programs, &self.syscalls) else { return };
        if programs.pool.lock().decided() & SYSCALLS == 0 {
            syscalls.detach();
        } else if let Err(error) = syscalls.attach() {
            tracing::warn!(%error, "rules on system calls that an earlier runtime left in force are not audited");
        }
    }

    /// The same of programs that are asked at each write.
    fn renew_writes(&self) {
        let (Some(programs), Some(writes)) = (&self.programs, &self.writes) else { return };
        if programs.pool.lock().decided() & layout::WRITES == 0 {
            writes.detach();
        } else if let Err(error) = writes.attach() {
            tracing::warn!(%error, "writes through open descriptors that an earlier runtime's policies deny are not denied");
        }
    }

    /// Attaches what is attached for some policies alone, before one of them is in force.
    fn attach_what_it_needs(&self, slot: Slot, policy: &Blob) -> Result<(), EnforcementError> {
        if let Some(network) = &self.cgroup_programs {
            let attached = network.ensure(policy.head().families);
            attached.map_err(|error| refuse(slot, "attach to the cgroups' root", objects::chain(&error)))?;
        }
        if let Some(syscalls) = &self.syscalls
            && policy.head().families & SYSCALLS != 0
        {
            syscalls.ensure().map_err(|reason| refuse(slot, "attach the audit of system calls", reason))?;
        }
        if let Some(writes) = &self.writes
            && policy.denies_writing_alone()
        {
            writes.ensure().map_err(|reason| refuse(slot, "attach what judges writes", reason))?;
        }
        if let Some(guard) = &self.guard {
            let writes = if policy.denies_writing_alone() { layout::WRITES } else { 0 };
            guard.tell_if_new(policy.head().families | writes);
        }
        Ok(())
    }

    /// What nobody's policy needs any more is looked at by nothing.
    fn rest(&self) {
        let Some(programs) = &self.programs else { return };
        let decided = programs.pool.lock().decided();
        if let Some(network) = &self.cgroup_programs {
            network.rest(decided);
        }
        if let Some(syscalls) = self.syscalls.as_ref().filter(|_| decided & SYSCALLS == 0) {
            syscalls.detach();
        }
        if let Some(writes) = self.writes.as_ref().filter(|_| decided & layout::WRITES == 0) {
            writes.detach();
        }
        self.guard.iter().for_each(|guard| guard.rest(decided));
    }

    /// What a profile or a constraint denies or tells of, programs do not tell of a second time.
    fn mark_bound(&self, slot: Slot) {
        let Some(programs) = &self.programs else { return };
        let by_profile = self.profiles.as_ref().and_then(|profiles| profiles.binding(slot));
        let by_profile = matches!(by_profile, Some(Binding::Awaited | Binding::Bound(_)));
        let by_user = self.users.as_ref().and_then(|users| users.binding(slot));
        let by_user = selinux::denies_all_capabilities(by_user.as_ref());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let set = flag(by_profile, layout::SLOT_BOUND_BY_PROFILE) | flag(by_user, layout::SLOT_BOUND_BY_USER);
        programs.slots.set_flags(slot, set, layout::SLOT_BOUND_BY_PROFILE | layout::SLOT_BOUND_BY_USER);
    }

    fn fail_flag(&self) -> u32 {
        match self.config.fail_mode {
            FailMode::Refuse => layout::SLOT_FAIL_BLOCK,
            FailMode::Permit => 0,
        }
    }
}

fn refuse(slot: Slot, what: &'static str, reason: impl std::fmt::Display) -> EnforcementError {
    EnforcementError::Refused { slot, what, reason: format!("{reason}") }
}

/// The host, and the unknown: they have no cgroup of their own.
fn is_no_container(slot: Slot) -> bool {
    slot == Slot::HOST || slot == Slot::UNKNOWN
}

/// A cgroup's directory.
fn below(unified: &Path, path: &Path) -> PathBuf {
    unified.join(path.strip_prefix("/").unwrap_or(path))
}

/// Whether a member of the cgroup is outside this PID namespace: the kernel lists it as 0.
fn has_nameless_members(cgroup: &Path) -> bool {
    let members = std::fs::read_to_string(cgroup.join("cgroup.procs"));
    members.is_ok_and(|members| members.lines().any(|member| member == "0"))
}

/// The family's bit in a blob's head.
const SYSCALLS: u32 = 1 << blob::Family::Syscall as u32;

/// How a family is held of one workload.
fn held_of(slot: Slot, family: Family, matrix: &KernelMatrix, gaps: &[Gap]) -> Option<HeldFamily> {
    let held = matrix.families.get(&family)?;
    Some(match held.tier {
        _ if is_no_container(slot) => matrix::of_host(family, held, &matrix.capabilities),
        Tier::Fanotify => HeldFamily { tier: held.tier, gaps: held.gaps.iter().chain(gaps).cloned().collect() },
        _ => held.clone(),
    })
}

/// The families that the blob decides, as the port names them.
fn families_of(policy: &Blob) -> BTreeSet<Family> {
    let decides = |family: blob::Family| policy.head().families >> family as u32 & 1 == 1;
    blob::Family::ALL
        .into_iter()
        .filter(|family| decides(*family))
        .map(|family| match family {
            blob::Family::Process => Family::Process,
            blob::Family::File => Family::File,
            blob::Family::Socket | blob::Family::Connect => Family::Network,
            blob::Family::Ptrace => Family::Ptrace,
            blob::Family::Capability => Family::Capabilities,
            blob::Family::Syscall => Family::Syscalls,
            blob::Family::Dns => Family::Dns,
            blob::Family::Preset => Family::Presets,
        })
        .collect()
}

impl Enforcement for KernelAdapter {
    fn matrix(&self) -> &KernelMatrix {
        &self.matrix
    }

    fn left_behind(&self) -> Vec<LeftBehind> {
        self.state().left_behind.clone()
    }

    fn last_generation(&self) -> Generation {
        self.state().last_generation
    }

    fn admit(&self, membership: &Membership) -> Result<(), EnforcementError> {
        let slot = membership.slot;
        let mut state = self.state();
        let held_before = state.members.contains_key(&slot);
        let path = &membership.cgroup_path;
        let member = || Member { cgroup_path: path.clone(), gaps: Vec::new(), held_mounts: Vec::new() };
        let mut held_by = None;
        if let Some(programs) = &self.programs {
            if !programs.slots.holds(slot) {
                return Err(EnforcementError::Full { slot, what: "slots", bound: u64::from(layout::SLOTS) });
            }
            // With its path, by which its cgroups are the unknown's again where this fails.
            state.members.entry(slot).or_insert_with(member);
            match self.admit_cgroup(programs, &mut state, membership) {
                Ok(before) => held_by = before,
                Err(error) => {
                    drop(state);
                    if !held_before {
                        self.undo_admission(membership, None);
                    }
                    return Err(error);
                }
            }
            // What a runtime executes while it makes a container has no name (a memfd): of the unknown it is audited.
            let fail = if slot == Slot::UNKNOWN { 0 } else { self.fail_flag() };
            programs.slots.set_flags(slot, fail, layout::SLOT_FAIL_BLOCK);
            programs.slots.set_released(slot, 0);
            let seen = if slot == Slot::HOST { self.config.host_visibility } else { self.config.visibility };
            programs.slots.set_visibility(slot, visibility::kinds_of(seen));
        }
        state.members.entry(slot).or_insert_with(member);
        match self.admit_elsewhere(membership) {
            Ok(gaps) => {
                if let Some(member) = state.members.get_mut(&slot) {
                    member.gaps = gaps;
                }
                self.end_strangers(&mut state, slot, held_by);
                Ok(())
            }
            // Who is admitted again is held already, and stays so.
            Err(error) if held_before => Err(error),
            Err(error) => {
                drop(state);
                self.undo_admission(membership, held_by);
                Err(error)
            }
        }
    }

    fn learn_mounts(&self, slot: Slot, pid: u32) -> Result<(), EnforcementError> {
        if !self.state().members.contains_key(&slot) {
            return Err(EnforcementError::UnknownSlot(slot));
        }
        // Without the lock: a mount that hangs holds up this workload, and nobody else.
        let held = match &self.programs {
            Some(programs) => {
                let learnt = programs.learn(slot, pid).map_err(|error| refuse(slot, "learn the mount table", error))?;
                tracing::debug!(%slot, mounts = learnt.mounts, skipped = learnt.skipped, "mount table learnt");
                learnt.held
            }
            None => Vec::new(),
        };
        let mut state = self.state();
        if let Some(profiles) = &self.profiles {
            profiles.learn(slot, pid);
        }
        if let Some(users) = &self.users {
            users.learn(slot, pid);
        }
        self.mark_bound(slot);
        // Released meanwhile: what was learnt goes with the slot's next release.
        let member = state.members.get_mut(&slot).ok_or(EnforcementError::UnknownSlot(slot))?;
        member.held_mounts = held;
        if let Some(responder) = &self.responder {
            member.gaps = responder.learn_mounts(slot, pid)?;
        }
        Ok(())
    }

    fn holds_otherwise(&self, slot: Slot) -> bool {
        let by_profile = self.profiles.as_ref().is_some_and(|profiles| profiles.told_otherwise(slot));
        by_profile || self.users.as_ref().is_some_and(|users| users.told_otherwise(slot))
    }

    fn holds_later(&self) -> bool {
        self.users.is_some()
    }

    fn set_visibility(&self, slot: Slot, visibility: Visibility, also: u64) {
        let _one_at_a_time = self.state();
        if let Some(programs) = &self.programs {
            programs.slots.set_visibility(slot, visibility::kinds_of(visibility) | also);
        }
    }

    fn install(
        &self,
        slot: Slot,
        generation: Generation,
        policy: Option<&Arc<Blob>>,
    ) -> Result<Installed, EnforcementError> {
        let state = self.state();
        let member = state.members.get(&slot).ok_or(EnforcementError::UnknownSlot(slot))?;
        let full = |error| match error {
            PoolError::Full => EnforcementError::Full { slot, what: "policies", bound: u64::from(layout::POLICIES) },
            PoolError::Refused { what, source } => refuse(slot, what, source),
        };
        let number = match (&self.programs, policy) {
            (Some(programs), Some(policy)) => programs.pool.lock().acquire(policy).map_err(full)?,
            _ => PolicyNumber::NONE,
        };
        if let Some(responder) = self.responder.as_ref().filter(|_| slot != Slot::UNKNOWN) {
            let told = responder.install(slot, generation, policy.map(|policy| (number.0, policy)));
            if let Err(error) = told {
                self.programs.iter().for_each(|programs| programs.pool.release(number));
                return Err(error);
            }
        }
        if let Some(profiles) = self.profiles.as_ref().filter(|_| slot != Slot::UNKNOWN)
            && let Err(reason) = profiles.install(slot, generation, number.0, policy)
        {
            self.programs.iter().for_each(|programs| programs.pool.release(number));
            return Err(refuse(slot, "replace the profile", reason));
        }
        if let Some(policy) = policy
            && let Err(error) = self.attach_what_it_needs(slot, policy)
        {
            self.programs.iter().for_each(|programs| programs.pool.release(number));
            return Err(error);
        }
        if let Some(users) = self.users.as_ref().filter(|_| slot != Slot::UNKNOWN) {
            users.install(slot, generation, number.0, policy);
        }
        self.mark_bound(slot);
        if let Some(programs) = &self.programs {
            let (_, before) = programs.slots.installed(slot);
            programs.slots.install(slot, generation, number);
            programs.pool.release(before);
        }
        self.rest();
        let mut installed = Installed { number: number.0, ..Installed::default() };
        let binding = self.profiles.as_ref().and_then(|profiles| profiles.binding(slot));
        let by_user = self.users.as_ref().and_then(|users| users.tell(slot));
        for family in policy.map(|policy| families_of(policy)).unwrap_or_default() {
            if let Some(held) = held_of(slot, family, &self.matrix, &member.gaps) {
                let held = with_profile(family, held, binding.as_ref(), &self.matrix.capabilities);
                let held = with_user(family, held, by_user.as_ref(), &self.matrix.capabilities);
                installed.families.insert(family, held);
            }
        }
        Ok(installed)
    }

    fn release(&self, slot: Slot) -> Result<(), EnforcementError> {
        self.release_with(slot, true)
    }

    fn hold_unknown_in(&self, places: &[ContainerPlace]) -> Result<(), EnforcementError> {
        let (Some(programs), Some(unified)) = (&self.programs, &self.unified) else { return Ok(()) };
        if !self.config.holds_unknown {
            return Ok(());
        }
        let mut state = self.state();
        places.iter().try_for_each(|place| state.unknown.hold(programs, place, &below(unified, &place.path)))
    }

    fn attend(&self, span: Option<Duration>) {
        self.programs.iter().for_each(|programs| programs.attend(span));
    }

    fn absence(&self) -> Option<Absence> {
        self.absence
    }

    fn memory(&self) -> KernelMemory {
        self.programs.as_ref().map(Programs::memory).unwrap_or_default()
    }

    fn refused_programs(&self) -> Vec<RefusedProgram> {
        let told = |Refusal { program, needs, without, reason }: &Refusal| RefusedProgram {
            program: (*program).to_owned(),
            needs: (*needs).to_owned(),
            without: (*without).to_owned(),
            reason: reason.clone(),
        };
        self.refused.iter().map(told).collect()
    }

    fn impairments(&self) -> Vec<Gap> {
        let mut impaired = self.responder.as_ref().map(Responder::impairments).unwrap_or_default();
        impaired.extend(self.programs.iter().flat_map(Programs::skipped));
        impaired.extend(self.writes.iter().flat_map(WriteHooks::skipped));
        impaired.extend(self.guard.iter().flat_map(Guard::skipped));
        let by_selinux = self.users.as_ref().and_then(|users| users.impairment());
        impaired.extend(by_selinux.map(|reason| matrix::gap("selinux", &reason)));
        impaired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_members_outside_this_pid_namespace_are_told_by_their_number() {
        let cgroup = tempfile::tempdir().expect("a directory");
        let procs = cgroup.path().join("cgroup.procs");
        for (members, nameless) in [("", false), ("7\n10\n", false), ("7\n0\n", true), ("0\n", true)] {
            std::fs::write(&procs, members).expect("a file");
            assert_eq!(has_nameless_members(cgroup.path()), nameless, "{members:?}");
        }
    }
}
