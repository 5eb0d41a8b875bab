//! The policy that a host's base makes together with our module.
//!
//! Invariant: what is loaded was compiled whole by `secilc`; where that fails, or the kernel refuses the result, what was in force stays, and
//! the error has the compiler's own words.
//!
//! Decisions:
//! - `secilc` and not a writer of the kernel's form: the host's whole policy is compiled, with all that CIL is. It reads our module from, and
//!   writes the policy to, files without a name: nobody can change them meanwhile, and nothing is left behind.
//! - A compiler that takes too long, or that nobody waits for any more, is killed. The store's tool is not, for it may be in its commit: it runs to
//!   its end, and the next is not started before that.
//! - Who loads a policy is not asked, but how many have been loaded ([`SeLinux::loads`]): another's load takes ours away, and is seen by that. A
//!   boolean that is set counts, too, and costs a load.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
/// Of our module in the host's store: above a distribution's (100), as an administrator's are.
const PRIORITY: &str = "400";

/// Where files are while another program reads them: nobody else writes here.
const OURS: &str = "/run/palisade";

/// The store's tool that was started last and has not ended: a host has one store, whoever of this process loads.
static IN_STORE: Mutex<Option<Child>> = Mutex::new(None);

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
    /// It does not take the texts.
    #[error("the compiler does not take the policy ({status}): {said}")]
    Refused {
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

    /// Where the base is.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    fn loaded(&self) -> MutexGuard<'_, Option<(String, u32)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many policies the kernel had loaded with the module that is in force from here; `None`: none is, or another was loaded since. One
    /// that was made of the store has the module in it, if it has our users.
    #[must_use]
    pub fn in_force(&self) -> Option<u32> {
        let mut loaded = self.loaded();
        let (_, loads) = loaded.as_mut()?;
        let now = self.selinux.loads().ok()?;
        if now != *loads && self.base == Base::Store && self.selinux.has_our_users() {
            *loads = now;
        }
        (now == *loads).then_some(now)
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
                let installed = install("semodule", Path::new(OURS), module, PATIENCE, &IN_STORE, &self.given_up);
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

/// By the host's own tools, which load what they rebuild. One that was not in time stays `in_store`, and the module's text, which it may yet read.
fn install(
    tool: &str,
    ours: &Path,
    module: &str,
    patience: Duration,
    in_store: &Mutex<Option<Child>>,
    given_up: &AtomicBool,
) -> Result<(), PolicyError> {
    let failed = PolicyError::Compiler;
    let until = sys::boot_time() + patience;
    let mut in_store = in_store.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(earlier) = in_store.as_mut() {
        wait(earlier, until, given_up)?.ok_or(PolicyError::Earlier(patience))?;
        *in_store = None;
    }
    if given_up.load(Ordering::Relaxed) {
        return Err(PolicyError::GivenUp);
    }
    // The store calls a module by its file's name.
    let directory = ours.join(format!("module-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(failed)?;
    let file = directory.join("palisade.cil");
    let installed = fs::write(&file, module).map_err(failed).and_then(|()| {
        let (child, said) = spawn(Command::new(tool).args(["-X", PRIORITY, "-i"]).arg(&file))?;
        let ended = wait(in_store.insert(child), until, &AtomicBool::new(false))?;
        let status = ended.ok_or(PolicyError::TimedOut(patience))?;
        *in_store = None;
        judge(status, said)
    });
    if in_store.is_none()
        && let Err(error) = fs::remove_dir_all(&directory)
    {
        tracing::warn!(path = %directory.display(), %error, "a module's text stays");
    }
    installed
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
    run(&mut command, patience, given_up)?;
    let mut bytes = Vec::new();
    policy.rewind().and_then(|()| policy.read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// Who does not end in time, or is waited for by nobody any more, is killed.
fn run(command: &mut Command, patience: Duration, given_up: &AtomicBool) -> Result<(), PolicyError> {
    let (mut child, said) = spawn(command)?;
    let ended = wait(&mut child, sys::boot_time() + patience, given_up);
    let ended = ended.and_then(|status| status.ok_or(PolicyError::TimedOut(patience)));
    if ended.is_err() {
        child.kill().and_then(|()| child.wait()).map_err(PolicyError::Compiler)?;
    }
    judge(ended?, said)
}

/// And the file of what it says.
fn spawn(command: &mut Command) -> Result<(Child, File), PolicyError> {
    let failed = PolicyError::Compiler;
    let said = sys::nameless_file(c"said").map_err(failed)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().map_err(failed)?);
    Ok((command.spawn().map_err(failed)?, said))
}

fn judge(status: ExitStatus, mut said: File) -> Result<(), PolicyError> {
    if status.success() {
        return Ok(());
    }
    let mut words = Vec::new();
    let read = said.rewind().and_then(|()| said.take(MAX_SAID_BYTES).read_to_end(&mut words));
    read.map_err(PolicyError::Compiler)?;
    Err(PolicyError::Refused { status, said: String::from_utf8_lossy(&words).trim().to_owned() })
}

/// Until then, by the boot clock; `None`: it runs on, as it does where it is given up.
fn wait(child: &mut Child, until: Duration, given_up: &AtomicBool) -> Result<Option<ExitStatus>, PolicyError> {
    loop {
        if let Some(status) = child.try_wait().map_err(PolicyError::Compiler)? {
            return Ok(Some(status));
        }
        if given_up.load(Ordering::Relaxed) {
            return Err(PolicyError::GivenUp);
        }
        if sys::boot_time() >= until {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
pub(super) mod tests {
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
    fn unit_selinux_module_is_put_into_the_store_by_the_hosts_tool_above_a_distributions() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let (tool, seen) = (directory.path().join("tool"), directory.path().join("seen"));
        let script = format!(
            "#!/bin/sh\necho \"$1 $2 $3 ${{4##*/}}\" >{seen}\ncat \"$4\" >>{seen}\ngrep -q good \"$4\" || {{ echo no such type >&2; exit 3; }}\n",
            seen = seen.display()
        );
        fs::write(&tool, script).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let (tool, ours) = (tool.to_str().unwrap(), &directory.path().join("ours"));
        let install = |text| install(tool, ours, text, PATIENCE, &Mutex::default(), &WANTED);
        install("(user good)").unwrap();
        assert_eq!(fs::read_to_string(&seen).unwrap(), "-X 400 -i palisade.cil\n(user good)");
        match install("(user bad)") {
            Err(PolicyError::Refused { said, .. }) => assert_eq!(said, "no such type"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(ours).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn unit_selinux_tool_of_the_store_runs_to_its_end_and_the_next_is_not_started_before() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let (tool, seen) = (directory.path().join("tool"), directory.path().join("seen"));
        let (seen, end) = (seen.as_path(), directory.path().join("end"));
        let script = "#!/bin/sh\nwhile ! [ -e END ]; do sleep 0.02; done\ncat \"$4\" >>SEEN\n";
        let script = script.replace("END", &end.display().to_string()).replace("SEEN", &seen.display().to_string());
        fs::write(&tool, script).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let (ours, in_store) = (directory.path().join("ours"), Mutex::default());
        let install = |text, patience, given_up| {
            install(tool.to_str().unwrap(), &ours, text, patience, &in_store, &AtomicBool::new(given_up))
        };
        let (short, is_waited_for) = (Duration::from_millis(50), false);
        assert!(matches!(install("(first)", short, true), Err(PolicyError::GivenUp)), "not even started");
        assert!(matches!(install("(first)", short, is_waited_for), Err(PolicyError::TimedOut(_))));
        assert!(matches!(install("(second)", short, is_waited_for), Err(PolicyError::Earlier(_))));
        assert!(matches!(install("(second)", PATIENCE, true), Err(PolicyError::GivenUp)));
        fs::write(end, "").unwrap();
        install("(third)", PATIENCE, is_waited_for).unwrap();
        assert_eq!(fs::read_to_string(seen).unwrap(), "(first)(third)", "what was begun came to its end");
        assert_eq!(fs::read_dir(ours).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn unit_selinux_compiler_that_refuses_fails_or_does_not_end_is_an_error_in_its_own_words() {
        let missing = compile("no-such-compiler", &[], None, PATIENCE, &WANTED);
        assert!(matches!(missing, Err(PolicyError::Compiler(_))), "{missing:?}");
        let sleep = |patience, given_up| run(Command::new("sleep").arg("60"), patience, &AtomicBool::new(given_up));
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
}
