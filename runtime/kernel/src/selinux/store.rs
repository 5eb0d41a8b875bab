//! The host's module store, as its own tool, `semodule`, shows and changes it.
//!
//! Invariants: what changes the store is not killed by the node, for it may be in its commit, and before it has ended the next is not started and the
//! store is not looked into for what to change, also by who comes after a node that was killed. A module of ours that the store leaves out of the
//! policies that are made of it is no success, but an error that says why.
//!
//! Decisions:
//! - The tool and not the files below `/var/lib/selinux`: where they are, how they are packed and locked is the library's.
//! - A lock of our own (flock(2)) beside the library's, for which a tool waits 5 s, and one that lists not at all. The tool's standard input is its
//!   file: so the kernel keeps it for as long as the tool runs, whatever becomes of the node.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{PolicyError, tool};
use crate::sys;

/// The module's name, which the tool takes from a file's.
const NAME: &str = "palisade";
/// Of our module: above a distribution's (100), as an administrator's are.
const PRIORITY: &str = "400";
/// A distribution's whole policy takes some seconds; on a busy machine in emulation more than two minutes. Nothing is gained by less, for the tool runs on.
const PATIENCE: Duration = Duration::from_secs(300);
/// With what only looks.
const LOOKING: Duration = Duration::from_secs(30);
/// Where the module's text is for the tool. Its domain may be one that reads what a user gives it, and hardly anything that a service keeps.
const SCRATCH: &str = "/tmp";
/// What directories there are called that have a text for the tool, and one that it writes.
const TEXT: &str = "palisade-module-";
const LOOK: &str = "palisade-look-";
/// Locked by whoever of Palisade changes the store of this host.
const LOCK: &str = "/run/palisade/selinux.store";

/// What was started last and has not ended, with the text that it may yet read: a host has one store, whoever of this process changes it.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

pub(super) type Running = (Child, Option<Scratch>);

/// The store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store<'a> {
    tool: &'a str,
    scratch: &'a Path,
    lock: &'a Path,
    /// With what changes it.
    patience: Duration,
    running: &'a Mutex<Option<Running>>,
}

/// Nobody of Palisade changes the store while this lives.
struct Rest<'a> {
    running: MutexGuard<'a, Option<Running>>,
    lock: File,
}

/// What a policy that is made of the store has of a module of our name.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    Absent,
    Ours,
    Disabled,
    /// One that stands above it, by its priority.
    Below(u32),
}

impl Store<'static> {
    pub fn of_host() -> Self {
        let (scratch, lock) = (Path::new(SCRATCH), Path::new(LOCK));
        Self { tool: "semodule", scratch, lock, patience: PATIENCE, running: &RUNNING }
    }
}

impl Store<'_> {
    /// Puts the module into the store; the tool makes the policy anew and loads it.
    ///
    /// # Errors
    /// See [`PolicyError`]; a store that could not be changed is as it was. After [`PolicyError::TimedOut`] the tool runs on.
    pub fn install(&self, module: &str, given_up: &AtomicBool) -> Result<(), PolicyError> {
        let until = sys::boot_time() + self.patience;
        let rest = self.at_rest(until, given_up)?;
        match self.listed(given_up)?.0 {
            Listed::Disabled => return Err(PolicyError::Disabled),
            Listed::Below(priority) => return Err(PolicyError::Overridden(priority)),
            Listed::Absent | Listed::Ours => {}
        }
        let scratch = Scratch::make(self.scratch, TEXT).map_err(PolicyError::Compiler)?;
        let file = scratch.0.join(NAME).with_extension("cil");
        fs::write(&file, module).map_err(PolicyError::Compiler)?;
        self.change(
            Command::new(self.tool).args(["-X", PRIORITY, "-i"]).arg(file),
            Some(scratch),
            until,
            rest,
            given_up,
        )
    }

    /// Takes it out, if it is in: then the users are gone, too.
    ///
    /// # Errors
    /// As for [`Self::install`].
    pub fn remove(&self, given_up: &AtomicBool) -> Result<(), PolicyError> {
        let until = sys::boot_time() + self.patience;
        let rest = self.at_rest(until, given_up)?;
        if !self.has_module(given_up)? {
            return Ok(());
        }
        self.change(Command::new(self.tool).args(["-X", PRIORITY, "-r", NAME]), None, until, rest, given_up)
    }

    /// Whether it is there, in policies or not.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn has_module(&self, given_up: &AtomicBool) -> Result<bool, PolicyError> {
        Ok(self.listed(given_up)?.1)
    }

    /// The text of our module, if a policy that is made of the store has it in it.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn module(&self, given_up: &AtomicBool) -> Result<Option<String>, PolicyError> {
        if self.listed(given_up)?.0 != Listed::Ours {
            return Ok(None);
        }
        let scratch = Scratch::make(self.scratch, LOOK).map_err(PolicyError::Compiler)?;
        let mut command = Command::new(self.tool);
        tool::run(command.args(["-X", PRIORITY, "-E", NAME]).current_dir(&scratch.0), LOOKING, given_up)?;
        let text = fs::read_to_string(scratch.0.join(NAME).with_extension("cil"));
        text.map(Some).map_err(PolicyError::Compiler)
    }

    /// And whether ours is there at all.
    fn listed(&self, given_up: &AtomicBool) -> Result<(Listed, bool), PolicyError> {
        let listing = tool::output(Command::new(self.tool).arg("-lfull"), LOOKING, given_up)?;
        // A store has its distribution's modules at least: who may not be told is given nothing.
        if listing.trim().is_empty() { Err(PolicyError::Unlisted) } else { Ok(Listed::of(&listing)) }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once what was started before has ended, by whomever: only then what the store has is what it will have.
    fn at_rest(&self, until: Duration, given_up: &AtomicBool) -> Result<Rest<'_>, PolicyError> {
        let mut running = self.running();
        if let Some((earlier, _)) = running.as_mut() {
            tool::wait(earlier, until, given_up)?.ok_or(PolicyError::Earlier(self.patience))?;
            *running = None;
        }
        let lock = self.unlocked().map_err(PolicyError::Compiler)?;
        let locked = tool::await_until(until, given_up, || match lock.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        })?;
        locked.ok_or(PolicyError::Earlier(self.patience))?;
        Scratch::remove_stale(self.scratch).map_err(PolicyError::Compiler)?;
        Ok(Rest { running, lock })
    }

    /// Open for reading alone, which the tool's domain is more likely to be allowed.
    fn unlocked(&self) -> io::Result<File> {
        if let Some(directory) = self.lock.parent() {
            fs::create_dir_all(directory)?;
        }
        OpenOptions::new().read(true).custom_flags(libc::O_CREAT).mode(0o600).open(self.lock)
    }

    fn change(
        &self,
        command: &mut Command,
        text: Option<Scratch>,
        until: Duration,
        mut rest: Rest<'_>,
        given_up: &AtomicBool,
    ) -> Result<(), PolicyError> {
        if given_up.load(Ordering::Relaxed) {
            return Err(PolicyError::GivenUp);
        }
        let (child, said) = tool::spawn(command, rest.lock.into())?;
        let (child, _) = rest.running.insert((child, text));
        let ended = tool::wait(child, until, &AtomicBool::new(false))?;
        let status = ended.ok_or(PolicyError::TimedOut(self.patience))?;
        *rest.running = None;
        tool::judge(command, status, said)
    }
}

impl Listed {
    /// Of lines `400 palisade cil`, the last word of some being `disabled`: a name is, whatever its priority. And whether ours is among them.
    fn of(listing: &str) -> (Self, bool) {
        let words = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of_name: Vec<_> = words.filter(|words| words.get(1) == Some(&NAME)).collect();
        let is_there = of_name.iter().any(|words| words[0] == PRIORITY);
        let ours = PRIORITY.parse().unwrap_or_default();
        let above = of_name.iter().filter_map(|words| words[0].parse::<u32>().ok()).filter(|priority| *priority > ours);
        let listed = match above.max() {
            _ if of_name.iter().any(|words| words.last() == Some(&"disabled")) => Self::Disabled,
            Some(highest) => Self::Below(highest),
            None if is_there => Self::Ours,
            None => Self::Absent,
        };
        (listed, is_there)
    }
}

/// A directory of ours alone, which goes with whoever needs it.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// By a name that nobody can take before: others may write there.
    fn make(below: &Path, name: &str) -> io::Result<Self> {
        let unguessed = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let path = below.join(format!("{name}{}", unguessed.trim()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Texts of who was killed: no tool reads them any more. Another user's directory is none.
    fn remove_stale(below: &Path) -> io::Result<()> {
        let own = fs::metadata("/proc/self")?.uid();
        for entry in fs::read_dir(below)?.flatten() {
            let is_text = entry.file_name().as_encoded_bytes().starts_with(TEXT.as_bytes());
            if is_text && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own) {
                drop(Self(entry.path()));
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a module's text stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    static WANTED: AtomicBool = AtomicBool::new(false);

    /// A tool that keeps its module in a file, and what else it does by this.
    fn tool(directory: &Path, at_install: &str) -> PathBuf {
        let tool = directory.join("tool");
        let script = format!(
            "#!/bin/sh\ncd {there}\ncase $1$3 in\n-lfull) cat list ;;\n-X-r) echo \"$*\" >>seen; echo 100 base pp >list ;;\n-X-E) cp stored \"$OLDPWD/palisade.cil\" ;;\n\
             *) {at_install}\necho \"$1 $2 $3 ${{4##*/}}\" >>seen; cp \"$4\" stored; echo 400 palisade cil >list ;;\nesac\n",
            there = directory.display()
        );
        fs::write(&tool, script).unwrap();
        fs::write(directory.join("list"), "100 base        pp         \n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        tool
    }

    fn store<'a>(tool: &'a Path, patience: Duration, running: &'a Mutex<Option<Running>>) -> Store<'a> {
        let scratch = tool.parent().unwrap();
        let lock = Path::new(scratch.join("run/lock").leak());
        Store { tool: tool.to_str().unwrap(), scratch, lock, patience, running }
    }

    fn scratches(directory: &Path) -> usize {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("palisade-")).count()
    }

    #[test]
    fn unit_selinux_module_is_put_into_the_store_by_the_hosts_tool_and_taken_out_and_read_there() {
        let directory = tempfile::tempdir().unwrap();
        let tool = tool(directory.path(), "grep -q good \"$4\" || { echo no such type >&2; exit 3; }");
        let running = Mutex::default();
        let scratch = directory.path();
        let store = store(&tool, PATIENCE, &running);
        store.remove(&WANTED).unwrap();
        assert_eq!(store.module(&WANTED).unwrap(), None);
        store.install("(user good)", &WANTED).unwrap();
        assert_eq!(store.module(&WANTED).unwrap().as_deref(), Some("(user good)"));
        match store.install("(user bad)", &WANTED) {
            Err(PolicyError::Refused { said, .. }) => assert_eq!(said, "no such type"),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.module(&WANTED).unwrap().as_deref(), Some("(user good)"), "what was there stays");
        store.remove(&WANTED).unwrap();
        let seen = fs::read_to_string(scratch.join("seen")).unwrap();
        assert_eq!(seen, "-X 400 -i palisade.cil\n-X 400 -r palisade\n", "what is not there is not taken out");
        assert_eq!(scratches(scratch), 0, "nothing is left behind");
    }

    #[test]
    fn unit_selinux_module_that_the_store_leaves_out_is_not_put_into_it() {
        let directory = tempfile::tempdir().unwrap();
        let tool = tool(directory.path(), "");
        let running = Mutex::default();
        let store = store(&tool, PATIENCE, &running);
        let listed = |lines: &str| fs::write(directory.path().join("list"), lines).unwrap();
        listed("\n");
        assert!(matches!(store.remove(&WANTED), Err(PolicyError::Unlisted)), "who is told nothing knows nothing");
        listed("400 palisade cil disabled\n");
        let disabled = store.install("(user x)", &WANTED).unwrap_err();
        assert!(disabled.to_string().contains("semodule -e palisade"), "{disabled}");
        listed("500 palisade pp\n400 palisade cil\n");
        let below = store.install("(user x)", &WANTED).unwrap_err();
        assert!(below.to_string().contains("semodule -X 500 -r palisade"), "{below}");
        assert_eq!(store.module(&WANTED).unwrap(), None);
        assert!(!directory.path().join("seen").exists(), "the tool was called");
    }

    #[test]
    fn unit_selinux_listing_of_the_store_says_whether_our_module_is_in_policies() {
        for (listing, listed, is_there) in [
            ("", Listed::Absent, false),
            ("100 palisade-x pp\n100 base pp palisade\n", Listed::Absent, false),
            ("100 palisade pp\n", Listed::Absent, false),
            ("400 palisade        cil         \n100 palisade pp\n", Listed::Ours, true),
            ("400 palisade cil disabled\n", Listed::Disabled, true),
            ("900 palisade cil\n400 palisade cil\n", Listed::Below(900), true),
            ("900 palisade cil\n", Listed::Below(900), false),
        ] {
            assert_eq!(Listed::of(listing), (listed, is_there), "{listing}");
        }
    }

    #[test]
    fn unit_selinux_tool_of_the_store_runs_to_its_end_and_the_next_is_not_started_before() {
        let directory = tempfile::tempdir().unwrap();
        let tool = tool(directory.path(), "while ! [ -e end ]; do sleep 0.02; done; cat \"$4\" >>texts");
        let running = Mutex::default();
        let install =
            |text, patience, given_up| store(&tool, patience, &running).install(text, &AtomicBool::new(given_up));
        let (short, is_waited_for) = (Duration::from_millis(50), false);
        assert!(matches!(install("(first)", short, true), Err(PolicyError::GivenUp)), "not even started");
        assert!(matches!(install("(first)", short, is_waited_for), Err(PolicyError::TimedOut(_))));
        assert!(matches!(install("(second)", short, is_waited_for), Err(PolicyError::Earlier(_))));
        assert!(matches!(install("(second)", PATIENCE, true), Err(PolicyError::GivenUp)));
        fs::write(directory.path().join("end"), "").unwrap();
        install("(third)", PATIENCE, is_waited_for).unwrap();
        let texts = fs::read_to_string(directory.path().join("texts")).unwrap();
        assert_eq!(texts, "(first)(third)", "what was begun came to its end");
        assert_eq!(scratches(directory.path()), 0, "nothing is left behind");
    }

    #[test]
    fn unit_selinux_tool_that_outlives_its_node_is_waited_for_before_the_store_is_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let tool = tool(directory.path(), "while ! [ -e end ]; do sleep 0.02; done");
        // As two processes are: each knows what it has started itself.
        let (killed, next) = (Mutex::<Option<Running>>::default(), Mutex::default());
        fs::write(directory.path().join("palisade-module-file"), "").unwrap();
        let short = Duration::from_millis(50);
        let begun = store(&tool, short, &killed).install("(begun)", &WANTED);
        assert!(matches!(begun, Err(PolicyError::TimedOut(_))));
        // It can drop nothing any more.
        std::mem::forget(std::mem::take(&mut *killed.lock().unwrap()));
        assert_eq!(scratches(directory.path()), 2);
        let early = store(&tool, short, &next).remove(&WANTED);
        assert!(matches!(early, Err(PolicyError::Earlier(_))), "it is not there yet, and will be: {early:?}");
        fs::write(directory.path().join("end"), "").unwrap();
        store(&tool, PATIENCE, &next).remove(&WANTED).unwrap();
        let seen = fs::read_to_string(directory.path().join("seen")).unwrap();
        assert_eq!(seen, "-X 400 -i palisade.cil\n-X 400 -r palisade\n", "what was begun is taken out");
        assert_eq!(scratches(directory.path()), 1, "its text, and no file that is not ours");
    }
}
