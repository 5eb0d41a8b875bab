//! What AppArmor says of denials, for the reader of the kernel's audit.

use std::sync::Mutex;

use palisade_apparmor::{Line, LineError, Subject};
use palisade_kernel_abi::{
    blob::{Blob, Decision, Endpoint},
    record::{Body, Exec, FileChange, FileOperation, Open, Script, Text, Tier},
};

use super::profiles::Profiles;
use crate::audit::{Account, Act, Denials, Held, body};

impl Denials for Profiles {
    type Line = Line;
    type Error = LineError;
    const TIER: Tier = Tier::AppArmor;

    fn account(&self) -> &Mutex<Account> {
        &self.account
    }

    fn read(&self, text: &[u8]) -> Result<Option<Line>, LineError> {
        match Line::parse(text) {
            Ok(line) => Ok(Some(line)),
            // Of an act that no policy is about, as a change of profile, nothing is owed: it is no record that was lost.
            Err(LineError::Other | LineError::Foreign | LineError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find(&self, line: &Line) -> Option<Held> {
        Self::find(self, &line.profile)
    }

    fn act<'a>(&self, line: &'a Line) -> Act<'a> {
        Act { denied: line.denied, pid: line.pid, comm: &line.comm, family: line.family() }
    }

    fn judge(&self, line: &Line, policy: Option<&Blob>, executable: Option<&[u8]>, tty: bool) -> Decision {
        policy.map_or(Decision::PERMIT, |blob| line.judge(blob, executable, tty))
    }

    fn body<'a>(&self, line: &'a Line, cwd: Text<'a>, tty: u32) -> Body<'a> {
        match &line.subject {
            Subject::File { path, executes: true, .. } => {
                // The hook is asked once, for the file that execve names: of an interpreter there is no line, and whether this file is a
                // script the line does not say.
                let script = Script::Untold;
                Body::Exec(Exec {
                    path: body::path(path),
                    cwd,
                    argument_bytes: body::UNREAD,
                    argument_count: 0,
                    tty,
                    script,
                })
            }
            Subject::File { path, writes, .. } => match change(&line.operation) {
                Some(operation) => Body::FileChange(FileChange {
                    operation,
                    path: body::path(path),
                    uid: u32::MAX,
                    gid: u32::MAX,
                    result: body::result(line.denied, libc::EACCES),
                    ..FileChange::default()
                }),
                None => {
                    let flags = if *writes { libc::O_WRONLY } else { libc::O_RDONLY };
                    Body::Open(Open {
                        path: body::path(path),
                        flags: flags.unsigned_abs(),
                        result: body::result(line.denied, libc::EACCES),
                    })
                }
            },
            Subject::Socket { domain, kind, protocol } => {
                let socket = Endpoint { domain: *domain, kind: *kind, protocol: *protocol, destination: None };
                body::socket(socket, line.denied)
            }
            Subject::Capability(number) => body::capability(*number, line.denied),
            Subject::Trace(_) => body::trace(),
        }
    }
}

/// The change that AppArmor's word for an operation means; `None` is an open.
fn change(operation: &str) -> Option<FileOperation> {
    Some(match operation {
        "mknod" => FileOperation::Mknod,
        "unlink" => FileOperation::Unlink,
        "rmdir" => FileOperation::Rmdir,
        "rename_src" | "rename_dest" => FileOperation::Rename,
        "link" => FileOperation::Link,
        "symlink" => FileOperation::Symlink,
        "mkdir" => FileOperation::Mkdir,
        "chmod" => FileOperation::Chmod,
        "chown" => FileOperation::Chown,
        "truncate" | "file_truncate" => FileOperation::Truncate,
        _ => return None,
    })
}
