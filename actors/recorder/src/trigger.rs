//! Which alerts a trace is kept around, and how often.
//!
//! Invariant: at most one trace is begun in [`AroundAlerts::pause_ns`], whatever a workload does: who makes alerts on purpose fills no disk
//! and drives no other trace out of it faster than that. How often one was passed over is counted, and the next trace begins where the last one
//! ended, as far as the ring reaches.
//!
//! An alert counts by its severity and its policy, as far as [`Attribution`] tells it; a decision whose rule is not known any more counts as
//! the severest. What a rule only audits counts where its policy is named, and else not.

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::{
    blob::{Decision, Effect},
    record::{DecisionTaken, Record},
};
use palisade_protocol::{
    PolicyAnnounced, PolicyInstalled,
    attribution::{Attribution, DecidingRule},
};

/// Severity of a rule that states none, and of a posture.
const LEAST: u8 = 1;
/// What alerts call a posture's decision.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// How much of a trace is kept around which alerts. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AroundAlerts {
    /// Before.
    pub before_ns: u64,
    /// After.
    pub after_ns: u64,
    /// Between two beginnings.
    pub pause_ns: u64,
    /// Bytes of one trace; 0: no bound.
    pub limit_bytes: u64,
    /// Of rules of at least this severity.
    pub severity: u8,
    /// Of these policies (`NAME`, `NAMESPACE/NAME`, `KIND/NAMESPACE/NAME`); empty: of all.
    pub policies: Vec<String>,
}

/// A trace is to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// How far back, nanoseconds.
    pub before_ns: u64,
    /// How long from now on, nanoseconds.
    pub after_ns: u64,
    /// Bytes; 0: no bound.
    pub limit_bytes: u64,
    /// The policy of the first alert, as alerts name it; empty where it is not known.
    pub policy: String,
    /// How often, looking for alerts, none was begun since the last one, for the pause was not over.
    pub passed_over: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trigger {
    settings: AroundAlerts,
    policies: Attribution,
    /// The policy of the first alert since the last question.
    alerted: Option<String>,
    /// When the last one was begun, and when it is over.
    begun: Option<(u64, u64)>,
    passed_over: u64,
}

impl Trigger {
    pub(crate) fn new(settings: AroundAlerts) -> Self {
        Self { settings, policies: Attribution::default(), alerted: None, begun: None, passed_over: 0 }
    }

    /// Decisions of its slot may name this policy.
    pub(crate) fn announced(&mut self, fact: &PolicyAnnounced) {
        self.policies.announced(fact);
    }

    /// They do.
    pub(crate) fn installed(&mut self, fact: &PolicyInstalled) {
        self.policies.installed(fact);
    }

    /// One more record.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        if self.alerted.is_some() {
            return;
        }
        let Some(taken) = record.decision else { return };
        let decision = Decision::from_word(taken.word);
        if decision.effect == Effect::Permit {
            return;
        }
        self.alerted = self.policy_of(Slot(record.header.slot), &taken, decision);
    }

    /// The policy's name where the alert counts.
    fn policy_of(&self, slot: Slot, taken: &DecisionTaken, decision: Decision) -> Option<String> {
        let AroundAlerts { severity, policies, .. } = &self.settings;
        if decision.effect != Effect::Block && policies.is_empty() {
            return None;
        }
        let Some(index) = decision.rule else {
            let is_named = policies.is_empty() || policies.iter().any(|name| name == DEFAULT_POSTURE);
            return (is_named && *severity <= LEAST).then(|| DEFAULT_POSTURE.to_owned());
        };
        let rule = DecidingRule::Compiled(index);
        let rule = self.policies.rule(slot, Generation(taken.generation), taken.policy, rule);
        let Some(rule) = rule else { return policies.is_empty().then(String::new) };
        let of = &rule.policy;
        let whole = of.to_string();
        let is_called = |name: &String| {
            *name == whole
                || *name == of.name
                || name.split_once('/') == Some((of.namespace.as_str(), of.name.as_str()))
        };
        let counts = rule.severity.unwrap_or(LEAST) >= *severity;
        (counts && (policies.is_empty() || policies.iter().any(is_called))).then_some(whole)
    }

    /// Whether a trace is to be begun now.
    pub(crate) fn begins(&mut self, now_ns: u64) -> Option<Begin> {
        let policy = self.alerted.take()?;
        let AroundAlerts { before_ns, after_ns, pause_ns, limit_bytes, .. } = self.settings;
        if self.begun.is_some_and(|(began, _)| now_ns.saturating_sub(began) < pause_ns) {
            self.passed_over += 1;
            return None;
        }
        // What the last one has is not told again.
        let since = self.begun.map_or(u64::MAX, |(_, ends)| now_ns.saturating_sub(ends));
        self.begun = Some((now_ns, now_ns.saturating_add(after_ns)));
        let passed_over = std::mem::take(&mut self.passed_over);
        Some(Begin { before_ns: before_ns.min(since), after_ns, limit_bytes, policy, passed_over })
    }
}
