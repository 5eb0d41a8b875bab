//! What makes a blob safe to walk, checked once where it enters.
//!
//! Invariant of a valid blob: the automata lie one after another from word 0 in the order of [`Automaton`], the tables after
//! them; every word of every row leads to a row of the same automaton, every accept id indexes every table that takes it, and
//! every decision word is one. So no walk leaves the words, whatever its input.

use thiserror::Error;

use super::layout::{
    AUTOMATA, Automaton, AutomatonHead, BlobHead, COLUMN_ACCEPT, COLUMN_CLASSES, COLUMN_SELF, DECISION_BY_POSTURE,
    DECISION_EFFECT_MASK, DECISION_RULE_SHIFT, Effect, FAMILIES, Family, FamilyHead, MAGIC, SizeClass, VERSION,
};

/// Why bytes are not a blob. Offsets are in words of `words[]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlobError {
    /// Too short for a head, or not the length that the head says (exactly, or padded with zeros to the size class).
    #[error("a blob of {words} words has {expected} or {padded} bytes, not {found}")]
    Length {
        /// Words that the head says.
        words: u32,
        /// Bytes without padding.
        expected: usize,
        /// Bytes with padding.
        padded: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Another format.
    #[error("magic {magic:#010x} version {version}: not a blob of this version")]
    Format {
        /// Found magic.
        magic: u32,
        /// Found version.
        version: u32,
    },
    /// More words than the largest size class holds.
    #[error("{words} words are more than the {} of the largest size class", SizeClass::MAX_WORDS)]
    TooLarge {
        /// Words.
        words: usize,
    },
    /// An automaton's rows do not lie within the words, or its start or absorbing offset is not one of its rows.
    #[error("{automaton:?} automaton: its {states} rows, start or absorbing offset lie outside its words")]
    AutomatonBounds {
        /// Which.
        automaton: Automaton,
        /// Rows that it says it has.
        states: u32,
    },
    /// A row leads out of its automaton, or does not keep what its place promises.
    #[error("{automaton:?} automaton: the row at word {row} is wrong in column {column}")]
    Row {
        /// Which.
        automaton: Automaton,
        /// Its offset.
        row: u32,
        /// Column.
        column: u32,
    },
    /// A decision table does not lie within the words, or has fewer rows or columns than ids lead to.
    #[error("{family:?} table: {why}")]
    Table {
        /// Which.
        family: Family,
        /// What is wrong.
        why: &'static str,
    },
    /// Padding or reserved fields are not zero, or an unknown family is said to be there.
    #[error("{0} must be zero")]
    NotZero(&'static str),
    /// The digest is not that of the content.
    #[error("the digest is not that of the content")]
    Digest,
}

/// Checks everything but the digest.
pub(super) fn validate(head: &BlobHead, words: &[u32]) -> Result<(), BlobError> {
    if head.magic != MAGIC || head.version != VERSION {
        return Err(BlobError::Format { magic: head.magic, version: head.version });
    }
    if words.len() > SizeClass::MAX_WORDS || head.words as usize != words.len() {
        return Err(BlobError::TooLarge { words: words.len() });
    }
    if head.families >> FAMILIES != 0 {
        return Err(BlobError::NotZero("the bits of families that do not exist"));
    }
    let mut end = 0;
    let mut largest_accept = [0; AUTOMATA];
    for (automaton, largest) in
        [Automaton::Path, Automaton::Source, Automaton::Network].into_iter().zip(&mut largest_accept)
    {
        let rows = Rows { automaton, head: &head.automaton[automaton as usize], words, first: end };
        (end, *largest) = rows.check()?;
    }
    Family::ALL.into_iter().try_for_each(|family| check_table(head, words, family, end, &largest_accept))
}

/// The rows of one automaton.
struct Rows<'a> {
    automaton: Automaton,
    head: &'a AutomatonHead,
    words: &'a [u32],
    first: u32,
}

impl Rows<'_> {
    /// Returns the word after the last row, and the largest accept id.
    fn check(&self) -> Result<(u32, u32), BlobError> {
        let bounds = || BlobError::AutomatonBounds { automaton: self.automaton, states: self.head.states };
        if self.head.reserved != 0 {
            return Err(BlobError::NotZero("the reserved word of an automaton"));
        }
        // NUL has the self column and nothing else has; column 0 is no class.
        let [nul, others @ ..] = &self.head.class_of;
        if u32::from(*nul) != COLUMN_SELF || others.iter().any(|class| u32::from(*class) < COLUMN_CLASSES) {
            return Err(bounds());
        }
        let stride = self.head.stride();
        let end = u64::from(self.first) + u64::from(self.head.states) * u64::from(stride);
        let end = u32::try_from(end).ok().filter(|end| *end as usize <= self.words.len()).ok_or_else(bounds)?;
        let absorbing = self.head.absorbing;
        let aligned = |offset: u32| offset >= self.first && (offset - self.first).is_multiple_of(stride);
        if !aligned(self.head.start) || self.head.start >= end || !aligned(absorbing) || absorbing > end {
            return Err(bounds());
        }
        let rows = self.words.get(self.first as usize..end as usize).ok_or_else(bounds)?;
        let mut largest = 0;
        for (row, offset) in rows.chunks_exact(stride as usize).zip((self.first..end).step_by(stride as usize)) {
            self.check_row(row, offset, |target| aligned(target) && target < end)?;
            largest = largest.max(row[COLUMN_ACCEPT as usize]);
        }
        Ok((end, largest))
    }

    fn check_row(&self, row: &[u32], offset: u32, is_row: impl Fn(u32) -> bool) -> Result<(), BlobError> {
        let wrong = |column| BlobError::Row { automaton: self.automaton, row: offset, column };
        if row.get(COLUMN_SELF as usize) != Some(&offset) {
            return Err(wrong(COLUMN_SELF));
        }
        for (target, column) in row.iter().zip(0..).skip(COLUMN_CLASSES as usize) {
            if !is_row(*target) || (offset < self.head.absorbing && *target != offset) {
                return Err(wrong(column));
            }
        }
        Ok(())
    }
}

fn check_table(
    head: &BlobHead,
    words: &[u32],
    family: Family,
    rows_end: u32,
    largest_accept: &[u32; AUTOMATA],
) -> Result<(), BlobError> {
    let table = &head.family[family as usize];
    let wrong = |why| BlobError::Table { family, why };
    if head.families >> family as u32 & 1 == 0 {
        let absent = *table == FamilyHead::default();
        return if absent { Ok(()) } else { Err(wrong("the family is absent, its table must be zero")) };
    }
    if !matches!(table.modifiers, 1 | 4) {
        return Err(wrong("modifiers must be 1 or 4"));
    }
    if table.accepts <= largest_accept[family.automaton() as usize] {
        return Err(wrong("an accept id leads past its last row"));
    }
    if table.sources == 0 || (table.sources > 1 && table.sources <= largest_accept[Automaton::Source as usize]) {
        return Err(wrong("a source id leads past its last column"));
    }
    let size = u128::from(table.accepts) * u128::from(table.sources) * u128::from(table.modifiers);
    let cells = usize::try_from(size)
        .ok()
        .filter(|_| table.base >= rows_end)
        .and_then(|size| words.get(table.base as usize..(table.base as usize).checked_add(size)?))
        .ok_or_else(|| wrong("it does not lie within the words after the automata"))?;
    if cells.iter().all(|word| is_decision(*word)) { Ok(()) } else { Err(wrong("a word in it is no decision")) }
}

fn is_decision(word: u32) -> bool {
    let known = DECISION_EFFECT_MASK | DECISION_BY_POSTURE | u32::MAX << DECISION_RULE_SHIFT;
    let effect = word & DECISION_EFFECT_MASK;
    word & !known == 0 && effect <= Effect::Block as u32
}
