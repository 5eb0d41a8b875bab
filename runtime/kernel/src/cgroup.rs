//! Network enforcement on a workload's cgroup (`bpf/cgroup.bpf.c`): sockets, destinations and DNS questions, on every kernel.
//!
//! What judges DNS may be refused alone: packets are another kind of program, and the rest does not depend on it.
//!
//! Invariant: a workload is either held by all programs or by none: attaching that fails half way detaches what it attached.
//! Links are pinned below `<pin root>/cgroup/<slot>/`, so that they hold while the runtime restarts; attaching again replaces
//! them without a moment in which none is there (new ones first, then the old ones go).
//!
//! Decision: each program is attached with mode `Single`. That is the absence of flags: a link on a cgroup is always one of
//! many, and the kernel refuses link flags.
//!
//! Needs Linux 5.9 (links on cgroups, and their detaching).

use std::{
    fs::File,
    io,
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
use palisade_domain::Slot;

use crate::{KernelTypes, kernel_types::Constant, objects, sys};

/// The programs of the object; each is attached to every held workload.
pub const PROGRAMS: &[&str] =
    &["judge_connect4", "judge_connect6", "judge_sendmsg4", "judge_sendmsg6", "judge_sock_create", QUESTIONS];
/// Directories of pins below the pin root: by slot, and by the cgroup id of a place of containers.
const ADMITTED: &str = "cgroup";
const UNKNOWN: &str = "cgroup_unknown";
/// Of them, the one that judges DNS.
const QUESTIONS: &str = "judge_question";
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

/// Why a workload cannot be held; nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
pub enum CgroupAttachError {
    /// The cgroup's directory cannot be opened.
    #[error("{path}: {source}", path = path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
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

/// The loaded programs.
#[derive(Debug)]
pub struct CgroupPrograms {
    object: Mutex<Ebpf>,
    pins: PathBuf,
    keeps_identity: bool,
    without_questions: Option<String>,
}

impl CgroupPrograms {
    /// Loads `object` (`bpf/cgroup.bpf.c`, compiled) with its shared maps below `pin_root`.
    ///
    /// # Errors
    /// See [`CgroupLoadError`]: then this kernel does not have the tier.
    pub fn load(object: &[u8], pin_root: &Path) -> Result<Self, CgroupLoadError> {
        Self::load_for(object, pin_root, ADMITTED)
    }

    /// The same for who is in a place of containers and was not admitted; see [`Self::attach_as`].
    ///
    /// # Errors
    /// See [`CgroupLoadError`].
    pub fn load_for_unknown(object: &[u8], pin_root: &Path) -> Result<Self, CgroupLoadError> {
        Self::load_for(object, pin_root, UNKNOWN)
    }

    fn load_for(object: &[u8], pin_root: &Path, whom: &str) -> Result<Self, CgroupLoadError> {
        let pins = pin_root.join(whom);
        std::fs::create_dir_all(&pins).map_err(|source| CgroupLoadError::PinRoot { path: pins.clone(), source })?;
        let btf = KernelTypes::shared()?;
        let unknown = whom == UNKNOWN;
        // Newer kernels offer task storage to these programs; whether this one does is found by trying.
        let ((object, without_questions), keeps_identity) = match load(object, pin_root, &btf, [true, unknown]) {
            Ok(loaded) => (loaded, true),
            Err(CgroupLoadError::Program { .. }) => (load(object, pin_root, &btf, [false, unknown])?, false),
            Err(error) => return Err(error),
        };
        Ok(Self { object: Mutex::new(object), pins, keeps_identity, without_questions })
    }

    /// Takes away what an earlier version attached, on a kernel that refuses this one's programs: whatever they decide nobody
    /// would know of.
    ///
    /// # Errors
    /// [`CgroupAttachError::File`]: some links stay, and stay named by their pins.
    pub fn abandon(pin_root: &Path) -> Result<(), CgroupAttachError> {
        remove_links_but(&pin_root.join(ADMITTED), |_| false)
    }

    /// The same of the unknown, of those places that are not `kept`, by their names.
    ///
    /// # Errors
    /// [`CgroupAttachError::File`]: some links stay, and stay named by their pins.
    pub fn abandon_unknown(pin_root: &Path, kept: impl Fn(&str) -> bool) -> Result<(), CgroupAttachError> {
        remove_links_but(&pin_root.join(UNKNOWN), kept)
    }

    /// Why DNS questions are not judged; `None`: they are.
    #[must_use]
    pub fn without_questions(&self) -> Option<&str> {
        self.without_questions.as_deref()
    }

    fn programs(&self) -> impl Iterator<Item = &'static str> {
        PROGRAMS.iter().copied().filter(|program| *program != QUESTIONS || self.without_questions.is_none())
    }

    /// Whether the acting task's kept identity and phase are used; otherwise its cgroup alone says whose act it is.
    #[must_use]
    pub const fn keeps_identity(&self) -> bool {
        self.keeps_identity
    }

    /// Holds the workload to its policy: from now on for every socket that is made in `cgroup` or below.
    /// Attaching again replaces the links.
    ///
    /// # Errors
    /// See [`CgroupAttachError`]; what was attached before stays.
    pub fn attach(&self, slot: Slot, cgroup: &Path) -> Result<(), CgroupAttachError> {
        self.attach_as(&slot.to_string(), cgroup)
    }

    /// The same, the links being pinned under this name.
    ///
    /// # Errors
    /// See [`CgroupAttachError`]; what was attached before stays.
    pub fn attach_as(&self, name: &str, cgroup: &Path) -> Result<(), CgroupAttachError> {
        let directory =
            File::open(cgroup).map_err(|source| CgroupAttachError::Cgroup { path: cgroup.to_path_buf(), source })?;
        let pins = self.pins.join(name);
        std::fs::create_dir_all(&pins).map_err(|source| CgroupAttachError::File { path: pins.clone(), source })?;
        let attached =
            self.programs().try_for_each(|program| self.pin_link(program, &directory, &next_pin(&pins, program)));
        if attached.is_err() {
            for program in PROGRAMS {
                remove_pin(&next_pin(&pins, program))?;
            }
            return attached;
        }
        for program in self.programs() {
            let (next, pin) = (next_pin(&pins, program), pins.join(program));
            // The old link goes with its pin; the new one holds already.
            remove_pin(&pin)?;
            std::fs::rename(&next, &pin).map_err(|source| CgroupAttachError::File { path: next, source })?;
        }
        remove_pins_but(&pins, &self.programs().collect::<Vec<_>>())
    }

    /// Lets the workload go; harmless where nothing is attached.
    ///
    /// # Errors
    /// [`CgroupAttachError::File`]: some links stay, and stay named by their pins.
    pub fn detach(&self, slot: Slot) -> Result<(), CgroupAttachError> {
        let pins = self.directory_of(slot);
        remove_pins_but(&pins, &[])?;
        match std::fs::remove_dir(&pins) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CgroupAttachError::File { path: pins, source })
            }
            _ => Ok(()),
        }
    }

    /// What is attached for one slot is another one's from now on; harmless where nothing is attached.
    ///
    /// # Errors
    /// What renaming the pins says: the other slot must have none.
    pub fn relocate(&self, from: Slot, to: Slot) -> io::Result<()> {
        match std::fs::rename(self.directory_of(from), self.directory_of(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Slots that links are pinned for, also by an earlier runtime.
    ///
    /// # Errors
    /// What reading the pin directory says.
    pub fn attached(&self) -> io::Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for entry in std::fs::read_dir(&self.pins)? {
            if let Some(slot) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                slots.push(Slot(slot));
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn directory_of(&self, slot: Slot) -> PathBuf {
        self.pins.join(slot.to_string())
    }

    fn pin_link(&self, program: &'static str, cgroup: &File, pin: &Path) -> Result<(), CgroupAttachError> {
        remove_pin(pin)?;
        // A panic while attaching leaves the object as usable as before: the kernel holds its state.
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let link = link_to(&mut object, program, cgroup)?;
        link.pin(pin).map_err(|source| CgroupAttachError::Pin { path: pin.to_path_buf(), source })?;
        Ok(())
    }
}

/// The programs, and why there is no [`QUESTIONS`] among them.
type Loaded = (Ebpf, Option<String>);

fn load(object: &[u8], pin_root: &Path, btf: &KernelTypes, flags: [bool; 2]) -> Result<Loaded, CgroupLoadError> {
    let [task_storage, unknown] = flags.map(u32::from);
    let constants =
        [Constant::Word("pal_cgroup_task_storage", task_storage), Constant::Word("pal_cgroup_unknown", unknown)];
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

/// Links of whoever is not kept are detached, and their pins removed.
fn remove_links_but(pins: &Path, kept: impl Fn(&str) -> bool) -> Result<(), CgroupAttachError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CgroupAttachError::File { path, source }
    };
    let names = match std::fs::read_dir(pins) {
        Ok(names) => names,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(pins)(source)),
    };
    for name in names {
        let name = name.map_err(failed(pins))?;
        if !name.file_name().to_str().is_some_and(&kept) {
            remove_pins_but(&name.path(), &[])?;
            std::fs::remove_dir(name.path()).map_err(failed(&name.path()))?;
        }
    }
    Ok(())
}

/// What an earlier version pinned under names of its own goes too.
fn remove_pins_but(pins: &Path, names: &[&str]) -> Result<(), CgroupAttachError> {
    match objects::pins_but(pins, names) {
        Ok(others) => others.iter().try_for_each(|pin| remove_pin(pin)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CgroupAttachError::File { path: pins.to_path_buf(), source }),
    }
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
