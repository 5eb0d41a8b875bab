//! The automaton alone.
