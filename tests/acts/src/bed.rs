//! The place, and who acts in it.
//!
//! Everything has the bed's own name and goes with it: a directory on a tmpfs, an overlay of this machine's whole file system below a writable
//! layer, a cgroup of the unified hierarchy.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
};
use palisade_differential::{Act, Actor, Case, ground};
use palisade_domain::{CgroupId, Slot};
use palisade_world::Membership;

use crate::{
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
    directory: PathBuf,
    cgroup: PathBuf,
    unified: PathBuf,
    starter: Starter,
    actors: BTreeMap<Actor, Acting>,
}

impl Bed {
    /// Makes it; nobody acts yet.
    ///
    /// # Errors
    /// Without root, or where something cannot be made.
    pub fn new(name: &str, starter: Starter) -> io::Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            return Err(io::Error::other("the programs that are executed are for x86-64"));
        }
        let name = format!("palisade-acts-{name}-{}", std::process::id());
        let directory = Path::new("/dev/shm").join(&name);
        for part in ["own", "upper", "work", "root"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let unified = unified()?;
        let cgroup = unified.join(&name);
        let bed = Self { directory, cgroup, unified, starter, actors: BTreeMap::new() };
        let place = bed.directory.display();
        let layers = format!("lowerdir={place}/own:/,upperdir={place}/upper,workdir={place}/work");
        mount(Some("overlay"), &bed.root(), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
        fs::create_dir(&bed.cgroup)?;
        for executable in [ground::ONE, ground::OTHER] {
            let file = bed.inside(executable);
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            fs::copy(&bed.starter.program, &file)?;
        }
        for traced in ground::TRACED {
            bed.put(traced)?;
        }
        bed.put(ground::OWNED)?;
        Ok(bed)
    }

    /// Its root file system, on the host.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// A path of the bed on the host.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Who belongs to the slot.
    ///
    /// # Errors
    /// Where the cgroup is gone.
    pub fn membership(&self, slot: Slot) -> io::Result<Membership> {
        let below = self.cgroup.strip_prefix(&self.unified).map_err(io::Error::other)?;
        Ok(Membership {
            slot,
            cgroup: Some(CgroupId(fs::metadata(&self.cgroup)?.ino())),
            cgroup_path: Some(Path::new("/").join(below)),
            pid: 0,
            root: Some(self.root()),
        })
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
            root: self.root().display().to_string(),
            procs: self.cgroup.join("cgroup.procs").display().to_string(),
            beside: self.pid(),
            executable: actor.executable().to_owned(),
            profile: self.starter.profile.clone(),
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
        let below = self.inside(ground::BELOW);
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
            let directory = self.inside(&path[..end]);
            if !directory.exists() {
                fs::create_dir(&directory)?;
            }
            chown(directory, Some(owner(&path[..end])), None)?;
        }
        let file = self.inside(path);
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
        let _killed = fs::write(self.cgroup.join("cgroup.kill"), "1");
        for acting in self.actors.values_mut() {
            let _reaped = acting.process.wait();
        }
        for _ in 0..200 {
            if fs::remove_dir(&self.cgroup).is_ok() || !self.cgroup.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Err(error) = umount2(&self.root(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays: {error}", self.root().display());
        }
        let _removed = fs::remove_dir_all(&self.directory);
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

fn unified() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let place = line.and_then(|line| line.split(' ').nth(1));
    place.map(PathBuf::from).ok_or_else(|| io::Error::other("no unified hierarchy is mounted"))
}
