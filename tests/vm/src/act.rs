//! Acts that policies speak of, and what became of each: the system call's error and, apart from it, the effect.
//!
//! An act is written `VERB:OBJECT` on the actor's command line, and its outcome is one line of the actor's output:
//! `VERB:OBJECT errno=NUMBER effect=yes|no` (errno 0: the call succeeded). Text, so that a failed test shows what happened.
//!
//! | act | system call | effect |
//! |---|---|---|
//! | `open:PATH` | open for reading | a byte was read |
//! | `create:PATH` | open for writing, creating | the file exists afterwards (a byte is written to it if it opens) |
//! | `open-far:PATH` | the same as `open`, from the file's directory | a byte was read |
//! | `create-far:PATH` | the same as `create`, making the directories | the file exists afterwards |
//! | `open-often:PATH` | 8 threads open it 500 times each | any of them read a byte |
//! | `exec:PATH` | execve of a copy of the actor at PATH | it wrote its marker |
//! | `connect:ADDRESS:PORT` | connect over TCP | the server's greeting arrived |
//! | `ptrace:self` | PTRACE_ATTACH to a child of its own | the kernel names us as its tracer |
//! | `bind:ADDRESS:PORT` | bind and listen over TCP | a connection to it is accepted |
//! | `chown:PATH` | chown of a file to another user | the file is that user's |
//! | `exec-memory:PATH` | execve of a memfd with the bytes of a copy of the actor | it wrote its marker |
//! | `exec-code:self` | mprotect of anonymous memory to be executable | the mapping is |
//! | `map-code:WAY` | mmap, or mmap and mprotect, of executable memory (palisade-kernel's example `map_code`) | the mapping is |
//! | `ask:ADDRESS:PORT/NAME` | sendto of a DNS question for the name | the server echoed it |
//! | `at-terminal:ACT` | the act, by a child with a controlling terminal | as the act's |

use std::{
    env, fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        memfd::{MFdFlags, memfd_create},
        ptrace,
    },
    unistd::{Pid, setsid},
};

/// The first argument that makes the actor write a marker into the file named by the second.
pub const MARK: &str = "--mark";
/// The first argument that makes the actor take a terminal and do the act of the second.
pub const AT_TERMINAL: &str = "--at-terminal";
/// The first argument that makes the actor sleep until its standard input ends.
pub const WAIT: &str = "--wait";

/// Maps executable memory, and ends with the errno.
const MAPPER: &str = "/bin/mapper";
const THREADS: usize = 8;
const OPENS_OF_A_THREAD: usize = 500;
/// An echo over loopback, in emulation.
const ECHO_PATIENCE: Duration = Duration::from_secs(2);
/// Of an act that could not even be tried.
const IMPOSSIBLE: Outcome = Outcome { errno: -1, effect: false };

/// Something that a workload tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Opens a file for reading and reads it.
    Open(PathBuf),
    /// Opens a file for writing, creating it.
    Create(PathBuf),
    /// Opens and reads a file from its own directory, entered one component after the other: a path may be longer than the
    /// 4,095 bytes that one system call takes.
    OpenFar(PathBuf),
    /// Makes the directories of a path one after the other, and a file in the last.
    CreateFar(PathBuf),
    /// Opens and reads a file many times from many threads at once.
    OpenOften(PathBuf),
    /// Executes a copy of the actor.
    Exec(PathBuf),
    /// Connects to a server that greets.
    Connect(SocketAddr),
    /// Attaches to a child of its own.
    PtraceChild,
    /// Listens.
    Bind(SocketAddr),
    /// Gives a file to another user.
    Chown(PathBuf),
    /// Executes a copy of the actor from memory.
    ExecMemory(PathBuf),
    /// Makes anonymous memory executable.
    ExecCode,
    /// Maps executable memory in a way that [`MAPPER`] knows.
    MapCode(String),
    /// Asks a DNS server for a name.
    Ask(SocketAddr, String),
    /// Does the act from a terminal.
    AtTerminal(Box<Act>),
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Of the system call; 0 for success.
    pub errno: i32,
    /// Whether what the act is for came about.
    pub effect: bool,
}

impl Outcome {
    /// Refused with an error, and nothing came of it.
    #[must_use]
    pub fn is_denied(self) -> bool {
        matches!(self.errno, 1 | 13) && !self.effect
    }

    /// Went through, and had its effect.
    #[must_use]
    pub fn is_permitted(self) -> bool {
        self.errno == 0 && self.effect
    }
}

/// Why a text is no act or no outcome.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is neither an act nor its outcome")]
pub struct Unintelligible(String);

impl FromStr for Act {
    type Err = Unintelligible;

    fn from_str(text: &str) -> Result<Self, Unintelligible> {
        let unintelligible = || Unintelligible(text.to_owned());
        let (verb, object) = text.split_once(':').ok_or_else(unintelligible)?;
        match verb {
            "open" => Ok(Self::Open(object.into())),
            "create" => Ok(Self::Create(object.into())),
            "open-far" => Ok(Self::OpenFar(object.into())),
            "create-far" => Ok(Self::CreateFar(object.into())),
            "open-often" => Ok(Self::OpenOften(object.into())),
            "exec" => Ok(Self::Exec(object.into())),
            "connect" => object.parse().map(Self::Connect).map_err(|_| unintelligible()),
            "ptrace" if object == "self" => Ok(Self::PtraceChild),
            "bind" => object.parse().map(Self::Bind).map_err(|_| unintelligible()),
            "chown" => Ok(Self::Chown(object.into())),
            "exec-memory" => Ok(Self::ExecMemory(object.into())),
            "exec-code" if object == "self" => Ok(Self::ExecCode),
            "map-code" => Ok(Self::MapCode(object.to_owned())),
            "ask" => {
                let (server, name) = object.split_once('/').ok_or_else(unintelligible)?;
                server.parse().map(|server| Self::Ask(server, name.to_owned())).map_err(|_| unintelligible())
            }
            "at-terminal" => object.parse().map(|act| Self::AtTerminal(Box::new(act))),
            _ => Err(unintelligible()),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => write!(out, "open:{}", path.display()),
            Self::Create(path) => write!(out, "create:{}", path.display()),
            Self::OpenFar(path) => write!(out, "open-far:{}", path.display()),
            Self::CreateFar(path) => write!(out, "create-far:{}", path.display()),
            Self::OpenOften(path) => write!(out, "open-often:{}", path.display()),
            Self::Exec(path) => write!(out, "exec:{}", path.display()),
            Self::Connect(address) => write!(out, "connect:{address}"),
            Self::PtraceChild => write!(out, "ptrace:self"),
            Self::Bind(address) => write!(out, "bind:{address}"),
            Self::Chown(path) => write!(out, "chown:{}", path.display()),
            Self::ExecMemory(path) => write!(out, "exec-memory:{}", path.display()),
            Self::ExecCode => write!(out, "exec-code:self"),
            Self::MapCode(way) => write!(out, "map-code:{way}"),
            Self::Ask(server, name) => write!(out, "ask:{server}/{name}"),
            Self::AtTerminal(act) => write!(out, "at-terminal:{act}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "errno={} effect={}", self.errno, if self.effect { "yes" } else { "no" })
    }
}

impl FromStr for Outcome {
    type Err = Unintelligible;

    fn from_str(text: &str) -> Result<Self, Unintelligible> {
        let unintelligible = || Unintelligible(text.to_owned());
        let (errno, effect) =
            text.strip_prefix("errno=").and_then(|rest| rest.split_once(" effect=")).ok_or_else(unintelligible)?;
        let effect = match effect {
            "yes" => true,
            "no" => false,
            _ => return Err(unintelligible()),
        };
        Ok(Self { errno: errno.parse().map_err(|_| unintelligible())?, effect })
    }
}

impl Act {
    /// Does it.
    #[must_use]
    pub fn perform(&self) -> Outcome {
        match self {
            Self::Open(path) => open(path),
            Self::Create(path) => create(path),
            Self::OpenFar(path) => enter(path, false).map_or(IMPOSSIBLE, |name| open(&name)),
            Self::CreateFar(path) => enter(path, true).map_or(IMPOSSIBLE, |name| create(&name)),
            Self::OpenOften(path) => open_often(path),
            Self::Exec(path) => exec(path),
            Self::Connect(address) => connect(*address),
            Self::PtraceChild => ptrace_child(),
            Self::Bind(address) => bind(*address),
            Self::Chown(path) => chown_away(path),
            Self::ExecMemory(path) => exec_memory(path).unwrap_or(IMPOSSIBLE),
            Self::ExecCode => exec_code(),
            Self::MapCode(way) => map_code(way),
            Self::Ask(server, name) => ask(*server, name),
            Self::AtTerminal(act) => at_terminal(act),
        }
    }
}

fn errno_of<T>(result: &io::Result<T>) -> i32 {
    // An error that is not the kernel's is none that a denial could give.
    result.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn open(path: &Path) -> Outcome {
    let opened = File::open(path);
    let errno = errno_of(&opened);
    let effect = opened.is_ok_and(|mut file| matches!(file.read(&mut [0]), Ok(1)));
    Outcome { errno, effect }
}

fn create(path: &Path) -> Outcome {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let errno = errno_of(&created);
    if let Ok(mut file) = created {
        // A file that cannot be written is one without effect below.
        file.write_all(b"x").ok();
    }
    // Also an empty file is an effect: open(2) makes it before the open itself is judged.
    Outcome { errno, effect: path.symlink_metadata().is_ok() }
}

/// Goes to the directory of a path, one component after the other, and gives the last component.
fn enter(path: &Path, make: bool) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for component in path.parent().into_iter().flat_map(Path::components) {
        let component = Path::new(component.as_os_str());
        if make && !component.has_root() && !component.exists() {
            fs::create_dir(component)?;
        }
        env::set_current_dir(component)?;
    }
    Ok(name.into())
}

/// The worst of all outcomes: any byte that was read is the effect, and the first error that is no denial is the error.
fn open_often(path: &Path) -> Outcome {
    let one_thread = || (0..OPENS_OF_A_THREAD).map(|_| open(path)).reduce(worse).unwrap_or(IMPOSSIBLE);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one_thread)).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap_or(IMPOSSIBLE));
        outcomes.reduce(worse).unwrap_or(IMPOSSIBLE)
    })
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    let errno = if matches!(one.errno, 1 | 13) { other.errno } else { one.errno };
    Outcome { errno, effect: one.effect || other.effect }
}

fn exec(path: &Path) -> Outcome {
    let marker = PathBuf::from(format!("/tmp/marker-{}", std::process::id()));
    let status = Command::new(path).arg(MARK).arg(&marker).stdin(Stdio::null()).status();
    let effect = marker.exists();
    // Absent where the program did not run.
    fs::remove_file(&marker).ok();
    Outcome { errno: errno_of(&status), effect }
}

fn bind(address: SocketAddr) -> Outcome {
    let bound = TcpListener::bind(address);
    Outcome { errno: errno_of(&bound), effect: bound.is_ok() && TcpStream::connect(address).is_ok() }
}

/// Not the user that a file has by itself.
const OTHER_USER: u32 = 4321;

fn chown_away(path: &Path) -> Outcome {
    let changed = std::os::unix::fs::chown(path, Some(OTHER_USER), None);
    Outcome { errno: errno_of(&changed), effect: path.metadata().is_ok_and(|status| status.uid() == OTHER_USER) }
}

/// The descriptor stays open over the execution: its file is what is executed.
fn exec_memory(path: &Path) -> io::Result<Outcome> {
    let mut memory = File::from(memfd_create(c"actor", MFdFlags::empty())?);
    memory.write_all(&fs::read(path)?)?;
    Ok(exec(Path::new(&format!("/proc/self/fd/{}", memory.as_raw_fd()))))
}

fn exec_code() -> Outcome {
    let made = memmap2::MmapMut::map_anon(4096).and_then(memmap2::MmapMut::make_exec);
    Outcome { errno: errno_of(&made), effect: made.is_ok() }
}

fn map_code(way: &str) -> Outcome {
    let status = Command::new(MAPPER).arg(way).stdin(Stdio::null()).status();
    let errno = status.ok().and_then(|status| status.code()).unwrap_or(-1);
    Outcome { errno, effect: errno == 0 }
}

/// A question for the name's address, and whether it came back.
fn ask(server: SocketAddr, name: &str) -> Outcome {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return IMPOSSIBLE };
    let sent = socket.send_to(&message, server);
    let waits = sent.is_ok() && socket.set_read_timeout(Some(ECHO_PATIENCE)).is_ok();
    Outcome { errno: errno_of(&sent), effect: waits && socket.recv(&mut [0; 512]).is_ok() }
}

fn at_terminal(act: &Act) -> Outcome {
    let child = Command::new("/proc/self/exe").args([AT_TERMINAL, &act.to_string()]).stdin(Stdio::null()).output();
    let Ok(output) = child else { return IMPOSSIBLE };
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(IMPOSSIBLE)
}

/// Leads a session of its own, whose terminal is the first one that it opens.
///
/// # Errors
/// What the kernel said.
pub fn take_terminal() -> io::Result<(PtyMaster, File)> {
    setsid()?;
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let terminal = OpenOptions::new().read(true).write(true).open(ptsname_r(&master)?)?;
    Ok((master, terminal))
}

fn connect(address: SocketAddr) -> Outcome {
    let connected = TcpStream::connect(address);
    let errno = errno_of(&connected);
    let effect = connected.is_ok_and(|mut stream| matches!(stream.read(&mut [0]), Ok(1)));
    Outcome { errno, effect }
}

/// The child is a copy of the actor that waits; attaching to one's own child needs no capability.
fn ptrace_child() -> Outcome {
    let child = Command::new("/proc/self/exe").arg(WAIT).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return IMPOSSIBLE };
    let outcome = attach(&child);
    child.kill().ok();
    child.wait().ok();
    outcome
}

fn attach(child: &Child) -> Outcome {
    let Ok(number) = i32::try_from(child.id()) else { return IMPOSSIBLE };
    let attached = ptrace::attach(Pid::from_raw(number));
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).map(str::trim);
    Outcome { errno: attached.err().map_or(0, |errno| errno as i32), effect: tracer != Some("0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_act_text_is_read_back_as_it_was_written() {
        for text in [
            "open:/etc/a b",
            "create:/tmp/x",
            "exec:/bin/x",
            "connect:127.0.0.1:5000",
            "connect:[::1]:80",
            "ptrace:self",
            "bind:127.0.0.1:80",
            "chown:/etc/x",
            "exec-memory:/bin/x",
            "exec-code:self",
            "map-code:anonymous",
            "ask:127.0.0.1:53/a.example",
            "at-terminal:open:/etc/x",
        ] {
            assert_eq!(text.parse::<Act>().unwrap().to_string(), text);
        }
        for text in ["", "open", "shout:/x", "connect:nowhere", "ptrace:other", "ask:127.0.0.1:53", "at-terminal:x"] {
            assert!(text.parse::<Act>().is_err(), "{text}");
        }
        let outcome = Outcome { errno: 13, effect: false };
        assert_eq!(outcome.to_string().parse::<Outcome>().unwrap(), outcome);
        for text in ["", "errno=x effect=no", "errno=1", "errno=1 effect=maybe"] {
            assert!(text.parse::<Outcome>().is_err(), "{text}");
        }
    }

    #[test]
    fn unit_act_a_denial_needs_the_error_and_the_absence_of_the_effect() {
        assert!(Outcome { errno: 1, effect: false }.is_denied());
        assert!(!Outcome { errno: 1, effect: true }.is_denied());
        assert!(!Outcome { errno: 0, effect: false }.is_denied());
        assert!(!Outcome { errno: 2, effect: false }.is_denied(), "a file that is not there is not a denial");
        assert!(!Outcome { errno: 0, effect: false }.is_permitted());
    }

    #[test]
    fn unit_act_outcomes_tell_success_from_failure() {
        let folder = std::env::temp_dir().join(format!("palisade-act-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("file");
        assert!(Act::Create(file.clone()).perform().is_permitted(), "what it writes is there");
        let empty = folder.join("empty");
        fs::write(&empty, "").unwrap();
        assert_eq!(Act::Open(empty).perform(), Outcome { errno: 0, effect: false }, "an empty file gives no byte");
        assert!(Act::Open(file.clone()).perform().is_permitted());
        assert_eq!(Act::Create(file.clone()).perform().errno, 17);
        assert_eq!(Act::Exec(file).perform().errno, 13);
        assert_eq!(Act::Open(folder.join("none")).perform().errno, 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
