//! Loading and attaching the observation programs (`bpf/probes*.bpf.c`, `bpf/dns.bpf.c`).
//!
//! Invariant: a program that this kernel refuses is left out and reported, with what is missing then, and the others work; only the
//! object that all calls pass through must load. Links are not pinned: without a reader, observation is waste, and what decides is
//! elsewhere.
//!
//! Decision: one program on the exit of system calls that hands on by tail calls, not a program for each group on the same
//! tracepoint. Being called is most of what an uninteresting call pays (`tests/bench`), and each further program would be called too.
//!
//! Decision: objects are loaded one after the other, for they make the maps that they share; their programs, which is the verifier's time, go
//! to it by a thread for each object.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfError, TestRun as _,
    maps::{MapData, MapError, ProgramArray},
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Lsm, Program, ProgramError, RawTracePoint,
        RawTracePointRunOptions,
    },
};

use crate::{
    KernelTypes,
    kernel_types::Constant,
    matrix, objects,
    observation::{Limits, ObservationMap},
    programs, pseudo_fs, sys,
};

/// Where a program belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the first of these BTF tracepoints that the kernel has.
    Tracepoint(&'static [&'static str]),
    /// `enum pal_call_group`: system calls are handed on to it.
    Call(u32),
    /// On the unified hierarchy's root: packets that leave.
    Egress,
    /// On the unified hierarchy's root: packets that come.
    Ingress,
    /// On this BTF tracepoint or, where the kernel has it not, another program of the object on this LSM hook.
    TracepointOrHook(&'static str, &'static str, &'static str),
    /// Run by this process.
    Driven,
}

/// One program.
#[derive(Debug, Clone, Copy)]
struct ProbeSpec {
    name: &'static str,
    place: Place,
    /// What the kernel must have; all need BTF and Linux 6.1.
    needs: &'static str,
    /// What is missing without it.
    without: &'static str,
}

const fn spec(name: &'static str, place: Place, needs: &'static str, without: &'static str) -> ProbeSpec {
    ProbeSpec { name, place, needs, without }
}

const CALLS: &str = "BTF tracepoints, and observe_call for what is handed on";

const PROBES: &[ProbeSpec] = &[
    // Before what asks for it.
    spec(
        "note_script",
        Place::TracepointOrHook("sched_prepare_exec", "note_interpreter", "bprm_check_security"),
        "the tracepoint sched_prepare_exec (6.10) or BPF LSM, and addresses in /proc/kallsyms",
        "which file a script is: its executions show what the caller called it",
    ),
    spec(
        "observe_exec",
        Place::Tracepoint(&["sched_process_exec"]),
        "BTF tracepoints",
        "executions; chains of processes name none",
    ),
    spec("observe_fork", Place::Tracepoint(&["sched_process_fork"]), "BTF tracepoints", "forks; chains are short"),
    spec("observe_exit", Place::Tracepoint(&["sched_process_exit"]), "BTF tracepoints", "exits"),
    spec("observe_every_call", Place::Call(18), CALLS, "records of every system call"),
    spec(
        "sweep_folds",
        Place::Driven,
        "BPF_PROG_TEST_RUN of raw tracepoints (5.10)",
        "counts of the last folded records",
    ),
    // Last: calls are handed on only once their programs are there.
    spec("observe_call", Place::Tracepoint(&["sys_exit"]), "BTF tracepoints", "everything that is a system call"),
];
const FILE: &[ProbeSpec] = &[
    spec("observe_open", Place::Call(1), CALLS, "opens, and files that opens made"),
    spec("observe_file_change", Place::Call(5), CALLS, "changes of names, modes, owners and sizes"),
    spec("observe_memfd", Place::Call(6), CALLS, "files without a name"),
];
const NETWORK: &[ProbeSpec] = &[
    spec("observe_socket", Place::Call(2), CALLS, "creation of sockets"),
    spec("observe_connect", Place::Call(3), CALLS, "connections that are asked for"),
    spec("observe_bind", Place::Call(7), CALLS, "addresses that sockets listen at"),
    spec("observe_accept", Place::Call(8), CALLS, "connections that are accepted"),
    spec("observe_send", Place::Call(9), CALLS, "destinations of datagrams"),
];
const PROCESS: &[ProbeSpec] = &[
    spec("observe_ptrace", Place::Call(4), CALLS, "tracing"),
    spec("observe_process_access", Place::Call(10), CALLS, "access to other processes' memory"),
    spec("observe_signal_call", Place::Call(11), CALLS, "signals that could not be sent"),
    spec(
        "observe_signal",
        Place::Tracepoint(&["signal_generate"]),
        "BTF tracepoints, bpf_task_pt_regs (5.15)",
        "signals that are sent",
    ),
    spec("observe_credentials", Place::Call(12), CALLS, "ids and capabilities that are set"),
    spec(
        "observe_capability",
        Place::Tracepoint(&["cap_capable"]),
        "the tracepoint cap_capable (6.14)",
        "uses of capabilities: visibility of capabilities shows none",
    ),
    spec("observe_namespace", Place::Call(13), CALLS, "new namespaces"),
];
const KERNEL: &[ProbeSpec] = &[
    spec("observe_mount", Place::Call(14), CALLS, "changes of the mount table"),
    spec("observe_module_call", Place::Call(15), CALLS, "calls that load or take away modules"),
    spec(
        "observe_module",
        Place::Tracepoint(&["module_load"]),
        "a kernel with modules",
        "names of modules that are loaded from memory",
    ),
    spec("observe_bpf", Place::Call(16), CALLS, "bpf(2)"),
    spec("observe_io_uring", Place::Call(17), CALLS, "rings that are set up"),
    spec(
        "observe_request",
        Place::Tracepoint(&["io_uring_submit_req", "io_uring_submit_sqe"]),
        "io_uring",
        "requests of rings",
    ),
];
const DNS: &[ProbeSpec] = &[
    spec("observe_dns_question", Place::Egress, "the unified cgroup hierarchy", "DNS questions"),
    spec("observe_dns_answer", Place::Ingress, "the unified cgroup hierarchy", "DNS answers"),
];

/// The objects beside the first, with their names.
const OTHERS: &[(&str, &[u8], &[ProbeSpec])] = &[
    ("probes_file", palisade_bpf::PROBES_FILE, FILE),
    ("probes_network", palisade_bpf::PROBES_NETWORK, NETWORK),
    ("probes_process", palisade_bpf::PROBES_PROCESS, PROCESS),
    ("probes_kernel", palisade_bpf::PROBES_KERNEL, KERNEL),
    ("dns", palisade_bpf::DNS, DNS),
];

/// Why no probe at all can be had.
#[derive(Debug, thiserror::Error)]
pub enum ProbesError {
    /// The kernel does not describe its own types: `CONFIG_DEBUG_INFO_BTF` is off.
    #[error("BTF of the kernel: {0}")]
    Btf(#[from] aya::BtfError),
    /// The pin directory cannot be made: is a BPF file system mounted there?
    #[error("{path}: {source}", path = path.display())]
    PinRoot {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The object itself is refused.
    #[error("object: {0}")]
    Object(#[from] Box<EbpfError>),
    /// The table by which calls are handed on cannot be had.
    #[error("calls: {0}")]
    Calls(#[from] Box<MapError>),
    /// Loading was given up.
    #[error(transparent)]
    ToldToStop(#[from] sys::ToldToStop),
    /// The limits cannot be put in force.
    #[error("limits: {0}")]
    Limits(#[source] io::Error),
}

/// A program that this kernel refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedProbe {
    /// Its name.
    pub program: &'static str,
    /// What it needs.
    pub needs: &'static str,
    /// What is not seen without it.
    pub without: &'static str,
    /// What the kernel or its verifier said.
    pub reason: String,
}

/// The attached probes; dropping it detaches them.
pub struct Probes {
    /// The first is the one that calls pass through; never empty.
    objects: Vec<Ebpf>,
    refused: Vec<RefusedProbe>,
    /// The kernel empties the table when the last descriptor of it is closed, whoever else refers to it.
    _calls: ProgramArray<MapData>,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").field("refused", &self.refused).finish_non_exhaustive()
    }
}

/// The programs that do nothing, and the types of this kernel to load one of them by.
fn load_idle() -> Result<(Arc<KernelTypes>, Ebpf), Box<dyn std::error::Error>> {
    let btf = KernelTypes::shared()?;
    let object = btf.load(palisade_bpf::IDLE, None, &[])?;
    Ok((btf, object))
}

impl Probes {
    /// Loads the objects with their shared maps below `pin_root`, puts limits in force, and attaches what the kernel takes.
    ///
    /// # Errors
    /// See [`ProbesError`].
    pub fn attach(pin_root: &Path, limits: Limits) -> Result<Self, ProbesError> {
        let held = sys::SignalsHeld::new();
        let btf = KernelTypes::shared()?;
        let file_release = programs::file_release();
        let mut first = load_with(palisade_bpf::PROBES, pin_root, &btf, file_release.as_ref().ok().copied())?;
        let observation = ObservationMap::open(&pin_root.join("observation")).map_err(ProbesError::Limits)?;
        observation.limit(limits).map_err(ProbesError::Limits)?;
        let calls = first.take_map("calls").ok_or_else(|| Box::new(MapError::InvalidName { name: "calls".into() }))?;
        let loading = Loading { calls: Mutex::new(ProgramArray::try_from(calls).map_err(Box::new)?), btf };
        let (mut objects, mut refused) = (Vec::with_capacity(OTHERS.len() + 1), Vec::new());
        for (name, bytes, specs) in OTHERS {
            held.go_on()?;
            match load(bytes, pin_root, &loading.btf) {
                Ok(object) => objects.push((object, *specs)),
                Err(error) => {
                    let reason = format!("object {name}: {}", objects::chain(&error));
                    refused.extend(specs.iter().map(|spec| refused_for(spec, reason.clone())));
                }
            }
        }
        held.go_on()?;
        refused.extend(loading.place_beside(&mut objects));
        held.go_on()?;
        refused.extend(loading.place_all(&mut first, PROBES));
        refused.extend(file_release.err().and_then(|reason| blind_to_scripts(&refused, reason)));
        let objects = std::iter::once(first).chain(objects.into_iter().map(|(object, _)| object)).collect();
        let calls = loading.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        for refused in &refused {
            tracing::warn!(
                program = refused.program,
                needs = refused.needs,
                not_seen = refused.without,
                reason = refused.reason,
                "this kernel refuses a probe"
            );
        }
        Ok(Self { objects, refused, _calls: calls })
    }

    /// Attaches a program that does nothing to the exit of system calls: for measuring what being called costs.
    ///
    /// # Errors
    /// What loading or attaching says.
    pub fn attach_idle() -> Result<Ebpf, Box<dyn std::error::Error>> {
        let (btf, mut object) = load_idle()?;
        let program: &mut BtfTracePoint = object.program_mut("observe_call").ok_or("observe_call")?.try_into()?;
        program.load("sys_exit", &btf)?;
        program.attach()?;
        Ok(object)
    }

    /// Attaches a program that does nothing to the LSM hook of opens, until what is returned is dropped: for measuring what being
    /// called costs.
    ///
    /// # Errors
    /// What loading or attaching says.
    pub fn attach_idle_open() -> Result<Ebpf, Box<dyn std::error::Error>> {
        let (btf, mut object) = load_idle()?;
        let program: &mut Lsm = object.program_mut("idle_open").ok_or("idle_open")?.try_into()?;
        program.load("file_open", &btf)?;
        program.attach()?;
        Ok(object)
    }

    /// Programs that this kernel refused: their kinds of record will not come.
    #[must_use]
    pub fn refused(&self) -> &[RefusedProbe] {
        &self.refused
    }

    /// Each loaded program's name, and how many instructions the verifier processed for it (0 where the kernel does not tell).
    pub fn verified_instructions(&self) -> impl Iterator<Item = (String, u32)> {
        let programs = self.objects.iter().flat_map(Ebpf::programs);
        programs.filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name.to_owned(), info.verified_instruction_count().unwrap_or(0)))
        })
    }

    /// Sends the counts of what was folded onto records that are this old or older.
    ///
    /// # Errors
    /// The kernel does not run the program, or refused it.
    pub fn sweep_folds(&self, age: Duration) -> Result<(), ProgramError> {
        let program = self.objects.first().and_then(|object| object.program("sweep_folds"));
        let Some(Program::RawTracePoint(program)) = program else { return Err(ProgramError::NotLoaded) };
        let mut options = RawTracePointRunOptions::new();
        // Those of this very nanosecond too.
        options.args[0] = u64::try_from(sys::boot_time().saturating_sub(age).as_nanos()).unwrap_or(u64::MAX) + 1;
        program.test_run(options).map(|_| ())
    }
}

/// What of observation this kernel refuses: all of it is attached for a moment, below a pin root of its own that goes with it.
///
/// # Errors
/// See [`ProbesError`]: then nothing is observed at all.
pub fn refused_here() -> Result<Vec<RefusedProbe>, ProbesError> {
    for file_system in [pseudo_fs::BPF, pseudo_fs::TRACE] {
        // Where it cannot be mounted, loading says what is missing.
        let _mounted = pseudo_fs::ensure(file_system);
    }
    let pins = PathBuf::from(format!("/sys/fs/bpf/palisade-try-{}-{}", std::process::id(), sys::thread_id()));
    let refused = Probes::attach(&pins, Limits::NONE).map(|probes| probes.refused);
    if let Err(error) = crate::unload(&pins) {
        tracing::warn!(path = %pins.display(), %error, "pins that were made for a test stay");
    }
    refused
}

/// All probes as refused, where none can be had: what is not seen then is everything.
#[must_use]
pub fn all_refused(error: &ProbesError) -> Vec<RefusedProbe> {
    let all = PROBES.iter().chain(OTHERS.iter().flat_map(|(_, _, specs)| specs.iter()));
    all.map(|spec| refused_for(spec, objects::chain(error))).collect()
}

/// Shared by those who read the records that it makes.
pub type SharedProbes = Arc<Probes>;

fn load(object: &[u8], pin_root: &Path, btf: &KernelTypes) -> Result<Ebpf, ProbesError> {
    load_with(object, pin_root, btf, None)
}

/// `file_release`: where the kernel frees files, which scripts are found by; where it does not show that, they are not.
fn load_with(
    object: &[u8],
    pin_root: &Path,
    btf: &KernelTypes,
    file_release: Option<u64>,
) -> Result<Ebpf, ProbesError> {
    std::fs::create_dir_all(pin_root)
        .map_err(|source| ProbesError::PinRoot { path: pin_root.to_path_buf(), source })?;
    let constants = [Constant::Long("pal_file_release", file_release.unwrap_or(0))];
    Ok(btf.load(object, Some(pin_root), &constants).map_err(Box::new)?)
}

fn refused_for(spec: &ProbeSpec, reason: String) -> RefusedProbe {
    RefusedProbe { program: spec.name, needs: spec.needs, without: spec.without, reason }
}

/// The program that notes scripts, where it was taken and finds none.
fn blind_to_scripts(refused: &[RefusedProbe], reason: String) -> Option<RefusedProbe> {
    let spec = PROBES.iter().find(|spec| spec.name == "note_script")?;
    let is_taken = refused.iter().all(|refused| refused.program != spec.name);
    is_taken.then(|| refused_for(spec, reason))
}

struct Loading {
    calls: Mutex<ProgramArray<MapData>>,
    btf: Arc<KernelTypes>,
}

impl Loading {
    /// Each object by a thread of its own; what was refused, in the objects' order.
    fn place_beside(&self, objects: &mut [(Ebpf, &[ProbeSpec])]) -> Vec<RefusedProbe> {
        thread::scope(|scope| {
            let placing: Vec<_> =
                objects.iter_mut().map(|(object, specs)| scope.spawn(|| self.place_all(object, specs))).collect();
            let placed =
                placing.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            placed.flatten().collect()
        })
    }

    fn place_all(&self, object: &mut Ebpf, specs: &[ProbeSpec]) -> Vec<RefusedProbe> {
        let mut refuse = |spec| self.place(object, spec).err().map(|reason| refused_for(spec, reason));
        specs.iter().filter_map(&mut refuse).collect()
    }

    fn place(&self, object: &mut Ebpf, spec: &ProbeSpec) -> Result<(), String> {
        if let Place::TracepointOrHook(tracepoint, instead, hook) = spec.place {
            let found = object.program_mut(spec.name).ok_or("not in the object")?;
            let Err(reason) = attach_first(found, &[tracepoint], &self.btf) else { return Ok(()) };
            let other = object.program_mut(instead).ok_or("not in the object")?;
            return attach_hook(other, hook, &self.btf).map_err(|hook| format!("{reason}; {hook}"));
        }
        let found = object.program_mut(spec.name).ok_or("not in the object")?;
        let explain = |error: ProgramError| objects::explain(&error);
        match spec.place {
            Place::Tracepoint(tracepoints) => attach_first(found, tracepoints, &self.btf),
            Place::TracepointOrHook(..) => Err("placed above".to_owned()),
            Place::Call(group) => {
                let program: &mut BtfTracePoint = found.try_into().map_err(explain)?;
                program.load("sys_exit", &self.btf).map_err(explain)?;
                let fd = program.fd().map_err(explain)?;
                let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
                calls.set(group, fd, 0).map_err(|error| objects::chain(&error))
            }
            Place::Egress => attach_packets(found, CgroupSkbAttachType::Egress),
            Place::Ingress => attach_packets(found, CgroupSkbAttachType::Ingress),
            Place::Driven => {
                let program: &mut RawTracePoint = found.try_into().map_err(explain)?;
                program.load().map_err(explain)
            }
        }
    }
}

/// The name of a tracepoint is another one in another version of the kernel.
fn attach_first(program: &mut Program, tracepoints: &[&str], btf: &Btf) -> Result<(), String> {
    let program: &mut BtfTracePoint = program.try_into().map_err(|error| objects::explain(&error))?;
    let mut reason = "no tracepoint".to_owned();
    for tracepoint in tracepoints {
        match program.load(tracepoint, btf) {
            Ok(()) => return program.attach().map(|_| ()).map_err(|error| objects::explain(&error)),
            Err(error) => reason = objects::explain(&error),
        }
    }
    Err(reason)
}

/// Where `bpf` is not among the active LSMs the program would be taken, and never run.
fn attach_hook(program: &mut Program, hook: &str, btf: &Btf) -> Result<(), String> {
    if !matrix::active_lsms().iter().any(|lsm| lsm == "bpf") {
        return Err("bpf is not among the active LSMs".to_owned());
    }
    let program: &mut Lsm = program.try_into().map_err(|error| objects::explain(&error))?;
    program.load(hook, btf).map_err(|error| objects::explain(&error))?;
    program.attach().map(|_| ()).map_err(|error| objects::explain(&error))
}

fn attach_packets(program: &mut Program, direction: CgroupSkbAttachType) -> Result<(), String> {
    let program: &mut CgroupSkb = program.try_into().map_err(|error| objects::explain(&error))?;
    let root = pseudo_fs::unified_cgroups().map_err(|error| error.to_string())?;
    let root = root.ok_or("the unified cgroup hierarchy is not mounted")?;
    let directory = File::open(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    program.load().map_err(|error| objects::explain(&error))?;
    program.attach(directory, direction, CgroupAttachMode::Single).map_err(|error| objects::explain(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_probe_of_scripts_is_said_to_be_refused_once_where_the_kernel_hides_addresses() {
        let blind = blind_to_scripts(&[], "kptr_restrict".to_owned()).expect("it finds nothing");
        assert_eq!((blind.program, blind.reason.as_str()), ("note_script", "kptr_restrict"));
        assert!(blind.without.contains("script"));
        assert_eq!(blind_to_scripts(&[blind], "kptr_restrict".to_owned()), None, "it was refused already");
    }
}
