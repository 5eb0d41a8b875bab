//! The argument sets of a policy, and the automaton over one argument that tells which of them it is in.
//!
//! A set has alternatives: an exec meets it if one alternative holds each of its arguments. Rules that block all but their arguments
//! are met together, so theirs is one alternative, what they have in common; rules that allow theirs are an alternative each.
//!
//! Invariant: sets are numbered from 1 in the order in which decisions ask for them, which is canonical.
//!
//! Decision: what one decision word cannot hold (an Audit and a Block on one path whose arguments are not nested) is refused and not
//! approximated: either way round, something would be permitted or denied that the rules do not say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_kernel_abi::blob::{Automaton, MAX_ARGUMENT_ALTERNATIVES, MAX_ARGUMENT_SETS};
use palisade_policy::ir::Rule;

use crate::{
    automaton::{
        AutomatonLimits, Budget, BuildError, Dfa, MAX_PATTERN_BYTES, TagStrength, Token, Trie, determinise, minimise,
    },
    compile::{named, place},
    error::{CompileError, TooLarge},
};

/// Strings that arguments may be.
pub type Alternative = BTreeSet<String>;

/// Why rules about arguments do not go together; rules by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Of one rank and with different actions.
    Actions {
        /// The harsher one.
        one: u32,
        /// The other.
        other: u32,
    },
    /// More sets than a decision word can name.
    Sets {
        /// A rule of the one too many.
        rule: u32,
    },
    /// More alternatives than a set can have.
    Alternatives {
        /// One of the rules.
        rule: u32,
        /// How many there are.
        count: usize,
    },
}

impl Conflict {
    /// In the words of the documents.
    pub(crate) fn in_words(self, rules: &[Arc<Rule>]) -> CompileError {
        let of = |rule: u32| named(&rules[rule as usize]);
        match self {
            Self::Actions { one, other } => CompileError::ArgumentActions { one: of(one), other: of(other) },
            Self::Sets { rule } => CompileError::TooLarge { what: TooLarge::ArgumentSets, worst: vec![of(rule)] },
            Self::Alternatives { rule, count } => {
                CompileError::TooLarge { what: TooLarge::ArgumentAlternatives(count), worst: vec![of(rule)] }
            }
        }
    }
}

/// The sets that decisions name.
#[derive(Debug, Clone, Default)]
pub struct ArgumentSets {
    numbers: BTreeMap<BTreeSet<Alternative>, u8>,
    sets: Vec<Vec<Alternative>>,
}

impl ArgumentSets {
    /// The number of the set.
    ///
    /// # Errors
    /// Past the bounds of decision words.
    pub fn intern(&mut self, alternatives: BTreeSet<Alternative>, rule: u32) -> Result<u8, Conflict> {
        if let Some(number) = self.numbers.get(&alternatives) {
            return Ok(*number);
        }
        if alternatives.len() > MAX_ARGUMENT_ALTERNATIVES {
            return Err(Conflict::Alternatives { rule, count: alternatives.len() });
        }
        let number = self.sets.len() + 1;
        let number =
            u8::try_from(number).ok().filter(|_| number <= MAX_ARGUMENT_SETS).ok_or(Conflict::Sets { rule })?;
        self.sets.push(alternatives.iter().cloned().collect());
        self.numbers.insert(alternatives, number);
        Ok(number)
    }

    /// None?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.sets.len() as u32
    }
}

/// The automaton over one argument, and its table.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// Accepts by class.
    pub dfa: Dfa,
    /// By class: for each set, 0 included, the alternatives that hold the argument.
    pub rows: Vec<Vec<u32>>,
}

impl Arguments {
    /// Of the sets that decisions name.
    ///
    /// # Errors
    /// Past a bound.
    pub fn build(sets: &ArgumentSets, limits: &AutomatonLimits, budget: &mut dyn Budget) -> Result<Self, CompileError> {
        let mut masks: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (set, number) in sets.sets.iter().zip(1..) {
            for (alternative, bit) in set.iter().zip(0..) {
                for text in alternative {
                    masks.entry(text).or_insert_with(|| vec![0; sets.sets.len() + 1])[number] |= 1 << bit;
                }
            }
        }
        let too_large = |error: BuildError| CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: Automaton::Argument, exhausted: error.exhausted },
            worst: Vec::new(),
        };
        let mut trie = Trie::new(vec![TagStrength::default(); masks.len()], limits);
        for (text, tag) in masks.keys().zip(0..) {
            let tokens: Vec<Token> = text.bytes().map(Token::Byte).collect();
            trie.insert(&tokens, tag).map_err(too_large)?;
        }
        let mut unhurried = || false;
        let budget: &mut dyn Budget = if masks.is_empty() { &mut unhurried } else { budget };
        let automaton = determinise(trie, limits, budget).map_err(too_large)?;
        let of_tag: Vec<&Vec<u32>> = masks.values().collect();
        let mut rows = vec![vec![0; sets.sets.len() + 1]];
        let mut class_of_row = BTreeMap::from([(rows[0].clone(), 0)]);
        let classes: Vec<u32> = automaton
            .accept_sets
            .iter()
            .map(|tags| {
                // Texts are exact, so that there is one at most.
                let row = tags.first().map_or_else(|| rows[0].clone(), |tag| of_tag[*tag as usize].clone());
                let next = rows.len() as u32;
                *class_of_row.entry(row.clone()).or_insert_with(|| {
                    rows.push(row);
                    next
                })
            })
            .collect();
        let dfa = minimise(automaton, &classes, budget).map_err(too_large)?;
        Ok(Self { dfa, rows })
    }
}

/// Refuses what no argument can be.
pub(crate) fn check(rules: &[Arc<Rule>]) -> Result<(), CompileError> {
    use palisade_policy::ir::Matcher;
    for rule in rules {
        let Matcher::Process(path) = &rule.matcher else { continue };
        for text in &path.allowed_arguments {
            let why = if text.len() > MAX_PATTERN_BYTES {
                format!("it has {} bytes, and {MAX_PATTERN_BYTES} are the most", text.len())
            } else if text.contains('\0') {
                "there is a NUL in it, and no argument has one".to_owned()
            } else {
                continue;
            };
            return Err(CompileError::Argument { rule: place(rule), why });
        }
    }
    Ok(())
}
