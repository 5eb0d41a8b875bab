//! What this kernel can do, because it was tried: each capability by the smallest act that needs it.
//!
//! Decision: versions and configurations are not consulted. Distributions backport and disable; an `lsm/*` program loads and
//! attaches on every kernel with BTF and never runs where `bpf` is not an active LSM.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, TestRun as _,
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, RawTracePointRunOptions},
};
use palisade_domain::{Family, Tier};
use palisade_world::{Capability, CapabilityState, HeldFamily, KernelMatrix};

use crate::{
    KernelTypes,
    apparmor::AppArmor,
    audit,
    kernel_types::Constant,
    objects::{self, Refusal, chain, explain},
    programs, pseudo_fs, selinux, sys, usb,
};

mod families;
mod interruption;

#[cfg(test)]
use families::BEFORE_OTHERS;
pub(crate) use families::{ANONYMOUS_CODE, UNLABELLED, beside_selinux, capabilities_seen, gap, of_host, unseen};
use families::{ARGUMENTS_OF_SCRIPTS, OTHER_SOCKETS, PRESETS, cgroup_alone_gap, unseen_sockets_gap};
pub use families::{families, families_of_host};

/// Tries everything. Needs root; leaves nothing behind.
#[must_use]
pub fn probe() -> KernelMatrix {
    let btf = KernelTypes::shared().map_err(|error| chain(&error));
    let mut capabilities = BTreeMap::new();
    let mut note = |capability, tried: Result<(), String>| {
        let state = tried.map_or_else(CapabilityState::Missing, |()| CapabilityState::Available);
        capabilities.insert(capability, state);
    };
    note(Capability::KernelBtf, btf.as_ref().map(drop).map_err(Clone::clone));
    note(Capability::UnifiedCgroups, try_unified_cgroups().map(drop));
    note(Capability::FanotifyPermission, try_fanotify());
    note(Capability::AppArmor, AppArmor::open().and_then(|_| audit::is_heard()));
    note(Capability::SeLinux, selinux::try_here());
    note(Capability::KernelSymbols, programs::file_release().map(drop));
    note(Capability::UsbAuthorization, usb::try_authorization(Path::new("/sys")));
    let with = |attempt: &dyn Fn(&KernelTypes) -> Result<(), String>| {
        btf.as_ref().map_err(Clone::clone).and_then(|btf| attempt(btf))
    };
    note(Capability::RawTracepoints, with(&|btf| attach(btf, "try_raw_tracepoint", RARE)));
    note(Capability::BtfTracepoints, with(&|btf| attach(btf, "try_btf_tracepoint", RARE)));
    note(Capability::PrepareExec, with(&|btf| attach(btf, "try_prepare_exec", "sched_prepare_exec")));
    note(Capability::CapabilityUse, with(&|btf| attach(btf, "try_cap_capable", "cap_capable")));
    note(Capability::TaskStorage, with(&|btf| drive(btf, "try_task_storage")));
    note(Capability::SendSignal, with(&|btf| drive(btf, "try_send_signal")));
    note(Capability::CgroupConnect, with(&|btf| attach(btf, "try_connect", RARE)));
    note(Capability::CgroupSocket, with(&|btf| attach(btf, "try_sock_create", RARE)));
    note(Capability::CgroupPacket, with(&|btf| attach(btf, "try_packet", RARE)));
    note(Capability::BpfLsm, with(&try_denial));
    note(Capability::ModifyReturn, with(&interruption::try_modify_return));
    let lsms = active_lsms();
    let families = families(&capabilities);
    KernelMatrix { release: release(), lsms, capabilities, families }
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn active_lsms() -> Vec<String> {
    let list = pseudo_fs::ensure(pseudo_fs::SECURITY).and_then(|mount| fs::read_to_string(mount.join("lsm")));
    list.map(|list| list.trim().split(',').map(str::to_owned).collect()).unwrap_or_default()
}

fn try_unified_cgroups() -> Result<PathBuf, String> {
    let mount = pseudo_fs::unified_cgroups().map_err(|error| error.to_string())?;
    mount.ok_or_else(|| "no cgroup2 file system is mounted".to_owned())
}

fn object(btf: &KernelTypes, bytes: &[u8], constants: &[Constant]) -> Result<Ebpf, String> {
    btf.load(bytes, None, constants).map_err(|error| chain(&error))
}

/// A tracepoint that fires hardly ever.
const RARE: &str = "cgroup_remount";

/// Attaches a program for a moment; those of tracepoints to this one.
fn attach(btf: &KernelTypes, name: &str, tracepoint: &str) -> Result<(), String> {
    let mut object = object(btf, palisade_bpf::CAPABILITY, &[])?;
    let attached = match object.program_mut(name).ok_or("not in the object")? {
        Program::RawTracePoint(program) => program.load().and_then(|()| program.attach(tracepoint).map(drop)),
        Program::BtfTracePoint(program) => program.load(tracepoint, btf).and_then(|()| program.attach().map(drop)),
        Program::CgroupSockAddr(program) => {
            let cgroup = TriedCgroup::create()?;
            program.load().and_then(|()| program.attach(&cgroup.directory, CgroupAttachMode::Single).map(drop))
        }
        Program::CgroupSock(program) => {
            let cgroup = TriedCgroup::create()?;
            program.load().and_then(|()| program.attach(&cgroup.directory, CgroupAttachMode::Single).map(drop))
        }
        Program::CgroupSkb(program) => {
            let cgroup = TriedCgroup::create()?;
            program.load().and_then(|()| {
                program.attach(&cgroup.directory, CgroupSkbAttachType::Egress, CgroupAttachMode::Single).map(drop)
            })
        }
        _ => return Err("of an unknown kind".to_owned()),
    };
    attached.map_err(|error| explain(&error))
}

/// Runs a program that answers 1 if what it tried worked.
fn drive(btf: &KernelTypes, name: &str) -> Result<(), String> {
    let mut object = object(btf, palisade_bpf::CAPABILITY, &[])?;
    let Some(Program::RawTracePoint(program)) = object.program_mut(name) else {
        return Err("not in the object".to_owned());
    };
    let result = program.load().and_then(|()| program.test_run(RawTracePointRunOptions::new()));
    match result.map_err(|error| explain(&error))?.return_value {
        1 => Ok(()),
        other => Err(format!("it answered {other}")),
    }
}

/// An empty cgroup for a moment.
struct TriedCgroup {
    path: PathBuf,
    directory: File,
}

impl TriedCgroup {
    fn create() -> Result<Self, String> {
        let path = try_unified_cgroups()?.join(format!("palisade-try-{}-{}", std::process::id(), sys::thread_id()));
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir(&path).map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        Ok(Self { path, directory })
    }
}

impl Drop for TriedCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a cgroup that was made for a test stays");
        }
    }
}

/// A file for a moment, on a file system that is not the one under test.
struct TriedFile(PathBuf);

impl TriedFile {
    fn create() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("palisade-try-{}-{}", std::process::id(), sys::thread_id()));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map(|_| Self(path.clone())).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TriedFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a file that was made for a test stays");
        }
    }
}

/// An LSM program denies this thread's open of one file: does the open fail?
fn try_denial(btf: &KernelTypes) -> Result<(), String> {
    let file = TriedFile::create()?;
    let inode = fs::metadata(file.path()).map_err(|error| error.to_string())?.ino();
    let constants =
        [Constant::Word("pal_selftest_thread", sys::thread_id()), Constant::Long("pal_selftest_inode", inode)];
    let mut object = object(btf, palisade_bpf::SELFTEST, &constants)?;
    let Some(Program::Lsm(program)) = object.program_mut("deny_selftest") else {
        return Err("not in the object".to_owned());
    };
    program.load("file_open", btf).and_then(|()| program.attach().map(drop)).map_err(|error| explain(&error))?;
    match File::open(file.path()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("the test file could not be opened for another reason: {error}")),
        Ok(_) => Err("programs attach and never run: bpf is not among the active LSMs".to_owned()),
    }
}

/// A permission mark on one file of ours. Opening it is not needed: without the feature the mark is refused.
fn try_fanotify() -> Result<(), String> {
    let file = TriedFile::create()?;
    sys::try_permission_mark(&File::open(file.path()).map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())
}

/// Corrects the matrix by what the kernel refused when the real programs were loaded.
pub fn withdraw(matrix: &mut KernelMatrix, refused: &[Refusal], any_programs: bool) {
    let missing = |matrix: &mut KernelMatrix, capability, reason: &str| {
        matrix.capabilities.insert(capability, CapabilityState::Missing(reason.to_owned()));
    };
    if !any_programs {
        for capability in [
            Capability::BpfLsm,
            Capability::ModifyReturn,
            Capability::CgroupConnect,
            Capability::CgroupSocket,
            Capability::CgroupPacket,
            Capability::BtfTracepoints,
        ] {
            // What was missed before says itself why.
            if matrix.has(capability) {
                missing(matrix, capability, "the kernel programs could not be loaded");
            }
        }
    }
    matrix.families = families(&matrix.capabilities);
    for (program, family) in [
        ("judge_exec", Family::Process),
        ("judge_open", Family::File),
        ("judge_socket", Family::Network),
        ("judge_connect", Family::Network),
        ("judge_trace", Family::Ptrace),
        ("judge_traceme", Family::Ptrace),
        ("judge_capability", Family::Capabilities),
        ("protect_exec", Family::Presets),
        ("judge_open", Family::Presets),
        ("protect_map", Family::Presets),
        ("protect_protection", Family::Presets),
    ] {
        let by_hooks = matrix.families.get(&family).is_some_and(|held| held.tier.is_by_hooks());
        if by_hooks && let Some(refusal) = refused.iter().find(|refusal| refusal.program == program) {
            let mut without = matrix.capabilities.clone();
            for means in [Capability::BpfLsm, Capability::ModifyReturn] {
                without.insert(means, CapabilityState::Missing(refusal.reason.clone()));
            }
            if let Some(held) = families(&without).remove(&family) {
                matrix.families.insert(family, held);
            }
        }
    }
    if let Some(file) = matrix.families.get_mut(&Family::File).filter(|held| held.tier.is_by_hooks())
        && let Some(refusal) = refused.iter().find(|refusal| refusal.program == "judge_create")
    {
        file.gaps.push(gap("creation by open(O_CREAT)", refusal.without));
    }
    without_hooks(matrix, refused);
    if let Some(process) = matrix.families.get_mut(&Family::Process)
        && let Some(refusal) = refused.iter().find(|refusal| refusal.program == "judge_arguments")
    {
        process.gaps.retain(|gap| gap.what != ARGUMENTS_OF_SCRIPTS && gap.what != "allowedArgs");
        process.gaps.push(gap("allowedArgs", &format!("nothing reads the arguments: {}", refusal.reason)));
    }
}

/// Hooks of the file and process families whose loss leaves the others as they are: what is lost is a gap.
fn without_hooks(matrix: &mut KernelMatrix, refused: &[Refusal]) {
    for object in &objects::LSM {
        let (family, alone) = match object.name {
            "lsm_process" | "lsm_code" => (Family::Process, "judge_exec"),
            "lsm_file" | "lsm_change" | "lsm_mount" => (Family::File, "judge_open"),
            _ => continue,
        };
        let Some(held) = matrix.families.get_mut(&family).filter(|held| held.tier.is_by_hooks()) else { continue };
        for program in object.programs.iter().filter(|program| ![alone, "judge_create"].contains(&program.name)) {
            if let Some(refusal) = refused.iter().find(|refusal| refusal.program == program.name) {
                held.gaps.push(gap(refusal.without, &refusal.reason));
            }
        }
    }
}

/// Corrects the matrix where the programs that are asked at each write were refused.
pub fn without_writes(matrix: &mut KernelMatrix, reason: &str) {
    if let Some(file) = matrix.families.get_mut(&Family::File) {
        file.gaps.push(gap("writes through descriptors that are open already", reason));
    }
}

/// Corrects the matrix where SELinux is not used, or cannot be.
pub fn without_selinux(matrix: &mut KernelMatrix, reason: &str) {
    if matrix.has(Capability::SeLinux) {
        matrix.capabilities.insert(Capability::SeLinux, CapabilityState::Missing(reason.to_owned()));
    }
    for (family, held) in matrix.families.iter_mut().filter(|(_, held)| held.tier == Tier::SeLinux) {
        *held = beside_selinux(*family, &matrix.capabilities);
    }
}

/// Corrects the matrix where the program that sees system calls was refused.
pub fn without_syscalls(matrix: &mut KernelMatrix, reason: &str) {
    matrix.families.insert(Family::Syscalls, unseen("syscalls", reason));
}

/// Corrects the matrix where the programs for cgroups were refused; the families follow when the rest is loaded.
pub fn without_cgroup_programs(matrix: &mut KernelMatrix, reason: &str) {
    for capability in [Capability::CgroupConnect, Capability::CgroupSocket, Capability::CgroupPacket] {
        matrix.capabilities.insert(capability, CapabilityState::Missing(reason.to_owned()));
    }
    matrix.families = families(&matrix.capabilities);
}

/// Corrects the matrix where the programs for cgroups cannot read what tasks keep. After [`withdraw`], which works out the families anew.
pub fn by_cgroup_alone(matrix: &mut KernelMatrix) {
    for held in matrix.families.values_mut().filter(|held| held.tier == Tier::CgroupBpf) {
        held.gaps.push(cgroup_alone_gap());
    }
}

/// Corrects the matrix where the programs that kill could not be attached.
pub fn without_kill(matrix: &mut KernelMatrix, reason: &str) {
    // By the same programs the host's acts are seen, and uses of capabilities.
    for capability in [Capability::SendSignal, Capability::CapabilityUse] {
        matrix.capabilities.insert(capability, CapabilityState::Missing(format!("nothing kills: {reason}")));
    }
    let mut next = families(&matrix.capabilities);
    let concerned = |held: &HeldFamily| matches!(held.tier, Tier::Kill | Tier::SeLinux);
    for (family, held) in matrix.families.iter_mut().filter(|(_, held)| concerned(held)) {
        if let Some(by_selinux) = next.remove(family).filter(|next| next.tier == Tier::SeLinux) {
            *held = by_selinux;
            continue;
        }
        let what = if *family == Family::Presets { PRESETS.as_slice() } else { &["ptrace"] };
        let gaps = what.iter().map(|what| gap(what, &format!("nothing kills: {reason}"))).collect();
        *held = HeldFamily { tier: Tier::Audit, gaps };
    }
    if let Some(held) = matrix.families.get_mut(&Family::Capabilities).filter(|held| held.tier == Tier::Audit) {
        *held = unseen("capabilities", &format!("only an LSM hook can deny, and nothing observes: {reason}"));
    }
    let network = matrix.families.get_mut(&Family::Network).filter(|held| held.tier == Tier::CgroupBpf);
    let gaps = network.map(|held| held.gaps.as_mut_slice()).unwrap_or_default();
    for other in gaps.iter_mut().filter(|gap| gap.what == OTHER_SOCKETS) {
        *other = unseen_sockets_gap();
    }
}

/// Corrects the matrix where the programs that see the host's executions were refused; [`of_host`] says it.
pub fn without_host_execs(matrix: &mut KernelMatrix, reason: &str) {
    matrix.capabilities.insert(Capability::PrepareExec, CapabilityState::Missing(reason.to_owned()));
}

/// Whether processes can be killed for what is not denied.
pub fn kills(capabilities: &BTreeMap<Capability, CapabilityState>) -> bool {
    has(capabilities, Capability::SendSignal) && has(capabilities, Capability::BtfTracepoints)
}

/// Corrects the matrix where the responder could not be started.
pub fn without_responder(matrix: &mut KernelMatrix, reason: &str) {
    for (family, held) in matrix.families.iter_mut().filter(|(_, held)| held.tier == Tier::Fanotify) {
        // The whole of it, by the word of the policy language: nobody audits either.
        let what = if *family == Family::Process { "process" } else { "file" };
        *held = unseen(what, &format!("no fanotify responder: {reason}"));
    }
}

fn has(capabilities: &BTreeMap<Capability, CapabilityState>, capability: Capability) -> bool {
    capabilities.get(&capability) == Some(&CapabilityState::Available)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> KernelMatrix {
        let all = [
            Capability::BpfLsm,
            Capability::ModifyReturn,
            Capability::BtfTracepoints,
            Capability::RawTracepoints,
            Capability::CgroupConnect,
            Capability::CgroupSocket,
            Capability::CgroupPacket,
            Capability::PrepareExec,
            Capability::CapabilityUse,
            Capability::FanotifyPermission,
            Capability::SendSignal,
            Capability::TaskStorage,
            Capability::KernelBtf,
            Capability::UnifiedCgroups,
            Capability::KernelSymbols,
        ];
        let capabilities = BTreeMap::from(all.map(|capability| (capability, CapabilityState::Available)));
        KernelMatrix { families: families(&capabilities), capabilities, ..KernelMatrix::default() }
    }

    fn without_lsm() -> KernelMatrix {
        let mut matrix = by_fmod_ret();
        matrix.capabilities.insert(Capability::ModifyReturn, CapabilityState::Missing("test".to_owned()));
        matrix.families = families(&matrix.capabilities);
        matrix
    }

    fn by_fmod_ret() -> KernelMatrix {
        let mut matrix = everything();
        matrix.capabilities.insert(Capability::BpfLsm, CapabilityState::Missing("test".to_owned()));
        matrix.families = families(&matrix.capabilities);
        matrix
    }

    fn refusal(program: &'static str) -> Refusal {
        Refusal { program, needs: "", without: "an empty file remains", reason: "refused by a test".to_owned() }
    }

    fn whats(matrix: &KernelMatrix, family: Family) -> Vec<&str> {
        matrix.families[&family].gaps.iter().map(|gap| gap.what.as_str()).collect()
    }

    #[test]
    fn unit_cgroup_programs_that_are_refused_hold_nothing_by_the_matrix() {
        let mut matrix = without_lsm();
        assert_eq!(matrix.families[&Family::Network].tier, Tier::CgroupBpf);
        without_cgroup_programs(&mut matrix, "the verifier");
        withdraw(&mut matrix, &[], true);
        assert_eq!(matrix.families[&Family::Network].tier, Tier::Audit);
        let mut matrix = everything();
        without_cgroup_programs(&mut matrix, "the verifier");
        withdraw(&mut matrix, &[], true);
        assert_eq!(matrix.families[&Family::Network].tier, Tier::BpfLsm);
        assert!(whats(&matrix, Family::Network).contains(&"datagrams that are sent without connect(2)"));
    }

    #[test]
    fn unit_a_refused_hook_moves_its_family_to_the_next_tier_and_no_other() {
        let mut matrix = everything();
        withdraw(&mut matrix, &[refusal("judge_open"), refusal("judge_trace")], true);
        let tiers: Vec<Tier> = matrix.families.values().map(|held| held.tier).collect();
        let expected = BTreeMap::from([
            (Family::Process, Tier::BpfLsm),
            (Family::File, Tier::Fanotify),
            (Family::Network, Tier::BpfLsm),
            (Family::Ptrace, Tier::Kill),
            (Family::Capabilities, Tier::BpfLsm),
            (Family::Syscalls, Tier::Audit),
            (Family::Dns, Tier::CgroupBpf),
            // Its opens of /proc are judged in the same program.
            (Family::Presets, Tier::Kill),
            (Family::Device, Tier::Audit),
        ]);
        assert_eq!(tiers, expected.into_values().collect::<Vec<_>>());
        let mut matrix = everything();
        withdraw(&mut matrix, &[refusal("judge_capability"), refusal("protect_map")], true);
        assert_eq!(matrix.families[&Family::Capabilities].tier, Tier::Audit);
        assert_eq!(matrix.families[&Family::Presets].tier, Tier::Kill);
    }

    #[test]
    fn unit_programs_before_functions_hold_what_bpf_lsm_would_and_a_refused_one_falls_to_the_same_next_tier() {
        let (mut lsm, mut fmod) = (everything(), by_fmod_ret());
        assert_ne!(lsm.families, fmod.families);
        for (family, held) in &lsm.families {
            let wanted = if held.tier == Tier::BpfLsm { Tier::FmodRet } else { held.tier };
            assert_eq!(fmod.families[family].tier, wanted, "{family:?}");
            assert!(held.gaps.iter().all(|gap| fmod.families[family].gaps.contains(gap)), "{family:?}");
        }
        assert!(whats(&fmod, Family::Ptrace).contains(&BEFORE_OTHERS), "an act may be refused by another LSM after it");
        for matrix in [&mut lsm, &mut fmod] {
            withdraw(matrix, &[refusal("judge_open")], true);
        }
        for family in [Family::File, Family::Presets] {
            assert_eq!(lsm.families[&family], fmod.families[&family]);
        }
        assert_eq!(fmod.families[&Family::Process].tier, Tier::FmodRet, "only what was refused falls");
        withdraw(&mut fmod, &[], false);
        assert!(fmod.families.values().all(|held| !held.tier.is_by_hooks()));
    }

    #[test]
    fn unit_what_no_tier_holds_is_named_by_the_words_of_the_policy_language() {
        let unheld = |matrix: &KernelMatrix, family, what: &str| whats(matrix, family).contains(&what);
        let matrix = everything();
        for (family, what) in [
            (Family::Process, "allowedArgs"),
            (Family::Capabilities, "capabilities"),
            (Family::Syscalls, "syscalls"),
            (Family::Dns, "matchDNSQueries"),
            (Family::Presets, "preset:anonMapExec"),
        ] {
            assert!(!unheld(&matrix, family, what), "{what}");
        }
        assert!(unheld(&matrix, Family::Device, "device"));
        let mut devices = everything();
        devices.capabilities.insert(Capability::UsbAuthorization, CapabilityState::Available);
        withdraw(&mut devices, &[], false);
        assert_eq!(devices.families[&Family::Device].tier, Tier::UsbAuthorization, "no program of ours holds it");
        assert!(!unheld(&devices, Family::Device, "device"));
        let mut matrix = everything();
        withdraw(&mut matrix, &[refusal("judge_arguments")], true);
        assert!(unheld(&matrix, Family::Process, "allowedArgs"));
        without_syscalls(&mut matrix, "the verifier");
        assert!(unheld(&matrix, Family::Syscalls, "syscalls"));
        let mut matrix = everything();
        matrix.capabilities.insert(Capability::CgroupPacket, CapabilityState::Missing("test".to_owned()));
        matrix.families = families(&matrix.capabilities);
        assert!(unheld(&matrix, Family::Dns, "matchDNSQueries"));
        assert_eq!(matrix.families[&Family::Network].tier, Tier::BpfLsm, "it does not depend on packets");
        let mut matrix = without_lsm();
        assert!(!unheld(&matrix, Family::Capabilities, "capabilities"), "their use is observed");
        assert!(unheld(&matrix, Family::Presets, "preset:anonMapExec"));
        assert!(!unheld(&matrix, Family::Presets, "preset:filelessExec"));
        without_kill(&mut matrix, "the verifier");
        assert!(unheld(&matrix, Family::Capabilities, "capabilities"));
        assert!(PRESETS.iter().all(|what| unheld(&matrix, Family::Presets, what)));
        let mut older = without_lsm();
        for capability in [Capability::PrepareExec, Capability::CapabilityUse] {
            older.capabilities.insert(capability, CapabilityState::Missing("test".to_owned()));
        }
        older.families = families(&older.capabilities);
        assert!(unheld(&older, Family::Capabilities, "capabilities"));
        assert!(unheld(&older, Family::Presets, "preset:exec"));
        assert!(!unheld(&older, Family::Presets, "preset:filelessExec"), "before the first instruction is in time");
        assert!(!unheld(&older, Family::Presets, "preset:protectEnv"));
        assert!(!unheld(&older, Family::Process, "allowedArgs"));
    }

    #[test]
    fn unit_the_host_is_held_by_what_sees_it_and_not_by_what_holds_containers() {
        let of = |matrix: &KernelMatrix, family| {
            let HeldFamily { tier, gaps } = families_of_host(matrix).remove(&family).expect("of every family");
            (tier, gaps.into_iter().map(|gap| gap.what).collect::<Vec<_>>())
        };
        let hooks = families_of_host(&by_fmod_ret()).remove(&Family::File).expect("of every family");
        assert_eq!(hooks.tier, Tier::FmodRet, "whoever opens comes by");
        let (host, container) = (families_of_host(&everything()), everything().families);
        assert_eq!(host, container, "a BPF LSM holds the host like a container, and so do programs on all cgroups");
        let matrix = without_lsm();
        for family in [Family::Process, Family::File] {
            let (tier, whats) = of(&matrix, family);
            assert_eq!((tier, whats[0].as_str()), (Tier::Audit, "denial"), "{family:?}");
            assert!(!whats.iter().any(|what| what == "process" || what == "file"), "what it audits is seen: {whats:?}");
        }
        assert_eq!(of(&matrix, Family::Network).0, Tier::CgroupBpf, "its cgroups are below the same root");
        let of_other_sockets = |gap: &palisade_world::Gap| gap.what == OTHER_SOCKETS;
        let network = families_of_host(&matrix).remove(&Family::Network).expect("of every family");
        let other: Vec<_> = network.gaps.into_iter().filter(of_other_sockets).collect();
        assert_eq!(other, [unseen_sockets_gap()], "nobody of the host is killed");
        assert_eq!(of(&matrix, Family::Dns).0, Tier::CgroupBpf);
        assert_eq!(of(&matrix, Family::Ptrace).0, Tier::Kill);
        // Profiles deny uses of capabilities in containers; of the host's nothing is but seen.
        let mut profiles = without_lsm();
        profiles.capabilities.insert(Capability::AppArmor, CapabilityState::Available);
        profiles.families = families(&profiles.capabilities);
        assert_eq!(profiles.families[&Family::Capabilities].tier, Tier::AppArmor);
        assert_eq!(of(&profiles, Family::Capabilities), (Tier::Audit, vec!["denial".to_owned()]));
        without_kill(&mut profiles, "the verifier");
        assert_eq!(of(&profiles, Family::Capabilities), (Tier::Audit, vec!["capabilities".to_owned()]));
        assert_eq!(profiles.families[&Family::Capabilities].tier, Tier::AppArmor);
        let mut older = without_lsm();
        older.capabilities.insert(Capability::PrepareExec, CapabilityState::Missing("test".to_owned()));
        assert_eq!(of(&older, Family::Process), (Tier::Audit, vec!["process".to_owned()]));
        assert_eq!(of(&older, Family::File).1[0], "denial");
        let mut hidden = without_lsm();
        assert!(!of(&hidden, Family::Process).1.contains(&"scripts".to_owned()));
        hidden.capabilities.insert(Capability::KernelSymbols, CapabilityState::Missing("kptr_restrict".to_owned()));
        assert!(of(&hidden, Family::Process).1.contains(&"scripts".to_owned()), "they go unseen");
        // What sees the host's executions alone takes nothing from containers.
        let mut refused = without_lsm();
        without_host_execs(&mut refused, "refused by a test");
        assert_eq!(refused.families, without_lsm().families);
        let process = families_of_host(&refused).remove(&Family::Process).expect("of every family");
        assert_eq!((process.tier, process.gaps[0].what.as_str()), (Tier::Audit, "process"));
        assert!(process.gaps[0].reason.contains("refused by a test"));
        assert_eq!(of(&refused, Family::File), of(&without_lsm(), Family::File));
        let mut blind = without_lsm();
        without_kill(&mut blind, "the verifier");
        assert_eq!(of(&blind, Family::Process), (Tier::Audit, vec!["process".to_owned()]));
        assert_eq!(of(&blind, Family::File), (Tier::Audit, vec!["file".to_owned()]));
        // Without a responder no container is held either, and nobody audits.
        let mut alone = without_lsm();
        without_responder(&mut alone, "test");
        assert_eq!(whats(&alone, Family::File), ["file"]);
        assert_eq!(of(&alone, Family::Process), (Tier::Audit, vec!["process".to_owned()]));
    }

    #[test]
    fn unit_selinux_is_the_means_of_containers_and_of_what_nothing_else_holds_alone() {
        let mut matrix = without_lsm();
        matrix.capabilities.insert(Capability::SeLinux, CapabilityState::Available);
        matrix.families = families(&matrix.capabilities);
        let by_selinux = |families: &BTreeMap<Family, HeldFamily>| -> Vec<Family> {
            families.iter().filter(|(_, held)| held.tier == Tier::SeLinux).map(|(family, _)| *family).collect()
        };
        assert_eq!(by_selinux(&matrix.families), [Family::Capabilities]);
        assert_eq!(by_selinux(&families_of_host(&matrix)), [], "users are of containers");
        let host = families_of_host(&matrix).remove(&Family::Capabilities).expect("of every family");
        assert_eq!(host, without_lsm().families[&Family::Capabilities]);
        let mut off = matrix.clone();
        without_selinux(&mut off, "it is not asked for");
        assert_eq!(off.families, without_lsm().families);
        let missing = CapabilityState::Missing("it is not asked for".to_owned());
        assert_eq!(off.capabilities[&Capability::SeLinux], missing);
        without_kill(&mut matrix, "the verifier");
        assert_eq!(by_selinux(&matrix.families), [Family::Ptrace, Family::Capabilities, Family::Presets]);
        assert!(whats(&matrix, Family::Presets).contains(&"preset:exec"), "no permission is about it");
        assert!(whats(&matrix, Family::Capabilities).contains(&"uses that are only audited"), "nothing sees them");
        without_selinux(&mut matrix, "no policy may be loaded");
        assert_eq!(by_selinux(&matrix.families), []);
        assert!(whats(&matrix, Family::Ptrace).contains(&"ptrace"));
    }

    #[test]
    fn unit_no_tier_claims_what_it_has_no_hook_for() {
        let mut matrix = everything();
        assert!(!whats(&matrix, Family::File).contains(&palisade_world::Gap::CHANGES), "an LSM sees them");
        assert!(whats(&matrix, Family::Process).contains(&"code that another program loads"));
        withdraw(&mut matrix, &[refusal("judge_create")], true);
        assert_eq!(matrix.families[&Family::File].tier, Tier::BpfLsm);
        assert!(whats(&matrix, Family::File).contains(&"creation by open(O_CREAT)"));
        let mut matrix = everything();
        withdraw(&mut matrix, &[refusal("judge_unlink"), refusal("judge_map")], true);
        assert!(whats(&matrix, Family::File).contains(&"an empty file remains"), "what is lost without it");
        assert!(whats(&matrix, Family::Process).contains(&"an empty file remains"));
        without_writes(&mut matrix, "the verifier");
        assert!(whats(&matrix, Family::File).contains(&"writes through descriptors that are open already"));
        let matrix = without_lsm();
        assert!(whats(&matrix, Family::File).contains(&palisade_world::Gap::CHANGES));
        assert!(whats(&matrix, Family::File).contains(&"readOnly"));
        assert!(whats(&matrix, Family::Network).contains(&"sockets that are neither IPv4 nor IPv6"));
        assert!(whats(&matrix, Family::Ptrace).iter().any(|what| what.contains("process_vm_writev")));
    }

    #[test]
    fn unit_sockets_of_other_domains_are_said_to_be_killed_for_only_where_something_kills() {
        let reason = |matrix: &KernelMatrix| {
            let gaps = matrix.families[&Family::Network].gaps.iter();
            gaps.filter(|gap| gap.what == OTHER_SOCKETS).map(|gap| gap.reason.clone()).collect::<Vec<_>>().concat()
        };
        let mut matrix = without_lsm();
        assert!(reason(&matrix).contains("killed"));
        without_kill(&mut matrix, "the verifier");
        assert!(!reason(&matrix).is_empty() && !reason(&matrix).contains("killed"));
        let mut matrix = without_lsm();
        matrix.capabilities.insert(Capability::SendSignal, CapabilityState::Missing("test".to_owned()));
        matrix.families = families(&matrix.capabilities);
        assert!(!reason(&matrix).is_empty() && !reason(&matrix).contains("killed"));
        assert!(reason(&everything()).is_empty(), "an LSM sees them all");
    }

    #[test]
    fn unit_without_the_unified_hierarchy_networks_say_plainly_what_is_missing() {
        let mut matrix = without_lsm();
        let missing = CapabilityState::Missing("no cgroup2 file system is mounted".to_owned());
        matrix.capabilities.insert(Capability::UnifiedCgroups, missing);
        matrix.families = families(&matrix.capabilities);
        for (family, what) in [(Family::Network, "network"), (Family::Dns, "matchDNSQueries")] {
            let held = &matrix.families[&family];
            assert_eq!((held.tier, held.gaps[0].what.as_str()), (Tier::Audit, what));
            assert!(held.gaps[0].reason.contains("no cgroup2 file system is mounted"), "{held:?}");
        }
    }

    #[test]
    fn unit_where_a_task_is_known_by_its_cgroup_alone_leaving_it_is_a_gap() {
        let mut matrix = without_lsm();
        by_cgroup_alone(&mut matrix);
        for family in [Family::Network, Family::Dns] {
            assert!(whats(&matrix, family).contains(&"tasks that left their cgroup"));
        }
        assert!(!whats(&matrix, Family::File).contains(&"tasks that left their cgroup"));
    }

    fn with(available: &[Capability]) -> BTreeMap<Family, HeldFamily> {
        families(&available.iter().map(|capability| (*capability, CapabilityState::Available)).collect())
    }

    #[test]
    fn unit_matrix_states_the_gaps_of_each_tier_that_holds_a_family() {
        let lsm = with(&[
            Capability::BpfLsm,
            Capability::KernelBtf,
            Capability::BtfTracepoints,
            Capability::SendSignal,
            Capability::CgroupPacket,
            Capability::UnifiedCgroups,
        ]);
        let weaker = with(&[
            Capability::FanotifyPermission,
            Capability::CgroupConnect,
            Capability::UnifiedCgroups,
            Capability::SendSignal,
            Capability::BtfTracepoints,
        ]);
        let tiers = |matrix: &BTreeMap<Family, HeldFamily>| matrix.values().map(|held| held.tier).collect::<Vec<_>>();
        assert_eq!(tiers(&lsm)[..5], [Tier::BpfLsm; 5]);
        assert_eq!(tiers(&lsm)[5..], [Tier::Audit, Tier::CgroupBpf, Tier::BpfLsm, Tier::Audit]);
        assert_eq!(tiers(&weaker)[..4], [Tier::Fanotify, Tier::Fanotify, Tier::CgroupBpf, Tier::Kill]);
        assert_eq!(tiers(&weaker)[4..], [Tier::Audit, Tier::Audit, Tier::Audit, Tier::Kill, Tier::Audit]);
        let says = |matrix: &BTreeMap<Family, HeldFamily>, family, word: &str| {
            assert!(matrix[&family].gaps.iter().any(|gap| gap.what.contains(word)), "{word}: {:?}", matrix[&family]);
        };
        says(&lsm, Family::Process, "code that another program loads");
        for word in ["hard links", "extended attributes", "open already"] {
            says(&lsm, Family::File, word);
        }
        for matrix in [&lsm, &weaker] {
            says(matrix, Family::Network, "raw");
            says(matrix, Family::Network, "MPTCP");
        }
        says(&weaker, Family::Ptrace, "process_vm_readv");
        assert!(lsm[&Family::Ptrace].gaps.is_empty());
    }
}
