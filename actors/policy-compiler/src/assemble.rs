//! From automata and classes to the words of a blob (`bpf/include/blob.h`).
//!
//! Decision: everything is flat while the blob fits [`FLAT_WORDS`], because a flat step is the shortest; past that the larger automata
//! take the comb form, which costs some instructions a byte and a tenth of the memory where rules are many and their ends are their own.

use palisade_kernel_abi::blob::{
    Automaton, AutomatonHead, Blob, BlobHead, COLUMN_CLASSES, COLUMN_SELF, COMB_CELL, FAMILIES, Family, FamilyHead,
    Form, MAGIC, SizeClass, VERSION,
};

use crate::{
    arguments::{ArgumentSets, Arguments},
    automaton::{Comb, Dfa},
    decisions::{Classes, Table},
    error::{CompileError, TooLarge},
    layers::Numbers,
};

/// Above this, automata are pushed together.
const FLAT_WORDS: u64 = SizeClass::K128.words() as u64;
/// Automata of fewer words stay flat: there is nothing to win.
const COMB_FROM_WORDS: u64 = 1 << 12;

/// One automaton with the decision tables that it feeds.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its accept classes are those of `classes`.
    pub dfa: Dfa,
    /// Decisions by accept class.
    pub classes: Classes,
    /// Which tables.
    pub tables: Vec<Table>,
    /// A rule of each of the tags that are in most states, worst first: to be named if all of it is too large.
    pub worst: Vec<u32>,
}

/// Everything that a blob is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Of whole paths, bare names, endpoints and domain names.
    pub layers: [Layer; 4],
    /// Families whose acts have numbers, as [`Family::ALL`] orders them.
    pub numbers: Vec<Numbers>,
    /// Of acting executables.
    pub source: Dfa,
    /// Source ids, 0 included.
    pub source_ids: u32,
    /// The argument sets that decisions name.
    pub sets: ArgumentSets,
    /// Of one argument.
    pub arguments: Arguments,
}

/// Lays everything out: rows of the automata, then the tables.
///
/// # Errors
/// Where it is more than the largest blob; that is found before the tables are written.
pub fn assemble(parts: &Parts) -> Result<Blob, CompileError> {
    let (cells, rows) = (cells(parts), rows(parts));
    let is_flat = rows.iter().map(Rows::words).sum::<u64>() + cells <= FLAT_WORDS;
    let rows = if is_flat { rows } else { rows.map(Rows::pushed_together) };
    check_size(parts, rows.iter().map(Rows::words).sum(), cells)?;
    let mut words = Vec::new();
    let automaton = rows.map(|rows| rows.append(&mut words));
    let mut families = 0;
    let mut family = [FamilyHead::default(); FAMILIES];
    for kind in Family::ALL {
        if let Some(table) = append_table(parts, kind, &mut words) {
            families |= 1 << kind as u32;
            family[kind as usize] = table;
        }
    }
    let head = BlobHead {
        magic: MAGIC,
        version: VERSION,
        words: 0,
        families,
        automaton,
        family,
        arguments: append_arguments(parts, &mut words),
        digest: [0; 32],
    };
    Ok(Blob::from_parts(head, &words)?)
}

/// The automata in the order of [`Automaton::ALL`].
fn rows(parts: &Parts) -> [Rows<'_>; Automaton::ALL.len()] {
    let [path, names, network, domains] = &parts.layers;
    let later = path.classes.count() as u32 - 1;
    [
        Rows::flat(&path.dfa, 0),
        Rows::flat(&parts.source, 0),
        Rows::flat(&network.dfa, 0),
        Rows::flat(&domains.dfa, 0),
        Rows::flat(&parts.arguments.dfa, 0),
        // Its classes are rows of the tables of whole paths, after those.
        Rows::flat(&names.dfa, later),
    ]
}

/// An automaton on its way into the words. Accept ids other than 0 grow by `later`.
enum Rows<'a> {
    Flat { dfa: &'a Dfa, later: u32 },
    Comb { dfa: &'a Dfa, later: u32, comb: Comb },
}

impl<'a> Rows<'a> {
    fn flat(dfa: &'a Dfa, later: u32) -> Self {
        Self::Flat { dfa, later }
    }

    fn pushed_together(self) -> Self {
        let before = self.words();
        match self {
            Self::Flat { dfa, later } if before >= COMB_FROM_WORDS => {
                let comb = Comb::of(dfa);
                let is_smaller = (comb.cells.len() as u64) * u64::from(COMB_CELL) < before;
                if is_smaller { Self::Comb { dfa, later, comb } } else { Self::Flat { dfa, later } }
            }
            other => other,
        }
    }

    fn words(&self) -> u64 {
        match self {
            Self::Flat { dfa, .. } => (dfa.states() as u64 * u64::from(stride(dfa))).next_multiple_of(COMB_CELL.into()),
            Self::Comb { comb, .. } => comb.cells.len() as u64 * u64::from(COMB_CELL),
        }
    }

    /// A state becomes a word offset.
    fn append(self, words: &mut Vec<u32>) -> AutomatonHead {
        words.resize(words.len().next_multiple_of(COMB_CELL as usize), 0);
        let first = words.len() as u32;
        let (dfa, start, absorbing, form) = match self {
            Self::Flat { dfa, later } => {
                let offset = |state: u32| first + state * stride(dfa);
                for ((row, accept), state) in dfa.rows.chunks_exact(dfa.classes).zip(&dfa.accept).zip(0..) {
                    words.extend([later_accept(*accept, later), offset(state)]);
                    words.extend(row.iter().map(|target| offset(*target)));
                }
                (dfa, offset(dfa.start), offset(dfa.absorbing), Form::Flat)
            }
            Self::Comb { dfa, later, comb } => {
                comb.append(first, |accept| later_accept(accept, later), words);
                let offset = |cell: u32| first + COMB_CELL * cell;
                (dfa, offset(comb.place_of(dfa.start)), offset(dfa.absorbing), Form::Comb)
            }
        };
        let mut class_of = dfa.class_of.map(|class| class + COLUMN_CLASSES as u8);
        class_of[0] = COLUMN_SELF as u8;
        AutomatonHead { start, absorbing, words: words.len() as u32 - first, form: form as u32, class_of }
    }
}

fn later_accept(accept: u32, later: u32) -> u32 {
    if accept == 0 { 0 } else { accept + later }
}

/// Words of a flat row.
fn stride(dfa: &Dfa) -> u32 {
    COLUMN_CLASSES + dfa.classes as u32
}

/// A layer's part of a family's table: its number among the layer's, and the classes from `first` on.
struct Part<'a> {
    classes: &'a Classes,
    tables: &'a [Table],
    at: usize,
    rows: Vec<u32>,
}

/// Where the family's decisions are, in the order of rows.
fn parts_of(parts: &Parts, family: Family) -> Vec<Part<'_>> {
    let [path, names, network, domains] = &parts.layers;
    let of = |layer: &'_ Layer| layer.tables.iter().position(|table| table.family == family);
    let all = |layer: &'_ Layer, from: u32| (from..layer.classes.count() as u32).collect::<Vec<_>>();
    let mut found = Vec::new();
    for (layer, from) in [(path, 0), (names, 1), (network, 0), (domains, 0)] {
        if let Some(at) = of(layer) {
            found.push(Part { classes: &layer.classes, tables: &layer.tables, at, rows: all(layer, from) });
        }
    }
    for numbers in parts.numbers.iter().filter(|numbers| numbers.tables[0].family == family) {
        let rows = numbers.class_of_accept.clone();
        found.push(Part { classes: &numbers.classes, tables: &numbers.tables, at: 0, rows });
    }
    found
}

fn head_of(parts: &[Part<'_>], source_ids: u32) -> Option<FamilyHead> {
    let table = parts.first().map(|part| &part.tables[part.at]).filter(|table| table.has_rules())?;
    let accepts = parts.iter().map(|part| part.rows.len() as u32).sum();
    Some(FamilyHead { base: 0, accepts, sources: table.source_columns(source_ids), modifiers: table.modifiers })
}

fn append_table(parts: &Parts, family: Family, words: &mut Vec<u32>) -> Option<FamilyHead> {
    let of_family = parts_of(parts, family);
    let head = FamilyHead { base: words.len() as u32, ..head_of(&of_family, parts.source_ids)? };
    for part in &of_family {
        part.rows.iter().for_each(|class| part.classes.write_row(*class, part.tables, part.at, head.sources, words));
    }
    Some(head)
}

fn append_arguments(parts: &Parts, words: &mut Vec<u32>) -> FamilyHead {
    if parts.sets.is_empty() {
        return FamilyHead::default();
    }
    let (base, rows) = (words.len() as u32, &parts.arguments.rows);
    rows.iter().for_each(|row| words.extend(row));
    FamilyHead { base, accepts: rows.len() as u32, sources: parts.sets.count() + 1, modifiers: 1 }
}

/// Words of all tables.
fn cells(parts: &Parts) -> u64 {
    let words = |head: FamilyHead| u64::from(head.accepts) * u64::from(head.sources) * u64::from(head.modifiers);
    let tables = Family::ALL.into_iter().filter_map(|family| head_of(&parts_of(parts, family), parts.source_ids));
    let arguments = parts.arguments.rows.iter().map(|row| row.len() as u64).sum::<u64>();
    tables.map(words).sum::<u64>() + if parts.sets.is_empty() { 0 } else { arguments }
}

fn check_size(parts: &Parts, rows: u64, cells: u64) -> Result<(), CompileError> {
    if rows + cells <= SizeClass::MAX_WORDS as u64 {
        return Ok(());
    }
    let [path, names, network, _] = &parts.layers;
    let states = parts.layers.iter().map(|layer| &layer.dfa).chain([&parts.source, &parts.arguments.dfa]);
    let what = TooLarge::Words {
        rows,
        states: states.map(|dfa| dfa.states() as u64).sum(),
        cells,
        accepts: path.classes.count() as u64,
        names: names.classes.count() as u64,
        endpoints: network.classes.count() as u64,
        sources: u64::from(parts.source_ids),
    };
    Err(CompileError::TooLarge { what, worst: Vec::new() })
}
