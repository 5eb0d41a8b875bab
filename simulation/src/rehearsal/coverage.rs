//! What of a policy a trace cannot judge at all: acts that it does not hold.
//!
//! An act of a class that nobody asked to see leaves no record, so that a rule about it was not tried: that is said of the rule, and is not
//! the same as a rule that nothing went against.

use palisade_domain::{Visibility, VisibilityClass};
use palisade_policy::ir::{Matcher, Preset, Rule, SyscallMatch};
use palisade_protocol::observed_calls;
use palisade_world::visibility;

/// Why the rule is not judged by records that were made under these visibilities; none where it is.
pub(super) fn unjudged(rule: &Rule, seen: &[Visibility]) -> Option<String> {
    match &rule.matcher {
        // Seen always.
        Matcher::Process(_) | Matcher::Preset(Preset::FilelessExec | Preset::Exec) => None,
        Matcher::File(_) => by_class(VisibilityClass::File, "opens", seen),
        Matcher::Socket(_) | Matcher::Destination(_) => by_class(VisibilityClass::Network, "sockets", seen),
        Matcher::Ptrace(_) => by_class(VisibilityClass::Process, "tracing of processes", seen),
        Matcher::Capability(_) => by_class(VisibilityClass::Capabilities, "uses of capabilities", seen),
        Matcher::Dns(_) => by_class(VisibilityClass::Dns, "DNS questions", seen),
        Matcher::Preset(Preset::ProtectEnv | Preset::ProtectProc) => by_class(VisibilityClass::File, "opens", seen),
        Matcher::Preset(Preset::AnonMapExec) => Some("no record tells of memory that is made executable".into()),
        Matcher::Device(_) => Some("no record tells of USB devices".into()),
        Matcher::Syscall(SyscallMatch { names, path: Some(_), .. }) => on_path(names, seen),
        Matcher::Syscall(_) => by_class(VisibilityClass::Syscalls, "system calls", seen),
    }
}

fn by_class(class: VisibilityClass, acts: &str, seen: &[Visibility]) -> Option<String> {
    let count = seen.iter().filter(|seen| seen.has(class)).count();
    let how = || format!("record with visibility {}", class.name());
    match count {
        _ if count == seen.len() => None,
        0 => Some(format!("{acts} were not seen: {}", how())),
        _ => Some(format!("{acts} were seen for a part of the trace only: {}", how())),
    }
}

/// Of system calls on a path, what each did is told by records of its own kind.
fn on_path(names: &[String], seen: &[Visibility]) -> Option<String> {
    let untold: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| observed_calls::kinds_of(name) == 0).collect();
    if !untold.is_empty() {
        return Some(format!("no record tells of {} on a path", untold.join(", ")));
    }
    let needed = names.iter().fold(0, |bits, name| bits | observed_calls::kinds_of(name));
    let is_missing = |class: &VisibilityClass| {
        let bits = visibility::bits_of_class(*class);
        // Executions are seen always.
        let always = visibility::kinds_of(Visibility::NONE);
        needed & bits & !always != 0 && !seen.iter().all(|seen| seen.has(*class))
    };
    let missing: Vec<&str> =
        VisibilityClass::ALL.iter().filter(|class| is_missing(class)).map(|class| class.name()).collect();
    let missing = missing.join(",");
    (!missing.is_empty()).then(|| format!("these calls were not seen throughout: record with visibility {missing}"))
}
