//! From accept sets to accept classes and their decision tables.
//!
//! Invariant: two accept sets with equal decisions for every table, source and modifier are one class; class 0 is that of the
//! empty set. Classes are numbered in the order of accept sets. They are found *before* minimisation, so that states which differ
//! only in rules that never decide become one state.
//!
//! Decision: a class is kept as a sparse row (its decisions without source, and the sources for which they differ), because
//! nearly all rules name no source; the full table is written once, when its size is known to fit.

use palisade_domain::Posture;
use palisade_kernel_abi::blob::{Decision, Family, Modifiers, Rank};

use crate::{
    arguments::{ArgumentSets, Conflict},
    automaton::{Budget, SetInterner},
    verdict::{Circumstances, Standing, decision},
};

/// How many rules are held against circumstances between two looks at the budget: some milliseconds. A set of a thousand rules
/// with a thousand sources has millions of them, most sets a few.
const RULES_PER_LOOK: usize = 1 << 20;

/// One decision table to be, over the tags of one automaton.
#[derive(Debug, Clone)]
pub struct Table {
    /// Whose.
    pub family: Family,
    /// By tag: the rules that count here.
    pub rules_of_tag: Vec<Vec<u32>>,
    /// Where no rule decides.
    pub posture: Option<Posture>,
    /// 1, or 4 where a rule has a modifier of the file, or 8 where one is about terminals.
    pub modifiers: u32,
    /// Does any of its rules name a source?
    pub has_sources: bool,
    /// Has the family any rules? These may all be of another layer.
    pub is_decided: bool,
}

impl Table {
    /// Without rules in any layer, everything is permitted and the blob has no table.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.is_decided
    }

    /// Columns for sources, of `source_ids` that there are (0 included).
    #[must_use]
    pub fn source_columns(&self, source_ids: u32) -> u32 {
        if self.has_sources { source_ids } else { 1 }
    }
}

/// Accept classes of one automaton.
#[derive(Debug, Clone)]
pub struct Classes {
    /// By accept set.
    pub of_set: Vec<u32>,
    /// By class: the sparse row.
    rows: SetInterner,
    /// Words of one source's decisions in a sparse row: the modifiers of all tables.
    width: usize,
}

/// Why there are no classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassesError {
    /// The budget is spent.
    Time {
        /// So many sets were done.
        done: usize,
    },
    /// Rules about arguments do not go together.
    Conflict(Conflict),
}

impl Classes {
    /// Finds the classes of `sets` (sets of tags, the first one empty).
    ///
    /// # Errors
    /// When the budget is spent, and where a decision cannot be held.
    pub fn of(
        sets: &SetInterner,
        tables: &[Table],
        standings: &[Standing],
        arguments: &mut ArgumentSets,
        budget: &mut dyn Budget,
    ) -> Result<Self, ClassesError> {
        let width = tables.iter().map(|table| table.modifiers as usize).sum();
        let mut classes = Self { of_set: Vec::with_capacity(sets.len()), rows: SetInterner::default(), width };
        let mut row = Vec::new();
        let mut since_look = RULES_PER_LOOK;
        for (number, tags) in sets.iter().enumerate() {
            if since_look >= RULES_PER_LOOK {
                since_look = 0;
                if budget.is_spent() {
                    return Err(ClassesError::Time { done: number });
                }
            }
            row.clear();
            let held = sparse_row(tags, tables, standings, arguments, &mut row).map_err(ClassesError::Conflict)?;
            since_look += 1 + held;
            classes.of_set.push(classes.rows.intern(&row));
        }
        Ok(classes)
    }

    /// How many classes, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Writes one class's row of the full table number `at` of `tables`, with `sources` columns.
    pub fn write_row(&self, class: u32, tables: &[Table], at: usize, sources: u32, words: &mut Vec<u32>) {
        let offset: usize = tables[..at].iter().map(|table| table.modifiers as usize).sum();
        let modifiers = tables[at].modifiers as usize;
        let base = words.len();
        let (common, special) = self.rows.get(class).split_at(self.width);
        (0..sources).for_each(|_| words.extend_from_slice(&common[offset..offset + modifiers]));
        if sources > 1 {
            for entry in special.chunks_exact(1 + self.width) {
                let column = base + entry[0] as usize * modifiers;
                let cells = &entry[1 + offset..1 + offset + modifiers];
                words[column..column + modifiers].copy_from_slice(cells);
            }
        }
    }
}

/// `width` words of decisions without source, then for each source that differs its number and `width` words. Returns how many
/// rules it has held against circumstances.
fn sparse_row(
    tags: &[u32],
    tables: &[Table],
    standings: &[Standing],
    arguments: &mut ArgumentSets,
    row: &mut Vec<u32>,
) -> Result<usize, Conflict> {
    let candidates: Vec<Vec<u32>> = tables
        .iter()
        .map(|table| tags.iter().flat_map(|tag| &table.rules_of_tag[*tag as usize]).copied().collect())
        .collect();
    let mut decide = |source: u32, row: &mut Vec<u32>| {
        for (table, candidates) in tables.iter().zip(&candidates) {
            for modifiers in (0..table.modifiers).map(Modifiers) {
                let at = Circumstances { source, modifiers };
                let (decision, rank) = decision(standings, candidates, at, table.posture, arguments)?;
                row.push(word_of(decision, rank));
            }
        }
        Ok(())
    };
    decide(0, row)?;
    let width = row.len();
    let mut sources: Vec<u32> =
        candidates.iter().flatten().flat_map(|rule| &standings[*rule as usize].sources).copied().collect();
    sources.sort_unstable();
    sources.dedup();
    let a_source: usize =
        tables.iter().zip(&candidates).map(|(table, candidates)| table.modifiers as usize * candidates.len()).sum();
    let held = a_source * (1 + sources.len());
    for source in sources {
        let start = row.len();
        row.push(source);
        decide(source, row)?;
        if row[start + 1..] == row[..width] {
            row.truncate(start);
        }
    }
    Ok(held)
}

fn word_of(decision: Decision, rank: Rank) -> u32 {
    decision.to_ranked_word(rank).expect("rule indices were checked against MAX_RULES before")
}
