//! The acting process: it enters the bed, becomes the executable that acts, and does one deed a line.
//!
//! An answer is a number: 0 for a call that went through, [`KILLED`] where the executed program was killed, otherwise the errno.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt as _, chown, chroot},
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{Child, Command},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        ptrace,
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, chdir, pivot_root, setsid},
};
use palisade_differential::{Deed, ground};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, connect, sendto, socket};

use crate::program::{STATUS, WAITS};

/// The first argument that makes a program one of these; what follows is [`Entry`]'s, or [`OBEY`].
pub const ACTING: &str = "--acting";
/// It is in place already.
const OBEY: &str = "obey";
/// The answer where the executed program was killed.
pub const KILLED: i32 = -9;
/// What it says first.
pub const READY: &str = "ready";
/// `SIGKILL`.
const SIGKILL: i32 = 9;

/// Where and as whom to act.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The root file system, on the host.
    pub root: String,
    /// `cgroup.procs` of the cgroup.
    pub procs: String,
    /// A process whose mount namespace is entered; 0: a new one.
    pub beside: u32,
    /// The executable, below the root.
    pub executable: String,
    /// An AppArmor profile; empty: none.
    pub profile: String,
    /// A context of SELinux; empty: whatever the policy makes of the execution.
    pub context: String,
    /// Standard error is a terminal, to be controlled by.
    pub at_terminal: bool,
}

impl Entry {
    /// As [`run`] takes it.
    #[must_use]
    pub fn arguments(&self) -> [String; 8] {
        let Self { root, procs, beside, executable, profile, context, at_terminal } = self;
        let at_terminal = if *at_terminal { "terminal" } else { "" };
        [
            ACTING.into(),
            root.into(),
            procs.into(),
            beside.to_string(),
            executable.into(),
            profile.into(),
            context.into(),
            at_terminal.into(),
        ]
    }
}

/// What follows [`ACTING`]. It comes back when its orders end, or with an error.
///
/// # Errors
/// Where it cannot enter, or an order is none.
pub fn run(arguments: &[String]) -> io::Result<()> {
    match arguments {
        [one] if one == OBEY => obey(),
        [root, procs, beside, executable, profile, context, at_terminal] => {
            fs::write(procs, "0")?;
            match beside.as_str() {
                "0" => become_root(Path::new(root))?,
                pid => join(pid)?,
            }
            if !at_terminal.is_empty() {
                setsid()?;
                // The first terminal that a session's leader opens is its own.
                drop(OpenOptions::new().read(true).write(true).open("/proc/self/fd/2")?);
            }
            if !profile.is_empty() {
                fs::write("/proc/self/attr/apparmor/exec", format!("exec {profile}"))?;
            }
            if !context.is_empty() {
                fs::write("/proc/self/attr/exec", context)?;
            }
            Err(Command::new(executable).args([ACTING, OBEY]).exec())
        }
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

fn become_root(root: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(root), root, none, MsFlags::MS_BIND, none)?;
    chdir(root)?;
    mount(Some("proc"), "proc", Some("proc"), MsFlags::empty(), none)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

fn join(pid: &str) -> io::Result<()> {
    setns(File::open(format!("/proc/{pid}/ns/mnt"))?, CloneFlags::CLONE_NEWNS)?;
    Ok(chdir("/")?)
}

fn obey() -> io::Result<()> {
    let mut traced = BTreeMap::new();
    for path in ground::TRACED {
        // It ends with this process: its input does. Its output must not be this one's, or nobody could tell that this process is gone.
        let (input, end) = io::pipe()?;
        let child = Command::new(path).arg0(WAITS).stdin(input).stdout(io::stderr()).spawn()?;
        traced.insert(path, (child, end));
    }
    let mut answers = io::stdout().lock();
    writeln!(answers, "{READY}")?;
    answers.flush()?;
    for line in io::stdin().lock().lines() {
        let deed: Deed = line?.parse().map_err(io::Error::other)?;
        writeln!(answers, "{}", perform(&deed, &traced))?;
        answers.flush()?;
    }
    for (mut child, end) in traced.into_values() {
        drop(end);
        child.wait()?;
    }
    Ok(())
}

fn perform(deed: &Deed, traced: &BTreeMap<&str, (Child, io::PipeWriter)>) -> i32 {
    let done = match deed {
        Deed::Read(path) => File::open(path).map(drop),
        Deed::Write(path) => OpenOptions::new().append(true).open(path).map(drop),
        Deed::Exec(path, arguments) => match Command::new(path).args(arguments).status() {
            Ok(status) if status.code() == Some(STATUS) => Ok(()),
            Ok(status) if status.signal() == Some(SIGKILL) => return KILLED,
            Ok(status) => Err(io::Error::other(format!("it ended with {status}"))),
            Err(error) => Err(error),
        },
        Deed::Socket { domain, kind, protocol } => open_socket(*domain, *kind, *protocol).map(drop),
        Deed::Connect(kind, address) => open_connection(*kind, *address),
        Deed::Ask(name) => ask(name),
        Deed::Trace(path) => match traced.get(path.as_str()) {
            Some((child, _)) => attach(child),
            None => Err(io::ErrorKind::NotFound.into()),
        },
        Deed::Use(0) => give_away(Path::new(ground::OWNED)),
        Deed::Use(18) => chroot("/"),
        Deed::Use(_) => Err(io::ErrorKind::Unsupported.into()),
    };
    done.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn open_socket(domain: u8, kind: u8, protocol: u8) -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(protocol.into()).map(Protocol::from_raw);
    Ok(socket(AddressFamily::from_raw(domain.into()), SocketType::from_raw(kind.into()), protocol)?)
}

/// Nobody listens: that a peer says so is that it was asked.
fn open_connection(kind: u8, address: SocketAddr) -> io::Result<()> {
    let socket = open_socket(if address.is_ipv4() { 2 } else { 10 }, kind, 0)?;
    match connect(&socket, &address).map_err(io::Error::from) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A question for the name's address.
fn ask(name: &str) -> io::Result<()> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = open_socket(2, 2, 0)?;
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53);
    sendto(&socket, &message, SendFlags::empty(), &server)?;
    Ok(())
}

/// Attaching to one's own child needs no capability.
fn attach(child: &Child) -> io::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    ptrace::attach(pid)?;
    match waitpid(pid, None)? {
        WaitStatus::Stopped(..) => Ok(ptrace::detach(pid, None)?),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

/// To whom it does not belong.
fn give_away(path: &Path) -> io::Result<()> {
    let is_other = fs::metadata(path)?.uid() == ground::OTHER_USER;
    chown(path, Some(if is_other { 0 } else { ground::OTHER_USER }), None)
}
