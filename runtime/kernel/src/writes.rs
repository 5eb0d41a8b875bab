//! Writes that no open was judged for (`bpf/lsm_write.bpf.c`): denied where a policy denies writing of what it permits to be read.
//!
//! Invariant: the programs are attached while a policy in force, or one that is about to be, is of that kind, and not otherwise: they
//! are asked at every read and write of the machine. Their links are pinned below `<pin root>/writes/`, so that the runtime's restart
//! leaves no gap.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aya::Ebpf;

use crate::{
    KernelTypes,
    objects::{self, PinRoot, ProgramSpec},
};

/// The loaded programs, attached or not.
#[derive(Debug)]
pub(crate) struct WriteHooks {
    object: Mutex<Ebpf>,
    programs: &'static [ProgramSpec],
    pins: PathBuf,
}

impl WriteHooks {
    /// Lets the verifier have them all; nothing is attached that was not before.
    ///
    /// # Errors
    /// What the kernel said: such writes are then not denied.
    pub fn load(pin_root: &Path) -> Result<Self, String> {
        let types = KernelTypes::shared().map_err(|error| objects::chain(&error))?;
        let root = PinRoot::create(pin_root).map_err(|error| objects::chain(&error))?;
        let pins = pin_root.join("writes");
        fs::create_dir_all(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let spec = &objects::WRITES;
        let rename_lock = crate::programs::rename_lock();
        let mut object = objects::load(spec.name, spec.bytes, &types, &root, &[rename_lock])
            .map_err(|error| objects::chain(&error))?;
        for program in spec.programs {
            objects::load_program(&mut object, program, &types)
                .map_err(|error| format!("{}: {error}", program.name))?;
        }
        Ok(Self { object: Mutex::new(object), programs: spec.programs, pins })
    }

    /// Attaches them anew, whatever an earlier version attached; an old link goes once the new one is there.
    ///
    /// # Errors
    /// What attaching or pinning said.
    pub fn attach(&self) -> Result<(), String> {
        // A panic while attaching leaves the object as usable as before: the kernel holds its state.
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        self.programs.iter().try_for_each(|program| objects::attach_pinned_in(&mut object, program, &self.pins))
    }

    /// Attaches them unless they are.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn ensure(&self) -> Result<(), String> {
        if self.programs.iter().all(|program| self.pins.join(program.name).exists()) { Ok(()) } else { self.attach() }
    }

    /// Takes them away; harmless where they are not attached.
    pub fn detach(&self) {
        for program in self.programs {
            let pin = self.pins.join(program.name);
            if let Err(error) = fs::remove_file(&pin)
                && error.kind() != io::ErrorKind::NotFound
            {
                // It costs time and no verdict.
                tracing::warn!(pin = %pin.display(), %error, "a program that is asked at each write stays attached");
            }
        }
    }
}
