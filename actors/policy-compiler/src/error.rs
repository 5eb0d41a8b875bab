//! Why rules do not compile.

use palisade_kernel_abi::blob::{
    Automaton, BlobError, MAX_ARGUMENT_ALTERNATIVES, MAX_ARGUMENT_SETS, MAX_RULES, SizeClass,
};
use thiserror::Error;

use crate::{automaton::Exhausted, network::DestinationError, paths::PathError};

/// Nothing is compiled then; nothing is ever cut to fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// A path, name, directory or pattern that can match nothing.
    #[error("{rule}: `{path}`: {error}")]
    Path {
        /// Document and place.
        rule: String,
        /// As written.
        path: String,
        /// What is wrong.
        error: PathError,
    },
    /// A destination that can match nothing.
    #[error("{rule}: {error}")]
    Destination {
        /// Document and place.
        rule: String,
        /// What is wrong.
        error: DestinationError,
    },
    /// An argument that no exec can have.
    #[error("{rule}: allowedArgs: {why}")]
    Argument {
        /// Document and place.
        rule: String,
        /// What is wrong.
        why: String,
    },
    /// Two rules of one rank that ask for different things by different arguments.
    #[error(
        "{one} and {other} match the same executions with equal rank, and which of their actions holds depends on both rules' \
         allowedArgs: write the allowedArgs of one into the other, or give one of them another path or source"
    )]
    ArgumentActions {
        /// Document, place and path.
        one: String,
        /// Document, place and path.
        other: String,
    },
    /// The rules are beyond a bound.
    #[error("the policy is too large: {what}{}", WorstPatterns(.worst))]
    TooLarge {
        /// Which bound, with the numbers.
        what: TooLarge,
        /// The rules that cost most, worst first: document, place and pattern.
        worst: Vec<String>,
    },
    /// What was compiled is no valid blob: a bug of this crate, told instead of installed.
    #[error("bug: the compiled blob is not valid: {0}")]
    Invalid(#[from] BlobError),
}

/// Which bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TooLarge {
    /// While building an automaton.
    #[error("{automaton:?} automaton: {exhausted}")]
    Automaton {
        /// Which.
        automaton: Automaton,
        /// What ran out.
        exhausted: Exhausted,
    },
    /// All that was built is larger than the largest blob.
    #[error(
        "{rows} words of automata ({states} states) and {cells} words of decision tables ({accepts} path, {names} name and \
         {endpoints} endpoint classes x {sources} sources) are more than {}",
        SizeClass::MAX_WORDS
    )]
    Words {
        /// Words of rows.
        rows: u64,
        /// States of all automata.
        states: u64,
        /// Words of decision tables.
        cells: u64,
        /// Accept ids of whole paths.
        accepts: u64,
        /// Accept ids of bare names.
        names: u64,
        /// Accept ids of endpoints.
        endpoints: u64,
        /// Source ids.
        sources: u64,
    },
    /// More argument sets than a decision can name.
    #[error("more than {MAX_ARGUMENT_SETS} different combinations of allowedArgs")]
    ArgumentSets,
    /// More alternatives than a set can have.
    #[error(
        "{0} rules allow the same executions by different allowedArgs, and {MAX_ARGUMENT_ALTERNATIVES} are the most"
    )]
    ArgumentAlternatives(usize),
    /// More rules than a decision can name.
    #[error("{0} rules are more than {MAX_RULES}")]
    Rules(usize),
    /// The time was up while the decisions were worked out.
    #[error("the time for one build was up, with {done} of {all} combinations of rules decided")]
    DecisionTime {
        /// Combinations that were decided.
        done: usize,
        /// All of them.
        all: usize,
    },
}

impl TooLarge {
    /// Would the same rules compile with more time?
    #[must_use]
    pub fn is_for_want_of_time(&self) -> bool {
        matches!(self, Self::DecisionTime { .. } | Self::Automaton { exhausted: Exhausted::Time { .. }, .. })
    }
}

struct WorstPatterns<'a>(&'a [String]);

impl std::fmt::Display for WorstPatterns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            worst => write!(f, "; the rules that cost most: {}", worst.join(", ")),
        }
    }
}
