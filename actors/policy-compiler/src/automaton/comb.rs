//! The comb form: rows without their most common target, pushed into each other (`bpf/include/blob.h`).
//!
//! Invariant: each state owns its own cell and the cells of its edges; the states that lead only to themselves own the first cells; all
//! columns of every state lie within the cells.
//!
//! Decision: first fit within a window behind the end, in the order of a walk in depth. So the states of one path's end lie side by
//! side, some in a cache line, and packing takes time in proportion to the states, at the price of some holes that nobody fills.

use palisade_kernel_abi::blob::{COLUMN_CLASSES, COLUMN_SELF, COMB_CELL, COMB_FREE, COMB_STATE};

use super::Dfa;

/// Cells behind the end that are tried for a state.
const WINDOW: usize = 128;

/// What lies in a cell; states by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Free,
    /// A state's own: its most common target and its accept class.
    State {
        /// Where most bytes lead.
        target: u32,
        /// What it accepts.
        accept: u32,
    },
    /// Where one class of a state leads.
    Edge {
        /// The state.
        from: u32,
        /// Its target.
        target: u32,
    },
}

/// An automaton whose rows are pushed together.
#[derive(Debug, Clone)]
pub struct Comb {
    /// In order.
    pub cells: Vec<Cell>,
    /// By state: the number of its own cell.
    places: Vec<u32>,
}

impl Comb {
    /// Packs the automaton.
    #[must_use]
    pub fn of(dfa: &Dfa) -> Self {
        let mut packing = Packing { cells: Vec::new(), places: vec![u32::MAX; dfa.states()] };
        for state in (0..dfa.absorbing).chain(in_depth(dfa)) {
            packing.place(dfa, state);
        }
        let furthest = dfa.classes + COLUMN_CLASSES as usize;
        let last = packing.places.iter().filter(|place| **place != u32::MAX).max().map_or(0, |place| *place as usize);
        let length = packing.cells.len().max(last + furthest);
        packing.cells.resize(length, Cell::Free);
        Self { cells: packing.cells, places: packing.places }
    }

    /// The number of the state's own cell.
    #[must_use]
    pub fn place_of(&self, state: u32) -> u32 {
        self.places[state as usize]
    }

    /// Writes the cells as words from word `first` on.
    pub fn append(&self, first: u32, accept_id: impl Fn(u32) -> u32, words: &mut Vec<u32>) {
        let offset = |state: u32| first + COMB_CELL * self.place_of(state);
        words.extend(self.cells.iter().flat_map(|cell| match *cell {
            Cell::Free => [0, COMB_FREE],
            Cell::State { target, accept } => [offset(target), COMB_STATE | accept_id(accept)],
            Cell::Edge { from, target } => [offset(target), offset(from)],
        }));
    }
}

struct Packing {
    cells: Vec<Cell>,
    places: Vec<u32>,
}

impl Packing {
    fn place(&mut self, dfa: &Dfa, state: u32) {
        let row = &dfa.rows[state as usize * dfa.classes..][..dfa.classes];
        let common = most_common(row);
        let mut edges: Vec<(usize, u32)> = row
            .iter()
            .enumerate()
            .filter(|(_, target)| **target != common)
            .map(|(class, target)| (class + COLUMN_CLASSES as usize, *target))
            .collect();
        // NUL leads the start state back to itself, and is read nowhere else.
        if state == dfa.start && state >= dfa.absorbing {
            edges.push((COLUMN_SELF as usize, state));
        }
        let from = self.cells.len().saturating_sub(WINDOW).max(dfa.absorbing.min(state) as usize);
        let place = (from..).find(|place| self.fits(*place, &edges)).unwrap_or(self.cells.len());
        let end = place + edges.iter().map(|(column, _)| *column).max().unwrap_or(0) + 1;
        if end > self.cells.len() {
            self.cells.resize(end, Cell::Free);
        }
        self.cells[place] = Cell::State { target: common, accept: dfa.accept[state as usize] };
        edges.iter().for_each(|(column, target)| {
            self.cells[place + column] = Cell::Edge { from: state, target: *target };
        });
        self.places[state as usize] = place as u32;
    }

    fn fits(&self, place: usize, edges: &[(usize, u32)]) -> bool {
        let is_free = |cell: usize| self.cells.get(cell).is_none_or(|cell| *cell == Cell::Free);
        is_free(place) && edges.iter().all(|(column, _)| is_free(place + column))
    }
}

/// The target that is most often in the row; of several the lowest.
fn most_common(row: &[u32]) -> u32 {
    let mut sorted = row.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|one, other| one == other);
    runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run[0]))).map_or(0, |run| run[0])
}

/// The states that do not lead only to themselves, each before those that it leads to first.
fn in_depth(dfa: &Dfa) -> Vec<u32> {
    let mut seen = vec![false; dfa.states()];
    let mut order = Vec::with_capacity(dfa.states());
    let mut open = vec![dfa.start];
    while let Some(state) = open.pop() {
        if state < dfa.absorbing || std::mem::replace(&mut seen[state as usize], true) {
            continue;
        }
        order.push(state);
        let row = &dfa.rows[state as usize * dfa.classes..][..dfa.classes];
        open.extend(row.iter().rev().filter(|target| **target >= dfa.absorbing && !seen[**target as usize]));
    }
    order
}
