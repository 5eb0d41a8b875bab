//! Processes that run before the probes do, for the chains of alerts.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _};

use palisade_protocol::ProcessListed;

/// Lists `/proc`. A process that ends while it is read is left out: its end is not news to anybody.
#[must_use]
pub fn list() -> Vec<ProcessListed> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let mut listed: Vec<(u32, ProcessListed)> = all.filter_map(|process| one(&process.ok()?)).collect();
    let starts: BTreeMap<u32, u64> = listed.iter().map(|(_, process)| (process.pid, process.start_ticks)).collect();
    for (parent, process) in &mut listed {
        process.parent = starts.get(parent).map(|start| (*parent, *start));
    }
    listed.into_iter().map(|(_, process)| process).collect()
}

fn one(process: &procfs::process::Process) -> Option<(u32, ProcessListed)> {
    let stat = process.stat().ok()?;
    let executable = process.exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let listed = ProcessListed {
        pid: u32::try_from(stat.pid).ok()?,
        start_ticks: stat.starttime,
        parent: None,
        uid: process.uid().ok()?,
        executable,
        arguments: process.cmdline().unwrap_or_default(),
        own_pid: own_pid(process).unwrap_or_default(),
        pid_namespace: pid_namespace(stat.pid).unwrap_or_default(),
    };
    Some((u32::try_from(stat.ppid).ok()?, listed))
}

/// The last of the line `NSpid`, which has a number for each namespace from the reader's down to the process' own.
fn own_pid(process: &procfs::process::Process) -> Option<u32> {
    let numbers = process.status().ok()?.nspid?;
    u32::try_from(*numbers.last()?).ok()
}

fn pid_namespace(pid: i32) -> Option<u32> {
    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
    u32::try_from(namespace.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn unit_processes_listed_know_their_number_in_their_own_namespace() {
        let own = std::process::id();
        let all = list();
        let this = all.iter().find(|process| process.pid == own).expect("this one runs");
        // Tests run in the namespace that their /proc is of.
        assert_eq!(this.own_pid, own);
        assert_ne!(this.pid_namespace, 0);
    }
}
