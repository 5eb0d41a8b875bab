//! What makes a blob safe to walk, checked once where it enters.
//!
//! Invariant of a valid blob: the automata lie one after another from word 0 in the order of [`Automaton`], each from an even word
//! on, the tables after them; every word of every row leads to a row of the same automaton, every accept id indexes every table that
//! takes it, and every decision word is one and names an argument set that is there. So no walk leaves the words, whatever its input.
//! In the comb form every cell that a state could look at lies within its automaton, and a cell that names the state is the state's.

use thiserror::Error;

use super::layout::{
    AUTOMATA, Automaton, AutomatonHead, BlobHead, COLUMN_ACCEPT, COLUMN_CLASSES, COLUMN_SELF, COMB_CELL, COMB_FREE,
    COMB_STATE, DECISION_ARGUMENTS_SHIFT, DECISION_BY_POSTURE, DECISION_EFFECT_MASK, DECISION_RANK_SHIFT,
    DECISION_RULE_MASK, DECISION_RULE_SHIFT, Effect, FAMILIES, Family, FamilyHead, Form, MAGIC, MAX_ARGUMENT_SETS,
    SizeClass, VERSION,
};
use super::walk::Rank;

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
    #[error("{automaton:?} automaton: its {words} words, start or absorbing offset lie outside the blob's")]
    AutomatonBounds {
        /// Which.
        automaton: Automaton,
        /// Words that it says it has.
        words: u32,
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
    /// A cell of the comb form does not keep what its place promises.
    #[error("{automaton:?} automaton: the cell at word {cell} {why}")]
    Cell {
        /// Which.
        automaton: Automaton,
        /// Its offset.
        cell: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A decision table does not lie within the words, or has fewer rows or columns than ids lead to.
    #[error("{} table: {why}", Named(.family))]
    Table {
        /// Which; `None` is the table of arguments.
        family: Option<Family>,
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
    let mut end: u32 = 0;
    let mut largest_accept = [0; AUTOMATA];
    for (automaton, largest) in Automaton::ALL.into_iter().zip(&mut largest_accept) {
        let first = end.next_multiple_of(COMB_CELL);
        let rows = Rows { automaton, head: &head.automaton[automaton as usize], words, first };
        (end, *largest) = rows.check()?;
    }
    // Rows of one table: the whole path's, and its last component's.
    let basename = largest_accept[Automaton::Basename as usize];
    largest_accept[Automaton::Path as usize] = basename.max(largest_accept[Automaton::Path as usize]);
    check_arguments(head, words, end, largest_accept[Automaton::Argument as usize])?;
    Family::ALL.into_iter().try_for_each(|family| check_table(head, words, family, end, &largest_accept))
}

struct Named<'a>(&'a Option<Family>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(family) => write!(f, "{family:?}"),
            None => f.write_str("argument"),
        }
    }
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
        // NUL has the self column and nothing else has; column 0 is no class.
        let [nul, others @ ..] = &self.head.class_of;
        if u32::from(*nul) != COLUMN_SELF || others.iter().any(|class| u32::from(*class) < COLUMN_CLASSES) {
            return Err(self.bounds());
        }
        let end = self.first.checked_add(self.head.words).ok_or_else(|| self.bounds())?;
        let rows = self.words.get(self.first as usize..end as usize).ok_or_else(|| self.bounds())?;
        if self.head.start < self.first || self.head.start >= end || self.head.absorbing < self.first {
            return Err(self.bounds());
        }
        let largest = match self.head.form {
            form if form == Form::Flat as u32 => self.check_flat(rows, end)?,
            form if form == Form::Comb as u32 => self.check_comb(rows, end)?,
            _ => return Err(self.bounds()),
        };
        Ok((end, largest))
    }

    fn bounds(&self) -> BlobError {
        BlobError::AutomatonBounds { automaton: self.automaton, words: self.head.words }
    }

    fn check_flat(&self, rows: &[u32], end: u32) -> Result<u32, BlobError> {
        let stride = self.head.stride();
        let aligned = |offset: u32| offset >= self.first && (offset - self.first).is_multiple_of(stride);
        let (start, absorbing) = (self.head.start, self.head.absorbing);
        if !aligned(end) || !aligned(start) || !aligned(absorbing) || absorbing > end {
            return Err(self.bounds());
        }
        let mut largest = 0;
        for (row, offset) in rows.chunks_exact(stride as usize).zip((self.first..end).step_by(stride as usize)) {
            self.check_row(row, offset, |target| aligned(target) && target < end)?;
            largest = largest.max(row[COLUMN_ACCEPT as usize]);
        }
        Ok(largest)
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

    fn check_comb(&self, cells: &[u32], end: u32) -> Result<u32, BlobError> {
        let owner = |offset: u32| offset.checked_sub(self.first).and_then(|at| cells.get(at as usize + 1)).copied();
        let is_state = |offset: u32| {
            offset.is_multiple_of(COMB_CELL) && owner(offset).is_some_and(|owner| owner & COMB_STATE != 0)
        };
        if !cells.len().is_multiple_of(COMB_CELL as usize) || !is_state(self.head.start) || self.head.absorbing > end {
            return Err(self.bounds());
        }
        let nul = (self.head.start - self.first) as usize + (COMB_CELL * COLUMN_SELF) as usize;
        if cells.get(nul..nul + 2) != Some(&[self.head.start; 2]) && self.head.start >= self.head.absorbing {
            return Err(self.bounds());
        }
        let furthest = COMB_CELL * (self.head.stride() - 1);
        let mut largest = 0;
        for (cell, offset) in cells.chunks_exact(COMB_CELL as usize).zip((self.first..end).step_by(COMB_CELL as usize))
        {
            let wrong = |why| Err(BlobError::Cell { automaton: self.automaton, cell: offset, why });
            let (target, owner) = (cell[0], cell[1]);
            if owner == COMB_FREE {
                if target != 0 {
                    return wrong("is nobody's and not empty");
                }
                continue;
            }
            if !is_state(target) {
                return wrong("leads to no state");
            }
            let state = if owner & COMB_STATE == 0 { owner } else { offset };
            if state == offset && end - offset < furthest + COMB_CELL {
                return wrong("is a state whose columns lie outside");
            }
            if !is_state(state) || state > offset || offset - state > furthest {
                return wrong("names a state that does not reach it");
            }
            if state < self.head.absorbing && target != state {
                return wrong("leads out of an absorbing state");
            }
            if state == offset {
                largest = largest.max(owner & !COMB_STATE);
            }
        }
        Ok(largest)
    }
}

fn check_arguments(head: &BlobHead, words: &[u32], rows_end: u32, largest_accept: u32) -> Result<(), BlobError> {
    let table = &head.arguments;
    let wrong = |why| BlobError::Table { family: None, why };
    if *table == FamilyHead::default() {
        return Ok(());
    }
    if table.modifiers != 1 || table.sources < 2 || table.sources as usize > MAX_ARGUMENT_SETS + 1 {
        return Err(wrong("it has 1 to 255 sets and no modifiers"));
    }
    if table.accepts <= largest_accept {
        return Err(wrong("an accept id leads past its last row"));
    }
    cells_of(table, words, rows_end)
        .map(|_| ())
        .ok_or_else(|| wrong("it does not lie within the words after the automata"))
}

fn cells_of<'a>(table: &FamilyHead, words: &'a [u32], rows_end: u32) -> Option<&'a [u32]> {
    let size = u128::from(table.accepts) * u128::from(table.sources) * u128::from(table.modifiers);
    let size = usize::try_from(size).ok().filter(|_| table.base >= rows_end)?;
    words.get(table.base as usize..(table.base as usize).checked_add(size)?)
}

fn check_table(
    head: &BlobHead,
    words: &[u32],
    family: Family,
    rows_end: u32,
    largest_accept: &[u32; AUTOMATA],
) -> Result<(), BlobError> {
    let table = &head.family[family as usize];
    let wrong = |why| BlobError::Table { family: Some(family), why };
    if head.families >> family as u32 & 1 == 0 {
        let absent = *table == FamilyHead::default();
        return if absent { Ok(()) } else { Err(wrong("the family is absent, its table must be zero")) };
    }
    if !matches!(table.modifiers, 1 | 4 | 8) {
        return Err(wrong("modifiers must be 1, 4 or 8"));
    }
    let is_short = match family.automaton() {
        Some(automaton) => table.accepts <= largest_accept[automaton as usize],
        None => Some(table.accepts) != family.fixed_accepts(),
    };
    if is_short {
        return Err(wrong("an accept id leads past its last row"));
    }
    if table.sources == 0 || (table.sources > 1 && table.sources <= largest_accept[Automaton::Source as usize]) {
        return Err(wrong("a source id leads past its last column"));
    }
    let cells =
        cells_of(table, words, rows_end).ok_or_else(|| wrong("it does not lie within the words after the automata"))?;
    let sets = if family == Family::Process { head.arguments.sources.saturating_sub(1) } else { 0 };
    let is_decision = |word: &u32| is_decision(*word, sets);
    if cells.iter().all(is_decision) { Ok(()) } else { Err(wrong("a word in it is no decision")) }
}

/// Only execs have arguments, and there are so many sets of them.
fn is_decision(word: u32, sets: u32) -> bool {
    let known = DECISION_EFFECT_MASK
        | DECISION_BY_POSTURE
        | (MAX_ARGUMENT_SETS as u32) << DECISION_ARGUMENTS_SHIFT
        | DECISION_RULE_MASK << DECISION_RULE_SHIFT
        | u32::MAX << DECISION_RANK_SHIFT;
    let arguments = word >> DECISION_ARGUMENTS_SHIFT & MAX_ARGUMENT_SETS as u32;
    word & !known == 0
        && word & DECISION_EFFECT_MASK <= Effect::Block as u32
        && arguments <= sets
        && word >> DECISION_RANK_SHIFT <= Rank::HIGHEST.0
}
