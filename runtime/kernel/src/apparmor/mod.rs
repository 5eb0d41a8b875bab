//! AppArmor's own side of the kernel: profiles of ours loaded beside the host's, and whose profile a process has.
//!
//! Invariant: only names that begin with [`palisade_apparmor::PREFIX`] are ever loaded, replaced or removed ([`ProfileName`] is the only way
//! in). A profile is replaced by one write, which the kernel makes of force for all that it confines, or of none.
//!
//! Decision: `.replace` for the first loading, too, so that what an earlier runtime left under the name is no error.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use palisade_apparmor::{PREFIX, Profile, ProfileName, permissive};

use crate::{audit::sees_all_processes, pseudo_fs};

mod denials;
mod holding;
mod profiles;

pub(crate) use holding::with_profile;
pub(crate) use profiles::Binding;
pub use profiles::Profiles;

/// Longer than any list of profiles: 4,096 of ours have 300 KiB.
const MAX_LIST_BYTES: usize = 16 << 20;

/// AppArmor, where it is active and takes policy from us.
#[derive(Debug)]
pub struct AppArmor {
    interface: PathBuf,
}

impl AppArmor {
    /// Looks whether it is active, and whether this process may load policy.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub fn open() -> Result<Self, String> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if enabled.map_or(true, |enabled| enabled.trim() != "Y") {
            return Err(
                "AppArmor is not active in this kernel (apparmor=1 security=apparmor, or lsm=...,apparmor)".to_owned()
            );
        }
        let security = pseudo_fs::ensure(pseudo_fs::SECURITY).map_err(|error| format!("securityfs: {error}"))?;
        let interface = security.join("apparmor");
        let versions = interface.join("features/policy/versions/v8");
        if fs::read_to_string(&versions).map_or(true, |has| has.trim() != "yes") {
            return Err(format!("this kernel does not read version 8 of AppArmor's policy ({})", versions.display()));
        }
        let opened = OpenOptions::new().write(true).open(interface.join(".replace"));
        opened.map_err(|error| format!("policy may not be loaded from here: {error}"))?;
        Ok(Self { interface })
    }

    /// Puts the profile in force at once, for whoever it confines and will confine.
    ///
    /// # Errors
    /// What the kernel said; what was in force stays.
    pub fn replace(&self, profile: &Profile) -> io::Result<()> {
        self.whole_write(".replace", &profile.bytes)
    }

    /// Takes the profile away; whom it still confines is then as unconfined by it as if it had never been.
    ///
    /// # Errors
    /// What the kernel said. That there is none is no error.
    pub fn remove(&self, name: &ProfileName) -> io::Result<()> {
        match self.whole_write(".remove", name.as_str().as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Our profiles that are loaded.
    ///
    /// # Errors
    /// Where the list cannot be read.
    pub fn ours(&self) -> io::Result<Vec<ProfileName>> {
        let list = fs::read(self.interface.join("profiles"))?;
        if list.len() > MAX_LIST_BYTES {
            return Err(io::Error::other(format!("the list of profiles has {} bytes", list.len())));
        }
        let lines = list.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        Ok(lines.filter_map(|line| ProfileName::parse(line.split(' ').next()?)).collect())
    }

    /// Nothing of ours denies any more, whoever loaded it: profiles that confine nobody are removed, the others permit everything.
    ///
    /// Decision: those of running containers stay by their names, because what is executed in a container later (`exec`) is put under the
    /// container's profile by its runtime, which fails where there is none.
    ///
    /// # Errors
    /// The first refusal; the others are tried all the same.
    pub fn stand_down(&self) -> io::Result<()> {
        let ours = self.ours()?;
        // All processes are looked at only where there is a reason.
        let in_use = if ours.is_empty() { None } else { in_use() };
        let mut result = Ok(());
        for name in ours {
            let used = in_use.as_ref().is_none_or(|in_use| in_use.contains(&name));
            result = result.and(if used { self.permit_everything(&name) } else { self.remove(&name) });
        }
        result
    }

    /// Removes profiles that confine nobody; returns how many.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn remove_unused(&self) -> io::Result<usize> {
        let ours = self.ours()?;
        let Some(in_use) = Some(&ours).filter(|ours| !ours.is_empty()).and_then(|_| in_use()) else { return Ok(0) };
        let unused: Vec<ProfileName> = ours.into_iter().filter(|name| !in_use.contains(name)).collect();
        unused.iter().try_for_each(|name| self.remove(name))?;
        Ok(unused.len())
    }

    fn permit_everything(&self, name: &ProfileName) -> io::Result<()> {
        self.replace(&permissive(name).map_err(io::Error::other)?)
    }

    /// One write, for the kernel reads a profile from one.
    fn whole_write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let written = OpenOptions::new().write(true).open(self.interface.join(file))?.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// How a process is confined by AppArmor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confinement {
    /// By a profile of ours, perhaps among others.
    Ours(ProfileName),
    /// By others only: `cri-containerd.apparmor.d (enforce)`, `unconfined`.
    Others(String),
}

/// How the process is confined.
///
/// # Errors
/// Where the kernel does not tell: the process is gone.
pub fn confinement(pid: u32) -> io::Result<Confinement> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/attr/{file}"));
    // The file of before stacking (5.1) is another LSM's where several have labels.
    let now = parse_label(&text_of(&read("apparmor/current").or_else(|_| read("current"))?));
    // A runtime asks for the profile that the next execution takes: it has not happened yet.
    match (read("apparmor/exec").map(|label| parse_label(&text_of(&label))), now) {
        (Ok(Confinement::Ours(name)), Confinement::Others(_)) => Ok(Confinement::Ours(name)),
        (_, now) => Ok(now),
    }
}

/// Our profiles that confine any process; `None` where not all processes are to be seen.
fn in_use() -> Option<BTreeSet<ProfileName>> {
    let processes = fs::read_dir("/proc").ok().filter(|_| sees_all_processes())?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile is confined by nothing.
    let ours = pids.filter_map(|pid| match confinement(pid) {
        Ok(Confinement::Ours(name)) => Some(name),
        _ => None,
    });
    Some(ours.collect())
}

fn text_of(label: &[u8]) -> String {
    String::from_utf8_lossy(label).trim_end_matches(['\n', '\0']).to_owned()
}

/// [`AppArmor::stand_down`] where AppArmor is there; where it is not, nothing of ours can be.
///
/// # Errors
/// What the kernel said.
pub(crate) fn unload() -> io::Result<()> {
    match AppArmor::open() {
        Ok(apparmor) => apparmor.stand_down(),
        Err(_) => Ok(()),
    }
}

/// A label is one profile, or several joined by `//&`, and then the mode in parentheses; each may have a mode of its own.
fn parse_label(label: &str) -> Confinement {
    let profiles = label.split("//&").map(|profile| profile.split(" (").next().unwrap_or(profile));
    let ours = profiles.filter(|profile| profile.starts_with(PREFIX)).find_map(ProfileName::parse);
    ours.map_or_else(|| Confinement::Others(label.to_owned()), Confinement::Ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_apparmor_label_is_ours_where_one_of_its_profiles_is() {
        let ours = |name: &str| Confinement::Ours(ProfileName::parse(name).unwrap());
        assert_eq!(parse_label("palisade-c1 (enforce)"), ours("palisade-c1"));
        assert_eq!(parse_label("cri-containerd.apparmor.d//&palisade-c1 (enforce)"), ours("palisade-c1"));
        for other in ["unconfined", "cri-containerd.apparmor.d (enforce)", "x-palisade-c1 (enforce)", ""] {
            assert_eq!(parse_label(other), Confinement::Others(other.to_owned()));
        }
    }
}
