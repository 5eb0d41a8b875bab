//! One attack, with a policy or without.

use std::path::Path;

use palisade_domain::Family;
use palisade_kernel_abi::record::{self, Body, FailReason, Outcome, Record, Tier};
use palisade_protocol::CompiledPolicy;

use crate::{
    Failed, Means, Place,
    place::Said,
    policies::Policy,
    table::{Attack, Column, Verdict},
};

/// A decision, as its record has it: what an alert is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which table decided.
    pub family: record::Family,
    /// By what means.
    pub tier: Tier,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the fail mode decided.
    pub fail: FailReason,
    /// What was acted on: each name of the record.
    pub object: String,
}

impl Told {
    /// Whether it is what is to be told of an attack.
    fn is_of(&self, wanted: Verdict, policy: Policy, column: Column) -> bool {
        let is_of_policy = self.family == policy.told_as() && column.tiers().contains(&self.tier);
        is_of_policy && wanted.outcome() == Some(self.outcome)
    }

    /// Of a record with a decision of that generation.
    #[must_use]
    pub fn of(record: &Record<'_>, generation: u32) -> Option<Self> {
        let taken = record.decision.filter(|taken| taken.generation == generation)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let object = match &record.body {
            Body::Open(open) => text(open.path.bytes),
            Body::Exec(exec) => format!("{} {}", text(exec.path.bytes), text(exec.argument_bytes.bytes)),
            Body::FileChange(change) => format!("{} {}", text(change.path.bytes), text(change.new_path.bytes)),
            Body::Mount(mount) => format!("{} {}", text(mount.source.bytes), text(mount.target.bytes)),
            Body::Ptrace(ptrace) => text(ptrace.target_exe.bytes),
            other => format!("{other:?}"),
        };
        Some(Self { family: taken.family, tier: taken.tier, outcome: taken.outcome, fail: taken.fail_reason, object })
    }
}

/// What became of an attack.
#[derive(Debug, Clone)]
pub struct Came {
    /// What the attacker said.
    pub said: Said,
    /// Whether what it was after is not as it was, or ran, or was seen.
    pub effect: bool,
    /// What was told.
    pub told: Vec<Told>,
}

impl Came {
    /// Why it is not what was to become of it, if it is not.
    #[must_use]
    pub fn objection(&self, wanted: Verdict, policy: Policy, column: Column) -> Option<String> {
        let is_told = || self.told.iter().any(|told| told.is_of(wanted, policy, column));
        let is = match wanted {
            Verdict::Denied => matches!(self.said, Said::Errno(1 | 13, _)) && !self.effect && is_told(),
            Verdict::Dropped => !self.effect && is_told(),
            Verdict::Killed => self.said == Said::Killed && !self.effect && is_told(),
            Verdict::Allowed(_) | Verdict::Unenforceable(_) => self.effect,
        };
        (!is).then(|| format!("to be {}: {self:?}", wanted.name()))
    }
}

/// Does the attack at a new place, under the policy if there is one.
///
/// # Errors
/// Where the place or the means fail, or the attacker cannot prepare.
pub fn attempt(
    means: &mut dyn Means,
    program: &Path,
    attack: &Attack,
    policy: Option<&CompiledPolicy>,
) -> Result<Came, Failed> {
    let place = Place::new()?;
    means.admit(&place)?;
    let came = attack_at(means, &place, program, attack, policy);
    means.release()?;
    came
}

fn attack_at(
    means: &mut dyn Means,
    place: &Place,
    program: &Path,
    attack: &Attack,
    policy: Option<&CompiledPolicy>,
) -> Result<Came, Failed> {
    let mut attacker = place.start(program, (&means.profile(), &means.context()), attack.attack, 1)?;
    means.started(attacker.pid())?;
    let before = place.trace()?;
    if let Some(policy) = policy {
        means.install(policy)?;
    }
    if attack.is_moved {
        place.move_out(attacker.pid())?;
    }
    let said = attacker.attack()?;
    // Who may not execute a program may rename it.
    let has_changed = attack.policy.family() == Family::File && place.trace()? != before;
    let effect = matches!(said, Said::Errno(_, true)) || place.has_run() || has_changed;
    let told = if policy.is_some() {
        let column = means.column();
        let wanted = attack.verdict(column);
        let is_awaited = |told: &Told| told.is_of(wanted, attack.policy, column);
        means.told(wanted.outcome().map(|_| &is_awaited as &dyn Fn(&Told) -> bool))?
    } else {
        Vec::new()
    };
    Ok(Came { said, effect, told })
}
