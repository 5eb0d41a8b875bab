//! What processes of the workload do, as kernel and oracle are both asked about it.

use std::{fmt, net::IpAddr};

use palisade_kernel_abi::blob::{AF_INET, AF_INET6, Endpoint, Family, Modifiers};
use palisade_policy_compiler::naive::{Act, Object};

/// One act. A socket and its connection are two, as they are for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A file is executed.
    Exec {
        /// As the container names it.
        path: String,
        /// After `argv[0]`.
        arguments: Vec<String>,
        /// The acting user owns the file.
        owner: bool,
    },
    /// A file is opened.
    Open {
        /// As the container names it.
        path: String,
        /// For writing.
        write: bool,
        /// The acting user owns the file.
        owner: bool,
    },
    /// A socket is made.
    Socket {
        /// `AF_*`.
        domain: u8,
        /// `SOCK_*`.
        kind: u8,
        /// `IPPROTO_*`.
        protocol: u8,
    },
    /// A destination is asked for.
    Connect {
        /// Of the destination.
        address: IpAddr,
        /// Of the destination.
        port: u16,
        /// `SOCK_*`.
        kind: u8,
        /// `IPPROTO_*`.
        protocol: u8,
    },
    /// Another process is traced.
    Ptrace {
        /// Its executable.
        target: String,
    },
    /// A capability is used: `CAP_*`.
    Capability(u8),
    /// A DNS server is asked.
    Dns(String),
}

impl Deed {
    /// Which table decides it.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Exec { .. } => Family::Process,
            Self::Open { .. } => Family::File,
            Self::Socket { .. } => Family::Socket,
            Self::Connect { .. } => Family::Connect,
            Self::Ptrace { .. } => Family::Ptrace,
            Self::Capability(_) => Family::Capability,
            Self::Dns(_) => Family::Dns,
        }
    }

    /// Its circumstances.
    #[must_use]
    pub fn modifiers(&self) -> Modifiers {
        match self {
            Self::Exec { owner, .. } => Modifiers::new(*owner, false),
            Self::Open { owner, write, .. } => Modifiers::new(*owner, *write),
            _ => Modifiers::NONE,
        }
    }

    /// The end of a socket that it is about.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match *self {
            Self::Socket { domain, kind, protocol } => Some(Endpoint { domain, kind, protocol, destination: None }),
            Self::Connect { address, port, kind, protocol } => {
                let domain = if address.is_ipv4() { AF_INET } else { AF_INET6 };
                Some(Endpoint { domain, kind, protocol, destination: Some((address, port)) })
            }
            _ => None,
        }
    }

    /// Asks the oracle's question about it.
    pub fn ask<T>(&self, executable: &str, answer: impl FnOnce(&Act<'_>) -> T) -> T {
        let object = match self {
            Self::Exec { path, .. } | Self::Open { path, .. } | Self::Ptrace { target: path } => {
                Object::Path(path.as_bytes())
            }
            Self::Capability(number) => Object::Capability(*number),
            Self::Dns(name) => Object::Domain(name),
            Self::Socket { .. } | Self::Connect { .. } => match self.endpoint() {
                Some(endpoint) => Object::Endpoint(endpoint),
                None => Object::Path(b""),
            },
        };
        let arguments: Vec<&str> = match self {
            Self::Exec { arguments, .. } => arguments.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        answer(&Act {
            family: self.family(),
            object,
            executable: Some(executable.as_bytes()),
            modifiers: self.modifiers(),
            arguments: &arguments,
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec { path, arguments, .. } => write!(f, "exec {path} {}", arguments.join(" ")),
            Self::Open { path, write, .. } => write!(f, "open {path}{}", if *write { " to write" } else { "" }),
            Self::Socket { domain, kind, protocol } => write!(f, "socket {domain}/{kind}/{protocol}"),
            Self::Connect { address, port, .. } => write!(f, "connect {address} port {port}"),
            Self::Ptrace { target } => write!(f, "ptrace {target}"),
            Self::Capability(number) => write!(f, "capability {number}"),
            Self::Dns(name) => write!(f, "ask for {name}"),
        }
    }
}
