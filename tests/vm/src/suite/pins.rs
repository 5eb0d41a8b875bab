//! Policy stands while no runtime does: a process that put it in force is killed, and the denial holds until it is unloaded.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use palisade_kernel::unload;
use palisade_world::Enforcement;

use super::{
    Checked, ensure,
    fixture::{config, containerd, ensure_outcomes, membership, next_generation, next_slot, policy},
};
use crate::act::Act;

/// The suite's first argument that makes it a holder: `--hold-policy CGROUP PID` puts a policy in force, says so and waits.
pub const HOLD_POLICY: &str = "--hold-policy";
const HELD: &str = "held";
const PIN_ROOT: &str = "/sys/fs/bpf/suite-pins";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("vm_policy_stands_after_its_loader_was_killed_until_it_is_unloaded", stands)]
}

/// The holder's side.
///
/// # Errors
/// Where the policy cannot be put in force.
pub fn hold(arguments: &[String]) -> Checked {
    let [cgroup, pid] = arguments else { return Err("a cgroup and a pid".into()) };
    let adapter = palisade_kernel::KernelAdapter::open(config(Path::new(PIN_ROOT)))?;
    let (slot, pid) = (next_slot(), pid.parse()?);
    adapter.admit(&membership(slot, Path::new(cgroup), pid)?)?;
    adapter.learn_mounts(slot, pid)?;
    let policy = policy("file:\n  matchPaths: [ { path: /etc/secret } ]\naction: Block")?;
    adapter.install(slot, next_generation(), Some(&policy.blob))?;
    println!("{HELD}");
    loop {
        std::thread::park();
    }
}

fn stands() -> Checked {
    let container = containerd()?.hold("unattended", &[])?;
    let mut holder = Command::new("/proc/self/exe")
        .args([HOLD_POLICY, &container.cgroup()?.display().to_string(), &container.pid.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(output) = holder.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    holder.kill()?;
    holder.wait()?;
    ensure(said.trim() == HELD, || format!("the holder said '{said}'"))?;

    let acts = [Act::Open("/etc/secret".into()), Act::Open("/etc/public".into())];
    let unattended = container.exec(&acts);
    unload(Path::new(PIN_ROOT))?;
    ensure_outcomes(&acts, &unattended?, 1)?;
    ensure_outcomes(&acts, &container.exec(&acts)?, 0)?;
    ensure(!Path::new(PIN_ROOT).exists(), || format!("{PIN_ROOT} is still there"))?;
    container.remove()?;
    Ok(())
}
