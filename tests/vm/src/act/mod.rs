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
//! | `socket:KIND` | socket of a kind (`raw`, `packet` and others) | it is there |
//! | `bind:ADDRESS:PORT` | bind and listen over TCP | a connection to it is accepted |
//! | `chown:PATH` | chown of a file to another user | the file is that user's |
//! | `exec-memory:PATH` | execve of a memfd with the bytes of a copy of the actor | it wrote its marker |
//! | `exec-code:self` | mprotect of anonymous memory to be executable | the mapping is |
//! | `map-code:WAY` | mmap, or mmap and mprotect, of executable memory (palisade-kernel's example `map_code`) | the mapping is |
//! | `against:WAY` | what `/bin/mapper` does against Palisade itself; words by spaces | it succeeded |
//! | `ask:ADDRESS:PORT/NAME` | sendto of a DNS question for the name | the server echoed it |
//! | `VERB:PATH`, `VERB:PATH=OTHER` | one of [`Change`] | as the call's name says |
//! | `at-terminal:ACT` | the act, by a child with a controlling terminal | as the act's |

mod changes;
mod files;
mod network;
mod programs;

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

pub use changes::{Change, GO, READY};
pub(crate) use network::open_socket;
pub use programs::take_terminal;

/// The first argument that makes the actor write a marker into the file named by the second.
pub const MARK: &str = "--mark";
/// The first argument that makes the actor take a terminal and do the act of the second.
pub const AT_TERMINAL: &str = "--at-terminal";
/// The first argument that makes the actor sleep until its standard input ends.
pub const WAIT: &str = "--wait";

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
    /// Makes a socket.
    Socket(String),
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
    /// Maps executable memory in a way that `/bin/mapper` knows.
    MapCode(String),
    /// Does something against Palisade itself that `/bin/mapper` knows.
    Against(String),
    /// Asks a DNS server for a name.
    Ask(SocketAddr, String),
    /// Changes a file, or what a path leads to; the second name is empty where there is none.
    Change(Change, PathBuf, PathBuf),
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
            "socket" => Ok(Self::Socket(object.to_owned())),
            "ptrace" if object == "self" => Ok(Self::PtraceChild),
            "bind" => object.parse().map(Self::Bind).map_err(|_| unintelligible()),
            "chown" => Ok(Self::Chown(object.into())),
            "exec-memory" => Ok(Self::ExecMemory(object.into())),
            "exec-code" if object == "self" => Ok(Self::ExecCode),
            "map-code" => Ok(Self::MapCode(object.to_owned())),
            "against" => Ok(Self::Against(object.to_owned())),
            "ask" => {
                let (server, name) = object.split_once('/').ok_or_else(unintelligible)?;
                server.parse().map(|server| Self::Ask(server, name.to_owned())).map_err(|_| unintelligible())
            }
            "at-terminal" => object.parse().map(|act| Self::AtTerminal(Box::new(act))),
            _ => {
                let change = Change::of_verb(verb).ok_or_else(unintelligible)?;
                let (path, to) = changes::names(object);
                Ok(Self::Change(change, path, to))
            }
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
            Self::Socket(kind) => write!(out, "socket:{kind}"),
            Self::PtraceChild => write!(out, "ptrace:self"),
            Self::Bind(address) => write!(out, "bind:{address}"),
            Self::Chown(path) => write!(out, "chown:{}", path.display()),
            Self::ExecMemory(path) => write!(out, "exec-memory:{}", path.display()),
            Self::ExecCode => write!(out, "exec-code:self"),
            Self::MapCode(way) => write!(out, "map-code:{way}"),
            Self::Against(way) => write!(out, "against:{way}"),
            Self::Ask(server, name) => write!(out, "ask:{server}/{name}"),
            Self::Change(change, path, to) if to.as_os_str().is_empty() => write!(out, "{change}:{}", path.display()),
            Self::Change(change, path, to) => write!(out, "{change}:{}={}", path.display(), to.display()),
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
            Self::Open(path) => files::open(path),
            Self::Create(path) => files::create(path),
            Self::OpenFar(path) => files::enter(path, false).map_or(IMPOSSIBLE, |name| files::open(&name)),
            Self::CreateFar(path) => files::enter(path, true).map_or(IMPOSSIBLE, |name| files::create(&name)),
            Self::OpenOften(path) => files::open_often(path),
            Self::Exec(path) => programs::exec(path),
            Self::Connect(address) => network::connect(*address),
            Self::Socket(kind) => network::make_socket(kind),
            Self::PtraceChild => programs::ptrace_child(),
            Self::Bind(address) => network::bind(*address),
            Self::Chown(path) => files::chown_away(path),
            Self::ExecMemory(path) => programs::exec_memory(path).unwrap_or(IMPOSSIBLE),
            Self::ExecCode => programs::exec_code(),
            Self::MapCode(way) | Self::Against(way) => programs::map_code(way),
            Self::Ask(server, name) => network::ask(*server, name),
            Self::Change(change, path, to) => change.perform(path, to),
            Self::AtTerminal(act) => programs::at_terminal(act),
        }
    }
}

fn errno_of<T>(result: &io::Result<T>) -> i32 {
    // An error that is not the kernel's is none that a denial could give.
    result.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn unit_act_text_is_read_back_as_it_was_written() {
        for text in [
            "open:/etc/a b",
            "create:/tmp/x",
            "exec:/bin/x",
            "connect:127.0.0.1:5000",
            "connect:[::1]:80",
            "socket:packet",
            "ptrace:self",
            "bind:127.0.0.1:80",
            "chown:/etc/x",
            "exec-memory:/bin/x",
            "exec-code:self",
            "map-code:anonymous",
            "against:signal 1 9",
            "ask:127.0.0.1:53/a.example",
            "at-terminal:open:/etc/x",
            "unlink:/etc/x",
            "rename:/etc/x=/etc/y",
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
