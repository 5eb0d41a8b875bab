//! The acting executables that rules name, as classes.
//!
//! Invariant: executables that exactly the same rules name are one class; classes count from 1, in the order of their first path;
//! 0 is every other executable. So the class is the source id of decisions, and the accept id of the source automaton.

use std::{collections::BTreeMap, sync::Arc};

use palisade_policy::ir::Rule;

use crate::verdict::Standing;

/// Classes of the executables that some rules name.
#[derive(Debug, Clone)]
pub struct SourceClasses<'a> {
    class_of_path: BTreeMap<&'a str, u32>,
    count: u32,
}

impl<'a> SourceClasses<'a> {
    /// Sorts the executables into classes.
    #[must_use]
    pub fn of(rules: &'a [Arc<Rule>]) -> Self {
        let mut rules_of_path: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (rule, number) in rules.iter().zip(0..) {
            rule.sources.iter().for_each(|path| rules_of_path.entry(path).or_default().push(number));
        }
        let mut class_of_rules: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut class_of_path = BTreeMap::new();
        for (path, rules) in rules_of_path {
            let next = class_of_rules.len() as u32 + 1;
            class_of_path.insert(path, *class_of_rules.entry(rules).or_insert(next));
        }
        Self { class_of_path, count: class_of_rules.len() as u32 }
    }

    /// How many classes, without 0.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Each named executable with its class, in order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, u32)> + '_ {
        self.class_of_path.iter().map(|(path, class)| (*path, *class))
    }

    /// How the rules stand, with their sources as classes.
    #[must_use]
    pub fn standings(&self, rules: &[Arc<Rule>]) -> Vec<Standing> {
        rules.iter().map(|rule| Standing::of(rule, self.classes_of(rule))).collect()
    }

    fn classes_of(&self, rule: &Rule) -> Vec<u32> {
        let mut classes: Vec<u32> =
            rule.sources.iter().filter_map(|path| self.class_of_path.get(path.as_str())).copied().collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}
