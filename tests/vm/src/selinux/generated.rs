//! Generated cases: this kernel's SELinux against the naive evaluator, whoever acts.
//!
//! Constraints alone decide here. What depends on the acting executable, its terminal or the traced one is permitted, and what only some sockets
//! of a class may do, as is declared in `tests/differential/differences.yaml`; all else must agree.

use std::fs;

use palisade_acts::{Bed, Done, Starter};
use palisade_differential::{Act, Backend, BackendError, Case, Said, ring};
use palisade_kernel::{
    audit::AuditEvents,
    selinux::{PolicySource, SeLinux},
};
use palisade_kernel_abi::blob::Family;
use palisade_protocol::CompiledPolicy;
use palisade_selinux::{FAMILIES, Line, Lowered, UserNumber, module};

use super::{
    Checked, ensure,
    fixture::{Constrained, acts_of, context_of, selinux},
    kernel::denials,
    lowered::user,
};
use crate::{act, suite::fixture::policy};

const CASES: u64 = 60;
/// Of the acts of these cases, denied by the kernel: an agreement in which it denies nothing would say nothing.
const DENIED: u64 = 40;

/// Actors of one user, whose constraints each case replaces.
struct Confined {
    bed: Bed,
    selinux: SeLinux,
    source: PolicySource,
    user: UserNumber,
    denied: u64,
}

fn failed(error: impl std::fmt::Display) -> BackendError {
    BackendError(error.to_string())
}

impl Backend for Confined {
    fn name(&self, family: Family) -> Option<&'static str> {
        matches!(family, Family::Socket | Family::Capability | Family::Ptrace).then_some("selinux")
    }

    fn prepare(&mut self, case: &Case) -> Result<(), BackendError> {
        Ok(self.bed.fill(case)?)
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        let lowered = Lowered::of(&policy.blob, &FAMILIES, &self.selinux.classes()?);
        self.source.load(&module(self.selinux.levels()?, [(self.user, &lowered)])).map_err(failed)
    }

    fn act(&mut self, act: &Act) -> Result<Said, BackendError> {
        let denied = self.bed.act(act)? != Done::Permitted;
        self.denied += u64::from(denied);
        // What is told of a denial is read from the audit, which `lowered` is about.
        Ok(Said { denied, told: None })
    }
}

pub fn agrees() -> Checked {
    let (selinux, source) = selinux()?;
    let _known = Constrained::load(&module(selinux.levels()?, []))?;
    let user = user(7)?;
    let starter = Starter { context: context_of(&user.to_string()), ..Starter::of("/bin/vm_actor") };
    let mut bed = Bed::new("selinux", starter)?;
    bed.start()?;
    let mut confined = Confined { bed, selinux, source, user, denied: 0 };
    let report = ring::run(&mut confined, CASES)?;
    ensure(confined.denied > DENIED, || format!("{} denied: {report:?}", confined.denied))
}

/// What generated acts do not meet: an audit, and a domain that is permissive.
pub fn differs_as_declared() -> Checked {
    let (selinux, _) = selinux()?;
    let held = user(7)?;
    fs::write("/told", "x")?;
    let chown = [act::Act::Chown("/told".into())];
    let mut events = AuditEvents::open()?;
    for (action, permissive) in [("Audit", ""), ("Block", "(typepermissive container_t)")] {
        let policy =
            policy(&format!("capabilities:\n  matchCapabilities: [ {{ capability: chown }} ]\naction: {action}"))?;
        let lowered = Lowered::of(&policy.blob, &FAMILIES, &selinux.classes()?);
        let _module = Constrained::load(&(module(selinux.levels()?, [(held, &lowered)]) + permissive))?;
        let outcomes = acts_of(&held.to_string(), &chown)?;
        ensure(outcomes.iter().all(|outcome| outcome.is_permitted()), || format!("{action}: {outcomes:?}"))?;
    }
    // The stream has an order: of the audit a line would come first.
    let lines = denials(&mut events, 1)?;
    let all = lines.iter().map(|text| Line::parse(text.as_bytes()).map_err(|error| format!("{error}: {text}")));
    let all: Vec<Line> = all.collect::<Result<_, _>>()?;
    ensure(matches!(&all[..], [line] if !line.denied && line.user == held), || format!("{all:?}"))
}
