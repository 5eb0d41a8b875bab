//! What the tests share: the guest's policy with something beside it, and processes in a context of their own.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    process::Command,
};

use libtest_mimic::Failed;

use super::{Checked, ensure};
use crate::{
    act::{Act, Outcome},
    judged::{IN_CONTEXT, Judged},
};

/// `EACCES`, which is what SELinux answers.
pub const DENIED: i32 = 13;
/// Where the guest has the source of its own policy, and what it is compiled to (`tests/rings/vm.sh`).
pub const BASE: &str = "/selinux/base.cil";
pub const BASE_POLICY: &str = "/selinux/base.policy";
const LOAD: &str = "/sys/fs/selinux/load";

/// The context of a process of the user.
pub fn context_of(user: &str) -> String {
    format!("{user}:system_r:container_t:s0")
}

/// Statements that make the user known, without a constraint.
pub fn user(name: &str) -> String {
    format!("(user {name})\n(userrole {name} system_r)\n(userlevel {name} low)\n(userrange {name} all_levels)\n")
}

/// A policy beside the guest's own, in force until it is dropped.
pub struct Constrained(());

impl Constrained {
    /// Compiles the statements together with the guest's policy, and loads that.
    pub fn load(statements: &str) -> Result<Self, Failed> {
        let (source, policy) = ("/run/constrained.cil", "/run/constrained.policy");
        fs::write(source, statements)?;
        let output = Command::new("secilc").args(["-o", policy, "-f", "/dev/null", BASE, source]).output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure(output.status.success(), || format!("{}\n{statements}", String::from_utf8_lossy(&said)))?;
        load(policy)?;
        Ok(Self(()))
    }
}

impl Drop for Constrained {
    fn drop(&mut self) {
        if let Err(error) = load(BASE_POLICY) {
            eprintln!("the constraints stay: {}", error.message().unwrap_or_default());
        }
    }
}

/// The kernel takes a policy whole, by one write, or not at all.
pub fn load(policy: &str) -> Checked {
    let bytes = fs::read(policy)?;
    let written = OpenOptions::new().write(true).open(LOAD)?.write(&bytes)?;
    ensure(written == bytes.len(), || format!("{written} of {} bytes", bytes.len()))
}

/// A process of the user.
pub fn judged(user: &str) -> Result<Judged, Failed> {
    let judged = Judged::start_in_context(&context_of(user))?;
    Ok(judged)
}

/// Acts of a process of the user.
pub fn acts_of(user: &str, acts: &[Act]) -> Result<Vec<Outcome>, Failed> {
    let texts = acts.iter().map(ToString::to_string);
    let output = Command::new("/bin/vm_actor").args([IN_CONTEXT, &context_of(user)]).args(texts).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<Outcome> =
        said.lines().zip(acts).filter_map(|(line, act)| line.strip_prefix(&format!("{act} "))?.parse().ok()).collect();
    ensure(outcomes.len() == acts.len(), || format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(outcomes)
}

/// The context of a process, as the kernel has it.
pub fn context(pid: u32) -> Result<String, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current"))?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}
