//! Acts that a real process can do on the [`ground`], and what the evaluator is asked about each.
//!
//! A deed is written as one line, by which a process is told what to do: `read PATH`, `exec PATH ARGUMENT...` with a unit separator between
//! words. One deed may be several acts of the policy language: who connects makes a socket first.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use palisade_kernel_abi::blob::{Endpoint, Family, Modifiers};
use palisade_policy_compiler::naive::{self, Object};

use crate::{corpus, ground};

/// Between the words of a line: a blank may stand in a path.
const SEPARATOR: char = '\u{1f}';
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// `CAP_NET_RAW`.
const NET_RAW: u8 = 13;
/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// Who acts: an executable, at a terminal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// `/acting/one`.
    One,
    /// The same, with a controlling terminal.
    OneAtTerminal,
    /// `/acting/other`.
    Other,
}

impl Actor {
    /// Each.
    pub const ALL: [Self; 3] = [Self::One, Self::OneAtTerminal, Self::Other];

    /// Its executable's path.
    #[must_use]
    pub const fn executable(self) -> &'static str {
        match self {
            Self::One | Self::OneAtTerminal => ground::ONE,
            Self::Other => ground::OTHER,
        }
    }

    /// Whether it has a controlling terminal.
    #[must_use]
    pub const fn at_terminal(self) -> bool {
        matches!(self, Self::OneAtTerminal)
    }
}

/// Something that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// open(2) for reading.
    Read(String),
    /// open(2) for appending.
    Write(String),
    /// execve(2), with arguments after the first.
    Exec(String, Vec<String>),
    /// socket(2).
    Socket {
        /// `AF_*`.
        domain: u8,
        /// `SOCK_*`.
        kind: u8,
        /// `IPPROTO_*`.
        protocol: u8,
    },
    /// connect(2) over a new socket of this type (1 stream, 2 datagram).
    Connect(u8, SocketAddr),
    /// A question for a name, sent to the DNS port of this machine.
    Ask(String),
    /// Attaching to a child whose executable is the path.
    Trace(String),
    /// Something that takes the capability ([`ground::CAPABILITIES`]).
    Use(u8),
}

/// A deed and who does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub actor: Actor,
    /// What.
    pub deed: Deed,
}

/// One act of the policy language in a deed, as the evaluator is asked. It owns what [`naive::Act`] borrows.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which table decides.
    pub family: Family,
    /// To what.
    pub object: Named,
    /// Who.
    pub executable: Option<String>,
    /// Circumstances.
    pub modifiers: Modifiers,
    /// Of an exec.
    pub arguments: Vec<String>,
}

/// What an act is done to.
#[derive(Debug, Clone)]
pub enum Named {
    /// A file.
    Path(String),
    /// A socket or a destination.
    Endpoint(Endpoint),
    /// `CAP_*`.
    Capability(u8),
    /// What is asked for.
    Domain(String),
}

impl Part {
    /// Asks with what the evaluator takes.
    pub fn with<T>(&self, ask: impl FnOnce(&naive::Act<'_>) -> T) -> T {
        let object = match &self.object {
            Named::Path(path) => Object::Path(path.as_bytes()),
            Named::Endpoint(endpoint) => Object::Endpoint(*endpoint),
            Named::Capability(number) => Object::Capability(*number),
            Named::Domain(name) => Object::Domain(name),
        };
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let executable = self.executable.as_deref().map(str::as_bytes);
        ask(&naive::Act { family: self.family, object, executable, modifiers: self.modifiers, arguments: &arguments })
    }
}

impl Act {
    /// What it consists of, in the order in which a kernel comes to it.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let path = |family, path: &str, write| {
            let modifiers = Modifiers::new(ground::is_own(path), write);
            self.part(family, Named::Path(path.to_owned()), modifiers)
        };
        let bare = |family, object| self.part(family, object, Modifiers::NONE);
        let socket = |domain, kind, protocol| {
            bare(Family::Socket, Named::Endpoint(Endpoint { domain, kind, protocol, destination: None }))
        };
        let connect = |domain, kind, address: SocketAddr| {
            let protocol = if kind == 1 { IPPROTO_TCP } else { IPPROTO_UDP };
            let destination = Some((address.ip(), address.port()));
            bare(Family::Connect, Named::Endpoint(Endpoint { domain, kind, protocol, destination }))
        };
        match &self.deed {
            Deed::Read(file) => vec![path(Family::File, file, false)],
            Deed::Write(file) => vec![path(Family::File, file, true)],
            Deed::Exec(file, arguments) => {
                vec![Part { arguments: arguments.clone(), ..path(Family::Process, file, false) }]
            }
            Deed::Socket { domain, kind, protocol } => {
                let mut parts = vec![socket(*domain, *kind, *protocol)];
                if ground::is_raw(*domain, *kind) {
                    parts.push(bare(Family::Capability, Named::Capability(NET_RAW)));
                }
                parts
            }
            Deed::Connect(kind, address) => {
                let domain = if address.is_ipv4() { 2 } else { 10 };
                vec![socket(domain, *kind, 0), connect(domain, *kind, *address)]
            }
            Deed::Ask(name) => {
                let server = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT);
                vec![socket(2, 2, 0), connect(2, 2, server), bare(Family::Dns, Named::Domain(name.clone()))]
            }
            Deed::Trace(target) => vec![bare(Family::Ptrace, Named::Path(target.clone()))],
            Deed::Use(capability) => vec![bare(Family::Capability, Named::Capability(*capability))],
        }
    }

    fn part(&self, family: Family, object: Named, modifiers: Modifiers) -> Part {
        Part {
            family,
            object,
            executable: Some(self.actor.executable().to_owned()),
            modifiers: modifiers.at_terminal(self.actor.at_terminal()),
            arguments: Vec::new(),
        }
    }

    /// The file that must be there for it.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match &self.deed {
            Deed::Read(path) | Deed::Write(path) | Deed::Exec(path, _) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terminal = if self.actor.at_terminal() { " at a terminal" } else { "" };
        write!(out, "{} by {}{terminal}", self.deed.to_string().replace(SEPARATOR, " "), self.actor.executable())
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = SEPARATOR;
        match self {
            Self::Read(path) => write!(out, "read{separator}{path}"),
            Self::Write(path) => write!(out, "write{separator}{path}"),
            Self::Exec(path, arguments) => {
                write!(out, "exec{separator}{path}")?;
                arguments.iter().try_for_each(|argument| write!(out, "{separator}{argument}"))
            }
            Self::Socket { domain, kind, protocol } => {
                write!(out, "socket{separator}{domain}{separator}{kind}{separator}{protocol}")
            }
            Self::Connect(kind, address) => write!(out, "connect{separator}{kind}{separator}{address}"),
            Self::Ask(name) => write!(out, "ask{separator}{name}"),
            Self::Trace(target) => write!(out, "trace{separator}{target}"),
            Self::Use(capability) => write!(out, "use{separator}{capability}"),
        }
    }
}

/// A line is no deed.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no deed")]
pub struct Unintelligible(String);

impl FromStr for Deed {
    type Err = Unintelligible;

    fn from_str(line: &str) -> Result<Self, Unintelligible> {
        let words: Vec<&str> = line.split(SEPARATOR).collect();
        let number = |word: &str| word.parse::<u8>().map_err(|_| Unintelligible(line.to_owned()));
        match words.as_slice() {
            ["read", path] => Ok(Self::Read((*path).to_owned())),
            ["write", path] => Ok(Self::Write((*path).to_owned())),
            ["exec", path, arguments @ ..] => {
                Ok(Self::Exec((*path).to_owned(), arguments.iter().map(|argument| (*argument).to_owned()).collect()))
            }
            ["socket", domain, kind, protocol] => {
                Ok(Self::Socket { domain: number(domain)?, kind: number(kind)?, protocol: number(protocol)? })
            }
            ["connect", kind, address] => {
                Ok(Self::Connect(number(kind)?, address.parse().map_err(|_| Unintelligible(line.to_owned()))?))
            }
            ["ask", name] => Ok(Self::Ask((*name).to_owned())),
            ["trace", target] => Ok(Self::Trace((*target).to_owned())),
            ["use", capability] => Ok(Self::Use(number(capability)?)),
            _ => Err(Unintelligible(line.to_owned())),
        }
    }
}

/// An exec's arguments as lines have them.
pub(crate) fn arguments(random: &mut corpus::Random) -> Vec<String> {
    corpus::arguments(random).iter().map(|argument| (*argument).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_differential_deeds_are_read_back_from_their_lines() {
        let connect = Deed::Connect(1, "[::ffff:127.0.0.1]:80".parse().expect("an address"));
        for deed in [
            Deed::Read("/gen/a b".into()),
            Deed::Write("/gen/x".into()),
            Deed::Exec("/gen/x".into(), vec!["-a".into(), String::new()]),
            Deed::Exec("/gen/x".into(), vec![]),
            Deed::Socket { domain: 16, kind: 3, protocol: 0 },
            connect,
            Deed::Ask("A.com".into()),
            Deed::Trace(ground::TRACED[0].into()),
            Deed::Use(18),
        ] {
            assert_eq!(deed.to_string().parse::<Deed>().expect("its own line"), deed);
        }
        assert!("shout".parse::<Deed>().is_err() && "use\u{1f}300".parse::<Deed>().is_err());
    }

    #[test]
    fn unit_differential_a_question_is_a_socket_a_destination_and_a_name() {
        let act = Act { actor: Actor::OneAtTerminal, deed: Deed::Ask("a.com".into()) };
        let parts = act.parts();
        let families: Vec<Family> = parts.iter().map(|part| part.family).collect();
        assert_eq!(families, [Family::Socket, Family::Connect, Family::Dns]);
        assert!(parts.iter().all(|part| part.modifiers.0 & Modifiers::TTY.0 != 0));
    }
}
