//! System calls that rules name (`bpf/syscalls.bpf.c`): seen and reported.
//!
//! Invariant: the program is attached while a policy in force, or one that is about to be, has rules of the family, and not
//! otherwise: it makes every system call of the machine slower. Its link is pinned below `<pin root>/syscalls/`, so that the
//! runtime's restart leaves no gap.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf,
    programs::{BtfTracePoint, ProgramError, links::FdLink},
};

use crate::{KernelTypes, objects};

const PROGRAM: &str = "audit_call";
const TRACEPOINT: &str = "sys_enter";

/// The loaded program, attached or not.
#[derive(Debug)]
pub(crate) struct SyscallAudit {
    object: Mutex<Ebpf>,
    pin: PathBuf,
}

impl SyscallAudit {
    /// Lets the verifier have it; nothing is attached that was not before.
    ///
    /// # Errors
    /// What the kernel said: rules of the family are then unenforceable.
    pub fn load(pin_root: &Path) -> Result<Self, String> {
        let btf = KernelTypes::shared().map_err(|error| objects::chain(&error))?;
        let pins = pin_root.join("syscalls");
        fs::create_dir_all(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let mut object =
            btf.load(palisade_bpf::SYSCALLS, Some(pin_root), &[]).map_err(|error| objects::chain(&error))?;
        program(&mut object)
            .and_then(|program| program.load(TRACEPOINT, &btf))
            .map_err(|error| objects::explain(&error))?;
        Ok(Self { object: Mutex::new(object), pin: pins.join(PROGRAM) })
    }

    /// Attaches it anew, whatever an earlier version attached; the old link goes once the new one is there.
    ///
    /// # Errors
    /// What attaching or pinning said.
    pub fn attach(&self) -> Result<(), String> {
        let link = self.link().map_err(|error| objects::explain(&error))?;
        let next = self.pin.with_file_name(format!("{PROGRAM}_next"));
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", next.display());
        remove(&next).map_err(|error| failed(&error))?;
        link.pin(&next).map_err(|error| failed(&error))?;
        fs::rename(&next, &self.pin).map_err(|error| failed(&error))
    }

    /// Attaches it unless it is.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn ensure(&self) -> Result<(), String> {
        if self.pin.exists() { Ok(()) } else { self.attach() }
    }

    /// Takes it away; harmless where it is not attached.
    pub fn detach(&self) {
        if let Err(error) = remove(&self.pin) {
            // It costs time and no verdict.
            tracing::warn!(pin = %self.pin.display(), %error, "the audit of system calls stays attached");
        }
    }

    fn link(&self) -> Result<FdLink, ProgramError> {
        // A panic while attaching leaves the object as usable as before: the kernel holds its state.
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let program = program(&mut object)?;
        let id = program.attach()?;
        Ok(program.take_link(id)?.into())
    }
}

/// The program as one that this kernel refuses.
pub(crate) fn refusal(reason: &str) -> objects::Refusal {
    objects::Refusal {
        program: PROGRAM,
        needs: "BTF tracepoints",
        without: "rules on system calls are not audited",
        reason: reason.to_owned(),
    }
}

fn program(object: &mut Ebpf) -> Result<&mut BtfTracePoint, ProgramError> {
    object.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn remove(pin: &Path) -> io::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
