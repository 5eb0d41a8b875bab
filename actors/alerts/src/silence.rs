//! The lines about alerts that are held back.

use palisade_domain::{Family, Generation, HeldBack, Line, Slot, Throttling, UnixNanos, Verdict};

use crate::{
    compose::{DEFAULT_POSTURE, NodeNames},
    rules::RuleIndex,
    slot_names::{self, Names},
    throttle::{Ended, Limit, Throttle, Turn},
};

/// A rule (or posture) of a policy as it decided, and what became of the act.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    /// Of which set.
    pub generation: Generation,
    /// The policy's number.
    pub policy: u32,
    /// Which rule of it.
    pub rule: Option<RuleIndex>,
    /// The family whose table decided; none of a part of a policy that is not held.
    pub family: Option<Family>,
    /// What became of the act.
    pub verdict: Verdict,
    /// By no rule but the posture.
    pub by_posture: bool,
}

/// Which workloads are silent, and what is said about it.
#[derive(Debug)]
pub struct Silences {
    throttle: Throttle<RuleKey>,
    /// Of workloads that are gone: said with the next lines. As many as workloads ended since.
    pending: Vec<Line>,
}

impl Silences {
    /// With this limit, or none.
    #[must_use]
    pub fn new(limit: Option<Limit>) -> Self {
        Self { throttle: Throttle::new(limit), pending: Vec::new() }
    }

    /// What is to be done with an alert.
    pub fn turn(&mut self, slot: Slot, key: &RuleKey, boot_ns: u64) -> Turn {
        self.throttle.turn(slot, key, boot_ns)
    }

    /// The line that says that a silence begins.
    #[must_use]
    pub fn begun(&self, slot: Slot, time: UnixNanos, names: &Names, node: &NodeNames) -> Option<Line> {
        let limit = self.throttle.limit()?;
        let message = format!(
            "more than {} alerts in a second: alerts of this workload are held back for {} s and counted; acts are decided as before",
            limit.per_second, limit.silence_seconds
        );
        let begun = Ended { slot, at_ns: 0, total: 0, by_rule: Vec::new() };
        Some(line(limit, &begun, time, names, node, message))
    }

    /// Appends what was held back in the silences that are over, and those of workloads that are gone.
    pub fn ended(
        &mut self,
        boot_ns: u64,
        names: &Names,
        node: &NodeNames,
        unix_minus_boot_ns: u64,
        out: &mut Vec<Line>,
    ) {
        out.append(&mut self.pending);
        let Some(limit) = self.throttle.limit() else { return };
        for ended in self.throttle.ended(boot_ns) {
            out.push(summary(limit, &ended, names, node, unix_minus_boot_ns));
        }
    }

    /// Another limit from now on; what was held back in silences that it ends is said with the next lines.
    pub fn set_limit(&mut self, limit: Option<Limit>, names: &Names, node: &NodeNames, unix_minus_boot_ns: u64) {
        // The line of a silence names the limit that it was under.
        let Some(before) = self.throttle.limit() else {
            self.throttle.set_limit(limit);
            return;
        };
        for ended in self.throttle.set_limit(limit) {
            self.pending.push(summary(before, &ended, names, node, unix_minus_boot_ns));
        }
    }

    /// The slot's workload is gone; `names` still has it.
    pub fn vacated(&mut self, slot: Slot, names: &Names, node: &NodeNames, unix_minus_boot_ns: u64) {
        if let (Some(limit), Some(ended)) = (self.throttle.limit(), self.throttle.vacated(slot)) {
            self.pending.push(summary(limit, &ended, names, node, unix_minus_boot_ns));
        }
    }
}

fn summary(limit: Limit, ended: &Ended<RuleKey>, names: &Names, node: &NodeNames, unix_minus_boot_ns: u64) -> Line {
    let time = UnixNanos(ended.at_ns.saturating_add(unix_minus_boot_ns));
    let message = format!("{} alerts of this workload were held back", ended.total);
    line(limit, ended, time, names, node, message)
}

fn held_back(names: &Names, slot: Slot, key: &RuleKey, count: u64) -> HeldBack {
    let rule = names.rule(slot, key);
    let (policy_name, place) = match rule {
        Some(rule) => (rule.policy_name, rule.place),
        None if key.by_posture => (DEFAULT_POSTURE.to_owned(), String::new()),
        None => (String::new(), String::new()),
    };
    HeldBack { policy_name, place, family: key.family, verdict: key.verdict, count }
}

fn line(limit: Limit, of: &Ended<RuleKey>, time: UnixNanos, names: &Names, node: &NodeNames, message: String) -> Line {
    Line::Throttling(Box::new(Throttling {
        time,
        node: node.node.clone(),
        workload: slot_names::workload(names, of.slot),
        max_alerts_per_second: limit.per_second,
        silence_seconds: limit.silence_seconds,
        held_back_total: of.total,
        held_back: of.by_rule.iter().map(|(key, count)| held_back(names, of.slot, key, *count)).collect(),
        kubearmor: slot_names::fields(node, names, of.slot, time).threshold(message),
    }))
}
