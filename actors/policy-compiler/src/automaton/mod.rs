//! From sequences of tokens to one minimal forward DFA: token trie, subset construction with absorption, Hopcroft.
//!
//! Invariant: equal input gives equal output, bit for bit; nothing depends on hashing order or on time. Bounds (states, set
//! members, transitions, the caller's [`Budget`]) are checked while building, so that a blow-up is refused early and cheaply.
//!
//! Decision: an own builder, not regex-automata, because that one bounds memory but not time (`/**/x/**/y` a few hundred times
//! does not end), and knows nothing of absorption, which keeps tables of overlapping directories small.

mod comb;
mod glob;
mod interner;
mod minimise;
mod subset;
mod token;
mod trie;

pub use comb::{Cell, Comb};
pub use glob::{GlobError, MAX_ALTERNATIVES, MAX_PATTERN_BYTES, glob};
pub use interner::SetInterner;
pub use minimise::{Dfa, minimise};
pub use subset::{Determinised, determinise};
pub use token::{ByteSet, Token};
pub use trie::{STRENGTHS, TagStrength, Trie};

use thiserror::Error;

/// Says whether the caller's time for a build is up. A port, so that logic reads no clock.
pub trait Budget {
    /// Asked now and then; after the first `true` the build ends with an error.
    fn is_spent(&mut self) -> bool;
}

impl<F: FnMut() -> bool> Budget for F {
    fn is_spent(&mut self) -> bool {
        self()
    }
}

/// What bounds the size of a build; each also bounds its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutomatonLimits {
    /// Trie nodes, about 100 bytes each.
    pub nodes: usize,
    /// States before minimisation.
    pub states: usize,
    /// Members of all state sets together, 4 bytes each.
    pub set_members: usize,
    /// Transitions before minimisation, up to 16 bytes each while minimising.
    pub transitions: usize,
}

impl Default for AutomatonLimits {
    /// At most about 400 MB at worst; 10,000 exact paths or directories of 60 bytes need a quarter of that.
    fn default() -> Self {
        Self { nodes: 1 << 20, states: 1 << 19, set_members: 1 << 24, transitions: 1 << 24 }
    }
}

/// What ran out while building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Exhausted {
    /// [`AutomatonLimits::nodes`].
    #[error("more than {limit} trie nodes")]
    Nodes {
        /// The bound.
        limit: usize,
    },
    /// Distinct byte classes `[...]`, and sets that numbers are lowered to.
    #[error("more than {limit} different character classes")]
    Sets {
        /// The bound.
        limit: usize,
    },
    /// [`AutomatonLimits::states`].
    #[error("more than {limit} states before minimisation")]
    States {
        /// The bound.
        limit: usize,
    },
    /// [`AutomatonLimits::set_members`].
    #[error("more than {limit} members in state sets, with {states} states so far")]
    SetMembers {
        /// The bound.
        limit: usize,
        /// States when it ran out.
        states: usize,
    },
    /// [`AutomatonLimits::transitions`].
    #[error("more than {limit} transitions before minimisation, with {states} states of {classes} byte classes so far")]
    Transitions {
        /// The bound.
        limit: usize,
        /// States when it ran out.
        states: usize,
        /// Columns.
        classes: usize,
    },
    /// A row has no column for another byte class.
    #[error("{classes} byte classes, and a row has 254 columns for them")]
    Classes {
        /// How many the patterns tell apart.
        classes: usize,
    },
    /// [`Budget`].
    #[error("the time for one build was up, with {states} states so far")]
    Time {
        /// States when it ran out.
        states: usize,
    },
}

/// A build that ran out of something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{exhausted}")]
pub struct BuildError {
    /// Of what.
    pub exhausted: Exhausted,
    /// The tags whose loops are in most of the states, worst first: what to look at.
    pub worst_tags: Vec<u32>,
}
