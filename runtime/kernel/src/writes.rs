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
use palisade_domain::Tier;
use palisade_world::Gap;

use crate::{
    KernelTypes,
    fmod_ret::{self, Modifying},
    objects::{self, PinRoot, ProgramSpec},
};

/// By which of the two means on hooks.
#[derive(Debug)]
enum Means {
    Lsm(Mutex<Ebpf>),
    /// The object keeps the maps.
    ModifyReturn(Vec<Modifying>, #[expect(dead_code, reason = "keeps what the programs stand on")] Ebpf),
}

/// The loaded programs, attached or not.
#[derive(Debug)]
pub(crate) struct WriteHooks {
    means: Means,
    programs: &'static [ProgramSpec],
    pins: PathBuf,
}

impl WriteHooks {
    /// Lets the verifier have them all; nothing is attached that was not before.
    ///
    /// # Errors
    /// What the kernel said: such writes are then not denied.
    pub fn load(pin_root: &Path, tier: Tier) -> Result<Self, String> {
        let btf = KernelTypes::shared().map_err(|error| objects::chain(&error))?;
        let root = PinRoot::create(pin_root).map_err(|error| objects::chain(&error))?;
        let pins = pin_root.join("writes");
        fs::create_dir_all(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let spec = &objects::WRITES;
        let rename_lock = crate::programs::rename_lock();
        let means = if tier == Tier::FmodRet {
            let object = objects::load(spec.name, spec.bytes, &btf, &root, &fmod_ret::with_tier(&[rename_lock]))
                .map_err(|error| objects::chain(&error))?;
            let relocated = fmod_ret::Relocated::new(spec.bytes, &object, &btf)?;
            let load = |program: &ProgramSpec| {
                let loaded = fmod_ret::load_program(&relocated, program);
                Ok::<_, String>(Modifying::new(
                    program.name,
                    loaded.map_err(|error| format!("{}: {error}", program.name))?,
                ))
            };
            Means::ModifyReturn(spec.programs.iter().map(load).collect::<Result<_, _>>()?, object)
        } else {
            let mut object = objects::load(spec.name, spec.bytes, &btf, &root, &[rename_lock])
                .map_err(|error| objects::chain(&error))?;
            for program in spec.programs {
                objects::load_program(&mut object, program, &btf)
                    .map_err(|error| format!("{}: {error}", program.name))?;
            }
            Means::Lsm(Mutex::new(object))
        };
        Ok(Self { means, programs: spec.programs, pins })
    }

    /// Writes that were not judged lately.
    pub fn skipped(&self) -> Vec<Gap> {
        match &self.means {
            Means::Lsm(_) => Vec::new(),
            Means::ModifyReturn(programs, _) => programs.iter().filter_map(Modifying::skipped).collect(),
        }
    }

    /// Attaches them anew, whatever an earlier version attached; an old link goes once the new one is there.
    ///
    /// # Errors
    /// What attaching or pinning said.
    pub fn attach(&self) -> Result<(), String> {
        match &self.means {
            Means::Lsm(object) => {
                // A panic while attaching leaves the object as usable as before: the kernel holds its state.
                let mut object = object.lock().unwrap_or_else(PoisonError::into_inner);
                self.programs.iter().try_for_each(|program| objects::attach_pinned_in(&mut object, program, &self.pins))
            }
            Means::ModifyReturn(programs, _) => {
                programs.iter().try_for_each(|program| program.attach_pinned_in(&self.pins))
            }
        }
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
