//! Capabilities, tracing and namespaces.

use palisade_domain::CAPABILITIES;

use super::{bits, listed};

/// `linux/capability.h`, `CAP_*`.
#[must_use]
pub fn capability(number: u32) -> String {
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    CAPABILITIES.get(at).map_or_else(|| number.to_string(), |name| format!("CAP_{}", name.to_ascii_uppercase()))
}

/// The capabilities of a set by commas; `none` and `all` (of those that have a name) where that is it.
#[must_use]
pub fn capabilities(set: u64) -> String {
    const ALL: u64 = (1 << CAPABILITIES.len()) - 1;
    match set {
        0 => "none".to_owned(),
        ALL => "all".to_owned(),
        _ => listed((0..64).filter(|bit| set >> bit & 1 == 1).map(capability)),
    }
}

/// `linux/ptrace.h`, `PTRACE_*`.
#[must_use]
pub fn ptrace(request: u32) -> String {
    let name = match request {
        0 => "TRACEME",
        1 => "PEEKTEXT",
        2 => "PEEKDATA",
        3 => "PEEKUSER",
        4 => "POKETEXT",
        5 => "POKEDATA",
        6 => "POKEUSER",
        7 => "CONT",
        8 => "KILL",
        9 => "SINGLESTEP",
        16 => "ATTACH",
        17 => "DETACH",
        24 => "SYSCALL",
        0x4206 => "SEIZE",
        0x4207 => "INTERRUPT",
        other => return other.to_string(),
    };
    format!("PTRACE_{name}")
}

/// `linux/sched.h`, `CLONE_NEW*`.
#[must_use]
pub fn namespace_flags(flags: u64) -> String {
    const NAMES: [(u64, &str); 12] = [
        (0x80, "CLONE_NEWTIME"),
        (0x200, "CLONE_FS"),
        (0x400, "CLONE_FILES"),
        (0x800, "CLONE_SIGHAND"),
        (0x10000, "CLONE_THREAD"),
        (0x20000, "CLONE_NEWNS"),
        (0x40000, "CLONE_SYSVSEM"),
        (0x0200_0000, "CLONE_NEWCGROUP"),
        (0x0400_0000, "CLONE_NEWUTS"),
        (0x0800_0000, "CLONE_NEWIPC"),
        (0x1000_0000, "CLONE_NEWUSER"),
        (0x2000_0000, "CLONE_NEWPID"),
    ];
    let net = flags & 0x4000_0000 != 0;
    let rest = flags & !0x4000_0000;
    match (net, rest) {
        (true, 0) => "CLONE_NEWNET".to_owned(),
        (true, rest) => format!("{}|CLONE_NEWNET", bits(rest, &NAMES)),
        (false, rest) => bits(rest, &NAMES),
    }
}
