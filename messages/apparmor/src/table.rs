//! Automata as AppArmor's kernel side reads them, and their tables.
//!
//! Invariant: state 0 is the kernel's "no match" (accepts nothing, leads to itself) and state 1 its start. Every row is total.
//!
//! Units: accepts are the two words of the policy format of versions 5 to 8 ([`Accept`]); all numbers of the packed form are big-endian.
//!
//! Decision: 16-bit states, not the 32-bit ones of kernels from 6.16 on, because every kernel reads them; more states than they can name
//! are refused with the number, and what the automaton would have held goes to the next tier.

use std::collections::BTreeMap;

use crate::{LowerError, MAX_STATES};

/// What the kernel finds at a state, in the words of the policy format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Accept {
    /// What is allowed: 14 bits for an owner, 14 for others; in a policy database 7 and 7.
    pub allow: u32,
    /// What is told although it is allowed, in the same places.
    pub audit: u32,
}

/// A deterministic automaton over bytes.
#[derive(Debug, Clone)]
pub struct Table {
    /// Columns of a row.
    pub classes: usize,
    /// Byte to column.
    pub class_of: [u8; 256],
    /// `classes` targets for each state.
    pub rows: Vec<u32>,
    /// By state.
    pub accept: Vec<Accept>,
}

/// The two states that every table begins with.
pub const NO_MATCH: u32 = 0;
/// Where reading begins.
pub const START: u32 = 1;

/// Stands for a state in its own row.
const ITSELF: u32 = u32::MAX;

const MAGIC: u32 = 0x1b5e_783d;
/// Of the header: its four fields and the parser's mark, padded to a multiple of 8.
const HEADER_BYTES: usize = 24;
const MARK: &[u8; 8] = b"notflex\0";
/// A base may be followed by a whole alphabet.
const ALPHABET: usize = 256;
/// Numbers of the tables, as they are written.
pub(crate) mod id {
    pub const ACCEPT: u16 = 1;
    pub const BASE: u16 = 2;
    pub const CHECK: u16 = 3;
    pub const DEFAULT: u16 = 4;
    pub const EQUIVALENCE: u16 = 5;
    pub const AUDIT: u16 = 7;
    pub const NEXT: u16 = 8;
}

impl Table {
    /// Bytes of their own columns, and the two first states.
    #[must_use]
    pub fn new(classes: usize, class_of: [u8; 256]) -> Self {
        let mut table = Self { classes, class_of, rows: Vec::new(), accept: Vec::new() };
        table.add(Accept::default(), NO_MATCH);
        table.add(Accept::default(), NO_MATCH);
        table
    }

    /// A table whose columns are the bytes themselves.
    #[must_use]
    pub fn of_bytes() -> Self {
        Self::new(ALPHABET, std::array::from_fn(|byte| byte as u8))
    }

    /// States.
    #[must_use]
    pub fn states(&self) -> usize {
        self.accept.len()
    }

    /// Adds a state all of whose moves lead to `elsewhere`.
    pub fn add(&mut self, accept: Accept, elsewhere: u32) -> u32 {
        self.accept.push(accept);
        self.rows.resize(self.rows.len() + self.classes, elsewhere);
        self.accept.len() as u32 - 1
    }

    /// Sets where a byte leads.
    pub fn set(&mut self, state: u32, byte: u8, target: u32) {
        self.rows[state as usize * self.classes + usize::from(self.class_of[usize::from(byte)])] = target;
    }

    /// The same with fewer states: those that say the same and lead to the same are one.
    ///
    /// Decision: passes from the last state to the first until one finds nothing, not Hopcroft's: rules are trees with long tails, of which the
    /// ends are found alike first, and what is left unmerged (loops that are alike only together) is little.
    #[must_use]
    pub fn merged(&self) -> Self {
        let mut stands_for: Vec<u32> = (0..self.states() as u32).collect();
        loop {
            let mut known: BTreeMap<(Accept, Vec<u32>), u32> = BTreeMap::new();
            let mut found = false;
            // The first two are the kernel's by their numbers.
            for state in (2..self.states() as u32)
                .rev()
                .filter(|state| stands_for[*state as usize] == *state)
                .collect::<Vec<_>>()
            {
                let target = |target: &u32| match stands_for[*target as usize] {
                    other if other == state => ITSELF,
                    other => other,
                };
                let row = self.row(state).iter().map(target).collect();
                let first = *known.entry((self.accept[state as usize], row)).or_insert(state);
                stands_for[state as usize] = first;
                found |= first != state;
            }
            // Whom it stands for may itself be stood for by now.
            for state in 0..stands_for.len() {
                stands_for[state] = stands_for[stands_for[state] as usize];
            }
            if !found {
                return self.only(&stands_for);
            }
        }
    }

    fn row(&self, state: u32) -> &[u32] {
        let at = state as usize * self.classes;
        &self.rows[at..at + self.classes]
    }

    /// Without those that others stand for.
    fn only(&self, stands_for: &[u32]) -> Self {
        let mut number = vec![0; stands_for.len()];
        let kept: Vec<u32> =
            (0..stands_for.len() as u32).filter(|state| stands_for[*state as usize] == *state).collect();
        kept.iter().zip(0..).for_each(|(state, new)| number[*state as usize] = new);
        let of = |target: &u32| number[stands_for[*target as usize] as usize];
        Self {
            classes: self.classes,
            class_of: self.class_of,
            rows: kept.iter().flat_map(|state| self.row(*state)).map(of).collect(),
            accept: kept.iter().map(|state| self.accept[*state as usize]).collect(),
        }
    }

    /// In the packed form.
    ///
    /// # Errors
    /// Where there are more states than the form can name.
    pub(crate) fn pack(&self) -> Result<Vec<u8>, LowerError> {
        if self.states() > MAX_STATES {
            return Err(LowerError::States { states: self.states() });
        }
        let comb = Comb::of(self);
        let mut out = Vec::new();
        for word in [MAGIC, HEADER_BYTES as u32, 0] {
            out.extend(word.to_be_bytes());
        }
        out.extend([0, 0]);
        out.extend(MARK);
        out.resize(HEADER_BYTES, 0);
        put_words(&mut out, id::ACCEPT, self.accept.iter().map(|accept| accept.allow));
        put_words(&mut out, id::AUDIT, self.accept.iter().map(|accept| accept.audit));
        put_words(&mut out, id::BASE, comb.base.iter().copied());
        put_halves(&mut out, id::DEFAULT, &comb.default);
        put_halves(&mut out, id::NEXT, &comb.next);
        put_halves(&mut out, id::CHECK, &comb.check);
        if self.classes < ALPHABET {
            put_table(&mut out, id::EQUIVALENCE, 1, ALPHABET, |out| out.extend(self.class_of));
        }
        let bytes = (out.len() as u32).to_be_bytes();
        out[8..12].copy_from_slice(&bytes);
        Ok(out)
    }
}

/// A table's header and its content, padded to a multiple of 8 bytes.
fn put_table(out: &mut Vec<u8>, id: u16, width: u16, length: usize, content: impl FnOnce(&mut Vec<u8>)) {
    out.extend(id.to_be_bytes());
    out.extend(width.to_be_bytes());
    out.extend(0u32.to_be_bytes());
    out.extend((length as u32).to_be_bytes());
    content(out);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn put_words(out: &mut Vec<u8>, id: u16, words: impl ExactSizeIterator<Item = u32>) {
    put_table(out, id, 4, words.len(), |out| words.for_each(|word| out.extend(word.to_be_bytes())));
}

fn put_halves(out: &mut Vec<u8>, id: u16, states: &[u16]) {
    put_table(out, id, 2, states.len(), |out| states.iter().for_each(|state| out.extend(state.to_be_bytes())));
}

/// The rows pushed together: a state's most common target is its default, the others lie at its base.
struct Comb {
    base: Vec<u32>,
    default: Vec<u16>,
    next: Vec<u16>,
    check: Vec<u16>,
}

/// How many places are tried for a row before it goes to the end.
const TRIES: usize = 1 << 10;

/// The cells as far as they are filled. Where a row found no place, none is looked for again before that one's.
#[derive(Default)]
struct Cells {
    taken: Vec<bool>,
    floor: usize,
}

impl Cells {
    /// A base from which all the columns are free; they are then taken.
    fn take(&mut self, columns: &[(usize, u32)]) -> usize {
        let lowest = columns.first().map_or(0, |(column, _)| *column);
        let from = self.floor.saturating_sub(lowest);
        let is_free = |base: &usize| columns.iter().all(|(column, _)| self.taken.get(base + column) != Some(&true));
        let base = (from..from + TRIES).find(is_free).unwrap_or_else(|| self.taken.len().saturating_sub(lowest));
        if base >= from + TRIES {
            self.floor = base + lowest;
        }
        for (column, _) in columns {
            self.taken.resize(self.taken.len().max(base + column + 1), false);
            self.taken[base + column] = true;
        }
        base
    }
}

impl Comb {
    /// `table` has at most [`MAX_STATES`] states.
    fn of(table: &Table) -> Self {
        let rows: Vec<(u32, Vec<(usize, u32)>)> = table.rows.chunks_exact(table.classes).map(exceptions).collect();
        let mut comb = Self {
            base: vec![0; rows.len()],
            default: rows.iter().map(|(default, _)| *default as u16).collect(),
            next: vec![0; ALPHABET],
            check: vec![0; ALPHABET],
        };
        let mut order: Vec<usize> = (0..rows.len()).filter(|state| !rows[*state].1.is_empty()).collect();
        order.sort_by_key(|state| std::cmp::Reverse(rows[*state].1.len()));
        let mut cells = Cells::default();
        for state in order {
            let base = cells.take(&rows[state].1);
            comb.base[state] = base as u32;
            let end = comb.next.len().max(base + ALPHABET);
            comb.next.resize(end, 0);
            comb.check.resize(end, 0);
            for (column, target) in &rows[state].1 {
                comb.next[base + column] = *target as u16;
                comb.check[base + column] = state as u16;
            }
        }
        comb
    }
}

/// A row's most common target, and the moves that lead elsewhere. Of targets as common the lowest, so that equal tables pack alike.
fn exceptions(row: &[u32]) -> (u32, Vec<(usize, u32)>) {
    let mut targets = row.to_vec();
    targets.sort_unstable();
    let runs = targets.chunk_by(|one, other| one == other);
    let default = runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run[0]))).map_or(NO_MATCH, |run| run[0]);
    (default, row.iter().copied().enumerate().filter(|(_, target)| *target != default).collect())
}
