//! Hopcroft's minimisation, and the flat form that the blob takes.
//!
//! Invariant: state 0 of a [`Dfa`] is dead (class 0, leads to itself), then come all states that lead only to themselves, then
//! the others breadth first from the start; columns are distinct. So equal languages give equal tables.

use std::collections::VecDeque;

use super::{Budget, BuildError, Determinised, Exhausted};

/// How many splitters are taken between two looks at the budget.
const SPLITTERS_PER_LOOK: usize = 256;
const UNNUMBERED: u32 = u32::MAX;

/// A minimal automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dfa {
    /// Byte classes.
    pub classes: usize,
    /// Byte to class; NUL's is meaningless.
    pub class_of: [u8; 256],
    /// Start state.
    pub start: u32,
    /// States below lead only to themselves.
    pub absorbing: u32,
    /// `classes` targets for each state.
    pub rows: Vec<u32>,
    /// Accept class of each state.
    pub accept: Vec<u32>,
}

impl Dfa {
    /// The automaton that accepts nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { classes: 1, class_of: [0; 256], start: 0, absorbing: 1, rows: vec![0], accept: vec![0] }
    }

    /// States.
    #[must_use]
    pub fn states(&self) -> usize {
        self.accept.len()
    }

    /// Where the input leads; NUL leads nowhere.
    #[must_use]
    pub fn accept_of(&self, bytes: &[u8]) -> u32 {
        let mut state = self.start as usize;
        for byte in bytes.iter().filter(|byte| **byte != 0) {
            state = self.rows[state * self.classes + usize::from(self.class_of[usize::from(*byte)])] as usize;
        }
        self.accept[state]
    }
}

/// Minimises; `class_of_set` takes the automaton's accept sets to accept classes, and the empty set (0) to class 0.
///
/// # Errors
/// When the budget is spent.
pub fn minimise(input: Determinised, class_of_set: &[u32], budget: &mut dyn Budget) -> Result<Dfa, BuildError> {
    let accept: Vec<u32> = input.accept.iter().map(|set| class_of_set[*set as usize]).collect();
    let partition = {
        let inverse = Inverse::of(&input);
        let live = live_states(&accept, &inverse);
        let mut partition = Partition::new(&accept, &live);
        partition.refine(&inverse, &live, budget)?;
        partition
    };
    let dfa = quotient(&input, &accept, &partition);
    // Of a large set its rows are most of the memory.
    drop(input);
    Ok(merge_columns(dfa))
}

/// Predecessors by target, each with the class that leads from it, without those that are dead for certain (the empty set is state 0
/// and leads to itself).
///
/// Decision: only the moves that there are, sorted by class, and not a start for each target and class: of ten thousand paths nearly
/// every state has one predecessor, and the starts alone took more than all rows.
struct Inverse {
    starts: Vec<u32>,
    moves: Vec<(u8, u32)>,
}

impl Inverse {
    fn of(input: &Determinised) -> Self {
        let mut starts = vec![0u32; input.states() + 1];
        let rows = || input.rows.chunks_exact(input.classes);
        for target in rows().flatten().filter(|target| **target != 0) {
            starts[*target as usize + 1] += 1;
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut next = starts.clone();
        let mut moves = vec![(0, 0); total as usize];
        for (row, state) in rows().zip(0u32..) {
            for (target, class) in row.iter().zip(0u8..).filter(|(target, _)| **target != 0) {
                let slot = &mut next[*target as usize];
                moves[*slot as usize] = (class, state);
                *slot += 1;
            }
        }
        for ends in starts.windows(2) {
            moves[ends[0] as usize..ends[1] as usize].sort_unstable();
        }
        Self { starts, moves }
    }

    fn leading_to(&self, state: u32) -> &[(u8, u32)] {
        let state = state as usize;
        &self.moves[self.starts[state] as usize..self.starts[state + 1] as usize]
    }
}

/// From which states anything can still be accepted.
fn live_states(accept: &[u32], inverse: &Inverse) -> Vec<bool> {
    let mut live: Vec<bool> = accept.iter().map(|class| *class != 0).collect();
    let mut open: Vec<u32> = (0..accept.len() as u32).filter(|state| live[*state as usize]).collect();
    while let Some(state) = open.pop() {
        for (_, source) in inverse.leading_to(state) {
            if !std::mem::replace(&mut live[*source as usize], true) {
                open.push(*source);
            }
        }
    }
    live
}

/// Blocks of states that are not yet told apart, as ranges of one array.
struct Partition {
    order: Vec<u32>,
    place: Vec<u32>,
    block_of: Vec<u32>,
    blocks: Vec<Block>,
    open: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Block {
    first: u32,
    end: u32,
    /// How many of its states, from the first on, lead into the splitter.
    marked: u32,
}

impl Partition {
    fn new(accept: &[u32], live: &[bool]) -> Self {
        let key = |state: u32| (live[state as usize], accept[state as usize]);
        let mut order: Vec<u32> = (0..accept.len() as u32).collect();
        order.sort_by_key(|state| key(*state));
        let mut place = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(state, at)| place[*state as usize] = at);
        let mut partition = Self { block_of: vec![0; order.len()], order, place, blocks: Vec::new(), open: Vec::new() };
        let mut first = 0;
        while let Some(state) = partition.order.get(first).copied() {
            let length = partition.order[first..].partition_point(|other| key(*other) == key(state));
            let number = partition.blocks.len() as u32;
            partition.order[first..first + length].iter().for_each(|s| partition.block_of[*s as usize] = number);
            partition.blocks.push(Block { first: first as u32, end: (first + length) as u32, marked: 0 });
            if live[state as usize] {
                partition.open.push(number);
            }
            first += length;
        }
        partition
    }

    fn refine(&mut self, inverse: &Inverse, live: &[bool], budget: &mut dyn Budget) -> Result<(), BuildError> {
        let mut moves: Vec<(u8, u32)> = Vec::new();
        let mut touched = Vec::new();
        let mut taken = 0usize;
        while let Some(number) = self.open.pop() {
            if taken.is_multiple_of(SPLITTERS_PER_LOOK) && budget.is_spent() {
                let exhausted = Exhausted::Time { states: live.len() };
                return Err(BuildError { exhausted, worst_tags: Vec::new() });
            }
            taken += 1;
            let Block { first, end, .. } = self.blocks[number as usize];
            moves.clear();
            for state in &self.order[first as usize..end as usize] {
                moves.extend(inverse.leading_to(*state).iter().filter(|(_, source)| live[*source as usize]));
            }
            if end - first > 1 {
                moves.sort_unstable();
            }
            for of_class in moves.chunk_by(|one, other| one.0 == other.0) {
                of_class.iter().for_each(|(_, source)| self.mark(*source, &mut touched));
                touched.drain(..).for_each(|block| self.split(block));
            }
        }
        Ok(())
    }

    /// Moves a state to the marked front of its block.
    fn mark(&mut self, state: u32, touched: &mut Vec<u32>) {
        let number = self.block_of[state as usize];
        let block = &mut self.blocks[number as usize];
        let (at, front) = (self.place[state as usize], block.first + block.marked);
        if at < front {
            return;
        }
        if block.marked == 0 {
            touched.push(number);
        }
        block.marked += 1;
        let other = self.order[front as usize];
        self.order.swap(at as usize, front as usize);
        self.place[state as usize] = front;
        self.place[other as usize] = at;
    }

    /// Makes the smaller of the marked and unmarked parts a new block, and a splitter.
    ///
    /// The old block keeps the larger part: if it was still open, both parts are, else the smaller one suffices (Hopcroft).
    fn split(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        let marked = std::mem::take(&mut block.marked);
        let (first, middle, end) = (block.first, block.first + marked, block.end);
        if middle == end {
            return;
        }
        let new = if marked * 2 <= end - first {
            block.first = middle;
            Block { first, end: middle, marked: 0 }
        } else {
            block.end = middle;
            Block { first: middle, end, marked: 0 }
        };
        let number = self.blocks.len() as u32;
        for state in &self.order[new.first as usize..new.end as usize] {
            self.block_of[*state as usize] = number;
        }
        self.blocks.push(new);
        self.open.push(number);
    }

    fn representative(&self, block: u32) -> usize {
        // The smallest member: the order within a block depends on the way that it was split.
        let Block { first, end, .. } = self.blocks[block as usize];
        self.order[first as usize..end as usize].iter().min().copied().unwrap_or(0) as usize
    }
}

/// Numbers the blocks canonically and takes one row for each.
fn quotient(input: &Determinised, accept: &[u32], partition: &Partition) -> Dfa {
    let classes = input.classes;
    let blocks = partition.blocks.len() as u32;
    let representatives: Vec<usize> = (0..blocks).map(|block| partition.representative(block)).collect();
    let row = |block: u32| {
        let at = representatives[block as usize] * classes;
        input.rows[at..at + classes].iter().map(|target| partition.block_of[*target as usize])
    };
    let mut number = vec![UNNUMBERED; blocks as usize];
    // The empty set is state 0 and dead, so the dead block is there.
    let dead = partition.block_of[0];
    number[dead as usize] = 0;
    let mut order = vec![dead];
    let mut absorbing: Vec<u32> =
        (0..blocks).filter(|block| *block != dead && row(*block).all(|target| target == *block)).collect();
    // No two of them have the same class, so that is an order.
    absorbing.sort_by_key(|block| accept[representatives[*block as usize]]);
    for block in absorbing {
        number[block as usize] = order.len() as u32;
        order.push(block);
    }
    let first_moving = order.len();
    let start = partition.block_of[input.start as usize];
    let mut open = VecDeque::from([start]);
    while let Some(block) = open.pop_front() {
        if number[block as usize] == UNNUMBERED {
            number[block as usize] = order.len() as u32;
            order.push(block);
            open.extend(row(block).filter(|target| number[*target as usize] == UNNUMBERED));
        }
    }
    let mut rows = Vec::with_capacity(order.len() * classes);
    order.iter().for_each(|block| rows.extend(row(*block).map(|target| number[target as usize])));
    Dfa {
        classes,
        class_of: input.class_of,
        start: number[start as usize],
        absorbing: first_moving as u32,
        rows,
        accept: order.iter().map(|block| accept[representatives[*block as usize]]).collect(),
    }
}

/// Makes one class of bytes that lead to the same state everywhere.
fn merge_columns(mut dfa: Dfa) -> Dfa {
    let classes = dfa.classes;
    let signatures = column_signatures(&dfa.rows, classes);
    let are_equal = |one: usize, other: usize| {
        signatures[one] == signatures[other] && dfa.rows.chunks_exact(classes).all(|row| row[one] == row[other])
    };
    let mut merged = Vec::with_capacity(classes);
    let mut kept: Vec<usize> = Vec::new();
    // In the order of bytes, so that numbers do not depend on how classes were found.
    for class in 0..classes {
        let known = kept.iter().position(|other| are_equal(*other, class));
        merged.push(known.unwrap_or(kept.len()) as u8);
        if known.is_none() {
            kept.push(class);
        }
    }
    // In place: no row grows, so that none is written over before it is read.
    for state in 0..dfa.states() {
        for (to, from) in kept.iter().enumerate() {
            dfa.rows[state * kept.len() + to] = dfa.rows[state * classes + from];
        }
    }
    dfa.rows.truncate(dfa.states() * kept.len());
    dfa.class_of.iter_mut().skip(1).for_each(|class| *class = merged[usize::from(*class)]);
    dfa.classes = kept.len();
    dfa
}

/// Equal for equal columns, and for others by accident only. Row by row, because a walk down a column is a cache line for each state.
fn column_signatures(rows: &[u32], classes: usize) -> Vec<u64> {
    let mut signatures = vec![0u64; classes];
    for row in rows.chunks_exact(classes) {
        for (signature, target) in signatures.iter_mut().zip(row) {
            *signature = (signature.rotate_left(5) ^ u64::from(*target)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
    signatures
}
