//! Rules that are decided in user space, from records: system calls on a path ([`SyscallMatch::path`]).
//!
//! A record tells the number of a call, the file that it was about and the executable that made it. These rules audit, so that nothing
//! waits for the answer.

use crate::ir::{Matcher, Rule, SyscallMatch};

/// A system call that was made, as a record tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedCall<'r> {
    /// Its number, of the table that it was made by.
    pub number: u16,
    /// By i386's table, and not x86-64's.
    pub is_compat: bool,
    /// The file that it was about; absolute.
    pub path: &'r [u8],
    /// The acting executable; empty where it is not known.
    pub executable: &'r [u8],
}

impl Rule {
    /// Whether the rule audits the call. A rule that is about no path is decided by the kernel's table, and never here.
    #[must_use]
    pub fn observes(&self, call: &ObservedCall<'_>) -> bool {
        let Matcher::Syscall(SyscallMatch { numbers, numbers32, path: Some(path), .. }) = &self.matcher else {
            return false;
        };
        let numbers = if call.is_compat { numbers32 } else { numbers };
        numbers.contains(&call.number) && path.matches(call.path) && self.is_by(call.executable)
    }

    /// The same where a record tells what a call did, and not which of the calls that do it: these are their names.
    #[must_use]
    pub fn observes_any(&self, calls: &[&str], path: &[u8], executable: &[u8]) -> bool {
        let Matcher::Syscall(SyscallMatch { names, path: Some(of), .. }) = &self.matcher else { return false };
        names.iter().any(|name| calls.contains(&name.as_str())) && of.matches(path) && self.is_by(executable)
    }

    /// Whether the rule applies to what the executable does: it names no source, or this one.
    #[must_use]
    pub fn is_by(&self, executable: &[u8]) -> bool {
        if self.sources.is_empty() && self.source_directories.is_empty() {
            return true;
        }
        let is_below = |directory: &crate::ir::SourceDirectory| {
            let inside = executable.strip_prefix(directory.directory.as_bytes());
            inside.is_some_and(|rest| !rest.is_empty() && (directory.recursive || !rest.contains(&b'/')))
        };
        self.sources.iter().any(|source| source.as_bytes() == executable)
            || self.source_directories.iter().any(is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyFile;

    #[test]
    fn unit_rule_on_a_path_observes_calls_on_it_by_its_sources_and_by_the_table_that_they_were_made_by() {
        let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p}\nspec:\n  selector: {}\n  syscalls:\n    \
                    matchPaths: [{path: /etc/, recursive: true, syscall: [unlink], fromSource: [{path: /bin/rm}, {dir: /opt/}]}]\n    \
                    matchSyscalls: [{syscall: [unlink]}]\n";
        let file = PolicyFile::parse("f.yaml", text.as_bytes());
        let [anywhere, on_path] = file.policies[0].rules.as_slice() else { panic!("{:?}", file.policies) };
        let call = ObservedCall { number: 87, is_compat: false, path: b"/etc/a/b", executable: b"/bin/rm" };
        assert!(on_path.observes(&call) && !anywhere.observes(&call));
        assert!(on_path.observes(&ObservedCall { number: 10, is_compat: true, ..call }));
        assert!(on_path.observes(&ObservedCall { executable: b"/opt/x", ..call }));
        for other in [
            ObservedCall { number: 10, ..call },
            ObservedCall { path: b"/usr/a", ..call },
            ObservedCall { executable: b"/opt/x/y", ..call },
            ObservedCall { executable: b"", ..call },
        ] {
            assert!(!on_path.observes(&other), "{other:?}");
        }
        let unlink = ["unlink", "unlinkat"];
        assert!(
            on_path.observes_any(&unlink, b"/etc/a", b"/bin/rm")
                && !anywhere.observes_any(&unlink, b"/etc/a", b"/bin/rm")
        );
        assert!(!on_path.observes_any(&["rename"], b"/etc/a", b"/bin/rm"));
        assert!(
            !on_path.observes_any(&unlink, b"/usr/a", b"/bin/rm") && !on_path.observes_any(&unlink, b"/etc/a", b"")
        );
    }
}
