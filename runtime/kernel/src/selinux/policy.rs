//! The policy that a host's base makes together with our module.
//!
//! Invariant: what is loaded was compiled whole by `secilc`; where that fails, or the kernel refuses the result, what was in force stays, and
//! the error has the compiler's own words.
//!
//! Decisions:
//! - `secilc` and not a writer of the kernel's form: the host's whole policy is compiled, with all that CIL is. It reads our module from, and
//!   writes the policy to, files without a name: nobody can change them meanwhile, and nothing is left behind.
//! - A compiler that takes too long, or that nobody waits for any more, is killed. The store's tool is not ([`super::store`]).
//! - Who loads a policy is not asked, but how many have been loaded ([`SeLinux::loads`]): another's load takes ours away, and is seen by that. A
//!   boolean that is set counts, too, and costs a load.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{SeLinux, store::Store, tool};
use crate::sys;

/// The kernel's form that is written: all kernels read it since Linux 5.7, and all compilers write it since libsepol 3.0.
const POLICY_VERSION: &str = "33";
/// A distribution's whole policy takes some seconds; in emulation a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a host's base policy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A file of CIL, or a directory whose files ending in `.cil` are taken in the order of their names.
    Cil(PathBuf),
    /// The host's module store, which our module is put into: whoever rebuilds the policy from it has ours in it.
    Store,
}

impl Base {
    /// As [`fmt::Display`] writes it.
    #[must_use]
    pub fn of(word: &str) -> Self {
        if word == "store" { Self::Store } else { Self::Cil(word.into()) }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cil(path) => path.display().fmt(out),
            Self::Store => out.write_str("store"),
        }
    }
}

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
    #[error("the compiler (secilc, or semodule): {0}")]
    Compiler(io::Error),
    /// It does not take the texts, or cannot do what it was told.
    #[error("{tool} failed ({status}): {}", if said.is_empty() { "it said nothing" } else { said })]
    Refused {
        /// Which.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// It did not end.
    #[error("the compiler did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// One that was started before has not ended, and the store takes one after the other.
    #[error("an earlier semodule did not end within another {} s", .0.as_secs())]
    Earlier(Duration),
    /// Nobody can say what the store has.
    #[error("semodule lists no module, not even the distribution's: its domain may not be allowed to tell")]
    Unlisted,
    /// An administrator has switched it off.
    #[error("the store's module `palisade` is disabled: semodule -e palisade")]
    Disabled,
    /// The store takes another's in its place.
    #[error("the store has another module `palisade`, of a higher priority: semodule -X {0} -r palisade")]
    Overridden(u32),
    /// It was ended or not begun, for nobody waits for it any more.
    #[error("it was given up")]
    GivenUp,
    /// The kernel does not take the policy.
    #[error("the kernel does not load the policy: {0}")]
    Load(io::Error),
}

/// A host's base policy, and what was loaded with it.
#[derive(Debug)]
pub struct PolicySource {
    selinux: SeLinux,
    base: Base,
    given_up: AtomicBool,
    /// The module that was loaded last, and how many policies had been loaded then: held while one is, so that loads come one after the other.
    loaded: Mutex<Option<(String, u32)>>,
}

impl PolicySource {
    /// With nothing of ours loaded yet.
    #[must_use]
    pub fn new(selinux: SeLinux, base: Base) -> Self {
        Self { selinux, base, given_up: AtomicBool::new(false), loaded: Mutex::default() }
    }

    pub(super) fn selinux(&self) -> &SeLinux {
        &self.selinux
    }

    /// Where the base is.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    fn loaded(&self) -> MutexGuard<'_, Option<(String, u32)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many policies the kernel had loaded with the module that is in force from here; `None`: none is, or another was loaded since. One
    /// that was made of the store has in it what the store has.
    #[must_use]
    pub fn in_force(&self) -> Option<u32> {
        let mut loaded = self.loaded();
        let (module, loads) = loaded.as_mut()?;
        let now = self.selinux.loads().ok()?;
        if now != *loads && self.stored().as_ref() == Some(module) {
            *loads = now;
        }
        (now == *loads).then_some(now)
    }

    /// The module that the store has of ours, where the policy in force has our users, and so may have been made with it.
    fn stored(&self) -> Option<String> {
        if self.base != Base::Store || !self.selinux.has_our_users() {
            return None;
        }
        let stored = Store::of_host().module(&self.given_up);
        stored.inspect_err(|error| tracing::warn!(%error, "the module store cannot be read")).ok().flatten()
    }

    /// Takes what the store has for what is in force: a policy was made of it, before this process began.
    pub(super) fn take_stored(&self) -> Option<String> {
        let loads = self.selinux.loads().ok()?;
        let stored = self.stored()?;
        *self.loaded() = Some((stored.clone(), loads));
        Some(stored)
    }

    /// Takes the module for the one in force, as an earlier runtime loaded it, if no policy was loaded since.
    pub(super) fn take_over(&self, module: &str, loads: u32) -> bool {
        let stands = loads != 0 && self.selinux.loads().is_ok_and(|now| now == loads);
        *self.loaded() = stands.then(|| (module.to_owned(), loads));
        stands
    }

    /// Ends a load that is under way, and whichever is asked for afterwards. One into the store that has been started is waited for instead: a
    /// service's end is that of whatever it started.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Puts the base with the module in force; what is in force already is not loaded again.
    ///
    /// # Errors
    /// See [`PolicyError`]; what was in force stays.
    pub fn load(&self, module: &str) -> Result<(), PolicyError> {
        let mut loaded = self.loaded();
        let now = self.selinux.loads().map_err(PolicyError::Load)?;
        if loaded.as_ref().is_some_and(|(text, loads)| text == module && *loads == now) {
            return Ok(());
        }
        let loads = match &self.base {
            Base::Cil(path) => {
                let policy = compile("secilc", &sources(path)?, Some(module), PATIENCE, &self.given_up)?;
                self.put(&policy)?
            }
            Base::Store => {
                let installed = Store::of_host().install(module, &self.given_up);
                // It runs on: which of the two is in force, nobody knows.
                if matches!(installed, Err(PolicyError::TimedOut(_))) {
                    *loaded = None;
                }
                installed?;
                self.selinux.loads().map_err(PolicyError::Load)?
            }
        };
        *loaded = Some((module.to_owned(), loads));
        Ok(())
    }

    /// Whether the store has a module of ours; a host without its tool has no store.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub(super) fn is_in_store(&self) -> Result<bool, PolicyError> {
        match Store::of_host().has_module(&self.given_up) {
            Err(PolicyError::Compiler(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    /// Takes our module out of the store, and the users with it. Nobody may run under one.
    ///
    /// # Errors
    /// See [`PolicyError`]; what was in force stays.
    pub(super) fn remove_stored(&self) -> Result<(), PolicyError> {
        let mut loaded = self.loaded();
        *loaded = None;
        Store::of_host().remove(&self.given_up)
    }

    /// Puts the base alone in force. Tasks that still have a user of ours are then unlabeled: nothing of ours denies, and what the base says of
    /// what has no label does.
    ///
    /// # Errors
    /// See [`PolicyError`]; what was in force stays. Of a store there is no base alone.
    pub fn load_base(&self) -> Result<(), PolicyError> {
        let mut loaded = self.loaded();
        let Base::Cil(path) = &self.base else {
            return Err(PolicyError::Load(io::ErrorKind::Unsupported.into()));
        };
        let policy = compile("secilc", &sources(path)?, None, PATIENCE, &self.given_up)?;
        self.put(&policy)?;
        *loaded = None;
        Ok(())
    }

    /// The number of this load. The kernel counts from the first look at its count: before, it says 0.
    fn put(&self, policy: &[u8]) -> Result<u32, PolicyError> {
        let loads = || self.selinux.loads().map_err(PolicyError::Load);
        let before = loads()?;
        self.selinux.load(policy).map_err(PolicyError::Load)?;
        // Where another came in between, this is not the last: the next look at the count says so.
        if before == 0 { loads() } else { Ok(before.wrapping_add(1)) }
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
    given_up: &AtomicBool,
) -> Result<Vec<u8>, PolicyError> {
    let failed = PolicyError::Compiler;
    let mut policy = sys::nameless_file(c"policy").map_err(failed)?;
    let mut written = sys::nameless_file(c"palisade.cil").map_err(failed)?;
    written.write_all(module.unwrap_or_default().as_bytes()).map_err(failed)?;
    let mut command = Command::new(compiler);
    command.arg("-c").arg(POLICY_VERSION).arg("-o").arg(path_of(&policy)).args(["-f", "/dev/null"]).args(sources);
    if module.is_some() {
        command.arg(path_of(&written));
    }
    tool::run(&mut command, patience, given_up)?;
    let mut bytes = Vec::new();
    policy.rewind().and_then(|()| policy.read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Stdio;

    use super::*;

    static WANTED: AtomicBool = AtomicBool::new(false);

    pub const BASE: &str = "(handleunknown allow) (mls true) (class capability (chown)) (class process (ptrace)) (classorder (capability process))
        (sid kernel) (sidorder (kernel)) (sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
        (type kernel_t) (role system_r) (role object_r) (roletype system_r kernel_t) (roletype object_r kernel_t)
        (user system_u) (userrole system_u system_r) (userlevel system_u (s0)) (userrange system_u ((s0) (s0 (c0))))
        (sidcontext kernel (system_u system_r kernel_t ((s0) (s0))))";

    pub fn has_secilc() -> bool {
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
        let alone = compile("secilc", &files, None, PATIENCE, &WANTED).unwrap();
        let with = compile("secilc", &files, Some(&module), PATIENCE, &WANTED).unwrap();
        assert_eq!(alone[..4], 0xf97c_ff8cu32.to_le_bytes(), "the magic of a policy for the kernel");
        let names = |policy: &[u8]| policy.windows(14).filter(|bytes| bytes.starts_with(b"palisade_127_u")).count();
        assert_eq!((names(&alone), names(&with)), (0, 1));
    }

    #[test]
    fn unit_selinux_compiler_that_refuses_fails_or_does_not_end_is_an_error_in_its_own_words() {
        let missing = compile("no-such-compiler", &[], None, PATIENCE, &WANTED);
        assert!(matches!(missing, Err(PolicyError::Compiler(_))), "{missing:?}");
        let sleep =
            |patience, given_up| tool::run(Command::new("sleep").arg("60"), patience, &AtomicBool::new(given_up));
        assert!(matches!(sleep(Duration::from_millis(20), false), Err(PolicyError::TimedOut(_))));
        assert!(matches!(sleep(PATIENCE, true), Err(PolicyError::GivenUp)));
        if !has_secilc() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("a.cil");
        fs::write(&file, BASE).unwrap();
        let module = "(constrain (capability (no_such)) (neq u1 system_u))";
        match compile("secilc", &[file], Some(module), PATIENCE, &WANTED) {
            Err(PolicyError::Refused { said, .. }) => assert!(said.contains("no_such"), "{said}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unit_selinux_module_that_is_in_force_already_is_not_loaded_again() {
        let root = tempfile::tempdir().unwrap();
        let loads =
            |loads: u32| fs::write(root.path().join("status"), [[0; 12].as_slice(), &loads.to_ne_bytes()].concat());
        loads(7).unwrap();
        // A base that nothing can be compiled of.
        let base = Base::Cil(root.path().join("none"));
        let source = PolicySource::new(SeLinux { root: root.path().to_path_buf() }, base);
        assert!(source.take_over("(user x)", 7));
        source.load("(user x)").unwrap();
        assert!(matches!(source.load("(user y)"), Err(PolicyError::Base { .. })));
        loads(8).unwrap();
        assert!(matches!(source.load("(user x)"), Err(PolicyError::Base { .. })), "another's was loaded since");
        assert!(!source.take_over("(user x)", 7) && !source.take_over("(user x)", 0));
    }
}
