//! Processes that run before the probes do, for the chains of alerts.

use std::collections::BTreeMap;

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
    };
    Some((u32::try_from(stat.ppid).ok()?, listed))
}
