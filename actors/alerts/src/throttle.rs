//! Holding alerts of a workload back that raises too many, and saying how many.
//!
//! KubeArmor's rule: past so many alerts in a second a workload is silent for so many seconds. Here each workload is counted alone, so
//! that one container's flood hides no other's alerts; the first line over the limit is a `SystemEvent` that says that silence begins; and
//! when it ends another says how many alerts were held back, by rule and verdict. What is held back was decided and counted like all else.
//!
//! Decision: a rule (with its verdict) that has not been seen in the second of the flood or in the silence is said once even then: who
//! floods one rule to hide another gains nothing. Of at most [`MAX_RULES`] of them, so that many rules cannot be a flood either.
//!
//! Invariant: of each workload, alerts = said + held back; each held-back alert is in the total of exactly one line at its silence's end.
//!
//! Time is the records' own, in boot-time nanoseconds, and never goes back here: a record of another CPU that comes late counts now.

use std::collections::BTreeMap;

use palisade_domain::Slot;

/// Rules with verdicts that are told apart in one silence.
pub const MAX_RULES: usize = 64;

/// Workloads that are counted: more than a node has. Alerts of one past it are said.
const MAX_SLOTS: usize = 8192;

const SECOND_NS: u64 = 1_000_000_000;

/// How much is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Alerts of one workload in a second.
    pub per_second: u32,
    /// Length of the silence.
    pub silence_seconds: u32,
}

/// What is to be done with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Say it.
    Say,
    /// Say that silence begins, and not the alert.
    Begin,
    /// Say it although there is silence: its rule was not seen yet.
    SayOnce,
    /// Do not say it.
    Hold,
}

/// A silence that ended. `R` names a rule and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<R> {
    /// Whose.
    pub slot: Slot,
    /// When it was over.
    pub at_ns: u64,
    /// Alerts that were held back.
    pub total: u64,
    /// By rule and verdict; those past [`MAX_RULES`] are in the total only.
    pub by_rule: Vec<(R, u64)>,
}

#[derive(Debug)]
struct OfSlot<R> {
    second_ns: u64,
    said: u32,
    silent_until_ns: Option<u64>,
    /// Rules seen in this second or silence, with what was held back of each.
    rules: BTreeMap<R, u64>,
    held: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Throttle<R> {
    limit: Option<Limit>,
    /// At most [`MAX_SLOTS`].
    slots: BTreeMap<Slot, OfSlot<R>>,
    now_ns: u64,
    /// No silence ends before.
    next_end_ns: u64,
}

impl<R: Ord + Clone> Throttle<R> {
    /// With this limit, or none.
    #[must_use]
    pub fn new(limit: Option<Limit>) -> Self {
        Self { limit, slots: BTreeMap::new(), now_ns: 0, next_end_ns: u64::MAX }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Another limit from now on. A silence keeps its end; without a limit all are over now.
    pub fn set_limit(&mut self, limit: Option<Limit>) -> Vec<Ended<R>> {
        self.limit = limit;
        if limit.is_some() {
            return Vec::new();
        }
        let slots: Vec<Slot> = self.slots.keys().copied().collect();
        self.next_end_ns = u64::MAX;
        slots.into_iter().filter_map(|slot| self.end(slot)).collect()
    }

    /// An alert of `slot` by `rule`. Call [`Self::ended`] with the same time before, or a silence that is over is still one.
    pub fn turn(&mut self, slot: Slot, rule: &R, at_ns: u64) -> Turn {
        let Some(limit) = self.limit else { return Turn::Say };
        self.now_ns = self.now_ns.max(at_ns);
        let now = self.now_ns;
        if self.slots.len() >= MAX_SLOTS && !self.slots.contains_key(&slot) {
            return Turn::Say;
        }
        let of = self.slots.entry(slot).or_insert_with(|| OfSlot {
            second_ns: now,
            said: 0,
            silent_until_ns: None,
            rules: BTreeMap::new(),
            held: 0,
        });
        if of.silent_until_ns.is_none() {
            if now - of.second_ns >= SECOND_NS {
                (of.second_ns, of.said) = (now, 0);
                of.rules.clear();
            }
            of.said = of.said.saturating_add(1);
            if of.said <= limit.per_second {
                if of.rules.len() < MAX_RULES && !of.rules.contains_key(rule) {
                    of.rules.insert(rule.clone(), 0);
                }
                return Turn::Say;
            }
            let until = now.saturating_add(u64::from(limit.silence_seconds) * SECOND_NS);
            of.silent_until_ns = Some(until);
            self.next_end_ns = self.next_end_ns.min(until);
            of.held = 0;
            of.hold(rule);
            return Turn::Begin;
        }
        if of.rules.len() < MAX_RULES && !of.rules.contains_key(rule) {
            of.rules.insert(rule.clone(), 0);
            return Turn::SayOnce;
        }
        of.hold(rule);
        Turn::Hold
    }

    /// The silences that are over at `at_ns`.
    pub fn ended(&mut self, at_ns: u64) -> Vec<Ended<R>> {
        self.now_ns = self.now_ns.max(at_ns);
        let now = self.now_ns;
        if now < self.next_end_ns {
            return Vec::new();
        }
        let over = |of: &OfSlot<R>| of.silent_until_ns.is_some_and(|until| until <= now);
        let slots: Vec<Slot> = self.slots.iter().filter(|(_, of)| over(of)).map(|(slot, _)| *slot).collect();
        let ended = slots.into_iter().filter_map(|slot| self.end(slot)).collect();
        let ends = self.slots.values().filter_map(|of| of.silent_until_ns);
        self.next_end_ns = ends.min().unwrap_or(u64::MAX);
        ended
    }

    /// The slot is another workload's from now on: what was held back of the last one's alerts.
    pub fn vacated(&mut self, slot: Slot) -> Option<Ended<R>> {
        self.end(slot)
    }

    fn end(&mut self, slot: Slot) -> Option<Ended<R>> {
        let of = self.slots.remove(&slot)?;
        let until = of.silent_until_ns?;
        let by_rule = of.rules.into_iter().filter(|(_, held)| *held > 0).collect();
        Some(Ended { slot, at_ns: until.min(self.now_ns), total: of.held, by_rule })
    }
}

impl<R: Ord + Clone> OfSlot<R> {
    fn hold(&mut self, rule: &R) {
        self.held += 1;
        if let Some(held) = self.rules.get_mut(rule) {
            *held += 1;
        } else if self.rules.len() < MAX_RULES {
            self.rules.insert(rule.clone(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Limit = Limit { per_second: 3, silence_seconds: 2 };
    const A: Slot = Slot(1);
    const B: Slot = Slot(2);

    fn at(tenths: u64) -> u64 {
        tenths * SECOND_NS / 10
    }

    #[test]
    fn unit_throttle_says_as_many_as_allowed_then_that_silence_begins_then_what_it_held_back() {
        let mut throttle = Throttle::new(Some(LIMIT));
        let turns: Vec<Turn> = (0..6).map(|n| throttle.turn(A, &"r", at(n))).collect();
        assert_eq!(turns, [Turn::Say, Turn::Say, Turn::Say, Turn::Begin, Turn::Hold, Turn::Hold]);
        assert_eq!(throttle.ended(at(22)), [], "two seconds from its beginning");
        let [ended] = &throttle.ended(at(23))[..] else { panic!("one") };
        assert_eq!((ended.slot, ended.total, ended.at_ns, &ended.by_rule[..]), (A, 3, at(23), &[("r", 3)][..]));
        assert_eq!(throttle.turn(A, &"r", at(23)), Turn::Say);
        assert_eq!(throttle.ended(at(99)), [], "said once");
    }

    #[test]
    fn unit_throttle_of_one_workload_silences_no_other_and_no_rule_that_was_not_seen() {
        let mut throttle = Throttle::new(Some(LIMIT));
        for n in 0..20 {
            throttle.turn(A, &"flood", at(0) + n);
        }
        assert_eq!(throttle.turn(B, &"flood", at(1)), Turn::Say);
        assert_eq!(throttle.turn(A, &"hidden", at(1)), Turn::SayOnce);
        assert_eq!(throttle.turn(A, &"hidden", at(1)), Turn::Hold);
        let ended = throttle.ended(at(30));
        assert_eq!((ended[0].total, &ended[0].by_rule[..]), (18, &[("flood", 17), ("hidden", 1)][..]));
    }

    #[test]
    fn unit_throttle_does_not_let_many_rules_be_the_flood() {
        let mut throttle = Throttle::new(Some(LIMIT));
        let said = (0..1000_u32).filter(|rule| throttle.turn(A, rule, 0) != Turn::Hold).count();
        assert_eq!(said, MAX_RULES, "the first ones, and the line that begins it");
        assert_eq!(throttle.ended(at(30))[0].total, 1000 - 63, "whichever are told apart");
    }

    #[test]
    fn unit_throttle_allows_a_steady_rate_for_ever_and_everything_when_off() {
        let mut throttle = Throttle::new(Some(LIMIT));
        assert!((0..100).all(|n| throttle.turn(A, &"r", at(4 * n)) == Turn::Say), "2.5 a second");
        let mut off = Throttle::new(None);
        assert!((0..100).all(|_| off.turn(A, &"r", 0) == Turn::Say));
    }

    #[test]
    fn unit_throttle_ends_a_silence_with_its_workload() {
        let mut throttle = Throttle::new(Some(LIMIT));
        for n in 0..9 {
            throttle.turn(A, &"r", n);
        }
        assert_eq!(throttle.vacated(A).map(|ended| ended.total), Some(6));
        assert_eq!(throttle.turn(A, &"r", 10), Turn::Say, "the next one starts afresh");
        assert_eq!(throttle.vacated(B), None);
    }

    #[test]
    fn unit_throttle_takes_another_limit_and_accounts_for_what_it_held_back_under_the_last_one() {
        let mut throttle = Throttle::new(Some(LIMIT));
        for n in 0..9 {
            throttle.turn(A, &"r", n);
        }
        assert_eq!(throttle.set_limit(Some(Limit { per_second: 100, silence_seconds: 9 })), []);
        assert_eq!(throttle.turn(A, &"r", at(1)), Turn::Hold, "a silence keeps its end");
        assert_eq!(throttle.ended(at(21))[0].total, 7);
        assert!((0..99).all(|_| throttle.turn(A, &"r", at(21)) == Turn::Say), "the new limit");
        for _ in 0..3 {
            throttle.turn(A, &"r", at(21));
        }
        let ended = throttle.set_limit(None);
        assert_eq!((ended.len(), ended[0].total), (1, 2), "over, and told");
        assert_eq!((throttle.turn(A, &"r", at(21)), throttle.ended(at(999)).len()), (Turn::Say, 0));
    }

    proptest! {
        #[test]
        fn unit_throttle_loses_no_alert_between_said_and_held(
            acts in proptest::collection::vec((0..3_u32, 0..90_u8, 0..4_000_000_000_u64), 0..400)
        ) {
            let mut throttle = Throttle::new(Some(LIMIT));
            let (mut said, mut held) = (0, 0);
            for (slot, rule, at_ns) in &acts {
                for ended in throttle.ended(*at_ns) {
                    let named: u64 = ended.by_rule.iter().map(|(_, count)| count).sum();
                    prop_assert!(named <= ended.total);
                    held += ended.total;
                }
                said += u64::from(matches!(throttle.turn(Slot(*slot), rule, *at_ns), Turn::Say | Turn::SayOnce));
            }
            held += throttle.ended(u64::MAX / 2).iter().map(|ended| ended.total).sum::<u64>();
            prop_assert_eq!(said + held, acts.len() as u64);
        }
    }
}
