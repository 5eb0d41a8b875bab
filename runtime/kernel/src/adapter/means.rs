//! Opens each means beside the decision core: cgroup programs, profiles, users of SELinux, what audits system calls, what is asked at writes,
//! what kills, and the responder.
//!
//! Invariant: where the kernel does not take one, or takes it in part, the matrix says so from then on, and each program that is missed is among
//! those refused, by its name; the node starts all the same.

use std::{path::Path, sync::Arc};

use palisade_domain::{Family, Tier};
use palisade_kernel_abi::blob;
use palisade_world::{Capability, CapabilityState, HeldFamily, KernelMatrix};

use super::KernelConfig;
use crate::{
    apparmor::{self, Profiles},
    cgroup::{self, CgroupPrograms},
    fanotify::Responder,
    kill::{self, Attached, KillDuty, KillError},
    matrix,
    objects::{self, Refusal},
    programs,
    selinux::{self, Users},
    syscalls::{self, SyscallAudit},
    writes::WriteHooks,
};

/// All that is missed where the kernel takes no program at all: whatever else it took could not tell whose act it judges.
pub(super) fn without_programs(reason: &str, refused: &mut Vec<Refusal>) {
    tracing::warn!(reason, "no kernel programs at all on this kernel");
    let hooks = objects::on_hooks().map(|spec| spec.programs);
    let of_objects = [objects::IDENTITY, objects::ARGUMENTS, objects::LEARN].into_iter().chain(hooks);
    let missed = of_objects
        .flat_map(|programs| objects::refuse_all(programs, &reason))
        .chain(kill::PROGRAMS.iter().map(|(program, _)| kill::refusal(program, reason)))
        .chain([syscalls::refusal(reason)])
        .chain(cgroup::PROGRAMS.iter().map(|program| cgroup::refusal(program, reason)));
    for refusal in missed {
        // Those that were tried say themselves why they are not there.
        if refused.iter().all(|known| known.program != refusal.program) {
            refused.push(refusal);
        }
    }
}

/// Where the real programs are refused, the matrix says so, whatever the small ones that were tried could do.
pub(super) fn load_cgroup_programs(
    pin_root: &Path,
    matrix: &mut KernelMatrix,
    refused: &mut Vec<Refusal>,
) -> Option<CgroupPrograms> {
    let loaded = CgroupPrograms::load(palisade_bpf::CGROUP, pin_root);
    if let Ok(programs) = &loaded
        && let Some(reason) = programs.without_questions()
    {
        tracing::warn!(%reason, "DNS questions are not judged");
        matrix.capabilities.insert(Capability::CgroupPacket, CapabilityState::Missing(reason.to_owned()));
        refused.push(cgroup::refusal(cgroup::QUESTIONS, reason));
    }
    loaded
        .inspect_err(|error| {
            tracing::warn!(%error, "no cgroup programs on this kernel");
            if let Err(error) = CgroupPrograms::abandon(pin_root) {
                tracing::warn!(%error, "programs of an earlier version stay on cgroups");
            }
            let reason = objects::chain(error);
            matrix::without_cgroup_programs(matrix, &reason);
            refused.extend(cgroup::PROGRAMS.iter().map(|program| cgroup::refusal(program, &reason)));
        })
        .ok()
}

/// Where programs on hooks hold files, a profile would deny and tell everything a second time.
pub(super) fn open_profiles(matrix: &KernelMatrix) -> Option<Arc<Profiles>> {
    let by_hooks = matrix.families.get(&Family::File).is_some_and(|held| held.tier.is_by_hooks());
    if by_hooks {
        return None;
    }
    if !matrix.has(Capability::AppArmor) {
        // What an earlier runtime left would go on denying, by a policy that nobody renews, and untold.
        if let Err(error) = apparmor::unload() {
            tracing::warn!(%error, "profiles of an earlier runtime stay in force");
        }
        return None;
    }
    let opened = Profiles::open();
    opened.inspect_err(|reason| tracing::warn!(%reason, "no AppArmor profiles")).ok().map(Arc::new)
}

/// Where neither programs on hooks nor profiles hold capabilities; of the other families what is left to SELinux.
pub(super) fn open_users(config: &KernelConfig, matrix: &mut KernelMatrix, by_profiles: bool) -> Option<Arc<Users>> {
    let by_hooks = matrix.families.get(&Family::Capabilities).is_some_and(|held| held.tier.is_by_hooks());
    let base = config.selinux.as_ref().filter(|_| !by_hooks && !by_profiles && matrix.has(Capability::SeLinux));
    let opened = base.map(|base| Users::open(base, left_to_selinux(matrix), &config.pin_root));
    match opened {
        Some(Ok(users)) => return Some(Arc::new(users)),
        Some(Err(reason)) => {
            tracing::warn!(%reason, "no SELinux constraints");
            matrix::without_selinux(matrix, &reason);
        }
        None => {}
    }
    // What an earlier runtime left would go on denying, by a policy that nobody renews, and untold.
    if let Err(error) = selinux::unload(&config.pin_root) {
        tracing::warn!(%error, "SELinux constraints of an earlier runtime stay in force");
    }
    None
}

/// Families that constraints are to hold. Sockets and tracing are held by other means wherever those are: who is killed at the call's entry must
/// not be told of a second time. Memory that becomes executable nothing else sees before it is.
fn left_to_selinux(matrix: &KernelMatrix) -> Vec<blob::Family> {
    let tier = |family| matrix.families.get(&family).map(|held| held.tier);
    let by_selinux = |family| tier(family) == Some(Tier::SeLinux);
    let by_hooks = |family| tier(family).is_some_and(Tier::is_by_hooks);
    let left = [
        (by_selinux(Family::Capabilities), blob::Family::Capability),
        (by_selinux(Family::Network), blob::Family::Socket),
        (by_selinux(Family::Ptrace), blob::Family::Ptrace),
        (!by_hooks(Family::Presets), blob::Family::Preset),
    ];
    left.into_iter().filter_map(|(is_left, family)| is_left.then_some(family)).collect()
}

pub(super) fn load_syscalls(
    pin_root: &Path,
    matrix: &mut KernelMatrix,
    refused: &mut Vec<Refusal>,
) -> Option<SyscallAudit> {
    SyscallAudit::load(pin_root)
        .inspect_err(|reason| {
            tracing::warn!(%reason, "system calls cannot be audited");
            matrix::without_syscalls(matrix, reason);
            refused.push(syscalls::refusal(reason));
        })
        .ok()
}

/// Where programs on hooks hold files.
pub(super) fn load_writes(
    pin_root: &Path,
    matrix: &mut KernelMatrix,
    refused: &mut Vec<Refusal>,
) -> Option<WriteHooks> {
    let tier = matrix.families.get(&Family::File).map(|held| held.tier).filter(|tier| tier.is_by_hooks())?;
    WriteHooks::load(pin_root, tier)
        .inspect_err(|reason| {
            tracing::warn!(%reason, "writes through open descriptors cannot be denied");
            matrix::without_writes(matrix, reason);
            refused.extend(objects::refuse_all(objects::WRITES.programs, reason));
        })
        .ok()
}

/// What no stronger tier holds is killed for, sockets that cgroup programs do not see among it; and of opens, fanotify leaves
/// what depends on writing to be reported.
pub(super) fn attach_kill(pin_root: &Path, matrix: &mut KernelMatrix, refused: &mut Vec<Refusal>) {
    let tier = |family| matrix.families.get(&family).map(|held: &HeldFamily| held.tier);
    let fanotify_judges = tier(Family::File) == Some(Tier::Fanotify);
    let duties = [
        (tier(Family::Ptrace) == Some(Tier::Kill), blob::Family::Ptrace),
        (fanotify_judges, blob::Family::File),
        (tier(Family::Network) == Some(Tier::CgroupBpf) && matrix::kills(&matrix.capabilities), blob::Family::Socket),
        (tier(Family::Presets) == Some(Tier::Kill), blob::Family::Preset),
        (
            // Of whom no profile binds, where AppArmor denies; and what SELinux does not.
            matches!(tier(Family::Capabilities), Some(Tier::Audit | Tier::AppArmor | Tier::SeLinux))
                && matrix.has(Capability::CapabilityUse),
            blob::Family::Capability,
        ),
    ];
    let families: Vec<blob::Family> = duties.into_iter().filter_map(|(held, family)| held.then_some(family)).collect();
    let prepare_exec = matrix.has(Capability::PrepareExec);
    let audits_host_execs = tier(Family::Process) == Some(Tier::Fanotify);
    let duty = KillDuty {
        families: &families,
        fanotify_judges,
        prepare_exec,
        audits_host_execs,
        host_mnt_ns: programs::host_mount_namespace(),
    };
    match kill::attach(palisade_bpf::KILL, pin_root, duty) {
        Ok(Attached { without_host_execs: None }) => {}
        Ok(Attached { without_host_execs: Some(error) }) => {
            tracing::warn!(?error, "the host's executions are not seen");
            let reason = objects::chain(&error);
            matrix::without_host_execs(matrix, &reason);
            refused.extend(duty.host_programs().iter().map(|(program, _)| kill::refusal(program, &reason)));
        }
        Err(error) => {
            let reason = objects::chain(&error);
            let needed = duty.programs().chain(duty.host_programs().iter().copied());
            refused.extend(needed.map(|(program, _)| kill::refusal(program, &reason)));
            without_kill(pin_root, matrix, &error);
        }
    }
}

fn without_kill(pin_root: &Path, matrix: &mut KernelMatrix, error: &KillError) {
    tracing::warn!(?error, "nothing is killed for what cannot be denied");
    matrix::without_kill(matrix, &error.to_string());
    // Neither may what an earlier version attached, nor half of what this one has.
    if let Err(error) = kill::detach(pin_root) {
        tracing::warn!(?error, "programs that kill stay attached");
    }
}

/// Where files and executables are held by fanotify, the responder must be there; otherwise the matrix says so.
pub(super) fn start_responder(config: &KernelConfig, matrix: &mut KernelMatrix) -> Option<Responder> {
    let held = |family| matrix.families.get(&family).is_some_and(|held: &HeldFamily| held.tier == Tier::Fanotify);
    if !held(Family::File) && !held(Family::Process) {
        return None;
    }
    let started = match &config.responder {
        Some(responder) => Responder::start(responder.clone()).map_err(|error| error.to_string()),
        None => Err("it is not configured".to_owned()),
    };
    match started {
        Ok(responder) => Some(responder),
        Err(reason) => {
            tracing::warn!(%reason, "no fanotify responder");
            matrix::without_responder(matrix, &reason);
            None
        }
    }
}
