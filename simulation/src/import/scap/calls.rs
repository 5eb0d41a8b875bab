//! What a call's two events say together.
//!
//! Some calls tell all where they return, others what they were asked for where they are entered: that is kept by thread until they return.
//! Descriptors are followed as far as names need them: what a relative name begins at, and of what kind a socket is. Who is made by a fork does not
//! inherit them here.
//!
//! Invariant: a name is made whole only with a directory that the capture told of; else it stays as it was given and is counted
//! ([`Calls::relative`]). Links and `..` are left, for where they lead the capture does not tell.

use std::collections::BTreeMap;

use palisade_kernel_abi::record::{FileOperation, Network, NetworkOperation};

use super::{
    DAMAGED,
    event::{Event, kind},
    identity::{LONGEST_NAME, Process, kept},
    values::{CREAT, address, open_flags, peer},
};

/// Entered calls, open files, sockets: of each.
const MAX_KEPT: usize = 65_536;
const AT_FDCWD: i32 = -100;
/// What a name begins with that is one for the process itself.
const ITSELF: &[u8] = b"/proc/self/";
const AT_REMOVEDIR: u32 = 0x200;
const NOT_ENTERED: &str = "calls that were entered before the capture began, or whose entry is lost";

/// An act, but for those that make, change and end processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Open {
        path: Vec<u8>,
        flags: u32,
        result: i32,
    },
    Change(Change),
    Network(Network),
    /// Of a thread by its number in the caller's own namespace; 0: the caller itself.
    Trace {
        request: u32,
        of: u32,
    },
}

/// See the kernel's record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    pub operation: FileOperation,
    pub path: Vec<u8>,
    pub new_path: Vec<u8>,
    pub mode: u32,
    pub flags: u32,
    pub result: i32,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Empty: not known.
    pub path: Vec<u8>,
    /// By a descriptor, or by a name for what the process is: as a container runtime goes on with itself.
    pub is_itself: bool,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Act(Act),
    /// The working directory is another; empty: one that is not known.
    Cwd(Vec<u8>),
    Uid(u32),
    /// Something that is followed, and no act.
    Followed,
    /// No record stands for it, for this reason.
    Skip(&'static str),
    /// Nothing here is about it.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entered {
    Exec { path: Vec<u8>, directory: Option<i32> },
    Open { directory: i32, name: Vec<u8>, flags: u32 },
    Socket { domain: u8, socket_type: u8, protocol: u8 },
    OnDescriptor { descriptor: i32, address: Vec<u8> },
    Trace { request: u16, of: u32 },
    Mkdir { mode: u32 },
    Uid(u32),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Calls {
    /// By thread: the type of the event that it returns with.
    entered: BTreeMap<u32, (u16, Entered)>,
    /// Whole names of what is open: any of them may be the directory that a relative name begins at.
    open: BTreeMap<(u32, i32), Vec<u8>>,
    /// Domain, type and protocol.
    sockets: BTreeMap<(u32, i32), (u8, u8, u8)>,
    relative: u64,
    unfit: u64,
}

impl Calls {
    /// Relative names whose directory is not known.
    #[must_use]
    pub const fn relative(&self) -> u64 {
        self.relative
    }

    /// What no table had room for.
    #[must_use]
    pub const fn unfit(&self) -> u64 {
        self.unfit
    }

    /// A process has this open. A name that is not whole is of no use.
    pub fn is_open(&mut self, pid: u32, descriptor: i32, name: &[u8]) {
        if !name.starts_with(b"/") {
            return;
        }
        if self.open.len() < MAX_KEPT && name.len() <= LONGEST_NAME {
            self.open.insert((pid, descriptor), name.to_vec());
        } else {
            self.unfit += 1;
        }
    }

    /// The process ended.
    pub fn ended(&mut self, pid: u32) {
        let of_it = (pid, i32::MIN)..=(pid, i32::MAX);
        let open = self.open.range(of_it.clone()).map(|(key, _)| *key);
        let descriptors: Vec<_> = open.chain(self.sockets.range(of_it).map(|(key, _)| *key)).collect();
        for key in descriptors {
            self.open.remove(&key);
            self.sockets.remove(&key);
        }
    }

    /// The thread ended.
    pub fn thread_ended(&mut self, tid: u32) {
        self.entered.remove(&tid);
    }

    /// A call is entered: whether it is one that is followed, or that tells all where it returns.
    pub fn entered(&mut self, event: &Event<'_>, tid: u32, pid: u32) -> bool {
        let returns = event.kind + 1;
        let entered = match returns {
            kind::EXECVE_18 | kind::EXECVE => {
                event.text(0).map(|path| Entered::Exec { path: kept(path), directory: None })
            }
            kind::EXECVEAT => event.text(1).map(|path| Entered::Exec { path: kept(path), directory: event.result(0) }),
            kind::OPENAT_OLD => open_entered(event),
            kind::SOCKET => socket_of(event, 0),
            kind::CONNECT | kind::BIND | kind::FCHDIR => event.result(0).map(|descriptor| Entered::OnDescriptor {
                descriptor,
                address: kept(event.bytes(1).unwrap_or_default()),
            }),
            kind::PTRACE => event.u16(0).zip(event.pid(1)).map(|(request, of)| Entered::Trace { request, of }),
            kind::MKDIR => event.u32(0).map(|mode| Entered::Mkdir { mode }),
            kind::SETUID => event.u32(0).map(Entered::Uid),
            kind::SETRESUID => event.u32(1).map(Entered::Uid),
            kind::CLOSE => {
                self.forget(pid, event.result(0));
                None
            }
            kind::CLONE | kind::FORK | kind::VFORK | kind::CLONE3 | kind::EXECVE_17 => None,
            _ if is_told_at_return(returns) => None,
            _ => return false,
        };
        match entered {
            Some(entered) if self.entered.len() < MAX_KEPT || self.entered.contains_key(&tid) => {
                self.entered.insert(tid, (returns, entered));
            }
            Some(_) => self.unfit += 1,
            None => {}
        }
        true
    }

    /// What was kept of the call that returns now.
    fn taken(&mut self, event: &Event<'_>, tid: u32) -> Option<Entered> {
        self.entered.remove(&tid).filter(|(returns, _)| *returns == event.kind).map(|(_, entered)| entered)
    }

    /// What an execution that returns now was asked for. An execveat that succeeds returns as an execve.
    pub fn executed(&mut self, tid: u32, pid: u32, process: &Process) -> Asked {
        let Some((_, Entered::Exec { path, directory })) = self.entered.remove(&tid) else { return Asked::default() };
        let is_by_descriptor = path.is_empty() && directory.is_some();
        let path = self.whole(process, pid, directory, &path);
        Asked { is_itself: is_by_descriptor || path.starts_with(ITSELF), path }
    }

    /// A call returned.
    pub fn returned(&mut self, event: &Event<'_>, tid: u32, pid: u32, process: &Process) -> Outcome {
        let entered = self.taken(event, tid);
        let outcome = match event.kind {
            kind::OPEN | kind::CREAT | kind::OPENAT | kind::OPENAT2 | kind::OPENAT_OLD => {
                self.opened(event, entered, pid, process)
            }
            kind::SOCKET => self.socket(event, entered, pid),
            kind::CONNECT | kind::BIND => self.endpoint(event, entered, pid),
            kind::PTRACE => traced(event, entered.as_ref()),
            kind::CHDIR => self.directory_changed(event, pid, process),
            kind::FCHDIR => event.result(0).map(|result| match entered {
                _ if result != 0 => Outcome::Followed,
                Some(Entered::OnDescriptor { descriptor, .. }) => {
                    Outcome::Cwd(self.open.get(&(pid, descriptor)).cloned().unwrap_or_default())
                }
                _ => Outcome::Cwd(Vec::new()),
            }),
            kind::SETUID | kind::SETRESUID => event.result(0).map(|result| match entered {
                Some(Entered::Uid(uid)) if result == 0 && uid != u32::MAX => Outcome::Uid(uid),
                _ => Outcome::Followed,
            }),
            kind::DUP => {
                self.forget(pid, event.result(0));
                return Outcome::Skip("dup");
            }
            kind::CLOSE => Some(Outcome::Followed),
            _ if is_told_at_return(event.kind) => self.changed(event, entered, pid, process),
            _ => return Outcome::Other,
        };
        outcome.unwrap_or(Outcome::Skip(DAMAGED))
    }

    /// A name behind the directory that it begins at.
    fn whole(&mut self, process: &Process, pid: u32, directory: Option<i32>, name: &[u8]) -> Vec<u8> {
        if name.starts_with(b"/") {
            return name.to_vec();
        }
        let base = match directory {
            None | Some(AT_FDCWD) => process.cwd.as_slice(),
            Some(descriptor) => self.open.get(&(pid, descriptor)).map_or(&[][..], Vec::as_slice),
        };
        if base.is_empty() {
            self.relative += u64::from(!name.is_empty());
            return name.to_vec();
        }
        let mut whole = base.to_vec();
        for part in name.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.'])) {
            if !whole.ends_with(b"/") {
                whole.push(b'/');
            }
            whole.extend_from_slice(part);
        }
        if whole.len() > LONGEST_NAME {
            self.relative += 1;
            return name.to_vec();
        }
        whole
    }

    /// Another file, or none, has the descriptor from now on.
    fn forget(&mut self, pid: u32, descriptor: Option<i32>) {
        if let Some(descriptor) = descriptor {
            self.open.remove(&(pid, descriptor));
            self.sockets.remove(&(pid, descriptor));
        }
    }

    fn opened(&mut self, event: &Event<'_>, entered: Option<Entered>, pid: u32, process: &Process) -> Option<Outcome> {
        let result = event.result(0)?;
        let (directory, name, flags) = match (event.kind, entered) {
            (kind::OPEN, _) => (AT_FDCWD, event.text(1), open_flags(event.u32(2)?)),
            (kind::CREAT, _) => (AT_FDCWD, event.text(1), CREAT),
            (kind::OPENAT_OLD, Some(Entered::Open { directory, name, flags })) => {
                return Some(self.open(process, pid, (directory, &name), flags, result));
            }
            (kind::OPENAT_OLD, _) => return Some(Outcome::Skip(NOT_ENTERED)),
            _ => (event.result(1)?, event.text(2), open_flags(event.u32(3)?)),
        };
        let Some(name) = name else { return Some(Outcome::Skip("opens of a name that could not be read")) };
        Some(self.open(process, pid, (directory, name), flags, result))
    }

    fn open(&mut self, process: &Process, pid: u32, at: (i32, &[u8]), flags: u32, result: i32) -> Outcome {
        let path = self.whole(process, pid, Some(at.0), at.1);
        if result >= 0 {
            self.forget(pid, Some(result));
            self.is_open(pid, result, &path);
        }
        Outcome::Act(Act::Open { path, flags, result })
    }

    fn socket(&mut self, event: &Event<'_>, entered: Option<Entered>, pid: u32) -> Option<Outcome> {
        let result = event.result(0)?;
        // Newer versions say it again where the call returns.
        let Some(Entered::Socket { domain, socket_type, protocol }) = entered.or_else(|| socket_of(event, 1)) else {
            return Some(Outcome::Skip(NOT_ENTERED));
        };
        if result >= 0 {
            self.forget(pid, Some(result));
            if self.sockets.len() < MAX_KEPT {
                self.sockets.insert((pid, result), (domain, socket_type, protocol));
            } else {
                self.unfit += 1;
            }
        }
        let operation = NetworkOperation::Socket;
        let result = result.min(0);
        Some(Outcome::Act(Act::Network(Network {
            operation,
            domain,
            socket_type,
            protocol,
            destination: None,
            user: false,
            result,
        })))
    }

    /// The peer of a connection, or the own address of a bound socket.
    fn endpoint(&mut self, event: &Event<'_>, entered: Option<Entered>, pid: u32) -> Option<Outcome> {
        let (result, told) = (event.result(0)?, event.bytes(1)?);
        let (descriptor, asked) = match entered {
            Some(Entered::OnDescriptor { descriptor, address }) => (Some(descriptor), address),
            _ => (event.result(2), Vec::new()),
        };
        let is_connect = event.kind == kind::CONNECT;
        let kernels = if is_connect { peer(told) } else { address(told) };
        let destination = kernels.or_else(|| address(&asked));
        let socket = descriptor.and_then(|descriptor| self.sockets.get(&(pid, descriptor)).copied());
        // Of most families the events have no address, and not even the family.
        let Some(domain) = told.first().or(asked.first()).copied().or(socket.map(|(domain, ..)| domain)) else {
            return Some(Outcome::Skip("connects and binds of an address that could not be read"));
        };
        let (_, socket_type, protocol) = socket.unwrap_or_default();
        Some(Outcome::Act(Act::Network(Network {
            operation: if is_connect { NetworkOperation::Connect } else { NetworkOperation::Bind },
            domain,
            socket_type,
            protocol,
            destination,
            user: kernels.is_none() && destination.is_some(),
            result,
        })))
    }

    fn directory_changed(&mut self, event: &Event<'_>, pid: u32, process: &Process) -> Option<Outcome> {
        let result = event.result(0)?;
        if result != 0 {
            return Some(Outcome::Followed);
        }
        let Some(name) = event.text(1) else { return Some(Outcome::Cwd(Vec::new())) };
        let path = self.whole(process, pid, None, name);
        Some(Outcome::Cwd(if path.starts_with(b"/") { path } else { Vec::new() }))
    }

    fn changed(&mut self, event: &Event<'_>, entered: Option<Entered>, pid: u32, process: &Process) -> Option<Outcome> {
        let result = event.result(0)?;
        let change = Change { result, ..Change::default() };
        let unreadable = Some(Outcome::Skip("changes of a name that could not be read"));
        // Where the names are: (directory, name), and of the new one.
        let (old, new, operation) = match event.kind {
            kind::UNLINK => ((None, 1), None, FileOperation::Unlink),
            kind::UNLINKAT if event.u32(3)? & AT_REMOVEDIR != 0 => ((Some(1), 2), None, FileOperation::Rmdir),
            kind::UNLINKAT => ((Some(1), 2), None, FileOperation::Unlink),
            kind::RMDIR => ((None, 1), None, FileOperation::Rmdir),
            kind::MKDIR => ((None, 1), None, FileOperation::Mkdir),
            kind::MKDIRAT => ((Some(1), 2), None, FileOperation::Mkdir),
            kind::RENAME => ((None, 1), Some((None, 2)), FileOperation::Rename),
            kind::RENAMEAT | kind::RENAMEAT2 => ((Some(1), 2), Some((Some(3), 4)), FileOperation::Rename),
            kind::LINK => ((None, 1), Some((None, 2)), FileOperation::Link),
            kind::LINKAT => ((Some(1), 2), Some((Some(3), 4)), FileOperation::Link),
            kind::CHMOD => ((None, 1), None, FileOperation::Chmod),
            _ => ((Some(1), 2), None, FileOperation::Chmod),
        };
        let mode = match (event.kind, entered) {
            (kind::MKDIR, Some(Entered::Mkdir { mode })) => mode,
            (kind::MKDIRAT | kind::FCHMODAT, _) => event.u32(3)?,
            (kind::CHMOD, _) => event.u32(2)?,
            _ => 0,
        };
        let flags = match event.kind {
            kind::UNLINKAT => event.u32(3)?,
            kind::RENAMEAT2 | kind::LINKAT => event.u32(5)?,
            _ => 0,
        };
        let Some(path) = self.named(event, old, pid, process) else { return unreadable };
        let new_path = match new {
            Some(new) => match self.named(event, new, pid, process) {
                Some(path) => path,
                None => return unreadable,
            },
            None => Vec::new(),
        };
        Some(Outcome::Act(Act::Change(Change { operation, path, new_path, mode, flags, ..change })))
    }

    fn named(
        &mut self,
        event: &Event<'_>,
        (directory, name): (Option<usize>, usize),
        pid: u32,
        process: &Process,
    ) -> Option<Vec<u8>> {
        let directory = directory.and_then(|index| event.result(index));
        event.text(name).map(|name| self.whole(process, pid, directory, name))
    }
}

/// Changes of files, and opens: they tell all where they return (but for the mode of a mkdir).
fn is_told_at_return(kind: u16) -> bool {
    matches!(
        kind,
        kind::OPEN
            | kind::CREAT
            | kind::OPENAT
            | kind::OPENAT2
            | kind::CHDIR
            | kind::UNLINK
            | kind::UNLINKAT
            | kind::RMDIR
            | kind::MKDIR
            | kind::MKDIRAT
            | kind::RENAME
            | kind::RENAMEAT
            | kind::RENAMEAT2
            | kind::LINK
            | kind::LINKAT
            | kind::CHMOD
            | kind::FCHMODAT
    )
}

fn open_entered(event: &Event<'_>) -> Option<Entered> {
    let name = kept(event.text(1)?);
    Some(Entered::Open { directory: event.result(0)?, name, flags: open_flags(event.u32(2)?) })
}

/// Domain, type (with its flags) and protocol, from this parameter on.
fn socket_of(event: &Event<'_>, at: usize) -> Option<Entered> {
    let low = |index: usize| event.u32(index).map(|number| number.to_le_bytes()[0]);
    Some(Entered::Socket { domain: low(at)?, socket_type: low(at + 1)? & 0xf, protocol: low(at + 2)? })
}

fn traced(event: &Event<'_>, entered: Option<&Entered>) -> Option<Outcome> {
    let result = event.result(0)?;
    let Some(&Entered::Trace { request, of }) = entered else { return Some(Outcome::Skip(NOT_ENTERED)) };
    let request = match request {
        1 => 0,
        11 => 16,
        20 => 0x4206,
        _ => return Some(Outcome::Skip("requests of ptrace other than to trace")),
    };
    if result < 0 {
        return Some(Outcome::Skip("ptrace that failed"));
    }
    Some(Outcome::Act(Act::Trace { request, of: if request == 0 { 0 } else { of } }))
}
