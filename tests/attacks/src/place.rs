//! The place of attacks: what lies there, and the attacker in it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use palisade_acts::acting::Entry;
use palisade_domain::Slot;
use palisade_world::Membership;

use crate::Failed;

/// What attacks.
const ATTACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attack"));
/// What needs its loader.
const DYNAMIC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dynamic"));
/// What needs nothing, and can be another's interpreter.
const PLAIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plain"));
/// What has that one as its ELF interpreter.
const ALIEN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/alien"));
/// The attacker's executable.
pub const ACTOR: &str = "/act/actor";
/// Executed programs mark here that they ran.
const RAN: &str = "/free/ran";
/// Deeper than what is put there.
const LEVELS: u32 = 2;
/// `SIGKILL`.
const SIGKILL: i32 = 9;

/// The place; it goes when this is dropped.
#[derive(Debug)]
pub struct Place(palisade_acts::Place);

/// What can be seen from outside of what attacks are after: names and contents.
pub type Trace = BTreeMap<PathBuf, Vec<u8>>;

impl Place {
    /// Makes it.
    ///
    /// # Errors
    /// Without root, or where something cannot be made.
    pub fn new() -> Result<Self, Failed> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("attacks-palisade-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Self(palisade_acts::Place::new(&name, |lowest| {
            fs::create_dir(lowest.join("lower"))?;
            fs::write(lowest.join("lower/secret"), "hidden\n")
        })?);
        place.fill()?;
        Ok(place)
    }

    fn fill(&self) -> io::Result<()> {
        for directory in ["/act", "/kept", "/free"] {
            fs::create_dir(self.inside(directory))?;
        }
        fs::set_permissions(self.inside("/free"), fs::Permissions::from_mode(0o777))?;
        let files: [(&str, &[u8]); 10] = [
            (ACTOR, ATTACK),
            ("/kept/tool", ATTACK),
            ("/kept/dynamic", DYNAMIC),
            ("/kept/plain", PLAIN),
            ("/kept/script", b"#!/bin/sh\necho ran >/free/ran\n"),
            ("/kept/secret", b"hidden\n"),
            ("/free/open", b"shown\n"),
            ("/free/runs", ATTACK),
            ("/free/alien", ALIEN),
            ("/free/interpreted", b"#!/kept/tool\n"),
        ];
        for (path, content) in files {
            fs::write(self.inside(path), content)?;
            fs::set_permissions(self.inside(path), fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// A path of the place on the host.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.0.inside(path)
    }

    /// Who belongs to the slot.
    ///
    /// # Errors
    /// Where the cgroup is gone.
    pub fn membership(&self, slot: Slot) -> io::Result<Membership> {
        self.0.membership(slot)
    }

    /// What attacks are after, as it is now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn trace(&self) -> io::Result<Trace> {
        let mut trace = Trace::new();
        for top in ["/kept", "/lower"] {
            read_below(&self.inside(top), LEVELS, &mut trace)?;
        }
        Ok(trace)
    }

    /// Whether a program ran that had been forbidden.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.inside(RAN).exists()
    }

    /// Puts a process into the cgroup that all others are below.
    ///
    /// # Errors
    /// Where it cannot be moved.
    pub fn move_out(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.procs_of_all(), pid.to_string())
    }

    /// Starts the attacker under the profile and in the context, if any are named; it prepares what it is told to, to be done so many times if it is one of many
    /// acts.
    ///
    /// # Errors
    /// Where it cannot: what it said is in the error.
    pub fn start(
        &self,
        program: &Path,
        (profile, context): (&str, &str),
        attack: &str,
        amount: u64,
    ) -> Result<Attacker, Failed> {
        let entry = Entry {
            root: self.0.root().display().to_string(),
            procs: self.0.procs().display().to_string(),
            beside: 0,
            executable: ACTOR.to_owned(),
            profile: profile.to_owned(),
            context: context.to_owned(),
            at_terminal: false,
        };
        let mut process = Command::new(program)
            .args(entry.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut orders = process.stdin.take().ok_or_else(no_pipe)?;
        let mut answers = BufReader::new(process.stdout.take().ok_or_else(no_pipe)?);
        writeln!(orders, "{attack} {} {amount}", self.0.root().display())?;
        let mut first = String::new();
        answers.read_line(&mut first)?;
        let attacker = Attacker { process, orders, answers, note: String::new() };
        if first.trim() == "ready" { Ok(attacker) } else { Err(Failed(format!("it said '{}'", first.trim()))) }
    }
}

fn read_below(directory: &Path, levels: u32, trace: &mut Trace) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        // That it is not there is what is seen of it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let content = if kind.is_file() { fs::read(&path)? } else { Vec::new() };
        if kind.is_dir() && levels > 0 {
            read_below(&path, levels - 1, trace)?;
        }
        trace.insert(path, content);
    }
    Ok(())
}

fn no_pipe() -> Failed {
    Failed("a pipe is missing".to_owned())
}

/// Who attacks, once it is told to.
#[derive(Debug)]
pub struct Attacker {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it said of many acts.
    pub note: String,
}

/// What the attacker says of its attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The call's error, 0 for success; and whether it saw that it had reached what it was after.
    Errno(i32, bool),
    /// It was killed.
    Killed,
}

impl Attacker {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it to go on: to attack, or to end an attack that goes on.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn tell(&mut self) -> Result<(), Failed> {
        Ok(writeln!(self.orders, "go")?)
    }

    /// The attack.
    ///
    /// # Errors
    /// Where it ends otherwise than with an answer.
    pub fn attack(&mut self) -> Result<Said, Failed> {
        self.tell()?;
        self.answer()
    }

    /// What it says of it.
    ///
    /// # Errors
    /// Where it ends otherwise than with an answer.
    pub fn answer(&mut self) -> Result<Said, Failed> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let fields = answer.trim().strip_prefix("errno=").and_then(|rest| rest.split_once(" effect="));
        if let Some((errno, rest)) = fields {
            let (effect, note) = rest.split_once(' ').unwrap_or((rest, ""));
            note.clone_into(&mut self.note);
            return Ok(Said::Errno(errno.parse()?, effect == "yes"));
        }
        let status = self.process.wait()?;
        if answer.is_empty() && status.signal() == Some(SIGKILL) {
            return Ok(Said::Killed);
        }
        Err(Failed(format!("it said '{}' and ended: {status}", answer.trim())))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // Also one that left its cgroup.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}
