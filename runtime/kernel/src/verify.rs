//! What the verifier says of every program that decides, on the kernel at hand: nothing is attached.
//!
//! Constants are what a node would set here, or what lets most of a program be looked at: behind a switch that is off the verifier does
//! not look.
//!
//! What is loaded already says itself what was processed for it ([`loaded`]), and is not verified another time.
//!
//! Not here: the probes, whose own module counts those that are attached ([`crate::probes::Probes::verified_instructions`]).

use std::{fs, io, path::Path};

use aya::{
    Ebpf,
    programs::{BtfTracePoint, Program, ProgramError, ProgramInfo, loaded_programs},
};

use crate::{
    KernelTypes, cgroup,
    kernel_types::{self, Constant},
    objects::{
        self, ARGUMENTS_ALONE, Hook, IDENTITY, LEARN, ObjectError, ObjectSpec, PinRoot, ProgramSpec, chain, explain,
    },
    programs,
};

/// A program, and the instructions that the verifier processed for it, or what it said.
pub type Verified = (&'static str, Result<u32, String>);

/// Bytes of a program's name that the kernel keeps.
const NAME_BYTES: usize = 15;

/// A program that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the kernel keeps of its name.
    pub name: String,
    /// Instructions that the verifier processed for it; 0 where the kernel does not tell.
    pub verified: u32,
}

impl Loaded {
    /// Whether this is a program of that name, or of one that begins alike.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_bytes() == name.as_bytes().get(..NAME_BYTES).unwrap_or(name.as_bytes())
    }
}

/// Every program that the kernel has, whoever loaded it.
///
/// # Errors
/// What the kernel says.
pub fn loaded() -> Result<Vec<Loaded>, ProgramError> {
    let described = |program: Result<ProgramInfo, ProgramError>| {
        let program = program?;
        let name = String::from_utf8_lossy(program.name()).into_owned();
        Ok(Loaded { name, verified: program.verified_instruction_count().unwrap_or(0) })
    };
    loaded_programs().filter(|program| !is_gone(program)).map(described).collect()
}

/// Between its number and its descriptor a program may go.
fn is_gone(program: &Result<ProgramInfo, ProgramError>) -> bool {
    matches!(program, Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound)
}

/// Programs of `kill.bpf.c` and `syscalls.bpf.c`, and their tracepoints.
const KILL: &[(&str, &str)] = &[
    ("kill_tracer", "sys_enter"),
    ("kill_after_call", "sys_exit"),
    ("kill_exec", "sched_process_exec"),
    ("kill_entering", "sched_prepare_exec"),
    ("kill_fileless", "sched_process_exec"),
    ("audit_host_exec", "sched_prepare_exec"),
    ("audit_host_script", "sched_prepare_exec"),
    ("audit_capability", "cap_capable"),
];
const SYSCALLS: &[(&str, &str)] = &[("audit_call", "sys_enter")];

/// Lets the verifier have every program of every deciding object, and gives what it said. Those whose tracepoint this kernel does not have
/// are left out, and those that are among the `loaded`.
///
/// # Errors
/// Where an object as a whole is refused.
pub fn verify(root: &Path, loaded: &[Loaded]) -> Result<Vec<Verified>, ObjectError> {
    let refused =
        |name: &'static str, error: &dyn std::error::Error| ObjectError::Refused { object: name, reason: chain(error) };
    let pins = PinRoot::create(root)?;
    let types = KernelTypes::shared().map_err(|error| refused("BTF", &error))?;
    let described = fs::read("/sys/kernel/btf/vmlinux").map_err(|error| refused("BTF", &error))?;
    let tells = |tracepoint: &str| {
        let name = format!("\0btf_trace_{tracepoint}\0");
        described.windows(name.len()).any(|window| window == name.as_bytes())
    };
    let constants = constants();
    let by_hook = [
        ObjectSpec { name: "identity", bytes: palisade_bpf::IDENTITY, programs: IDENTITY },
        ObjectSpec { name: "learn", bytes: palisade_bpf::LEARN, programs: LEARN },
        ObjectSpec { name: "guard", bytes: palisade_bpf::LSM_GUARD, programs: &[objects::ENTER_GUARD] },
        ObjectSpec { name: "arguments", bytes: palisade_bpf::ARGUMENTS, programs: ARGUMENTS_ALONE },
    ];
    let is_left = |name: &str| !loaded.iter().any(|loaded| loaded.is_named(name));
    let is_there = |spec: &&ProgramSpec| {
        let tracepoint = if let Hook::BtfTracepoint(tracepoint) = spec.hook { Some(tracepoint) } else { None };
        is_left(spec.name) && objects::is_wanted(spec, &types) && tracepoint.is_none_or(tells)
    };
    let load = |ObjectSpec { name, bytes, programs }: ObjectSpec| {
        Ok((objects::load(name, bytes, &types, &pins, &constants)?, programs))
    };
    let all = by_hook.into_iter().chain(objects::on_hooks().copied());
    let left = all.filter(|object| object.programs.iter().any(|spec| is_there(&spec)));
    let made = left.map(load).collect::<Result<Vec<_>, ObjectError>>()?;
    let verified = objects::at_once(made, |(mut object, programs)| {
        let mut verify = |spec: &ProgramSpec| {
            let loaded = objects::load_program(&mut object, spec, &types);
            (spec.name, loaded.and_then(|()| counted(&object, spec.name)))
        };
        programs.iter().filter(is_there).map(&mut verify).collect::<Vec<_>>()
    });
    let mut counts: Vec<Verified> = verified.into_iter().flatten().collect();
    for (name, bytes, programs) in [("kill", palisade_bpf::KILL, KILL), ("syscalls", palisade_bpf::SYSCALLS, SYSCALLS)]
    {
        let mut object = objects::load(name, bytes, &types, &pins, &constants)?;
        for (program, tracepoint) in
            programs.iter().filter(|(program, tracepoint)| is_left(program) && tells(tracepoint))
        {
            let loaded = load_tracepoint(&mut object, program, tracepoint, &types);
            counts.push((program, loaded.and_then(|()| counted(&object, program))));
        }
    }
    let left: Vec<_> = cgroup::PROGRAMS.iter().copied().filter(|name| is_left(name)).collect();
    let (object, taken) = cgroup_programs(&left, &types, &pins, &constants)?;
    counts.extend(taken.into_iter().map(|(name, taken)| (name, taken.and_then(|()| counted(&object, name)))));
    Ok(counts)
}

fn constants() -> Vec<Constant> {
    let symbols = kernel_types::symbols();
    vec![
        Constant::Word("pal_cgroup_reports", 1),
        Constant::Word("pal_arguments_judged", 1),
        Constant::Word("pal_kill_families", u32::MAX),
        Constant::Word("pal_host_mnt_ns", programs::host_mount_namespace()),
        Constant::Long("pal_rename_lock", symbols.rename_lock.unwrap_or(1)),
        Constant::Long("pal_file_release", symbols.file_release.unwrap_or(1)),
    ]
}

type Taken = Vec<(&'static str, Result<(), String>)>;

/// With task storage where the kernel offers it to programs of cgroups, else without: as a node loads them.
fn cgroup_programs(
    names: &[&'static str],
    types: &KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
) -> Result<(Ebpf, Taken), ObjectError> {
    let load = |storage: u32| {
        let constants = [constants, &[Constant::Word("pal_cgroup_task_storage", storage)]].concat();
        let mut object = objects::load("cgroup", palisade_bpf::CGROUP, types, pins, &constants)?;
        let mut load = |name: &&'static str| {
            let program = object.program_mut(name).ok_or("not in the object")?;
            cgroup::load_program(program).map_err(|error| explain(&error))
        };
        let taken: Taken = names.iter().map(|name| (*name, load(name))).collect();
        Ok::<_, ObjectError>((object, taken))
    };
    let (object, taken) = load(1)?;
    if taken.iter().all(|(_, taken)| taken.is_ok()) { Ok((object, taken)) } else { load(0) }
}

fn load_tracepoint(object: &mut Ebpf, name: &str, tracepoint: &str, types: &KernelTypes) -> Result<(), String> {
    let program: Result<&mut BtfTracePoint, _> = match object.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => Ok(program),
        _ => Err("no such program at a tracepoint in the object"),
    };
    program?.load(tracepoint, types).map_err(|error| explain(&error))
}

fn counted(object: &Ebpf, name: &str) -> Result<u32, String> {
    let counts = objects::program_info(object, name).map_err(|error| explain(&error))?;
    counts.verified_instruction_count().ok_or_else(|| "the kernel does not count them".to_owned())
}
