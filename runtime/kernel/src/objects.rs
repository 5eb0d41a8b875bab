//! Loading the objects and attaching their programs, each link pinned.
//!
//! Invariant: a program that this kernel refuses is reported with the verifier's last lines and the others work. Maps are
//! shared by their pins below the pin root; links live in its `links` directory, so that policy stands while the runtime
//! restarts. A link that is there already is replaced by renaming the new pin over it: at no time is none attached. One that
//! this version did not attach is removed ([`PinRoot::remove_other_links`]), for whatever it decides nobody would know of.

use std::{
    fmt, fs, io,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError, ProgramInfo, links::FdLink},
};
use aya_obj::btf::BtfKind;

use crate::{
    KernelTypes,
    sys::{MapFd, MapShape},
};
pub use crate::{
    kernel_types::Constant,
    verify::{Loaded, Verified, loaded, verify},
};

/// Lines of the verifier's log that an error keeps: the refusal and what led to it.
const VERIFIER_LINES: usize = 12;

/// Where a program goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A BPF LSM hook.
    Lsm(&'static str),
    /// One that older kernels do not have, where another hook is asked in its place.
    LaterLsm(&'static str),
    /// A BTF-typed tracepoint.
    BtfTracepoint(&'static str),
    /// Nowhere: driven by test runs.
    Driven,
}

/// One program: what it needs, and what is lost without it.
#[derive(Debug, Clone, Copy)]
pub struct ProgramSpec {
    /// Its name in the object.
    pub name: &'static str,
    /// Where it goes.
    pub hook: Hook,
    /// The oldest kernel that takes it, and its configuration.
    pub needs: &'static str,
    /// What happens where it is refused.
    pub without: &'static str,
}

/// `identity.bpf.c`.
pub const IDENTITY: &[ProgramSpec] = &[
    ProgramSpec {
        name: "inherit_cgroup",
        hook: Hook::BtfTracepoint("cgroup_mkdir"),
        needs: "Linux 5.17, BTF",
        without: "a cgroup that a workload makes is not the workload's; its tasks keep their slot while they live",
    },
    ProgramSpec {
        name: "forget_cgroup",
        hook: Hook::BtfTracepoint("cgroup_rmdir"),
        needs: "Linux 5.17, BTF",
        without: "removed cgroups stay in the map until the slot is released",
    },
    ProgramSpec {
        name: "attach_task",
        hook: Hook::BtfTracepoint("cgroup_attach_task"),
        needs: "Linux 5.17, BTF",
        without: "the container runtime's own code is judged as the workload's",
    },
    ProgramSpec {
        name: "inherit_task",
        hook: Hook::BtfTracepoint("sched_process_fork"),
        needs: "Linux 5.17, BTF",
        without: "children are known by their cgroup alone",
    },
    ProgramSpec {
        name: "begin_image",
        hook: Hook::BtfTracepoint("sched_process_exec"),
        needs: "Linux 5.17, BTF",
        without: "a source rule may go by the executable before the last exec",
    },
];

/// An object, and which of its programs go where.
#[derive(Debug, Clone, Copy)]
pub struct ObjectSpec {
    /// As messages call it.
    pub name: &'static str,
    /// The ELF object.
    pub bytes: &'static [u8],
    /// Its programs.
    pub programs: &'static [ProgramSpec],
}

/// The decisions on LSM hooks: `lsm_*.bpf.c`, one for each family of rules and kind of act.
pub static LSM: [ObjectSpec; 8] = [
    ObjectSpec { name: "lsm_process", bytes: palisade_bpf::LSM_PROCESS, programs: LSM_PROCESS },
    ObjectSpec { name: "lsm_code", bytes: palisade_bpf::LSM_CODE, programs: LSM_CODE },
    ObjectSpec { name: "lsm_file", bytes: palisade_bpf::LSM_FILE, programs: LSM_FILE },
    ObjectSpec { name: "lsm_change", bytes: palisade_bpf::LSM_CHANGE, programs: LSM_CHANGE },
    ObjectSpec { name: "lsm_mount", bytes: palisade_bpf::LSM_MOUNT, programs: LSM_MOUNT },
    ObjectSpec { name: "lsm_network", bytes: palisade_bpf::LSM_NETWORK, programs: LSM_NETWORK },
    ObjectSpec { name: "lsm_task", bytes: palisade_bpf::LSM_TASK, programs: LSM_TASK },
    ObjectSpec { name: "lsm_preset", bytes: palisade_bpf::LSM_PRESET, programs: LSM_PRESET },
];

/// Attached only while some policy needs them ([`crate::writes`]).
pub static WRITES: ObjectSpec = ObjectSpec { name: "lsm_write", bytes: palisade_bpf::LSM_WRITE, programs: LSM_WRITE };

/// Palisade's protection of itself, attached before all others ([`crate::guard`]).
pub static GUARD: ObjectSpec = ObjectSpec { name: "lsm_guard", bytes: palisade_bpf::LSM_GUARD, programs: LSM_GUARD };

/// Every object with programs on LSM hooks.
pub fn on_hooks() -> impl Iterator<Item = &'static ObjectSpec> {
    LSM.iter().chain([&WRITES, &GUARD])
}

/// Of [`GUARD`], by which a node says who it is.
pub const ENTER_GUARD: ProgramSpec = ProgramSpec {
    name: "enter_guard",
    hook: Hook::Driven,
    needs: "Linux 5.17, BTF",
    without: "workloads are not kept from Palisade's own maps, links and process",
};

pub(crate) const LSM_GUARD: &[ProgramSpec] = &[
    lsm("guard_map", "bpf_map", "workloads with CAP_BPF may open Palisade's maps"),
    lsm("guard_program", "bpf_prog", "workloads with CAP_BPF may open Palisade's programs"),
    lsm("guard_link", "bpf", "workloads with CAP_SYS_ADMIN may open, replace and detach Palisade's links"),
    lsm("guard_signal", "task_kill", "workloads may send signals to the node"),
    lsm("guard_file_signal", "file_send_sigiotask", "workloads may have files send signals to the node"),
    lsm("guard_tracing", "ptrace_access_check", "workloads may trace the node"),
    lsm("guard_limits", "task_setrlimit", "workloads may limit the node's resources"),
    lsm("guard_scheduler", "task_setscheduler", "workloads may change how the node is scheduled"),
    lsm("guard_nice", "task_setnice", "workloads may change the node's priority"),
    lsm("guard_io_priority", "task_setioprio", "workloads may change the node's priority of input and output"),
    lsm("guard_memory", "task_movememory", "workloads may move the node's memory"),
    lsm("guard_remount", "sb_remount", "workloads may make the pins' file system read-only"),
];

const LSM_PROCESS: &[ProgramSpec] = &[lsm("judge_exec", "bprm_check_security", "execution falls to the next tier")];

const LSM_CODE: &[ProgramSpec] = &[
    lsm("judge_map", "mmap_file", "code that another program loads is not judged"),
    lsm("judge_protection", "file_mprotect", "code that is mapped first and made executable later is not judged"),
];

const LSM_CHANGE: &[ProgramSpec] = &[
    lsm("judge_unlink", "path_unlink", "unlink(2) is not judged"),
    lsm("judge_rmdir", "path_rmdir", "rmdir(2) is not judged"),
    lsm("judge_mkdir", "path_mkdir", "mkdir(2) is not judged"),
    lsm("judge_symlink", "path_symlink", "symlink(2) is not judged"),
    lsm("judge_link", "path_link", "link(2) is not judged"),
    lsm("judge_rename", "path_rename", "rename(2) is not judged"),
    lsm("judge_chmod", "path_chmod", "chmod(2) is not judged"),
    lsm("judge_chown", "path_chown", "chown(2) is not judged"),
    lsm("judge_truncate", "path_truncate", "truncate(2) is not judged"),
    later_lsm("judge_file_truncate", "file_truncate", "ftruncate(2) is not judged"),
    lsm("judge_set_attribute", "inode_setxattr", "setxattr(2) is not judged"),
    lsm("judge_remove_attribute", "inode_removexattr", "removexattr(2) is not judged"),
    later_lsm("judge_set_acl", "inode_set_acl", "setxattr(2) of access lists is not judged"),
    later_lsm("judge_remove_acl", "inode_remove_acl", "removexattr(2) of access lists is not judged"),
];

const LSM_MOUNT: &[ProgramSpec] = &[
    lsm("judge_mount", "sb_mount", "mount(2) is not judged"),
    lsm("judge_move_mount", "move_mount", "move_mount(2) is not judged"),
    lsm("judge_pivot_root", "sb_pivotroot", "pivot_root(2) is not judged"),
    lsm("judge_umount", "sb_umount", "umount(2) is not judged"),
];

const LSM_WRITE: &[ProgramSpec] = &[
    lsm("judge_write", "file_permission", "writes through descriptors that were open already are not judged"),
    lsm("judge_map_write", "mmap_file", "shared mappings of descriptors that were open already are not judged"),
    lsm("judge_protect_write", "file_mprotect", "shared mappings that are made writable later are not judged"),
];

const LSM_FILE: &[ProgramSpec] = &[
    lsm("judge_open", "file_open", "files, and the presets protectEnv and protectProc, fall to the next tier"),
    lsm("judge_create", "path_mknod", "a file whose creation is denied is made, empty, and not opened"),
    lsm("judge_receive", "file_receive", "descriptors that are passed in are not judged"),
];

const LSM_NETWORK: &[ProgramSpec] = &[
    lsm("judge_socket", "socket_create", "sockets fall to the cgroup programs"),
    lsm("judge_connect", "socket_connect", "destinations fall to the cgroup programs"),
];

const LSM_TASK: &[ProgramSpec] = &[
    lsm("judge_trace", "ptrace_access_check", "tracing is not denied"),
    lsm("judge_traceme", "ptrace_traceme", "being traced by request is not denied"),
    lsm("judge_capability", "capable", "the use of capabilities is not denied"),
];

const LSM_PRESET: &[ProgramSpec] = &[
    lsm("protect_exec", "bprm_check_security", "the presets filelessExec and exec fall to the next tier"),
    lsm("protect_map", "mmap_file", "the preset anonMapExec falls to the next tier"),
    lsm("protect_protection", "file_mprotect", "the preset anonMapExec misses memory that is made executable later"),
];

/// `arguments.bpf.c`, on every kernel.
pub const ARGUMENTS: &[ProgramSpec] = &[JUDGE_ARGUMENTS];

/// `arguments.bpf.c` where no LSM program sees the old image.
pub const ARGUMENTS_ALONE: &[ProgramSpec] = &[
    JUDGE_ARGUMENTS,
    ProgramSpec {
        name: "ask_arguments",
        hook: Hook::BtfTracepoint("sched_prepare_exec"),
        needs: "Linux 6.10, BTF",
        without: "rules with allowedArgs are judged by the new image alone: by what source is not known for sure",
    },
];

const JUDGE_ARGUMENTS: ProgramSpec = ProgramSpec {
    name: "judge_arguments",
    hook: Hook::BtfTracepoint("sched_process_exec"),
    needs: "Linux 5.17, BTF",
    without: "rules with allowedArgs take the fail mode",
};

/// `learn.bpf.c`.
pub const LEARN: &[ProgramSpec] = &[ProgramSpec {
    name: "learn_mount",
    hook: Hook::Driven,
    needs: "Linux 5.17, BTF",
    without: "paths are named by the climb alone",
}];

const fn lsm(name: &'static str, hook: &'static str, without: &'static str) -> ProgramSpec {
    ProgramSpec { name, hook: Hook::Lsm(hook), needs: "Linux 5.17, CONFIG_BPF_LSM, bpf among the active LSMs", without }
}

const fn later_lsm(name: &'static str, hook: &'static str, without: &'static str) -> ProgramSpec {
    ProgramSpec {
        name,
        hook: Hook::LaterLsm(hook),
        needs: "Linux 6.2, CONFIG_BPF_LSM, bpf among the active LSMs",
        without,
    }
}

/// A program that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub program: &'static str,
    /// What it needs.
    pub needs: &'static str,
    /// What is lost.
    pub without: &'static str,
    /// What the kernel said, with the verifier's last lines.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (needs {}): {}; {}", self.program, self.needs, self.reason, self.without)
    }
}

/// Why an object cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// aya or the kernel refused the object or its maps.
    #[error("object {object}: {reason}")]
    Refused {
        /// Which object.
        object: &'static str,
        /// What was said.
        reason: String,
    },
    /// The pins cannot be made or read.
    #[error("{path}: {source}", path = path.display())]
    Pins {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Loading was given up.
    #[error(transparent)]
    ToldToStop(#[from] crate::sys::ToldToStop),
    /// A pin is of another version of Palisade.
    #[error("{path} is {found:?}, this version has {wanted:?}: run `palisade unload` first", path = path.display())]
    OtherVersion {
        /// Which.
        path: PathBuf,
        /// What is pinned.
        found: MapSizes,
        /// What this version makes.
        wanted: MapSizes,
    },
}

/// Bytes of a map's key and value, and how many it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSizes {
    /// Of a key.
    pub key: u32,
    /// Of a value.
    pub value: u32,
    /// At most; 0 where storage belongs to tasks.
    pub entries: u32,
}

/// All programs of an object that could not be used.
pub(crate) fn refuse_all(programs: &'static [ProgramSpec], reason: &dyn fmt::Display) -> Vec<Refusal> {
    let refuse = |spec: &ProgramSpec| Refusal {
        program: spec.name,
        needs: spec.needs,
        without: spec.without,
        reason: reason.to_string(),
    };
    programs.iter().map(refuse).collect()
}

/// A loaded object with the programs that this kernel took.
#[derive(Debug)]
pub struct LoadedObject {
    /// The object; its programs stay loaded while it lives.
    pub object: Ebpf,
    /// Programs whose links are pinned.
    pub attached: Vec<&'static str>,
    /// What it refused.
    pub refused: Vec<Refusal>,
}

/// Where pins go.
#[derive(Debug, Clone)]
pub struct PinRoot(PathBuf);

impl PinRoot {
    /// Makes the directories.
    ///
    /// # Errors
    /// Where they cannot be made: is a BPF file system mounted there?
    pub fn create(root: &Path) -> Result<Self, ObjectError> {
        let pins = Self(root.to_path_buf());
        fs::create_dir_all(pins.links()).map_err(|source| ObjectError::Pins { path: pins.links(), source })?;
        Ok(pins)
    }

    /// A map's pin.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory itself, where maps are pinned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.0.join("links")
    }

    /// Removes the links of programs that are not among these: an earlier version had them, and this one does not, or this
    /// kernel refuses what they have become.
    ///
    /// # Errors
    /// Those that cannot be removed go on deciding.
    pub(crate) fn remove_other_links(&self, attached: &[&str]) -> Result<(), ObjectError> {
        let links = self.links();
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ObjectError::Pins { path, source }
        };
        for link in pins_but(&links, attached).map_err(failed(&links))? {
            tracing::info!(link = %link.display(), "a program of an earlier version is taken away");
            remove_if_there(&link).map_err(failed(&link))?;
        }
        Ok(())
    }

    /// Opens a pinned map.
    pub(crate) fn open(&self, name: &str) -> Result<MapFd, ObjectError> {
        MapFd::open(&self.map(name)).map_err(|source| ObjectError::Pins { path: self.map(name), source })
    }

    /// Refuses pins of another layout: programs would read what is not there.
    pub(crate) fn check(&self, name: &str, wanted: MapSizes) -> Result<(), ObjectError> {
        let path = self.map(name);
        if !path.exists() {
            return Ok(());
        }
        let MapShape { key, value, entries, .. } = self.open(name)?.shape();
        let found = MapSizes { key, value, entries };
        if found == wanted { Ok(()) } else { Err(ObjectError::OtherVersion { path, found, wanted }) }
    }
}

/// Loads an object: maps made or found by their pins, constants set, nothing attached.
///
/// # Errors
/// Where the object as a whole is refused.
pub fn load(
    name: &'static str,
    bytes: &[u8],
    btf: &KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
) -> Result<Ebpf, ObjectError> {
    btf.load(bytes, Some(pins.path()), constants)
        .map_err(|error| ObjectError::Refused { object: name, reason: chain(&error) })
}

/// Loads an object and attaches its programs, links pinned. What the kernel refuses is in the result.
///
/// # Errors
/// Where the object as a whole is refused.
pub fn load_and_attach(
    name: &'static str,
    bytes: &[u8],
    programs: &'static [ProgramSpec],
    btf: &KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
) -> Result<LoadedObject, ObjectError> {
    Ok(attach_all(load(name, bytes, btf, pins, constants)?, programs, btf, pins))
}

/// Attaches the programs of an object, links pinned.
pub(crate) fn attach_all(
    object: Ebpf,
    programs: &'static [ProgramSpec],
    btf: &KernelTypes,
    pins: &PinRoot,
) -> LoadedObject {
    attach_all_in(object, programs, btf, &pins.links())
}

/// The same, links pinned in that directory.
pub(crate) fn attach_all_in(
    mut object: Ebpf,
    programs: &'static [ProgramSpec],
    btf: &KernelTypes,
    links: &Path,
) -> LoadedObject {
    let (mut attached, mut refused) = (Vec::new(), Vec::new());
    for spec in programs.iter().filter(|spec| is_wanted(spec, btf)) {
        let loaded = load_program(&mut object, spec, btf);
        match loaded.and_then(|()| attach_pinned_in(&mut object, spec, links)) {
            Ok(()) => attached.push(spec.name),
            Err(reason) => {
                let refusal = Refusal { program: spec.name, needs: spec.needs, without: spec.without, reason };
                tracing::warn!(%refusal, "this kernel refuses a program");
                refused.push(refusal);
            }
        }
    }
    LoadedObject { object, attached, refused }
}

/// Does something with each object on a thread of its own, and gives the results in their order. Nearly all of a node's start is the
/// verifier's work, which the kernel does for several programs at once.
pub(crate) fn at_once<T: Send, R: Send>(objects: Vec<T>, something: impl Fn(T) -> R + Sync) -> Vec<R> {
    let something = &something;
    thread::scope(|scope| {
        let begun: Vec<_> = objects.into_iter().map(|object| scope.spawn(move || something(object))).collect();
        let ended = begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect()
    })
}

/// Whether the kernel has the hook, where that is a question: another one is asked in its place.
#[must_use]
pub fn is_wanted(spec: &ProgramSpec, btf: &Btf) -> bool {
    let Hook::LaterLsm(hook) = spec.hook else { return true };
    btf.id_by_type_name_kind(&format!("bpf_lsm_{hook}"), BtfKind::Func).is_ok()
}

/// Lets the verifier have one program; the error is its last lines.
pub fn load_program(object: &mut Ebpf, spec: &ProgramSpec, btf: &Btf) -> Result<(), String> {
    let program = object.program_mut(spec.name).ok_or("not in the object")?;
    let loaded = match (program, spec.hook) {
        (Program::Lsm(program), Hook::Lsm(hook) | Hook::LaterLsm(hook)) => program.load(hook, btf),
        (Program::BtfTracePoint(program), Hook::BtfTracepoint(hook)) => program.load(hook, btf),
        (Program::RawTracePoint(program), Hook::Driven) => program.load(),
        _ => return Err("it is of another kind than its hook".to_owned()),
    };
    loaded.map_err(|error| explain(&error))
}

/// What the verifier says of a loaded program.
///
/// # Errors
/// Where it is not loaded.
pub fn program_info(object: &Ebpf, name: &str) -> Result<ProgramInfo, ProgramError> {
    match object.program(name).ok_or(ProgramError::NotLoaded)? {
        Program::Lsm(program) => program.info(),
        Program::BtfTracePoint(program) => program.info(),
        Program::RawTracePoint(program) => program.info(),
        Program::CgroupSockAddr(program) => program.info(),
        Program::CgroupSock(program) => program.info(),
        Program::CgroupSkb(program) => program.info(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Attaches it, its link pinned in that directory by its name: what was pinned there before goes once the new one is there.
pub(crate) fn attach_pinned_in(object: &mut Ebpf, spec: &ProgramSpec, links: &Path) -> Result<(), String> {
    let link: FdLink = match object.program_mut(spec.name).ok_or("not in the object")? {
        Program::Lsm(program) => {
            let id = program.attach().map_err(|error| explain(&error))?;
            program.take_link(id).map_err(|error| explain(&error))?.into()
        }
        Program::BtfTracePoint(program) => {
            let id = program.attach().map_err(|error| explain(&error))?;
            program.take_link(id).map_err(|error| explain(&error))?.into()
        }
        _ => return Ok(()),
    };
    replace_link(links, spec.name, |fresh| link.pin(fresh).map(drop).map_err(|error| chain(&error)))
}

/// Pins a program's link under its name. One that is there gives way to it at that moment: at no time is none attached.
pub(crate) fn replace_link(
    links: &Path,
    program: &str,
    pin: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let (lasting, fresh) = (links.join(program), links.join(format!("{program}_new")));
    remove_if_there(&fresh).map_err(|error| format!("pin {}: {error}", fresh.display()))?;
    pin(&fresh).map_err(|error| format!("pin {}: {error}", fresh.display()))?;
    fs::rename(&fresh, &lasting).map_err(|error| format!("pin {}: {error}", lasting.display()))
}

/// What is pinned in a directory under other names than these.
pub(crate) fn pins_but(directory: &Path, names: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| names.contains(&name)) {
            others.push(entry.path());
        }
    }
    Ok(others)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An error of aya in one line, with the end of the verifier's log where there is one.
pub(crate) fn explain(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return chain(error);
    };
    with_log(io_error, &verifier_log.to_string())
}

/// A kernel that refuses the kind of program has not verified anything: its log is empty. Newer ones end it with a count for each
/// function, which would hide what was refused.
pub(crate) fn with_log(io_error: &io::Error, log: &str) -> String {
    let counted = |line: &&str| line.starts_with("subprog ") && line.contains(" insns_total ");
    let lines: Vec<&str> = log.lines().filter(|line| !counted(line)).collect();
    match lines[lines.len().saturating_sub(VERIFIER_LINES)..].join(" | ").as_str() {
        "" => io_error.to_string(),
        last => format!("{io_error}; verifier: {last}"),
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_objects_quote_the_verifier_only_where_it_said_something() {
        let refused = |log: &str| with_log(&io::Error::from_raw_os_error(1), log);
        assert_eq!(refused(""), "Operation not permitted (os error 1)");
        assert_eq!(refused("0: bad\n1: worse\n"), "Operation not permitted (os error 1); verifier: 0: bad | 1: worse");
        let count = "subprog 52 (pal_judge_socket) static insns_self 0 insns_total 0 stack 0\n".repeat(VERIFIER_LINES);
        let said = refused(&format!("0: bad\n{count}"));
        assert_eq!(said, "Operation not permitted (os error 1); verifier: 0: bad");
    }
}
