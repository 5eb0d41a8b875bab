//! What is expected of an act, and whether what was said is that, something declared, or neither.

use palisade_kernel_abi::blob::{Effect, Family};
use palisade_policy::ir::{Matcher, Rule, WorkloadRules};
use palisade_policy_compiler::naive::{Expected, evaluate};

use crate::{Act, Blind, Differences, Part, Said};

/// How what was said stands to what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// As expected.
    Agrees,
    /// As the entries of these places say.
    Declared(Vec<usize>),
    /// Otherwise; why.
    Differs(String),
}

/// A part of the act with what the evaluator says, and what a backend may say that is blind to some of it.
struct Judged {
    part: Part,
    expected: Expected,
    blindly: Effect,
    entries: Vec<(usize, Blind)>,
}

impl Judged {
    fn of(rules: &WorkloadRules, part: Part, name: &str, differences: &Differences) -> Self {
        let expected = part.with(|act| evaluate(rules, act));
        let entries: Vec<(usize, Blind)> = differences.of(name, part.family).collect();
        let blinds: Vec<Blind> = entries.iter().map(|(_, blind)| *blind).collect();
        let blindly = Blind::mildest(&blinds, rules, &part);
        Self { part, expected, blindly, entries }
    }

    /// The entries without which it could not be explained: those that make the difference alone, or where none does, all.
    fn needed(&self, rules: &WorkloadRules) -> Vec<usize> {
        let others =
            |blind: Blind| self.entries.iter().map(|(_, other)| *other).filter(|other| *other != blind).collect();
        let is_needed = |blind: Blind| {
            let without: Vec<Blind> = others(blind);
            Blind::mildest(&without, rules, &self.part) != self.blindly
        };
        let needed: Vec<usize> =
            self.entries.iter().filter(|(_, blind)| is_needed(*blind)).map(|(place, _)| *place).collect();
        if needed.is_empty() { self.entries.iter().map(|(place, _)| *place).collect() } else { needed }
    }
}

/// Compares what a backend said of an act under the rules. `name` gives the backend's name for a part's family, if it holds that.
#[must_use]
pub fn compare(
    rules: &WorkloadRules,
    act: &Act,
    said: &Said,
    differences: &Differences,
    name: impl Fn(&Part) -> Option<&'static str>,
) -> Compared {
    let judged: Vec<Judged> = act
        .parts()
        .into_iter()
        .filter_map(|part| name(&part).map(|name| Judged::of(rules, part, name, differences)))
        .collect();
    let denied = judged.iter().any(|part| part.expected.effect == Effect::Block);
    let denied_blindly = judged.iter().any(|part| part.blindly == Effect::Block);
    if said.denied != denied && said.denied != denied_blindly {
        let wanted: Vec<String> = judged.iter().map(describe).collect();
        let what = if said.denied { "denied" } else { "permitted" };
        let how: Vec<&str> = said.told.iter().flatten().map(|told| told.how.as_str()).collect();
        return Compared::Differs(format!("{what} ({}), and the rules say {}", how.join(", "), wanted.join(", then ")));
    }
    if let Some(difference) = told_otherwise(&judged, said) {
        return Compared::Differs(difference);
    }
    if said.denied == denied {
        return Compared::Agrees;
    }
    let differing = judged.iter().filter(|part| part.blindly != part.expected.effect);
    let mut entries: Vec<usize> = differing.flat_map(|part| part.needed(rules)).collect();
    entries.sort_unstable();
    entries.dedup();
    Compared::Declared(entries)
}

fn describe(judged: &Judged) -> String {
    let Expected { effect, by_posture, rules } = &judged.expected;
    let by = match (by_posture, rules.as_slice()) {
        (true, _) => " by posture".to_owned(),
        (false, []) => String::new(),
        (false, [first, ..]) => format!(" by {:?} {:?}", first.action, first.matcher),
    };
    format!("{:?} {effect:?}{by}", judged.part.family)
}

/// Each part up to the first that is blocked must be told as it was decided; what nobody needs to be told of is not told.
fn told_otherwise(judged: &[Judged], said: &Said) -> Option<String> {
    let told = said.told.as_ref()?;
    for (at, Judged { part, expected, blindly, entries }) in judged.iter().enumerate() {
        let of_part = told.iter().find(|told| told.family == part.family && told.effect != Effect::Permit);
        let effect = of_part.map_or(Effect::Permit, |told| told.effect);
        if effect == Effect::Permit && expected.effect == Effect::Audit && is_undone(&judged[at..]) {
            continue;
        }
        if effect != expected.effect && effect != *blindly {
            return Some(format!("{:?} is told as {of_part:?}, and the rules say {expected:?}", part.family));
        }
        // Who is blind to something may name another rule.
        if let Some(told) = of_part
            && effect == expected.effect
            && entries.is_empty()
        {
            let named = match &told.rule {
                None => expected.rules.is_empty(),
                Some(named) => expected.rules.iter().any(|rule| rule == named || asks_for_arguments_as(rule, named)),
            };
            if told.by_posture != expected.by_posture || !named {
                return Some(format!("{:?} is told as {told:?}, and the rules say {expected:?}", part.family));
            }
        }
        if effect == Effect::Block {
            return None;
        }
    }
    None
}

/// A socket that is audited, and not made because the capability for it is blocked: the same call refuses it, and nothing was there to tell of.
fn is_undone(from: &[Judged]) -> bool {
    matches!(from, [socket, next, ..] if socket.part.family == Family::Socket
        && next.part.family == Family::Capability
        && next.expected.effect == Effect::Block)
}

/// Of rules of one rank that ask for arguments one is named for all.
fn asks_for_arguments_as(rule: &Rule, named: &Rule) -> bool {
    let asks = |rule: &Rule| matches!(&rule.matcher, Matcher::Process(path) if !path.allowed_arguments.is_empty());
    asks(rule) && asks(named) && rule.specificity() == named.specificity()
}
