//! SELinux of this host: what the policy in force knows, under which user of ours a task runs, and loading a policy with ours in it.
//!
//! ```text
//!   the adapter: admitted, runs, installed ──► users: numbers (whose rules each user has) ──► a thread: policy ──► the kernel
//!   the audit's reader: whose line is it ────►   │                                               └── remembered, for who comes later
//!   what is held, and what is not ◄── holding ◄──┘                 └── tool, store: the host's own programs
//! ```
//!
//! Invariants: a policy is put in force by one write of the whole ([`SeLinux::load`]): the kernel has the one before or this one, and asks its
//! tasks by the new one at once. A system that is permissive denies nothing, and is said not to hold ([`SeLinux::is_enforcing`]).
//!
//! Decision: the kernel's own interface (selinuxfs) and no library: what is asked of it are small files of text.

mod answer;
mod claim;
mod denials;
mod holding;
mod numbers;
mod policy;
mod remembered;
mod store;
mod tool;
mod users;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use palisade_selinux::{Classes, Levels, MAX_CATEGORY, UserNumber};

use crate::{audit, pseudo_fs};

pub use answer::Answer;
pub(crate) use holding::{denies_all_capabilities, with_user};
pub(crate) use numbers::Binding;
pub use policy::{Base, PolicyError, PolicySource};
pub use users::Users;
pub use users::count_in_use;
pub(crate) use users::unload;

/// Where the kernel's status page has the count of loaded policies, after its version, sequence number and mode.
const LOADS_AT: usize = 12;

/// The kernel's interface.
#[derive(Debug, Clone)]
pub struct SeLinux {
    root: PathBuf,
}

impl SeLinux {
    /// # Errors
    /// Where SELinux is not active in this kernel, or takes no policy from here, in words for people.
    pub fn open() -> Result<Self, String> {
        let root = pseudo_fs::ensure(pseudo_fs::SELINUX)
            .map_err(|error| format!("SELinux is not active in this kernel (security=selinux): {error}"))?;
        let load = OpenOptions::new().write(true).open(root.join("load"));
        load.map_err(|error| format!("a policy may not be loaded from here: {error}"))?;
        Ok(Self { root })
    }

    fn text(&self, file: &str) -> io::Result<String> {
        let text = fs::read_to_string(self.root.join(file))?;
        Ok(text.trim_end_matches(['\n', '\0']).to_owned())
    }

    /// Whether what the policy does not allow is denied, and not only told of. An administrator may change it at any time.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn is_enforcing(&self) -> io::Result<bool> {
        Ok(self.text("enforce")? == "1")
    }

    /// How many policies have been loaded, and booleans changed, as far as the kernel counts: from somebody's first look on. Only that it is
    /// another number than before says something.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn loads(&self) -> io::Result<u32> {
        let page = fs::read(self.root.join("status"))?;
        let word = page.get(LOADS_AT..LOADS_AT + 4).and_then(|bytes| bytes.try_into().ok());
        word.map(u32::from_ne_bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// What the policy in force knows: before the first one is loaded, nothing.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn classes(&self) -> io::Result<Classes> {
        let mut classes = Classes::default();
        for class in names(&self.root.join("class"))? {
            let permissions = names(&self.root.join("class").join(&class).join("perms"))?;
            classes.permissions.insert(class, permissions.into_iter().collect());
        }
        classes.extended_sockets = self.text("policy_capabilities/extended_socket_class").is_ok_and(|is| is == "1");
        Ok(classes)
    }

    /// The categories of the policy in force, as the kernel's own user may have them.
    ///
    /// # Errors
    /// Where the kernel's own context cannot be read.
    pub fn levels(&self) -> io::Result<Levels> {
        if self.text("mls")? != "1" {
            return Ok(Levels::default());
        }
        let kernel = self.text("initial_contexts/kernel")?;
        let unlevelled = kernel.splitn(4, ':').take(3).collect::<Vec<_>>().join(":");
        let has = |category: u16| self.is_context(&format!("{unlevelled}:s0:c{category}"));
        Ok(Levels { last_category: last_where(MAX_CATEGORY, has) })
    }

    /// Whether the policy in force declares the users of the pool.
    #[must_use]
    pub fn has_our_users(&self) -> bool {
        let Ok(kernel) = self.text("initial_contexts/kernel") else { return false };
        let Some((_, rest)) = kernel.split_once(':') else { return false };
        let role_and_type = rest.splitn(3, ':').take(2).collect::<Vec<_>>().join(":");
        let level = if self.text("mls").is_ok_and(|mls| mls == "1") { ":s0" } else { "" };
        UserNumber::all().last().is_some_and(|user| self.is_context(&format!("{user}:{role_and_type}{level}")))
    }

    /// Whether the policy in force knows the context.
    #[must_use]
    pub fn is_context(&self, context: &str) -> bool {
        self.whole_write("context", context.as_bytes()).is_ok()
    }

    /// What the policy in force says of a task's permission over itself, as the kernel would be asked: the proof that a constraint holds.
    ///
    /// # Errors
    /// Where the policy does not know the context or the permission.
    pub fn ask(&self, context: &str, class: &str, permission: &str) -> io::Result<Answer> {
        let number = |file: String| -> io::Result<u32> { self.text(&file)?.parse().map_err(io::Error::other) };
        let index = number(format!("class/{class}/index"))?;
        let bit = number(format!("class/{class}/perms/{permission}"))?;
        let mut file = OpenOptions::new().read(true).write(true).open(self.root.join("access"))?;
        file.write_all(format!("{context} {context} {index}").as_bytes())?;
        let mut words = [0; 128];
        let length = file.read(&mut words)?;
        let words = std::str::from_utf8(&words[..length]).map_err(io::Error::other)?;
        Answer::parse(words, bit).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("`{words}`")))
    }

    /// Puts a compiled policy in force in the place of the one that is.
    ///
    /// # Errors
    /// What the kernel said; what was in force stays.
    pub fn load(&self, policy: &[u8]) -> io::Result<()> {
        self.whole_write("load", policy)
    }

    /// One write, for the kernel takes neither in parts.
    fn whole_write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let written = OpenOptions::new().write(true).open(self.root.join(file))?.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Whether SELinux can be a means here: it is active and takes a policy from this process, there is who compiles one, and denials are heard.
///
/// # Errors
/// Why not, in words for people.
pub(crate) fn try_here() -> Result<(), String> {
    SeLinux::open()?;
    let is_there = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    if !is_there("secilc") && !is_there("semodule") {
        return Err("neither secilc nor semodule is installed: nothing compiles a policy".to_owned());
    }
    audit::is_heard()
}

/// Whether SELinux is active here and denies, at this moment.
#[must_use]
pub fn is_enforcing() -> bool {
    SeLinux::open().is_ok_and(|selinux| selinux.is_enforcing().unwrap_or(false))
}

/// Names in a directory of the kernel's, in order.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The last of `0..=most` that has what all before it have.
fn last_where(most: u16, has: impl Fn(u16) -> bool) -> Option<u16> {
    let (mut known, mut unknown) = (0, u32::from(most) + 1);
    if !has(0) {
        return None;
    }
    while unknown - known > 1 {
        let middle = u32::midpoint(known, unknown);
        if has(middle as u16) { known = middle } else { unknown = middle }
    }
    Some(known as u16)
}

/// The user of ours that a process runs under, or will after its next execution; `None`: another's, whose context it is.
///
/// # Errors
/// Where the kernel does not tell: the process is gone, or SELinux is not active.
pub fn user_of(pid: u32) -> io::Result<Result<UserNumber, String>> {
    let context = context_of(pid)?;
    Ok(UserNumber::of_context(&context).ok_or(context))
}

/// The context of a process; of two, one of ours.
fn context_of(pid: u32) -> io::Result<String> {
    let read = |file: &str| -> io::Result<String> {
        let context = fs::read(format!("/proc/{pid}/attr/{file}"))?;
        Ok(String::from_utf8_lossy(&context).trim_end_matches(['\n', '\0']).to_owned())
    };
    let now = read("current")?;
    // A runtime asks for the context that the next execution takes: it has not happened yet.
    let next = read("exec").ok().filter(|next| UserNumber::of_context(next).is_some());
    Ok(next.unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_selinux_last_category_is_found_whatever_it_is() {
        for last in [0, 1, 2, 255, 512, 1022, 1023] {
            assert_eq!(last_where(MAX_CATEGORY, |category| category <= last), Some(last));
        }
        assert_eq!(last_where(MAX_CATEGORY, |_| false), None);
    }

    #[test]
    fn unit_selinux_classes_and_levels_are_read_as_the_kernel_writes_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (class, permission) in [("capability", "chown"), ("capability", "kill"), ("file", "execmod")] {
            write(&format!("class/{class}/perms/{permission}"), "1");
            write(&format!("class/{class}/index"), "1");
        }
        write("policy_capabilities/extended_socket_class", "1");
        write("enforce", "0");
        write("mls", "0");
        let selinux = SeLinux { root: root.path().to_path_buf() };
        let classes = selinux.classes().unwrap();
        assert!(classes.has("capability", "kill") && classes.has("file", "execmod") && !classes.has("file", "chown"));
        assert!(classes.extended_sockets && !selinux.is_enforcing().unwrap());
        assert_eq!(selinux.levels().unwrap(), Levels::default(), "a policy without levels");
        write("enforce", "1");
        write("policy_capabilities/extended_socket_class", "0");
        assert!(selinux.is_enforcing().unwrap() && !selinux.classes().unwrap().extended_sockets);
    }
}
