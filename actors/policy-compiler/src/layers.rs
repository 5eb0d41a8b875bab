//! One automaton and the decisions that it feeds, from rules to the [`Layer`] that is laid out in the blob.

use std::{collections::BTreeMap, sync::Arc};

use palisade_kernel_abi::blob::{AcceptId, Automaton, Family, Preset};
use palisade_policy::ir::{self, Matcher, PathMatch, Rule};

use crate::{
    arguments::ArgumentSets,
    assemble::Layer,
    automaton::{
        AutomatonLimits, Budget, BuildError, Exhausted, SetInterner, TagStrength, Token, Trie, determinise, minimise,
    },
    canonical::{CanonicalRules, language, tables_of},
    compile::{named, place, spelling},
    decisions::{Classes, ClassesError, Table},
    directories,
    error::{CompileError, TooLarge},
    network, paths,
    verdict::{Standing, Standpoint},
};

/// The decision tables that an automaton feeds.
pub(crate) fn families_of(automaton: Automaton) -> &'static [Family] {
    match automaton {
        Automaton::Path | Automaton::Basename => &[Family::Process, Family::File, Family::Ptrace],
        Automaton::Network => &[Family::Socket, Family::Connect],
        Automaton::Name => &[Family::Dns],
        Automaton::Source | Automaton::Argument => &[],
    }
}

/// The automaton that reads what the rule is about; `None` where it has a number.
fn automaton_of(matcher: &Matcher) -> Option<Automaton> {
    let path = |path: &PathMatch| match path {
        PathMatch::Name(_) => Automaton::Basename,
        _ => Automaton::Path,
    };
    match matcher {
        Matcher::Process(rule) | Matcher::File(rule) => Some(path(&rule.path)),
        Matcher::Ptrace(target) => Some(path(target)),
        Matcher::Socket(_) | Matcher::Destination(_) => Some(Automaton::Network),
        Matcher::Dns(_) => Some(Automaton::Name),
        Matcher::Capability(_) | Matcher::Syscall(_) | Matcher::Preset(_) | Matcher::Device(_) => None,
    }
}

/// Rules that match exactly the same: the automaton tells them apart from others, the decision tables from each other.
pub(crate) struct Tag {
    rules: Vec<u32>,
    /// What leads to it; `None`: what its rules say.
    sequences: Option<Vec<Vec<Token>>>,
}

impl Tag {
    /// The tags of the rules that `is_of`, in order of their first rule.
    fn of(rules: &[Arc<Rule>], is_of: impl Fn(&Matcher) -> bool) -> Vec<Self> {
        let mut tags: Vec<Self> = Vec::new();
        let mut by_language: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (rule, number) in rules.iter().zip(0..).filter(|(rule, _)| is_of(&rule.matcher)) {
            let tag = *by_language.entry(language(&rule.matcher)).or_insert(tags.len());
            match tags.get_mut(tag) {
                Some(tag) => tag.rules.push(number),
                None => tags.push(Self { rules: vec![number], sequences: None }),
            }
        }
        tags
    }

    fn sequences(&self, rules: &[Arc<Rule>]) -> Result<Vec<Vec<Token>>, CompileError> {
        match (&self.sequences, self.rules.first()) {
            (Some(sequences), _) => Ok(sequences.clone()),
            (None, Some(first)) => sequences(&rules[*first as usize]),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// What all layers are built from.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub canonical: &'a CanonicalRules,
    pub standings: &'a [Standing],
    pub limits: &'a AutomatonLimits,
}

impl Ground<'_> {
    fn table(&self, family: Family, tags: &[Tag]) -> Table {
        let rules = &self.canonical.rules;
        let counts = |rule: &&u32| tables_of(&rules[**rule as usize].matcher).contains(&family);
        let rules_of_tag = tags.iter().map(|tag| tag.rules.iter().filter(counts).copied().collect()).collect();
        let all = || (0..rules.len() as u32).filter(|rule| counts(&rule)).map(|rule| &self.standings[rule as usize]);
        let modifiers = match all().fold(0, |bits, standing| bits | standing.modifiers().0) {
            0 => 1,
            1..4 => 4,
            _ => 8,
        };
        Table {
            family,
            posture: self.canonical.postures[family as usize],
            modifiers,
            has_sources: all().any(|standing| standing.specificity.has_source),
            is_decided: all().next().is_some(),
            rules_of_tag,
        }
    }

    /// The layer of an automaton.
    pub fn layer(
        self,
        automaton: Automaton,
        arguments: &mut ArgumentSets,
        budget: &mut dyn Budget,
    ) -> Result<Layer, CompileError> {
        let mut tags = Tag::of(&self.canonical.rules, |matcher| automaton_of(matcher) == Some(automaton));
        if automaton == Automaton::Path {
            let above = directories::above_what_is_denied(self.canonical, self.standings)?;
            tags.extend(above.into_iter().map(|(rule, above)| Tag { rules: vec![rule], sequences: Some(above) }));
        }
        let tables = families_of(automaton).iter().map(|family| self.table(*family, &tags)).collect();
        LayerBuild { automaton, ground: self, tags, tables }.run(arguments, budget)
    }

    /// The table of a family whose acts have numbers: decision classes, and the class of each accept id.
    pub fn numbers(
        self,
        family: Family,
        accepts: u32,
        arguments: &mut ArgumentSets,
        budget: &mut dyn Budget,
    ) -> Result<Numbers, CompileError> {
        let rules = &self.canonical.rules;
        let tags = Tag::of(rules, |matcher| tables_of(matcher) == [family]);
        let table = self.table(family, &tags);
        let mut tags_of_accept = vec![Vec::new(); accepts as usize];
        for (tag, number) in tags.iter().zip(0..) {
            for accept in tag.rules.first().iter().flat_map(|rule| accepts_of(&rules[**rule as usize].matcher)) {
                if let Some(tags) = tags_of_accept.get_mut(accept as usize) {
                    tags.push(number);
                }
            }
        }
        let mut sets = SetInterner::default();
        sets.intern(&[]);
        let set_of_accept: Vec<u32> = tags_of_accept.iter().map(|tags| sets.intern(tags)).collect();
        let tables = vec![table];
        // A table of nothing takes no time worth a look.
        let mut unhurried = || false;
        let budget: &mut dyn Budget = if tags.is_empty() { &mut unhurried } else { budget };
        let classes = Classes::of(&sets, &tables, self.standings, arguments, budget)
            .map_err(|error| undecided(error, sets.len(), rules, Vec::new()))?;
        let class_of_accept = set_of_accept.iter().map(|set| classes.of_set[*set as usize]).collect();
        Ok(Numbers { classes, tables, class_of_accept })
    }
}

/// The decisions of a family whose acts have numbers.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// Decisions by class.
    pub classes: Classes,
    /// One.
    pub tables: Vec<Table>,
    /// By accept id.
    pub class_of_accept: Vec<u32>,
}

/// The accept id of a preset.
pub(crate) fn accept_of_preset(preset: ir::Preset) -> AcceptId {
    AcceptId::of_preset(match preset {
        ir::Preset::FilelessExec => Preset::FilelessExec,
        ir::Preset::AnonMapExec => Preset::AnonMapExec,
        ir::Preset::ProtectEnv => Preset::ProtectEnv,
        ir::Preset::ProtectProc => Preset::ProtectProc,
        ir::Preset::Exec => Preset::Exec,
    })
}

/// The accept ids of what has a number.
fn accepts_of(matcher: &Matcher) -> Vec<u32> {
    match matcher {
        Matcher::Capability(capability) => vec![AcceptId::of_capability(capability.number).0],
        Matcher::Preset(preset) => vec![accept_of_preset(*preset).0],
        Matcher::Syscall(call) => {
            let native = call.numbers.iter().map(|number| AcceptId::of_syscall((*number).into()).0);
            native.chain(call.numbers32.iter().map(|number| AcceptId::of_compat_syscall((*number).into()).0)).collect()
        }
        _ => Vec::new(),
    }
}

fn undecided(error: ClassesError, all: usize, rules: &[Arc<Rule>], worst: Vec<String>) -> CompileError {
    match error {
        ClassesError::Time { done } => CompileError::TooLarge { what: TooLarge::DecisionTime { done, all }, worst },
        ClassesError::Conflict(conflict) => conflict.in_words(rules),
    }
}

/// One automaton and its decisions, while they are built.
struct LayerBuild<'a> {
    automaton: Automaton,
    ground: Ground<'a>,
    tags: Vec<Tag>,
    tables: Vec<Table>,
}

impl LayerBuild<'_> {
    fn run(self, arguments: &mut ArgumentSets, budget: &mut dyn Budget) -> Result<Layer, CompileError> {
        // An automaton of nothing takes no time worth a look, and a refusal here would have no rule to name.
        let mut unhurried = || false;
        let budget: &mut dyn Budget = if self.tags.is_empty() { &mut unhurried } else { budget };
        let trie = self.trie(budget)?;
        let automaton = determinise(trie, self.ground.limits, budget).map_err(|error| self.too_large(&error))?;
        let sets = &automaton.accept_sets;
        let worst = self.first_rules(&automaton.worst_tags);
        let named = || worst.iter().map(|rule| named(&self.rules()[*rule as usize])).collect();
        let classes = Classes::of(sets, &self.tables, self.ground.standings, arguments, budget)
            .map_err(|error| undecided(error, sets.len(), self.rules(), named()))?;
        let dfa = minimise(automaton, &classes.of_set, budget).map_err(|error| CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: self.automaton, exhausted: error.exhausted },
            worst: named(),
        })?;
        Ok(Layer { dfa, classes, tables: self.tables, worst })
    }

    fn rules(&self) -> &[Arc<Rule>] {
        &self.ground.canonical.rules
    }

    fn first_rules(&self, tags: &[u32]) -> Vec<u32> {
        tags.iter().filter_map(|tag| self.tags.get(*tag as usize)?.rules.first().copied()).collect()
    }

    fn trie(&self, budget: &mut dyn Budget) -> Result<Trie, CompileError> {
        let mut trie = Trie::new(self.strengths(), self.ground.limits);
        for (tag, number) in self.tags.iter().zip(0..) {
            if budget.is_spent() {
                let error = BuildError { exhausted: Exhausted::Time { states: 0 }, worst_tags: vec![number] };
                return Err(self.too_large(&error));
            }
            for tokens in tag.sequences(self.rules())? {
                trie.insert(&tokens, number).map_err(|error| self.too_large(&error))?;
            }
        }
        Ok(trie)
    }

    /// Dense ranks for absorption: what each tag demands and offers in each table.
    fn strengths(&self) -> Vec<TagStrength> {
        let standings = self.ground.standings;
        let span = |rule: &u32| standings[*rule as usize].span(*rule);
        let for_any_source = |rule: &&u32| !standings[**rule as usize].specificity.has_source;
        let mut strengths = vec![TagStrength::default(); self.tags.len()];
        for (at, table) in self.tables.iter().enumerate() {
            let mut standpoints: Vec<Standpoint> =
                table.rules_of_tag.iter().flatten().flat_map(|rule| <[_; 2]>::from(span(rule))).collect();
            standpoints.sort_unstable();
            standpoints.dedup();
            // From 1: 0 is "no rule in this table".
            let rank = |standpoint| standpoints.partition_point(|other| *other <= standpoint) as u32;
            for (strength, rules) in strengths.iter_mut().zip(&table.rules_of_tag) {
                let (best, worst) = (rules.iter(), rules.iter().filter(for_any_source));
                strength.demands[at] = best.map(|rule| rank(span(rule).0)).max().unwrap_or(0);
                strength.offers[at] = worst.map(|rule| rank(span(rule).1)).max().unwrap_or(0);
            }
        }
        strengths
    }

    fn too_large(&self, error: &BuildError) -> CompileError {
        let worst = self.first_rules(&error.worst_tags);
        CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: self.automaton, exhausted: error.exhausted },
            worst: worst.into_iter().map(|rule| named(&self.rules()[rule as usize])).collect(),
        }
    }
}

pub(crate) fn sequences(rule: &Rule) -> Result<Vec<Vec<Token>>, CompileError> {
    let wrong = |error| CompileError::Path { rule: place(rule), path: spelling(&rule.matcher), error };
    match &rule.matcher {
        Matcher::Process(path) | Matcher::File(path) => paths::sequences(&path.path).map_err(wrong),
        Matcher::Ptrace(target) => paths::sequences(target).map_err(wrong),
        Matcher::Socket(socket) => Ok(network::socket_sequences(socket)),
        Matcher::Destination(destination) => network::destination_sequences(destination)
            .map_err(|error| CompileError::Destination { rule: place(rule), error }),
        Matcher::Dns(dns) => paths::domain_sequences(&dns.domain).map_err(wrong),
        // They have numbers.
        Matcher::Capability(_) | Matcher::Syscall(_) | Matcher::Preset(_) | Matcher::Device(_) => Ok(Vec::new()),
    }
}
