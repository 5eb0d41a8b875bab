//! The policy that a host's base makes together with our module.
//!
//! Invariant: what is loaded was compiled whole by `secilc`; where that fails, or the kernel refuses the result, what was in force stays, and
//! the error has the compiler's own words.
//!
//! Decision: `secilc` and not a writer of the kernel's form: the host's whole policy is compiled, with all that CIL is. It reads our module
//! from, and writes the policy to, files without a name: nobody can change them meanwhile, and nothing is left behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::SeLinux;
use crate::sys;

/// The kernel's form that is written: all kernels read it since Linux 5.7, and all compilers write it since libsepol 3.0.
const POLICY_VERSION: &str = "33";
/// A distribution's whole policy takes some seconds; in emulation a minute.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(5);
/// Of the compiler's words an error has the first.
const MAX_SAID_BYTES: u64 = 2000;

/// Why no policy was loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The base cannot be read, or has no CIL in it.
    #[error("{}: {source}", path.display())]
    Base {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The compiler cannot be executed, or a file for it cannot be made.
    #[error("secilc: {0}")]
    Compiler(io::Error),
    /// It does not take the texts.
    #[error("secilc does not take the policy ({status}): {said}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// It did not end.
    #[error("secilc did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The kernel does not take the policy.
    #[error("the kernel does not load the policy: {0}")]
    Load(io::Error),
}

/// A host's base policy in CIL, and what was loaded with it.
#[derive(Debug)]
pub struct PolicySource {
    selinux: SeLinux,
    base: PathBuf,
    /// The module that is in force: held while one is loaded, so that loads come one after the other.
    loaded: Mutex<Option<String>>,
}

impl PolicySource {
    /// `base`: a file of CIL, or a directory whose files ending in `.cil` are taken in the order of their names.
    #[must_use]
    pub fn new(selinux: SeLinux, base: &Path) -> Self {
        Self { selinux, base: base.to_path_buf(), loaded: Mutex::default() }
    }

    /// Puts the base with the module in force; what is in force already is not loaded again.
    ///
    /// # Errors
    /// See [`PolicyError`]; what was in force stays.
    pub fn load(&self, module: &str) -> Result<(), PolicyError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.as_deref() == Some(module) {
            return Ok(());
        }
        let policy = compile("secilc", &sources(&self.base)?, Some(module), PATIENCE)?;
        self.selinux.load(&policy).map_err(PolicyError::Load)?;
        *loaded = Some(module.to_owned());
        Ok(())
    }

    /// Puts the base alone in force. Tasks that still have a user of ours are then unlabeled: nothing of ours denies, and what the base says of
    /// what has no label does.
    ///
    /// # Errors
    /// See [`PolicyError`]; what was in force stays.
    pub fn load_base(&self) -> Result<(), PolicyError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = compile("secilc", &sources(&self.base)?, None, PATIENCE)?;
        self.selinux.load(&policy).map_err(PolicyError::Load)?;
        *loaded = None;
        Ok(())
    }
}

fn sources(base: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let failed = |source| PolicyError::Base { path: base.to_path_buf(), source };
    if !fs::metadata(base).map_err(failed)?.is_dir() {
        return Ok(vec![base.to_path_buf()]);
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(base).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        sources.extend(path.extension().is_some_and(|extension| extension == "cil").then_some(path));
    }
    sources.sort_unstable();
    if sources.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "no file ends in .cil")));
    }
    Ok(sources)
}

/// As another process of the same user opens it.
fn path_of(file: &File) -> OsString {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

fn compile(
    compiler: &str,
    sources: &[PathBuf],
    module: Option<&str>,
    patience: Duration,
) -> Result<Vec<u8>, PolicyError> {
    let failed = PolicyError::Compiler;
    let mut policy = sys::nameless_file(c"policy").map_err(failed)?;
    let mut said = sys::nameless_file(c"said").map_err(failed)?;
    let mut written = sys::nameless_file(c"palisade.cil").map_err(failed)?;
    written.write_all(module.unwrap_or_default().as_bytes()).map_err(failed)?;
    let mut command = Command::new(compiler);
    command.arg("-c").arg(POLICY_VERSION).arg("-o").arg(path_of(&policy)).args(["-f", "/dev/null"]).args(sources);
    if module.is_some() {
        command.arg(path_of(&written));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().map_err(failed)?);
    let status = wait(command.spawn().map_err(failed)?, patience)?;
    if !status.success() {
        let mut words = Vec::new();
        said.rewind().and_then(|()| said.take(MAX_SAID_BYTES).read_to_end(&mut words)).map_err(failed)?;
        return Err(PolicyError::Refused { status, said: String::from_utf8_lossy(&words).trim().to_owned() });
    }
    let mut bytes = Vec::new();
    policy.rewind().and_then(|()| policy.read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// Who does not end in time is killed.
fn wait(mut child: Child, patience: Duration) -> Result<ExitStatus, PolicyError> {
    let until = sys::boot_time() + patience;
    loop {
        if let Some(status) = child.try_wait().map_err(PolicyError::Compiler)? {
            return Ok(status);
        }
        if sys::boot_time() >= until {
            child.kill().and_then(|()| child.wait()).map_err(PolicyError::Compiler)?;
            return Err(PolicyError::TimedOut(patience));
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "(handleunknown allow) (mls true) (class capability (chown)) (class process (ptrace)) (classorder (capability process))
        (sid kernel) (sidorder (kernel)) (sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
        (type kernel_t) (role system_r) (role object_r) (roletype system_r kernel_t) (roletype object_r kernel_t)
        (user system_u) (userrole system_u system_r) (userlevel system_u (s0)) (userrange system_u ((s0) (s0 (c0))))
        (sidcontext kernel (system_u system_r kernel_t ((s0) (s0))))";

    fn has_secilc() -> bool {
        let there = Command::new("secilc").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !there {
            println!("skipped: secilc is not installed");
        }
        there
    }

    #[test]
    fn unit_selinux_policy_is_compiled_of_all_files_of_the_base_and_the_module() {
        let base = tempfile::tempdir().unwrap();
        assert!(matches!(sources(base.path()), Err(PolicyError::Base { .. })), "a directory without any");
        assert!(matches!(sources(&base.path().join("none")), Err(PolicyError::Base { .. })));
        for (name, text) in [("b.cil", "(allow kernel_t self (capability (chown)))"), ("a.cil", BASE), ("x.txt", "(")] {
            fs::write(base.path().join(name), text).unwrap();
        }
        let files = sources(base.path()).unwrap();
        assert_eq!(files, [base.path().join("a.cil"), base.path().join("b.cil")]);
        assert_eq!(sources(&files[0]).unwrap(), [files[0].clone()], "a file alone");
        if !has_secilc() {
            return;
        }
        let module = palisade_selinux::module(palisade_selinux::Levels { last_category: Some(0) }, []);
        let alone = compile("secilc", &files, None, PATIENCE).unwrap();
        let with = compile("secilc", &files, Some(&module), PATIENCE).unwrap();
        assert_eq!(alone[..4], 0xf97c_ff8cu32.to_le_bytes(), "the magic of a policy for the kernel");
        let names = |policy: &[u8]| policy.windows(14).filter(|bytes| bytes.starts_with(b"palisade_127_u")).count();
        assert_eq!((names(&alone), names(&with)), (0, 1));
    }

    #[test]
    fn unit_selinux_compiler_that_refuses_fails_or_does_not_end_is_an_error_in_its_own_words() {
        let missing = compile("no-such-compiler", &[], None, PATIENCE);
        assert!(matches!(missing, Err(PolicyError::Compiler(_))), "{missing:?}");
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(matches!(wait(child, Duration::from_millis(20)), Err(PolicyError::TimedOut(_))));
        if !has_secilc() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("a.cil");
        fs::write(&file, BASE).unwrap();
        let module = "(constrain (capability (no_such)) (neq u1 system_u))";
        match compile("secilc", &[file], Some(module), PATIENCE) {
            Err(PolicyError::Refused { said, .. }) => assert!(said.contains("no_such"), "{said}"),
            other => panic!("{other:?}"),
        }
    }
}
