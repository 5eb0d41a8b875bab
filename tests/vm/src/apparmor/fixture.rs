//! What the tests share: AppArmor's interface, and a policy that is in force as a profile.

use std::{cell::Cell, process::Command, sync::OnceLock};

use libtest_mimic::Failed;
use palisade_apparmor::{ProfileName, Share, lower};
use palisade_kernel::apparmor::AppArmor;
use palisade_protocol::CompiledPolicy;

use super::{Checked, ensure};
pub use crate::suite::fixture::policy;
use crate::{
    act::{Act, Outcome},
    judged::{Call, Judged, UNDER},
};

/// `EACCES`.
pub const DENIED: i32 = 13;

/// The kernel's interface, which every test uses.
pub fn apparmor() -> Result<&'static AppArmor, Failed> {
    static SHARED: OnceLock<Result<AppArmor, String>> = OnceLock::new();
    SHARED.get_or_init(AppArmor::open).as_ref().map_err(Failed::from)
}

/// A profile that is in force until it is dropped.
pub struct Profiled {
    pub name: ProfileName,
    pub states: usize,
    pub bytes: usize,
    loaded: Cell<bool>,
}

impl Profiled {
    /// Loads a policy as the profile of a container of this id.
    pub fn start(id: &str, policy: &CompiledPolicy) -> Result<Self, Failed> {
        let name = ProfileName::of_container(id)?;
        let profile = lower(&policy.blob, &name, Share::ALL)?;
        apparmor()?.replace(&profile)?;
        Ok(Self { name, states: profile.states, bytes: profile.bytes.len(), loaded: Cell::new(true) })
    }

    /// Puts another policy in its place.
    pub fn replace(&self, policy: &CompiledPolicy) -> Checked {
        Ok(apparmor()?.replace(&lower(&policy.blob, &self.name, Share::ALL)?)?)
    }

    /// A process that it confines.
    pub fn judged(&self) -> Result<Judged, Failed> {
        Ok(Judged::start(Some(self.name.as_str()))?)
    }

    /// Acts of a process that it confines.
    pub fn acts(&self, acts: &[Act]) -> Result<Vec<Outcome>, Failed> {
        acts_under(self.name.as_str(), acts)
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        if self.loaded.replace(false)
            && let Ok(apparmor) = apparmor()
            && let Err(error) = apparmor.remove(&self.name)
        {
            eprintln!("{} stays: {error}", self.name);
        }
    }
}

/// Acts of a process that took the label when it was executed.
pub fn acts_under(label: &str, acts: &[Act]) -> Result<Vec<Outcome>, Failed> {
    let texts = acts.iter().map(ToString::to_string);
    let output = Command::new("/bin/vm_actor").args([UNDER, label]).args(texts).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<Outcome> =
        said.lines().zip(acts).filter_map(|(line, act)| line.strip_prefix(&format!("{act} "))?.parse().ok()).collect();
    ensure(outcomes.len() == acts.len(), || format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(outcomes)
}

/// The first are denied under the profile, the others are not; outside all go through.
pub fn call_both(profiled: &Profiled, denied: &[(Call, &str)], permitted: &[(Call, &str)]) -> Checked {
    let (mut inside, mut outside) = (profiled.judged()?, Judged::start(None)?);
    for (number, (call, object)) in denied.iter().chain(permitted).enumerate() {
        let wanted = if number < denied.len() { DENIED } else { 0 };
        let (within, without) = (inside.call(*call, object)?, outside.call(*call, object)?);
        ensure((within, without) == (wanted, 0), || {
            format!("{call:?} {object}: errno {within} under the profile (wanted {wanted}), {without} outside")
        })?;
    }
    Ok(())
}
