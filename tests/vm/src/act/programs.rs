//! Acts on programs, code and processes, and from a terminal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

use super::{AT_TERMINAL, Act, IMPOSSIBLE, MARK, Outcome, WAIT, errno_of};

/// Maps executable memory, and ends with the errno.
const MAPPER: &str = "/bin/mapper";

pub(super) fn exec(path: &Path) -> Outcome {
    let marker = PathBuf::from(format!("/tmp/marker-{}", std::process::id()));
    let status = Command::new(path).arg(MARK).arg(&marker).stdin(Stdio::null()).status();
    let effect = marker.exists();
    // Absent where the program did not run.
    fs::remove_file(&marker).ok();
    Outcome { errno: errno_of(&status), effect }
}

/// The descriptor stays open over the execution: its file is what is executed.
pub(super) fn exec_memory(path: &Path) -> io::Result<Outcome> {
    let mut memory = File::from(memfd_create(c"actor", MFdFlags::empty())?);
    memory.write_all(&fs::read(path)?)?;
    Ok(exec(Path::new(&format!("/proc/self/fd/{}", memory.as_raw_fd()))))
}

pub(super) fn exec_code() -> Outcome {
    let made = memmap2::MmapMut::map_anon(4096).and_then(memmap2::MmapMut::make_exec);
    Outcome { errno: errno_of(&made), effect: made.is_ok() }
}

pub(super) fn map_code(way: &str) -> Outcome {
    let status = Command::new(MAPPER).args(way.split(' ')).stdin(Stdio::null()).status();
    let errno = status.ok().and_then(|status| status.code()).unwrap_or(-1);
    Outcome { errno, effect: errno == 0 }
}

pub(super) fn at_terminal(act: &Act) -> Outcome {
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

/// The child is a copy of the actor that waits; attaching to one's own child needs no capability.
pub(super) fn ptrace_child() -> Outcome {
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
