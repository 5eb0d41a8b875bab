//! Generated cases: this kernel's AppArmor against the naive evaluator, whoever acts.
//!
//! A profile alone decides here. What depends on the acting executable, its terminal or its arguments is permitted, as is declared in
//! `tests/differential/differences.yaml`; all else must agree.

use palisade_acts::{Bed, Done, Starter};
use palisade_apparmor::{Profile, ProfileName, Share, lower};
use palisade_differential::{Act, Backend, BackendError, Case, Said, compile, ring, workload};
use palisade_kernel_abi::blob::Family;
use palisade_protocol::CompiledPolicy;

use super::{
    Checked, ensure,
    fixture::{Profiled, apparmor},
};

const CASES: u64 = 60;

/// Actors under one profile, which each case replaces.
struct Confined {
    bed: Bed,
    profiled: Profiled,
}

fn failed(error: impl std::fmt::Display) -> BackendError {
    BackendError(error.to_string())
}

impl Backend for Confined {
    fn name(&self, family: Family) -> Option<&'static str> {
        let holds =
            matches!(family, Family::Process | Family::File | Family::Socket | Family::Capability | Family::Ptrace);
        holds.then_some("apparmor")
    }

    fn prepare(&mut self, case: &Case) -> Result<(), BackendError> {
        Ok(self.bed.fill(case)?)
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        let profile: Profile = lower(&policy.blob, &self.profiled.name, Share::ALL).map_err(failed)?;
        apparmor().map_err(|error| failed(error.message().unwrap_or_default()))?.replace(&profile).map_err(failed)
    }

    fn act(&mut self, act: &Act) -> Result<Said, BackendError> {
        // What is told of a denial is read from the audit, which `lines` is about.
        Ok(Said { denied: self.bed.act(act)? != Done::Permitted, told: None })
    }
}

pub fn agrees() -> Checked {
    let permits_all = compile(&workload(Vec::new()))?;
    let profiled = Profiled::start("generated", &permits_all)?;
    let name: &ProfileName = &profiled.name;
    let starter = Starter { profile: name.as_str().to_owned(), ..Starter::of("/bin/vm_actor") };
    let mut bed = Bed::new("apparmor", starter)?;
    bed.start()?;
    let report = ring::run(&mut Confined { bed, profiled }, CASES)?;
    let asked: u64 = report.acts.values().sum();
    ensure(asked > 1000, || format!("{report:?}"))
}
