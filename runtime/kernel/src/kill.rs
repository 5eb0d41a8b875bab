//! The tier of last resort (`bpf/kill.bpf.c`): what this kernel cannot deny is killed for, or reported as unenforceable.
//!
//! Invariant: a program is attached only if a family is its business; where BPF LSM decides, none is. Links are pinned below
//! `<pin root>/kill/`, so that policy stands while the runtime restarts; attaching again replaces them, new ones first.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError,
    pin::PinError,
    programs::{BtfTracePoint, ProgramError, links::FdLink},
};
use palisade_kernel_abi::blob::Family;

use crate::{KernelTypes, kernel_types::Constant, objects, programs};

/// Each program, and what is lost without it.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("kill_tracer", "nobody is killed for tracing by ptrace(2)"),
    ("kill_exec", "nobody is killed for an execution"),
    ("kill_entering", "nobody is killed for what the presets filelessExec and exec forbid"),
    ("kill_fileless", "before Linux 6.10 nobody is killed for a program without a file"),
    ("audit_capability", "uses of capabilities are not observed"),
    (
        "kill_after_call",
        "nobody is killed for a socket, for tracing and for what presets forbid, nor is opening for writing reported",
    ),
    ("audit_host_script", "the host's executions of scripts are not seen"),
    ("audit_host_exec", "the host's executions are not seen"),
];

/// One of them as one that this kernel refuses.
pub(crate) fn refusal(program: &'static str, reason: &str) -> objects::Refusal {
    let without =
        PROGRAMS.iter().find(|(known, _)| *known == program).map_or("nobody is killed", |(_, without)| *without);
    objects::Refusal { program, needs: "BTF tracepoints, bpf_send_signal (5.3)", without, reason: reason.to_owned() }
}

/// What the tier is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillDuty<'a> {
    /// Families that no stronger tier of this kernel holds wholly.
    pub families: &'a [Family],
    /// fanotify denies opens and execs: of opens only what depends on writing is left.
    pub fanotify_judges: bool,
    /// The kernel tells of executions while the old image lives.
    pub prepare_exec: bool,
    /// Executions of the host are seen by nobody else.
    pub audits_host_execs: bool,
    /// Inode number of the host's mount namespace.
    pub host_mnt_ns: u32,
}

impl KillDuty<'_> {
    fn mask(self) -> u32 {
        self.families.iter().fold(0, |mask, family| mask | 1 << (*family as u32))
    }

    fn has(self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// (program, tracepoint) of the programs that the duty needs.
    pub(crate) fn programs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [
            (self.has(Family::Ptrace), ("kill_tracer", "sys_enter")),
            (self.has(Family::Process), ("kill_exec", "sched_process_exec")),
            (self.has(Family::Preset) && self.prepare_exec, ("kill_entering", "sched_prepare_exec")),
            (self.has(Family::Preset) && !self.prepare_exec, ("kill_fileless", "sched_process_exec")),
            (self.has(Family::Capability), ("audit_capability", "cap_capable")),
            (
                [Family::File, Family::Socket, Family::Ptrace, Family::Preset]
                    .into_iter()
                    .any(|family| self.has(family)),
                ("kill_after_call", "sys_exit"),
            ),
        ]
        .into_iter()
        .filter_map(|(needed, program)| needed.then_some(program))
    }

    /// The same of those that only see: no other family is let go for them.
    pub(crate) fn host_programs(self) -> &'static [(&'static str, &'static str)] {
        const PROGRAMS: &[(&str, &str)] =
            &[("audit_host_script", "sched_prepare_exec"), ("audit_host_exec", "sched_prepare_exec")];
        if self.audits_host_execs && self.prepare_exec { PROGRAMS } else { &[] }
    }
}

/// What is attached.
#[derive(Debug)]
pub struct Attached {
    /// Why the host's executions are not seen, although they were to be: of what kills, all is attached.
    pub without_host_execs: Option<KillError>,
}

/// Why the tier cannot be had; what was pinned before stays.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The kernel does not describe its own types: `CONFIG_DEBUG_INFO_BTF` is off.
    #[error("BTF of the kernel: {0}")]
    Btf(#[from] aya::BtfError),
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
    /// A pin cannot be made, renamed or removed.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
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
}

/// Loads `object` (`bpf/kill.bpf.c`, compiled) with its shared maps below `pin_root` and attaches what the duty needs; last what sees the
/// host's executions, all of it or none.
///
/// # Errors
/// See [`KillError`].
pub fn attach(object: &[u8], pin_root: &Path, duty: KillDuty<'_>) -> Result<Attached, KillError> {
    let pins = pin_root.join("kill");
    std::fs::create_dir_all(&pins).map_err(|source| KillError::File { path: pins.clone(), source })?;
    let btf = KernelTypes::shared()?;
    let fanotify = u32::from(duty.fanotify_judges);
    let file_release = programs::file_release().unwrap_or(0);
    let constants = [
        Constant::Word("pal_kill_families", duty.mask()),
        Constant::Word("pal_fanotify_judges", fanotify),
        Constant::Word("pal_host_mnt_ns", duty.host_mnt_ns),
        Constant::Long("pal_file_release", file_release),
    ];
    let mut object = btf.load(object, Some(pin_root), &constants).map_err(Box::new)?;
    let attach = |object: &mut Ebpf, (program, tracepoint)| {
        let link = link_of(object, program, tracepoint, &btf)
            .map_err(|source| KillError::Program { program, source: Box::new(source) })?;
        replace_pin(link, &pins, program)
    };
    duty.programs().try_for_each(|program| attach(&mut object, program))?;
    let of_host = duty.host_programs().iter().try_for_each(|program| attach(&mut object, *program));
    let needed: Vec<&str> =
        duty.programs().chain(kept_of(duty.host_programs(), &of_host)).map(|(name, _)| name).collect();
    remove_pins_but(&pins, &needed)?;
    Ok(Attached { without_host_execs: of_host.err() })
}

/// Programs that are there together, or not at all.
fn kept_of(
    programs: &'static [(&'static str, &'static str)],
    attached: &Result<(), KillError>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    programs.iter().copied().filter(|_| attached.is_ok())
}

/// Takes the tier away; harmless where it is not attached.
///
/// # Errors
/// [`KillError::File`]: some links stay, and stay named by their pins.
pub fn detach(pin_root: &Path) -> Result<(), KillError> {
    remove_pins_but(&pin_root.join("kill"), &[])
}

/// What an earlier version pinned under names of its own goes too.
fn remove_pins_but(pins: &Path, names: &[&str]) -> Result<(), KillError> {
    match objects::pins_but(pins, names) {
        Ok(others) => others.iter().try_for_each(|pin| remove_pin(pin)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KillError::File { path: pins.to_path_buf(), source }),
    }
}

fn link_of(object: &mut Ebpf, program: &str, tracepoint: &str, btf: &Btf) -> Result<FdLink, ProgramError> {
    let program: &mut BtfTracePoint = object.program_mut(program).ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load(tracepoint, btf)?;
    let id = program.attach()?;
    Ok(program.take_link(id)?.into())
}

/// The new link holds before the old one goes.
fn replace_pin(link: FdLink, pins: &Path, program: &str) -> Result<(), KillError> {
    let (next, pin) = (pins.join(format!("{program}_next")), pins.join(program));
    remove_pin(&next)?;
    link.pin(&next).map_err(|source| KillError::Pin { path: next.clone(), source })?;
    remove_pin(&pin)?;
    std::fs::rename(&next, &pin).map_err(|source| KillError::File { path: next, source })
}

fn remove_pin(pin: &Path) -> Result<(), KillError> {
    match std::fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KillError::File { path: pin.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_programs_that_see_the_hosts_executions_are_not_among_those_that_hold_containers() {
        let families = [Family::Ptrace, Family::Preset];
        let duty = KillDuty {
            families: &families,
            fanotify_judges: true,
            prepare_exec: true,
            audits_host_execs: true,
            host_mnt_ns: 0,
        };
        let names: Vec<&str> = duty.programs().map(|(name, _)| name).collect();
        assert_eq!(names, ["kill_tracer", "kill_entering", "kill_after_call"]);
        assert_eq!(duty.host_programs().len(), 2);
        let older = KillDuty { prepare_exec: false, ..duty };
        assert!(older.host_programs().is_empty());
        let names: Vec<&str> = older.programs().map(|(name, _)| name).collect();
        assert_eq!(names, ["kill_tracer", "kill_fileless", "kill_after_call"]);
        let every =
            KillDuty { families: &[Family::Process, Family::Capability, Family::Preset, Family::Ptrace], ..duty };
        for duty in [every, KillDuty { prepare_exec: false, ..every }] {
            let names = duty.programs().chain(duty.host_programs().iter().copied()).map(|(name, _)| name);
            assert!(
                names.into_iter().all(|name| PROGRAMS.iter().any(|(known, _)| *known == name)),
                "each has its loss"
            );
        }
        let refused = || KillError::Program { program: "audit_host_exec", source: Box::new(ProgramError::NotLoaded) };
        assert_eq!(kept_of(duty.host_programs(), &Ok(())).count(), 2);
        assert_eq!(kept_of(duty.host_programs(), &Err(refused())).count(), 0, "a half of it would tell half");
    }
}
