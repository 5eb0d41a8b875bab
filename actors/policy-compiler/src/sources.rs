//! The acting executables that rules name, as classes.
//!
//! Invariant: executables that satisfy exactly the same rules are one class; classes count from 1, in the order in which the automaton
//! meets them; 0 is every other executable. So the class is the source id of decisions, and the accept id of the source automaton.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_kernel_abi::blob::Automaton;
use palisade_policy::ir::{PathMatch, Rule};

use crate::{
    automaton::{AutomatonLimits, Budget, BuildError, Dfa, TagStrength, Trie, determinise, minimise},
    compile::{named, place},
    error::{CompileError, TooLarge},
    paths,
    verdict::Standing,
};

/// Classes of the executables that some rules name.
#[derive(Debug, Clone)]
pub struct SourceClasses {
    /// Its accept ids are the classes.
    pub dfa: Dfa,
    count: u32,
    /// By rule: its classes, in order.
    of_rule: Vec<Vec<u32>>,
}

impl SourceClasses {
    /// Sorts the executables into classes.
    ///
    /// # Errors
    /// Where a source can be no path, or past a bound.
    pub fn build(rules: &[Arc<Rule>], limits: &AutomatonLimits, budget: &mut dyn Budget) -> Result<Self, CompileError> {
        let tags = tags_of(rules);
        let naming: Vec<&BTreeSet<u32>> = tags.values().collect();
        let first_rule = |tag: &u32| naming[*tag as usize].first().map(|rule| named(&rules[*rule as usize]));
        let too_large = |error: BuildError| CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: Automaton::Source, exhausted: error.exhausted },
            worst: error.worst_tags.iter().filter_map(first_rule).collect(),
        };
        // Strengths do not matter: who satisfies a rule satisfies it, whatever others say.
        let mut trie = Trie::new(vec![TagStrength::default(); tags.len()], limits);
        for ((source, rules_of_it), tag) in tags.iter().zip(0..) {
            let sequences = paths::sequences(source).map_err(|error| {
                let rule = rules_of_it.first().map(|rule| place(&rules[*rule as usize])).unwrap_or_default();
                CompileError::Path { rule, path: crate::compile::spelling_of_path(source), error }
            })?;
            for tokens in sequences {
                trie.insert(&tokens, tag).map_err(too_large)?;
            }
        }
        // An automaton of nothing takes no time worth a look.
        let mut unhurried = || false;
        let budget: &mut dyn Budget = if tags.is_empty() { &mut unhurried } else { budget };
        let automaton = determinise(trie, limits, budget).map_err(too_large)?;
        let mut of_rule = vec![Vec::new(); rules.len()];
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::from([(Vec::new(), 0)]);
        let mut classes = Vec::with_capacity(automaton.accept_sets.len());
        for set in automaton.accept_sets.iter() {
            let satisfied = satisfied_by(set, &naming);
            let next = known.len() as u32;
            let class = *known.entry(satisfied.clone()).or_insert(next);
            if class == next {
                satisfied.iter().for_each(|rule| of_rule[*rule as usize].push(class));
            }
            classes.push(class);
        }
        let worst_tags = automaton.worst_tags.clone();
        let with_tags = |error: BuildError| BuildError { worst_tags, ..error };
        let dfa = minimise(automaton, &classes, budget).map_err(with_tags).map_err(too_large)?;
        Ok(Self { dfa, count: known.len() as u32 - 1, of_rule })
    }

    /// How many classes, without 0.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How the rules stand, with their sources as classes.
    #[must_use]
    pub fn standings(&self, rules: &[Arc<Rule>]) -> Vec<Standing> {
        rules.iter().zip(&self.of_rule).map(|(rule, classes)| Standing::of(rule, classes.clone())).collect()
    }
}

/// What is named, and by which rules.
fn tags_of(rules: &[Arc<Rule>]) -> BTreeMap<PathMatch, BTreeSet<u32>> {
    let mut tags: BTreeMap<PathMatch, BTreeSet<u32>> = BTreeMap::new();
    for (rule, number) in rules.iter().zip(0..) {
        for path in &rule.sources {
            tags.entry(PathMatch::Exact(path.clone())).or_default().insert(number);
        }
        for source in &rule.source_directories {
            let path = PathMatch::Directory { directory: source.directory.clone(), recursive: source.recursive };
            tags.entry(path).or_default().insert(number);
        }
    }
    tags
}

/// The rules that an executable with these tags satisfies.
fn satisfied_by(set: &[u32], naming: &[&BTreeSet<u32>]) -> Vec<u32> {
    let satisfied: BTreeSet<u32> = set.iter().flat_map(|tag| naming[*tag as usize]).copied().collect();
    satisfied.into_iter().collect()
}
