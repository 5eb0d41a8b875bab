//! A walk one byte at a time: for whoever builds another automaton out of a blob's own.
//!
//! Invariant: stepping over all bytes of an input and asking for the accept id at the end is what [`walk`](super::walk) says of the input.

use super::{
    Blob,
    layout::{Automaton, COMB_CELL, COMB_STATE, Form},
};

/// Where a walk stands: the word offset of a state. It means something only with the blob and the automaton that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State(u32);

impl State {
    /// In words, from the first word of the blob's automata and tables.
    #[must_use]
    pub const fn word_offset(self) -> u32 {
        self.0
    }
}

impl Blob {
    /// Where a walk of the automaton begins.
    #[must_use]
    pub fn start(&self, automaton: Automaton) -> State {
        State(self.head().automaton[automaton as usize].start)
    }

    /// Where one byte leads.
    #[must_use]
    pub fn step(&self, automaton: Automaton, state: State, byte: u8) -> State {
        let head = &self.head().automaton[automaton as usize];
        let class = u32::from(head.class_of[usize::from(byte)]);
        if state.0 < head.absorbing {
            return state;
        }
        if head.form == Form::Flat as u32 {
            return State(self.word_at(state.0 + class));
        }
        let cell = state.0 + COMB_CELL * class;
        State(if self.word_at(cell + 1) == state.0 { self.word_at(cell) } else { self.word_at(state.0) })
    }

    /// The accept id of an input that ends here; of [`Automaton::Basename`] a row of the tables of paths.
    #[must_use]
    pub fn accept_at(&self, automaton: Automaton, state: State) -> u32 {
        if self.head().automaton[automaton as usize].form == Form::Flat as u32 {
            self.word_at(state.0)
        } else {
            self.word_at(state.0 + 1) & !COMB_STATE
        }
    }

    fn word_at(&self, at: u32) -> u32 {
        self.words().get(at as usize).copied().unwrap_or_default()
    }
}
