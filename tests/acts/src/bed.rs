//! Who acts in a place.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use nix::{
    fcntl::OFlag,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
};
use palisade_differential::{Act, Actor, Case, ground};
use palisade_domain::Slot;
use palisade_world::Membership;

use crate::{
    Place,
    acting::{Entry, KILLED, READY},
    program,
};

/// A program of this machine that [`crate::acting::run`]s when its first argument says so.
#[derive(Debug, Clone)]
pub struct Starter {
    /// Its file.
    pub program: PathBuf,
    /// The AppArmor profile that actors are put under; empty: none.
    pub profile: String,
    /// The context of SELinux that they are executed in; empty: none of their own.
    pub context: String,
}

impl Starter {
    /// Nothing is on its actors.
    #[must_use]
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), profile: String::new(), context: String::new() }
    }
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The call went through.
    Permitted,
    /// It was refused.
    Refused,
    /// The executed program was killed, or the actor was, which must be started anew.
    Killed,
}

/// A process that acts.
#[derive(Debug)]
struct Acting {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Its terminal's other end: closed, it would be hung up.
    _terminal: Option<PtyMaster>,
}

/// The place with its actors.
#[derive(Debug)]
pub struct Bed {
    place: Place,
    starter: Starter,
    actors: BTreeMap<Actor, Acting>,
}

impl Bed {
    /// Makes it; nobody acts yet.
    ///
    /// # Errors
    /// Without root, or where something cannot be made.
    pub fn new(name: &str, starter: Starter) -> io::Result<Self> {
        let place = Place::new(&format!("palisade-acts-{name}-{}", std::process::id()), |_| Ok(()))?;
        let bed = Self { place, starter, actors: BTreeMap::new() };
        for executable in [ground::ONE, ground::OTHER] {
            let file = bed.place.inside(executable);
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            fs::copy(&bed.starter.program, &file)?;
        }
        for traced in ground::TRACED {
            bed.put(traced)?;
        }
        bed.put(ground::OWNED)?;
        Ok(bed)
    }

    /// Who belongs to the slot.
    ///
    /// # Errors
    /// Where the cgroup is gone.
    pub fn membership(&self, slot: Slot) -> io::Result<Membership> {
        self.place.membership(slot)
    }

    /// One of its processes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.actors.values().map(|acting| acting.process.id()).next().unwrap_or(0)
    }

    /// Starts whoever is missing; no policy may be in force, for they load libraries.
    ///
    /// # Errors
    /// Where one does not come to act.
    pub fn start(&mut self) -> io::Result<()> {
        for actor in Actor::ALL {
            if !self.actors.contains_key(&actor) {
                let acting = self.start_one(actor)?;
                self.actors.insert(actor, acting);
            }
        }
        Ok(())
    }

    /// Whether all are there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.actors.len() == Actor::ALL.len()
    }

    fn start_one(&self, actor: Actor) -> io::Result<Acting> {
        let entry = Entry {
            root: self.place.root().display().to_string(),
            procs: self.place.procs().display().to_string(),
            beside: self.pid(),
            executable: actor.executable().to_owned(),
            profile: self.starter.profile.clone(),
            context: self.starter.context.clone(),
            at_terminal: actor.at_terminal(),
        };
        let (terminal, errors) = if actor.at_terminal() {
            let (master, slave) = open_terminal()?;
            (Some(master), Stdio::from(slave))
        } else {
            (None, Stdio::null())
        };
        let mut process = Command::new(&self.starter.program)
            .args(entry.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let orders = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut first = String::new();
        answers.read_line(&mut first)?;
        if first.trim() != READY {
            return Err(io::Error::other(format!("{actor:?} did not come to act: '{first}', {:?}", process.wait())));
        }
        Ok(Acting { process, orders, answers, _terminal: terminal })
    }

    /// Makes the files of a case, in place of those of the one before.
    ///
    /// # Errors
    /// Where one cannot be made.
    pub fn fill(&self, case: &Case) -> io::Result<()> {
        let below = self.place.inside(ground::BELOW);
        if below.exists() {
            fs::remove_dir_all(&below)?;
        }
        fs::create_dir(&below)?;
        case.files().iter().filter(|path| **path != ground::BELOW).try_for_each(|path| self.put(path))
    }

    /// A program that anybody may change, and its directories; each belongs to whom its name says.
    fn put(&self, path: &str) -> io::Result<()> {
        let owner = |path: &str| if ground::is_own(path) { 0 } else { ground::OTHER_USER };
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
        for end in ends {
            let directory = self.place.inside(&path[..end]);
            if !directory.exists() {
                fs::create_dir(&directory)?;
            }
            chown(directory, Some(owner(&path[..end])), None)?;
        }
        let file = self.place.inside(path);
        fs::write(&file, program::bytes())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o777))?;
        chown(file, Some(owner(path)), None)
    }

    /// Does the act.
    ///
    /// # Errors
    /// Where neither a denial nor a success came of it, or the actor is missing.
    pub fn act(&mut self, act: &Act) -> io::Result<Done> {
        let acting = self.actors.get_mut(&act.actor).ok_or_else(|| io::Error::other("nobody acts"))?;
        let orders = acting.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(orders, "{}", act.deed)?;
        let mut answer = String::new();
        acting.answers.read_line(&mut answer)?;
        if answer.is_empty() {
            let status = acting.process.wait()?;
            self.actors.remove(&act.actor);
            let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
            return if killed {
                Ok(Done::Killed)
            } else {
                Err(io::Error::other(format!("the actor ended with {status}")))
            };
        }
        match answer.trim().parse() {
            Ok(0) => Ok(Done::Permitted),
            Ok(1 | 13) => Ok(Done::Refused),
            Ok(KILLED) => Ok(Done::Killed),
            other => Err(io::Error::other(format!("errno {other:?}, which is neither a denial nor a success"))),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for acting in self.actors.values_mut() {
            drop(acting.orders.take());
        }
        self.place.kill();
        for acting in self.actors.values_mut() {
            let _reaped = acting.process.wait();
        }
    }
}

fn open_terminal() -> io::Result<(PtyMaster, File)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let open =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(ptsname_r(&master)?)?;
    Ok((master, open))
}
