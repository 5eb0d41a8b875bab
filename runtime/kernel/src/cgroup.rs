//! Network enforcement by programs on cgroups (`bpf/cgroup.bpf.c`): sockets, destinations and DNS questions, on every kernel.
//!
//! What judges DNS may be refused alone: packets are another kind of program, and the rest does not depend on it.
//!
//! Invariant: the programs of a family are attached while a policy in force, or one that is about to be, decides it, and not otherwise:
//! they are asked about everybody's sockets. Links are pinned below `<pin root>/cgroup/`, so that they hold while the runtime restarts;
//! attaching again replaces them without a moment in which none is there (new ones first, then the old ones go).
//!
//! Decision: one link for each program, on the root of the unified hierarchy, not links on each workload's cgroup, because those cost each
//! workload some kilobytes of kernel memory, leave out the host, and let go of whoever leaves the cgroup. What everybody pays for it is a
//! look at who decides anything, while somebody does.
//!
//! Decision: each program is attached with mode `Single`. That is the absence of flags: a link on a cgroup is always one of
//! many, and the kernel refuses link flags.
//!
//! Needs Linux 5.9 (links on cgroups, and their detaching).

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Ebpf, EbpfError,
    pin::PinError,
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};
use palisade_kernel_abi::blob::Family;

use crate::{KernelTypes, kernel_types::Constant, objects, pseudo_fs, sys};

/// The programs of the object.
pub const PROGRAMS: &[&str] =
    &["judge_connect4", "judge_connect6", "judge_sendmsg4", "judge_sendmsg6", "judge_sock_create", QUESTIONS];
/// Directories of pins below the pin root: ours, and one that earlier versions had beside it.
const PINS: &str = "cgroup";
const EARLIER_PINS: &str = "cgroup_unknown";
/// Inode number of a cgroup hierarchy's root. In a cgroup namespace what is mounted may be another cgroup, which says so by its number.
const ROOT_INODE: u64 = 1;
/// Of them, the one that judges DNS.
pub(crate) const QUESTIONS: &str = "judge_question";
/// Of them, the one that is verified soonest.
const SMALLEST: &str = "judge_sock_create";

/// Why the programs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CgroupLoadError {
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
    /// There is no unified hierarchy, as on a host with cgroup v1 alone, or it cannot be looked at.
    #[error("the unified cgroup hierarchy (cgroup v2): {0}")]
    Hierarchy(#[source] io::Error),
    /// What is mounted is not the hierarchy's root, so that the host's other cgroups are not below it.
    #[error("{path} is not the root of the unified hierarchy but a part of it, as in a cgroup namespace: the node needs the host's", path = path.display())]
    NotRoot {
        /// What is mounted there.
        path: PathBuf,
    },
    /// Nothing can be attached to the root.
    #[error("attach to the root of the unified hierarchy: {0}")]
    Root(#[source] Box<CgroupAttachError>),
    /// The object itself is refused.
    #[error("object: {0}")]
    Object(#[from] Box<EbpfError>),
    /// The kernel or its verifier refuses a program.
    #[error("program {program}: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// What was said.
        #[source]
        source: Box<ProgramError>,
    },
}

/// Why a family cannot be held; nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
pub enum CgroupAttachError {
    /// The kernel refuses to attach.
    #[error("program {program}: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The link is not one that can be pinned: the kernel is older than 5.7.
    #[error("program {program}: {source}")]
    Link {
        /// Which.
        program: &'static str,
        /// What was said.
        #[source]
        source: LinkError,
    },
    /// The link cannot be pinned.
    #[error("{path}: {source}", path = path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What was said.
        #[source]
        source: PinError,
    },
    /// A pin cannot be made way for, renamed or removed.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The loaded programs, attached or not.
#[derive(Debug)]
pub struct CgroupPrograms {
    object: Mutex<Ebpf>,
    root: File,
    pins: PathBuf,
    keeps_identity: bool,
    without_questions: Option<String>,
}

impl CgroupPrograms {
    /// Loads `object` (`bpf/cgroup.bpf.c`, compiled) with its shared maps below `pin_root`. Nothing is attached that was not before.
    ///
    /// # Errors
    /// See [`CgroupLoadError`]: then this kernel does not have the tier.
    pub fn load(object: &[u8], pin_root: &Path) -> Result<Self, CgroupLoadError> {
        let pins = pin_root.join(PINS);
        std::fs::create_dir_all(&pins).map_err(|source| CgroupLoadError::PinRoot { path: pins.clone(), source })?;
        let btf = KernelTypes::shared()?;
        let root = hierarchy_root()?;
        // Newer kernels offer task storage to these programs; whether this one does is found by trying.
        let ((mut object, without_questions), keeps_identity) = match load(object, pin_root, &btf, true) {
            Ok(loaded) => (loaded, true),
            Err(CgroupLoadError::Program { .. }) => (load(object, pin_root, &btf, false)?, false),
            Err(error) => return Err(error),
        };
        // For a moment: whoever is there exclusively is better known now than with the first policy.
        link_to(&mut object, SMALLEST, &root).map_err(|error| CgroupLoadError::Root(Box::new(error)))?;
        Ok(Self { object: Mutex::new(object), root, pins, keeps_identity, without_questions })
    }

    /// Takes away what an earlier runtime attached, on a kernel that refuses this one's programs: whatever they decide nobody
    /// would know of.
    ///
    /// # Errors
    /// [`CgroupAttachError::File`]: some links stay, and stay named by their pins.
    pub fn abandon(pin_root: &Path) -> Result<(), CgroupAttachError> {
        remove_others(&pin_root.join(PINS), &[])?;
        remove_others(&pin_root.join(EARLIER_PINS), &[])
    }

    /// Why DNS questions are not judged; `None`: they are.
    #[must_use]
    pub fn without_questions(&self) -> Option<&str> {
        self.without_questions.as_deref()
    }

    /// Whether the acting task's kept identity and phase are used; otherwise its cgroup alone says whose act it is.
    #[must_use]
    pub const fn keeps_identity(&self) -> bool {
        self.keeps_identity
    }

    /// Those of the families (bit n for family n) that this kernel takes.
    fn programs(&self, families: u32) -> impl Iterator<Item = &'static str> {
        let there = move |program: &&str| *program != QUESTIONS || self.without_questions.is_none();
        PROGRAMS.iter().copied().filter(there).filter(move |program| families >> family_of(program) as u32 & 1 == 1)
    }

    /// Attaches anew what judges these families, whatever an earlier runtime attached, and takes away the rest of that.
    ///
    /// # Errors
    /// See [`CgroupAttachError`]; what was attached before stays.
    pub fn renew(&self, families: u32) -> Result<(), CgroupAttachError> {
        let programs: Vec<_> = self.programs(families).collect();
        self.attach(&programs)?;
        remove_others(&self.pins, &programs)?;
        remove_others(&self.pins.with_file_name(EARLIER_PINS), &[])
    }

    /// Attaches what judges these families, unless it is.
    ///
    /// # Errors
    /// See [`CgroupAttachError`]; nothing is attached that was not before.
    pub fn ensure(&self, families: u32) -> Result<(), CgroupAttachError> {
        let missing: Vec<_> = self.programs(families).filter(|program| !self.pins.join(program).exists()).collect();
        if missing.is_empty() { Ok(()) } else { self.attach(&missing) }
    }

    /// Takes away what judges none of these families, which are all that anybody decides; harmless where nothing is attached.
    pub fn rest(&self, families: u32) {
        for program in PROGRAMS.iter().filter(|program| families >> family_of(program) as u32 & 1 == 0) {
            if let Err(error) = remove_pin(&self.pins.join(program)) {
                // It costs time and no verdict.
                tracing::warn!(%error, "a program that nobody needs stays attached to all cgroups");
            }
        }
    }

    /// The programs that are attached, also by an earlier runtime.
    #[must_use]
    pub fn attached(&self) -> Vec<&'static str> {
        PROGRAMS.iter().copied().filter(|program| self.pins.join(program).exists()).collect()
    }

    /// All of them, or none more than before.
    fn attach(&self, programs: &[&'static str]) -> Result<(), CgroupAttachError> {
        let attached = programs.iter().try_for_each(|program| self.pin_link(program, &next_pin(&self.pins, program)));
        if attached.is_err() {
            for program in programs {
                remove_pin(&next_pin(&self.pins, program))?;
            }
            return attached;
        }
        for program in programs {
            let (next, pin) = (next_pin(&self.pins, program), self.pins.join(program));
            // The old link goes with its pin; the new one holds already.
            remove_pin(&pin)?;
            std::fs::rename(&next, &pin).map_err(|source| CgroupAttachError::File { path: next, source })?;
        }
        Ok(())
    }

    fn pin_link(&self, program: &'static str, pin: &Path) -> Result<(), CgroupAttachError> {
        remove_pin(pin)?;
        // A panic while attaching leaves the object as usable as before: the kernel holds its state.
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let link = link_to(&mut object, program, &self.root)?;
        link.pin(pin).map_err(|source| CgroupAttachError::Pin { path: pin.to_path_buf(), source })?;
        Ok(())
    }
}

/// One of them as one that this kernel refuses.
pub(crate) fn refusal(program: &'static str, reason: &str) -> objects::Refusal {
    let without = match family_of(program) {
        Family::Dns => "DNS questions are not judged",
        Family::Socket => "the creation of sockets is judged on LSM hooks, or not at all",
        _ if program.starts_with("judge_sendmsg") => "destinations of datagrams without connect(2) are not judged",
        _ => "destinations are judged on LSM hooks, or not at all",
    };
    objects::Refusal {
        program,
        needs: "Linux 5.9, BTF, the unified cgroup hierarchy",
        without,
        reason: reason.to_owned(),
    }
}

/// The family that the program judges.
fn family_of(program: &str) -> Family {
    match program {
        QUESTIONS => Family::Dns,
        SMALLEST => Family::Socket,
        _ => Family::Connect,
    }
}

/// The cgroup that all others are below.
fn hierarchy_root() -> Result<File, CgroupLoadError> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted");
    let path =
        pseudo_fs::unified_cgroups().and_then(|mount| mount.ok_or_else(none)).map_err(CgroupLoadError::Hierarchy)?;
    let root = File::open(&path).map_err(CgroupLoadError::Hierarchy)?;
    let inode = root.metadata().map_err(CgroupLoadError::Hierarchy)?.ino();
    if inode == ROOT_INODE { Ok(root) } else { Err(CgroupLoadError::NotRoot { path }) }
}

/// The programs, and why there is no [`QUESTIONS`] among them.
type Loaded = (Ebpf, Option<String>);

fn load(object: &[u8], pin_root: &Path, btf: &KernelTypes, task_storage: bool) -> Result<Loaded, CgroupLoadError> {
    let constants = [Constant::Word("pal_cgroup_task_storage", task_storage.into())];
    let mut object = btf.load(object, Some(pin_root), &constants).map_err(Box::new)?;
    let (smallest, others): (Vec<_>, Vec<_>) = object.programs_mut().partition(|(name, _)| *name == SMALLEST);
    // One alone says whether the kernel takes their kind, before it verifies the others.
    load_together(smallest)?;
    let without_questions = load_together(others)?;
    Ok((object, without_questions))
}

/// Each by a thread of its own: the kernel verifies them side by side, which is most of the time until they are in force. Why it refuses
/// [`QUESTIONS`], which the others do not need.
fn load_together(programs: Vec<(&str, &mut Program)>) -> Result<Option<String>, CgroupLoadError> {
    thread::scope(|scope| {
        let known = |name| PROGRAMS.iter().copied().find(|known| *known == name);
        let loading: Vec<_> = programs
            .into_iter()
            .filter_map(|(name, program)| known(name).map(|name| (name, scope.spawn(|| load_program(program)))))
            .collect();
        let mut without_questions = None;
        for (program, thread) in loading {
            match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(()) => {}
                Err(error) if program == QUESTIONS => without_questions = Some(objects::explain(&error)),
                Err(source) => return Err(CgroupLoadError::Program { program, source: Box::new(source) }),
            }
        }
        Ok(without_questions)
    })
}

pub(crate) fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn link_to(object: &mut Ebpf, program: &'static str, cgroup: &File) -> Result<FdLink, CgroupAttachError> {
    let refused = |source| CgroupAttachError::Program { program, source: Box::new(source) };
    let no_link = |source| CgroupAttachError::Link { program, source };
    match object.program_mut(program) {
        Some(Program::CgroupSockAddr(program)) => sock_addr_link(program, cgroup).map_err(refused)?.try_into(),
        Some(Program::CgroupSock(program)) => sock_link(program, cgroup).map_err(refused)?.try_into(),
        Some(Program::CgroupSkb(program)) => packet_link(program, cgroup).map_err(refused)?.try_into(),
        _ => return Err(refused(ProgramError::UnexpectedProgramType)),
    }
    .map_err(no_link)
}

fn sock_addr_link(
    program: &mut CgroupSockAddr,
    cgroup: &File,
) -> Result<aya::programs::cgroup_sock_addr::CgroupSockAddrLink, ProgramError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    program.take_link(id)
}

fn sock_link(
    program: &mut CgroupSock,
    cgroup: &File,
) -> Result<aya::programs::cgroup_sock::CgroupSockLink, ProgramError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    program.take_link(id)
}

fn packet_link(
    program: &mut CgroupSkb,
    cgroup: &File,
) -> Result<aya::programs::cgroup_skb::CgroupSkbLink, ProgramError> {
    let id = program.attach(cgroup, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)?;
    program.take_link(id)
}

fn next_pin(pins: &Path, program: &str) -> PathBuf {
    pins.join(format!("{program}_next"))
}

/// Detaches and forgets whatever is pinned in the directory but these: earlier versions had other programs, and a directory for each
/// workload.
fn remove_others(directory: &Path, names: &[&str]) -> Result<(), CgroupAttachError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CgroupAttachError::File { path, source }
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(directory)(source)),
    };
    for entry in entries {
        let entry = entry.map_err(failed(directory))?;
        if names.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            remove_others(&path, &[])?;
            std::fs::remove_dir(&path).map_err(failed(&path))?;
        } else {
            remove_pin(&path)?;
        }
    }
    Ok(())
}

/// Detaches the link and forgets it; harmless where there is none.
fn remove_pin(pin: &Path) -> Result<(), CgroupAttachError> {
    match sys::detach_link(pin).and_then(|()| std::fs::remove_file(pin)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CgroupAttachError::File { path: pin.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}
