//! What the tests share: the guest's policy with something beside it, and processes in a context of their own.

use std::{env, fs, process::Command};

use libtest_mimic::Failed;
use palisade_kernel::selinux::{Base, PolicySource, SeLinux};

use super::ensure;
use crate::{
    act::{Act, Outcome},
    judged::{IN_CONTEXT, Judged},
};

/// `EACCES`, which is what SELinux answers.
pub const DENIED: i32 = 13;
/// Where the guest has the source of its own policy, and what it is compiled to (`tests/rings/vm.sh`).
pub const BASE: &str = "/selinux/base.cil";
pub const BASE_POLICY: &str = "/selinux/base.policy";

/// The name of the distribution's policy that the guest has in the place of its own (`boot.sh --distribution`).
const DISTRIBUTION: &str = "PALISADE_POLICY";

pub fn has_distributions_policy() -> bool {
    env::var_os(DISTRIBUTION).is_some()
}

/// The context of a process of the user. Debian's policy has no type for containers: they have that of who starts them, a service without one.
pub fn context_of(user: &str) -> String {
    let domain = if has_distributions_policy() { "initrc_t" } else { "container_t" };
    format!("{user}:system_r:{domain}:s0")
}

/// Statements that make the user known, without a constraint.
pub fn user(name: &str) -> String {
    format!("(user {name})\n(userrole {name} system_r)\n(userlevel {name} low)\n(userrange {name} all_levels)\n")
}

/// SELinux of the guest, with the guest's policy as what a node's is loaded with.
pub fn selinux() -> Result<(SeLinux, PolicySource), Failed> {
    let selinux = SeLinux::open()?;
    Ok((selinux.clone(), PolicySource::new(selinux, Base::Cil(BASE.into()))))
}

/// A policy beside the guest's own, in force until it is dropped.
pub struct Constrained(PolicySource);

impl Constrained {
    /// Compiles the statements together with the guest's policy, and loads that.
    pub fn load(statements: &str) -> Result<Self, Failed> {
        let (_, source) = selinux()?;
        source.load(statements).map_err(|error| format!("{error}\n{statements}"))?;
        Ok(Self(source))
    }
}

impl Drop for Constrained {
    fn drop(&mut self) {
        if let Err(error) = self.0.load_base() {
            eprintln!("the constraints stay: {error}");
        }
    }
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
