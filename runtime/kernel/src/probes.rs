//! Loading and attaching the observation programs (`bpf/probes.bpf.c`).
//!
//! Invariant: a program that this kernel refuses is left out and reported, and the others work; only an object that cannot be
//! loaded at all is an error. Links are not pinned: without a reader, observation is waste, and what decides is elsewhere.

use std::path::{Path, PathBuf};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, ProgramError},
};

/// Each program with its tracepoint.
const PROGRAMS: &[(&str, &str)] = &[
    ("observe_exec", "sched_process_exec"),
    ("observe_fork", "sched_process_fork"),
    ("observe_exit", "sched_process_exit"),
    ("observe_call", "sys_exit"),
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
        source: std::io::Error,
    },
    /// The object itself is refused.
    #[error("object: {0}")]
    Object(#[from] Box<EbpfError>),
}

/// A program that this kernel refused, and why.
#[derive(Debug)]
pub struct RefusedProbe {
    /// Its name.
    pub program: &'static str,
    /// What the kernel or its verifier said.
    pub error: ProgramError,
}

/// The attached probes; dropping it detaches them.
#[derive(Debug)]
pub struct Probes {
    object: Ebpf,
    refused: Vec<RefusedProbe>,
}

impl Probes {
    /// Loads `object` (`bpf/probes.bpf.c`, compiled) with its shared maps below `pin_root`, and attaches what the kernel takes.
    ///
    /// # Errors
    /// See [`ProbesError`].
    pub fn attach(object: &[u8], pin_root: &Path) -> Result<Self, ProbesError> {
        let btf = Btf::from_sys_fs()?;
        std::fs::create_dir_all(pin_root)
            .map_err(|source| ProbesError::PinRoot { path: pin_root.to_path_buf(), source })?;
        let object = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .default_map_pin_directory(pin_root)
            .load(object)
            .map_err(Box::new)?;
        let mut probes = Self { object, refused: Vec::new() };
        for (program, tracepoint) in PROGRAMS.iter().copied() {
            if let Err(error) = probes.attach_program(program, tracepoint, &btf) {
                tracing::warn!(program, %error, "this kernel refuses a probe; its records will be missing");
                probes.refused.push(RefusedProbe { program, error });
            }
        }
        Ok(probes)
    }

    fn attach_program(&mut self, program: &str, tracepoint: &str, btf: &Btf) -> Result<(), ProgramError> {
        let found = self.object.program_mut(program).ok_or(ProgramError::NotLoaded)?;
        let program: &mut BtfTracePoint = found.try_into()?;
        program.load(tracepoint, btf)?;
        program.attach()?;
        Ok(())
    }

    /// Programs that this kernel refused: their kinds of record will not come.
    #[must_use]
    pub fn refused(&self) -> &[RefusedProbe] {
        &self.refused
    }
}
