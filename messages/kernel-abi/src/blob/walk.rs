//! The walk over a blob, in Rust: the same steps as the kernel's walker in `bpf/include/walk.h`, and the only meaning a blob has.
//!
//! # The walk
//! ```text
//! walk(automaton, bytes):                        decide(family, accept, source, modifiers):
//!   state = start                                  if !(families >> family & 1): return PERMIT (0)
//!   for byte in bytes:                             if accept >= accepts: accept = 0
//!     state = words[(state + class_of[byte]) & mask]   if source >= sources: source = 0
//!     if state < absorbing: break                  modifiers &= table.modifiers - 1
//!   return words[state & mask]                     return words[(base + (accept*sources + source)*modifiers_of_table + modifiers) & mask]
//! ```
//! - `mask` is the words of the size class less one. In a blob that passed validation it never changes an index.
//! - The early stop is only for speed: rows below `absorbing` lead to themselves on every byte.
//! - NUL does not move the state (column 1 of every row), so that a reader may pad to a fixed length.
//! - Accept id 0 is "nothing that decides was matched", source id 0 is "no executable that a rule names". An unknown
//!   executable has source 0.
//! - Ids mean something only with the blob that gave them: after a swap the source is to be looked up again.

use super::{
    Blob,
    layout::{Automaton, DECISION_BY_POSTURE, DECISION_EFFECT_MASK, DECISION_RULE_SHIFT, Effect, Family},
};

/// What an automaton says of its input: an index into decision tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AcceptId(pub u32);

/// What the source automaton says of the acting executable: a column of decision tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SourceId(pub u32);

impl SourceId {
    /// No executable that a rule names, or an unknown one.
    pub const NONE: Self = Self(0);
}

/// Circumstances that may change a rule's outcome (`PAL_MODIFIER_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Modifiers(pub u32);

impl Modifiers {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// The acting uid owns the file.
    pub const OWNER: Self = Self(1);
    /// The open asks for write access, truncation or creation.
    pub const WRITE: Self = Self(2);

    /// The two circumstances as one value.
    #[must_use]
    pub const fn new(owner: bool, write: bool) -> Self {
        Self(owner as u32 | (write as u32) << 1)
    }
}

/// A decoded decision word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// What happens.
    pub effect: Effect,
    /// The family's default posture decided, no rule did.
    pub by_posture: bool,
    /// The deciding rule's index (24 bits) in the compiled policy's rules, also where it permits.
    pub rule: Option<u32>,
}

impl Decision {
    /// What holds in a family without rules, and where nothing was matched and no allow-list is in force.
    pub const PERMIT: Self = Self { effect: Effect::Permit, by_posture: false, rule: None };

    /// From the word of a table. The value 3 is no effect and is refused where a blob is made; here it blocks.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let effect = match word & DECISION_EFFECT_MASK {
            0 => Effect::Permit,
            1 => Effect::Audit,
            _ => Effect::Block,
        };
        let rule = (word >> DECISION_RULE_SHIFT).checked_sub(1);
        Self { effect, by_posture: word & DECISION_BY_POSTURE != 0, rule }
    }

    /// To the word of a table. A rule index past 24 bits cannot be written: `None`.
    #[must_use]
    pub fn to_word(self) -> Option<u32> {
        let rule = match self.rule {
            None => 0,
            Some(index) if (index as usize) < super::layout::MAX_RULES => index + 1,
            Some(_) => return None,
        };
        let posture = if self.by_posture { DECISION_BY_POSTURE } else { 0 };
        Some(self.effect as u32 | posture | rule << DECISION_RULE_SHIFT)
    }
}

impl Blob {
    /// What the absolute path matches; the input of [`Family::Process`], [`Family::File`] and [`Family::Ptrace`].
    #[must_use]
    pub fn path_accept(&self, path: &[u8]) -> AcceptId {
        AcceptId(self.walk(Automaton::Path, path))
    }

    /// Which source the executable's absolute path is.
    #[must_use]
    pub fn source_id(&self, executable: &[u8]) -> SourceId {
        SourceId(self.walk(Automaton::Source, executable))
    }

    /// What the endpoint ([`Endpoint::encode`](super::Endpoint::encode)) matches; the input of [`Family::Socket`] and [`Family::Connect`].
    #[must_use]
    pub fn network_accept(&self, endpoint: &[u8]) -> AcceptId {
        AcceptId(self.walk(Automaton::Network, endpoint))
    }

    /// What happens to an act of `family` on what `accept` says, by the executable that `source` says.
    #[must_use]
    pub fn decide(&self, family: Family, accept: AcceptId, source: SourceId, modifiers: Modifiers) -> Decision {
        if self.head().families >> family as u32 & 1 == 0 {
            return Decision::PERMIT;
        }
        let table = &self.head().family[family as usize];
        let accept = if accept.0 < table.accepts { accept.0 } else { 0 };
        let source = if source.0 < table.sources { source.0 } else { 0 };
        let modifier = modifiers.0 & table.modifiers.wrapping_sub(1);
        let index = accept.wrapping_mul(table.sources).wrapping_add(source).wrapping_mul(table.modifiers);
        Decision::from_word(self.word(table.base.wrapping_add(index).wrapping_add(modifier)))
    }

    fn walk(&self, automaton: Automaton, bytes: &[u8]) -> u32 {
        let head = &self.head().automaton[automaton as usize];
        let mut state = head.start;
        for byte in bytes {
            state = self.word(state.wrapping_add(u32::from(head.class_of[usize::from(*byte)])));
            if state < head.absorbing {
                break;
            }
        }
        self.word(state)
    }
}
